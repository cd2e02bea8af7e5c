//! What a first layer adds for some of its features: by tiles, or from what is not 0.

use std::ops::Range;

use ndarray::ArrayView2;

use crate::algebra::{Columns, Extent, Panels, Side, SparseRow, Strips, add_held, multiply};

/// Features of some samples.
pub(super) enum Batch<'b> {
    /// `[N, all features]`.
    Dense(ArrayView2<'b, f32>),
    Sparse(Vec<SparseRow<'b>>),
}

impl Batch<'_> {
    /// Number of samples N.
    pub(super) fn rows(&self) -> usize {
        match self {
            Self::Dense(x) => x.nrows(),
            Self::Sparse(rows) => rows.len(),
        }
    }
}

/// Weights of some features, in rising order.
pub(super) struct Products {
    /// Which.
    pub(super) features: Vec<usize>,
    outputs: usize,
    weights: Weights,
}

/// `[features, outputs]`.
enum Weights {
    Dense(Panels),
    Sparse(Columns, Strips),
}

impl Products {
    /// For sparse batches, or for dense ones; `weight` gives that of the k-th feature for an output.
    pub(super) fn new(
        features: Vec<usize>,
        outputs: usize,
        of_sparse: bool,
        weight: impl Fn(usize, usize) -> f32 + Sync,
    ) -> Self {
        let size = (features.len(), outputs);
        let read = |row: usize, columns: Range<usize>, target: &mut [f32]| {
            let places = target.iter_mut().zip(columns);
            places.for_each(|(to, output)| *to = weight(row, output));
        };
        let weights = match of_sparse {
            true => Weights::Sparse(Columns::new(&features), Strips::of_rows(size, read)),
            false => Weights::Dense(Panels::of_rows(Side::Right, size, read)),
        };
        Self {
            features,
            outputs,
            weights,
        }
    }

    /// Adds those of a batch to z `[N, outputs]`.
    ///
    /// # Panics
    /// When the batch is of the other kind.
    pub(super) fn add(&self, batch: &Batch<'_>, z: &mut [f32]) {
        match (&self.weights, batch) {
            (Weights::Dense(weights), Batch::Dense(x)) => self.add_tiles(*x, weights, z),
            (Weights::Sparse(columns, weights), Batch::Sparse(rows)) => {
                let stride = weights.stride();
                let mut sums = vec![0.0; rows.len() * stride];
                add_held(rows, columns, weights, &mut sums);
                let lines = sums.chunks_exact(stride.max(1));
                for (z, sums) in z.chunks_exact_mut(self.outputs.max(1)).zip(lines) {
                    z.iter_mut().zip(sums).for_each(|(z, sum)| *z += sum);
                }
            }
            _ => unreachable!("batches are as the weights were made for"),
        }
    }

    fn add_tiles(&self, x: ArrayView2<'_, f32>, weights: &Panels, z: &mut [f32]) {
        let width = self.outputs;
        let left = Panels::of_lines((x.nrows(), self.features.len()), |row| {
            let row = x.row(row);
            self.features.iter().map(move |&feature| row[feature])
        });
        multiply(&left, weights, Extent::All, &mut |tile| {
            for (at, line) in tile.lines().enumerate() {
                let first = (tile.row + at) * width + tile.column;
                let places = z[first..first + tile.columns].iter_mut();
                places.zip(line).for_each(|(place, sum)| *place += sum);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;

    use super::*;
    use crate::algebra::Sparse;

    #[test]
    fn both_ways_add_the_same() {
        let x = Array2::from_shape_fn((5, 90), |(row, column)| {
            ((row * 7 + column * 5) % 9) as f32 - 4.0
        });
        let mut held = Sparse::new(90);
        x.rows()
            .into_iter()
            .for_each(|row| held.add(row.as_slice().unwrap()));
        let rows = (0..5).map(|row| held.row(row));
        let batches = [Batch::Dense(x.view()), Batch::Sparse(rows.collect())];
        let weight = |row: usize, output: usize| ((row * 3 + output) % 7) as f32 - 3.0;
        for features in [(0..90).collect(), (0..90).step_by(4).collect(), vec![]] {
            let [dense, sparse] = [0, 1].map(|of_sparse| {
                let mut z = vec![1.0; 5 * 21];
                let features = Vec::clone(&features);
                let products = Products::new(features, 21, of_sparse == 1, weight);
                products.add(&batches[of_sparse], &mut z);
                z
            });
            // Small whole numbers: nothing is rounded.
            assert_eq!(sparse, dense, "{} features", features.len());
        }
    }
}
