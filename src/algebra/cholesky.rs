//! Cholesky factors `A = L·L^T`, block by block over both cores.
//!
//! Right-looking: a block of columns is factored, then the rest loses its products, which is where
//! the time goes (Golub & Van Loan, Matrix Computations, 4.2.9). The inverses of the triangles on
//! the diagonal are kept, so that substitution is products too.

use std::{fmt, ops::Range};

use ndarray::Array2;

use super::product::{add_gram, add_product, part, part_mut, product, symmetrise};
use super::{Loop, Vectors, widest};

/// Columns of a block.
const PANEL: usize = 64;

/// The factor of a symmetric positive definite matrix.
#[derive(Clone, Debug)]
pub struct Cholesky {
    /// L in the lower triangle; above it, nothing of meaning.
    factor: Array2<f64>,
    /// The inverse of L's triangle on the diagonal, per block.
    inverses: Vec<Array2<f64>>,
}

/// A matrix that has no factor, or only one of rounding errors.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NotPositiveDefinite {
    /// The row whose pivot is not above rounding: a combination of those before it, or NaN.
    pub pivot: usize,
    /// What was left of its diagonal element.
    pub value: f64,
}

impl fmt::Display for NotPositiveDefinite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the matrix is not positive definite: pivot {} is {:e}",
            self.pivot, self.value
        )
    }
}

impl std::error::Error for NotPositiveDefinite {}

impl Cholesky {
    /// Factors `matrix` `[n, n]`, of which only the lower triangle is read.
    ///
    /// # Errors
    /// [`NotPositiveDefinite`] where a pivot is not above `n·eps` of its diagonal element.
    ///
    /// # Panics
    /// When the matrix is not square.
    pub fn factor(matrix: &Array2<f64>) -> Result<Self, NotPositiveDefinite> {
        Self::of(matrix.as_standard_layout().into_owned())
    }

    /// As [`Cholesky::factor`], in place.
    ///
    /// # Errors
    /// As [`Cholesky::factor`].
    ///
    /// # Panics
    /// When the matrix is not square.
    pub fn of(mut factor: Array2<f64>) -> Result<Self, NotPositiveDefinite> {
        assert!(factor.is_square(), "a square matrix");
        let count = factor.nrows();
        let rounding = f64::EPSILON * count as f64;
        let smallest: Vec<f64> = factor.diag().iter().map(|value| value * rounding).collect();
        let mut inverses = Vec::new();
        for panel in panels(count) {
            let Range { start, end } = panel.clone();
            let mut corner = part(factor.view(), panel.clone(), panel.clone()).to_owned();
            factor_small(&mut corner, &smallest[panel.clone()]).map_err(|failed| {
                let pivot = start + failed.pivot;
                NotPositiveDefinite { pivot, ..failed }
            })?;
            part_mut(factor.view_mut(), panel.clone(), panel.clone()).assign(&corner);
            let inverse = invert_small(&corner);
            // L_21 = A_21 L_11^-T
            let mut below = part_mut(factor.view_mut(), end..count, panel);
            let left = product(below.view(), inverse.t());
            below.assign(&left);
            let rest = part_mut(factor.view_mut(), end..count, end..count);
            add_gram(rest, -1.0, left.t());
            inverses.push(inverse);
        }
        Ok(Self { factor, inverses })
    }

    /// Order n of the matrix.
    pub fn order(&self) -> usize {
        self.factor.nrows()
    }

    /// L itself, zeros above its diagonal.
    pub fn into_factor(mut self) -> Array2<f64> {
        for (at, mut row) in self.factor.rows_mut().into_iter().enumerate() {
            row.iter_mut().skip(at + 1).for_each(|value| *value = 0.0);
        }
        self.factor
    }

    /// `A^-1·b`, `[n, n] x [n, M] -> [n, M]`.
    ///
    /// # Panics
    /// When `b` has not n rows.
    pub fn solve(&self, b: &Array2<f64>) -> Array2<f64> {
        self.back(self.forward(b))
    }

    /// `L^-T·b`, `[n, n] x [n, M] -> [n, M]`.
    ///
    /// # Panics
    /// When `b` has not n rows.
    pub fn backward(&self, b: &Array2<f64>) -> Array2<f64> {
        assert_eq!(b.nrows(), self.order(), "as many rows as the matrix");
        self.back(b.as_standard_layout().into_owned())
    }

    fn back(&self, mut x: Array2<f64>) -> Array2<f64> {
        let (count, width) = x.dim();
        let steps: Vec<_> = panels(count).zip(&self.inverses).collect();
        for (panel, inverse) in steps.iter().rev() {
            let rows = product(inverse.t(), part(x.view(), panel.clone(), 0..width));
            let left = part(self.factor.view(), panel.clone(), 0..panel.start);
            let rest = part_mut(x.view_mut(), 0..panel.start, 0..width);
            add_product(rest, -1.0, left.t(), rows.view());
            part_mut(x.view_mut(), panel.clone(), 0..width).assign(&rows);
        }
        x
    }

    /// `L^-1·b`, `[n, n] x [n, M] -> [n, M]`: its columns' products are those of `b` in `A^-1`.
    ///
    /// # Panics
    /// When `b` has not n rows.
    pub fn forward(&self, b: &Array2<f64>) -> Array2<f64> {
        self.forward_of(b.as_standard_layout().into_owned())
    }

    /// As [`Cholesky::forward`], in place.
    ///
    /// # Panics
    /// When `b` has not n rows.
    pub fn forward_of(&self, b: Array2<f64>) -> Array2<f64> {
        let (count, width) = b.dim();
        assert_eq!(count, self.order(), "as many rows as the matrix");
        let mut x = b;
        for (panel, inverse) in panels(count).zip(&self.inverses) {
            let rows = product(inverse.view(), part(x.view(), panel.clone(), 0..width));
            let below = part(self.factor.view(), panel.end..count, panel.clone());
            let rest = part_mut(x.view_mut(), panel.end..count, 0..width);
            add_product(rest, -1.0, below, rows.view());
            part_mut(x.view_mut(), panel, 0..width).assign(&rows);
        }
        x
    }

    /// `A^-1`, symmetric, `[n, n]`.
    ///
    /// The rows of `L^-1` come block by block from forward substitution, and each block's share of
    /// `L^-T·L^-1` is added at once to the rows that are done: no third matrix is held.
    pub fn inverse(&self) -> Array2<f64> {
        let count = self.order();
        let mut result: Array2<f64> = Array2::eye(count);
        for (panel, inverse) in panels(count).zip(&self.inverses) {
            let end = panel.end;
            let mut place = part_mut(result.view_mut(), panel.clone(), 0..end);
            let rows = product(inverse.view(), place.view());
            place.fill(0.0);
            let below = part(self.factor.view(), end..count, panel);
            let rest = part_mut(result.view_mut(), end..count, 0..end);
            add_product(rest, -1.0, below, rows.view());
            add_gram(
                part_mut(result.view_mut(), 0..end, 0..end),
                1.0,
                rows.view(),
            );
        }
        symmetrise(&mut result);
        result
    }
}

fn panels(count: usize) -> impl Iterator<Item = Range<usize>> {
    let firsts = (0..count).step_by(PANEL);
    firsts.map(move |first| first..(first + PANEL).min(count))
}

/// L of one block; what is above the diagonal becomes 0.
///
/// The transpose is worked on: what each column takes from those behind it then lies in rows.
fn factor_small(a: &mut Array2<f64>, smallest: &[f64]) -> Result<(), NotPositiveDefinite> {
    let count = a.nrows();
    let mut upper: Vec<f64> = a.t().iter().copied().collect();
    let mut behind = upper.as_mut_slice();
    for (pivot, smallest) in smallest.iter().enumerate() {
        let (row, rest) = behind.split_at_mut(count);
        let row = &mut row[pivot..];
        let value = row[0];
        // Also false for NaN.
        if !(value > *smallest && value.is_finite()) {
            return Err(NotPositiveDefinite { pivot, value });
        }
        row.iter_mut().for_each(|number| *number /= value.sqrt());
        widest(Take {
            row: &row[1..],
            rest,
            count,
        });
        behind = rest;
    }
    for ((row, column), value) in a.indexed_iter_mut() {
        *value = if column > row {
            0.0
        } else {
            upper[column * count + row]
        };
    }
    Ok(())
}

/// Takes the products of a row from the triangle below it, all of whose rows have `count` numbers.
struct Take<'r> {
    row: &'r [f64],
    rest: &'r mut [f64],
    count: usize,
}

impl Loop for Take<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vectors>(self) {
        let first = self.count - self.row.len();
        for (at, other) in self.rest.chunks_exact_mut(self.count).enumerate() {
            let row = &self.row[at..];
            let other = &mut other[first + at..];
            for (number, value) in other.iter_mut().zip(row) {
                *number = V::multiply_add_double(-row[0], *value, *number);
            }
        }
    }
}

/// The inverse of a lower triangle.
fn invert_small(triangle: &Array2<f64>) -> Array2<f64> {
    let count = triangle.nrows();
    let mut inverse = Array2::<f64>::eye(count);
    if let Some(numbers) = inverse.as_slice_mut() {
        widest(Invert { triangle, numbers });
    }
    inverse
}

struct Invert<'t> {
    triangle: &'t Array2<f64>,
    /// The unit matrix, which becomes the inverse.
    numbers: &'t mut [f64],
}

impl Loop for Invert<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vectors>(self) {
        let count = self.triangle.nrows();
        for (row, factors) in self.triangle.rows().into_iter().enumerate() {
            let (done, rest) = self.numbers.split_at_mut(row * count);
            let target = &mut rest[..=row];
            for (at, before) in done.chunks_exact(count).enumerate() {
                let pairs = target[..=at].iter_mut().zip(before);
                let factor = -factors[at];
                pairs.for_each(|(number, value)| {
                    *number = V::multiply_add_double(factor, *value, *number);
                });
            }
            let own = factors[row];
            target.iter_mut().for_each(|number| *number /= own);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algebra::testing::{assert_close, random};

    fn positive(count: usize, seed: u64) -> Array2<f64> {
        let rows = random(count + 5, count, seed);
        rows.t().dot(&rows)
    }

    #[test]
    fn factor_solve_and_inverse_equal_their_definitions() {
        // around the borders of blocks and panels
        for count in [1, 2, 63, 64, 65, 127, 128, 129, 300] {
            let mut matrix = positive(count, 1);
            matrix += &(Array2::<f64>::eye(count) * 0.1);
            let cholesky = Cholesky::factor(&matrix).unwrap();
            let lower = cholesky.clone().into_factor();
            assert!(
                lower
                    .indexed_iter()
                    .all(|((i, j), &value)| j <= i || value == 0.0)
            );
            assert_close(&lower.dot(&lower.t()), &matrix, 1e-13);
            let b = random(count, 3, 2);
            assert_close(&matrix.dot(&cholesky.solve(&b)), &b, 1e-9);
            assert_close(&lower.dot(&cholesky.forward(&b)), &b, 1e-9);
            assert_close(&lower.t().dot(&cholesky.backward(&b)), &b, 1e-9);
            let inverse = cholesky.inverse();
            assert_close(&matrix.dot(&inverse), &Array2::eye(count), 1e-9);
            assert_eq!(inverse, inverse.t());
        }
    }

    #[test]
    fn only_the_lower_triangle_is_read() {
        let matrix = positive(70, 3);
        let mut noisy = matrix.clone();
        for ((row, column), value) in noisy.indexed_iter_mut() {
            if column > row {
                *value = f64::NAN;
            }
        }
        let b = random(70, 2, 4);
        let solve = |matrix| Cholesky::factor(matrix).unwrap().solve(&b);
        assert_eq!(solve(&noisy), solve(&matrix));
    }

    #[test]
    fn ill_conditioned_systems_leave_a_small_residual() {
        // The Hilbert matrix of order 8, condition 1.5e10.
        let hilbert = Array2::from_shape_fn((8, 8), |(i, j)| 1.0 / (i + j + 1) as f64);
        let b = random(8, 1, 1);
        let x = Cholesky::factor(&hilbert).unwrap().solve(&b);
        // Triangles are inverted, so it is of the order of condition times rounding: 9.4e-7 was seen.
        assert_close(&hilbert.dot(&x), &b, 1e-5);
    }

    #[test]
    fn what_is_not_positive_definite_is_named_by_its_pivot() {
        let mut dead = positive(200, 5);
        dead.row_mut(150).fill(0.0);
        dead.column_mut(150).fill(0.0);
        let mut twice = positive(200, 5);
        let copied = twice.row(3).to_owned();
        twice.row_mut(180).assign(&copied);
        let copied = twice.column(3).to_owned();
        twice.column_mut(180).assign(&copied);
        let mut negative = Array2::<f64>::eye(5);
        negative[[4, 4]] = -1.0;
        let mut nan = Array2::<f64>::eye(3);
        nan[[2, 0]] = f64::NAN;
        for (matrix, pivot) in [(dead, 150), (twice, 180), (negative, 4), (nan, 2)] {
            let error = Cholesky::factor(&matrix).unwrap_err();
            assert_eq!(error.pivot, pivot);
            assert!(error.to_string().contains(&format!("pivot {pivot}")));
        }
    }

    #[test]
    fn an_empty_matrix_has_a_factor() {
        let cholesky = Cholesky::factor(&Array2::zeros((0, 0))).unwrap();
        assert_eq!(cholesky.inverse().dim(), (0, 0));
        assert_eq!(cholesky.solve(&Array2::zeros((0, 2))).dim(), (0, 2));
    }
}
