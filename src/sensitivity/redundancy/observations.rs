//! Collects the values of a layer: as they are while they are few, as sums or a subset beyond.
//!
//! A row is one position of one sample.

use std::collections::BinaryHeap;

use crate::algebra::Covariance;

/// Widest layer whose covariance is held: 6144^2 · 8 bytes are 302 MB, with its inverse twice that.
pub(in super::super) const WIDEST: usize = 6144;

/// Share of the width up to which rows are kept for the dual form: of N rows and F neurons it
/// takes about 11 N^2 F + N F^2 operations, the primal one N F^2 + 1.3 F^3.
const FEW: usize = 3;

/// Observations that a covariance is given at once.
const PENDING: usize = 512;

/// Most rows of a layer wider than [`WIDEST`]. With 1000 samples in place of 6000, the accuracy of
/// a VGG-like net after cut and repair was 0.5 points lower at 0.1 and 0.2 at 0.05.
const MOST: usize = 2048;

/// Most bytes of such rows.
const BYTES: usize = 512 << 20;

/// Observations of one layer's values.
pub(in super::super) struct Observations {
    width: usize,
    /// Most rows that are held as they are.
    most: usize,
    seen: u64,
    held: Held,
}

enum Held {
    /// All so far, `[N, F]`.
    All(Vec<f32>),
    Sums {
        covariance: Covariance,
        /// Observations that are still to be added: few at a time, the matrix is written again and again.
        pending: Vec<f32>,
    },
    Subset {
        values: Vec<f32>,
        /// The mixed number and the place of each row; the largest goes first.
        drawn: BinaryHeap<(u64, usize)>,
    },
}

/// What was collected.
pub(super) enum Found {
    Covariance(Covariance),
    Subset(Subset),
}

/// Observations, all or some.
pub(super) struct Subset {
    pub(super) width: usize,
    /// `[N, F]`.
    pub(super) values: Vec<f32>,
    /// Observations that were there.
    seen: u64,
}

impl Observations {
    /// For a layer of `width` neurons; in the form that will be cheapest.
    pub(in super::super) fn new(width: usize) -> Self {
        Self {
            width,
            most: most(width),
            seen: 0,
            held: Held::All(Vec::new()),
        }
    }

    /// The covariance of all rows, whatever it costs.
    pub(in super::super) fn whole(width: usize) -> Self {
        Self {
            width,
            most: most(width),
            seen: 0,
            held: Held::Sums {
                covariance: Covariance::new(width),
                pending: Vec::new(),
            },
        }
    }

    /// These rows and no others, in the dual form whatever it costs.
    #[cfg(test)]
    pub(super) fn as_they_are(width: usize, rows: Vec<f32>) -> Self {
        Self {
            width,
            most: rows.len() / width,
            seen: (rows.len() / width) as u64,
            held: Held::All(rows),
        }
    }

    /// Adds rows `[N, F]`.
    pub(in super::super) fn add(&mut self, rows: &[f32]) {
        let Self {
            width,
            most,
            seen,
            held,
        } = self;
        let (first, most) = (*seen, *most);
        *seen += (rows.len() / *width) as u64;
        match held {
            Held::Sums {
                covariance,
                pending,
            } => {
                pending.extend(rows);
                let whole = pending.len() / (PENDING * *width) * PENDING * *width;
                if whole > 0 {
                    covariance.add(&pending[..whole]);
                    pending.drain(..whole);
                }
            }
            Held::All(all) if (all.len() + rows.len()) / *width <= most => all.extend(rows),
            Held::All(all) if *width <= WIDEST => {
                let mut pending = std::mem::take(all);
                pending.extend(rows);
                *held = Held::Sums {
                    covariance: Covariance::new(*width),
                    pending,
                };
            }
            Held::All(all) => {
                let values = std::mem::take(all);
                let places = 0..values.len() / *width;
                let mut drawn = places.map(|place| (mixed(place as u64), place)).collect();
                let mut values = values;
                draw(&mut values, &mut drawn, rows, *width, (first, most));
                *held = Held::Subset { values, drawn };
            }
            Held::Subset { values, drawn } => draw(values, drawn, rows, *width, (first, most)),
        }
    }

    pub(super) fn finish(self) -> Found {
        match self.held {
            Held::Sums {
                mut covariance,
                pending,
            } => {
                covariance.add(&pending);
                Found::Covariance(covariance)
            }
            Held::All(values) | Held::Subset { values, .. } => Found::Subset(Subset {
                width: self.width,
                values,
                seen: self.seen,
            }),
        }
    }
}

impl Found {
    /// Which neurons vary: by more than the rounding of f32 at their mean.
    pub(super) fn varies(&self) -> Vec<bool> {
        let (means, variances) = match self {
            Self::Covariance(covariance) => (covariance.mean().to_vec(), covariance.variances()),
            Self::Subset(subset) => subset.moments(),
        };
        let neurons = means.iter().zip(variances);
        neurons
            .map(|(mean, variance)| variance > (mean * f64::from(f32::EPSILON)).powi(2))
            .collect()
    }

    /// Says where not all rows are used.
    pub(super) fn note(&self, name: &str) -> Option<String> {
        let Self::Subset(subset) = self else {
            return None;
        };
        let used = subset.values.len() / subset.width;
        (used as u64 != subset.seen).then(|| {
            format!(
                "layer {name:?}: what its {} neurons share was taken from {used} of {} rows, as \
                 more do not fit in memory",
                subset.width, subset.seen
            )
        })
    }
}

impl Subset {
    /// Mean and variance of each neuron.
    pub(super) fn moments(&self) -> (Vec<f64>, Vec<f64>) {
        let count = (self.values.len() / self.width).max(1) as f64;
        let mut means = vec![0.0; self.width];
        for row in self.values.chunks_exact(self.width) {
            let pairs = means.iter_mut().zip(row);
            pairs.for_each(|(mean, value)| *mean += f64::from(*value));
        }
        means.iter_mut().for_each(|mean| *mean /= count);
        let mut variances = vec![0.0; self.width];
        for row in self.values.chunks_exact(self.width) {
            let neurons = variances.iter_mut().zip(&means).zip(row);
            neurons.for_each(|((sum, mean), value)| *sum += (f64::from(*value) - mean).powi(2));
        }
        variances.iter_mut().for_each(|sum| *sum /= count);
        (means, variances)
    }
}

/// Most rows that are held as they are.
fn most(width: usize) -> usize {
    if width <= WIDEST {
        width / FEW
    } else {
        MOST.min(BYTES / (width * size_of::<f32>())).max(2)
    }
}

/// Keeps `most` rows, those with the smallest mixed numbers: a subset that depends on nothing but how many
/// rows there are, and follows no order of theirs.
fn draw(
    values: &mut Vec<f32>,
    drawn: &mut BinaryHeap<(u64, usize)>,
    rows: &[f32],
    width: usize,
    (first, most): (u64, usize),
) {
    for (number, row) in (first..).zip(rows.chunks_exact(width)) {
        let number = mixed(number);
        if drawn.len() < most {
            drawn.push((number, values.len() / width));
            values.extend(row);
        } else if let Some(mut last) = drawn.peek_mut()
            && number < last.0
        {
            let place = last.1;
            *last = (number, place);
            values[place * width..(place + 1) * width].copy_from_slice(row);
        }
    }
}

/// A number that looks random and differs for every row (splitmix64, Steele et al. 2014).
fn mixed(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Row n of a wide layer holds n everywhere.
    fn numbered(rows: &mut Observations, counts: &[usize]) {
        let mut next = 0;
        for &count in counts {
            let numbers = (next..next + count).map(|number| number as f32);
            let values = numbers.flat_map(|number| vec![number; rows.width]);
            rows.add(&values.collect::<Vec<_>>());
            next += count;
        }
    }

    #[test]
    fn few_rows_stay_rows_and_many_become_sums() {
        for (count, summed) in [(3, false), (30, true)] {
            let mut rows = Observations::new(9);
            numbered(&mut rows, &[1, count - 1]);
            match rows.finish() {
                Found::Covariance(found) => assert!(summed && found.count() == count as u64),
                Found::Subset(found) => assert!(!summed && found.values.len() == 9 * count),
            }
        }
    }

    #[test]
    fn the_subset_of_a_wide_layer_does_not_depend_on_the_batches() {
        let width = WIDEST + 1;
        let drawn = |counts: &[usize]| {
            let mut rows = Observations {
                most: 4,
                ..Observations::new(width)
            };
            numbered(&mut rows, counts);
            let found = rows.finish();
            let note = found.note("features").unwrap();
            assert!(note.contains("4 of 12 rows"), "{note}");
            let Found::Subset(subset) = found else {
                unreachable!("a wide layer keeps rows")
            };
            let mut drawn: Vec<f32> = subset.values.iter().step_by(width).copied().collect();
            drawn.sort_by(f32::total_cmp);
            drawn
        };
        let whole = drawn(&[12]);
        assert_eq!(whole.len(), 4);
        assert_eq!(drawn(&[1, 2, 6, 3]), whole);
        assert_ne!(whole, [0.0, 1.0, 2.0, 3.0]);
    }

    #[test]
    fn a_neuron_that_only_rounds_does_not_vary() {
        for mut rows in [Observations::new(4), Observations::whole(4)] {
            // constant, zero, its last bit, moving
            rows.add(&[0.1, 0.0, 1.0, 1.0]);
            rows.add(&[0.1, 0.0, 1.0 + f32::EPSILON, 1.001]);
            rows.add(&[0.1, 0.0, 1.0, 1.0]);
            assert_eq!(rows.finish().varies(), [false, false, false, true]);
        }
    }
}
