//! H itself, for layers of a few thousand neurons.

use std::sync::Arc;

use ndarray::{Array2, Axis};

use super::{greedy::Left, observations::Subset};
use crate::algebra::{
    Cholesky, Covariance, NotPositiveDefinite, add_gram, part, part_mut, product,
};

/// What neurons that went took from H is taken off when there are so many of them, or one in
/// [`SHARE`] of the rows: one product with many rows is faster than many with few.
const PENDING: usize = 256;
const SHARE: usize = 8;

/// H of the neurons that are left, in the leading rows and columns of its first size: what is held
/// less `V·V^T`.
#[derive(Clone)]
pub(super) struct Primal {
    /// Only the lower triangle is kept up; rows of neurons that are gone mean nothing. Rankings that
    /// begin with the same H share it until each takes off what went first.
    held: Arc<Array2<f64>>,
    /// V^T, a row for each neuron that went.
    pending: Array2<f64>,
    /// The diagonal of H.
    diagonal: Vec<f64>,
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
        let carried = carried.unwrap_or_else(|| Array2::zeros((count, 0)));
        let precision = Cholesky::of(matrix)?.inverse();
        Ok(Self::of(precision, width, neurons, carried))
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
        // Zeros that nobody touches take no memory: half of them lie above the diagonal.
        let mut precision = Array2::zeros((count, count));
        precision.diag_mut().fill(ridge.recip());
        add_gram(precision.view_mut(), -1.0 / ridge, factors.view());
        let carried = Array2::zeros((count, 0));
        Ok(Self::of(precision, width, neurons, carried))
    }

    fn of(held: Array2<f64>, width: usize, neurons: Vec<usize>, carried: Array2<f64>) -> Self {
        let mut primal = Self {
            pending: Array2::zeros((0, neurons.len())),
            diagonal: held.diag().to_vec(),
            held: held.into(),
            left: (0..neurons.len()).collect(),
            places: vec![0; width],
            neurons,
            carried,
        };
        primal.find_places();
        primal
    }

    /// Bytes of H.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(self.held.as_slice().unwrap_or_default())
    }

    fn find_places(&mut self) {
        for (place, &neuron) in self.neurons.iter().enumerate() {
            self.places[neuron] = place;
        }
    }

    /// Takes off what is pending, and moves the rows of what is left together.
    fn settle(&mut self) {
        let pending = self.pending.select(Axis(1), &self.left);
        let count = self.left.len();
        let mut held = match Arc::try_unwrap(std::mem::take(&mut self.held)) {
            Ok(mut held) => {
                compact(&mut held, &self.left);
                held
            }
            Err(shared) => compacted(&shared, &self.left),
        };
        let rest = part_mut(held.view_mut(), 0..count, 0..count);
        add_gram(rest, -1.0, pending.view());
        self.held = held.into();
        self.pending = Array2::zeros((0, count));
        self.carried = self.carried.select(Axis(0), &self.left);
        self.diagonal = self
            .left
            .iter()
            .map(|&place| self.diagonal[place])
            .collect();
        self.neurons = self.left.iter().map(|&place| self.neurons[place]).collect();
        self.left = (0..count).collect();
        self.find_places();
    }

    /// What is held of two rows.
    fn at(&self, one: usize, other: usize) -> f64 {
        self.held[[one.max(other), one.min(other)]]
    }

    /// H of these rows, which rise, and all others, `[r, n]`; 0 for those whose neurons are gone.
    fn across(&self, rows: &[usize]) -> Array2<f64> {
        let own = self.pending.select(Axis(1), rows);
        let mut across = -product(own.t(), self.pending.view());
        let count = self.neurons.len();
        let numbers = across.as_slice_mut().expect("a product is row-major");
        let mut next = 0;
        // Row by row of what is held, which lie far apart.
        for &place in self.left.iter().chain([&count]) {
            for line in numbers.chunks_exact_mut(count) {
                line[next..place].fill(0.0);
            }
            next = place + 1;
            if place == count {
                break;
            }
            let held = self.held.row(place);
            let before = rows.partition_point(|&row| row < place);
            for (line, &row) in numbers.chunks_exact_mut(count).zip(&rows[..before]) {
                line[place] += held[row];
            }
        }
        for (line, &row) in numbers.chunks_exact_mut(count).zip(rows) {
            let held = self.held.row(row);
            let before = self.left.partition_point(|&place| place < row);
            for &place in &self.left[..before] {
                line[place] += held[place];
            }
        }
        across
    }
}

impl Left for Primal {
    fn precision(&self, a: usize, b: usize) -> f64 {
        let (a, b) = (self.places[a], self.places[b]);
        if a == b {
            return self.diagonal[a];
        }
        self.at(a, b) - self.pending.column(a).dot(&self.pending.column(b))
    }

    fn precisions(&self, neurons: &[usize]) -> Array2<f64> {
        let rows: Vec<usize> = neurons.iter().map(|&neuron| self.places[neuron]).collect();
        let own = self.pending.select(Axis(1), &rows);
        let mut block = -product(own.t(), own.view());
        for ((a, b), value) in block.indexed_iter_mut() {
            *value += self.at(rows[a], rows[b]);
        }
        block
    }

    fn carried(&self, neuron: usize) -> &[f64] {
        let width = self.carried.ncols();
        let first = self.places[neuron] * width;
        let all = self.carried.as_slice().unwrap_or_default();
        all.get(first..first + width).unwrap_or_default()
    }

    fn drop(&mut self, neurons: &[usize]) -> Result<(), NotPositiveDefinite> {
        let gone: Vec<usize> = neurons.iter().map(|&neuron| self.places[neuron]).collect();
        let cholesky = Cholesky::of(self.precisions(neurons))?;
        self.left.retain(|place| gone.binary_search(place).is_err());
        // V^T = L^-1 H_rk, so that V·V^T = H_kr (H_rr)^-1 H_rk
        let factors = cholesky.forward_of(self.across(&gone));
        for row in factors.rows() {
            let diagonal = self.diagonal.iter_mut().zip(row);
            diagonal.for_each(|(value, factor)| *value -= factor * factor);
        }
        if self.carried.ncols() > 0 {
            let lost = cholesky.forward(&self.carried.select(Axis(0), &gone));
            self.carried -= &product(factors.t(), lost.view());
        }
        let grown = self.pending.append(Axis(0), factors.view());
        grown.expect("both have a column for each row of H");
        let pending = self.pending.nrows();
        if pending >= PENDING || pending * SHARE >= self.neurons.len() {
            self.settle();
        }
        Ok(())
    }
}

/// The rows and columns `kept`, which rise; lower triangle only.
fn compacted(matrix: &Array2<f64>, kept: &[usize]) -> Array2<f64> {
    let mut compacted = Array2::zeros((kept.len(), kept.len()));
    for (row, &from) in kept.iter().enumerate() {
        let (mut to, from) = (compacted.row_mut(row), matrix.row(from));
        let places = to.iter_mut().zip(&kept[..=row]);
        places.for_each(|(to, &other)| *to = from[other]);
    }
    compacted
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
