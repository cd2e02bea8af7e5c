//! What the user chooses, one type per flag.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Criterion, Norm};
use crate::{
    error::{Error, Result},
    shards::BLOCK,
};

/// Everything that decides a score besides the model and the data.
#[derive(Clone, Debug)]
pub struct ScoreOptions {
    /// What makes a neuron worth keeping.
    pub criterion: Criterion,
    /// The norm over the samples (p).
    pub norm: Norm,
    /// The norm over the classes (q); the same as `norm` when not given.
    pub over_classes: Option<Norm>,
    /// What is differentiated.
    pub of: Of,
    /// What one unit of change is worth.
    pub scale: Scale,
    /// Which slopes of the head's activations count.
    pub slopes: Slopes,
    /// Leaves out class rows of the derivatives that are small: those whose `p (1 - p)`, p the class'
    /// probability, is no more than this. For heads that are chains of dense layers.
    pub row_tolerance: Option<f64>,
    /// So many random sums of the class rows take their place, for p = q = 2.
    pub probes: Option<usize>,
    /// Seed of [`Criterion`] `random`, and of probes.
    pub seed: u64,
    /// Samples that are added up together, at least; see [`crate::shards::block`].
    pub block: usize,
}

/// Which slopes of the head's activations count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Slopes {
    /// Those that the samples have.
    #[default]
    OfSamples,
    /// The largest there are, so that a score is a bound for any sample: for plain local sensitivity
    /// of the logits of a head that is a chain of dense layers; others take samples all the same.
    Worst,
}

/// Which class scores are differentiated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Of {
    /// After Softmax (or Sigmoid, where the model ends in one), whichever the file ends in.
    #[default]
    Probabilities,
    /// Before it.
    Logits,
}

/// What one unit of a neuron's change is worth.
///
/// Each is a factor per neuron that is known when all samples were seen; that of `residual` changes
/// as neurons go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Scale {
    /// `residual` with real samples, `none` without.
    #[default]
    Auto,
    /// The same for every neuron: plain local sensitivity.
    None,
    /// The standard deviation over the samples.
    Std,
    /// Largest minus smallest value over the samples.
    Range,
    /// The part of the standard deviation that the neurons still kept cannot reproduce, in a greedy
    /// choice: two copies of a feature are not both indispensable.
    Residual,
}

impl Default for ScoreOptions {
    /// LSA of the probabilities, p = q = inf.
    fn default() -> Self {
        Self {
            criterion: Criterion::default(),
            norm: Norm::Inf,
            over_classes: None,
            of: Of::default(),
            scale: Scale::default(),
            slopes: Slopes::default(),
            row_tolerance: None,
            probes: None,
            seed: 0,
            block: BLOCK,
        }
    }
}

impl ScoreOptions {
    /// The norm over the classes that applies.
    pub fn class_norm(&self) -> Norm {
        self.over_classes.unwrap_or(self.norm)
    }

    /// Refuses choices that the criterion would not look at.
    ///
    /// # Errors
    /// [`Error::Argument`] naming the flag.
    pub fn check(&self) -> Result<()> {
        let unused = |name, what: &str| Error::Argument {
            name,
            what: format!("{what} by criterion {}", self.criterion),
        };
        if !self.criterion.uses_scale() && !matches!(self.scale, Scale::Auto | Scale::None) {
            return Err(unused("--scale", "is not used"));
        }
        if !self.criterion.uses_classes() && self.over_classes.is_some() {
            return Err(unused("--over-classes", "is not used"));
        }
        self.check_approximations()
    }

    fn check_approximations(&self) -> Result<()> {
        let no_effect = |name, when: &str| Error::Argument {
            name,
            what: format!("has no effect {when}"),
        };
        let flags = [
            ("--row-tolerance", self.row_tolerance.is_some()),
            ("--probes", self.probes.is_some()),
        ];
        for (name, _) in flags.into_iter().filter(|(_, given)| *given) {
            if self.criterion != Criterion::default() {
                return Err(no_effect(
                    name,
                    &format!("with --criterion {}", self.criterion),
                ));
            }
        }
        if self.row_tolerance.is_some() && self.of == Of::Logits {
            return Err(no_effect("--row-tolerance", "with --of logits"));
        }
        let squares = (self.norm, self.class_norm()) == (Norm::P(2.0), Norm::P(2.0));
        if self.probes.is_some() && !squares {
            return Err(no_effect("--probes", "but with --norm 2"));
        }
        Ok(())
    }
}

impl Scale {
    /// The scale that `Auto` stands for.
    pub(super) fn resolved(self, real_samples: bool) -> Self {
        match self {
            Self::Auto if real_samples => Self::Residual,
            Self::Auto => Self::None,
            other => other,
        }
    }
}

impl FromStr for Of {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "probabilities" => Ok(Self::Probabilities),
            "logits" => Ok(Self::Logits),
            _ => Err(Error::Argument {
                name: "--of",
                what: format!("{text:?} is neither probabilities nor logits"),
            }),
        }
    }
}

impl FromStr for Scale {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "auto" => Ok(Self::Auto),
            "none" => Ok(Self::None),
            "std" => Ok(Self::Std),
            "range" => Ok(Self::Range),
            "residual" => Ok(Self::Residual),
            _ => Err(Error::Argument {
                name: "--scale",
                what: format!("{text:?} is none of auto, none, std, range, residual"),
            }),
        }
    }
}
