//! Features that are mostly 0, held without their zeros for all heads that read them.

use rayon::prelude::*;

use super::BATCH;
use crate::{
    algebra::{Sparse, SparseRow},
    error::Result,
    features::FeatureSet,
};

/// Samples that tell whether most features are 0.
const LOOKED_AT: usize = 16;

/// Bytes of the features at most, of which less than half are held as a rule.
const MOST_BYTES: u64 = 1 << 30;

/// The features of all samples.
#[derive(Debug)]
pub struct HeldFeatures {
    /// [`BATCH`] samples each.
    parts: Vec<Sparse>,
}

impl HeldFeatures {
    /// Nothing where the features are no vectors of f32, are many, or most are not 0.
    ///
    /// # Errors
    /// Those of reading features.
    pub fn of(features: &FeatureSet) -> Result<Option<Self>> {
        let all: Vec<usize> = (0..features.len()).collect();
        let some = &all[..all.len().min(LOOKED_AT)];
        let is_one = features.names().len() == 1 && features.fixed_batch().is_none();
        if some.is_empty() || !is_one || features.bytes() > MOST_BYTES {
            return Ok(None);
        }
        let some = features.read(some)?;
        let is_plain = some.values[0].shape().len() == 2 && features.has_plain_rows();
        let numbers = some.values[0].to_f32();
        let zeros = numbers.iter().filter(|number| **number == 0.0).count();
        if !is_plain || 2 * zeros <= numbers.len() {
            return Ok(None);
        }
        let width = numbers.len() / some.samples;
        let parts = all.par_chunks(BATCH).map(|part| {
            let batch = features.read(part)?;
            let mut held = Sparse::new(width);
            let numbers = batch.values[0].to_f32();
            numbers.chunks_exact(width).for_each(|row| held.add(row));
            Ok(held)
        });
        let parts = parts.collect::<Result<_>>()?;
        Ok(Some(Self { parts }))
    }

    /// The features of a sample.
    pub(super) fn row(&self, position: usize) -> SparseRow<'_> {
        self.parts[position / BATCH].row(position % BATCH)
    }
}
