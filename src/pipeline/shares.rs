//! Which samples serve what, so that no figure comes from samples that a choice was made on.

use super::setup::SourceOptions;
use crate::data;

/// Share of a data set that choices are made on; the rest is held out for proof and figures.
const FITTED_SHARE: f64 = 0.8;
/// Share of the calibration samples that nothing is fitted on.
const VALIDATION_SHARE: f64 = 0.1;
/// Most samples that are scored and solved on without `--samples`. On Fashion-MNIST nets the kept
/// set of 1,000 images overlapped that of 10,000 by 95 % and more for p = 1 and 2.
const MOST_CALIBRATION: usize = 1000;
/// Most held-out samples that figures come from: 2,000 tell 90 % to within 0.7 points.
const MOST_HELD_OUT: usize = 2000;

/// Positions in the data set, each list sorted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shares {
    /// What neurons are scored on, and layers solved on but for `validation`.
    pub(super) calibration: Vec<usize>,
    /// A tenth of `calibration`: chooses between solutions, and is never fitted on. Empty where
    /// there is but one calibration sample.
    pub(super) validation: Vec<usize>,
    /// All that is not held out.
    pub(super) training: Vec<usize>,
    /// What figures are measured on, and nothing else is done with; of the `--test` data set where
    /// there is one. The same samples as in `calibration` where the data set holds but one.
    pub(super) held_out: Vec<usize>,
}

impl Shares {
    /// Shares out a data set of `count` samples, at least 1; `test` is the size of the `--test` data
    /// set, which is held out whole.
    pub(super) fn of(count: usize, test: Option<usize>, options: &SourceOptions) -> Self {
        let share = if test.is_some() { 1.0 } else { FITTED_SHARE };
        let (mut fitted, mut rest) = data::split(count, share, options.seed);
        if fitted.is_empty() {
            fitted.clone_from(&rest);
        }
        if rest.is_empty() {
            rest.clone_from(&fitted);
        }
        let most = options.samples.unwrap_or(MOST_CALIBRATION);
        let calibration = match test {
            // The split took everything, so the seed has had no say yet.
            Some(_) if most < count => {
                data::split(count, most as f64 / count as f64, options.seed).0
            }
            _ => spread(&fitted, most),
        };
        let (validation, _) = data::split(calibration.len(), VALIDATION_SHARE, options.seed);
        let validation = match calibration.len() {
            1 => Vec::new(),
            _ => validation.into_iter().map(|at| calibration[at]).collect(),
        };
        let (training, held_out) = match test {
            Some(count) => (fitted, (0..count).collect()),
            None => {
                let held_out = spread(&rest, MOST_HELD_OUT);
                let free = (0..count).filter(|at| held_out.binary_search(at).is_err());
                let free: Vec<usize> = free.collect();
                (if free.is_empty() { fitted } else { free }, held_out)
            }
        };
        Self {
            calibration,
            validation,
            training,
            held_out,
        }
    }
}

/// At most `most` entries, evenly spread.
pub(super) fn spread(indices: &[usize], most: usize) -> Vec<usize> {
    if indices.len() <= most {
        return indices.to_vec();
    }
    (0..most)
        .map(|index| indices[index * indices.len() / most])
        .collect()
}

/// The entries of `all` that are not in `some`; both are sorted.
pub(super) fn without(all: &[usize], some: &[usize]) -> Vec<usize> {
    let kept = all
        .iter()
        .filter(|index| some.binary_search(index).is_err());
    kept.copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_overlap_only_where_they_must() {
        struct Case {
            count: usize,
            samples: Option<usize>,
            test: Option<usize>,
            /// Sizes: calibration, validation, training, held out.
            expected: [usize; 4],
        }
        let cases = [
            Case {
                count: 100,
                samples: None,
                test: None,
                expected: [80, 8, 80, 20],
            },
            Case {
                count: 100,
                samples: Some(7),
                test: None,
                expected: [7, 1, 80, 20],
            },
            // not every held-out sample is measured on; the others may be trained on
            Case {
                count: 20_000,
                samples: None,
                test: None,
                expected: [1000, 100, 18_000, 2000],
            },
            Case {
                count: 3,
                samples: None,
                test: None,
                expected: [2, 1, 2, 1],
            },
            Case {
                count: 1,
                samples: None,
                test: None,
                expected: [1, 0, 1, 1],
            },
            Case {
                count: 3,
                samples: Some(1),
                test: None,
                expected: [1, 0, 2, 1],
            },
            Case {
                count: 100,
                samples: None,
                test: Some(7000),
                expected: [100, 10, 100, 7000],
            },
            Case {
                count: 100,
                samples: Some(30),
                test: Some(7000),
                expected: [30, 3, 100, 7000],
            },
        ];
        for case in cases {
            let options = SourceOptions {
                samples: case.samples,
                seed: 3,
                ..SourceOptions::default()
            };
            let found = Shares::of(case.count, case.test, &options);
            let Shares {
                calibration,
                validation,
                training,
                held_out,
            } = &found;
            let sizes = [calibration, validation, training, held_out].map(Vec::len);
            assert_eq!(sizes, case.expected, "{}", case.count);
            assert!(validation.iter().all(|at| calibration.contains(at)));
            assert!(calibration.iter().all(|at| training.contains(at)));
            let apart = training.iter().all(|at| !held_out.contains(at));
            assert!(apart || case.count == 1 || case.test.is_some());
            assert_eq!(found, Shares::of(case.count, case.test, &options));
            let other = SourceOptions { seed: 4, ..options };
            let other = Shares::of(case.count, case.test, &other).calibration;
            assert!(other != *calibration || calibration.len() == case.count || case.count <= 3);
        }
    }
}
