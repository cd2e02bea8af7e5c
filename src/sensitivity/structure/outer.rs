//! Gram matrices of heads with few classes, sample by sample.
//!
//! What one sample adds is the product of its K rows with themselves, and only where its active units
//! meet: for ten classes that is too little to be worth gathering, comparing and packing. The rows of
//! a sample lie in the nearest cache; each active unit's line of the matrix is read and written once.

use std::ops::Range;

use rayon::prelude::*;

use super::{last::are_finite, matrix::Matrix, passes::Pass};
use crate::algebra::{Loop, Vectors, widest};

/// Most classes; their rows of 512 units are then 64 kB.
const CLASSES: usize = 32;

/// Most units; their matrix is then 4 MB.
const UNITS: usize = 1024;

/// Samples whose products are added in f32 before they go to an f64: 128 roundings, which add up to
/// 7e-7 where they are random.
const TOGETHER: usize = 128;

/// Most rows of a sample whose numbers stay in registers at once.
const MOST_ROWS: usize = 10;

/// Units are filled up to whole vectors of the widest kind.
const LANES: usize = 16;

/// Whether this way is for heads like that.
pub(super) fn is_for(classes: usize, units: usize) -> bool {
    classes <= CLASSES && units <= UNITS
}

/// Adds the products of the samples in `batch` to `sums` `[H, H]`, of which only the lower triangle is
/// kept up; `last` are the weights `[K, H]` behind the units. `false` where a number is none.
#[must_use]
pub(super) fn add(last: &Matrix, pass: &Pass, batch: Range<usize>, sums: &mut [f64]) -> bool {
    let units = last.inputs();
    let weights = weights(last);
    let parts: Vec<usize> = batch.clone().step_by(TOGETHER).collect();
    let found = parts.par_iter().map(|&start| {
        let samples = start..(start + TOGETHER).min(batch.end);
        widest(Outer {
            weights: &weights,
            classes: last.outputs(),
            units,
            pass,
            samples,
        })
    });
    let found: Vec<Vec<f32>> = found.collect();
    let stride = padded(units);
    let rows = sums.par_chunks_mut(units).enumerate();
    rows.for_each(|(unit, sums)| {
        for found in &found {
            let found = &found[unit * stride..];
            let pairs = sums[..=unit].iter_mut().zip(found);
            pairs.for_each(|(sum, &product)| *sum += f64::from(product));
        }
    });
    found.iter().all(|found| are_finite(found))
}

fn padded(units: usize) -> usize {
    units.next_multiple_of(LANES)
}

/// `[K, H]` in whole vectors.
fn weights(last: &Matrix) -> Vec<f32> {
    let (classes, units) = (last.outputs(), last.inputs());
    let stride = padded(units);
    let mut weights = vec![0.0; classes * stride];
    for (class, row) in weights.chunks_exact_mut(stride).enumerate() {
        last.read(class, 0..units, &mut row[..units]);
    }
    weights
}

/// Some samples, one after the other.
struct Outer<'o> {
    weights: &'o [f32],
    classes: usize,
    units: usize,
    pass: &'o Pass,
    samples: Range<usize>,
}

impl Loop for Outer<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn run<V: Vectors>(self) -> Vec<f32> {
        // One instance for each size of blocks: their factors are to stay in registers.
        let blocks = self.classes.div_ceil(MOST_ROWS);
        match self.classes.div_ceil(blocks) {
            ..=2 => self.in_blocks::<V, 2>(),
            3 => self.in_blocks::<V, 3>(),
            4 => self.in_blocks::<V, 4>(),
            5 => self.in_blocks::<V, 5>(),
            6 => self.in_blocks::<V, 6>(),
            7 => self.in_blocks::<V, 7>(),
            8 => self.in_blocks::<V, 8>(),
            9 => self.in_blocks::<V, 9>(),
            _ => self.in_blocks::<V, MOST_ROWS>(),
        }
    }
}

impl Outer<'_> {
    #[inline(always)]
    fn in_blocks<V: Vectors, const R: usize>(self) -> Vec<f32> {
        let stride = padded(self.units);
        let mut sums = vec![0.0; self.units * stride];
        let mut mean = vec![0.0; stride];
        // By block, by vector of units, by row of the block.
        let vectors = stride / LANES;
        let mut rows = vec![[[0.0; LANES]; R]; self.classes.div_ceil(R) * vectors];
        for sample in self.samples.clone() {
            self.fill::<V, R>(sample, &mut mean, &mut rows);
            let slopes = &self.pass.slopes[0][sample * self.units..(sample + 1) * self.units];
            let active = slopes.iter().enumerate();
            for (unit, _) in active.filter(|(_, slope)| **slope != 0.0) {
                let (line, _) = sums[unit * stride..(unit + 1) * stride].as_chunks_mut();
                let line = &mut line[..=unit / LANES];
                for rows in rows.chunks_exact(vectors) {
                    add_rows::<V, R>(line, rows, unit);
                }
            }
        }
        sums
    }

    /// Computes the rows of a sample; those that do not count are 0.
    #[inline(always)]
    fn fill<V: Vectors, const R: usize>(
        &self,
        sample: usize,
        mean: &mut [f32],
        rows: &mut [[[f32; LANES]; R]],
    ) {
        let (stride, vectors) = (mean.len(), mean.len() / LANES);
        let classes = sample * self.classes..(sample + 1) * self.classes;
        if let Some(shares) = &self.pass.shares {
            mean.fill(0.0);
            let shares = shares[classes.clone()].iter();
            for (&share, weights) in shares.zip(self.weights.chunks_exact(stride)) {
                let terms = mean.iter_mut().zip(weights);
                terms.for_each(|(mean, weight)| *mean = V::multiply_add(share, *weight, *mean));
            }
        }
        let counting = self.pass.rows.of(sample);
        if counting.len() < self.classes {
            rows.fill([[0.0; LANES]; R]);
        }
        let factors = &self.pass.factors[classes];
        let slopes = &self.pass.slopes[0][sample * self.units..(sample + 1) * self.units];
        for &class in counting {
            let factor = factors[class];
            let block = &mut rows[class / R * vectors..][..vectors];
            let weights = self.weights[class * stride..].chunks_exact(LANES);
            let terms = block.iter_mut().zip(weights).zip(mean.chunks_exact(LANES));
            for (((target, weights), mean), slopes) in terms.zip(slopes.chunks(LANES)) {
                let terms = target[class % R].iter_mut().zip(weights).zip(mean);
                for (((target, weight), mean), slope) in terms.zip(slopes) {
                    *target = factor * (weight - mean) * slope;
                }
            }
        }
    }
}

/// Adds what a unit makes with the units up to it, over `R` rows, to its line.
#[inline(always)]
fn add_rows<V: Vectors, const R: usize>(
    line: &mut [[f32; LANES]],
    rows: &[[[f32; LANES]; R]],
    unit: usize,
) {
    let own = &rows[unit / LANES];
    let mut factors = [V::splat(0.0); R];
    for (factor, row) in factors.iter_mut().zip(own) {
        *factor = V::splat(row[unit % LANES]);
    }
    for (sums, rows) in line.iter_mut().zip(rows) {
        for at in (0..LANES).step_by(V::LANES) {
            let mut kept = V::load(&sums[at..]);
            for (row, &factor) in rows.iter().zip(&factors) {
                kept = V::add_product(V::load(&row[at..]), factor, kept);
            }
            V::store(kept, &mut sums[at..]);
        }
    }
}
