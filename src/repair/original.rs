//! The original head: what every site should make, computed once per batch.

use std::{borrow::Cow, collections::BTreeMap};

use super::{
    Request,
    sites::Wave,
    streams::{leading_to, run},
};
use crate::{engine::Session, error::Result, features::FeatureBatch, graph, onnx::Tensor};

/// Numbers that are held, 512 MiB of them; batches beyond that are computed again.
const MOST_HELD: usize = 1 << 27;

/// The original head, loaded, and what it made so far.
pub(super) struct Original {
    session: Box<dyn Session>,
    features: Vec<String>,
    /// Names of the values that the sites of all waves make.
    values: Vec<String>,
    /// By the positions of a batch.
    known: BTreeMap<Vec<usize>, Vec<Tensor>>,
    held: usize,
}

impl Original {
    /// Loads what leads to the sites of all waves.
    ///
    /// # Errors
    /// [`crate::Error::Engine`] when the engine cannot load it.
    pub(super) fn new<'w>(
        request: Request<'_>,
        waves: impl Iterator<Item = &'w Wave>,
    ) -> Result<Self> {
        let Request {
            engine,
            graph,
            shapes,
            head,
            features,
            ..
        } = request;
        let sites = waves.flat_map(|wave| &wave.sites);
        let mut values: Vec<String> = sites.map(|site| site.dense.value.clone()).collect();
        values.sort();
        values.dedup();
        let names: Vec<&str> = values.iter().map(String::as_str).collect();
        let whole = graph::extract(graph, shapes, &head.features, &[head.scores.value])?;
        Ok(Self {
            session: engine.load(&leading_to(&whole, &names)?)?,
            features: features.names().to_vec(),
            values,
            known: BTreeMap::new(),
            held: 0,
        })
    }

    /// Where a value is among those of [`Original::values`].
    pub(super) fn place(&self, value: &str) -> Option<usize> {
        self.values.iter().position(|name| name == value)
    }

    /// All values for the batch of the samples at `positions`.
    pub(super) fn values(
        &mut self,
        positions: &[usize],
        batch: &FeatureBatch,
    ) -> Result<Cow<'_, [Tensor]>> {
        if !self.known.contains_key(positions) {
            let made = run(self.session.as_mut(), &self.features, batch)?;
            let numbers: usize = made.iter().map(|tensor| tensor.data().len()).sum();
            if self.held + numbers > MOST_HELD {
                return Ok(Cow::Owned(made));
            }
            self.held += numbers;
            self.known.insert(positions.to_vec(), made);
        }
        let known = self.known.get(positions).map(Vec::as_slice);
        Ok(Cow::Borrowed(known.unwrap_or_default()))
    }
}
