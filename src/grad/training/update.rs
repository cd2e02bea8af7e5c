//! How the weights follow the gradient.
//!
//! Each rule is written with as few passes over the weights as it can be, since a pass over a large
//! matrix costs as much as the matrix product for a few samples.

use serde::Serialize;

use super::state::Gradient;
use crate::grad::{tape::Tape, var::Var};

/// The rule by which weights follow the gradient.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(tag = "name", rename_all = "lowercase")]
pub enum Optimizer {
    /// `u' = momentum u - rate g`, `W' = W + u'` (Sutskever et al. 2013, equations 1 and 2): the
    /// rate enters the velocity when the gradient does.
    Sgd {
        /// Share of the velocity that stays; 0 for none.
        momentum: f32,
    },
    /// Adam with decoupled weight decay (Loshchilov & Hutter 2019, arXiv:1711.05101, algorithm 2).
    AdamW {
        /// Share of the mean gradient that stays.
        beta1: f32,
        /// Share of the mean square that stays.
        beta2: f32,
        /// Added to the root of the mean square.
        epsilon: f32,
    },
}

impl Optimizer {
    /// AdamW with the usual constants.
    pub const ADAMW: Self = Self::AdamW {
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
    };

    /// Values of the scalars at a step, counted from 1.
    pub(super) fn scalars(self, step: u64, rate: f64, weight_decay: f32) -> Scalars {
        let keep = 1.0 - rate * f64::from(weight_decay);
        match self {
            Self::Sgd { .. } => Scalars {
                descent: -rate,
                floor: 0.0,
                keep,
            },
            Self::AdamW {
                beta1,
                beta2,
                epsilon,
            } => {
                // The state holds V = v (1-b1)^2 / (1-b2); see `write`. So the root of the unbiased
                // mean square is sqrt(V) * unit.
                let (beta1, beta2) = (f64::from(beta1), f64::from(beta2));
                let steps = i32::try_from(step).unwrap_or(i32::MAX);
                let (first, second) = (1.0 - beta1.powi(steps), 1.0 - beta2.powi(steps));
                let unit = ((1.0 - beta2) / second).sqrt() / (1.0 - beta1);
                Scalars {
                    descent: -rate / (first * unit),
                    floor: f64::from(epsilon) / unit,
                    keep,
                }
            }
        }
    }

    /// Values of a weight that are updated together: all, where that takes one pass or two.
    pub(super) fn piece(self, wanted: usize) -> usize {
        match self {
            Self::Sgd { .. } => usize::MAX,
            Self::AdamW { .. } => wanted,
        }
    }

    /// What the state holds beside each weight.
    pub(super) fn moments(self) -> &'static [&'static str] {
        match self {
            Self::Sgd { momentum: 0.0 } => &[],
            Self::Sgd { .. } => &["velocity"],
            Self::AdamW { .. } => &["mean", "square"],
        }
    }

    /// The weight and its moments after the step; `base` is the weight after its decay.
    pub(super) fn write<'t>(
        self,
        [descent, floor]: [Var<'t>; 2],
        base: Var<'t>,
        moments: &[Var<'t>],
        gradient: Gradient<'t>,
    ) -> (Var<'t>, Vec<Var<'t>>) {
        match (self, moments) {
            (Self::Sgd { momentum }, &[velocity]) => {
                let velocity = gradient.times(descent).plus(velocity, momentum);
                (base + velocity, vec![velocity])
            }
            (Self::AdamW { beta1, beta2, .. }, &[mean, square]) => {
                // (1-b1) g comes out of the product at no cost; its square serves the mean square,
                // which is then (1-b1)^2 / (1-b2) times too large: the scalars know.
                let share = gradient.scaled(1.0 - beta1);
                let mean = mean * beta1 + share;
                let square = square * beta2 + share * share;
                let next = base + mean / (square.sqrt() + floor) * descent;
                (next, vec![mean, square])
            }
            _ => (gradient.times(descent).plus(base, 1.0), Vec::new()),
        }
    }
}

/// Numbers that change from step to step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Scalars {
    /// Minus the learning rate, in the units of the state.
    descent: f64,
    /// What keeps the root of the mean square from 0.
    floor: f64,
    /// Share of a matrix that weight decay leaves.
    keep: f64,
}

/// Names of the inputs with these numbers.
#[derive(Clone, Debug)]
pub(super) struct Names {
    pub(super) descent: String,
    pub(super) floor: String,
    pub(super) keep: String,
}

impl Names {
    pub(super) fn new(tape: &Tape) -> Self {
        Self {
            descent: tape.name("descent"),
            floor: tape.name("floor"),
            keep: tape.name("keep"),
        }
    }

    /// All names.
    pub(super) fn all(&self) -> impl Iterator<Item = &str> {
        [&self.descent, &self.floor, &self.keep]
            .into_iter()
            .map(String::as_str)
    }

    /// All names with their values.
    pub(super) fn with(&self, values: Scalars) -> [(&str, f64); 3] {
        [
            (&self.descent, values.descent),
            (&self.floor, values.floor),
            (&self.keep, values.keep),
        ]
    }
}
