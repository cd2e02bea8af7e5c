//! Scores without pruning.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
};

use serde::{Deserialize, Serialize};

use super::{
    enough::{self, EnoughReport},
    material::Samples,
    parts::{DataReport, HeadReport},
    setup::{self, Setup, SourceOptions},
    stream::Stream,
    watch::Watch,
};
use crate::{
    engine::EngineInfo,
    error::{Error, Result},
    features::{FeatureBatch, joined},
    graph::{Graph, Shapes},
    head::Head,
    onnx::{self, Dim, Model},
    prune::{Budget, Keep, Scores},
    sensitivity::{self, Criterion, Norm, Of, Scale, ScoreOptions, Scored, Slopes},
    shards::{BLOCK, Blocks, Coverage, parts::document},
};

/// Features of the samples that are scored together: 668 of the VGG-like network, 83 of VGG16.
const SCORED_BYTES: usize = 8 << 20;

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
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ScoreReport {
    /// Name and version of this layout.
    pub schema: String,
    /// What was scored, on what.
    #[serde(flatten)]
    pub origin: Origin,
    /// How the neurons were scored.
    pub score: sensitivity::ScoreReport,
    /// How the number of samples was found, where these were to tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enough: Option<EnoughReport>,
    /// What is missing, where parts were merged that are not all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coverage: Option<Coverage>,
    /// One score per neuron of every layer.
    #[serde(flatten)]
    pub scores: Scores,
}

/// What scores are of.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Origin {
    /// The model.
    pub input: PathBuf,
    /// SHA-256 of the model, weights in other files included.
    pub model: String,
    /// What computed the scores.
    pub engine: EngineInfo,
    /// The samples.
    pub data: DataReport,
    /// Seed of every random choice.
    pub seed: u64,
    /// The head.
    pub head: HeadReport,
    /// Layers that could not be cut, or only in part, and why.
    pub notes: Vec<String>,
}

/// Scores every neuron of the head. Where samples are to tell how many of them are enough, they do so by
/// the half of the neurons that they would keep.
///
/// # Errors
/// Every [`crate::Error`].
pub fn score(options: &ScoreRunOptions, watch: &dyn Watch) -> Result<ScoreReport> {
    watch.stage("loading the model", None);
    let model = setup::load(&options.input)?;
    let mut setup = Setup::new(&model, &options.source, watch)?;
    let head = find_head(&mut setup, &options.score, options.of, watch)?;
    let half = Budget::uniform(Keep::Share(0.5));
    let choice = (&options.score, options.of);
    let enough = enough::settle(&mut setup, &head, choice, &half, watch)?;
    // What was looked at is there already, if only in memory.
    let samples = enough.as_ref().map(|_| {
        let indices = &setup.shares.calibration;
        Samples::of(&setup, &head, indices, watch)
    });
    let view = View::of(&setup, &head);
    let samples = samples.transpose()?;
    let scored = scores(&setup, view, &options.score, options.of, samples, watch)?;
    setup.engine_used(watch);
    let origin = Origin::new(options, &model, &setup, head)?;
    Ok(ScoreReport {
        enough,
        ..origin.report(scored, None)
    })
}

impl Origin {
    pub(super) fn new(
        options: &ScoreRunOptions,
        model: &Model,
        setup: &Setup<'_>,
        head: Head,
    ) -> Result<Self> {
        Ok(Self {
            input: options.input.clone(),
            model: onnx::digest(&model.proto)?,
            engine: setup.engine().info().clone(),
            data: DataReport::new(setup, &setup.dataset)?,
            seed: options.source.seed,
            head: HeadReport::new(setup, &head),
            notes: head.notes,
        })
    }

    pub(super) fn report(self, scored: Scored, coverage: Option<Coverage>) -> ScoreReport {
        ScoreReport {
            schema: SCHEMA.to_owned(),
            origin: self,
            score: scored.report,
            enough: None,
            coverage,
            scores: scored.scores,
        }
    }
}

impl ScoreReport {
    /// Reads what `score --output` or `merge` wrote.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Format`] where it is no such file, or of a newer schema.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).map_err(Error::io(path))?;
        let text = serde_json::from_str(&text).map_err(|error| Error::Format {
            path: path.to_owned(),
            what: format!("holds no scores: {error}"),
        })?;
        document(path, text, SCHEMA)
    }

    /// The scores in a file, if they are those of this model.
    pub(super) fn read_for(path: &Path, model: &Model, head: &Head) -> Result<Scored> {
        let found = Self::read(path)?;
        found.check(path, model, head)?;
        Ok(Scored {
            scores: found.scores,
            report: found.score,
        })
    }

    /// Refuses scores of another model, or of other layers than `head` has.
    fn check(&self, path: &Path, model: &Model, head: &Head) -> Result<()> {
        let refuse = |what: String| Error::Argument {
            name: "--scores",
            what: format!("{} {what}", path.display()),
        };
        let digest = onnx::digest(&model.proto)?;
        if self.origin.model != digest {
            return Err(refuse(format!(
                "holds scores of another model, {} with SHA-256 {}, not of this one with {digest}",
                self.origin.input.display(),
                self.origin.model
            )));
        }
        let ours = head
            .layers
            .iter()
            .map(|layer| (layer.name.as_str(), layer.width()));
        let theirs = self.scores.layers.iter();
        let mut theirs = theirs.map(|layer| (layer.name.as_str(), layer.width()));
        if !ours.clone().eq(theirs.by_ref()) {
            let ours: Vec<_> = ours.collect();
            return Err(refuse(format!(
                "does not hold a score for each neuron of the layers {ours:?}"
            )));
        }
        let broken = self.scores.layers.iter().find(|layer| !layer.is_sound());
        broken.map_or(Ok(()), |layer| {
            Err(refuse(format!(
                "ranks the neurons of {:?} in no order",
                layer.name
            )))
        })
    }
}

/// Whether bounds on the derivatives take the place of samples, where the head allows it: without
/// data, and unless something is asked for that only samples tell.
pub(super) fn takes_bounds(source: &SourceOptions, score: &ScoreOptions, of: Option<Of>) -> bool {
    let nothing_asked = source.data.is_none() && source.samples.is_none();
    let plain = matches!(score.scale, Scale::Auto | Scale::None) && score.probes.is_none();
    nothing_asked
        && plain
        && score.criterion == Criterion::default()
        && of.is_none_or(|of| of == Of::Logits)
}

/// The head. Where scores need no samples, nothing is run to find it that is not needed; where they
/// do, the engine is open.
pub(super) fn find_head(
    setup: &mut Setup<'_>,
    score: &ScoreOptions,
    of: Option<Of>,
    watch: &dyn Watch,
) -> Result<Head> {
    if !score.criterion.needs_samples() {
        return setup.find_head(true, watch);
    }
    if takes_bounds(setup.options, score, of) {
        let head = setup.find_head(true, watch)?;
        if sensitivity::has_worst_case(&setup.graph, &head) {
            return Ok(head);
        }
    }
    setup.open_engine(watch)?;
    setup.find_head(false, watch)
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
    let blocks = blocks(setup, view)?;
    let options = settled(setup, blocks, options, of);
    let bounds = || sensitivity::has_worst_case(view.graph, view.head);
    if !options.criterion.needs_samples() || options.slopes == Slopes::Worst && bounds() {
        watch.stage("scoring", None);
    }
    let on_ranked = ranking(watch);
    let request = request(setup, view, &options, &on_ranked);
    let indices = &setup.shares.calibration;
    let scored = match samples {
        // What is read once, in order, need not be held.
        None if !setup.keeps_features() => {
            let batches = Stream::new(setup, view.head, indices, watch)?;
            let batches = joined(batches, blocks.batch());
            sensitivity::score_norms(request, norms, batches)?
        }
        samples => {
            let batches = held(setup, view, samples, watch)?;
            let batches = joined(batches, blocks.batch());
            sensitivity::score_norms(request, norms, batches)?
        }
    };
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

/// The choices, with what is differentiated settled.
pub(super) fn settled(
    setup: &Setup<'_>,
    blocks: Blocks,
    options: &ScoreOptions,
    of: Option<Of>,
) -> ScoreOptions {
    let default = match setup.has_data() {
        true => Of::Probabilities,
        false => Of::Logits,
    };
    ScoreOptions {
        of: of.unwrap_or(default),
        slopes: match takes_bounds(setup.options, options, of) {
            true => Slopes::Worst,
            false => Slopes::OfSamples,
        },
        block: blocks.size(),
        ..options.clone()
    }
}

/// How the samples are added up, by one process or by many: where a block ends must not depend on whether batches
/// could be put together.
///
/// # Errors
/// [`Error::Argument`] for a batch that the model does not take.
pub(super) fn blocks(setup: &Setup<'_>, view: View<'_>) -> Result<Blocks> {
    let samples = setup.shares.calibration.len();
    Ok(Blocks::new(samples, scored_batch(setup, view)?))
}

/// Samples that are scored together: as many runs of the trunk as make up [`SCORED_BYTES`], where the number is
/// left open. What like samples share is looked for among them, and weights are read once for all of them.
fn scored_batch(setup: &Setup<'_>, view: View<'_>) -> Result<usize> {
    let batch = setup.batch_size()?;
    let features = view.head.features.iter();
    let widths = features.map(|&value| {
        let dims = view.shapes.dims(value)?.iter().skip(1);
        dims.map(Dim::fixed).product::<Option<usize>>()
    });
    match widths.sum::<Option<usize>>() {
        Some(width) if setup.is_batch_open() => {
            let most = SCORED_BYTES / size_of::<f32>() / width.max(1);
            let most = most.clamp(batch, BLOCK.max(batch));
            // A power of two of them, so that blocks of samples stay even.
            Ok(batch << (most / batch).ilog2())
        }
        _ => Ok(batch),
    }
}

pub(super) fn request<'r>(
    setup: &'r Setup<'_>,
    view: View<'r>,
    options: &'r ScoreOptions,
    on_ranked: &'r (dyn Fn(usize, usize) -> Result<()> + Sync),
) -> sensitivity::Request<'r> {
    sensitivity::Request {
        engine: setup.engine(),
        graph: view.graph,
        shapes: view.shapes,
        head: view.head,
        options,
        real_samples: setup.has_data(),
        on_ranked,
    }
}

/// Shows how a greedy choice gets on.
pub(super) fn ranking(watch: &dyn Watch) -> impl Fn(usize, usize) -> Result<()> + Sync {
    let ranked = AtomicUsize::new(0);
    move |done, total| {
        setup::still_wanted(watch)?;
        match done {
            0 => watch.stage("ranking", Some(total as u64)),
            _ => watch.step((done - ranked.swap(done, Ordering::Relaxed)) as u64),
        }
        Ok(())
    }
}

/// The features of the scored samples, batch by batch.
///
/// Not before the criterion asks for samples: a head that is linear up to the logits needs none.
fn held<'s>(
    setup: &'s Setup<'_>,
    view: View<'s>,
    samples: Option<Samples>,
    watch: &'s dyn Watch,
) -> Result<impl Iterator<Item = Result<FeatureBatch>> + 's> {
    let mut calibration = samples;
    let count = match &calibration {
        Some(samples) => samples.len(),
        None => setup.shares.calibration.len(),
    };
    let batch = setup.batch_size()?;
    let starts = (0..count).step_by(batch);
    Ok(starts.map(move |start| {
        let calibration = match &mut calibration {
            Some(calibration) => calibration,
            none => none.insert(Samples::of(
                setup,
                view.head,
                &setup.shares.calibration,
                watch,
            )?),
        };
        if start == 0 {
            watch.stage("scoring", Some(count as u64));
        }
        let part: Vec<usize> = (start..count.min(start + batch)).collect();
        let batch = calibration.read(&part)?;
        setup::still_wanted(watch)?;
        watch.step(batch.samples as u64);
        Ok(batch)
    }))
}
