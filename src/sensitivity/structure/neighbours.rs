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
//! sum is kept for it. The sums of sixteen columns stay in registers while units come and go, and
//! nothing has to be packed for a product.

use std::ops::Range;

use rayon::prelude::*;

use super::{
    Bad,
    groups::{Changes, Patterns, Tree},
    last::{Task, first_error, tasks},
    matrix::Matrix,
    passes::Pass,
};
use crate::{
    algebra::{Line, Loop, Vectors, widest},
    sensitivity::power_sums::PowerSums,
};

/// Columns that one task looks at, a line of the cache: those of 512 units are 32 kB.
const COLUMNS: usize = 16;

/// Most rows of L that are summed up in registers at once.
const MOST_ROWS: usize = 10;

/// Samples whose derivatives are taken at once: 10 kB of ten classes, and a sixteenth of the calls.
const TAKEN: usize = 16;

/// Changes from an empty pattern after which sums start again: 2048 roundings are 1e-6 of the
/// largest term where they add up at random.
pub(super) const LONGEST: usize = 2048;

/// The two dense layers, and how samples follow one another.
pub(super) struct Neighbours<'n> {
    /// `[H, F]`.
    pub(super) below: &'n Matrix,
    /// `[K, H]`.
    pub(super) last: &'n Matrix,
    pub(super) patterns: &'n Patterns,
    pub(super) tree: &'n Tree,
    /// Its slopes are 0 and 1.
    pub(super) pass: &'n Pass,
    /// The samples of the batch that the tree is over.
    pub(super) batch: Range<usize>,
}

/// Rows in blocks of one size, the last ones filled up.
#[derive(Clone, Copy)]
struct Blocks {
    count: usize,
    each: usize,
}

impl Blocks {
    fn all(self) -> usize {
        self.count * self.each
    }
}

impl Neighbours<'_> {
    /// Adds the derivatives by what the first of the two layers reads.
    pub(super) fn add(&self, sums: &mut [PowerSums]) -> Result<(), Bad> {
        let changes: Vec<Changes> = self
            .tree
            .steps
            .par_iter()
            .map(|&(sample, from)| self.patterns.changes(sample, from))
            .collect();
        let rows = self.rows();
        let coefficients = self.coefficients(rows.all());
        let tasks = tasks(self.below.inputs(), COLUMNS, sums, None);
        // Room for L is kept from one task to the next.
        let done = tasks.into_par_iter().map_init(Vec::new, |logits, task| {
            let coefficients = &coefficients;
            self.work(task, &changes, (coefficients, rows), logits)
        });
        first_error(done.collect())
    }

    /// Rows of L, without the one that is 0.
    fn rows(&self) -> Blocks {
        let classes = self.last.outputs();
        let needed = classes - usize::from(self.pass.shares.is_some());
        let count = needed.div_ceil(MOST_ROWS).max(1);
        Blocks {
            count,
            each: needed.div_ceil(count).max(1),
        }
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

    fn work(
        &self,
        task: Task<'_>,
        changes: &[Changes],
        (coefficients, rows): (&[f32], Blocks),
        logits: &mut Vec<Line>,
    ) -> Result<(), Bad> {
        logits.resize(self.tree.steps.len() * rows.all(), Line::ZERO);
        widest(Work {
            neighbours: self,
            task,
            changes,
            coefficients,
            rows,
            logits,
        })
    }
}

/// What one task does.
struct Work<'w, 't> {
    neighbours: &'w Neighbours<'w>,
    task: Task<'t>,
    changes: &'w [Changes],
    coefficients: &'w [f32],
    rows: Blocks,
    /// `[B, rows]`; what is read was written before.
    logits: &'w mut [Line],
}

impl Loop for Work<'_, '_> {
    type Output = Result<(), Bad>;

    #[inline(always)]
    fn run<V: Vectors>(self) -> Result<(), Bad> {
        // One instance for each size of blocks: their sums are to stay in registers.
        match self.rows.each {
            1 => self.in_blocks::<V, 1>(),
            2 => self.in_blocks::<V, 2>(),
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

impl Work<'_, '_> {
    #[inline(always)]
    fn in_blocks<V: Vectors, const R: usize>(mut self) -> Result<(), Bad> {
        let Neighbours {
            tree, pass, batch, ..
        } = self.neighbours;
        let (classes, rows) = (self.neighbours.last.outputs(), self.rows.all());
        let width = self.task.columns.len();
        let panel = self.panel();
        let logits = self.logits;
        let mut found = vec![0.0; TAKEN * classes * width];
        // Of each row that is taken.
        let (mut of_class, mut of_sample) = (Vec::new(), Vec::new());
        let steps: Vec<_> = tree.steps.iter().zip(self.changes).collect();
        for steps in steps.chunks(TAKEN) {
            of_class.clear();
            of_sample.clear();
            for &(&(sample, from), changes) in steps {
                for block in (0..rows).step_by(R) {
                    let mut sums = [Line::ZERO; R];
                    if let Some(from) = from {
                        let source = &logits[from * rows + block..];
                        sums.copy_from_slice(&source[..R]);
                    }
                    let coefficients = &self.coefficients[block..];
                    update::<V, R>(&mut sums, changes, &panel, coefficients, rows);
                    logits[sample * rows + block..][..R].copy_from_slice(&sums);
                }
                let logits = &logits[sample * rows..(sample + 1) * rows];
                let at = batch.start + sample;
                let counting = pass.rows.of(at);
                let found = &mut found[of_class.len() * width..][..counting.len() * width];
                derivatives::<V>(pass, at, (classes, counting), logits, found);
                of_class.extend_from_slice(counting);
                of_sample.resize(of_class.len(), at);
            }
            let found = &found[..of_class.len() * width];
            self.task
                .add(0, &of_class, found, width, |row| of_sample[row])?;
        }
        Ok(())
    }

    /// The task's columns of the weights, unit by unit.
    fn panel(&self) -> Vec<Line> {
        let columns = &self.task.columns;
        let mut panel = vec![Line::ZERO; self.neighbours.last.inputs()];
        for (unit, Line(weights)) in panel.iter_mut().enumerate() {
            let target = &mut weights[..columns.len()];
            self.neighbours.below.read(unit, columns.clone(), target);
        }
        panel
    }
}

/// Adds the changes to sums that stay in registers.
#[inline(always)]
fn update<V: Vectors, const R: usize>(
    sums: &mut [Line; R],
    changes: &[(u32, f32)],
    panel: &[Line],
    coefficients: &[f32],
    rows: usize,
) {
    let mut kept = *sums;
    for &(unit, change) in changes {
        let unit = unit as usize;
        let changed = panel[unit].0.map(|weight| weight * change);
        let factors: &[f32; R] = coefficients[unit * rows..]
            .first_chunk()
            .expect("whole blocks of rows");
        for (Line(sums), &factor) in kept.iter_mut().zip(factors) {
            for (sum, &weight) in sums.iter_mut().zip(&changed) {
                *sum = V::multiply_add(weight, factor, *sum);
            }
        }
    }
    *sums = kept;
}

/// `f_j (L_j - sum of pi_k L_k)` for the classes that count, into rows as wide as the task.
#[inline(always)]
fn derivatives<V: Vectors>(
    pass: &Pass,
    sample: usize,
    (classes, counting): (usize, &[usize]),
    logits: &[Line],
    found: &mut [f32],
) {
    let factors = &pass.factors[sample * classes..(sample + 1) * classes];
    let mut mean = [0.0_f32; COLUMNS];
    let mut skipped = 0;
    if let Some(shares) = &pass.shares {
        skipped = 1;
        let shares = &shares[sample * classes + 1..(sample + 1) * classes];
        for (share, Line(logits)) in shares.iter().zip(logits) {
            let terms = mean.iter_mut().zip(logits);
            terms.for_each(|(mean, logit)| *mean = V::multiply_add(*share, *logit, *mean));
        }
    }
    let width = found.len() / counting.len().max(1);
    let rows = found.chunks_exact_mut(width.max(1)).zip(counting);
    for (target, &class) in rows {
        let factor = factors[class];
        let nothing = [0.0; COLUMNS];
        let row = match class.checked_sub(skipped) {
            Some(row) => &logits[row].0,
            None => &nothing,
        };
        let terms = target.iter_mut().zip(row).zip(&mean);
        terms.for_each(|((target, logit), mean)| *target = factor * (logit - mean));
    }
}
