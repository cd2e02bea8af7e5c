//! Collects the values of a layer: as they are while they are few, as sums or a subset beyond.
//!
//! A row is one position of one sample.

use std::collections::BinaryHeap;

use crate::algebra::Covariance;

/// Widest layer whose covariance is held: 6144^2 · 8 bytes are 302 MB, with its inverse twice that.
pub(in super::super) const WIDEST: usize = 6144;

/// Share of the width up to which rows are kept: the covariance of more is cheaper to invert than
/// what the rows give.
const FEW: usize = 3;

/// Rows, as a share of the width, from which on H is made of them where it can be held: a ranking
/// takes about F^3 / 3 operations then, and 7 N^2 F + N F^2 in the dual form, but of larger matrices.
const ENOUGH: usize = 4;

/// Observations that a covariance is given at once.
const PENDING: usize = 512;

/// Most rows of a layer wider than [`WIDEST`]. With 1000 samples in place of 6000, the accuracy of
/// a VGG-like net after cut and repair was 0.5 points lower at 0.1 and 0.2 at 0.05.
const MOST: usize = 2048;

/// Most bytes of such rows.
const BYTES: usize = 512 << 20;

/// Observations of one layer's values.
#[derive(Clone, Debug)]
pub(in super::super) struct Observations {
    width: usize,
    /// Most rows that are held as they are.
    most: usize,
    /// The sample that the first row is of, counted over all blocks.
    first: u64,
    seen: u64,
    held: Held,
}

/// How [`Observations`] are held; a covariance with its number of rows.
pub(in super::super) enum Form {
    Rows,
    Covariance(u64),
    Drawn,
}

/// [`Observations`], taken apart; each with the number of rows seen.
pub(in super::super) enum Saved {
    /// All rows.
    Rows(u64, Vec<f32>),
    Covariance(u64, Covariance),
    /// Chosen rows, in the order of their numbers, and these.
    Drawn(u64, Vec<f32>, Vec<u64>),
}

#[derive(Clone, Debug)]
enum Held {
    /// All so far, `[N, F]`.
    All(Vec<f32>),
    Sums {
        covariance: Covariance,
        /// Observations that are still to be added: few at a time, the matrix is written again and again.
        pending: Vec<f32>,
    },
    /// Of a layer wider than [`WIDEST`].
    Drawn(Drawn),
}

/// The rows with the smallest mixed numbers: a subset that depends on nothing but how many rows there
/// are, and follows no order of theirs.
#[derive(Clone, Debug, Default)]
struct Drawn {
    values: Vec<f32>,
    /// The number of each row, counted over all blocks.
    numbers: Vec<u64>,
    /// The mixed number and the place of each row; the largest goes first.
    largest: BinaryHeap<(u64, usize)>,
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
        let held = match width <= WIDEST {
            true => Held::All(Vec::new()),
            false => Held::Drawn(Drawn::default()),
        };
        Self::holding(width, 0, held)
    }

    /// The covariance of all rows, whatever it costs.
    pub(in super::super) fn whole(width: usize) -> Self {
        Self::holding(width, 0, sums(width, Vec::new()))
    }

    fn holding(width: usize, seen: u64, held: Held) -> Self {
        Self {
            width,
            most: most(width),
            first: 0,
            seen,
            held,
        }
    }

    /// These rows and no others, however many.
    #[cfg(test)]
    pub(super) fn as_they_are(width: usize, rows: Vec<f32>) -> Self {
        Self::holding(width, (rows.len() / width) as u64, Held::All(rows))
    }

    /// Says which sample the first row will be of.
    pub(in super::super) fn begin(&mut self, sample: u64) {
        self.first = sample;
    }

    /// Adds rows `[N, F]`, `positions` of each sample.
    pub(in super::super) fn add(&mut self, rows: &[f32], positions: usize) {
        let width = self.width;
        let next = self.first * positions as u64 + self.seen;
        self.seen += (rows.len() / width) as u64;
        match &mut self.held {
            Held::Sums {
                covariance,
                pending,
            } => {
                pending.extend(rows);
                let whole = pending.len() / (PENDING * width) * PENDING * width;
                if whole > 0 {
                    covariance.add(&pending[..whole]);
                    pending.drain(..whole);
                }
            }
            Held::All(all) => {
                all.extend(rows);
                if all.len() / width > self.most {
                    self.held = sums(width, std::mem::take(all));
                }
            }
            Held::Drawn(drawn) => {
                for (number, row) in (next..).zip(rows.chunks_exact(width)) {
                    drawn.offer(number, row, self.most);
                }
            }
        }
    }

    /// Adds what the rows behind these gave.
    pub(in super::super) fn merge(&mut self, behind: Self) {
        let width = self.width;
        self.seen += behind.seen;
        match (&mut self.held, behind.held) {
            (Held::All(all), Held::All(more)) if (all.len() + more.len()) / width <= self.most => {
                all.extend(more);
            }
            (Held::Drawn(drawn), Held::Drawn(more)) => {
                let rows = more.values.chunks_exact(width);
                for (&number, row) in more.numbers.iter().zip(rows) {
                    drawn.offer(number, row, self.most);
                }
            }
            (held, more) => {
                let mut covariance = std::mem::replace(held, Held::All(Vec::new())).summed(width);
                covariance.merge(&more.summed(width));
                *held = Held::Sums {
                    covariance,
                    pending: Vec::new(),
                };
            }
        }
    }

    /// Whether the order in which parts are merged makes no difference: rows are only chosen.
    pub(in super::super) fn is_drawn(&self) -> bool {
        matches!(self.held, Held::Drawn(_))
    }

    /// The number of rows seen, and what [`Observations::into_saved`] will give.
    pub(in super::super) fn form(&self) -> (u64, Form) {
        let form = match &self.held {
            Held::All(_) => Form::Rows,
            Held::Drawn(_) => Form::Drawn,
            Held::Sums {
                covariance,
                pending,
            } => Form::Covariance(covariance.count() + (pending.len() / self.width) as u64),
        };
        (self.seen, form)
    }

    /// What is held, in a form to be written down.
    pub(in super::super) fn into_saved(self) -> Saved {
        let (width, seen) = (self.width, self.seen);
        match self.held {
            held @ Held::Sums { .. } => Saved::Covariance(seen, held.summed(width)),
            Held::All(rows) => Saved::Rows(seen, rows),
            Held::Drawn(mut drawn) => {
                let mut numbers = std::mem::take(&mut drawn.numbers);
                drawn.numbers.clone_from(&numbers);
                let rows = drawn.sorted(width);
                numbers.sort_unstable();
                Saved::Drawn(seen, rows, numbers)
            }
        }
    }

    /// What [`Observations::into_saved`] gave of a layer of `width`; nothing where it does not fit.
    pub(in super::super) fn from_saved(width: usize, saved: Saved) -> Option<Self> {
        match saved {
            Saved::Covariance(seen, covariance) => {
                let fits = covariance.width() == width;
                let pending = Vec::new();
                let held = Held::Sums {
                    covariance,
                    pending,
                };
                fits.then(|| Self::holding(width, seen, held))
            }
            Saved::Rows(seen, rows) => {
                let fits = rows.len().is_multiple_of(width);
                fits.then(|| Self::holding(width, seen, Held::All(rows)))
            }
            Saved::Drawn(seen, rows, numbers) => {
                let fits = numbers.len().checked_mul(width) == Some(rows.len());
                let mut found = Self::holding(width, seen, Held::Drawn(Drawn::default()));
                if let (Held::Drawn(drawn), true) = (&mut found.held, fits) {
                    for (&number, row) in numbers.iter().zip(rows.chunks_exact(width)) {
                        drawn.offer(number, row, found.most);
                    }
                }
                fits.then_some(found)
            }
        }
    }

    pub(super) fn finish(self) -> Found {
        let (width, seen) = (self.width, self.seen);
        let values = match self.held {
            held @ Held::Sums { .. } => return Found::Covariance(held.summed(width)),
            Held::All(values) => values,
            Held::Drawn(drawn) => drawn.sorted(width),
        };
        Found::Subset(Subset {
            width,
            values,
            seen,
        })
    }
}

impl Held {
    /// The covariance of what is held.
    fn summed(self, width: usize) -> Covariance {
        match self {
            Self::Sums {
                mut covariance,
                pending,
            } => {
                covariance.add(&pending);
                covariance
            }
            Self::All(rows) => {
                let mut covariance = Covariance::new(width);
                covariance.add(&rows);
                covariance
            }
            Self::Drawn(drawn) => Self::All(drawn.sorted(width)).summed(width),
        }
    }
}

impl Drawn {
    /// Takes a row if its mixed number is among the `most` smallest.
    fn offer(&mut self, number: u64, row: &[f32], most: usize) {
        let width = row.len();
        let mixed = mixed(number);
        if self.largest.len() < most {
            self.largest.push((mixed, self.numbers.len()));
            self.numbers.push(number);
            self.values.extend(row);
        } else if let Some(mut last) = self.largest.peek_mut()
            && mixed < last.0
        {
            let place = last.1;
            *last = (mixed, place);
            self.numbers[place] = number;
            self.values[place * width..(place + 1) * width].copy_from_slice(row);
        }
    }

    /// The rows in the order of their numbers.
    fn sorted(self, width: usize) -> Vec<f32> {
        if self.numbers.is_sorted() {
            return self.values;
        }
        let mut places: Vec<usize> = (0..self.numbers.len()).collect();
        places.sort_unstable_by_key(|&place| self.numbers[place]);
        let rows = places.into_iter();
        rows.flat_map(|place| &self.values[place * width..(place + 1) * width])
            .copied()
            .collect()
    }
}

/// Sums of no rows, with some to come.
fn sums(width: usize, pending: Vec<f32>) -> Held {
    Held::Sums {
        covariance: Covariance::new(width),
        pending,
    }
}

impl Found {
    /// Whether ranking is cheaper with H itself: see [`ENOUGH`].
    pub(super) fn suits_primal(&self) -> bool {
        match self {
            Self::Covariance(_) => true,
            Self::Subset(subset) => {
                let width = subset.width;
                width <= WIDEST && subset.values.len() * ENOUGH >= width * width
            }
        }
    }

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
            rows.add(&values.collect::<Vec<_>>(), 1);
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
    fn blocks_merge_to_what_one_process_would_have() {
        // few rows, many, and a wide layer
        for (width, most) in [(90, None), (9, None), (WIDEST + 1, Some(4))] {
            let block = |first: u64| {
                let mut rows = Observations::new(width);
                rows.most = most.unwrap_or(rows.most);
                rows.begin(first);
                let values = (0..5 * width).map(|at| ((first + 3) as f32 * at as f32).sin());
                rows.add(&values.collect::<Vec<_>>(), 1);
                rows
            };
            let merged = |saved: bool| {
                let mut rows = block(0);
                for first in [5, 10] {
                    let mut next = block(first);
                    if saved {
                        let most = next.most;
                        next = Observations::from_saved(width, next.into_saved()).unwrap();
                        next.most = most;
                    }
                    rows.merge(next);
                }
                rows
            };
            let [one, other] = [false, true].map(|saved| match merged(saved).finish() {
                Found::Covariance(found) => (found.count(), found.packed(), Vec::new()),
                Found::Subset(found) => (found.seen, Vec::new(), found.values),
            });
            assert_eq!(one, other);
            assert_eq!(one.0, 15);
            let mut backwards = block(10);
            backwards.merge(block(5));
            backwards.merge(block(0));
            if let (true, Found::Subset(found)) = (most.is_some(), backwards.finish()) {
                assert_eq!((found.values, one.2.len()), (one.2, 4 * width));
            }
        }
    }

    #[test]
    fn a_neuron_that_only_rounds_does_not_vary() {
        for mut rows in [Observations::new(4), Observations::whole(4)] {
            // constant, zero, its last bit, moving
            rows.add(&[0.1, 0.0, 1.0, 1.0], 1);
            rows.add(&[0.1, 0.0, 1.0 + f32::EPSILON, 1.001], 1);
            rows.add(&[0.1, 0.0, 1.0, 1.0], 1);
            assert_eq!(rows.finish().varies(), [false, false, false, true]);
        }
    }
}
