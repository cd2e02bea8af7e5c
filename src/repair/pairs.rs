//! Rows that are held as they are, and which of their inputs say anything.

use std::ops::Range;

use ndarray::Array2;
use rayon::prelude::*;

/// Inputs that are widened to f64 at a time.
const COLUMNS: usize = 1024;

/// Neighbouring columns that are read together: a line of the cache.
const BESIDE: usize = 16;

/// A variance below this share of the squared mean is rounding of f32 values that are all equal.
const CONSTANT: f64 = 1e-12;

/// Rows x `[N, F]` and r `[N, G]`.
pub(super) struct Pairs {
    pub(super) inputs: usize,
    pub(super) width: usize,
    pub(super) x: Vec<f32>,
    pub(super) r: Vec<f32>,
}

impl Pairs {
    pub(super) fn new(inputs: usize, width: usize) -> Self {
        Self {
            inputs,
            width,
            x: Vec::new(),
            r: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, x: &[f32], r: &[f32]) {
        self.x.extend_from_slice(x);
        self.r.extend_from_slice(r);
    }

    pub(super) fn rows(&self) -> usize {
        self.r.len() / self.width.max(1)
    }

    /// Columns of x about `mean`, in f64.
    pub(super) fn centred(&self, columns: Range<usize>, mean: &[f64]) -> Array2<f64> {
        let mut centred = Array2::zeros((self.rows(), columns.len()));
        let rows = self.x.chunks_exact(self.inputs.max(1));
        for (mut line, row) in centred.rows_mut().into_iter().zip(rows) {
            let pairs = row[columns.clone()].iter().zip(&mean[columns.clone()]);
            let places = line.iter_mut().zip(pairs);
            places.for_each(|(to, (value, mean))| *to = f64::from(*value) - mean);
        }
        centred
    }

    /// All columns of x about `mean`, in f64: `[F, N]`.
    pub(super) fn turned(&self, mean: &[f64]) -> Array2<f64> {
        let rows = self.rows();
        let mut turned = Array2::zeros((self.inputs, rows));
        let lines = turned.as_slice_mut().expect("a new matrix is row-major");
        let some = lines.par_chunks_mut(BESIDE * rows.max(1)).enumerate();
        some.for_each(|(at, lines)| {
            let first = at * BESIDE;
            for (column, row) in self.x.chunks_exact(self.inputs.max(1)).enumerate() {
                let places = lines[column..].iter_mut().step_by(rows);
                let pairs = row[first..].iter().zip(&mean[first..]);
                let places = places.zip(pairs);
                places.for_each(|(to, (value, mean))| *to = f64::from(*value) - mean);
            }
        });
        turned
    }

    /// r about `mean`, in f64.
    pub(super) fn residuals(&self, mean: &[f64]) -> Array2<f64> {
        Array2::from_shape_fn((self.rows(), self.width), |(row, column)| {
            f64::from(self.r[row * self.width + column]) - mean[column]
        })
    }

    pub(super) fn means(values: &[f32], width: usize) -> Vec<f64> {
        let mut sums = vec![0.0; width];
        let rows = values.chunks_exact(width.max(1));
        let count = rows.len().max(1) as f64;
        for row in rows {
            let sums = sums.iter_mut().zip(row);
            sums.for_each(|(sum, &value)| *sum += f64::from(value));
        }
        sums.iter().map(|sum| sum / count).collect()
    }

    /// The variance of each input about `means`.
    pub(super) fn variances(&self, means: &[f64]) -> Vec<f64> {
        let mut sums = vec![0.0; self.inputs];
        for row in self.x.chunks_exact(self.inputs.max(1)) {
            for ((sum, &value), mean) in sums.iter_mut().zip(row).zip(means) {
                *sum += (f64::from(value) - mean).powi(2);
            }
        }
        let count = self.rows().max(1) as f64;
        sums.iter().map(|sum| sum / count).collect()
    }
}

/// Which inputs vary, and by how much on average.
pub(super) struct Spread {
    pub(super) live: Vec<bool>,
    /// Mean variance of those that do.
    pub(super) mean: f64,
}

impl Spread {
    pub(super) fn new(variances: &[f64], means: &[f64]) -> Self {
        let pairs = variances.iter().zip(means);
        let live: Vec<bool> = pairs
            .map(|(variance, mean)| *variance > CONSTANT * mean * mean)
            .collect();
        let count = live.iter().filter(|live| **live).count();
        let sum: f64 = variances
            .iter()
            .zip(&live)
            .map(|(v, live)| v * f64::from(*live))
            .sum();
        Self {
            live,
            mean: sum / count.max(1) as f64,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.live.contains(&true)
    }
}

/// Columns that do not vary become 0.
pub(super) fn only(live: &[bool], mut columns: Array2<f64>) -> Array2<f64> {
    for (column, _) in live.iter().enumerate().filter(|(_, live)| !**live) {
        columns.column_mut(column).fill(0.0);
    }
    columns
}

pub(super) fn blocks(inputs: usize) -> impl Iterator<Item = Range<usize>> {
    let starts = (0..inputs).step_by(COLUMNS);
    starts.map(move |start| start..(start + COLUMNS).min(inputs))
}
