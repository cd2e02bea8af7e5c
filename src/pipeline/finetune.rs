//! Training the head of a model, and nothing else of it.

use std::{
    cell::{Cell, OnceCell},
    fs::{File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
};

use serde::Serialize;
use serde_json::json;

use super::{
    metadata,
    parts::{DataReport, FileReport, HeadReport},
    setup::{self, Setup, SourceOptions},
    shares::spread,
    transfer::{self, Learning, TransferOptions, TransferReport},
    watch::Watch,
};
use crate::{
    data,
    engine::EngineInfo,
    error::{Error, Result},
    eval::{self, Accuracy, Agreement},
    features::{self, ModelInput},
    finetune::{self, Epoch, Loss, Progress, Request, Stopped, Target, TrainOptions, Trained},
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
/// Steps between two lines of the log.
const LOGGED: u64 = 100;

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
    pub train: TrainOptions,
    /// The model whose scores are imitated; nothing to learn from labels.
    pub teacher: Option<PathBuf>,
    /// Whether the model gets a last layer for other classes first; whose scores choose says
    /// nothing here.
    pub transfer: Option<TransferOptions>,
    /// Where a line of JSON goes for each epoch and every 100 steps; appended.
    pub log: Option<PathBuf>,
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
    pub agreement: Option<Agreement>,
    /// Whether there is an output: not where the loss was no number before an epoch was done.
    pub passed: bool,
}

/// How a head was trained.
#[derive(Clone, Debug, Serialize)]
pub struct TrainingReport {
    /// The options.
    #[serde(flatten)]
    pub options: TrainOptions,
    /// The model whose scores were imitated.
    pub teacher: Option<PathBuf>,
    /// What was made small.
    pub loss: Loss,
    /// Samples trained on.
    pub samples: usize,
    /// Samples that decided which epoch is best.
    pub validation_samples: usize,
    /// Samples per step, where the head takes others than asked for.
    pub batch: usize,
    /// All epochs; the first is the start.
    pub history: Vec<Epoch>,
    /// The epoch whose weights were taken.
    pub best: usize,
    /// Steps taken.
    pub steps: u64,
    /// Why it ended.
    pub stopped: Stopped,
    /// What the user should know.
    pub notes: Vec<String>,
}

/// Trains the head of a model on features that the trunk computes once.
///
/// The output appears whole or not at all.
///
/// # Errors
/// Every [`Error`]; none of them leaves an output file.
pub fn finetune(options: &FinetuneOptions, watch: &dyn Watch) -> Result<FinetuneReport> {
    let model = setup::load(&options.input)?;
    let mut output = Output::create(&options.output, Some(&options.input), options.overwrite)?
        .protect(model.external_files())?;
    let transferred = OnceCell::new();
    let mut setup = Setup::new(&model, &options.source, watch)?;
    check(&setup, options)?;
    let mut log = options.log.as_deref().map(Log::open).transpose()?;
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
    let trained = trained(request, options, log.as_mut(), watch)?;
    trained.notes.iter().for_each(|note| watch.note(note));
    if let Stopped::NotFinite { epoch, step, what } = &trained.stopped {
        watch.note(&format!(
            "{what} was no number at step {step} (epoch {epoch}); the weights of epoch {} were kept: try a smaller --learning-rate",
            trained.best
        ));
    }
    finetune::apply(&mut changed, &trained.weights)?;
    let passed = !matches!(trained.stopped, Stopped::NotFinite { .. } if trained.best == 0);
    let (accuracy, agreement) = measure(&setup, &head, &changed, watch)?;
    let training = report(options, trained, (train.len(), validation.len()));
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
        engine: setup.engine().info().clone(),
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

fn trained(
    request: Request<'_>,
    options: &FinetuneOptions,
    mut log: Option<&mut Log>,
    watch: &dyn Watch,
) -> Result<Trained> {
    let steps = request.train.len().div_ceil(options.train.batch.max(1)) * options.train.epochs;
    watch.stage("training", Some(steps as u64));
    if let Some(log) = &mut log {
        log.line(
            &json!({ "event": "start", "options": options.train, "samples": request.train.len() }),
        )?;
    }
    let done = Cell::new(0);
    finetune::train(request, &options.train, &mut |progress| {
        watch.step(progress.step.saturating_sub(done.get()));
        done.set(progress.step);
        watch.status(&status(progress));
        if let Some(log) = &mut log {
            log.progress(progress)?;
        }
        if watch.cancelled() {
            watch.note(&resume(options, progress));
            return Err(setup::cancelled());
        }
        Ok(())
    })
}

/// `epoch 2/5, loss 0.3121, 88.91 %`
fn status(progress: &Progress<'_>) -> String {
    let Progress {
        epoch,
        epochs,
        loss,
        accuracy,
        ..
    } = progress;
    format!("epoch {epoch}/{epochs}, loss {loss:.4}, {accuracy:.2} %")
}

/// How a run that is ended now can be taken up again.
fn resume(options: &FinetuneOptions, progress: &Progress<'_>) -> String {
    match &options.train.checkpoint {
        Some(checkpoint) if progress.epoch > 1 || progress.finished.is_some() => format!(
            "no output was written; the same command goes on from {}",
            checkpoint.path.display()
        ),
        _ => "no output was written; the features stay in the cache, and with --checkpoint FILE a run goes on after its last whole epoch"
            .to_owned(),
    }
}

fn report(options: &FinetuneOptions, trained: Trained, counts: (usize, usize)) -> TrainingReport {
    TrainingReport {
        options: options.train.clone(),
        teacher: options.teacher.clone(),
        loss: trained.loss,
        samples: counts.0,
        validation_samples: counts.1,
        batch: trained.batch,
        history: trained.epochs,
        best: trained.best,
        steps: trained.steps,
        stopped: trained.stopped,
        notes: trained.notes,
    }
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

/// Accuracy and agreement of the whole models on the held-out samples.
fn measure(
    setup: &Setup<'_>,
    head: &Head,
    changed: &ModelProto,
    watch: &dyn Watch,
) -> Result<(Option<Accuracy>, Option<Agreement>)> {
    watch.stage("measuring", Some(2 * setup.shares.held_out.len() as u64));
    let before = top_classes(setup, head, setup.graph.model(), watch)?;
    let after = top_classes(setup, head, changed, watch)?;
    let agreement = eval::agreement(&before, &after);
    let reported = setup.reported();
    let accuracy = reported.labels().map(|labels| {
        let held_out = setup.shares.held_out.iter().map(|&at| labels[at]);
        let (labels, classes) = (held_out.collect::<Vec<_>>(), head.scores.classes);
        eval::accuracy(&before, &after, &labels, classes, reported.path())
    });
    Ok((accuracy.transpose()?, Some(agreement)))
}

/// The top class of each held-out sample in one version of the model.
fn top_classes(
    setup: &Setup<'_>,
    head: &Head,
    model: &ModelProto,
    watch: &dyn Watch,
) -> Result<Vec<usize>> {
    let graph = Graph::new(model)?;
    let name = setup.graph.name(head.scores.value);
    let scores: Vec<ValueId> = graph.value(name).into_iter().collect();
    let scoring = graph::with_outputs(&graph, &Shapes::declared(&graph), &scores);
    let scorer = eval::TopClasses {
        engine: setup.engine(),
        model: &scoring,
        input: &setup.input.name,
        classes: head.scores.classes,
    };
    scorer.of(setup.held_out()?.map(|batch| {
        let batch = batch?;
        if watch.cancelled() {
            return Err(setup::cancelled());
        }
        watch.step(batch.count as u64);
        Ok(batch)
    }))
}

/// Lines of JSON, one object each.
struct Log {
    path: PathBuf,
    file: File,
    last: u64,
}

impl Log {
    fn open(path: &Path) -> Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path);
        Ok(Self {
            path: path.to_owned(),
            file: file.map_err(Error::io(path))?,
            last: 0,
        })
    }

    fn line(&mut self, value: &serde_json::Value) -> Result<()> {
        writeln!(self.file, "{value}").map_err(Error::io(&self.path))
    }

    fn progress(&mut self, progress: &Progress<'_>) -> Result<()> {
        if let Some(epoch) = progress.finished {
            let rest = json!({ "event": "epoch", "step": progress.step, "steps": progress.steps });
            return self.line(&merged(rest, json!(epoch)));
        }
        if progress.step < self.last + LOGGED {
            return Ok(());
        }
        self.last = progress.step;
        self.line(&json!({
            "event": "step",
            "epoch": progress.epoch,
            "step": progress.step,
            "steps": progress.steps,
            "loss": progress.loss,
            "accuracy": progress.accuracy,
            "learning_rate": progress.learning_rate,
        }))
    }
}

/// The keys of both objects.
fn merged(mut one: serde_json::Value, other: serde_json::Value) -> serde_json::Value {
    if let (Some(keys), serde_json::Value::Object(more)) = (one.as_object_mut(), other) {
        keys.extend(more);
    }
    one
}
