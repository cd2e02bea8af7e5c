//! The trunk run over samples: what enters the head, batch by batch.
//!
//! [`probe`] asks one small run for the shapes that the file does not declare; [`ModelInput`] turns
//! samples into what the model's input takes; [`Trunk`] computes the features of a batch.
//!
//! A model whose batch size is fixed gets its last, short batch filled up with copies of the last
//! sample. The copies stay in every tensor behind it, since constants inside the model may name the
//! batch size: [`FeatureBatch::samples`] says how many leading samples are real, and whoever reads
//! the tensors looks at no others.

mod input;
mod probe;
#[cfg(test)]
pub(crate) mod testing;
mod trunk;

pub use input::{ModelInput, Samples};
pub use probe::probe;
pub use trunk::{FeatureBatch, Trunk};
