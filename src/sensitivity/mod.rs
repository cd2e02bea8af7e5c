//! How much the class scores depend on each neuron: criteria in, [`crate::prune::Scores`] out.
//!
//! N samples n, K classes j, F neurons i of a layer. The default criterion is local sensitivity:
//!
//! ```text
//! s_ji(n) = dy_j / dx_i                               at sample n
//! A_ji    = (mean over n of |s_ji(n)|^p)^(1/p)        or the maximum, p = inf
//! Phi_i   = q-norm over j of A_ji                     q = p unless --over-classes is given
//! ```
//!
//! A neuron that a layer holds at several *positions* of one sample (pixels, tokens, the places of a
//! flattened channel) counts each as a further output: A is taken per class, neuron and position,
//! and the q-norm goes over classes and positions. A neuron that several operators read gets the
//! sum of its derivatives at all of them; where these see different numbers of positions, they are
//! joined by the q-norm instead.
//!
//! Samples stream through in batches, class rows in blocks, and what is kept are sums in f64: results
//! depend on batch size and threads only by rounding. Sums of [`crate::shards::block`] samples each are
//! joined along one tree, so that many machines find the same, bit for bit; what is held grows with the
//! logarithm of the number of samples. [`collect`] adds up, [`conclude`] makes scores of it.

mod cells;
mod criteria;
mod forward;
mod gradient;
mod linear;
mod moments;
mod norm;
mod options;
mod power_sums;
mod redundancy;
mod score;
mod structure;
mod sums;
mod target;
mod terms;
#[cfg(test)]
mod tests;
mod weights;

pub use criteria::Criterion;
pub use gradient::gradient_model;
pub use norm::Norm;
pub use options::{Of, Scale, ScoreOptions, Slopes};
pub use score::{Request, ScoreReport, Scored, collect, conclude, score, score_norms};
pub use structure::has_worst_case;
pub use sums::Collected;
pub use terms::{LayerTerms, Terms};
