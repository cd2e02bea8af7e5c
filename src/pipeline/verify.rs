//! Comparing models without pruning: one in two engines, two in each engine, or a pruned model with
//! its original.

use std::{cell::OnceCell, path::PathBuf};

use serde::Serialize;

use super::{
    parts::DataReport,
    proof::whole,
    repeat,
    setup::{self, Setup, SourceOptions},
    watch::Watch,
};
use crate::{
    engine::Selected,
    error::{Error, Result},
    eval::{self, Comparison, Verification},
    features::Samples,
    graph::{self, Graph, Shapes, ValueId},
    onnx::{Model, ModelProto, Tensor},
};

/// Schema of [`VerifyReport`].
const SCHEMA: &str = "onnx-prune/verify/v1";

/// Two runs of deep f32 networks, fused and summed in different orders, were seen 4e-5 apart.
const TOLERANCE: f64 = 1e-3;

/// What a comparison can be told.
#[derive(Clone, Debug)]
pub struct VerifyOptions {
    /// The reference.
    pub a: PathBuf,
    /// The model to compare with it; nothing to compare `a` in two engines. One that was pruned from
    /// `a` is compared with `a` without the dropped neurons.
    pub b: Option<PathBuf>,
    /// Data and engine.
    pub source: SourceOptions,
    /// Whether a missing engine is an error.
    pub require_both: bool,
}

/// What was compared.
#[derive(Clone, Debug, Serialize)]
pub struct VerifyReport {
    /// Name and version of this layout.
    pub schema: &'static str,
    /// The reference.
    pub a: PathBuf,
    /// The model compared with it.
    pub b: Option<PathBuf>,
    /// The samples.
    pub data: DataReport,
    /// Number of samples.
    pub samples: usize,
    /// Names of the compared outputs.
    pub outputs: Vec<String>,
    /// One entry per comparison; none where the proof of a pruned model was repeated.
    pub comparisons: Vec<Compared>,
    /// Bound on their `max_rel`.
    pub tolerance: f64,
    /// The repeated proof, where `b` says which neurons of `a` it has kept.
    pub proof: Option<Verification>,
    /// Whether all comparisons and the proof keep their bounds.
    pub passed: bool,
}

/// One comparison.
#[derive(Clone, Debug, Serialize)]
pub struct Compared {
    /// What was compared, in words.
    pub what: String,
    /// How far apart they are.
    #[serde(flatten)]
    pub comparison: Comparison,
    /// Whether the tolerance is kept.
    pub passed: bool,
}

/// Compares a model in two engines, or two models in every engine there is; of a model that this
/// program pruned, repeats the proof against its original.
///
/// # Errors
/// [`Error::Engine`] when an engine cannot run a model; [`Error::Argument`] when the models have
/// different inputs or outputs, the second was pruned from another one, or there is nothing to
/// compare with.
pub fn verify(options: &VerifyOptions, watch: &dyn Watch) -> Result<VerifyReport> {
    let a = setup::load(&options.a)?;
    let (transferred, base) = (OnceCell::new(), OnceCell::new());
    let mut setup = Setup::new(&a, &options.source, watch)?;
    let b = options.b.as_deref().map(setup::load).transpose()?;
    if let Some(b) = &b {
        check_same_interface(&setup, b)?;
    }
    check_outputs(&setup.graph, watch)?;
    let engines = setup.all_engines(watch)?;
    if engines.len() < 2 && (b.is_none() || options.require_both) {
        return Err(Error::Argument {
            name: if options.require_both { "--require-both" } else { "--engine" },
            what: "ONNX Runtime is not there to compare with; get it with `onnx-prune runtime install`"
                .to_owned(),
        });
    }
    watch.stage("comparing", None);
    let samples = setup.proof_samples()?;
    let proof = match &b {
        Some(b) => repeat::proof(
            &mut setup,
            [&transferred, &base],
            &b.proto,
            &engines,
            &samples,
            watch,
        )?,
        None => None,
    };
    if options.require_both {
        proof.iter().try_for_each(whole)?;
    }
    let comparisons = match &b {
        None => vec![between_engines(&setup, &a.proto, &engines, &samples)?],
        Some(_) if proof.is_some() => Vec::new(),
        Some(b) => between_models(&setup, [&a.proto, &b.proto], &engines, &samples)?,
    };
    Ok(VerifyReport {
        schema: SCHEMA,
        a: options.a.clone(),
        b: options.b.clone(),
        data: DataReport::new(&setup, &setup.dataset)?,
        samples: samples.iter().map(|batch| batch.count).sum(),
        outputs: compared_names(&setup.graph),
        passed: comparisons.iter().all(|compared| compared.passed)
            && proof.as_ref().is_none_or(|found| found.passed),
        comparisons,
        tolerance: TOLERANCE,
        proof,
    })
}

fn between_engines(
    setup: &Setup<'_>,
    model: &ModelProto,
    engines: &[Selected],
    samples: &[Samples],
) -> Result<Compared> {
    let mut runs = Vec::new();
    for selected in engines {
        runs.push(run(setup, selected, model, samples)?);
    }
    let names: Vec<&str> = engines
        .iter()
        .map(|selected| selected.engine.info().name)
        .collect();
    compared(setup, &names.join(" = "), [&runs[0], &runs[1]], samples)
}

fn between_models(
    setup: &Setup<'_>,
    models: [&ModelProto; 2],
    engines: &[Selected],
    samples: &[Samples],
) -> Result<Vec<Compared>> {
    let one = |selected: &Selected| {
        let a = run(setup, selected, models[0], samples)?;
        let b = run(setup, selected, models[1], samples)?;
        let what = format!("A = B in {}", selected.engine.info().name);
        compared(setup, &what, [&a, &b], samples)
    };
    engines.iter().map(one).collect()
}

fn run(
    setup: &Setup<'_>,
    selected: &Selected,
    model: &ModelProto,
    samples: &[Samples],
) -> Result<eval::Outputs> {
    let name = setup.input.name.as_str();
    let batches: Vec<Vec<(&str, &Tensor)>> = samples
        .iter()
        .map(|batch| vec![(name, &batch.input)])
        .collect();
    let graph = Graph::new(model)?;
    let (outputs, told) = (graph.outputs(), graph.tensor_outputs());
    let shown = (outputs != told).then(|| {
        let shapes = Shapes::declared(&graph);
        graph::with_outputs(&graph, &shapes, &told)
    });
    let model = shown.as_ref().unwrap_or(model);
    Ok(eval::outputs(&*selected.engine, model, &batches)?.0)
}

fn compared(
    setup: &Setup<'_>,
    what: &str,
    runs: [&eval::Outputs; 2],
    samples: &[Samples],
) -> Result<Compared> {
    let rows: Vec<usize> = samples.iter().map(|batch| batch.count).collect();
    let names = compared_names(&setup.graph);
    let comparison = eval::compare(&names, runs[0], runs[1], &rows)?;
    Ok(Compared {
        what: what.to_owned(),
        comparison,
        passed: comparison.max_rel <= TOLERANCE,
    })
}

/// What is compared: outputs, and what those are made of that are no tensors.
fn compared_names(graph: &Graph<'_>) -> Vec<String> {
    names(graph, &graph.tensor_outputs())
}

fn names(graph: &Graph<'_>, values: &[ValueId]) -> Vec<String> {
    let names = values.iter().map(|&id| graph.name(id).to_owned());
    names.collect()
}

/// Says which outputs are no tensors; where nothing is left to compare, that is an error.
fn check_outputs(graph: &Graph<'_>, watch: &dyn Watch) -> Result<()> {
    let told = graph.tensor_outputs();
    let others = graph.outputs().into_iter();
    let others = others.filter(|output| !told.contains(output));
    let others = names(graph, &others.collect::<Vec<_>>());
    if told.is_empty() {
        return Err(Error::Argument {
            name: "A",
            what: format!(
                "none of its outputs {others:?} is a tensor: there is nothing to compare"
            ),
        });
    }
    if !others.is_empty() {
        let compared = names(graph, &told);
        watch.note(&format!(
            "outputs {others:?} are no tensors: {compared:?} are compared"
        ));
    }
    Ok(())
}

fn check_same_interface(setup: &Setup<'_>, b: &Model) -> Result<()> {
    let other = Graph::new(&b.proto)?;
    let input = crate::features::ModelInput::of(&other)?;
    let differ = |what: String| Error::Argument { name: "B", what };
    if input.name != setup.input.name || input.dtype != setup.input.dtype {
        return Err(differ(format!(
            "its input is {:?}, that of A {:?}",
            input.name, setup.input.name
        )));
    }
    let [mine, others] = [&setup.graph, &other].map(|graph| names(graph, &graph.outputs()));
    if mine != others {
        return Err(differ(format!(
            "its outputs are {others:?}, those of A {mine:?}"
        )));
    }
    Ok(())
}
