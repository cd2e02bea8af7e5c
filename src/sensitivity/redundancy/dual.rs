//! H's blocks from a matrix over the samples, for wide layers and few samples.
//!
//! With N rows X `[N, F]` about their mean and G = X^T X / N + lambda·I, Woodbury's identity gives
//!
//! ```text
//! H = (I - X^T K^-1 X) / lambda          K = X X^T + N·lambda·I      [N, N]
//! ```
//!
//! so a unit's block needs only P_g = X_g^T K^-1 X_g, and when the neurons r go,
//!
//! ```text
//! S = I - X_r^T K^-1 X_r = L·L^T         V = K^-1 X_r L^-T
//! K^-1 <- K^-1 + V·V^T                   P_g <- P_g + (X_g^T V)(X_g^T V)^T
//! ```
//!
//! No F x F matrix is formed. Ranking all takes about N F^2 operations, most of them in `X_g^T V`.

use std::sync::Arc;

use ndarray::Array2;
use rayon::prelude::*;

use super::{greedy::Left, observations::Subset};
use crate::algebra::{Cholesky, NotPositiveDefinite, add_gram, part, product, symmetrise};

/// Neurons that one task works on: their rows are 4 MiB at 2048 samples.
const CHUNK: usize = 256;

/// The neurons that are left, by their values.
#[derive(Clone)]
pub(super) struct Dual {
    values: Arc<Values>,
    ridge: f64,
    /// K^-1, `[N, N]`.
    inverse: Array2<f64>,
    units: Vec<Unit>,
    /// Unit and place within it of each neuron.
    places: Arc<[(usize, usize)]>,
}

#[derive(Clone)]
struct Unit {
    neurons: Arc<[usize]>,
    /// P_g.
    product: Array2<f64>,
    gone: bool,
}

struct Values {
    /// Number of rows N.
    rows: usize,
    /// `[F, N]`.
    values: Vec<f32>,
    means: Vec<f64>,
}

impl Dual {
    /// Of the neurons of `units`; `ridge` is relative to their mean variance.
    ///
    /// # Errors
    /// [`NotPositiveDefinite`] with values so large that the ridge is lost in rounding.
    pub(super) fn new(
        subset: &Subset,
        units: &[Vec<usize>],
        ridge: f64,
    ) -> Result<Self, NotPositiveDefinite> {
        let (means, variances) = subset.moments();
        let neurons = units.concat();
        let sum: f64 = neurons.iter().map(|&neuron| variances[neuron]).sum();
        let ridge = ridge * sum / neurons.len().max(1) as f64;
        let values = Values::new(subset, means);
        let mut kernel: Array2<f64> = Array2::eye(values.rows) * (ridge * values.rows as f64);
        for chunk in neurons.chunks(CHUNK) {
            add_gram(kernel.view_mut(), 1.0, values.of(chunk).view());
        }
        let mut places = vec![(0, 0); subset.width];
        for (unit, neurons) in units.iter().enumerate() {
            for (place, &neuron) in neurons.iter().enumerate() {
                places[neuron] = (unit, place);
            }
        }
        let unit = |neurons: &Vec<usize>| Unit {
            neurons: neurons.as_slice().into(),
            product: Array2::zeros((neurons.len(), neurons.len())),
            gone: neurons.is_empty(),
        };
        let mut dual = Self {
            inverse: Cholesky::of(kernel)?.inverse(),
            values: values.into(),
            ridge,
            units: units.iter().map(unit).collect(),
            places: places.into(),
        };
        let sums = dual.sums(|rows| (rows.dot(&dual.inverse), rows.clone()));
        dual.add(sums);
        Ok(dual)
    }

    /// Bytes of K^-1.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(self.inverse.as_slice().unwrap_or_default())
    }

    /// A_g·B_g^T of the units that are left, in their order, where `factors` makes A and B
    /// `[n, M]` of rows X_g^T `[n, N]`.
    fn sums(
        &self,
        factors: impl Fn(&Array2<f64>) -> (Array2<f64>, Array2<f64>) + Sync,
    ) -> Vec<Array2<f64>> {
        let sums = self.chunks().into_par_iter().map(|units| {
            let neurons = units.iter().flat_map(|unit| unit.neurons.iter());
            let neurons: Vec<usize> = neurons.copied().collect();
            let (a, b) = factors(&self.values.of(&neurons));
            let mut end = 0;
            let sums = units.iter().map(|unit| {
                let rows = end..end + unit.neurons.len();
                end = rows.end;
                let a = part(a.view(), rows.clone(), 0..a.ncols());
                let b = part(b.view(), rows, 0..b.ncols());
                a.dot(&b.t())
            });
            sums.collect::<Vec<_>>()
        });
        sums.collect::<Vec<_>>().concat()
    }

    fn add(&mut self, sums: Vec<Array2<f64>>) {
        let left = self.units.iter_mut().filter(|unit| !unit.gone);
        left.zip(sums).for_each(|(unit, sum)| unit.product += &sum);
    }

    /// The units that are left, about [`CHUNK`] neurons together.
    fn chunks(&self) -> Vec<Vec<&Unit>> {
        let mut chunks: Vec<Vec<&Unit>> = Vec::new();
        let mut neurons = CHUNK;
        for unit in self.units.iter().filter(|unit| !unit.gone) {
            if neurons >= CHUNK {
                chunks.push(Vec::new());
                neurons = 0;
            }
            neurons += unit.neurons.len();
            if let Some(chunk) = chunks.last_mut() {
                chunk.push(unit);
            }
        }
        chunks
    }

    /// X_r^T·K^-1 `[r, N]` and I - X_r^T·K^-1·X_r.
    fn across(&self, neurons: &[usize]) -> (Array2<f64>, Array2<f64>) {
        let rows = self.values.of(neurons);
        let weighted = product(rows.view(), self.inverse.view());
        let mut rest = -product(weighted.view(), rows.t());
        rest.diag_mut().map_inplace(|value| *value += 1.0);
        symmetrise(&mut rest);
        (weighted, rest)
    }
}

impl Left for Dual {
    fn precision(&self, a: usize, b: usize) -> f64 {
        let ((unit, a), (_, b)) = (self.places[a], self.places[b]);
        let unity = if a == b { 1.0 } else { 0.0 };
        (unity - self.units[unit].product[[a, b]]) / self.ridge
    }

    fn precisions(&self, neurons: &[usize]) -> Array2<f64> {
        self.across(neurons).1 / self.ridge
    }

    /// The weights of a wide layer would not fit.
    fn carried(&self, _: usize) -> &[f64] {
        &[]
    }

    fn drop(&mut self, neurons: &[usize]) -> Result<(), NotPositiveDefinite> {
        let (weighted, rest) = self.across(neurons);
        let factors = Cholesky::of(rest)?.forward(&weighted);
        add_gram(self.inverse.view_mut(), 1.0, factors.view());
        symmetrise(&mut self.inverse);
        for &neuron in neurons {
            self.units[self.places[neuron].0].gone = true;
        }
        let sums = self.sums(|rows| {
            let projected = rows.dot(&factors.t());
            (projected.clone(), projected)
        });
        self.add(sums);
        Ok(())
    }
}

impl Values {
    fn new(subset: &Subset, means: Vec<f64>) -> Self {
        let (width, rows) = (subset.width, subset.values.len() / subset.width);
        let mut values = vec![0.0; subset.values.len()];
        values
            .par_chunks_mut(rows.max(1))
            .enumerate()
            .for_each(|(neuron, values)| {
                let column = subset.values.iter().skip(neuron).step_by(width);
                values
                    .iter_mut()
                    .zip(column)
                    .for_each(|(to, from)| *to = *from);
            });
        Self {
            rows,
            values,
            means,
        }
    }

    /// These neurons' values about their mean, `[n, N]`.
    fn of(&self, neurons: &[usize]) -> Array2<f64> {
        let mut rows = Array2::zeros((neurons.len(), self.rows));
        for (mut row, &neuron) in rows.rows_mut().into_iter().zip(neurons) {
            let (values, mean) = (&self.values[neuron * self.rows..], self.means[neuron]);
            let pairs = row.iter_mut().zip(values);
            pairs.for_each(|(to, from)| *to = f64::from(*from) - mean);
        }
        rows
    }
}
