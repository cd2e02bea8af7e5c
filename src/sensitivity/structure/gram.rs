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

use ndarray::{Array2, ArrayView2, Axis, Slice, linalg::general_mat_mul};
use rayon::prelude::*;

use super::{groups::Group, matrix::Matrix};

/// Rows of C that one task adds to.
const ROWS: usize = 128;

/// Columns of the weights that one task multiplies.
const COLUMNS: usize = 128;

/// Widest layer whose C is held: 6144^2 f64 are 302 MB.
pub(super) const WIDEST: usize = 6144;

/// The sum of `g g^T`.
pub(super) struct Gram {
    width: usize,
    touched: bool,
    /// Row-major `[H, H]`; only its lower triangle is kept up.
    sums: Vec<f64>,
}

impl Gram {
    pub(super) fn new(width: usize) -> Self {
        Self {
            width,
            touched: false,
            sums: vec![0.0; width * width],
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
        let blocks = self.sums.par_chunks_mut(ROWS * width).enumerate();
        blocks.for_each(|(block, sums)| {
            let first = block * ROWS;
            for (group, rows) in groups.iter().zip(rows) {
                let start = group.units.partition_point(|&unit| unit < first);
                let end = group.units.partition_point(|&unit| unit < first + ROWS);
                if start == end {
                    continue;
                }
                let mut products = Array2::zeros((end - start, end));
                let (left, right) = (columns(rows, start..end), columns(rows, 0..end));
                general_mat_mul(1.0, &left.t(), &right, 0.0, &mut products);
                for (&unit, products) in group.units[start..end].iter().zip(products.rows()) {
                    let sums = &mut sums[(unit - first) * width..(unit - first + 1) * width];
                    for (&other, product) in group.units[..end].iter().zip(products) {
                        sums[other] += f64::from(*product);
                    }
                }
            }
        });
    }

    /// The sums of squares for every input of `weights`, and forgets the rows.
    pub(super) fn take_squares(&mut self, weights: &Matrix) -> Vec<f64> {
        let width = self.width;
        // (W^T C W)_ii takes every pair once: twice what is below the diagonal, and the diagonal.
        for (row, sums) in self.sums.chunks_mut(width).enumerate() {
            sums[..row].iter_mut().for_each(|sum| *sum *= 2.0);
            sums[row + 1..].fill(0.0);
        }
        let blocks: Vec<usize> = (0..weights.inputs()).step_by(COLUMNS).collect();
        let squares = blocks.par_iter().map(|&first| {
            let columns = first..(first + COLUMNS).min(weights.inputs());
            self.squares(weights, columns)
        });
        let squares: Vec<Vec<f64>> = squares.collect();
        self.sums.fill(0.0);
        self.touched = false;
        squares.concat()
    }

    fn squares(&self, weights: &Matrix, columns: Range<usize>) -> Vec<f64> {
        let mut part = Array2::<f32>::zeros((self.width, columns.len()));
        weights.gather(0..self.width, columns.clone(), part.view_mut());
        let part = part.mapv(f64::from);
        let mut squares = vec![0.0; columns.len()];
        let mut products = Array2::zeros((ROWS.min(self.width), columns.len()));
        for (block, sums) in self.sums.chunks(ROWS * self.width).enumerate() {
            let first = block * ROWS;
            let count = sums.len() / self.width;
            let mut sums =
                ArrayView2::from_shape((count, self.width), sums).expect("the sums are whole rows");
            sums.slice_axis_inplace(Axis(1), Slice::from(..first + count));
            let mut above = part.view();
            above.slice_axis_inplace(Axis(0), Slice::from(..first + count));
            let mut products = products.view_mut();
            products.slice_axis_inplace(Axis(0), Slice::from(..count));
            general_mat_mul(1.0, &sums, &above, 0.0, &mut products);
            let mut beside = part.view();
            beside.slice_axis_inplace(Axis(0), Slice::from(first..first + count));
            for (products, weights) in products.rows().into_iter().zip(beside.rows()) {
                let terms = squares.iter_mut().zip(products).zip(weights);
                terms.for_each(|((square, product), weight)| *square += product * weight);
            }
        }
        // What is 0 may come out as less by rounding.
        squares
            .iter_mut()
            .for_each(|square| *square = f64::max(*square, 0.0));
        squares
    }
}

fn columns(of: &Array2<f32>, range: Range<usize>) -> ArrayView2<'_, f32> {
    let mut view = of.view();
    view.slice_axis_inplace(Axis(1), Slice::from(range));
    view
}
