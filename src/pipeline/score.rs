//! Scores without pruning.

use std::{cell::Cell, path::PathBuf};

use serde::Serialize;

use super::{
    material::Samples,
    parts::{DataReport, HeadReport},
    setup::{self, Setup, SourceOptions},
    watch::Watch,
};
use crate::{
    engine::EngineInfo,
    error::Result,
    graph::{Graph, Shapes},
    head::Head,
    prune::Scores,
    sensitivity::{self, Norm, Of, ScoreOptions, Scored},
};

/// Schema of [`ScoreReport`].
const SCHEMA: &str = "onnx-prune/score/v1";

/// What a scoring run can be told.
#[derive(Clone, Debug)]
pub struct ScoreRunOptions {
    /// The model.
    pub input: PathBuf,
    /// Data and engine.
    pub source: SourceOptions,
    /// How neurons are scored.
    pub score: ScoreOptions,
    /// Which class scores are differentiated; probabilities with data, logits without, by default.
    pub of: Option<Of>,
}

/// Scores of all layers of a head.
#[derive(Clone, Debug, Serialize)]
pub struct ScoreReport {
    /// Name and version of this layout.
    pub schema: &'static str,
    /// The model.
    pub input: PathBuf,
    /// What computed the scores.
    pub engine: EngineInfo,
    /// The samples.
    pub data: DataReport,
    /// How the neurons were scored.
    pub score: sensitivity::ScoreReport,
    /// Seed of every random choice.
    pub seed: u64,
    /// The head.
    pub head: HeadReport,
    /// Layers that could not be cut, or only in part, and why.
    pub notes: Vec<String>,
    /// One score per neuron of every layer.
    #[serde(flatten)]
    pub scores: Scores,
}

/// Scores every neuron of the head.
///
/// # Errors
/// Every [`crate::Error`].
pub fn score(options: &ScoreRunOptions, watch: &dyn Watch) -> Result<ScoreReport> {
    let model = setup::load(&options.input)?;
    let mut setup = Setup::new(&model, &options.source, watch)?;
    let frugal = !options.score.criterion.needs_samples();
    let head = setup.find_head(frugal, watch)?;
    let view = View::of(&setup, &head);
    let scored = scores(&setup, view, &options.score, options.of, None, watch)?;
    Ok(ScoreReport {
        schema: SCHEMA,
        input: options.input.clone(),
        engine: setup.engine_used(watch),
        data: DataReport::new(&setup, &setup.dataset)?,
        score: scored.report,
        seed: options.source.seed,
        head: HeadReport::new(&setup, &head),
        notes: head.notes,
        scores: scored.scores,
    })
}

/// A model and its head, as scores see them.
#[derive(Clone, Copy)]
pub(super) struct View<'v> {
    pub(super) graph: &'v Graph<'v>,
    pub(super) shapes: &'v Shapes,
    pub(super) head: &'v Head,
}

impl<'v> View<'v> {
    /// The model of the run.
    pub(super) fn of(setup: &'v Setup<'_>, head: &'v Head) -> Self {
        Self {
            graph: &setup.graph,
            shapes: &setup.shapes,
            head,
        }
    }
}

/// Runs the criterion over the scored samples, if it wants any. Without `samples`, their features
/// are computed then.
pub(super) fn scores(
    setup: &Setup<'_>,
    view: View<'_>,
    options: &ScoreOptions,
    of: Option<Of>,
    samples: Option<Samples>,
    watch: &dyn Watch,
) -> Result<Scored> {
    let norms = [(options.norm, options.class_norm())];
    let options = &ScoreOptions {
        seed: setup.options.seed,
        ..options.clone()
    };
    let mut all = scores_of_norms(setup, view, options, of, &norms, samples, watch)?;
    Ok(all.pop().expect("one pair of norms gives one result"))
}

/// [`scores`] for several pairs of norms, over the samples and over the classes, in one pass.
pub(super) fn scores_of_norms(
    setup: &Setup<'_>,
    view: View<'_>,
    options: &ScoreOptions,
    of: Option<Of>,
    norms: &[(Norm, Norm)],
    samples: Option<Samples>,
    watch: &dyn Watch,
) -> Result<Vec<Scored>> {
    let default = match setup.has_data() {
        true => Of::Probabilities,
        false => Of::Logits,
    };
    let options = ScoreOptions {
        of: of.unwrap_or(default),
        ..options.clone()
    };
    let ranked = Cell::new(0);
    let request = sensitivity::Request {
        engine: setup.engine(),
        graph: view.graph,
        shapes: view.shapes,
        head: view.head,
        options: &options,
        real_samples: setup.has_data(),
        on_ranked: &|done, total| {
            if watch.cancelled() {
                return Err(setup::cancelled());
            }
            match done {
                0 => watch.stage("ranking", Some(total as u64)),
                _ => watch.step((done - ranked.replace(done)) as u64),
            }
            Ok(())
        },
    };
    // Not before the criterion asks for samples: a head that is linear up to the logits needs none.
    let mut calibration = samples;
    let count = setup.shares.calibration.len();
    let places: Vec<usize> = (0..count).collect();
    let batch = setup.batch_size()?;
    let batches = places.chunks(batch).map(|part| {
        let calibration = match &mut calibration {
            Some(calibration) => calibration,
            none => none.insert(Samples::of(
                setup,
                view.head,
                &setup.shares.calibration,
                watch,
            )?),
        };
        if part.first() == Some(&0) {
            watch.stage("scoring", Some(count as u64));
        }
        let batch = calibration.read(part)?;
        setup::still_wanted(watch)?;
        watch.step(batch.samples as u64);
        Ok(batch)
    });
    let scored = sensitivity::score_norms(request, norms, batches)?;
    let first = scored.first().map(|scored| &scored.report);
    if first.is_some_and(|report| report.samples > 0) && !setup.has_data() {
        watch.note(
            "no --data: the scores come from synthetic noise, which shows less than real samples \
             (a head of one linear layer, on logits, needs no data at all)",
        );
    }
    if let Some(way) = first.and_then(|report| report.way.as_ref()) {
        watch.detail(&format!("derivatives {way}"));
    }
    let notes = first.into_iter().flat_map(|report| &report.notes);
    notes.for_each(|note| watch.note(note));
    Ok(scored)
}
