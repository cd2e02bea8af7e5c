//! The matrices over the rows that repairs of many cuts are solved with, made together.
//!
//! What one cut reads of the features differs little from what a similar one reads, and so do sums
//! over them:
//!
//! ```text
//! K = K' + x_new x_new^T - x_gone x_gone^T        x about its mean over the fitted rows
//! ```

use std::collections::{BTreeMap, BTreeSet};

use ndarray::{Array2, ArrayView2, Axis};

use super::{
    Known, halves,
    pairs::{Pairs, Spread, blocks, only},
    ridge::{Fit, MOST, MOST_TUNED},
    spread,
};
use crate::{
    algebra::{add_gram, product},
    error::Result,
    features::FeatureSet,
};

/// Bytes of matrices that are held; cuts beyond these find their own.
const MOST_BYTES: usize = 512 << 20;

/// Rows that are read at a time.
const BATCH: usize = 256;

/// What the fitted rows have in common with each other, and the tuning rows with them.
#[derive(Clone, Debug)]
pub(super) struct Kernel {
    /// `X X^T`, its lower triangle.
    pub(super) fitted: Array2<f64>,
    /// `[tuning rows, fitted rows]`.
    pub(super) tuned: Array2<f64>,
}

impl Kernel {
    fn zeros(fitted: usize, tuned: usize) -> Self {
        Self {
            fitted: Array2::zeros((fitted, fitted)),
            tuned: Array2::zeros((tuned, fitted)),
        }
    }

    /// Of all inputs of these rows.
    pub(super) fn of(fitted: &Pairs, tuned: &Pairs, means: &[f64], spread: &Spread) -> Self {
        let mut kernel = Self::zeros(fitted.rows(), tuned.rows());
        for columns in blocks(fitted.inputs) {
            let live = &spread.live[columns.clone()];
            let x = only(live, fitted.centred(columns.clone(), means));
            kernel.add(1.0, x.t(), tuned.centred(columns, means).t());
        }
        kernel
    }

    /// Adds the products of some inputs, a row each, `factor` times.
    fn add(&mut self, factor: f64, fitted: ArrayView2<'_, f64>, tuned: ArrayView2<'_, f64>) {
        add_gram(self.fitted.view_mut(), factor, fitted);
        self.tuned.scaled_add(factor, &product(tuned.t(), fitted));
    }
}

/// Those of cuts that read some of the only feature.
#[derive(Debug)]
pub(super) struct Kernels {
    fit: Vec<usize>,
    tune: Vec<usize>,
    /// By what is read.
    made: BTreeMap<Vec<usize>, Kernel>,
}

impl Kernels {
    /// That of a cut which reads `inputs`, between the samples at these positions.
    pub(super) fn of(&self, inputs: &[usize], fit: &[usize], tune: &[usize]) -> Option<&Kernel> {
        let is_same = self.fit == fit && self.tune == tune;
        self.made.get(inputs).filter(|_| is_same)
    }
}

impl Known {
    /// Makes beforehand what least squares need of cuts whose first layer alone reads the only feature,
    /// vectors of f32: for each, the numbers of it that it reads, in rising order. The samples are
    /// those of [`super::Request`].
    ///
    /// What is made depends on all of `inputs`, in rounding.
    ///
    /// # Errors
    /// Those of reading features.
    pub fn prepare(
        &self,
        features: &FeatureSet,
        (fit, check): (&[usize], &[usize]),
        inputs: &[Vec<usize>],
    ) -> Result<()> {
        let tune = spread(&halves(check).0, MOST_TUNED);
        let bytes = (fit.len() + tune.len()) * fit.len() * size_of::<f64>();
        let dual = inputs
            .iter()
            .filter(|inputs| !Fit::is_primal(inputs.len(), fit.len()));
        let dual: BTreeSet<(usize, &[usize])> = dual
            .map(|inputs| (inputs.len(), inputs.as_slice()))
            .collect();
        // One by itself has nothing to follow from.
        if fit.len() < 2 || fit.len() > MOST || tune.is_empty() || dual.len() < 2 {
            return Ok(());
        }
        let (fitted, tuned) = (rows(features, fit)?, rows(features, &tune)?);
        let means = Pairs::means(&fitted.x, fitted.inputs);
        let live = Spread::new(&fitted.variances(&means), &means).live;
        let mut x = [fitted.turned(&means), tuned.turned(&means)];
        for (input, _) in live.iter().enumerate().filter(|(_, live)| !**live) {
            x[0].row_mut(input).fill(0.0);
        }
        let mut made: BTreeMap<Vec<usize>, Kernel> = BTreeMap::new();
        // From few inputs to many: sums that grow lose no digits.
        for (_, inputs) in dual.into_iter().take(MOST_BYTES / bytes) {
            let kernel = following(inputs, &made, &x);
            made.insert(inputs.to_vec(), kernel);
        }
        // Were they made already, these would be the same.
        let _ = self.kernels.set(Kernels {
            fit: fit.to_vec(),
            tune,
            made,
        });
        Ok(())
    }
}

/// From the nearest of those that are made, or from nothing where that is nearer. A row of x is an input.
fn following(
    inputs: &[usize],
    made: &BTreeMap<Vec<usize>, Kernel>,
    [fitted, tuned]: &[Array2<f64>; 2],
) -> Kernel {
    let without = |one: &[usize], other: &[usize]| -> Vec<usize> {
        let missing = |input: &&usize| other.binary_search(input).is_err();
        one.iter().filter(missing).copied().collect()
    };
    let steps = made.iter().map(|(base, kernel)| {
        let (new, gone) = (without(inputs, base), without(base, inputs));
        (kernel, new, gone)
    });
    let nearest = steps.min_by_key(|(_, new, gone)| new.len() + gone.len());
    let nearest = nearest.filter(|(_, new, gone)| new.len() + gone.len() < inputs.len());
    let (mut kernel, new, gone) = match nearest {
        Some((kernel, new, gone)) => (kernel.clone(), new, gone),
        None => {
            let kernel = Kernel::zeros(fitted.ncols(), tuned.ncols());
            (kernel, inputs.to_vec(), Vec::new())
        }
    };
    for (factor, changed) in [(1.0, new), (-1.0, gone)] {
        if !changed.is_empty() {
            let [fitted, tuned] = [fitted, tuned].map(|x| x.select(Axis(0), &changed));
            kernel.add(factor, fitted.view(), tuned.view());
        }
    }
    kernel
}

/// The features of these samples.
fn rows(features: &FeatureSet, positions: &[usize]) -> Result<Pairs> {
    let mut values = Vec::new();
    for batch in features.batches(positions, BATCH) {
        let batch = batch?;
        let tensor = batch.values.first();
        values.extend(
            tensor
                .iter()
                .flat_map(|tensor| tensor.to_f32().into_owned()),
        );
    }
    let inputs = values.len() / positions.len().max(1);
    let mut pairs = Pairs::new(inputs, 1);
    pairs.add(&values, &vec![0.0; positions.len()]);
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        algebra::{symmetrise, testing::assert_close},
        features::testing::Numbers,
        onnx::Tensor,
    };

    #[test]
    fn kernels_that_follow_from_each_other_are_those_of_their_inputs() {
        let (count, width) = (60, 90);
        let values = Tensor::f32([count, width], Numbers(3).take(count * width)).unwrap();
        let features = FeatureSet::from_memory(vec!["x".to_owned()], vec![values], None).unwrap();
        let each = |step: usize, first: usize| (first..width).step_by(step).collect();
        let inputs: Vec<Vec<usize>> = vec![
            each(1, 2),
            each(1, 0),
            each(2, 0),
            each(3, 1),
            // fewer than rows
            each(9, 0),
        ];
        let fit: Vec<usize> = (0..28).collect();
        let check: Vec<usize> = (28..count).rev().collect();
        let (tune, _) = halves(&check);
        let known = Known::default();
        known.prepare(&features, (&fit, &check), &inputs).unwrap();
        let kernels = known.kernels.get().unwrap();
        assert!(kernels.of(&inputs[4], &fit, &tune).is_none());
        assert!(kernels.of(&inputs[0], &tune, &fit).is_none());
        for inputs in &inputs[..4] {
            let found = kernels.of(inputs, &fit, &tune).unwrap();
            let some = |at: &[usize]| {
                let rows = rows(&features, at).unwrap();
                let values = rows.x.chunks_exact(width);
                let values = values.flat_map(|row| inputs.iter().map(|&input| row[input]));
                let mut some = Pairs::new(inputs.len(), 1);
                some.add(&values.collect::<Vec<_>>(), &vec![0.0; at.len()]);
                some
            };
            let (fitted, tuned) = (some(&fit), some(&tune));
            let means = Pairs::means(&fitted.x, fitted.inputs);
            let spread = Spread::new(&fitted.variances(&means), &means);
            let expected = Kernel::of(&fitted, &tuned, &means, &spread);
            let whole = |kernel: &Kernel| {
                let mut whole = kernel.fitted.clone();
                symmetrise(&mut whole);
                whole
            };
            // Sums in another order.
            assert_close(&whole(found), &whole(&expected), 1e-13);
            assert_close(&found.tuned, &expected.tuned, 1e-13);
        }
    }
}
