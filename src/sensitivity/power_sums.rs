//! Sums of powers over samples, in f64, that can be merged.
//!
//! `(mean over n of |s_jf(n)|^p)^(1/p)` for every class j and cell f, then the q-norm over classes
//! and positions. With q = p the two are one sum, and no cell per class is held.

mod part;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{
    cells::Cells,
    norm::{Norm, power, root},
};
use crate::error::{Error, Result};

pub(super) use part::Part;
use part::Slot;

/// Largest p whose powers of any f32 fit an f64 without scaling: 3.4e38^6 is 1.5e231, and 1e-45^6
/// is 1e-270.
const PLAIN: f64 = 6.0;

/// Cells that one task works on. Fixed, so that nothing depends on the number of threads.
const BLOCK: usize = 1024;

/// Bytes of cells per class above which a separate norm over the classes is refused.
const MEMORY: usize = 4 << 30;

/// One layer's sums for one pair of norms; written down without its columns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct PowerSums {
    over_samples: Norm,
    over_classes: Norm,
    samples: u64,
    neurons: usize,
    /// Cells per class: P·F.
    plane: usize,
    /// 1 where all classes share their cells, else K.
    slots: usize,
    #[serde(skip)]
    /// `sum of |s|^p`, or `sum of (|s| / largest)^p` beyond [`PLAIN`]; empty for p = inf.
    sums: Vec<f64>,
    #[serde(skip)]
    /// The largest |s|; empty for small p.
    largest: Vec<f64>,
}

impl PowerSums {
    /// Empty sums for `classes` rows of cells like `cells`.
    ///
    /// # Errors
    /// [`Error::Argument`] when q differs from p and the cells of all classes would take gigabytes.
    pub(super) fn new(norms: (Norm, Norm), classes: usize, cells: &Cells) -> Result<Self> {
        Self::with_plane(norms, classes, (cells.plane(), cells.neurons))
    }

    /// As [`PowerSums::new`], for neurons that each have one position.
    ///
    /// # Errors
    /// As [`PowerSums::new`].
    pub(super) fn of_neurons(norms: (Norm, Norm), classes: usize, neurons: usize) -> Result<Self> {
        Self::with_plane(norms, classes, (neurons, neurons))
    }

    /// Sums that give these scores, whatever the norms.
    pub(super) fn of_scores((over_samples, over_classes): (Norm, Norm), scores: &[f64]) -> Self {
        let powers = |p| scores.iter().map(|&score| power(score, p)).collect();
        let (sums, largest) = match over_samples {
            Norm::Inf => (Vec::new(), scores.to_vec()),
            Norm::P(p) if p <= PLAIN => (powers(p), Vec::new()),
            Norm::P(_) => (vec![1.0; scores.len()], scores.to_vec()),
        };
        Self {
            over_samples,
            over_classes,
            samples: 1,
            neurons: scores.len(),
            plane: scores.len(),
            slots: 1,
            sums,
            largest,
        }
    }

    fn with_plane(
        (over_samples, over_classes): (Norm, Norm),
        classes: usize,
        (plane, neurons): (usize, usize),
    ) -> Result<Self> {
        let slots = if over_samples == over_classes {
            1
        } else {
            classes
        };
        let count = slots.saturating_mul(plane);
        if count.saturating_mul(2 * size_of::<f64>()) > MEMORY {
            return Err(Error::Argument {
                name: "--over-classes",
                what: format!(
                    "a norm of its own needs one sum for each of {classes} classes and {plane} neurons, more than fit in memory; leave it out to use --norm over the classes too"
                ),
            });
        }
        let needed = |wanted: bool| if wanted { vec![0.0; count] } else { Vec::new() };
        let plain = matches!(over_samples, Norm::P(p) if p <= PLAIN);
        Ok(Self {
            over_samples,
            over_classes,
            samples: 0,
            neurons,
            plane,
            slots,
            sums: needed(over_samples != Norm::Inf),
            largest: needed(!plain),
        })
    }

    /// Notes that `samples` more samples were given to [`PowerSums::add`], all classes each.
    pub(super) fn count(&mut self, samples: usize) {
        self.samples += samples as u64;
    }

    /// Adds the leading `samples` of `cells`, whose rows are the classes from `first` on.
    pub(super) fn add(&mut self, first: usize, rows: usize, samples: usize, cells: &Cells) {
        let plane = self.plane;
        if self.slots == 1 {
            self.add_rows(0, 0..rows, samples, cells);
        } else {
            for row in 0..rows {
                self.add_rows((first + row) * plane, row..row + 1, samples, cells);
            }
        }
    }

    fn add_rows(
        &mut self,
        start: usize,
        rows: std::ops::Range<usize>,
        samples: usize,
        cells: &Cells,
    ) {
        let Self {
            over_samples,
            plane,
            sums,
            largest,
            ..
        } = self;
        let numbers = |block: usize, len: usize| {
            let at = block * BLOCK;
            let pairs = rows.clone();
            let pairs = pairs.flat_map(move |row| (0..samples).map(move |sample| (row, sample)));
            pairs.map(move |(row, sample)| &cells.of(row, sample)[at..at + len])
        };
        match *over_samples {
            Norm::Inf => {
                let blocks = largest[start..start + *plane].par_chunks_mut(BLOCK);
                blocks.enumerate().for_each(|(block, largest)| {
                    numbers(block, largest.len()).for_each(|values| keep_largest(largest, values));
                });
            }
            Norm::P(p) if p <= PLAIN => {
                let blocks = sums[start..start + *plane].par_chunks_mut(BLOCK);
                blocks.enumerate().for_each(|(block, sums)| {
                    numbers(block, sums.len()).for_each(|values| add_powers(sums, values, p));
                });
            }
            Norm::P(p) => {
                let blocks = sums[start..start + *plane].par_chunks_mut(BLOCK);
                let blocks = blocks.zip(largest[start..start + *plane].par_chunks_mut(BLOCK));
                blocks.enumerate().for_each(|(block, (sums, largest))| {
                    for values in numbers(block, sums.len()) {
                        add_all_scaled(sums, largest, values, p);
                    }
                });
            }
        }
    }

    /// The sums in blocks of `width` cells, each to be added to by one task.
    pub(super) fn parts(&mut self, width: usize) -> Vec<Part<'_>> {
        let blocks = self.plane.div_ceil(width);
        let new = || Part {
            norm: self.over_samples,
            slots: Vec::with_capacity(self.slots),
        };
        let mut parts: Vec<Part<'_>> = (0..blocks).map(|_| new()).collect();
        let mut sums = self.sums.chunks_mut(self.plane);
        let mut largest = self.largest.chunks_mut(self.plane);
        for _ in 0..self.slots {
            let mut sums = sums.next().unwrap_or_default().chunks_mut(width);
            let mut largest = largest.next().unwrap_or_default().chunks_mut(width);
            for part in &mut parts {
                part.slots.push(Slot {
                    sums: sums.next().unwrap_or_default(),
                    largest: largest.next().unwrap_or_default(),
                });
            }
        }
        parts
    }

    /// Adds sums of squares, one per cell, to those of p = q = 2.
    pub(super) fn add_squares(&mut self, squares: &[f64]) {
        debug_assert_eq!(self.over_samples, Norm::P(2.0));
        let pairs = self.sums.iter_mut().zip(squares);
        pairs.for_each(|(sum, square)| *sum += square);
    }

    /// Whether these norms are one sum over samples and classes of powers that f32 holds.
    pub(super) fn is_plain((over_samples, over_classes): (Norm, Norm)) -> bool {
        let small =
            matches!(over_samples, Norm::Inf) || matches!(over_samples, Norm::P(p) if p <= PLAIN);
        over_samples == over_classes && small
    }

    /// Adds sums of powers (for p = inf the largest), one per cell, of numbers that were multiplied
    /// with `scale`; only for norms that are plain.
    pub(super) fn add_powers(&mut self, powers: &[f32], scale: f64) {
        match self.over_samples {
            Norm::Inf => {
                let pairs = self.largest.iter_mut().zip(powers);
                pairs
                    .for_each(|(largest, &value)| *largest = largest.max(f64::from(value) / scale));
            }
            Norm::P(p) => {
                let unscaled = power(scale, p).recip();
                let pairs = self.sums.iter_mut().zip(powers);
                pairs.for_each(|(sum, &value)| *sum += f64::from(value) * unscaled);
            }
        }
    }

    /// Adds what other samples gave.
    pub(super) fn merge(&mut self, other: &Self) {
        self.samples += other.samples;
        match self.over_samples {
            Norm::Inf => {
                let pairs = self.largest.iter_mut().zip(&other.largest);
                pairs.for_each(|(largest, other)| *largest = largest.max(*other));
            }
            Norm::P(p) if p <= PLAIN => {
                let pairs = self.sums.iter_mut().zip(&other.sums);
                pairs.for_each(|(sum, other)| *sum += other);
            }
            Norm::P(p) => {
                let cells = self.sums.iter_mut().zip(&mut self.largest);
                let others = other.sums.iter().zip(&other.largest);
                for ((sum, largest), (&other_sum, &other_largest)) in cells.zip(others) {
                    add_scaled(sum, largest, other_largest, other_sum, p);
                }
            }
        }
    }

    /// The sums, and the largest.
    pub(super) fn columns(&self) -> [&[f64]; 2] {
        [&self.sums, &self.largest]
    }

    /// The same with its columns, which fit a layer of `neurons`; nothing if they do not.
    pub(super) fn with_columns(
        self,
        neurons: usize,
        [sums, largest]: [Vec<f64>; 2],
    ) -> Option<Self> {
        let count = self.slots.checked_mul(self.plane)?;
        let needed = |wanted: bool| if wanted { count } else { 0 };
        let plain = matches!(self.over_samples, Norm::P(p) if p <= PLAIN);
        let fits = sums.len() == needed(self.over_samples != Norm::Inf)
            && largest.len() == needed(!plain)
            && self.slots > 0
            && self.neurons == neurons;
        fits.then_some(Self {
            sums,
            largest,
            ..self
        })
    }

    /// One norm per cell and class (or over all classes, where they share): `[slots, P, F]`.
    fn means(&self, at: usize) -> f64 {
        let mean = |sum: f64, p| root(sum / self.samples.max(1) as f64, p);
        match self.over_samples {
            Norm::Inf => self.largest[at],
            Norm::P(p) if p <= PLAIN => mean(self.sums[at], p),
            Norm::P(p) => self.largest[at] * mean(self.sums[at], p),
        }
    }

    /// The score of each neuron; `factors` are what one unit of change is worth, per cell `[P, F]`.
    pub(super) fn scores(&self, factors: Option<&[f64]>) -> Vec<f64> {
        let factor = |cell: usize| factors.map_or(1.0, |factors| factors[cell]);
        let score = |neuron: usize| {
            let cells = (neuron..self.plane).step_by(self.neurons);
            let cells = cells.flat_map(|cell| (0..self.slots).map(move |slot| (slot, cell)));
            let means =
                cells.map(|(slot, cell)| self.means(slot * self.plane + cell) * factor(cell));
            self.over_classes.of(means)
        };
        (0..self.neurons).into_par_iter().map(score).collect()
    }
}

#[inline(always)]
fn add_all_scaled(sums: &mut [f64], largest: &mut [f64], values: &[f32], p: f64) {
    for ((sum, largest), value) in sums.iter_mut().zip(largest).zip(values) {
        add_scaled(sum, largest, f64::from(value.abs()), 1.0, p);
    }
}

fn keep_largest(largest: &mut [f64], values: &[f32]) {
    for (largest, value) in largest.iter_mut().zip(values) {
        *largest = largest.max(f64::from(value.abs()));
    }
}

#[inline(always)]
fn add_powers(sums: &mut [f64], values: &[f32], p: f64) {
    let pairs = sums.iter_mut().zip(values);
    // The common norms without a branch inside the loop.
    if p == 1.0 {
        pairs.for_each(|(sum, value)| *sum += f64::from(value.abs()));
    } else if p == 2.0 {
        pairs.for_each(|(sum, value)| *sum += f64::from(*value) * f64::from(*value));
    } else {
        pairs.for_each(|(sum, value)| *sum += power(f64::from(value.abs()), p));
    }
}

/// Adds `weight · value^p` to the sum `sum · largest^p`, without forming either power.
fn add_scaled(sum: &mut f64, largest: &mut f64, value: f64, weight: f64, p: f64) {
    if value == 0.0 {
        return;
    }
    if value <= *largest {
        *sum += weight * (value / *largest).powf(p);
    } else {
        *sum = *sum * (*largest / value).powf(p) + weight;
        *largest = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NORMS: [Norm; 7] = [
        Norm::P(1.0),
        Norm::P(2.0),
        Norm::P(3.5),
        Norm::P(6.0),
        Norm::P(6.5),
        Norm::P(200.0),
        Norm::Inf,
    ];

    /// `[R=2, B=4, P=1, F=3]`, far apart in size.
    fn cells(seed: u32) -> Cells {
        let number = |index: u32| {
            let mixed = (index + seed).wrapping_mul(2_654_435_761) >> 8;
            (mixed as f32 / 1e7 - 0.8) * 10_f32.powi((index % 5) as i32 - 2)
        };
        Cells {
            rows: 2,
            samples: 4,
            positions: 1,
            neurons: 3,
            present: vec![1; 3],
            occurrences: 1,
            inner: 1,
            values: (0..24).map(number).collect(),
        }
    }

    /// The definition, written out for one neuron.
    fn reference(cells: &Cells, (p, q): (Norm, Norm), neuron: usize) -> f64 {
        let class = |row: usize| {
            let values = (0..cells.samples).map(|n| f64::from(cells.of(row, n)[neuron].abs()));
            let values: Vec<f64> = values.collect();
            let count = values.len() as f64;
            match p {
                Norm::Inf => values.into_iter().fold(0.0, f64::max),
                Norm::P(p) => {
                    let top = values.iter().copied().fold(0.0, f64::max);
                    let sum: f64 = values.iter().map(|v| (v / top).powf(p)).sum();
                    top * (sum / count).powf(1.0 / p)
                }
            }
        };
        let classes = [class(0), class(1)];
        match q {
            Norm::Inf => classes[0].max(classes[1]),
            Norm::P(q) => {
                let top = classes[0].max(classes[1]);
                top * classes
                    .iter()
                    .map(|a| (a / top).powf(q))
                    .sum::<f64>()
                    .powf(1.0 / q)
            }
        }
    }

    fn assert_close(found: &[f64], expected: &[f64], what: &str) {
        for (found, expected) in found.iter().zip(expected) {
            let error = (found - expected).abs() / expected.abs();
            assert!(error < 1e-12, "{what}: {found} is not {expected}");
        }
    }

    #[test]
    fn sums_give_the_norms_of_the_definition() {
        for p in NORMS {
            for q in NORMS {
                let cells = cells(1);
                let mut sums = PowerSums::new((p, q), 2, &cells).unwrap();
                sums.add(0, 2, 4, &cells);
                sums.count(4);
                let expected: Vec<f64> = (0..3).map(|f| reference(&cells, (p, q), f)).collect();
                assert_close(&sums.scores(None), &expected, &format!("p {p}, q {q}"));
            }
        }
    }

    #[test]
    fn merged_halves_equal_the_whole() {
        for p in NORMS {
            for q in [p, Norm::P(1.0)] {
                let (one, two) = (cells(1), cells(99));
                let sums = |parts: &[&Cells]| {
                    let mut sums = PowerSums::new((p, q), 2, &one).unwrap();
                    for part in parts {
                        sums.add(0, 2, 4, part);
                        sums.count(4);
                    }
                    sums
                };
                let whole = sums(&[&one, &two]).scores(None);
                let mut merged = sums(&[&two]);
                merged.merge(&sums(&[&one]));
                assert_close(&merged.scores(None), &whole, &format!("p {p}, q {q}"));
                merged.merge(&sums(&[]));
                assert_close(&merged.scores(None), &whole, "nothing more");
            }
        }
    }

    #[test]
    fn large_powers_neither_overflow_nor_vanish() {
        for unit in [1e-30_f32, 1.0, 1e30] {
            let mut cells = cells(1);
            cells.values.fill(unit);
            let norms = (Norm::P(200.0), Norm::P(200.0));
            let mut sums = PowerSums::new(norms, 2, &cells).unwrap();
            sums.add(0, 2, 4, &cells);
            sums.count(4);
            let expected = f64::from(unit) * 2_f64.powf(1.0 / 200.0);
            assert_close(&sums.scores(None), &[expected; 3], "constant cells");
        }
    }

    #[test]
    fn factors_scale_and_filling_samples_are_left_out() {
        let cells = cells(1);
        let norms = (Norm::P(2.0), Norm::P(2.0));
        let mut sums = PowerSums::new(norms, 2, &cells).unwrap();
        sums.add(0, 1, 1, &cells);
        sums.count(1);
        let expected = [0, 1, 2].map(|f| f64::from(cells.of(0, 0)[f].abs()) * (f as f64 + 1.0));
        assert_close(&sums.scores(Some(&[1.0, 2.0, 3.0])), &expected, "factors");
    }

    #[test]
    fn a_norm_per_class_that_cannot_fit_is_refused() {
        let mut cells = cells(1);
        cells.positions = 1 << 20;
        let refused = PowerSums::new((Norm::P(2.0), Norm::Inf), 1000, &cells);
        assert!(refused.unwrap_err().to_string().contains("--over-classes"));
    }
}
