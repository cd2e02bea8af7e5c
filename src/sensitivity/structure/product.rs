//! The derivatives by what a dense layer reads, from those by what it makes: a product per group of
//! samples, without the units that take no part in it.

use std::ops::Range;

use ndarray::{Array2, Axis};
use rayon::prelude::*;

use super::{
    Bad,
    groups::{Group, Patterns},
    last::{Below, Task, first_error, tasks},
    matrix::Matrix,
    passes::Rows,
};
use crate::{
    algebra::{Extent, Panels, Side, Tile, multiply},
    sensitivity::power_sums::PowerSums,
};

/// Neurons that one task looks at: the weights of 2048 units to them are 1 MB.
const COLUMNS: usize = 128;

/// What is multiplied: per group, the rows that count of its samples, `[R, units]`.
pub(super) struct Factors<'f> {
    pub(super) weights: &'f Matrix,
    /// Rows of each sample K, and which of them count.
    pub(super) classes: usize,
    pub(super) counting: &'f Rows,
    pub(super) groups: &'f [Group],
    pub(super) rows: &'f [Array2<f32>],
    /// The place of the first sample among those of the batch.
    pub(super) first: usize,
}

/// A group's rows, as a factor.
struct Left {
    rows: Panels,
    /// Sample and class of each.
    samples: Vec<usize>,
    classes: Vec<usize>,
}

impl Factors<'_> {
    /// Adds the derivatives to `sums` and fills the rows below.
    pub(super) fn add(&self, sums: &mut [PowerSums], below: Option<Below<'_>>) -> Result<(), Bad> {
        let lefts = self.lefts();
        let tasks = tasks(self.weights.inputs(), COLUMNS, sums, below);
        let done = tasks
            .into_par_iter()
            .map_init(Panels::empty, |right, mut task| {
                let mut buffer = Vec::new();
                let mut found = Ok(());
                for (group, left) in self.groups.iter().zip(&lefts) {
                    let first = task.columns.start;
                    let size = (group.units.len(), task.columns.len());
                    right.fill(Side::Right, size, |at, part, target| {
                        let columns = first + part.start..first + part.end;
                        self.weights.read(group.units[at], columns, target);
                    });
                    multiply(&left.rows, right, Extent::All, &mut |tile| {
                        if found.is_ok() {
                            found = self.take(&mut task, left, tile, &mut buffer);
                        }
                    });
                }
                found
            });
        first_error(done.collect())
    }

    fn lefts(&self) -> Vec<Left> {
        let groups = self.groups.par_iter().zip(self.rows);
        let lefts = groups.map(|(group, rows)| {
            let samples = group.samples.iter();
            let labels = samples.flat_map(|&sample| {
                let counting = self.counting.of(self.first + sample).iter();
                counting.map(move |&class| (sample, class))
            });
            let (samples, classes) = labels.unzip();
            Left {
                rows: Panels::of_matrix(rows.view()),
                samples,
                classes,
            }
        });
        lefts.collect()
    }

    fn take(
        &self,
        task: &mut Task<'_>,
        left: &Left,
        tile: &Tile<'_>,
        buffer: &mut Vec<f32>,
    ) -> Result<(), Bad> {
        let rows = tile.row..tile.row + tile.rows;
        let (samples, classes) = (&left.samples[rows.clone()], &left.classes[rows]);
        let numbers = tile.numbers(buffer);
        task.add(tile.column, classes, numbers, tile.columns, |row| {
            self.first + samples[row]
        })?;
        if task.goes_on() {
            let lines = tile.lines().zip(samples).zip(classes);
            for ((line, &sample), class) in lines {
                let place = sample * self.classes + class;
                task.pass_on(tile.column, line, self.first + sample, place);
            }
        }
        Ok(())
    }

    /// Fills the rows below where they are not 0, without the derivatives of other neurons;
    /// `patterns` are those of the slopes below.
    pub(super) fn pass_on(&self, patterns: &Patterns, below: Below<'_>) {
        let Below { slopes, rows } = below;
        let lefts = self.lefts();
        let width = self.weights.inputs();
        let groups = self.groups.par_iter();
        let active: Vec<Vec<usize>> = groups.map(|group| patterns.any(&group.samples)).collect();
        let targets: Vec<_> = rows.axis_chunks_iter_mut(Axis(1), COLUMNS).collect();
        let targets = targets.into_par_iter().enumerate();
        targets.for_each_init(Panels::empty, |right, (block, mut target)| {
            target.fill(0.0);
            let start = block * COLUMNS;
            let columns = start..start + target.ncols();
            let mut all = vec![0.0; columns.len()];
            for ((group, left), active) in self.groups.iter().zip(&lefts).zip(&active) {
                let active = within(active, &columns);
                let size = (group.units.len(), active.len());
                right.fill(Side::Right, size, |at, part, target| {
                    let units = &active[part];
                    let (Some(&first), Some(&last)) = (units.first(), units.last()) else {
                        return;
                    };
                    let all = &mut all[..=last - first];
                    self.weights.read(group.units[at], first..last + 1, all);
                    let pairs = target.iter_mut().zip(units);
                    pairs.for_each(|(target, unit)| *target = all[unit - first]);
                });
                multiply(&left.rows, right, Extent::All, &mut |tile| {
                    let units = &active[tile.column..tile.column + tile.columns];
                    for (row, line) in (tile.row..).zip(tile.lines()) {
                        let sample = left.samples[row];
                        let slopes = &slopes[(self.first + sample) * width..][..width];
                        let mut target = target.row_mut(sample * self.classes + left.classes[row]);
                        for (&unit, value) in units.iter().zip(line) {
                            target[unit - start] = value * slopes[unit];
                        }
                    }
                });
            }
        });
    }
}

/// Those of `units` that are in `columns`.
fn within<'u>(units: &'u [usize], columns: &Range<usize>) -> &'u [usize] {
    let start = units.partition_point(|&unit| unit < columns.start);
    let end = units.partition_point(|&unit| unit < columns.end);
    &units[start..end]
}
