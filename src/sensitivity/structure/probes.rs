//! Random rows in place of one row per class, for p = q = 2.
//!
//! With v_j = 1 or -1 at random, `E[(sum of v_j s_ji)^2] = sum of s_ji^2`: M such rows give an unbiased
//! estimate whose error falls with the square root of M times the number of samples (Hutchinson 1990).

use std::ops::Range;

use ndarray::{Array2, linalg::general_mat_mul};

use super::{last::Task, passes::Pass};

/// The coefficients of the class rows in each probe.
pub(super) struct Probes {
    /// Rows per sample M.
    pub(super) count: usize,
    /// `v_j f_j / sqrt(M)`, `[B·M, K]`.
    coefficients: Array2<f32>,
}

impl Probes {
    /// For the samples in `batch`, of which the first is sample `first` of all.
    pub(super) fn new(
        (count, seed): (usize, u64),
        pass: &Pass,
        batch: Range<usize>,
        first: u64,
        classes: usize,
    ) -> Self {
        let scale = (count as f32).sqrt().recip();
        let mut coefficients = Array2::zeros((batch.len() * count, classes));
        for (row, mut target) in coefficients.rows_mut().into_iter().enumerate() {
            let sample = batch.start + row / count;
            let number = (first + sample as u64) * count as u64 + (row % count) as u64;
            let signs: Vec<f32> = signs(seed, number).take(classes).collect();
            let factors = &pass.factors[sample * classes..(sample + 1) * classes];
            for &class in pass.rows.of(sample) {
                target[class] = signs[class] * factors[class] * scale;
            }
        }
        Self {
            count,
            coefficients,
        }
    }

    /// Fills the rows below a task: `sum of v_j f_j (W_j - m)`.
    pub(super) fn fill(
        &self,
        weights: &Array2<f32>,
        means: &Array2<f32>,
        first: usize,
        task: &mut Task<'_>,
    ) {
        let mut products = Array2::zeros((self.coefficients.nrows(), weights.ncols()));
        general_mat_mul(1.0, &self.coefficients, weights, 0.0, &mut products);
        let rows = products
            .rows_mut()
            .into_iter()
            .zip(self.coefficients.rows());
        for (place, (mut row, coefficients)) in rows.enumerate() {
            let sample = place / self.count;
            row.scaled_add(-coefficients.sum(), &means.row(sample));
            if let Some(row) = row.as_slice() {
                task.pass_on(0, row, first + sample, place);
            }
        }
    }
}

/// 1 or -1, class by class: one bit each, of numbers that are the same whatever the batches are.
pub(in super::super) fn signs(seed: u64, row: u64) -> impl Iterator<Item = f32> {
    let start = mixed(seed ^ mixed(row));
    let words = (0_u64..).map(move |word| mixed(start.wrapping_add(word)));
    words.flat_map(|word| {
        (0..u64::BITS).map(move |bit| if word >> bit & 1 == 1 { 1.0 } else { -1.0 })
    })
}

/// A number that looks random (splitmix64, Steele et al. 2014).
fn mixed(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
