//! Two dense layers with ReLU between them, trained in f64 by the textbook's formulas.

use std::collections::BTreeMap;

use ndarray::{Array1, Array2, Axis};

use super::super::{Loss, Optimizer, Training};
use crate::onnx::Tensor;

/// Numbers in -1..1, the same for the same seed (splitmix64).
pub(super) struct Numbers(pub(super) u64);

impl Numbers {
    pub(super) fn take(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.next()).collect()
    }

    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        (mixed >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}

/// y0 = 0.75 x w0ᵀ + 1.5 b0, z = relu(y0) w1ᵀ + b1.
pub(super) struct Reference {
    training: Training,
    weights: Vec<(&'static str, Array2<f64>)>,
    moments: Vec<[Array2<f64>; 2]>,
}

impl Reference {
    pub(super) fn new(start: &BTreeMap<String, Tensor>, training: Training) -> Self {
        let weights = ["w0", "b0", "w1", "b1"].map(|name| (name, matrix(&start[name])));
        let zeros = weights
            .iter()
            .map(|(_, w)| [Array2::zeros(w.dim()), Array2::zeros(w.dim())]);
        Self {
            moments: zeros.collect(),
            weights: weights.into(),
            training,
        }
    }

    pub(super) fn weights(&self) -> impl Iterator<Item = (&'static str, &Array2<f64>)> {
        self.weights.iter().map(|(name, weight)| (*name, weight))
    }

    /// The loss before the step.
    pub(super) fn step(
        &mut self,
        x: &Tensor,
        target: &Tensor,
        weight: &Tensor,
        (number, rate): (u64, f64),
    ) -> f64 {
        let (x, target, weight) = (matrix(x), matrix(target), matrix(weight));
        let [w0, b0, w1, b1] = [0, 1, 2, 3].map(|at| self.weights[at].1.clone());
        let t = f64::from(self.training.temperature);
        let y0 = 0.75 * x.dot(&w0.t()) + 1.5 * &b0;
        let h0 = y0.mapv(|y| y.max(0.0));
        let z = (h0.dot(&w1.t()) + &b1) / t;
        let (loss, dz) = match self.training.loss {
            Loss::CrossEntropy => {
                let sums: Array1<f64> =
                    z.map_axis(Axis(1), |row| row.iter().map(|z| z.exp()).sum());
                let log = &z - &sums.mapv(f64::ln).insert_axis(Axis(1));
                (
                    -(&target * &log).sum(),
                    log.mapv(f64::exp) * &weight - &target,
                )
            }
            Loss::BinaryCrossEntropy => {
                let loss = z.mapv(|z| (1.0 + z.exp()).ln()) * &weight - &target * &z;
                (
                    loss.sum(),
                    z.mapv(|z| 1.0 / (1.0 + (-z).exp())) * &weight - &target,
                )
            }
        };
        let dz = dz / t;
        let dy0 = dz.dot(&w1) * y0.mapv(|y| f64::from(u8::from(y > 0.0)));
        let sum = |d: &Array2<f64>| d.sum_axis(Axis(0)).insert_axis(Axis(0));
        let gradients = [
            0.75 * dy0.t().dot(&x),
            1.5 * sum(&dy0),
            dz.t().dot(&h0),
            sum(&dz),
        ];
        for (at, gradient) in gradients.into_iter().enumerate() {
            self.update(at, gradient, number, rate);
        }
        loss
    }

    fn update(&mut self, at: usize, gradient: Array2<f64>, number: u64, rate: f64) {
        let (name, weight) = &mut self.weights[at];
        let [first, second] = &mut self.moments[at];
        if name.starts_with('w') {
            *weight *= 1.0 - rate * f64::from(self.training.weight_decay);
        }
        match self.training.optimizer {
            Optimizer::Sgd { momentum } => {
                *first = f64::from(momentum) * &*first - rate * gradient;
                *weight += &*first;
            }
            Optimizer::AdamW {
                beta1,
                beta2,
                epsilon,
            } => {
                let (b1, b2) = (f64::from(beta1), f64::from(beta2));
                *first = b1 * &*first + (1.0 - b1) * &gradient;
                *second = b2 * &*second + (1.0 - b2) * &gradient * &gradient;
                let mean = &*first / (1.0 - b1.powi(number as i32));
                let root = (&*second / (1.0 - b2.powi(number as i32))).mapv(f64::sqrt);
                *weight -= &(rate * mean / (root + f64::from(epsilon)));
            }
        }
    }
}

fn matrix(tensor: &Tensor) -> Array2<f64> {
    let values = tensor
        .to_f32()
        .iter()
        .map(|&value| f64::from(value))
        .collect();
    let rows = if tensor.shape().len() == 2 {
        tensor.shape()[0]
    } else {
        1
    };
    Array2::from_shape_vec((rows, tensor.data().len() / rows), values).unwrap()
}
