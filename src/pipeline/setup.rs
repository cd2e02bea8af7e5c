//! What every run begins with: the model's graph, an engine, samples, the head.

use std::path::{Path, PathBuf};

use super::{metadata, watch::Watch};
use crate::{
    data::{self, DataOptions, Dataset, InputShape, Overrides, Preprocess},
    engine::{self, Engine, EngineChoice, EngineOptions, Selected},
    error::{Error, Result},
    features::{self, FeatureBatch, ModelInput, Samples, Trunk},
    graph::{Graph, Shapes, ValueId},
    head::{self, Head},
    onnx::{Dim, Model},
};

/// Share of a data set that is scored; the rest is held out for proof and accuracy.
const SCORED_SHARE: f64 = 0.8;
/// Most samples that are scored without `--samples`. On Fashion-MNIST nets the kept set of 1,000
/// images overlapped that of 10,000 by 95 % and more for p = 1 and 2.
const MOST_SCORED: usize = 1000;
/// The same for synthetic noise, of which more tells nothing new.
const MOST_SYNTHETIC: usize = 32;
/// Most held-out samples that accuracy is measured on: 2,000 tell 90 % to within 0.7 points.
const MOST_HELD_OUT: usize = 2000;
/// Samples of the proof; every one of them runs through each model in each engine.
const PROOF_SAMPLES: usize = 16;
/// The same for inputs of 64 x 64 x 3 values and more.
const PROOF_SAMPLES_LARGE: usize = 4;
const LARGE_SAMPLE: usize = 12_288;

/// Where samples come from and what computes on them.
#[derive(Clone, Debug, Default)]
pub struct SourceOptions {
    /// Data set; nothing for synthetic noise.
    pub data: Option<PathBuf>,
    /// Flags on preprocessing.
    pub overrides: Overrides,
    /// Most samples to score; 1,000 by default, 32 of synthetic noise.
    pub samples: Option<usize>,
    /// Seed of every random choice.
    pub seed: u64,
    /// Which runtime, and where.
    pub engine: EngineOptions,
    /// Samples per run.
    pub batch: Option<usize>,
}

/// A model ready to be worked on.
pub(super) struct Setup<'m> {
    pub(super) options: &'m SourceOptions,
    pub(super) graph: Graph<'m>,
    pub(super) shapes: Shapes,
    pub(super) input: ModelInput,
    pub(super) preprocess: Preprocess,
    pub(super) dataset: Dataset,
    pub(super) selected: Selected,
    /// Positions of the samples that are scored, sorted.
    pub(super) scored: Vec<usize>,
    /// Positions of the samples held out, sorted; the scored ones where there is only one sample.
    pub(super) held_out: Vec<usize>,
}

impl<'m> Setup<'m> {
    /// Opens engine and data for a loaded model.
    pub(super) fn new(
        model: &'m Model,
        options: &'m SourceOptions,
        watch: &dyn Watch,
    ) -> Result<Self> {
        let graph = Graph::new(&model.proto)?;
        let input = ModelInput::of(&graph)?;
        let selected = engine::open(&options.engine)?;
        if let Some(note) = &selected.note {
            watch.note(note);
        }
        let stored = model.proto.metadata(metadata::PREPROCESS);
        let preprocess = Preprocess::find(&options.overrides, model.path(), stored)?;
        if options.samples == Some(0) {
            return Err(Error::Argument {
                name: "--samples",
                what: "at least one sample is needed".to_owned(),
            });
        }
        let dims: Vec<Option<usize>> = input.dims.iter().map(Dim::fixed).collect();
        let mut reading = DataOptions::new(
            InputShape::from_dims(&dims, preprocess.layout)?,
            input.name.clone(),
        );
        reading.seed = options.seed;
        reading.preprocess = preprocess.clone();
        let dataset = match &options.data {
            Some(path) => Dataset::open(path, &reading)?,
            None => {
                let scored = options.samples.unwrap_or(MOST_SYNTHETIC);
                reading.samples = Some(scored.max(1).saturating_mul(5).div_ceil(4));
                Dataset::synthetic(&reading)?
            }
        };
        let (scored, held_out) = split(dataset.len(), options);
        Ok(Self {
            shapes: Shapes::declared(&graph),
            options,
            graph,
            input,
            preprocess,
            dataset,
            selected,
            scored,
            held_out,
        })
    }

    pub(super) fn has_data(&self) -> bool {
        self.options.data.is_some()
    }

    pub(super) fn engine(&self) -> &dyn Engine {
        &*self.selected.engine
    }

    /// The head. Where the file declares too little, one run shows the shapes; `frugal` skips that
    /// run if a head is found without it.
    pub(super) fn find_head(&mut self, frugal: bool, watch: &dyn Watch) -> Result<Head> {
        let declared = head::find(&self.graph, &self.shapes);
        if let Ok(found) = &declared
            && (frugal || self.is_declared(found))
        {
            return declared;
        }
        watch.stage("finding the head", None);
        let sample = self.samples(&self.scored[..1])?;
        self.shapes = features::probe(self.engine(), &self.graph, &self.shapes, &sample[0].input)?;
        head::find(&self.graph, &self.shapes)
    }

    /// Whether type and rank of everything in the head is known.
    fn is_declared(&self, head: &Head) -> bool {
        let read = |node| {
            let count = self.graph.node(node).input.len();
            (0..count).filter_map(move |input| self.graph.input(node, input))
        };
        let made = |node| {
            let count = self.graph.node(node).output.len();
            (0..count).filter_map(move |output| self.graph.output(node, output))
        };
        let known =
            |id: ValueId| self.graph.constant(id).is_some() || self.shapes.tensor(id).is_some();
        !head.wants_shapes
            && head
                .nodes
                .iter()
                .all(|&node| read(node).chain(made(node)).all(known))
    }

    /// Samples per run.
    pub(super) fn batch_size(&self) -> Result<usize> {
        let own = self.input.fixed_batch();
        match (self.options.batch, own) {
            (Some(0), _) => Err(Error::Argument {
                name: "--batch",
                what: "at least one sample is needed".to_owned(),
            }),
            (Some(asked), Some(own)) if asked != own => Err(Error::Argument {
                name: "--batch",
                what: format!("the model takes batches of {own} samples only, not {asked}"),
            }),
            (Some(asked), _) => Ok(asked),
            (None, _) => Ok(self.input.batch_size(self.sample_size())),
        }
    }

    fn sample_size(&self) -> usize {
        self.dataset.sample_shape().iter().product()
    }

    /// Reads samples into memory, in batches.
    pub(super) fn samples(&self, indices: &[usize]) -> Result<Vec<Samples>> {
        self.stream(indices)?.collect()
    }

    /// Reads samples batch by batch.
    pub(super) fn stream(
        &self,
        indices: &[usize],
    ) -> Result<impl Iterator<Item = Result<Samples>> + '_> {
        let batches = self.dataset.batches(indices, self.batch_size()?);
        Ok(batches.map(|batch| self.input.samples(batch?)))
    }

    /// Runs the trunk over the scored samples; each batch is one step for `watch`.
    pub(super) fn features<'s>(
        &'s self,
        trunk: &'s mut Trunk,
        watch: &'s dyn Watch,
    ) -> Result<impl Iterator<Item = Result<FeatureBatch>> + 's> {
        let samples = self.stream(&self.scored)?;
        let features = trunk.features(samples);
        Ok(features.map(move |batch| {
            let batch = batch?;
            if watch.cancelled() {
                return Err(cancelled());
            }
            watch.step(batch.samples as u64);
            Ok(batch)
        }))
    }

    /// Fresh samples for the proof.
    pub(super) fn proof_samples(&self) -> Result<Vec<Samples>> {
        let most = if self.sample_size() < LARGE_SAMPLE {
            PROOF_SAMPLES
        } else {
            PROOF_SAMPLES_LARGE
        };
        let chosen = spread(&self.held_out, most);
        let batch = self.input.fixed_batch().unwrap_or(chosen.len());
        let batches = self.dataset.batches(&chosen, batch);
        batches.map(|batch| self.input.samples(batch?)).collect()
    }

    /// The chosen engine, and the other one where it is there.
    pub(super) fn all_engines(&self, watch: &dyn Watch) -> Result<Vec<Selected>> {
        let chosen = self.engine().info().name;
        let options = &self.options.engine;
        let threads = options.threads;
        let first = Selected {
            engine: self.selected.engine.clone(),
            note: None,
        };
        if chosen != engine::tract(threads).info().name {
            let second = Selected {
                engine: engine::tract(threads),
                note: None,
            };
            return Ok(vec![first, second]);
        }
        let wanted = EngineOptions {
            engine: EngineChoice::Ort,
            provider: engine::ProviderChoice::Cpu,
            ..options.clone()
        };
        match engine::open(&wanted) {
            Ok(second) => Ok(vec![first, second]),
            Err(error) if options.ort_library.is_some() => Err(error),
            Err(error) => {
                watch.note(&format!("the proof runs in {chosen} alone: {error}"));
                Ok(vec![first])
            }
        }
    }
}

/// The error of a run that was asked to end.
pub(super) fn cancelled() -> Error {
    Error::Io {
        path: PathBuf::from("run"),
        source: std::io::ErrorKind::Interrupted.into(),
    }
}

/// Loads a model, saying what could be meant where there is no such file.
pub(super) fn load(path: &Path) -> Result<Model> {
    Model::load(path, &crate::onnx::Limits::default())
}

fn split(count: usize, options: &SourceOptions) -> (Vec<usize>, Vec<usize>) {
    let (mut scored, mut held_out) = data::split(count, SCORED_SHARE, options.seed);
    if held_out.is_empty() {
        held_out.clone_from(&scored);
    }
    if scored.is_empty() {
        scored.clone_from(&held_out);
    }
    let scored = spread(&scored, options.samples.unwrap_or(MOST_SCORED));
    (scored, spread(&held_out, MOST_HELD_OUT))
}

/// At most `most` entries, evenly spread.
fn spread(indices: &[usize], most: usize) -> Vec<usize> {
    if indices.len() <= most {
        return indices.to_vec();
    }
    (0..most)
        .map(|index| indices[index * indices.len() / most])
        .collect()
}
