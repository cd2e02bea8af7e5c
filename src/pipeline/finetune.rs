//! Training the head of a model, and nothing else of it.

use std::{
    cell::OnceCell,
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::{
    figures, metadata,
    parts::{DataReport, FileReport, HeadReport},
    setup::{self, Setup, SourceOptions},
    shares::spread,
    training::{self, Training, TrainingReport},
    transfer::{self, Learning, TransferOptions, TransferReport},
    watch::Watch,
};
use crate::{
    data,
    engine::EngineInfo,
    error::{Error, Result},
    eval::{self, Accuracy, Agreement},
    features::{self, ModelInput},
    finetune::{self, Request, Stopped, Target},
    graph::{self, Graph, Shapes, ValueId},
    head::{self, Head},
    onnx::{Model, ModelProto, Output, Overwrite},
};

/// Schema of [`FinetuneReport`].
const SCHEMA: &str = "onnx-prune/finetune/v1";
/// Share of the training samples that decide which epoch is best, and how many at most: 2,000 tell
/// 90 % to within 0.7 points.
const VALIDATION_SHARE: f64 = 0.1;
const MOST_VALIDATION: usize = 2000;

/// What fine-tuning can be told.
#[derive(Clone, Debug)]
pub struct FinetuneOptions {
    /// The model whose head is trained.
    pub input: PathBuf,
    /// Where the trained one goes.
    pub output: PathBuf,
    /// Whether an existing output may be replaced.
    pub overwrite: Overwrite,
    /// Data and engine; `samples` is the most to train on, all that are not held out by default.
    pub source: SourceOptions,
    /// How it is trained.
    pub training: Training,
    /// The model whose scores are imitated; nothing to learn from labels.
    pub teacher: Option<PathBuf>,
    /// Whether the model gets a last layer for other classes first; whose scores choose says
    /// nothing here.
    pub transfer: Option<TransferOptions>,
}

/// What fine-tuning did.
#[derive(Clone, Debug, Serialize)]
pub struct FinetuneReport {
    /// Name and version of this layout.
    pub schema: &'static str,
    /// The model before.
    pub input: FileReport,
    /// The model after; `bytes` is 0 where nothing was written.
    pub output: FileReport,
    /// What ran the steps.
    pub engine: EngineInfo,
    /// The samples.
    pub data: DataReport,
    /// Seed of every random choice.
    pub seed: u64,
    /// The head.
    pub head: HeadReport,
    /// The last layer for other classes; what is "before" is then the model with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transfer: Option<TransferReport>,
    /// How it was trained.
    pub training: TrainingReport,
    /// Top-1 accuracy on held-out samples, where there are labels.
    pub accuracy: Option<Accuracy>,
    /// Share of held-out samples whose top class is the same as before.
    pub agreement: Agreement,
    /// Whether there is an output: not where the loss was no number before an epoch was done.
    pub passed: bool,
}

/// Trains the head of a model on features that the trunk computes once.
///
/// The output appears whole or not at all.
///
/// # Errors
/// Every [`Error`]; none of them leaves an output file.
pub fn finetune(options: &FinetuneOptions, watch: &dyn Watch) -> Result<FinetuneReport> {
    watch.stage("loading the model", None);
    let model = setup::load(&options.input)?;
    let mut output = Output::create(&options.output, Some(&options.input), options.overwrite)?
        .protect(model.external_files())?;
    let transferred = OnceCell::new();
    let mut setup = Setup::new(&model, &options.source, watch)?;
    check(&setup, options)?;
    let mut head = setup.find_head(false, watch)?;
    if let Some(wanted) = &options.transfer {
        transfer::check(&setup, &head, wanted)?;
    }

    let (train, validation) = shares(&setup, options);
    let all: Vec<usize> = train.iter().chain(&validation).copied().collect();
    let features = setup.features(&head, &all, watch)?;
    let positions: Vec<usize> = (0..all.len()).collect();
    let (train, validation) = positions.split_at(train.len());
    let mut transfer = None;
    if let Some(wanted) = &options.transfer {
        let learning = Learning {
            features: &features,
            fit: train,
            check: validation,
        };
        let found = transfer::transferred(&setup, &head, learning, wanted, watch)?;
        setup.shapes = found.shapes;
        head = setup.replace_model(transferred.get_or_init(|| found.model))?;
        transfer = Some(found.report);
    }
    let scores = match &options.teacher {
        Some(teacher) => teacher_logits(&setup, &head, teacher, &all, watch)?,
        None => Vec::new(),
    };
    let labels: Vec<usize> = match setup.dataset.labels() {
        Some(labels) => all.iter().map(|&at| labels[at]).collect(),
        None => Vec::new(),
    };
    let target = match options.teacher {
        Some(_) => Target::Scores(&scores),
        None => Target::Labels(&labels),
    };
    let (mut changed, head_model) = own_head(&setup, &head)?;
    let request = Request {
        engine: setup.engine(),
        head_model: &head_model,
        classes: head.scores.classes,
        ending: head.scores.ending,
        features: &features,
        train,
        validation,
        target,
    };
    let trained = training::trained(request, &options.training, watch)?;
    finetune::apply(&mut changed, &trained.weights)?;
    if metadata::forget_zeros(&mut changed) {
        watch.note("neurons that were cut by zeros in the weights take part again: the model no longer says that they are gone");
    }
    metadata::add_weights(&mut changed, trained.weights.keys());
    let passed = !matches!(trained.stopped, Stopped::NotFinite { .. } if trained.best == 0);
    let (accuracy, agreement) = measure(&setup, &head, &changed, watch)?;
    let mut training =
        TrainingReport::new(&options.training, trained, (train.len(), validation.len()));
    training.teacher = options.teacher.clone();
    changed.set_metadata(
        "onnx_prune.finetune",
        serde_json::to_string(&training).unwrap_or_default(),
    );
    if let Some(transfer) = &transfer {
        metadata::write_transfer(&mut changed, transfer);
    }
    let bytes = if passed {
        watch.stage("writing", None);
        output.write(&changed, model.storage())?;
        let written = output.commit()?;
        written.bytes + written.external_bytes
    } else {
        0
    };
    Ok(FinetuneReport {
        schema: SCHEMA,
        input: FileReport::new(&options.input, model.file_bytes(), &model.proto),
        output: FileReport::new(&options.output, bytes, &changed),
        engine: setup.engine_used(watch),
        data: DataReport::new(&setup, &setup.dataset)?,
        seed: options.source.seed,
        head: HeadReport::new(&setup, &head),
        transfer,
        training,
        accuracy,
        agreement,
        passed,
    })
}

/// Refuses runs that have nothing to learn from, before any work.
fn check(setup: &Setup<'_>, options: &FinetuneOptions) -> Result<()> {
    if !setup.has_data() {
        return Err(Error::Argument {
            name: "--data",
            what: "training needs samples".to_owned(),
        });
    }
    if setup.dataset.labels().is_none() && options.teacher.is_none() {
        return Err(Error::Argument {
            name: "--teacher",
            what: format!(
                "{} has no labels, so the model has to learn from the scores of the original: name it here",
                setup.dataset.path().display()
            ),
        });
    }
    Ok(())
}

/// Samples to train on, and samples that decide which epoch is best.
fn shares(setup: &Setup<'_>, options: &FinetuneOptions) -> (Vec<usize>, Vec<usize>) {
    let training = &setup.shares.training;
    let chosen = match options.source.samples {
        Some(most) => spread(training, most),
        None => training.clone(),
    };
    if chosen.len() == 1 {
        return (chosen, Vec::new());
    }
    let share = VALIDATION_SHARE.min(MOST_VALIDATION as f64 / chosen.len().max(1) as f64);
    let (validation, train) = data::split(chosen.len(), share, options.source.seed);
    let at = |places: Vec<usize>| places.into_iter().map(|place| chosen[place]).collect();
    (at(train), at(validation))
}

/// The model with constants that only the head reads, and its head up to the logits.
pub(super) fn own_head(setup: &Setup<'_>, head: &Head) -> Result<(ModelProto, ModelProto)> {
    let original = &setup.graph;
    let changed = finetune::with_own_weights(original.model().clone(), &head.nodes)?;
    let graph = Graph::new(&changed)?;
    let mut shapes = Shapes::declared(&graph);
    for id in original.values() {
        let known = setup.shapes.tensor(id).cloned();
        if let (Some(known), Some(id)) = (known, graph.value(original.name(id))) {
            shapes.learn(id, known);
        }
    }
    let same = |id: ValueId| graph.value(original.name(id));
    let features: Vec<ValueId> = head.features.iter().filter_map(|&id| same(id)).collect();
    let logits: Vec<ValueId> = same(head.scores.logits).into_iter().collect();
    let part = graph::extract(&graph, &shapes, &features, &logits)?;
    Ok((changed, part))
}

/// Accuracy and agreement of the whole model before and after, on the held-out samples.
fn measure(
    setup: &Setup<'_>,
    head: &Head,
    changed: &ModelProto,
    watch: &dyn Watch,
) -> Result<(Option<Accuracy>, Agreement)> {
    watch.stage("measuring", Some(2 * setup.shares.held_out.len() as u64));
    let before = figures::top_of_whole(setup, head, setup.graph.model(), watch)?;
    let after = figures::top_of_whole(setup, head, changed, watch)?;
    let agreement = eval::agreement(&before, &after);
    let labels = setup.held_out_labels();
    let accuracy = labels
        .map(|labels| {
            let classes = head.scores.classes;
            eval::accuracy(&before, &after, &labels, classes, setup.reported().path())
        })
        .transpose()?;
    Ok((accuracy, agreement))
}

/// Logits of another model of the same classes for these samples, `[N, K]`.
fn teacher_logits(
    setup: &Setup<'_>,
    head: &Head,
    path: &Path,
    indices: &[usize],
    watch: &dyn Watch,
) -> Result<Vec<f32>> {
    let unfit = |what: String| Error::Argument {
        name: "--teacher",
        what: format!("{}: {what}", path.display()),
    };
    let teacher: Model = setup::load(path)?;
    let graph = Graph::new(&teacher.proto)?;
    let input = ModelInput::of(&graph)?;
    if input.dims.get(1..) != setup.input.dims.get(1..) {
        return Err(unfit(format!(
            "takes samples of {:?}, the trained model of {:?}",
            input.dims, setup.input.dims
        )));
    }
    let size = input.fixed_batch().map_or_else(|| setup.batch_size(), Ok)?;
    let first = setup.dataset.batches(&indices[..1], size).next();
    let first = first.ok_or_else(|| unfit("there is no sample for it".to_owned()))??;
    let declared = Shapes::declared(&graph);
    let shapes = features::probe(
        setup.engine(),
        &graph,
        &declared,
        &input.samples(first)?.input,
    )?;
    let found = head::find(&graph, &shapes)?.scores;
    if found.classes != head.scores.classes {
        return Err(unfit(format!(
            "has {} classes, the trained model {}",
            found.classes, head.scores.classes
        )));
    }
    let scoring = graph::with_outputs(&graph, &shapes, &[found.logits]);
    let mut session = setup.engine().load(&scoring)?;
    watch.stage("asking the teacher", Some(indices.len() as u64));
    let mut logits = Vec::with_capacity(indices.len() * found.classes);
    for batch in setup.dataset.batches(indices, size) {
        let samples = input.samples(batch?)?;
        let outputs = session.run(&[(&input.name, &samples.input)])?;
        let rows = outputs
            .first()
            .map(|output| output.to_f32())
            .unwrap_or_default();
        let real = rows.get(..samples.count * found.classes);
        let real = real.ok_or_else(|| unfit("gives several scores per class".to_owned()))?;
        logits.extend_from_slice(real);
        watch.step(samples.count as u64);
        if watch.cancelled() {
            return Err(setup::cancelled());
        }
    }
    Ok(logits)
}
