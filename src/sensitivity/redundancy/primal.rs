//! H itself, for layers of a few thousand neurons.

use ndarray::{Array2, Axis};

use super::{greedy::Left, observations::Subset};
use crate::algebra::{
    Cholesky, Covariance, NotPositiveDefinite, add_gram, part, part_mut, product,
};

/// Rows are moved together when of this many one has gone: moving takes longer than computing a few
/// numbers that nobody reads.
const GAPS: usize = 8;

/// H of the neurons that are left, in the leading rows and columns of its first size.
#[derive(Clone)]
pub(super) struct Primal {
    /// Only the lower triangle is kept up; rows of neurons that are gone mean nothing.
    precision: Array2<f64>,
    /// The neurons of the rows of H, in rising order.
    neurons: Vec<usize>,
    /// The rows whose neurons are left, in rising order.
    left: Vec<usize>,
    /// The row of each neuron; of those that are gone, whatever it was.
    places: Vec<usize>,
    /// What each row carries, `[n, M]`.
    carried: Array2<f64>,
}

impl Primal {
    /// H of the neurons that vary; `ridge` is relative to their mean variance.
    ///
    /// # Errors
    /// [`NotPositiveDefinite`] with values so large that the ridge is lost in rounding.
    pub(super) fn new(
        covariance: Covariance,
        varies: &[bool],
        ridge: f64,
        carried: Option<Array2<f64>>,
    ) -> Result<Self, NotPositiveDefinite> {
        let width = varies.len();
        let neurons: Vec<usize> = (0..width).filter(|&neuron| varies[neuron]).collect();
        let count = neurons.len();
        let mut matrix = covariance.into_matrix();
        if count < width {
            compact(&mut matrix, &neurons);
            matrix = part(matrix.view(), 0..count, 0..count).to_owned();
        }
        let mean = matrix.diag().sum() / count.max(1) as f64;
        matrix
            .diag_mut()
            .map_inplace(|value| *value += ridge * mean);
        let carried = carried.map(|carried| carried.select(Axis(0), &neurons));
        let mut primal = Self {
            precision: Cholesky::of(matrix)?.inverse(),
            carried: carried.unwrap_or_else(|| Array2::zeros((count, 0))),
            places: vec![0; width],
            left: (0..count).collect(),
            neurons,
        };
        primal.find_places();
        Ok(primal)
    }

    /// The same from the rows, fewer than neurons; by Woodbury's identity (see `dual`),
    /// `H = (I - V^T·V) / lambda` with `V = L^-1·X` and `L·L^T = X·X^T + N·lambda·I`.
    ///
    /// # Errors
    /// As [`Primal::new`].
    pub(super) fn of_rows(
        subset: &Subset,
        varies: &[bool],
        ridge: f64,
    ) -> Result<Self, NotPositiveDefinite> {
        let width = varies.len();
        let neurons: Vec<usize> = (0..width).filter(|&neuron| varies[neuron]).collect();
        let count = neurons.len();
        let (means, variances) = subset.moments();
        let sum: f64 = neurons.iter().map(|&neuron| variances[neuron]).sum();
        let ridge = ridge * sum / count.max(1) as f64;
        let rows = subset.values.len() / width.max(1);
        let x = Array2::from_shape_fn((rows, count), |(row, place)| {
            let neuron = neurons[place];
            f64::from(subset.values[row * width + neuron]) - means[neuron]
        });
        let mut kernel = Array2::eye(rows) * (ridge * rows as f64);
        add_gram(kernel.view_mut(), 1.0, x.t());
        let factors = Cholesky::of(kernel)?.forward(&x);
        let mut precision = Array2::eye(count) / ridge;
        add_gram(precision.view_mut(), -1.0 / ridge, factors.view());
        let mut primal = Self {
            precision,
            carried: Array2::zeros((count, 0)),
            places: vec![0; width],
            left: (0..count).collect(),
            neurons,
        };
        primal.find_places();
        Ok(primal)
    }

    fn find_places(&mut self) {
        for (place, &neuron) in self.neurons.iter().enumerate() {
            self.places[neuron] = place;
        }
    }

    /// Moves the rows of what is left together.
    fn close_gaps(&mut self) {
        compact(&mut self.precision, &self.left);
        self.carried = self.carried.select(Axis(0), &self.left);
        self.neurons = self.left.iter().map(|&place| self.neurons[place]).collect();
        self.left = (0..self.neurons.len()).collect();
        self.find_places();
    }

    fn at(&self, one: usize, other: usize) -> f64 {
        self.precision[[one.max(other), one.min(other)]]
    }
}

impl Left for Primal {
    fn precision(&self, a: usize, b: usize) -> f64 {
        self.at(self.places[a], self.places[b])
    }

    fn precisions(&self, neurons: &[usize]) -> Array2<f64> {
        Array2::from_shape_fn((neurons.len(), neurons.len()), |(a, b)| {
            self.precision(neurons[a], neurons[b])
        })
    }

    fn carried(&self, neuron: usize) -> &[f64] {
        let width = self.carried.ncols();
        let first = self.places[neuron] * width;
        let all = self.carried.as_slice().unwrap_or_default();
        all.get(first..first + width).unwrap_or_default()
    }

    fn drop(&mut self, neurons: &[usize]) -> Result<(), NotPositiveDefinite> {
        let gone: Vec<usize> = neurons.iter().map(|&neuron| self.places[neuron]).collect();
        self.left.retain(|place| gone.binary_search(place).is_err());
        let cholesky = Cholesky::of(self.precisions(neurons))?;
        let mut across = Array2::zeros((gone.len(), self.neurons.len()));
        for (mut row, &gone) in across.rows_mut().into_iter().zip(&gone) {
            for &place in &self.left {
                row[place] = self.at(gone, place);
            }
        }
        // V^T = L^-1 H_rk, so that V·V^T = H_kr (H_rr)^-1 H_rk
        let mut factors = cholesky.forward(&across);
        if self.carried.ncols() > 0 {
            let lost = cholesky.forward(&self.carried.select(Axis(0), &gone));
            self.carried -= &product(factors.t(), lost.view());
        }
        if (self.neurons.len() - self.left.len()) * GAPS >= self.neurons.len() {
            factors = factors.select(Axis(1), &self.left);
            self.close_gaps();
        }
        let count = self.neurons.len();
        let rest = part_mut(self.precision.view_mut(), 0..count, 0..count);
        add_gram(rest, -1.0, factors.view());
        Ok(())
    }
}

/// Moves the rows and columns `kept`, which rise, to the front; lower triangle only.
fn compact(matrix: &mut Array2<f64>, kept: &[usize]) {
    let stride = matrix.ncols();
    let values = matrix
        .as_slice_mut()
        .expect("covariances and inverses are row-major");
    for (row, &from) in kept.iter().enumerate() {
        // What is written lies before what is read from here on.
        for (column, &other) in kept[..=row].iter().enumerate() {
            values[row * stride + column] = values[from * stride + other];
        }
    }
}
