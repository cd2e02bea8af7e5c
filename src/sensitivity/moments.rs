//! Mean, variance and extremes over samples, in f64, that can be merged.

use rayon::prelude::*;

use super::cells::Cells;

/// Cells that one task works on.
const BLOCK: usize = 1024;

/// Moments of every cell `[P, F]` of one sink or layer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Moments {
    samples: u64,
    cells: Vec<Moment>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Moment {
    mean: f64,
    /// Sum of squared distances from the mean.
    spread: f64,
    smallest: f64,
    largest: f64,
}

const NOTHING: Moment = Moment {
    mean: 0.0,
    spread: 0.0,
    smallest: f64::INFINITY,
    largest: f64::NEG_INFINITY,
};

impl Moments {
    /// Moments of no samples, for `plane` cells.
    pub(super) fn new(plane: usize) -> Self {
        Self {
            samples: 0,
            cells: vec![NOTHING; plane],
        }
    }

    /// Adds the leading `samples` of `cells`.
    pub(super) fn add(&mut self, samples: usize, cells: &Cells) {
        let before = self.samples;
        let blocks = self.cells.par_chunks_mut(BLOCK).enumerate();
        blocks.for_each(|(block, moments)| {
            let at = block * BLOCK;
            for sample in 0..samples {
                let share = ((before + sample as u64 + 1) as f64).recip();
                let values = &cells.of(0, sample)[at..at + moments.len()];
                for (moment, &value) in moments.iter_mut().zip(values) {
                    moment.add(f64::from(value), share);
                }
            }
        });
        self.samples += samples as u64;
    }

    /// Adds what other samples gave (Chan, Golub & LeVeque 1979).
    pub(super) fn merge(&mut self, other: &Self) {
        let (count, others) = (self.samples as f64, other.samples as f64);
        let total = (count + others).max(1.0);
        for (moment, other) in self.cells.iter_mut().zip(&other.cells) {
            let distance = other.mean - moment.mean;
            moment.mean += distance * others / total;
            moment.spread += other.spread + distance * distance * count * others / total;
            moment.smallest = moment.smallest.min(other.smallest);
            moment.largest = moment.largest.max(other.largest);
        }
        self.samples += other.samples;
    }

    /// Number of samples.
    pub(super) fn samples(&self) -> u64 {
        self.samples
    }

    /// Means, sums of squared distances from them, smallest and largest values, per cell.
    pub(super) fn columns(&self) -> [Vec<f64>; 4] {
        let of = |pick: fn(&Moment) -> f64| self.cells.iter().map(pick).collect();
        [
            of(|cell| cell.mean),
            of(|cell| cell.spread),
            of(|cell| cell.smallest),
            of(|cell| cell.largest),
        ]
    }

    /// What [`Moments::columns`] gave; nothing where these are not equally long.
    pub(super) fn from_columns(samples: u64, columns: &[Vec<f64>; 4]) -> Option<Self> {
        let [means, spreads, smallest, largest] = columns;
        let count = means.len();
        let fits = [spreads, smallest, largest]
            .iter()
            .all(|column| column.len() == count);
        let cell = |at| Moment {
            mean: means[at],
            spread: spreads[at],
            smallest: smallest[at],
            largest: largest[at],
        };
        fits.then(|| Self {
            samples,
            cells: (0..count).map(cell).collect(),
        })
    }

    /// Variance over the samples (divided by their number), per cell.
    pub(super) fn variances(&self) -> Vec<f64> {
        let count = self.samples.max(1) as f64;
        self.cells.iter().map(|cell| cell.spread / count).collect()
    }

    /// Standard deviation over the samples, per cell.
    pub(super) fn deviations(&self) -> Vec<f64> {
        self.variances().into_iter().map(f64::sqrt).collect()
    }

    /// Largest minus smallest value, per cell.
    pub(super) fn ranges(&self) -> Vec<f64> {
        let cells = self.cells.iter();
        cells
            .map(|cell| (cell.largest - cell.smallest).max(0.0))
            .collect()
    }
}

impl Moment {
    /// One more value (Welford 1962); `share` is one over the number of values now.
    fn add(&mut self, value: f64, share: f64) {
        let distance = value - self.mean;
        self.mean += distance * share;
        self.spread += distance * (value - self.mean);
        self.smallest = self.smallest.min(value);
        self.largest = self.largest.max(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(values: &[f32]) -> Cells {
        Cells {
            rows: 1,
            samples: values.len(),
            positions: 1,
            neurons: 1,
            present: vec![1],
            occurrences: 1,
            inner: 1,
            values: values.to_vec(),
        }
    }

    #[test]
    fn moments_of_five_numbers() {
        let mut moments = Moments::new(1);
        moments.add(3, &cells(&[2., 4., 4.]));
        // The last value only fills up the batch.
        moments.add(2, &cells(&[4., 6., 100.]));
        assert!((moments.variances()[0] - 1.6).abs() < 1e-14);
        assert!((moments.deviations()[0] - 1.6_f64.sqrt()).abs() < 1e-14);
        assert_eq!(moments.ranges(), [4.0]);
    }

    #[test]
    fn merged_halves_equal_the_whole() {
        let (one, two) = ([1e4, 1e4 + 1.0, 1e4 - 2.0], [1e4 + 5.0, 1e4]);
        let mut whole = Moments::new(1);
        whole.add(3, &cells(&one));
        whole.add(2, &cells(&two));
        let mut merged = Moments::new(1);
        merged.add(2, &cells(&two));
        let mut first = Moments::new(1);
        first.add(3, &cells(&one));
        merged.merge(&first);
        merged.merge(&Moments::new(1));
        assert!((merged.variances()[0] - whole.variances()[0]).abs() < 1e-9);
        assert_eq!(merged.ranges(), whole.ranges());
    }
}
