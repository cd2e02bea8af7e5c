//! The ways to compensate a cut, by name.

use std::str::FromStr;

use serde::Serialize;

use crate::error::{Error, Result};

/// How a cut is compensated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Repair {
    /// Not at all.
    None,
    /// The mean of what is missing goes into the bias.
    Mean,
    /// The kept neurons reproduce what is missing as well as they can.
    LeastSquares,
    /// Least squares; then the last layer is matched to the original's class probabilities.
    Reweighted,
}

impl Repair {
    /// Every way, with its name.
    pub const ALL: [(&'static str, Self); 4] = [
        ("none", Self::None),
        ("mean", Self::Mean),
        ("least-squares", Self::LeastSquares),
        ("reweighted", Self::Reweighted),
    ];

    /// Whether weights are solved for, so that some samples must choose between solutions.
    pub fn solves(self) -> bool {
        matches!(self, Self::LeastSquares | Self::Reweighted)
    }
}

impl FromStr for Repair {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut all = Self::ALL.into_iter();
        let found = all.find(|(name, _)| *name == text);
        found.map(|(_, how)| how).ok_or_else(|| Error::Argument {
            name: "--repair",
            what: format!("{text:?} is none of none, mean, least-squares, reweighted"),
        })
    }
}
