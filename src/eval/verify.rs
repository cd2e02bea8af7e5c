//! The proof: masked original against pruned model in every engine, and engine against engine.
//!
//! Where an engine cannot run the whole model, the heads are compared there alone, on features
//! that another engine computed; a model in half precision may also be compared in single
//! precision ([`super::widened`]). Both are said in the result.

use serde::Serialize;

use super::{Comparison, Outputs, compare, half_type, outputs, widened};
use crate::{
    engine::Engine,
    error::{Error, Result},
    features::{FeatureBatch, ModelInput, Samples, Trunk},
    graph::{self, Graph, Shapes, ValueId},
    head::Head,
    onnx::{DataType, ModelProto, Tensor},
};

/// Same network, same engine, another order of summation: f32 sums of up to 25,088 terms were seen
/// up to 4e-7 apart over a zoo of 200 exports.
const F32_TOLERANCE: f64 = 1e-4;
/// Two engines fuse and order the whole trunk differently; deep random networks were seen 2e-5
/// apart.
const ENGINES_TOLERANCE: f64 = 1e-3;
/// f16 rounds every layer's outputs to 11 bits; up to 6e-4 was seen, in sums of 512 terms.
const F16_TOLERANCE: f64 = 1e-2;
/// bf16 has 8 bits.
const BF16_TOLERANCE: f64 = 8e-2;

/// What is to be proved.
#[derive(Clone, Copy)]
pub struct Case<'a> {
    /// The original.
    pub graph: &'a Graph<'a>,
    /// What is known of its values.
    pub shapes: &'a Shapes,
    /// Its head.
    pub head: &'a Head,
    /// The original with the dropped neurons' contribution set to zero.
    pub masked: &'a ModelProto,
    /// The model that is to be written.
    pub pruned: &'a ModelProto,
}

/// Everything that was compared.
#[derive(Clone, Debug, Serialize)]
pub struct Verification {
    /// One entry per comparison.
    pub checks: Vec<Check>,
    /// Number of samples.
    pub samples: usize,
    /// Whether all comparisons are within their tolerance.
    pub passed: bool,
}

/// One comparison.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// What was compared, in words.
    pub what: String,
    /// The engine, or both of them.
    pub engine: String,
    /// How much of the model ran there.
    pub scope: Scope,
    /// Whether half-precision weights were widened to f32 for it.
    pub widened: bool,
    /// What kept the engine from running the model as it is.
    pub stopped_by: Option<String>,
    /// How far apart the two runs are.
    #[serde(flatten)]
    pub comparison: Comparison,
    /// Bound on `max_rel`.
    pub tolerance: f64,
    /// Whether it is kept.
    pub passed: bool,
}

/// How much of a model ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// All of it.
    Whole,
    /// The head, on features from another engine.
    Head,
}

/// What one engine made of the two models.
struct Run {
    masked: Outputs,
    pruned: Outputs,
    scope: Scope,
    widened: bool,
    stopped_by: Option<String>,
}

/// Compares the masked original with the pruned model in each engine, and the engines with each
/// other.
///
/// # Errors
/// [`Error::Engine`] when no engine can run the models at all, or one can run not even the head;
/// a difference is no error but a [`Verification`] that did not pass.
pub fn verify(
    case: Case<'_>,
    engines: &[&dyn Engine],
    samples: &[Samples],
) -> Result<Verification> {
    let values = compared_values(case);
    let names: Vec<String> = values
        .iter()
        .map(|&id| case.graph.name(id).to_owned())
        .collect();
    let rows: Vec<usize> = samples.iter().map(|batch| batch.count).collect();
    let runs = all_runs(case, &values, engines, samples)?;
    let mut checks = Vec::new();
    for (engine, run) in engines.iter().zip(&runs) {
        let comparison = compare(&names, &run.masked, &run.pruned, &rows)?;
        let tolerance = tolerance(case.pruned, run.widened);
        checks.push(Check {
            what: "original without the dropped neurons = pruned".to_owned(),
            engine: engine.info().name.to_owned(),
            scope: run.scope,
            widened: run.widened,
            stopped_by: run.stopped_by.clone(),
            comparison,
            tolerance,
            passed: comparison.max_rel <= tolerance,
        });
    }
    for other in 1..runs.len() {
        checks.push(between(
            case,
            [engines[0], engines[other]],
            [&runs[0], &runs[other]],
            &names,
            &rows,
        )?);
    }
    Ok(Verification {
        samples: rows.iter().sum(),
        passed: checks.iter().all(|check| check.passed),
        checks,
    })
}

/// The pruned model in one engine against the other.
fn between(
    case: Case<'_>,
    engines: [&dyn Engine; 2],
    runs: [&Run; 2],
    names: &[String],
    rows: &[usize],
) -> Result<Check> {
    let comparison = compare(names, &runs[0].pruned, &runs[1].pruned, rows)?;
    let widened = runs.iter().any(|run| run.widened);
    let all_widened = runs.iter().all(|run| run.widened);
    let tolerance = tolerance(case.pruned, all_widened).max(ENGINES_TOLERANCE);
    let head = runs.iter().any(|run| run.scope == Scope::Head);
    Ok(Check {
        what: "pruned in one engine = pruned in the other".to_owned(),
        engine: format!("{} and {}", engines[0].info().name, engines[1].info().name),
        scope: if head { Scope::Head } else { Scope::Whole },
        widened,
        stopped_by: None,
        comparison,
        tolerance,
        passed: comparison.max_rel <= tolerance,
    })
}

fn tolerance(model: &ModelProto, widened: bool) -> f64 {
    match half_type(model) {
        Some(DataType::Float16) if !widened => F16_TOLERANCE,
        Some(_) if !widened => BF16_TOLERANCE,
        _ => F32_TOLERANCE,
    }
}

/// The float outputs that depend on the head; in place of a decision (ArgMax), its class scores.
fn compared_values(case: Case<'_>) -> Vec<ValueId> {
    let Case { graph, head, .. } = case;
    let mut values = Vec::new();
    for output in graph.outputs() {
        let from_head = graph
            .producer(output)
            .is_some_and(|node| head.nodes.contains(&node));
        let dtype = case.shapes.dtype(output);
        let is_float = dtype.is_none_or(|dtype| {
            use DataType::{Bfloat16, Double, Float, Float16};
            matches!(dtype, Float | Double | Float16 | Bfloat16)
        });
        if from_head && is_float && !values.contains(&output) {
            values.push(output);
        }
    }
    if !values.contains(&head.scores.output) && !values.contains(&head.scores.value) {
        values.push(head.scores.value);
    }
    values
}

/// Runs the models in every engine, the whole of them where possible.
fn all_runs(
    case: Case<'_>,
    values: &[ValueId],
    engines: &[&dyn Engine],
    samples: &[Samples],
) -> Result<Vec<Run>> {
    let mut runs: Vec<Result<Run>> = Vec::new();
    for engine in engines {
        runs.push(whole(case, values, *engine, samples));
    }
    let reference = runs.iter().position(Result::is_ok);
    let mut complete = Vec::new();
    for (run, engine) in runs.into_iter().zip(engines) {
        complete.push(match (run, reference) {
            (Ok(run), _) => run,
            (Err(error), None) => return Err(error),
            (Err(error), Some(reference)) => {
                let trunk = engines[reference];
                head_alone(case, values, *engine, trunk, samples, stopper(&error))?
            }
        });
    }
    Ok(complete)
}

/// The engine's own words on what stopped it, without its name.
fn stopper(error: &Error) -> String {
    match error {
        Error::Engine { what, .. } => what.clone(),
        other => other.to_string(),
    }
}

/// The whole models, as they are or, if that fails and they are in half precision, widened.
fn whole(
    case: Case<'_>,
    values: &[ValueId],
    engine: &dyn Engine,
    samples: &[Samples],
) -> Result<Run> {
    let input = ModelInput::of(case.graph)?.name;
    let run = |widen: bool| -> Result<(Outputs, Outputs)> {
        let inputs = samples.iter().map(|batch| match widen {
            true => batch.input.cast(DataType::Float),
            false => Ok(batch.input.clone()),
        });
        let inputs: Vec<Tensor> = inputs.collect::<Result<_>>()?;
        let batches: Vec<Vec<(&str, &Tensor)>> = inputs
            .iter()
            .map(|tensor| vec![(input.as_str(), tensor)])
            .collect();
        let one = |model: &ModelProto| {
            let model = with_values(case, model, values)?;
            let model = if widen { widened(&model)? } else { model };
            outputs(engine, &model, &batches)
        };
        Ok((one(case.masked)?, one(case.pruned)?))
    };
    let (result, stopped_by) = match run(false) {
        Err(error) if half_type(case.pruned).is_some() => (run(true), Some(stopper(&error))),
        result => (result, None),
    };
    let (masked, pruned) = result?;
    Ok(Run {
        masked,
        pruned,
        scope: Scope::Whole,
        widened: stopped_by.is_some(),
        stopped_by,
    })
}

/// The model with the compared values as its outputs; they have the same names in every version.
fn with_values(case: Case<'_>, model: &ModelProto, values: &[ValueId]) -> Result<ModelProto> {
    let graph = Graph::new(model)?;
    let shapes = Shapes::declared(&graph);
    Ok(graph::with_outputs(
        &graph,
        &shapes,
        &same_values(case, &graph, values),
    ))
}

/// The values of the same names in another version of the model.
fn same_values(case: Case<'_>, graph: &Graph<'_>, values: &[ValueId]) -> Vec<ValueId> {
    let names = values.iter().map(|&id| case.graph.name(id));
    names.filter_map(|name| graph.value(name)).collect()
}

/// The heads alone, on features that another engine computed.
fn head_alone(
    case: Case<'_>,
    values: &[ValueId],
    engine: &dyn Engine,
    trunk: &dyn Engine,
    samples: &[Samples],
    stopped_by: String,
) -> Result<Run> {
    let mut trunk = Trunk::new(trunk, case.graph, case.shapes, case.head)?;
    let features: Vec<FeatureBatch> = trunk
        .features(samples.iter().cloned().map(Ok))
        .collect::<Result<_>>()?;
    let names = case.head.features.iter().map(|&id| case.graph.name(id));
    let names: Vec<&str> = names.collect();
    let batches: Vec<Vec<(&str, &Tensor)>> = features
        .iter()
        .map(|batch| names.iter().copied().zip(&batch.values).collect())
        .collect();
    let one = |model: &ModelProto| {
        let graph = Graph::new(model)?;
        let mut shapes = Shapes::declared(&graph);
        for &id in case.head.features.iter().chain(values) {
            if let (Some(known), Some(id)) =
                (case.shapes.tensor(id), graph.value(case.graph.name(id)))
            {
                shapes.learn(id, known.clone());
            }
        }
        let inputs = same_values(case, &graph, &case.head.features);
        let outputs_wanted = same_values(case, &graph, values);
        let head = graph::extract(&graph, &shapes, &inputs, &outputs_wanted)?;
        outputs(engine, &head, &batches)
    };
    Ok(Run {
        masked: one(case.masked)?,
        pruned: one(case.pruned)?,
        scope: Scope::Head,
        widened: false,
        stopped_by: Some(stopped_by),
    })
}
