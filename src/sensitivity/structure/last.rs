//! The derivatives by what the last dense layer reads, in closed form.
//!
//! ```text
//! s_ji = f_j (W_ji - m_i)        f_j = pi_j, m = pi W behind Softmax
//!                                f_j = pi_j (1 - pi_j), m = 0 behind Sigmoid; f_j = 1, m = 0 else
//! ```

use std::ops::Range;

use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis, linalg::general_mat_mul};
use rayon::prelude::*;

use super::{Bad, matrix::Matrix, passes::Pass, probes::Probes};
use crate::{
    algebra::{Loop, Vectors, widest},
    sensitivity::power_sums::{Part, PowerSums},
};

/// Neurons that one task looks at: the weights of 1000 classes to them are 1 MB.
const COLUMNS: usize = 256;

/// Rows that are made and taken at a time: 16 kB, so that they are still near when they are taken.
const ROWS: usize = 16;

/// Where derivatives go on to: the slopes behind them `[B, H]`, and the rows `[B·K, H]` to fill.
pub(super) struct Below<'b> {
    pub(super) slopes: &'b [f32],
    pub(super) rows: &'b mut Array2<f32>,
}

/// Adds the derivatives of the samples in `batch` to `sums`, and fills the rows below: with those of
/// the classes, or with `probes` of them.
pub(super) fn add(
    weights: &Matrix,
    pass: &Pass,
    batch: Range<usize>,
    sums: &mut [PowerSums],
    below: Option<Below<'_>>,
    probes: Option<&Probes>,
) -> Result<(), Bad> {
    let tasks = tasks(weights.inputs(), COLUMNS, sums, below);
    let classes = weights.outputs();
    let shares = pass.shares.as_ref().map(|shares| {
        let part = &shares[batch.start * classes..batch.end * classes];
        ArrayView2::from_shape((batch.len(), classes), part).expect("one share per class")
    });
    let done = tasks.into_par_iter().map(|mut task| {
        let width = task.columns.len();
        let mut part = Array2::zeros((classes, width));
        weights.gather(0..classes, task.columns.clone(), part.view_mut());
        let mut means = Array2::zeros((batch.len(), width));
        if let Some(shares) = &shares {
            general_mat_mul(1.0, shares, &part, 0.0, &mut means);
        }
        if let Some(probes) = probes {
            probes.fill(&part, &means, batch.start, &mut task);
            // The classes' own rows go no further.
            task.below = None;
        }
        let mut rows = vec![0.0; ROWS * width];
        for (at, (sample, means)) in batch.clone().zip(means.rows()).enumerate() {
            for counting in pass.rows.of(sample).chunks(ROWS) {
                let rows = &mut rows[..counting.len() * width];
                widest(Rows {
                    factors: &pass.factors[sample * classes..(sample + 1) * classes],
                    weights: part.as_slice().unwrap_or_default(),
                    means: means.to_slice().unwrap_or_default(),
                    classes: counting,
                    rows,
                });
                task.take(counting, rows, sample, at * classes)?;
            }
        }
        Ok(())
    });
    first_error(done.collect())
}

/// Derivatives of one sample, one row for each of some classes.
struct Rows<'r> {
    factors: &'r [f32],
    /// `[K, columns]`.
    weights: &'r [f32],
    means: &'r [f32],
    classes: &'r [usize],
    rows: &'r mut [f32],
}

impl Loop for Rows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vectors>(self) {
        let width = self.means.len();
        let rows = self.rows.chunks_exact_mut(width).zip(self.classes);
        for (target, &class) in rows {
            let factor = self.factors[class];
            let weights = &self.weights[class * width..(class + 1) * width];
            let terms = target.iter_mut().zip(weights).zip(self.means);
            terms.for_each(|((target, weight), mean)| *target = factor * (weight - mean));
        }
    }
}

/// Neighbouring neurons of a layer, for one task.
pub(super) struct Task<'t> {
    pub(super) columns: Range<usize>,
    /// One per pair of norms.
    pub(super) parts: Vec<Part<'t>>,
    /// Slopes of all neurons, and rows of these.
    below: Option<(&'t [f32], ArrayViewMut2<'t, f32>)>,
    /// Neurons of the layer.
    width: usize,
}

/// Divides a layer's neurons, `columns` at a time.
pub(super) fn tasks<'t>(
    width: usize,
    columns: usize,
    sums: &'t mut [PowerSums],
    below: Option<Below<'t>>,
) -> Vec<Task<'t>> {
    let mut parts: Vec<_> = sums
        .iter_mut()
        .map(|sums| sums.parts(columns).into_iter())
        .collect();
    let (slopes, mut rows) = match below {
        Some(Below { slopes, rows }) => (slopes, Some(rows.axis_chunks_iter_mut(Axis(1), columns))),
        None => (&[][..], None),
    };
    let starts = (0..width).step_by(columns);
    let tasks = starts.map(|start| Task {
        columns: start..(start + columns).min(width),
        parts: parts.iter_mut().filter_map(Iterator::next).collect(),
        below: rows
            .as_mut()
            .and_then(Iterator::next)
            .map(|rows| (slopes, rows)),
        width,
    });
    tasks.collect()
}

impl Task<'_> {
    /// Takes derivatives `[R, columns]` of one sample, one row for each of `classes`; they go on
    /// below as rows from `place` on, by class.
    pub(super) fn take(
        &mut self,
        classes: &[usize],
        rows: &[f32],
        sample: usize,
        place: usize,
    ) -> Result<(), Bad> {
        let width = self.columns.len();
        self.add(0, classes, rows, width, |_| sample)?;
        if self.below.is_some() {
            for (&class, row) in classes.iter().zip(rows.chunks_exact(width)) {
                self.pass_on(0, row, sample, place + class);
            }
        }
        Ok(())
    }

    /// Adds derivatives `[R, width]` of the neurons from the task's `first` on to the sums;
    /// `sample` tells the sample of a row.
    pub(super) fn add(
        &mut self,
        first: usize,
        classes: &[usize],
        rows: &[f32],
        width: usize,
        sample: impl Fn(usize) -> usize,
    ) -> Result<(), Bad> {
        if !are_finite(rows) {
            let bad = rows.iter().enumerate();
            let bad = bad.filter(|(_, value)| !value.is_finite());
            let places = bad.map(|(at, _)| (at % width, at / width));
            let (column, row) = places.min().unwrap_or_default();
            return Err(Bad {
                neuron: self.columns.start + first + column,
                sample: Some(sample(row)),
            });
        }
        for part in &mut self.parts {
            part.add(first, classes, rows, width);
        }
        Ok(())
    }

    /// A row goes on below from the task's neuron `first` on, times the slopes of its sample.
    pub(super) fn pass_on(&mut self, first: usize, row: &[f32], sample: usize, place: usize) {
        if let Some((slopes, below)) = &mut self.below {
            let at = sample * self.width + self.columns.start + first;
            let slopes = &slopes[at..at + row.len()];
            let target = below.row_mut(place).into_slice();
            let target = target.expect("a row of neighbouring columns");
            let terms = target[first..].iter_mut().zip(row).zip(slopes);
            terms.for_each(|((target, value), slope)| *target = value * slope);
        }
    }

    /// Whether derivatives go on.
    pub(super) fn goes_on(&self) -> bool {
        self.below.is_some()
    }
}

/// Without a branch per number.
pub(super) fn are_finite(values: &[f32]) -> bool {
    widest(Finite(values))
}

struct Finite<'f>(&'f [f32]);

impl Loop for Finite<'_> {
    type Output = bool;

    #[inline(always)]
    fn run<V: Vectors>(self) -> bool {
        const EXPONENT: u32 = 0x7f80_0000;
        let finite = |value: &f32| value.to_bits() & EXPONENT != EXPONENT;
        self.0.iter().fold(true, |all, value| all & finite(value))
    }
}

/// The first of the errors, in the order of the neurons.
pub(super) fn first_error(results: Vec<Result<(), Bad>>) -> Result<(), Bad> {
    results.into_iter().collect()
}
