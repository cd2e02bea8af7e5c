//! The trunk run over samples, once: what enters the head.
//!
//! [`probe`] asks one small run for the shapes that the file does not declare; [`ModelInput`] turns
//! samples into what the model's input takes; [`Trunk`] computes the features of a batch.
//! [`extract()`] runs it over the samples that a [`Cache`] does not hold yet, and gives a
//! [`FeatureSet`], which everything that scores, solves or trains reads from.
//!
//! A model whose batch size is fixed gets its last, short batch filled up with copies of the last
//! sample. The copies stay in every tensor behind it, since constants inside the model may name the
//! batch size: [`FeatureBatch::samples`] says how many leading samples are real, and whoever reads
//! the tensors looks at no others.

mod cache;
mod extract;
mod input;
mod joined;
mod lanes;
mod layout;
mod pass;
mod probe;
mod room;
mod rows;
mod selection;
mod set;
#[cfg(test)]
pub(crate) mod testing;
mod trunk;

pub use cache::{
    Cache, CacheChoice, CacheEntry, Cleared, MergedFeatures, is_part, merge_parts, write_part,
};
pub use extract::{Event, Extraction, Listener, extract};
pub use input::{ModelInput, Samples};
pub(crate) use joined::joined;
pub(crate) use pass::{Features, Pass, Passing};
pub use probe::probe;
pub use room::{fitting, sample_bytes};
pub use selection::selected;
pub use set::FeatureSet;
pub use trunk::{FeatureBatch, Trunk};
