//! What every run begins with: the model's graph, an engine, samples, the head.

use std::path::{Path, PathBuf};

use super::{
    metadata,
    shares::{Shares, spread},
    watch::Watch,
};
use crate::{
    data::{DataOptions, Dataset, InputShape, OnBadSample, Overrides, Preprocess, readable_bytes},
    engine::{self, Engine, EngineChoice, EngineInfo, EngineOptions, Selected},
    error::{Error, Result},
    features::{self, Cache, CacheChoice, Event, Extraction, FeatureSet, ModelInput, Samples},
    graph::{Graph, Shapes, ValueId},
    head::{self, Head},
    onnx::{Dim, Model, ModelProto},
    prune::trunk,
};

/// Most samples of synthetic noise that are scored without `--samples`; more tell nothing new.
const MOST_SYNTHETIC: usize = 32;
/// Neurons of one channel: of a 5 x 5 map or more. Dropped one by one, 7 of 10, they all go once in 7,000 channels.
const MANY_POSITIONS: usize = 25;
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
    /// A second data set, for figures alone; nothing to hold out a part of `data`.
    pub test: Option<PathBuf>,
    /// Flags on preprocessing.
    pub overrides: Overrides,
    /// What becomes of samples that cannot be used.
    pub on_bad_sample: OnBadSample,
    /// Most samples to score and solve on; 1,000 by default, 32 of synthetic noise.
    pub samples: Option<usize>,
    /// Whether as many are taken as it takes for others to choose the same neurons, in place of
    /// `samples`; where neurons are chosen, that is.
    pub until_stable: bool,
    /// Seed of every random choice.
    pub seed: u64,
    /// Which runtime, and where.
    pub engine: EngineOptions,
    /// Samples per run.
    pub batch: BatchSize,
    /// Where features are kept between runs; those of synthetic noise are never kept.
    pub cache: CacheChoice,
}

/// How many samples go through a model at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BatchSize {
    /// By the size of a sample, or what the model insists on.
    #[default]
    Usual,
    /// So many.
    Of(usize),
    /// As many as fit into free memory; never more than usual on a CPU, where that gains nothing.
    Fitting,
}

/// A model ready to be worked on.
pub(super) struct Setup<'m> {
    pub(super) options: &'m SourceOptions,
    model: Option<&'m Path>,
    pub(super) graph: Graph<'m>,
    pub(super) shapes: Shapes,
    pub(super) input: ModelInput,
    pub(super) preprocess: Preprocess,
    pub(super) dataset: Dataset,
    /// The `--test` data set.
    test: Option<Dataset>,
    pub(super) selected: Selected,
    /// The wanted engine is opened when something is to be run.
    is_engine_pending: bool,
    pub(super) shares: Shares,
    cache: Cache,
    /// Samples per run that fit, once that was asked.
    fitting: Option<usize>,
}

impl<'m> Setup<'m> {
    /// Opens engine and data for a loaded model.
    pub(super) fn new(
        model: &'m Model,
        options: &'m SourceOptions,
        watch: &dyn Watch,
    ) -> Result<Self> {
        watch.stage("opening engine and data", None);
        let selected = opened(&options.engine, watch)?;
        Self::with_engine(model, options, selected, watch)
    }

    /// The same for a run that may need no engine: where none was asked for by name, ONNX Runtime is loaded only if
    /// finding the head takes a run. It takes longer to load (20 ms) than a small model to be looked at.
    pub(super) fn thrifty(
        model: &'m Model,
        options: &'m SourceOptions,
        watch: &dyn Watch,
    ) -> Result<Self> {
        let EngineOptions {
            engine,
            provider,
            precision,
            threads,
            ort_library,
        } = &options.engine;
        let asked = *engine != EngineChoice::Auto
            || *provider != engine::ProviderChoice::Auto
            || precision.is_some()
            || ort_library.is_some();
        if asked {
            return Self::new(model, options, watch);
        }
        watch.stage("opening data", None);
        let embedded = Selected {
            engine: engine::tract(*threads),
            note: None,
        };
        Ok(Self {
            is_engine_pending: true,
            ..Self::with_engine(model, options, embedded, watch)?
        })
    }

    fn with_engine(
        model: &'m Model,
        options: &'m SourceOptions,
        selected: Selected,
        watch: &dyn Watch,
    ) -> Result<Self> {
        let graph = Graph::new(&model.proto)?;
        let input = ModelInput::of(&graph)?;
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
        reading.on_bad_sample = options.on_bad_sample;
        if options.data.is_some() && options.on_bad_sample == OnBadSample::Skip {
            watch.stage("looking for bad samples", None);
        }
        let dataset = match &options.data {
            Some(path) => Dataset::open(path, &reading)?,
            None => {
                let scored = options.samples.unwrap_or(MOST_SYNTHETIC);
                reading.samples = Some(scored.max(1).saturating_mul(5).div_ceil(4));
                Dataset::synthetic(&reading)?
            }
        };
        let test = options.test.as_deref();
        let test = test.map(|path| Dataset::open(path, &reading)).transpose()?;
        if let Some(test) = &test {
            same_classes(&dataset, test)?;
        }
        let cache = match &options.data {
            Some(_) => Cache::open(&options.cache)?,
            None => Cache::open(&CacheChoice::Off)?,
        };
        Ok(Self {
            shares: Shares::of(dataset.len(), test.as_ref().map(Dataset::len), options),
            shapes: Shapes::declared(&graph),
            options,
            graph,
            input,
            preprocess,
            model: model.path(),
            dataset,
            test,
            selected,
            is_engine_pending: false,
            cache,
            fitting: None,
        })
    }

    /// Shares the samples out anew, at most so many to score.
    pub(super) fn share_out(&mut self, samples: usize) {
        let options = SourceOptions {
            samples: Some(samples),
            ..self.options.clone()
        };
        let test = self.test.as_ref().map(Dataset::len);
        self.shares = Shares::of(self.dataset.len(), test, &options);
    }

    /// Goes on with another version of the model, whose values have the same names and shapes, and
    /// finds its head.
    pub(super) fn replace_model(&mut self, model: &'m ModelProto) -> Result<Head> {
        let graph = Graph::new(model)?;
        self.shapes = self.shapes.carried(&self.graph, &graph, &[]);
        self.graph = graph;
        head::find(&self.graph, &self.shapes)
    }

    pub(super) fn has_data(&self) -> bool {
        self.options.data.is_some()
    }

    /// Whether features that were computed are there for a later run.
    pub(super) fn keeps_features(&self) -> bool {
        self.cache.folder().is_some()
    }

    pub(super) fn engine(&self) -> &dyn Engine {
        &*self.selected.engine
    }

    /// What computed, once all has been: tells of nodes that are not where they were asked for.
    pub(super) fn engine_used(&self, watch: &dyn Watch) -> EngineInfo {
        let info = self.engine().info();
        if !info.on_cpu.is_empty() {
            watch.note(&format!(
                "not on {}, since ONNX Runtime runs them on the CPU only: {}",
                info.provider, info.on_cpu
            ));
        }
        info.clone()
    }

    /// The head. Where the file declares too little, one run shows the shapes; `frugal` skips that
    /// run if a head is found without it.
    pub(super) fn find_head(&mut self, frugal: bool, watch: &dyn Watch) -> Result<Head> {
        let head = self.head(frugal, watch)?;
        self.fit_batch(watch)?;
        Ok(head)
    }

    fn head(&mut self, frugal: bool, watch: &dyn Watch) -> Result<Head> {
        let declared = head::find(&self.graph, &self.shapes);
        if let Ok(found) = &declared
            && (frugal || self.is_declared(found))
        {
            return declared;
        }
        watch.stage("finding the head", None);
        self.open_engine(watch)?;
        let sample = self.samples(&self.shares.calibration[..1])?;
        self.shapes = features::probe(self.engine(), &self.graph, &self.shapes, &sample[0].input)?;
        head::find(&self.graph, &self.shapes)
    }

    /// Opens the wanted engine, if that was put off.
    pub(super) fn open_engine(&mut self, watch: &dyn Watch) -> Result<()> {
        if std::mem::take(&mut self.is_engine_pending) {
            self.selected = opened(&self.options.engine, watch)?;
        }
        Ok(())
    }

    /// The head, as one run shows it where the file declares too little for the trunk to lose
    /// channels. No run is made where hardly any could go, since every channel makes many neurons.
    pub(super) fn look_at_trunk(&mut self, head: Head, watch: &dyn Watch) -> Result<Head> {
        if self.is_declared(&head) {
            return Ok(head);
        }
        let groups = head.layers.iter().map(|layer| &layer.group);
        let mut fed = groups.filter(|group| group.layers().next().is_none());
        let hardly_any = fed.all(|group| {
            trunk::positions(&self.graph, group).is_some_and(|count| count >= MANY_POSITIONS)
        });
        if !hardly_any {
            return self.find_head(false, watch);
        }
        watch.note(
            "the trunk was not looked at: its shapes are not declared, nothing is run without a \
             proof, and hardly any of its channels would lose all their neurons",
        );
        Ok(head)
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
            (BatchSize::Of(0), _) => Err(Error::Argument {
                name: "--batch",
                what: "at least one sample is needed".to_owned(),
            }),
            (BatchSize::Of(asked), Some(own)) if asked != own => Err(Error::Argument {
                name: "--batch",
                what: format!("the model takes batches of {own} samples only, not {asked}"),
            }),
            (BatchSize::Of(asked), _) => Ok(asked),
            (BatchSize::Usual, _) => Ok(self.usual_batch()),
            (BatchSize::Fitting, _) => Ok(self.fitting.unwrap_or_else(|| self.usual_batch())),
        }
    }

    /// Whether nobody says how many samples go together, neither the user nor the model nor a device's memory.
    pub(super) fn is_batch_open(&self) -> bool {
        let open = self.options.batch == BatchSize::Usual && self.input.fixed_batch().is_none();
        open && !self.computes_on_device()
    }

    fn usual_batch(&self) -> usize {
        match self.computes_on_device() {
            true => self.input.device_batch_size(self.sample_size()),
            false => self.input.batch_size(self.sample_size()),
        }
    }

    fn computes_on_device(&self) -> bool {
        self.engine().info().precision.is_some()
    }

    /// Finds out how many samples fit, where that is wanted and the model leaves it open.
    fn fit_batch(&mut self, watch: &dyn Watch) -> Result<()> {
        if self.options.batch != BatchSize::Fitting || self.input.fixed_batch().is_some() {
            return Ok(());
        }
        let Some((fits, sample, free)) = self.room()? else {
            watch.note("nobody says how much memory is free: batches are of the usual size");
            return Ok(());
        };
        let fits = match self.computes_on_device() {
            true => fits,
            false => fits.min(self.usual_batch()),
        };
        watch.note(&format!(
            "batches of {fits} samples: one takes {}, and {} are free",
            readable_bytes(sample),
            readable_bytes(free)
        ));
        self.fitting = Some(fits);
        Ok(())
    }

    /// Samples that fit into free memory at once, the bytes of one, and those that are free; nothing
    /// where nobody says how many these are.
    fn room(&self) -> Result<Option<(usize, u64, u64)>> {
        let Some(free) = self.engine().free_memory() else {
            return Ok(None);
        };
        let sample = self.dataset.read(&self.shares.calibration[..1])?;
        let sample = self.input.samples(sample)?.input;
        let bytes = features::sample_bytes(self.engine(), &self.graph, &self.shapes, &sample)?;
        Ok(Some((features::fitting(free, bytes), bytes, free)))
    }

    /// Adds to an error about memory how many samples would have fitted; `batch` did not.
    pub(super) fn with_fitting(&self, error: Error, batch: usize) -> Error {
        match error {
            Error::OutOfMemory { engine, what, .. } => {
                // Where even one sample fails, there is nothing to say.
                let room = self.room().ok().flatten();
                let fits = room
                    .map(|(fits, ..)| fits.min(batch / 2))
                    .filter(|&fits| fits > 0);
                Error::OutOfMemory { engine, what, fits }
            }
            other => other,
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

    /// Reads the held-out samples batch by batch.
    pub(super) fn held_out(&self) -> Result<impl Iterator<Item = Result<Samples>> + '_> {
        let held_out = &self.shares.held_out;
        let batches = self.reported().batches(held_out, self.batch_size()?);
        Ok(batches.map(|batch| self.input.samples(batch?)))
    }

    /// The data set that held-out samples are counted in.
    pub(super) fn reported(&self) -> &Dataset {
        self.test.as_ref().unwrap_or(&self.dataset)
    }

    /// The `--test` data set, where there is one.
    pub(super) fn test(&self) -> Option<&Dataset> {
        self.test.as_ref()
    }

    /// Classes of the held-out samples, where they are known.
    pub(super) fn held_out_labels(&self) -> Option<Vec<usize>> {
        let labels = self.reported().labels()?;
        let held_out = self.shares.held_out.iter();
        Some(held_out.map(|&index| labels[index]).collect())
    }

    /// The features of samples of the data set, in the order of `indices`. Whatever was asked for
    /// before, in this run or with the same cache, is not computed again.
    pub(super) fn features(
        &self,
        head: &Head,
        indices: &[usize],
        watch: &dyn Watch,
    ) -> Result<FeatureSet> {
        self.extract(head, &self.dataset, indices, watch)
    }

    /// The features of all held-out samples.
    pub(super) fn held_out_features(&self, head: &Head, watch: &dyn Watch) -> Result<FeatureSet> {
        self.extract(head, self.reported(), &self.shares.held_out, watch)
    }

    fn extract(
        &self,
        head: &Head,
        dataset: &Dataset,
        indices: &[usize],
        watch: &dyn Watch,
    ) -> Result<FeatureSet> {
        let extraction = self.extraction(head, dataset, indices)?;
        let found = features::extract(extraction, &mut |event| {
            tell(watch, "running the trunk", event)
        });
        found.map_err(|error| self.with_fitting(error, extraction.batch))
    }

    /// What computes the features of the samples at `indices`.
    pub(super) fn extraction<'e>(
        &'e self,
        head: &'e Head,
        dataset: &'e Dataset,
        indices: &'e [usize],
    ) -> Result<Extraction<'e>> {
        Ok(Extraction {
            engine: self.engine(),
            graph: &self.graph,
            shapes: &self.shapes,
            head,
            dataset,
            preprocess: &self.preprocess,
            model: self.model,
            input: &self.input,
            indices,
            batch: self.batch_size()?,
            cache: &self.cache,
        })
    }

    /// Fresh samples for the proof.
    pub(super) fn proof_samples(&self) -> Result<Vec<Samples>> {
        let most = if self.sample_size() < LARGE_SAMPLE {
            PROOF_SAMPLES
        } else {
            PROOF_SAMPLES_LARGE
        };
        let chosen = spread(&self.shares.held_out, most);
        let batch = self.input.fixed_batch().unwrap_or(chosen.len());
        let batches = self.reported().batches(&chosen, batch);
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
            precision: None,
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

/// Passes on what is heard of features, as the stage `name`.
pub(super) fn tell(watch: &dyn Watch, name: &str, event: Event<'_>) -> Result<()> {
    match event {
        Event::Begin(rows) => watch.stage(name, Some(rows as u64)),
        Event::Rows(rows) => watch.step(rows as u64),
        Event::Reused { samples, folder } => watch.note(&format!(
            "features of {samples} samples come from {}",
            folder.display()
        )),
        Event::Note(text) => watch.note(text),
    }
    still_wanted(watch)
}

/// The engine that is asked for, with what was fallen back to said aloud.
fn opened(options: &EngineOptions, watch: &dyn Watch) -> Result<Selected> {
    let selected = engine::open(options)?;
    if let Some(note) = &selected.note {
        watch.note(note);
    }
    Ok(selected)
}

/// The error of a run that was asked to end.
pub(super) fn cancelled() -> Error {
    Error::Io {
        path: PathBuf::from("run"),
        source: std::io::ErrorKind::Interrupted.into(),
    }
}

/// [`cancelled`], once the user has asked for the end.
pub(super) fn still_wanted(watch: &dyn Watch) -> Result<()> {
    if watch.cancelled() {
        return Err(cancelled());
    }
    Ok(())
}

/// Loads a model, saying what could be meant where there is no such file.
pub(super) fn load(path: &Path) -> Result<Model> {
    Model::load(path, &crate::onnx::Limits::default())
}

/// Classes count by the names of folders, which must be the same in both data sets.
fn same_classes(dataset: &Dataset, test: &Dataset) -> Result<()> {
    match (dataset.class_names(), test.class_names()) {
        (Some(ours), Some(others)) if ours != others => Err(Error::Data {
            path: test.path().to_owned(),
            what: format!(
                "its class folders are {others:?}, those of {} {ours:?}",
                dataset.path().display()
            ),
        }),
        _ => Ok(()),
    }
}
