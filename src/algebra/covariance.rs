//! Covariances that are added up row by row and can be merged.
//!
//! What is held is the *scatter*, the sum of products of distances from the mean so far, so that a
//! large mean costs no digits; blocks of rows join it as in Chan, Golub & LeVeque 1979 (one more
//! row, the scaled distance between the two means). N rows, F and G columns.

use ndarray::{Array1, Array2, ArrayView2, Axis};

use super::product::{add_gram, add_product, symmetrise};

/// Rows that are centred and multiplied at a time: 8000 columns of them are 32 MiB in f64.
const ROWS: usize = 512;

/// The covariance of F columns.
#[derive(Clone, Debug, PartialEq)]
pub struct Covariance {
    count: u64,
    mean: Vec<f64>,
    /// Only its lower triangle is kept up.
    scatter: Array2<f64>,
}

/// The covariance of F columns x, that of x with G columns y, and the variances of y.
#[derive(Clone, Debug, PartialEq)]
pub struct CrossCovariance {
    x: Covariance,
    y_mean: Vec<f64>,
    xy: Array2<f64>,
    yy: Vec<f64>,
}

impl Covariance {
    /// Of no rows, `width` columns.
    pub fn new(width: usize) -> Self {
        Self {
            count: 0,
            mean: vec![0.0; width],
            scatter: Array2::zeros((width, width)),
        }
    }

    /// Number of columns F.
    pub fn width(&self) -> usize {
        self.mean.len()
    }

    /// Number of rows so far.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The mean of each column; 0 before the first row.
    pub fn mean(&self) -> &[f64] {
        &self.mean
    }

    /// Adds rows `[N, F]`, row-major. How they are divided into calls matters only for rounding.
    ///
    /// # Panics
    /// When the numbers do not fill rows of F.
    pub fn add(&mut self, rows: &[f32]) {
        for block in blocks(rows, self.width()) {
            let centred = self.joined(&block);
            add_gram(self.scatter.view_mut(), 1.0, centred.view());
        }
    }

    /// Adds what other rows gave.
    ///
    /// # Panics
    /// When the other has another width.
    pub fn merge(&mut self, other: &Self) {
        let step = self.join_means(other.count, &other.mean);
        self.scatter += &other.scatter;
        add_gram(
            self.scatter.view_mut(),
            1.0,
            step.insert_axis(Axis(0)).view(),
        );
    }

    /// The lower triangle of the scatter, row by row; with [`Covariance::count`] and
    /// [`Covariance::mean`] it is all there is.
    pub fn packed(&self) -> Vec<f64> {
        let rows = self.scatter.rows().into_iter().enumerate();
        rows.flat_map(|(row, values)| values.into_iter().take(row + 1).copied())
            .collect()
    }

    /// What [`Covariance::packed`] gave; nothing where the numbers do not make up a triangle.
    pub fn from_packed(count: u64, mean: Vec<f64>, packed: &[f64]) -> Option<Self> {
        let width = mean.len();
        if packed.len() != width.checked_mul(width + 1)? / 2 {
            return None;
        }
        let mut scatter = Array2::zeros((width, width));
        let mut rest = packed;
        for (row, mut values) in scatter.rows_mut().into_iter().enumerate() {
            let (own, behind) = rest.split_at(row + 1);
            let pairs = values.iter_mut().zip(own);
            pairs.for_each(|(value, own)| *value = *own);
            rest = behind;
        }
        Some(Self {
            count,
            mean,
            scatter,
        })
    }

    /// The covariance `[F, F]`: about the mean, divided by the number of rows.
    pub fn matrix(&self) -> Array2<f64> {
        self.clone().into_matrix()
    }

    /// As [`Covariance::matrix`], without a copy.
    pub fn into_matrix(self) -> Array2<f64> {
        let mut matrix = self.scatter;
        symmetrise(&mut matrix);
        matrix /= self.count.max(1) as f64;
        matrix
    }

    /// The variance of each column, divided by the number of rows.
    pub fn variances(&self) -> Vec<f64> {
        let count = self.count.max(1) as f64;
        self.scatter.diag().iter().map(|sum| sum / count).collect()
    }

    /// Takes up the mean of a block; its rows about their mean, and the step between the means.
    fn joined(&mut self, block: &Array2<f64>) -> Array2<f64> {
        let mean = column_means(block);
        let step = self.join_means(block.nrows() as u64, &mean);
        centred(block, &mean, &step)
    }

    /// The mean moves; what comes back is the row whose products are the scatter between the two.
    fn join_means(&mut self, count: u64, mean: &[f64]) -> Array1<f64> {
        let step = join_means(self.count, &mut self.mean, count, mean);
        self.count += count;
        step
    }
}

impl CrossCovariance {
    /// Of no rows, with F = `x_width` and G = `y_width` columns.
    pub fn new(x_width: usize, y_width: usize) -> Self {
        Self {
            x: Covariance::new(x_width),
            y_mean: vec![0.0; y_width],
            xy: Array2::zeros((x_width, y_width)),
            yy: vec![0.0; y_width],
        }
    }

    /// Number of rows so far.
    pub fn count(&self) -> u64 {
        self.x.count
    }

    /// The mean of each column of x.
    pub fn x_mean(&self) -> &[f64] {
        &self.x.mean
    }

    /// The mean of each column of y.
    pub fn y_mean(&self) -> &[f64] {
        &self.y_mean
    }

    /// Adds rows x `[N, F]` and y `[N, G]`, row-major.
    ///
    /// # Panics
    /// When the numbers do not fill rows, or not as many of both.
    pub fn add(&mut self, x: &[f32], y: &[f32]) {
        let (x_width, y_width) = (self.x.width(), self.y_mean.len());
        assert_eq!(
            x.len() * y_width,
            y.len() * x_width,
            "as many rows of x as of y"
        );
        for (x, y) in blocks(x, x_width).zip(blocks(y, y_width)) {
            let y_mean = column_means(&y);
            let step = join_means(self.x.count, &mut self.y_mean, y.nrows() as u64, &y_mean);
            let y = centred(&y, &y_mean, &step);
            let x = self.x.joined(&x);
            add_gram(self.x.scatter.view_mut(), 1.0, x.view());
            self.add_centred(x.view(), y.view());
        }
    }

    /// Adds what other rows gave.
    ///
    /// # Panics
    /// When the other has other widths.
    pub fn merge(&mut self, other: &Self) {
        let count = self.x.count;
        let y = join_means(count, &mut self.y_mean, other.x.count, &other.y_mean);
        let x = self.x.join_means(other.x.count, &other.x.mean);
        self.x.scatter += &other.x.scatter;
        self.xy += &other.xy;
        let sums = self.yy.iter_mut().zip(&other.yy);
        sums.for_each(|(sum, other)| *sum += other);
        let (x, y) = (x.insert_axis(Axis(0)), y.insert_axis(Axis(0)));
        add_gram(self.x.scatter.view_mut(), 1.0, x.view());
        self.add_centred(x.view(), y.view());
    }

    /// The covariance of x, `[F, F]`, divided by the number of rows.
    pub fn xx(&self) -> Array2<f64> {
        self.x.matrix()
    }

    /// The covariance of x with y, `[F, G]`, divided by the number of rows.
    pub fn xy(&self) -> Array2<f64> {
        &self.xy / self.count().max(1) as f64
    }

    /// The variance of each column of y, divided by the number of rows.
    pub fn yy_diag(&self) -> Vec<f64> {
        let count = self.count().max(1) as f64;
        self.yy.iter().map(|sum| sum / count).collect()
    }

    fn add_centred(&mut self, x: ArrayView2<'_, f64>, y: ArrayView2<'_, f64>) {
        add_product(self.xy.view_mut(), 1.0, x.t(), y);
        for row in y.rows() {
            let sums = self.yy.iter_mut().zip(row);
            sums.for_each(|(sum, value)| *sum += value * value);
        }
    }
}

/// The rows in f64, [`ROWS`] at a time.
fn blocks(rows: &[f32], width: usize) -> impl Iterator<Item = Array2<f64>> {
    let width = width.max(1);
    assert_eq!(rows.len() % width, 0, "whole rows of {width} columns");
    rows.chunks(ROWS * width).map(move |chunk| {
        let values = chunk.iter().map(|&value| f64::from(value)).collect();
        Array2::from_shape_vec((chunk.len() / width, width), values)
            .expect("a chunk holds whole rows")
    })
}

fn column_means(block: &Array2<f64>) -> Vec<f64> {
    let sums = block.sum_axis(Axis(0));
    sums.iter().map(|sum| sum / block.nrows() as f64).collect()
}

/// The rows about `mean`, and `step` as one row more.
fn centred(block: &Array2<f64>, mean: &[f64], step: &Array1<f64>) -> Array2<f64> {
    let mut rows = Array2::zeros((block.nrows() + 1, block.ncols()));
    for (mut row, values) in rows.rows_mut().into_iter().zip(block.rows()) {
        let distances = values.iter().zip(mean).map(|(value, mean)| value - mean);
        row.iter_mut()
            .zip(distances)
            .for_each(|(to, from)| *to = from);
    }
    rows.row_mut(block.nrows()).assign(step);
    rows
}

/// Moves `mean`, of `count` rows, by those of `more` rows whose mean is `other`.
///
/// `sqrt(count·more / (count + more))` times the distance of the two means comes back.
fn join_means(count: u64, mean: &mut [f64], more: u64, other: &[f64]) -> Array1<f64> {
    assert_eq!(mean.len(), other.len(), "as many columns");
    let (count, more) = (count as f64, more as f64);
    let total = (count + more).max(1.0);
    let weight = (count * more / total).sqrt();
    let means = mean.iter_mut().zip(other);
    let steps = means.map(|(mean, other)| {
        let distance = other - *mean;
        *mean += distance * more / total;
        distance * weight
    });
    steps.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algebra::testing::{assert_close, random};

    /// Rows with a large mean and a column that never moves.
    fn rows(count: usize, width: usize, seed: u64) -> Vec<f32> {
        let mut rows = random(count, width, seed);
        rows += 1000.0;
        rows.column_mut(width - 1).fill(0.1);
        rows.iter().map(|&value| value as f32).collect()
    }

    /// The definition, in two passes.
    fn slow(x: &[f32], x_width: usize, y: &[f32], y_width: usize) -> Array2<f64> {
        let count = x.len() / x_width;
        let mean = |values: &[f32], width: usize, column: usize| {
            let column = (0..count).map(|row| f64::from(values[row * width + column]));
            column.sum::<f64>() / count as f64
        };
        Array2::from_shape_fn((x_width, y_width), |(i, j)| {
            let (x_mean, y_mean) = (mean(x, x_width, i), mean(y, y_width, j));
            let products = (0..count).map(|row| {
                (f64::from(x[row * x_width + i]) - x_mean)
                    * (f64::from(y[row * y_width + j]) - y_mean)
            });
            products.sum::<f64>() / count as f64
        })
    }

    #[test]
    fn covariances_equal_their_definition_however_the_rows_are_divided() {
        let (count, width) = (1100, 70);
        let rows = rows(count, width, 1);
        let expected = slow(&rows, width, &rows, width);
        for cuts in [
            &[0, count][..],
            &[0, 1, 2, 600, count],
            &[0, 512, 513, count],
        ] {
            let mut found = Covariance::new(width);
            for pair in cuts.windows(2) {
                found.add(&rows[pair[0] * width..pair[1] * width]);
            }
            assert_eq!(found.count(), count as u64);
            assert_close(&found.matrix(), &expected, 1e-10);
            assert_eq!(found.matrix()[[width - 1, width - 1]], 0.0, "{cuts:?}");
            let variances = found.variances();
            assert_eq!(variances, found.matrix().diag().to_vec());
        }
    }

    #[test]
    fn merged_parts_equal_the_whole() {
        let (x_width, y_width) = (9, 4);
        let (x, y) = (rows(300, x_width, 1), rows(300, y_width, 2));
        let of = |first: usize, end: usize| {
            let mut part = CrossCovariance::new(x_width, y_width);
            part.add(
                &x[first * x_width..end * x_width],
                &y[first * y_width..end * y_width],
            );
            part
        };
        let whole = of(0, 300);
        let mut merged = CrossCovariance::new(x_width, y_width);
        for (first, end) in [(0, 100), (100, 101), (101, 300)] {
            merged.merge(&of(first, end));
        }
        merged.merge(&CrossCovariance::new(x_width, y_width));
        for found in [&whole, &merged] {
            assert_eq!(found.count(), 300);
            assert_close(&found.xx(), &slow(&x, x_width, &x, x_width), 1e-10);
            assert_close(&found.xy(), &slow(&x, x_width, &y, y_width), 1e-10);
            let yy = slow(&y, y_width, &y, y_width).diag().to_owned();
            let found_yy = Array1::from(found.yy_diag());
            assert_close(
                &found_yy.insert_axis(Axis(0)),
                &yy.insert_axis(Axis(0)),
                1e-10,
            );
        }
        let mut alone = Covariance::new(x_width);
        alone.add(&x[..100 * x_width]);
        let mut rest = Covariance::new(x_width);
        rest.add(&x[100 * x_width..]);
        alone.merge(&rest);
        assert_close(&alone.matrix(), &whole.xx(), 1e-10);
        for (alone, whole) in alone.mean().iter().zip(whole.x_mean()) {
            assert!((alone - whole).abs() < 1e-9);
        }
    }

    #[test]
    fn a_packed_covariance_merges_as_it_would_have() {
        let width = 5;
        let rows = rows(40, width, 3);
        let (mut one, mut other) = (Covariance::new(width), Covariance::new(width));
        one.add(&rows[..15 * width]);
        other.add(&rows[15 * width..]);
        let again = |found: &Covariance| {
            let mean = found.mean().to_vec();
            Covariance::from_packed(found.count(), mean, &found.packed()).unwrap()
        };
        let mut packed = again(&one);
        packed.merge(&again(&other));
        one.merge(&other);
        assert_eq!(packed.matrix(), one.matrix());
        assert_eq!(Covariance::from_packed(1, vec![0.0; 2], &[0.0; 4]), None);
    }

    #[test]
    fn no_rows_and_one_row_vary_by_nothing() {
        let mut found = Covariance::new(2);
        assert_eq!(found.matrix(), Array2::<f64>::zeros((2, 2)));
        found.add(&[]);
        found.add(&[3.0, 4.0]);
        assert_eq!((found.count(), found.mean()), (1, &[3.0, 4.0][..]));
        assert_eq!(found.matrix(), Array2::<f64>::zeros((2, 2)));
    }
}
