//! Ridge regression of one-hot classes on features: a last layer without any training.
//!
//! With X the features of n samples about their mean, `[n, F]`, Y the one-hot classes about theirs,
//! `[n, K]`, and m the mean variance of a feature:
//!
//! ```text
//! primal   W^T = (X^T X / n + l m I)^-1 X^T Y / n        F x F
//! dual     W^T = X^T (X X^T + n l m I)^-1 Y              n x n, the same weights
//! ```
//!
//! (Hoerl & Kennard 1970; on one-hot targets this is linear discriminant analysis up to a scale per
//! direction, Hastie, Tibshirani & Friedman, The Elements of Statistical Learning, 4.2-4.3.)

use ndarray::{Array2, ArrayView2, Axis};
use serde::Serialize;

use crate::algebra::{self, Cholesky, CrossCovariance};

/// Which of the two systems is solved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// Over features, F x F; samples are added up and forgotten.
    Primal,
    /// Over samples, n x n; all of them are held.
    Dual,
}

/// Samples seen so far, in either form.
#[derive(Clone, Debug)]
pub(super) struct Sums {
    width: usize,
    classes: usize,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Primal(Box<CrossCovariance>),
    Dual { rows: Vec<f32>, labels: Vec<usize> },
}

/// What predicts the one-hot classes: `x W^T + b`.
#[derive(Clone, Debug)]
pub(super) struct Solution {
    /// `[F, K]`.
    pub(super) weight: Array2<f64>,
    /// `[K]`.
    pub(super) bias: Vec<f64>,
}

impl Sums {
    pub(super) fn new(form: Form, width: usize, classes: usize) -> Self {
        let kind = match form {
            Form::Primal => Kind::Primal(Box::new(CrossCovariance::new(width, classes))),
            Form::Dual => Kind::Dual {
                rows: Vec::new(),
                labels: Vec::new(),
            },
        };
        Self {
            width,
            classes,
            kind,
        }
    }

    /// Adds samples: features `[n, F]`, row-major, and their classes, all below K.
    pub(super) fn add(&mut self, features: &[f32], classes: &[usize]) {
        match &mut self.kind {
            Kind::Primal(sums) => sums.add(features, &one_hot(classes, self.classes)),
            Kind::Dual { rows, labels } => {
                rows.extend_from_slice(features);
                labels.extend_from_slice(classes);
            }
        }
    }

    /// Adds what other samples gave, of the same form.
    pub(super) fn merge(&mut self, other: &Self) {
        match (&mut self.kind, &other.kind) {
            (Kind::Primal(sums), Kind::Primal(others)) => sums.merge(others),
            (Kind::Dual { .. }, Kind::Dual { rows, labels }) => self.add(rows, labels),
            _ => {}
        }
    }

    /// The solution for each ridge, relative to the mean variance of a feature; nothing where the
    /// system is singular, or where no feature varies.
    pub(super) fn solve(&self, ridges: &[f64]) -> Vec<Option<Solution>> {
        match &self.kind {
            Kind::Primal(sums) => self.primal(sums, ridges),
            Kind::Dual { rows, labels } => self.dual(rows, labels, ridges),
        }
    }

    fn primal(&self, sums: &CrossCovariance, ridges: &[f64]) -> Vec<Option<Solution>> {
        let (xx, xy) = (sums.xx(), sums.xy());
        let unit = xx.diag().sum() / self.width as f64;
        let solve = |ridge: &f64| {
            let system = with_ridge(&xx, ridge * unit);
            let weight = Cholesky::of(system).ok()?.solve(&xy);
            Some(centred_solution(weight, sums.x_mean(), sums.y_mean()))
        };
        solutions(ridges, unit, solve)
    }

    fn dual(&self, rows: &[f32], labels: &[usize], ridges: &[f64]) -> Vec<Option<Solution>> {
        let count = labels.len();
        let nothing = || ridges.iter().map(|_| None).collect();
        let Ok(rows) = ArrayView2::from_shape((count, self.width), rows) else {
            return nothing();
        };
        let Some(x_mean) = rows.mapv(f64::from).mean_axis(Axis(0)) else {
            return nothing();
        };
        let mut gram = Array2::zeros((count, count));
        let blocks = || (0..self.width).step_by(COLUMNS);
        let columns = |first: usize| {
            let end = (first + COLUMNS).min(self.width);
            Array2::from_shape_fn((end - first, count), |(column, row)| {
                f64::from(rows[[row, first + column]]) - x_mean[first + column]
            })
        };
        for first in blocks() {
            algebra::add_gram(gram.view_mut(), 1.0, columns(first).view());
        }
        algebra::symmetrise(&mut gram);
        let unit = gram.diag().sum() / (count as f64 * self.width as f64);
        let mut y = Array2::zeros((count, self.classes));
        for (mut row, &class) in y.rows_mut().into_iter().zip(labels) {
            row[class] = 1.0;
        }
        let y_mean = y.mean_axis(Axis(0)).unwrap_or_default();
        y -= &y_mean;
        let solve = |ridge: &f64| {
            let system = with_ridge(&gram, ridge * unit * count as f64);
            let alpha = Cholesky::of(system).ok()?.solve(&y);
            let mut weight = Array2::zeros((0, self.classes));
            for first in blocks() {
                let part = algebra::product(columns(first).view(), alpha.view());
                weight.append(Axis(0), part.view()).ok()?;
            }
            let y_mean = y_mean.iter().copied().collect::<Vec<_>>();
            let x_mean = x_mean.iter().copied().collect::<Vec<_>>();
            Some(centred_solution(weight, &x_mean, &y_mean))
        };
        solutions(ridges, unit, solve)
    }
}

/// Columns of the samples that are centred and held in f64 at a time.
const COLUMNS: usize = 1024;

impl Solution {
    /// What is predicted for features `[n, F]`: `[n, K]`.
    pub(super) fn predict(&self, features: &[f32]) -> Array2<f64> {
        let width = self.weight.nrows();
        let rows: Vec<f64> = features.iter().map(|&value| f64::from(value)).collect();
        let rows = Array2::from_shape_vec((rows.len() / width.max(1), width), rows);
        let mut scores = match rows {
            Ok(rows) => algebra::product(rows.view(), self.weight.view()),
            Err(_) => Array2::zeros((0, self.bias.len())),
        };
        for mut row in scores.rows_mut() {
            row.iter_mut()
                .zip(&self.bias)
                .for_each(|(score, bias)| *score += bias);
        }
        scores
    }
}

fn solutions(
    ridges: &[f64],
    unit: f64,
    solve: impl Fn(&f64) -> Option<Solution>,
) -> Vec<Option<Solution>> {
    let varies = unit > 0.0 && unit.is_finite();
    ridges
        .iter()
        .map(|ridge| varies.then(|| solve(ridge)).flatten())
        .collect()
}

fn with_ridge(matrix: &Array2<f64>, ridge: f64) -> Array2<f64> {
    let mut matrix = matrix.clone();
    matrix
        .diag_mut()
        .iter_mut()
        .for_each(|value| *value += ridge);
    matrix
}

/// Weights that were found about the means, as weights of the features themselves.
fn centred_solution(weight: Array2<f64>, x_mean: &[f64], y_mean: &[f64]) -> Solution {
    let columns = weight.columns().into_iter().zip(y_mean);
    let bias = columns.map(|(column, mean)| {
        let shift: f64 = column.iter().zip(x_mean).map(|(w, x)| w * x).sum();
        mean - shift
    });
    Solution {
        bias: bias.collect(),
        weight,
    }
}

fn one_hot(labels: &[usize], classes: usize) -> Vec<f32> {
    let mut rows = vec![0.0; labels.len() * classes];
    for (row, &class) in rows.chunks_exact_mut(classes).zip(labels) {
        row[class] = 1.0;
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::testing::Numbers;

    fn samples(count: usize, width: usize) -> (Vec<f32>, Vec<usize>) {
        let features: Vec<f32> = Numbers(3).take(count * width);
        let labels = features
            .chunks(width)
            .map(|row| usize::from(row[0] > 0.1) + usize::from(row[1] > 0.4));
        let labels = labels.collect();
        (features.iter().map(|value| value + 5.0).collect(), labels)
    }

    fn solved(form: Form, features: &[f32], labels: &[usize], width: usize) -> Solution {
        let mut sums = Sums::new(form, width, 3);
        let half = labels.len() / 2;
        sums.add(&features[..half * width], &labels[..half]);
        let mut rest = Sums::new(form, width, 3);
        rest.add(&features[half * width..], &labels[half..]);
        sums.merge(&rest);
        sums.solve(&[1e-2]).remove(0).unwrap()
    }

    #[test]
    fn both_forms_give_the_same_layer() {
        for (count, width) in [(40, 7), (9, 21)] {
            let (features, labels) = samples(count, width);
            let primal = solved(Form::Primal, &features, &labels, width);
            let dual = solved(Form::Dual, &features, &labels, width);
            let pairs = primal.weight.iter().zip(&dual.weight);
            let far = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(far < 1e-6, "{count} x {width}: {far}");
            let pairs = primal.bias.iter().zip(&dual.bias);
            assert!(pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max) < 1e-5);
        }
    }

    #[test]
    fn the_solution_has_no_gradient_left() {
        // The ridge objective's gradient, summed up naively.
        let (count, width, ridge) = (50, 5, 1e-2);
        let (features, labels) = samples(count, width);
        let found = solved(Form::Primal, &features, &labels, width);
        let x = |n: usize, i: usize| f64::from(features[n * width + i]);
        let mean = |i: usize| (0..count).map(|n| x(n, i)).sum::<f64>() / count as f64;
        let variance =
            |i: usize| (0..count).map(|n| (x(n, i) - mean(i)).powi(2)).sum::<f64>() / count as f64;
        let unit = (0..width).map(variance).sum::<f64>() / width as f64;
        let scores = found.predict(&features);
        for class in 0..3 {
            let wrong = |n: usize| scores[[n, class]] - f64::from(u8::from(labels[n] == class));
            assert!((0..count).map(wrong).sum::<f64>().abs() < 1e-6);
            for input in 0..width {
                let slope = (0..count).map(|n| wrong(n) * x(n, input)).sum::<f64>() / count as f64;
                let pull = ridge * unit * found.weight[[input, class]];
                assert!((slope + pull).abs() < 1e-6, "{slope} + {pull}");
            }
        }
    }

    #[test]
    fn features_that_never_vary_have_no_solution() {
        for form in [Form::Primal, Form::Dual] {
            let mut sums = Sums::new(form, 2, 2);
            sums.add(&[1.0, 2.0, 1.0, 2.0], &[0, 1]);
            assert!(sums.solve(&[1e-2])[0].is_none());
        }
    }
}
