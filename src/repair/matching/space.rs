//! Steps of the majorised problem, over the inputs or over the rows.
//!
//! X are the rows about their mean, `[N, F]`, A = X^T X / N + l·d·I. A step for residuals R
//! `[N, K]`, whose columns sum to 0, is W += A^-1 X^T R / N; what is followed is what it does to
//! the outputs X W:
//!
//! ```text
//! primal   A = L·L^T, V = X L^-T     U += V^T R / N     X W += V (V^T R / N)     W = L^-T U
//! dual     K = X X^T + N·l·d·I       U += K^-1 R        X W += R - N·l·d·K^-1 R  W = X^T U
//! ```

use ndarray::{Array2, Axis, Slice};

use super::super::{
    Form,
    pairs::{Pairs, Spread, blocks, only},
};
use crate::algebra::{Cholesky, NotPositiveDefinite, add_gram, product};

/// Inputs and rows that the coefficients U belong to.
pub(super) enum Space {
    Primal {
        factor: Cholesky,
        /// V^T of the fitted rows, `[F, N]`.
        fitted: Array2<f64>,
        /// V^T of the rows that choose, `[F, T]`.
        tuned: Array2<f64>,
    },
    Dual {
        factor: Cholesky,
        /// N·l·d
        ridge: f64,
        /// X of the rows that choose times X^T, `[T, N]`.
        across: Array2<f64>,
    },
}

impl Space {
    /// `ridge` is l·d; `means` are those of the fitted rows.
    ///
    /// # Errors
    /// [`NotPositiveDefinite`] where the ridge is lost in rounding.
    pub(super) fn new(
        form: Form,
        (fitted, tuned): (&Pairs, &Pairs),
        means: &[f64],
        spread: &Spread,
        ridge: f64,
    ) -> Result<Self, NotPositiveDefinite> {
        match form {
            Form::Primal | Form::Mean => Self::primal(fitted, tuned, means, spread, ridge),
            Form::Dual => Self::dual(fitted, tuned, means, spread, ridge),
        }
    }

    fn primal(
        fitted: &Pairs,
        tuned: &Pairs,
        means: &[f64],
        spread: &Spread,
        ridge: f64,
    ) -> Result<Self, NotPositiveDefinite> {
        let of = |pairs: &Pairs| only(&spread.live, pairs.centred(0..means.len(), means));
        let x = of(fitted);
        let mut gram = Array2::eye(means.len()) * ridge;
        add_gram(gram.view_mut(), 1.0 / fitted.rows().max(1) as f64, x.view());
        let factor = Cholesky::of(gram)?;
        let whitened = |x: Array2<f64>| factor.forward(&x.reversed_axes());
        Ok(Self::Primal {
            fitted: whitened(x),
            tuned: whitened(of(tuned)),
            factor,
        })
    }

    fn dual(
        fitted: &Pairs,
        tuned: &Pairs,
        means: &[f64],
        spread: &Spread,
        ridge: f64,
    ) -> Result<Self, NotPositiveDefinite> {
        let rows = fitted.rows();
        let ridge = ridge * rows as f64;
        let mut kernel = Array2::eye(rows) * ridge;
        let mut across = Array2::zeros((tuned.rows(), rows));
        for columns in blocks(means.len()) {
            let live = &spread.live[columns.clone()];
            let x = only(live, fitted.centred(columns.clone(), means));
            add_gram(kernel.view_mut(), 1.0, x.t());
            across += &product(tuned.centred(columns, means).view(), x.t());
        }
        let factor = Cholesky::of(kernel)?;
        Ok(Self::Dual {
            factor,
            ridge,
            across,
        })
    }

    /// Number of coefficients for each output.
    pub(super) fn width(&self) -> usize {
        match self {
            Self::Primal { factor, .. } | Self::Dual { factor, .. } => factor.order(),
        }
    }

    /// What a step adds to U, and what that adds to the outputs of the fitted rows.
    pub(super) fn step(&self, residuals: &Array2<f64>) -> (Array2<f64>, Array2<f64>) {
        match self {
            Self::Primal { fitted, .. } => {
                let mut step = product(fitted.view(), residuals.view());
                step /= residuals.nrows().max(1) as f64;
                let moved = product(fitted.t(), step.view());
                (step, moved)
            }
            Self::Dual { factor, ridge, .. } => {
                let step = factor.solve(residuals);
                let moved = residuals - &(&step * *ridge);
                (step, moved)
            }
        }
    }

    /// What U adds to the outputs of the rows that choose.
    pub(super) fn tuned(&self, coefficients: &Array2<f64>) -> Array2<f64> {
        match self {
            Self::Primal { tuned, .. } => product(tuned.t(), coefficients.view()),
            Self::Dual { across, .. } => product(across.view(), coefficients.view()),
        }
    }

    /// W, `[F, K]`.
    pub(super) fn weights(
        &self,
        coefficients: &Array2<f64>,
        fitted: &Pairs,
        means: &[f64],
        spread: &Spread,
    ) -> Array2<f64> {
        match self {
            Self::Primal { factor, .. } => factor.backward(coefficients),
            Self::Dual { .. } => {
                let mut weights = Array2::zeros((means.len(), coefficients.ncols()));
                for columns in blocks(means.len()) {
                    let live = &spread.live[columns.clone()];
                    let x = only(live, fitted.centred(columns.clone(), means));
                    let mut part = weights.slice_axis_mut(Axis(0), Slice::from(columns));
                    part.assign(&product(x.t(), coefficients.view()));
                }
                weights
            }
        }
    }
}
