//! What is made small, and its derivative by the logits.

use serde::Serialize;

use crate::grad::var::Var;

/// The loss of a batch, from logits z, targets t and weights w: t and w are summed as they are, so
/// whoever wants a mean gives weights that sum to one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Loss {
    /// `-sum_nk t_nk log softmax(z_n)_k`: one class per sample.
    CrossEntropy,
    /// `sum_nk w_n softplus(z_nk) - t_nk z_nk`: each class for itself, for models that end in a
    /// sigmoid.
    BinaryCrossEntropy,
}

impl Loss {
    /// The loss, `[]`, and its derivative by the logits, `[N, K]`.
    pub(super) fn write<'t>(
        self,
        logits: Var<'t>,
        target: Var<'t>,
        weight: Var<'t>,
        temperature: f32,
    ) -> (Var<'t>, Var<'t>) {
        let z = logits / temperature;
        let (loss, slope) = match self {
            Self::CrossEntropy => {
                // Not by LogSoftmax: tract 0.23.9 takes the logarithm of the shares, which may be 0.
                let low = z - z.largest(&[1]);
                let powers = low.exp();
                let sum = powers.sum(&[1]);
                let loss = -(target * (low - sum.ln())).sum_away(&[0, 1]);
                (loss, powers / sum * weight - target)
            }
            Self::BinaryCrossEntropy => {
                // softplus(z) = max(z, 0) + log(1 + exp(-|z|))
                let softplus = z.relu() + ((-z.abs()).exp() + 1.0).ln();
                let loss = (softplus * weight - target * z).sum_away(&[0, 1]);
                (loss, z.sigmoid() * weight - target)
            }
        };
        (loss, slope / temperature)
    }
}
