//! Features that are read once, in order, and held nowhere.

use super::{
    setup::{self, Setup},
    watch::Watch,
};
use crate::{
    data::Batches,
    error::Result,
    features::{FeatureBatch, Trunk},
    head::Head,
};

/// The trunk run over some samples, batch by batch, as they are asked for.
pub(super) struct Stream<'s> {
    setup: &'s Setup<'s>,
    head: &'s Head,
    indices: &'s [usize],
    batch: usize,
    watch: &'s dyn Watch,
    /// From the first batch on: whoever needs no samples starts nothing.
    running: Option<(Trunk, Batches)>,
}

impl<'s> Stream<'s> {
    /// Over the samples at `indices` of the data set.
    ///
    /// # Errors
    /// [`crate::Error::Argument`] for a batch that the model does not take.
    pub(super) fn new(
        setup: &'s Setup<'s>,
        head: &'s Head,
        indices: &'s [usize],
        watch: &'s dyn Watch,
    ) -> Result<Self> {
        Ok(Self {
            batch: setup.batch_size()?,
            setup,
            head,
            indices,
            watch,
            running: None,
        })
    }

    fn start(&self) -> Result<(Trunk, Batches)> {
        let Setup { graph, shapes, .. } = self.setup;
        let trunk = Trunk::new(self.setup.engine(), graph, shapes, self.head)?;
        if let Some(note) = trunk.note() {
            self.watch.note(note);
        }
        let count = self.indices.len() as u64;
        self.watch
            .stage("running the trunk and scoring", Some(count));
        let batches = self.setup.dataset.batches(self.indices, self.batch);
        Ok((trunk, batches))
    }

    fn read(&mut self) -> Result<Option<FeatureBatch>> {
        if self.indices.is_empty() {
            return Ok(None);
        }
        let (trunk, batches) = match &mut self.running {
            Some(running) => running,
            None => {
                let running = self.start()?;
                self.running.insert(running)
            }
        };
        setup::still_wanted(self.watch)?;
        let Some(batch) = batches.next().transpose()? else {
            return Ok(None);
        };
        let features = trunk.run(self.setup.input.samples(batch)?);
        let features = features.map_err(|error| self.setup.with_fitting(error, self.batch))?;
        self.watch.step(features.samples as u64);
        Ok(Some(features))
    }
}

impl Iterator for Stream<'_> {
    type Item = Result<FeatureBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}
