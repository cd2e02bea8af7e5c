//! A budget in place of a ratio: the smallest head whose class decisions, or the largest whose file,
//! stay within a limit.

use std::str::FromStr;

use serde::Serialize;

use super::figures::Worth;
use crate::error::{Error, Result};

/// What the result may cost, in place of how many neurons stay.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Limit {
    /// Points of [`Limit::metric`] that may be lost.
    pub max_drop: Option<f64>,
    /// What `max_drop` counts.
    pub metric: Metric,
    /// Largest output, external data included.
    pub max_bytes: Option<u64>,
}

/// What a drop is measured in, always in points of 100.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Metric {
    /// Top-1 accuracy; needs labels.
    #[default]
    Accuracy,
    /// Share of samples with the same top class as the original; needs none.
    Agreement,
}

/// One level that was looked at.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Tried {
    /// Share of the neurons that stay in every layer.
    pub keep: f64,
    /// Bytes that the output's file takes at most.
    pub bytes: u64,
    /// Points lost on samples that nothing was fitted to; with its standard error added it had to
    /// stay within the limit. Nothing where only bytes count.
    pub drop: Option<f64>,
    /// Standard error of `drop`.
    pub error: Option<f64>,
    /// Whether it was within the limit.
    pub met: bool,
}

/// How a level was found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SearchReport {
    /// What was asked for.
    pub limit: Limit,
    /// Samples on which drops were measured; neither scored, solved nor trained on, nor among those
    /// of the final figures.
    pub samples: usize,
    /// Every level that was looked at, in this order.
    pub tried: Vec<Tried>,
    /// Share of the neurons that the output keeps; where the limit cannot be met, the level that
    /// came nearest.
    pub keep: f64,
    /// Points that the written file itself loses, run whole over the samples of the final figures;
    /// nothing where only bytes count or nothing was written.
    pub drop: Option<f64>,
    /// Whether the written file stays within the limit, on the samples of the final figures.
    pub met: bool,
}

/// Shares that are looked at: finer where a head has few neurons left.
pub(super) const LEVELS: [f64; 32] = [
    0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08, 0.1, 0.12, 0.14, 0.16, 0.18, 0.2, 0.225,
    0.25, 0.275, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95,
];

/// The first of `levels` that fits, when all behind one that fits do too; nothing when the last
/// does not.
///
/// Looks at about log2 of their number. Accuracy need not fall steadily with the level; then this is
/// a level that fits, below which one that does not was seen.
pub(super) fn first_that_fits(
    levels: usize,
    mut fits: impl FnMut(usize) -> Result<bool>,
) -> Result<Option<usize>> {
    let (mut low, mut high) = (0, levels);
    while low < high {
        let middle = low + (high - low) / 2;
        if fits(middle)? {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    Ok((high < levels).then_some(high))
}

/// Points lost between two lists of top classes, and the standard error of that number.
///
/// The samples are the same in both lists, so only those that changed carry information: with
/// share `b` newly wrong and `c` newly right, the drop is `b - c` and its variance
/// `(b + c - (b - c)^2) / N` (McNemar 1947).
pub(super) fn drop_of(before: &[bool], after: &[bool]) -> (f64, f64) {
    let count = before.len().max(1) as f64;
    let pairs = || before.iter().zip(after);
    let lost = pairs()
        .filter(|&(&before, &after)| before && !after)
        .count() as f64
        / count;
    let won = pairs()
        .filter(|&(&before, &after)| !before && after)
        .count() as f64
        / count;
    let variance = (lost + won - (lost - won).powi(2)) / count;
    (100.0 * (lost - won), 100.0 * variance.max(0.0).sqrt())
}

impl Limit {
    /// Points of the metric that are lost in the end.
    pub(super) fn drop_in(&self, worth: &Worth) -> Option<f64> {
        let figures = match self.metric {
            Metric::Accuracy => worth.accuracy,
            Metric::Agreement => worth.agreement,
        };
        figures.map(|figures| figures.original - figures.output)
    }
}

impl FromStr for Metric {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "accuracy" => Ok(Self::Accuracy),
            "agreement" => Ok(Self::Agreement),
            _ => Err(Error::Argument {
                name: "--metric",
                what: format!("{text:?} is neither accuracy nor agreement"),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_level_that_fits_is_found_in_few_steps() {
        for smallest in 0..=LEVELS.len() {
            let mut asked = 0;
            let found = first_that_fits(LEVELS.len(), |level| {
                asked += 1;
                Ok(level >= smallest)
            });
            let expected = (smallest < LEVELS.len()).then_some(smallest);
            assert_eq!(found.unwrap(), expected);
            assert!(asked <= 6, "{asked} steps");
        }
        assert!(LEVELS.is_sorted());
        assert_eq!(first_that_fits(0, |_| Ok(true)).unwrap(), None);
    }

    #[test]
    fn a_drop_counts_changed_samples_only() {
        // Of ten samples two are newly wrong, one is newly right.
        let before = [
            true, true, true, true, true, true, true, false, false, false,
        ];
        let after = [
            false, false, true, true, true, true, true, true, false, false,
        ];
        let (drop, error) = drop_of(&before, &after);
        assert!((drop - 10.0).abs() < 1e-12);
        // sqrt((0.2 + 0.1 - 0.01) / 10)
        assert!((error - 17.029_386_4).abs() < 1e-6, "{error}");
        assert_eq!(drop_of(&before, &before), (0.0, 0.0));
        assert_eq!(drop_of(&[], &[]), (0.0, 0.0));
    }
}
