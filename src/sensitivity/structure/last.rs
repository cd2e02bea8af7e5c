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
use crate::sensitivity::power_sums::{Part, PowerSums};

/// Neurons that one task looks at: 1000 rows of them are 1 MB.
const COLUMNS: usize = 256;

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
        let mut rows = vec![0.0; classes * width];
        for (at, (sample, means)) in batch.clone().zip(means.rows()).enumerate() {
            let factors = &pass.factors[sample * classes..(sample + 1) * classes];
            let counting = pass.rows.of(sample);
            let rows = &mut rows[..counting.len() * width];
            for (target, &class) in rows.chunks_exact_mut(width).zip(counting) {
                let factor = factors[class];
                let terms = target.iter_mut().zip(part.row(class)).zip(means);
                terms.for_each(|((target, weight), mean)| *target = factor * (weight - mean));
            }
            task.take(counting, rows, sample, at * classes)?;
        }
        Ok(())
    });
    first_error(done.collect())
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
        if !are_finite(rows) {
            let bad = rows
                .iter()
                .enumerate()
                .filter(|(_, value)| !value.is_finite());
            let column = bad.map(|(at, _)| at % width).min().unwrap_or_default();
            return Err(Bad {
                neuron: self.columns.start + column,
                sample: Some(sample),
            });
        }
        for part in &mut self.parts {
            part.add(classes, rows, width);
        }
        if self.below.is_some() {
            for (&class, row) in classes.iter().zip(rows.chunks_exact(width)) {
                self.pass_on(row, sample, place + class);
            }
        }
        Ok(())
    }

    /// A row goes on below, times the slopes of its sample.
    pub(super) fn pass_on(&mut self, row: &[f32], sample: usize, place: usize) {
        if let Some((slopes, below)) = &mut self.below {
            let at = sample * self.width;
            let slopes = &slopes[at + self.columns.start..at + self.columns.end];
            let mut target = below.row_mut(place);
            let terms = target.iter_mut().zip(row).zip(slopes);
            terms.for_each(|((target, value), slope)| *target = value * slope);
        }
    }
}

/// Without a branch per number.
pub(super) fn are_finite(values: &[f32]) -> bool {
    const EXPONENT: u32 = 0x7f80_0000;
    let finite = |value: &f32| value.to_bits() & EXPONENT != EXPONENT;
    values.iter().fold(true, |all, value| all & finite(value))
}

/// The first of the errors, in the order of the neurons.
pub(super) fn first_error(results: Vec<Result<(), Bad>>) -> Result<(), Bad> {
    results.into_iter().collect()
}
