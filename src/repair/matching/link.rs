//! From logits to probabilities, and how far two of them are apart. Rows are samples, `[N, K]`.

use ndarray::{Array2, ArrayView2, Zip};
use rayon::prelude::*;

use crate::head::Ending;

/// How logits become probabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// They share one among the classes.
    Softmax,
    /// Each class has its own.
    Sigmoid,
}

impl Link {
    /// Scores that end as logits are taken for those of a Softmax.
    pub(super) fn of(ending: Ending) -> Self {
        match ending {
            Ending::Logits | Ending::Softmax | Ending::LogSoftmax => Self::Softmax,
            Ending::Sigmoid => Self::Sigmoid,
        }
    }

    /// The largest curvature of the divergence along any direction of the logits: of
    /// `diag(q) - q q^T` (Böhning 1992, theorem 2), or of `q (1 - q)`.
    pub(super) fn curvature(self) -> f64 {
        match self {
            Self::Softmax => 0.5,
            Self::Sigmoid => 0.25,
        }
    }

    pub(super) fn probabilities(self, logits: ArrayView2<'_, f64>) -> Array2<f64> {
        let mut values = logits.to_owned();
        values
            .outer_iter_mut()
            .into_par_iter()
            .for_each(|mut row| match self {
                Self::Softmax => {
                    let total = log_sum(row.iter().copied());
                    row.mapv_inplace(|logit| (logit - total).exp());
                }
                Self::Sigmoid => row.mapv_inplace(|logit| (-soft_plus(-logit)).exp()),
            });
        values
    }

    /// Kullback-Leibler divergence of what `other` says from what `own` says, summed over the
    /// classes and averaged over the rows, in nats.
    pub(super) fn divergence(self, own: ArrayView2<'_, f64>, other: ArrayView2<'_, f64>) -> f64 {
        let rows = own.outer_iter().zip(other.outer_iter());
        let each = rows.map(|(own, other)| match self {
            Self::Softmax => {
                let totals = [&own, &other].map(|row| log_sum(row.iter().copied()));
                let pairs = own.iter().zip(&other).map(|(own, other)| {
                    let (own, other) = (own - totals[0], other - totals[1]);
                    own.exp() * (own - other)
                });
                pairs.sum::<f64>()
            }
            Self::Sigmoid => {
                let pairs = own.iter().zip(&other).map(|(&own, &other)| {
                    let yes = (-soft_plus(-own)).exp() * (soft_plus(-other) - soft_plus(-own));
                    let no = (-soft_plus(own)).exp() * (soft_plus(other) - soft_plus(own));
                    yes + no
                });
                pairs.sum::<f64>()
            }
        });
        each.sum::<f64>() / own.nrows().max(1) as f64
    }
}

/// `own - other`, element by element.
pub(super) fn difference(own: &Array2<f64>, mut other: Array2<f64>) -> Array2<f64> {
    Zip::from(&mut other)
        .and(own)
        .for_each(|other, own| *other = own - *other);
    other
}

/// log(sum of exp)
fn log_sum(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let largest = values.clone().fold(f64::NEG_INFINITY, f64::max);
    largest
        + values
            .map(|value| (value - largest).exp())
            .sum::<f64>()
            .ln()
}

/// log(1 + e^x)
fn soft_plus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

#[cfg(test)]
mod tests {
    use ndarray::{Axis, array};

    use super::*;

    const LINKS: [Link; 2] = [Link::Softmax, Link::Sigmoid];

    #[test]
    fn probabilities_are_those_of_the_definitions_and_never_overflow() {
        let logits = array![[0.0, 3.0_f64.ln()], [800.0, -800.0]];
        let shared = Link::Softmax.probabilities(logits.view());
        assert!((shared[[0, 0]] - 0.25).abs() < 1e-15 && (shared[[0, 1]] - 0.75).abs() < 1e-15);
        let own = Link::Sigmoid.probabilities(logits.view());
        assert!((own[[0, 0]] - 0.5).abs() < 1e-15 && (own[[0, 1]] - 0.75).abs() < 1e-15);
        for values in [shared, own] {
            assert_eq!((values[[1, 0]], values[[1, 1]]), (1.0, 0.0));
        }
    }

    #[test]
    fn divergence_is_that_of_the_definition() {
        // KL([1/4, 3/4] || [1/2, 1/2]); with Sigmoid of [0, ln 3] against [0, 0] the second class
        // alone has it.
        let expected = 0.25 * 0.5_f64.ln() + 0.75 * 1.5_f64.ln();
        let (own, other) = (array![[0.0, 3.0_f64.ln()]], array![[0.0, 0.0]]);
        for link in LINKS {
            let found = link.divergence(own.view(), other.view());
            assert!((found - expected).abs() < 1e-15, "{link:?}: {found}");
            assert_eq!(link.divergence(own.view(), own.view()), 0.0);
        }
        let far = array![[800.0, -800.0]];
        for link in LINKS {
            let found = link.divergence(far.view(), (-&far).view());
            assert!(found.is_finite() && found > 1000.0, "{link:?}: {found}");
        }
    }

    #[test]
    fn the_curvature_is_never_exceeded() {
        // Second differences of the divergence along one logit and along differences of two.
        let own = array![[0.3, -1.0, 2.0]];
        for link in LINKS {
            for (step, norm) in [(array![1.0, 0.0, 0.0], 1.0), (array![1.0, -1.0, 0.0], 2.0)] {
                for scale in [0.0, 0.5, 1.0, 4.0] {
                    let at = |t: f64| {
                        let other = &(&own * scale) + &(&step * t).insert_axis(Axis(0));
                        link.divergence(own.view(), other.view())
                    };
                    let (h, most) = (1e-3, link.curvature() * norm);
                    let second = (at(h) - 2.0 * at(0.0) + at(-h)) / (h * h);
                    // Second differences of numbers near 1 are good to 1e-9 here.
                    assert!(second <= most + 1e-6, "{link:?}: {second} above {most}");
                }
            }
        }
    }
}
