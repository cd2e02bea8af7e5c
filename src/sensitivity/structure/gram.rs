//! Sums of squares of derivatives without the derivatives, for p = q = 2.
//!
//! With g the derivative of a class score by what a dense layer makes, W its weights, and C the sum
//! of `g g^T` over samples and classes, the derivatives by what it reads are `g W`, and
//!
//! ```text
//! sum of s_i^2 = (W^T C W)_ii
//! ```
//!
//! C has one row per output of the layer, however many samples there are.

use std::ops::Range;

use ndarray::Array2;
use rayon::prelude::*;

use super::{groups::Group, matrix::Matrix, outer, passes::Pass};
use crate::algebra::{Extent, Loop, Panels, Side, Tile, Vectors, multiply, widest};

/// Rows of C that one task adds to.
const ROWS: usize = 128;

/// Columns of the weights that one task multiplies: of 4096 rows they are 1 MB.
const COLUMNS: usize = 64;

/// Widest layer whose C is held: 6144^2 f64 are 302 MB.
pub(super) const WIDEST: usize = 6144;

/// The sum of `g g^T`.
pub(super) struct Gram {
    width: usize,
    touched: bool,
    /// Row-major `[H, H]`; only its lower triangle is kept up.
    sums: Vec<f64>,
    room: outer::Room,
}

impl Gram {
    pub(super) fn new(width: usize) -> Self {
        Self {
            width,
            touched: false,
            sums: vec![0.0; width * width],
            room: outer::Room::default(),
        }
    }

    /// Whether nothing was added since it was last emptied.
    pub(super) fn is_empty(&self) -> bool {
        !self.touched
    }

    /// Adds the rows of groups: per group a matrix `[R, U]` whose columns are the group's units.
    pub(super) fn add(&mut self, groups: &[Group], rows: &[Array2<f32>]) {
        self.touched = true;
        let width = self.width;
        let rights = rows
            .par_iter()
            .map(|rows| panels(Side::Right, rows, 0..rows.ncols()));
        let rights: Vec<Panels> = rights.collect();
        let blocks = self.sums.par_chunks_mut(ROWS * width).enumerate();
        blocks.for_each(|(block, sums)| {
            let first = block * ROWS;
            for ((group, rows), right) in groups.iter().zip(rows).zip(&rights) {
                let start = group.units.partition_point(|&unit| unit < first);
                let end = group.units.partition_point(|&unit| unit < first + ROWS);
                if start == end {
                    continue;
                }
                let left = panels(Side::Left, rows, start..end);
                multiply(&left, right, Extent::Columns(end), &mut |tile| {
                    let units = group.units[start + tile.row..].iter();
                    let others = &group.units[tile.column..];
                    for (&unit, line) in units.zip(tile.lines()) {
                        let sums = &mut sums[(unit - first) * width..(unit - first + 1) * width];
                        for (&other, product) in others.iter().zip(line) {
                            sums[other] += f64::from(*product);
                        }
                    }
                });
            }
        });
    }

    /// Adds the rows of samples with few classes; `false` where a number is none.
    #[must_use]
    pub(super) fn add_outer(&mut self, last: &Matrix, pass: &Pass, batch: Range<usize>) -> bool {
        self.touched = true;
        outer::add(last, pass, batch, &mut self.sums, &mut self.room)
    }

    /// The sums of squares for every input of `weights`, and forgets the rows.
    ///
    /// The products are f32: normwise they are right to 1e-6, and only a neuron whose weights cancel
    /// to a thousandth of theirs would notice.
    pub(super) fn take_squares(&mut self, weights: &Matrix) -> Vec<f64> {
        let width = self.width;
        let largest = self.sums.iter().step_by(width + 1).copied();
        let largest = largest.fold(0.0, f64::max);
        let scale = if largest > 0.0 { largest } else { 1.0 };
        // Whatever else is in the line of a unit that no sample needs is 0, too.
        let units: Vec<usize> = (0..width)
            .filter(|&unit| self.sums[unit * width + unit] != 0.0)
            .collect();
        let units = units.as_slice();
        // (W^T C W)_ii takes every pair once: twice what is below the diagonal, and the diagonal.
        let triangle = Panels::of_lines((units.len(), units.len()), |row| {
            let line = &self.sums[units[row] * width..][..width];
            units[..=row]
                .iter()
                .enumerate()
                .map(move |(column, &unit)| {
                    let times = if column < row { 2.0 } else { 1.0 };
                    (times * line[unit] / scale) as f32
                })
        });
        let blocks: Vec<usize> = (0..weights.inputs()).step_by(COLUMNS).collect();
        let squares = blocks.par_iter().map_init(Panels::empty, |right, &first| {
            let columns = first..(first + COLUMNS).min(weights.inputs());
            squares(&triangle, (weights, units), columns, right)
        });
        let squares: Vec<Vec<f64>> = squares.collect();
        self.sums.fill(0.0);
        self.touched = false;
        let squares = squares.concat().into_iter();
        squares.map(|square| at_least_0(square) * scale).collect()
    }
}

fn squares(
    triangle: &Panels,
    (weights, units): (&Matrix, &[usize]),
    columns: Range<usize>,
    right: &mut Panels,
) -> Vec<f64> {
    let (size, first) = ((units.len(), columns.len()), columns.start);
    right.fill(Side::Right, size, |at, part, target| {
        weights.read(units[at], first + part.start..first + part.end, target);
    });
    let mut squares = vec![0.0; columns.len()];
    multiply(triangle, right, Extent::Triangle, &mut |tile| {
        widest(Close {
            tile,
            weights: right,
            squares: &mut squares[tile.column..tile.column + tile.columns],
        });
    });
    squares
}

/// Adds `(C W)_ui W_ui` of the units of a tile to the sums of its columns.
struct Close<'c> {
    /// Of `C W`.
    tile: &'c Tile<'c>,
    weights: &'c Panels,
    squares: &'c mut [f64],
}

impl Loop for Close<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vectors>(self) {
        let Self {
            tile,
            weights,
            squares,
        } = self;
        for (unit, line) in (tile.row..).zip(tile.lines()) {
            let weights = weights.part(unit, tile.column);
            let terms = squares.iter_mut().zip(line).zip(weights);
            terms.for_each(|((square, product), weight)| {
                *square += f64::from(*product) * f64::from(*weight);
            });
        }
    }
}

/// A sum of squares: what is 0 may come out as less by rounding; what is no number stays none.
pub(super) fn at_least_0(square: f64) -> f64 {
    if square < 0.0 { 0.0 } else { square }
}

/// Some columns of rows, for one side of a product over the rows.
fn panels(side: Side, rows: &Array2<f32>, columns: Range<usize>) -> Panels {
    let first = columns.start;
    Panels::of_rows(side, (rows.nrows(), columns.len()), |at, part, target| {
        let row = rows.row(at);
        let row = row.as_slice().unwrap_or_default();
        target.copy_from_slice(&row[first + part.start..first + part.end]);
    })
}
