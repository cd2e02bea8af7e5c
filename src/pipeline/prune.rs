//! The main job: a smaller model whose head has lost its least sensitive neurons.

use std::path::PathBuf;

use serde::Serialize;

use super::{
    metadata::{self, Facts},
    parts::{DataReport, FileReport, HeadReport, LayerReport},
    score,
    setup::{self, Setup, SourceOptions},
    watch::Watch,
};
use crate::{
    engine::EngineInfo,
    error::{Error, Result},
    eval::{self, Accuracy, Agreement, Case, Scope, Skipped, Verification},
    graph::{self, Graph, Shapes},
    head::Head,
    onnx::{Model, ModelProto, Output, Overwrite},
    prune::{Budget, Group, Keep, Plan, mask, rewrite},
    sensitivity::{self, Of, ScoreOptions},
};

/// Schema of [`PruneReport`].
const SCHEMA: &str = "onnx-prune/prune/v1";

/// Everything a pruning run can be told.
#[derive(Clone, Debug)]
pub struct PruneOptions {
    /// The model to prune.
    pub input: PathBuf,
    /// Where the smaller one goes.
    pub output: PathBuf,
    /// Whether an existing output may be replaced.
    pub overwrite: Overwrite,
    /// Data and engine.
    pub source: SourceOptions,
    /// How neurons are scored.
    pub score: ScoreOptions,
    /// Which class scores are differentiated; probabilities with data, logits without, by default.
    pub of: Option<Of>,
    /// How many neurons stay.
    pub budget: Budget,
    /// How the result is proved.
    pub verify: Verify,
}

impl PruneOptions {
    /// Keeps half of every layer, with all else at its default.
    pub fn new(input: impl Into<PathBuf>, output: impl Into<PathBuf>) -> Self {
        Self {
            input: input.into(),
            output: output.into(),
            overwrite: Overwrite::Refuse,
            source: SourceOptions::default(),
            score: ScoreOptions::default(),
            of: None,
            budget: Budget::uniform(Keep::Share(0.5)),
            verify: Verify::Always,
        }
    }
}

/// How the result of a run is proved before it is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verify {
    /// In every engine that is there; in the head alone where one cannot run the trunk.
    #[default]
    Always,
    /// In both engines, whole, or the run fails.
    RequireBoth,
    /// Not at all; the output says so.
    Skip,
}

/// What a pruning run did.
#[derive(Clone, Debug, Serialize)]
pub struct PruneReport {
    /// Name and version of this layout.
    pub schema: &'static str,
    /// The original.
    pub input: FileReport,
    /// The smaller model; `bytes` is 0 when the proof failed and nothing was written.
    pub output: FileReport,
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
    /// Its layers, from the features to the scores.
    pub layers: Vec<LayerReport>,
    /// The kept neurons.
    pub keep: Plan,
    /// Layers that stay whole or keep their producers, and why.
    pub notes: Vec<String>,
    /// The proof; nothing with `--no-verify`.
    pub verification: Option<Verification>,
    /// Top-1 accuracy on held-out samples, where there are labels.
    pub accuracy: Option<Accuracy>,
    /// Share of held-out samples whose top class is the same, where there are samples.
    pub agreement: Option<Agreement>,
    /// Whether the output was written.
    pub passed: bool,
}

/// Prunes a model.
///
/// The output appears whole and proved, or not at all.
///
/// # Errors
/// Every [`Error`]; none of them leaves an output file. A proof that fails is no error: see
/// [`PruneReport::passed`].
pub fn prune(options: &PruneOptions, watch: &dyn Watch) -> Result<PruneReport> {
    let model = setup::load(&options.input)?;
    let mut output = Output::create(&options.output, Some(&options.input), options.overwrite)?
        .protect(model.external_files())?;
    let mut setup = Setup::new(&model, &options.source, watch)?;
    let skips_engine = options.verify == Verify::Skip && !options.score.criterion.needs_samples();
    let head = setup.find_head(skips_engine, watch)?;
    head.notes.iter().for_each(|note| watch.note(note));

    let scored = score::scores(&setup, &head, &options.score, options.of, watch)?;
    let groups: Vec<&Group> = head.layers.iter().map(|layer| &layer.group).collect();
    let mut plan = options.budget.select(&scored.scores)?;
    plan.fill_parts(&groups, &scored.scores);
    if plan.keeps_all() {
        return Err(Error::Argument {
            name: "--keep",
            what: "keeps every neuron, so there is nothing to prune".to_owned(),
        });
    }
    watch.stage("rewriting", None);
    let mut pruned = rewrite::pruned(&setup.graph, &setup.shapes, &groups, &plan)?;
    let verification = prove(
        &setup,
        &head,
        &groups,
        &plan,
        &pruned,
        options.verify,
        watch,
    )?;
    let passed = verification.as_ref().is_none_or(|found| found.passed);
    let (accuracy, agreement) = match passed && options.verify != Verify::Skip {
        true => measure(&setup, &head, &pruned, watch)?,
        false => (None, None),
    };

    let data = DataReport::new(&setup, &setup.dataset)?;
    metadata::write(
        &mut pruned,
        &Facts {
            setup: &setup,
            score: &scored.report,
            budget: &options.budget,
            plan: &plan,
            data: &data,
            verification: verification.as_ref(),
        },
    );
    let bytes = if passed {
        watch.stage("writing", None);
        output.write(&pruned, model.storage())?;
        let written = output.commit()?;
        written.bytes + written.external_bytes
    } else {
        0
    };
    Ok(PruneReport {
        schema: SCHEMA,
        input: FileReport::new(&options.input, model.file_bytes(), &model.proto),
        output: FileReport::new(&options.output, bytes, &pruned),
        engine: setup.engine().info().clone(),
        data,
        score: scored.report,
        seed: options.source.seed,
        head: HeadReport::new(&setup, &head),
        layers: layers(&head, &plan),
        keep: plan,
        notes: head.notes,
        verification,
        accuracy,
        agreement,
        passed,
    })
}

fn layers(head: &Head, plan: &Plan) -> Vec<LayerReport> {
    let layers = head.layers.iter().zip(&plan.layers);
    layers
        .map(|(layer, kept)| LayerReport {
            name: layer.name.clone(),
            width: layer.width(),
            kept: kept.keep.len(),
            recognised: layer.recognised.clone(),
        })
        .collect()
}

/// Runs the proof on samples that were not scored.
fn prove(
    setup: &Setup<'_>,
    head: &Head,
    groups: &[&Group],
    plan: &Plan,
    pruned: &ModelProto,
    how: Verify,
    watch: &dyn Watch,
) -> Result<Option<Verification>> {
    if how == Verify::Skip {
        watch.note("the result is not verified (--no-verify)");
        return Ok(None);
    }
    watch.stage("verifying", None);
    let engines = setup.all_engines(watch)?;
    let names = engines.iter().map(|selected| selected.engine.info().name);
    require_both(how, &names.collect::<Vec<_>>())?;
    let masked = mask::masked(&setup.graph, groups, plan)?;
    let case = Case {
        graph: &setup.graph,
        shapes: &setup.shapes,
        head,
        masked: &masked,
        pruned,
    };
    let engines: Vec<_> = engines.iter().map(|selected| &*selected.engine).collect();
    let found = eval::verify(case, &engines, &setup.proof_samples()?)?;
    if how == Verify::RequireBoth {
        whole(&found)?;
    }
    for skipped in &found.skipped {
        let Skipped { engine, stopped_by } = skipped;
        watch.note(&format!("{engine} cannot run the head: {stopped_by}"));
    }
    Ok(Some(found))
}

/// Refuses a proof that some engine had no, or only a part in.
pub(super) fn whole(found: &Verification) -> Result<()> {
    let refuse = |what: String| {
        Err(Error::Argument {
            name: "--require-both",
            what,
        })
    };
    if let Some(Skipped { engine, stopped_by }) = found.skipped.first() {
        return refuse(format!("{engine} cannot run the head: {stopped_by}"));
    }
    let part = found.checks.iter().find(|check| check.scope == Scope::Head);
    match part.and_then(|check| Some((&check.engine, check.stopped_by.as_ref()?))) {
        Some((engine, why)) => refuse(format!("{engine} cannot run the whole model: {why}")),
        None => Ok(()),
    }
}

fn require_both(how: Verify, engines: &[&str]) -> Result<()> {
    if how == Verify::RequireBoth && engines.len() < 2 {
        return Err(Error::Argument {
            name: "--require-both",
            what: format!(
                "only {} is there; get ONNX Runtime with `onnx-prune runtime install`",
                engines.join(", ")
            ),
        });
    }
    Ok(())
}

/// Accuracy and agreement on the held-out samples; neither on synthetic noise.
fn measure(
    setup: &Setup<'_>,
    head: &Head,
    pruned: &ModelProto,
    watch: &dyn Watch,
) -> Result<(Option<Accuracy>, Option<Agreement>)> {
    if !setup.has_data() {
        return Ok((None, None));
    }
    watch.stage("measuring", Some(2 * setup.shares.held_out.len() as u64));
    let before = top_classes(setup, head, setup.graph.model(), watch)?;
    let after = top_classes(setup, head, pruned, watch)?;
    let agreement = eval::agreement(&before, &after);
    let accuracy = setup
        .held_out_labels()
        .map(|labels| {
            let classes = head.scores.classes;
            eval::accuracy(&before, &after, &labels, classes, setup.reported().path())
        })
        .transpose()?;
    Ok((accuracy, Some(agreement)))
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
    let scores: Vec<_> = graph.value(name).into_iter().collect();
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

impl From<&Model> for FileReport {
    fn from(model: &Model) -> Self {
        let path = model.path().map(PathBuf::from).unwrap_or_default();
        Self::new(&path, model.file_bytes(), &model.proto)
    }
}
