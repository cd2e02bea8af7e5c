//! Training as part of a run: what it is told, what it says while it works, what comes of it.

use std::{
    cell::Cell,
    fs::{File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
};

use serde::Serialize;
use serde_json::json;

use super::{setup, watch::Watch};
use crate::{
    error::{Error, Result},
    finetune::{self, Epoch, Loss, Progress, Request, Stopped, TrainOptions, Trained},
};

/// Steps between two lines of the log.
const LOGGED: u64 = 100;

/// How a head is trained, and what is written down meanwhile.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Training {
    /// How it is trained.
    #[serde(flatten)]
    pub options: TrainOptions,
    /// Whether the original's own scores are learned even where there are labels.
    pub distill: bool,
    /// Which share of the target comes from the labels where both they and the original's scores
    /// are learned; nothing where one of them is.
    pub label_share: Option<f64>,
    /// Where a line of JSON goes for each epoch and every 100 steps; appended.
    #[serde(skip)]
    pub log: Option<PathBuf>,
}

/// How a head was trained.
#[derive(Clone, Debug, Serialize)]
pub struct TrainingReport {
    /// What it was told.
    #[serde(flatten)]
    pub training: Training,
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

/// Trains, and says how it goes.
///
/// # Errors
/// Those of [`finetune::train`]; [`Error::Io`] when the log cannot be written.
pub(super) fn trained(
    request: Request<'_>,
    training: &Training,
    watch: &dyn Watch,
) -> Result<Trained> {
    let options = &training.options;
    let mut log = training.log.as_deref().map(Log::open).transpose()?;
    let steps = request.train.len().div_ceil(options.batch.max(1)) * options.epochs;
    watch.stage("training", Some(steps as u64));
    if let Some(log) = &mut log {
        log.line(&json!({ "event": "start", "options": options, "samples": request.train.len() }))?;
    }
    let done = Cell::new(0);
    let trained = finetune::train(request, options, &mut |progress| {
        watch.step(progress.step.saturating_sub(done.get()));
        done.set(progress.step);
        watch.status(&status(progress));
        if let Some(log) = &mut log {
            log.progress(progress)?;
        }
        if watch.cancelled() {
            watch.note(&resume(options, progress));
        }
        setup::still_wanted(watch)
    })?;
    trained.notes.iter().for_each(|note| watch.note(note));
    if let Stopped::NotFinite { epoch, step, what } = &trained.stopped {
        watch.note(&format!(
            "{what} was no number at step {step} (epoch {epoch}); the weights of epoch {} were kept: try a smaller --learning-rate",
            trained.best
        ));
    }
    Ok(trained)
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
fn resume(options: &TrainOptions, progress: &Progress<'_>) -> String {
    match &options.checkpoint {
        Some(checkpoint) if progress.epoch > 1 || progress.finished.is_some() => format!(
            "no output was written; the same command goes on from {}",
            checkpoint.path.display()
        ),
        _ => "no output was written; the features stay in the cache, and with --checkpoint FILE a run goes on after its last whole epoch"
            .to_owned(),
    }
}

impl TrainingReport {
    /// `counts`: samples trained on, and samples that decided which epoch is best.
    pub(super) fn new(training: &Training, trained: Trained, counts: (usize, usize)) -> Self {
        Self {
            training: training.clone(),
            teacher: None,
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
