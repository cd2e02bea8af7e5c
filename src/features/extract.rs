//! The trunk run over the samples that are wanted and not there yet.

use std::{path::Path, sync::Arc};

use super::{Cache, FeatureBatch, FeatureSet, Features, ModelInput, Pass, Passing, layout::Layout};
use crate::{
    data::{Dataset, Preprocess},
    engine::Engine,
    error::{Error, Result, Site},
    graph::{Graph, Shapes},
    head::Head,
    onnx::Tensor,
};

/// Which features are wanted, and what computes them.
#[derive(Clone, Copy)]
pub struct Extraction<'e> {
    /// Runs the trunk.
    pub engine: &'e dyn Engine,
    /// The model.
    pub graph: &'e Graph<'e>,
    /// What is known of its values; see [`super::probe`].
    pub shapes: &'e Shapes,
    /// Its head.
    pub head: &'e Head,
    /// The samples to choose from.
    pub dataset: &'e Dataset,
    /// What was done to them.
    pub preprocess: &'e Preprocess,
    /// The model's file, for the list of what the cache holds.
    pub model: Option<&'e Path>,
    /// What the model takes.
    pub input: &'e ModelInput,
    /// Positions in the data set of the samples that are wanted, in the order of the result.
    pub indices: &'e [usize],
    /// Samples per run; the model's own number where it is fixed.
    pub batch: usize,
    /// What was computed before.
    pub cache: &'e Cache,
}

/// What an extraction says while it works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'e> {
    /// The trunk will run over so many samples; what is there already is not counted.
    Begin(usize),
    /// So many more of them are done.
    Rows(usize),
    /// The features of so many samples are there already.
    Reused {
        /// Number of samples.
        samples: usize,
        /// Where they are.
        folder: &'e Path,
    },
    /// Something the user should know.
    Note(&'e str),
}

/// Hears of an extraction; an error stops it, and what is done so far stays in the cache.
pub type Listener<'l> = dyn FnMut(Event<'_>) -> Result<()> + 'l;

/// The features of the wanted samples: those that the cache holds, and the others from the trunk.
///
/// # Errors
/// [`Error::Engine`] when the engine cannot run the trunk; [`Error::Unsupported`] where a value that
/// enters the head has no part for each sample, or its element type is unknown; [`Error::Argument`]
/// for a sample that is not there, and where the features fit neither the cache nor memory;
/// [`Error::Data`] for samples that cannot be read, and whatever `on` gives.
pub fn extract(extraction: Extraction<'_>, on: &mut Listener<'_>) -> Result<FeatureSet> {
    let Extraction {
        dataset, indices, ..
    } = extraction;
    if let Some(bad) = indices.iter().find(|&&index| index >= dataset.len()) {
        return Err(Error::Argument {
            name: "indices",
            what: format!("there is no sample {bad} of {}", dataset.len()),
        });
    }
    extraction.cache.features(extraction, on)
}

/// The trunk at work.
pub(super) struct Run<'e> {
    extraction: Extraction<'e>,
    pass: Pass<'e>,
}

impl<'e> Run<'e> {
    /// Loads the trunk.
    pub(super) fn new(extraction: Extraction<'e>, on: &mut Listener<'_>) -> Result<Self> {
        let pass = Pass::new(extraction.passing())?;
        if let Some(note) = pass.note() {
            on(Event::Note(note))?;
        }
        Ok(Self { extraction, pass })
    }

    /// Runs over `missing`, batch by batch: `open` says where the rows go once the first batch has
    /// shown how they are laid out, or that they go nowhere; `add` takes the rows of the samples
    /// given, per value.
    pub(super) fn over<S>(
        self,
        missing: &[usize],
        known: Option<Arc<[Layout]>>,
        open: impl FnOnce(Arc<[Layout]>) -> Result<Option<S>>,
        mut add: impl FnMut(&mut S, &[usize], Vec<Vec<u8>>) -> Result<()>,
    ) -> Result<Option<S>> {
        let Self { extraction, pass } = self;
        let mut places = missing.chunks(extraction.size());
        let mut batches = pass.over(missing);
        let Some(first) = batches.next() else {
            return Err(Error::Argument {
                name: "indices",
                what: "no sample is wanted".to_owned(),
            });
        };
        let first = first?;
        let layouts = match known {
            Some(known) => known,
            None => extraction.layouts(&mut batches, &first)?.into(),
        };
        let Some(mut store) = open(layouts.clone())? else {
            return Ok(None);
        };
        let rows = split(&layouts, &first)?;
        drop(first);
        add(&mut store, places.next().unwrap_or_default(), rows)?;
        for (batch, place) in batches.zip(places) {
            add(&mut store, place, split(&layouts, &batch?)?)?;
        }
        Ok(Some(store))
    }
}

impl<'e> Extraction<'e> {
    fn passing(&self) -> Passing<'e> {
        Passing {
            engine: self.engine,
            graph: self.graph,
            shapes: self.shapes,
            head: self.head,
            input: self.input,
            dataset: self.dataset,
            batch: self.size(),
        }
    }

    /// Samples per run.
    fn size(&self) -> usize {
        self.input.fixed_batch().unwrap_or(self.batch).max(1)
    }

    /// As the shapes say, if the first batch agrees; else as two small runs show.
    fn layouts(&self, running: &mut Features<'_>, first: &FeatureBatch) -> Result<Vec<Layout>> {
        let Extraction {
            graph,
            shapes,
            head,
            input,
            ..
        } = *self;
        let declared = head.features.iter().zip(&first.values).map(|(&id, value)| {
            let known = shapes.tensor(id)?;
            let layout = Layout::declared(graph.name(id), known, input.fixed_batch())?;
            layout.split(value, first.rows, 0).ok()?;
            Some(layout)
        });
        if let Some(declared) = declared.collect::<Option<Vec<_>>>() {
            return Ok(declared);
        }
        let runs = match input.fixed_batch() {
            Some(size) => [self.probe(running, size, 0)?, self.probe(running, size, 1)?],
            None => [self.probe(running, 2, 0)?, self.probe(running, 3, 0)?],
        };
        let values = head.features.iter().enumerate().map(|(at, &id)| {
            let values: [&Tensor; 2] = [&runs[0].values[at], &runs[1].values[at]];
            Layout::seen(graph.name(id), values, [runs[0].rows, runs[1].rows])
        });
        let found: Vec<Layout> = values.collect::<Result<_>>()?;
        for (layout, value) in found.iter().zip(&first.values) {
            layout.split(value, first.rows, 0)?;
        }
        Ok(found)
    }

    /// `count` samples from `start` on, around the end.
    fn probe(
        &self,
        running: &mut Features<'_>,
        count: usize,
        start: usize,
    ) -> Result<FeatureBatch> {
        let wanted = (start..start + count).map(|index| index % self.dataset.len());
        running.run(&wanted.collect::<Vec<_>>())
    }
}

/// The rows of the real samples of a batch, per value.
fn split(layouts: &[Layout], batch: &FeatureBatch) -> Result<Vec<Vec<u8>>> {
    if layouts.len() != batch.values.len() {
        return Err(Error::Invalid {
            site: Site::value(layouts.first().map_or("features", |layout| &layout.name)),
            what: "the runtime gave another number of values than before".to_owned(),
        });
    }
    let values = layouts.iter().zip(&batch.values);
    let rows = values.map(|(layout, value)| layout.split(value, batch.rows, batch.samples));
    rows.collect()
}
