//! Features that are read once, in order, and held nowhere.

use super::{
    setup::{self, Setup},
    watch::Watch,
};
use crate::{
    error::Result,
    features::{FeatureBatch, Features, Pass, Passing},
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
    running: Option<Features<'s>>,
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

    fn start(&self) -> Result<Features<'s>> {
        let setup = self.setup;
        let pass = Pass::new(Passing {
            engine: setup.engine(),
            graph: &setup.graph,
            shapes: &setup.shapes,
            head: self.head,
            input: &setup.input,
            dataset: &setup.dataset,
            batch: self.batch,
        })?;
        if let Some(note) = pass.note() {
            self.watch.note(note);
        }
        if pass.sessions() > 1 {
            let count = pass.sessions();
            let detail = format!("the trunk runs in {count} sessions of one thread each");
            self.watch.detail(&detail);
        }
        let count = self.indices.len() as u64;
        self.watch
            .stage("running the trunk and scoring", Some(count));
        Ok(pass.over(self.indices))
    }

    fn read(&mut self) -> Result<Option<FeatureBatch>> {
        if self.indices.is_empty() {
            return Ok(None);
        }
        let running = match &mut self.running {
            Some(running) => running,
            None => {
                let running = self.start()?;
                self.running.insert(running)
            }
        };
        setup::still_wanted(self.watch)?;
        let Some(features) = running.next() else {
            return Ok(None);
        };
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
