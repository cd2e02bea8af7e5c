//! Heads of two dense layers with slopes of 0 and 1: the derivatives of one sample from those of another.
//!
//! The derivatives of the logits depend on nothing but which units are active, and like samples
//! differ in few. With L = W2 D W1, and u the units whose slope changes from one sample to the next,
//!
//! ```text
//! L'    = L + sum over u of (d'_u - d_u) W2_u W1_u
//! s_ji  = f_j (L_ji - sum over k of pi_k L_ki)
//! ```
//!
//! Behind Softmax, taking one row off all others changes nothing, so that row 0 of L is 0 and no
//! sum is kept for it. A dozen sums stay in registers while units come and go, and nothing has to be
//! packed for a product.

use std::ops::Range;

use rayon::prelude::*;

use super::{
    Bad,
    groups::Tree,
    last::{Task, first_error, tasks},
    matrix::Matrix,
    passes::Pass,
};
use crate::sensitivity::power_sums::PowerSums;

/// Columns that one task looks at.
const COLUMNS: usize = 32;

/// Columns and rows of L that are summed up in registers.
const LANES: usize = 16;
const ROWS: usize = 3;

/// Changes from an empty pattern after which sums start again: 2048 roundings are 1e-6 of the
/// largest term where they add up at random.
pub(super) const LONGEST: usize = 2048;

/// The two dense layers, and how samples follow one another.
pub(super) struct Neighbours<'n> {
    /// `[H, F]`.
    pub(super) below: &'n Matrix,
    /// `[K, H]`.
    pub(super) last: &'n Matrix,
    pub(super) tree: &'n Tree,
    /// Its slopes are 0 and 1.
    pub(super) pass: &'n Pass,
    /// The samples of the batch that the tree is over.
    pub(super) batch: Range<usize>,
}

/// Units whose slope changes, with the change.
type Changes = Vec<(usize, f32)>;

impl Neighbours<'_> {
    /// Adds the derivatives by what the first of the two layers reads.
    pub(super) fn add(&self, sums: &mut [PowerSums]) -> Result<(), Bad> {
        let changes: Vec<Changes> = self
            .tree
            .steps
            .par_iter()
            .map(|&(sample, from)| self.changes(sample, from))
            .collect();
        let rows = self.rows();
        let coefficients = self.coefficients(rows);
        let tasks = tasks(self.below.inputs(), COLUMNS, sums, None);
        let done = tasks
            .into_par_iter()
            .map(|task| self.work(task, &changes, &coefficients, rows));
        first_error(done.collect())
    }

    /// Rows of L, without the one that is 0, filled up to whole blocks.
    fn rows(&self) -> usize {
        let classes = self.last.outputs();
        let needed = classes - usize::from(self.pass.shares.is_some());
        needed.next_multiple_of(ROWS)
    }

    /// W2 by unit, `[H, rows]`, less its first row where that is taken off.
    fn coefficients(&self, rows: usize) -> Vec<f32> {
        let (classes, units) = (self.last.outputs(), self.last.inputs());
        let skipped = usize::from(self.pass.shares.is_some());
        let mut base = vec![0.0; units];
        if skipped == 1 {
            self.last.read(0, 0..units, &mut base);
        }
        let mut coefficients = vec![0.0; units * rows];
        let mut row = vec![0.0; units];
        for class in skipped..classes {
            self.last.read(class, 0..units, &mut row);
            for (unit, (weight, base)) in row.iter().zip(&base).enumerate() {
                coefficients[unit * rows + class - skipped] = weight - base;
            }
        }
        coefficients
    }

    fn of_sample(&self, sample: usize) -> &[f32] {
        let (units, at) = (self.last.inputs(), self.batch.start + sample);
        &self.pass.slopes[0][at * units..(at + 1) * units]
    }

    fn changes(&self, sample: usize, from: Option<usize>) -> Changes {
        let slopes = self.of_sample(sample).iter().enumerate();
        match from {
            None => slopes
                .filter(|(_, slope)| **slope != 0.0)
                .map(|(unit, &slope)| (unit, slope))
                .collect(),
            Some(from) => {
                let pairs = slopes.zip(self.of_sample(from));
                let differ = pairs.filter(|((_, now), before)| now != before);
                differ
                    .map(|((unit, now), before)| (unit, now - before))
                    .collect()
            }
        }
    }

    fn work(
        &self,
        mut task: Task<'_>,
        changes: &[Changes],
        coefficients: &[f32],
        rows: usize,
    ) -> Result<(), Bad> {
        let (classes, units) = (self.last.outputs(), self.last.inputs());
        let width = task.columns.len();
        // Two panels of 16 columns, each with all units one after the other.
        let mut panels = vec![[[0.0; LANES]; COLUMNS / LANES]; units];
        let mut row = vec![0.0; width];
        for (unit, panel) in panels.iter_mut().enumerate() {
            self.below.read(unit, task.columns.clone(), &mut row);
            let lanes = panel.as_flattened_mut();
            lanes[..width].copy_from_slice(&row);
        }
        let mut logits = vec![[0.0_f32; COLUMNS]; self.tree.steps.len() * rows];
        let mut found = vec![0.0; classes * width];
        for (&(sample, from), changes) in self.tree.steps.iter().zip(changes) {
            let source = from.map(|from| from * rows);
            for half in 0..COLUMNS / LANES {
                for block in (0..rows).step_by(ROWS) {
                    let mut sums = [[0.0; LANES]; ROWS];
                    if let Some(source) = source {
                        let from = &logits[source + block..source + block + ROWS];
                        for (sum, from) in sums.iter_mut().zip(from) {
                            sum.copy_from_slice(&from[half * LANES..(half + 1) * LANES]);
                        }
                    }
                    update(
                        &mut sums,
                        changes,
                        &panels,
                        half,
                        &coefficients[block..],
                        rows,
                    );
                    let target = &mut logits[sample * rows + block..sample * rows + block + ROWS];
                    for (sum, target) in sums.iter().zip(target) {
                        target[half * LANES..(half + 1) * LANES].copy_from_slice(sum);
                    }
                }
            }
            let sample_logits = &logits[sample * rows..(sample + 1) * rows];
            let at = self.batch.start + sample;
            let counting = self.pass.rows.of(at);
            let found = &mut found[..counting.len() * width];
            derivatives(self.pass, at, (classes, counting), sample_logits, found);
            task.take(counting, found, at, 0)?;
        }
        Ok(())
    }
}

/// Adds the changes to sums that stay in registers.
fn update(
    sums: &mut [[f32; LANES]; ROWS],
    changes: &[(usize, f32)],
    panels: &[[[f32; LANES]; COLUMNS / LANES]],
    half: usize,
    coefficients: &[f32],
    rows: usize,
) {
    let mut kept = *sums;
    for &(unit, change) in changes {
        let weights = &panels[unit][half];
        let factors = &coefficients[unit * rows..unit * rows + ROWS];
        for (sum, &factor) in kept.iter_mut().zip(factors) {
            let factor = factor * change;
            for (sum, weight) in sum.iter_mut().zip(weights) {
                *sum += factor * weight;
            }
        }
    }
    *sums = kept;
}

/// `f_j (L_j - sum of pi_k L_k)` for the classes that count, into rows as wide as the task.
fn derivatives(
    pass: &Pass,
    sample: usize,
    (classes, counting): (usize, &[usize]),
    logits: &[[f32; COLUMNS]],
    found: &mut [f32],
) {
    let factors = &pass.factors[sample * classes..(sample + 1) * classes];
    let mut mean = [0.0_f32; COLUMNS];
    let mut skipped = 0;
    if let Some(shares) = &pass.shares {
        skipped = 1;
        let shares = &shares[sample * classes + 1..(sample + 1) * classes];
        for (share, logits) in shares.iter().zip(logits) {
            let terms = mean.iter_mut().zip(logits);
            terms.for_each(|(mean, logit)| *mean += share * logit);
        }
    }
    let width = found.len() / counting.len().max(1);
    let rows = found.chunks_exact_mut(width.max(1)).zip(counting);
    for (target, &class) in rows {
        let factor = factors[class];
        let nothing = [0.0; COLUMNS];
        let row = match class.checked_sub(skipped) {
            Some(row) => &logits[row],
            None => &nothing,
        };
        let terms = target.iter_mut().zip(row).zip(&mean);
        terms.for_each(|((target, logit), mean)| *target = factor * (logit - mean));
    }
}
