//! Matrix products over both cores.

use std::ops::Range;

use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis, Slice};

use super::doubles::{self, Half};

/// Rows and columns that are copied at a time.
const BLOCK: usize = 64;

/// A block of a matrix. (ndarray's `s!` expands to unsafe code, which this crate forbids.)
///
/// # Panics
/// When the ranges reach beyond the matrix.
pub fn part(
    mut of: ArrayView2<'_, f64>,
    rows: Range<usize>,
    columns: Range<usize>,
) -> ArrayView2<'_, f64> {
    of.slice_axis_inplace(Axis(0), Slice::from(rows));
    of.slice_axis_inplace(Axis(1), Slice::from(columns));
    of
}

/// As [`part`], to write to.
///
/// # Panics
/// As [`part`].
pub fn part_mut(
    mut of: ArrayViewMut2<'_, f64>,
    rows: Range<usize>,
    columns: Range<usize>,
) -> ArrayViewMut2<'_, f64> {
    of.slice_axis_inplace(Axis(0), Slice::from(rows));
    of.slice_axis_inplace(Axis(1), Slice::from(columns));
    of
}

/// `a·b`, `[M, K] x [K, N] -> [M, N]`. Transposed views are taken as they are.
pub fn product(a: ArrayView2<'_, f64>, b: ArrayView2<'_, f64>) -> Array2<f64> {
    let mut result = Array2::zeros((a.nrows(), b.ncols()));
    add_product(result.view_mut(), 1.0, a, b);
    result
}

/// `target += factor·a·b`.
pub(super) fn add_product(
    target: ArrayViewMut2<'_, f64>,
    factor: f64,
    a: ArrayView2<'_, f64>,
    b: ArrayView2<'_, f64>,
) {
    doubles::add(target, factor, a, b, Half::Both);
}

/// Adds `factor·rows^T·rows` of `rows` `[N, F]` to the lower triangle of `target` `[F, F]`; what is
/// above the diagonal is left undefined until [`symmetrise`].
pub fn add_gram(target: ArrayViewMut2<'_, f64>, factor: f64, rows: ArrayView2<'_, f64>) {
    doubles::add(target, factor, rows.t(), rows, Half::Lower);
}

/// Copies the lower triangle over the upper one.
pub fn symmetrise(matrix: &mut Array2<f64>) {
    let count = matrix.nrows();
    // Square blocks, so that the columns read are in the cache when the rows are written.
    for first in (0..count).step_by(BLOCK) {
        for start in (0..=first).step_by(BLOCK) {
            for row in first..(first + BLOCK).min(count) {
                for column in start..(start + BLOCK).min(row) {
                    matrix[[column, row]] = matrix[[row, column]];
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algebra::testing::{assert_close, random};

    #[test]
    fn products_equal_those_of_one_thread() {
        for (m, k, n) in [(1, 1, 1), (64, 3, 5), (65, 70, 2), (130, 200, 131)] {
            let (a, b) = (random(m, k, 1), random(k, n, 2));
            assert_close(&product(a.view(), b.view()), &a.dot(&b), 1e-13);
        }
    }

    #[test]
    fn gram_matrices_are_symmetric_products() {
        for (n, f) in [(3, 1), (5, 64), (200, 131)] {
            let rows = random(n, f, 3);
            let mut gram = Array2::zeros((f, f));
            add_gram(gram.view_mut(), 1.0, rows.view());
            add_gram(gram.view_mut(), -3.0, rows.view());
            symmetrise(&mut gram);
            assert_close(&gram, &(rows.t().dot(&rows) * -2.0), 1e-13);
        }
    }
}
