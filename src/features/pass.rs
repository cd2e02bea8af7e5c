//! The trunk run over samples of a data set, batch by batch, in order.
//!
//! It runs in [`lanes`] where these fit into memory, else in one session with all threads, while the next batch is read.

use prost::Message;
use rayon::prelude::*;

use super::{
    FeatureBatch, ModelInput, Trunk,
    lanes::{self, Lanes},
    trunk,
};
use crate::{
    data::{Batches, Dataset},
    engine::Engine,
    error::Result,
    graph::{Graph, Shapes},
    head::Head,
};

/// What computes features, and of which samples.
#[derive(Clone, Copy)]
pub(crate) struct Passing<'p> {
    /// Runs the trunk.
    pub(crate) engine: &'p dyn Engine,
    /// The model.
    pub(crate) graph: &'p Graph<'p>,
    /// What is known of its values; see [`super::probe`].
    pub(crate) shapes: &'p Shapes,
    /// Its head.
    pub(crate) head: &'p Head,
    /// What it takes.
    pub(crate) input: &'p ModelInput,
    /// The samples to choose from.
    pub(crate) dataset: &'p Dataset,
    /// Samples per run; the model's own number where it is fixed.
    pub(crate) batch: usize,
}

/// The trunk, ready to run over samples.
pub(crate) struct Pass<'p> {
    passing: Passing<'p>,
    way: Way,
}

enum Way {
    Whole(Trunk),
    Lanes(Vec<Trunk>),
}

/// Batches of features, in the order of the samples. Ends after the first error.
pub(crate) struct Features<'p> {
    passing: Passing<'p>,
    running: Running,
}

enum Running {
    Whole(Trunk, Batches),
    Lanes(Lanes),
}

impl<'p> Pass<'p> {
    /// Loads the trunk.
    ///
    /// # Errors
    /// As [`Trunk::new`].
    pub(crate) fn new(passing: Passing<'p>) -> Result<Self> {
        let way = match (passing.lanes()?, passing.engine.with_one_thread()) {
            (Some(count), Some(engine)) => {
                // Side by side as well: loading prepares the weights for the processor.
                let trunks = (0..count).into_par_iter().map(|_| passing.trunk(&*engine));
                Way::Lanes(trunks.collect::<Result<_>>()?)
            }
            _ => Way::Whole(passing.trunk(passing.engine)?),
        };
        Ok(Self { passing, way })
    }

    /// What the engine says of how it runs the trunk.
    pub(crate) fn note(&self) -> Option<&str> {
        match &self.way {
            Way::Whole(trunk) => trunk.note(),
            Way::Lanes(trunks) => trunks.first()?.note(),
        }
    }

    /// In how many sessions it runs.
    pub(crate) fn sessions(&self) -> usize {
        match &self.way {
            Way::Whole(_) => 1,
            Way::Lanes(trunks) => trunks.len(),
        }
    }

    /// Begins with the samples at `indices` of the data set.
    pub(crate) fn over(self, indices: &[usize]) -> Features<'p> {
        let Passing {
            input,
            dataset,
            batch,
            ..
        } = self.passing;
        let running = match self.way {
            Way::Whole(trunk) => Running::Whole(trunk, dataset.batches(indices, batch)),
            Way::Lanes(trunks) => {
                Running::Lanes(Lanes::new(trunks, input, dataset, indices, batch.max(1)))
            }
        };
        Features {
            passing: self.passing,
            running,
        }
    }
}

impl Passing<'_> {
    fn trunk(&self, engine: &dyn Engine) -> Result<Trunk> {
        Trunk::new(engine, self.graph, self.shapes, self.head)
    }

    fn lanes(&self) -> Result<Option<usize>> {
        let Self {
            engine,
            graph,
            shapes,
            head,
            ..
        } = *self;
        let Some(model) = trunk::model(graph, shapes, head)? else {
            return Ok(None);
        };
        let batch = self.input.fixed_batch().map_or(self.batch, |_| 1);
        // A lane without a batch would be a session for nothing.
        let batches = self.dataset.len().div_ceil(self.batch.max(1));
        let threads = engine.info().threads.min(batches);
        let weights_bytes = model.encoded_len();
        Ok(lanes::count(threads, graph, shapes, weights_bytes, batch))
    }
}

impl Features<'_> {
    /// Runs the trunk on other samples than those that come next.
    ///
    /// # Errors
    /// As [`Trunk::run`].
    pub(crate) fn run(&mut self, indices: &[usize]) -> Result<FeatureBatch> {
        let samples = self.passing.dataset.read(indices)?;
        let samples = self.passing.input.samples(samples)?;
        match &mut self.running {
            Running::Whole(trunk, _) => trunk.run(samples),
            // Wanted twice in a run at most, where the file does not tell how features are laid out.
            Running::Lanes(_) => self.passing.trunk(self.passing.engine)?.run(samples),
        }
    }
}

impl Iterator for Features<'_> {
    type Item = Result<FeatureBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.running {
            Running::Whole(trunk, batches) => {
                let input = self.passing.input;
                let batch = batches.next()?;
                Some(batch.and_then(|batch| trunk.run(input.samples(batch)?)))
            }
            Running::Lanes(lanes) => lanes.next(),
        }
    }
}
