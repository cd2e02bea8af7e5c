//! The proof: masked original against pruned model in every engine, and engine against engine.
//!
//! Where an engine cannot run the whole model, the heads are compared there alone, on features
//! that another engine computed, and the result says so, as it does where an engine computes in
//! another float type than the model's.

use std::collections::BTreeSet;

use serde::Serialize;

use super::{Comparison, Outputs, compare, decisions::Decisions, outputs};
use crate::{
    engine::Engine,
    error::{Error, Result},
    features::{FeatureBatch, ModelInput, Samples, Trunk},
    graph::{self, Graph, NodeId, Shapes, ValueId},
    head::Head,
    onnx::{DataType, ModelProto, Tensor},
};

/// Same network, same engine, another order of summation: f32 sums of up to 25,088 terms were seen
/// up to 8e-7 apart over a zoo of 200 exports (docs/zoo.md).
const F32_TOLERANCE: f64 = 1e-4;
/// Two engines fuse and order the whole trunk differently; deep random networks were seen 4e-5
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
    /// The same before anything left the trunk: its head takes the original's features. Compared
    /// where an engine can run the head alone.
    pub cut: &'a ModelProto,
}

/// Everything that was compared.
#[derive(Clone, Debug, Serialize)]
pub struct Verification {
    /// One entry per comparison.
    pub checks: Vec<Check>,
    /// Engines that could run not even the head, so that nothing was compared there.
    pub skipped: Vec<Skipped>,
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
    /// What kept the engine from running the whole model.
    pub stopped_by: Option<String>,
    /// What the engine says of how it ran the model, for example in another float type.
    pub note: Option<String>,
    /// How far apart the two runs are.
    #[serde(flatten)]
    pub comparison: Comparison,
    /// Bound on `max_rel`.
    pub tolerance: f64,
    /// Samples whose whole-number outputs (ArgMax) differ although their scores are not tied.
    pub wrong_decisions: usize,
    /// Whether the bound is kept and no decision is wrong.
    pub passed: bool,
}

/// An engine in which nothing could be compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// The engine.
    pub engine: String,
    /// What kept it from running the head.
    pub stopped_by: String,
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
    stopped_by: Option<String>,
    note: Option<String>,
}

/// Compares the masked original with the pruned model in each engine, and the engines with each
/// other.
///
/// An engine that can run not even the head is skipped, and said so, as long as another one proves
/// the cut.
///
/// # Errors
/// [`Error::Engine`] when no engine can run the models; a difference is no error but a
/// [`Verification`] that did not pass.
pub fn verify(
    case: Case<'_>,
    engines: &[&dyn Engine],
    samples: &[Samples],
) -> Result<Verification> {
    let compared = Compared::new(case, samples);
    let (runs, skipped) = all_runs(case, &compared.values, engines, samples)?;
    let mut checks = Vec::new();
    for (engine, run) in &runs {
        let bound = tolerance(case.pruned);
        let (comparison, wrong_decisions) = compared.apart(&run.masked, &run.pruned, bound)?;
        checks.push(Check {
            what: "original without the dropped neurons = pruned".to_owned(),
            engine: engine.info().name.to_owned(),
            scope: run.scope,
            stopped_by: run.stopped_by.clone(),
            note: run.note.clone(),
            comparison,
            tolerance: bound,
            wrong_decisions,
            passed: comparison.max_rel <= bound && wrong_decisions == 0,
        });
    }
    for other in runs.iter().skip(1) {
        checks.push(between(case, &runs[0], other, &compared)?);
    }
    Ok(Verification {
        samples: samples.iter().map(|batch| batch.count).sum(),
        passed: checks.iter().all(|check| check.passed),
        checks,
        skipped,
    })
}

/// The pruned model in one engine against the other.
fn between(
    case: Case<'_>,
    (engine, run): &(&dyn Engine, Run),
    (other_engine, other): &(&dyn Engine, Run),
    compared: &Compared,
) -> Result<Check> {
    let bound = tolerance(case.pruned).max(ENGINES_TOLERANCE);
    let (comparison, wrong_decisions) = compared.apart(&run.pruned, &other.pruned, bound)?;
    let head = [run, other].iter().any(|run| run.scope == Scope::Head);
    Ok(Check {
        what: "pruned in one engine = pruned in the other".to_owned(),
        engine: format!("{} and {}", engine.info().name, other_engine.info().name),
        scope: if head { Scope::Head } else { Scope::Whole },
        stopped_by: None,
        note: None,
        comparison,
        tolerance: bound,
        wrong_decisions,
        passed: comparison.max_rel <= bound && wrong_decisions == 0,
    })
}

fn tolerance(model: &ModelProto) -> f64 {
    match half_type(model) {
        Some(DataType::Float16) => F16_TOLERANCE,
        Some(_) => BF16_TOLERANCE,
        None => F32_TOLERANCE,
    }
}

/// The half-precision type of a model's weights or Casts; bf16, the coarser, where it has both.
fn half_type(model: &ModelProto) -> Option<DataType> {
    let graphs = || model.graph.iter();
    let weights = graphs().flat_map(|graph| &graph.initializer);
    let casts = graphs().flat_map(|graph| &graph.node);
    let casts = casts.filter_map(|node| i32::try_from(node.int("to")?).ok());
    let types: Vec<DataType> = weights
        .map(|tensor| tensor.data_type())
        .chain(casts)
        .filter_map(|number| DataType::try_from(number).ok())
        .collect();
    let halves = [DataType::Bfloat16, DataType::Float16];
    halves.into_iter().find(|half| types.contains(half))
}

/// What is compared: every output that depends on the head, and the class scores.
struct Compared {
    /// Float values, then whole-number ones.
    values: Vec<ValueId>,
    /// Names of the float values.
    names: Vec<String>,
    /// Place of the class scores among them.
    scores: usize,
    classes: usize,
    rows: Vec<usize>,
}

impl Compared {
    /// The logits are among the values: probabilities near 0 and 1 hide differences.
    fn new(case: Case<'_>, samples: &[Samples]) -> Self {
        let Case {
            graph,
            shapes,
            head,
            ..
        } = case;
        let live = behind(graph, &head.nodes);
        let is_float = |id: ValueId| {
            use DataType::{Bfloat16, Double, Float, Float16};
            let dtype = shapes.dtype(id);
            dtype.is_none_or(|dtype| matches!(dtype, Float | Double | Float16 | Bfloat16))
        };
        let outputs = graph.outputs().into_iter();
        let outputs = outputs.filter(|&id| live.contains(&id) && graph.is_tensor(id));
        let (mut values, decisions): (Vec<ValueId>, Vec<ValueId>) =
            outputs.partition(|&id| is_float(id));
        for id in [head.scores.value, head.scores.logits] {
            if !values.contains(&id) {
                values.push(id);
            }
        }
        let scores = values.iter().position(|&id| id == head.scores.value);
        let names = values.iter().map(|&id| graph.name(id).to_owned());
        Self {
            names: names.collect(),
            scores: scores.unwrap_or_default(),
            classes: head.scores.classes,
            rows: samples.iter().map(|batch| batch.count).collect(),
            values: values.into_iter().chain(decisions).collect(),
        }
    }

    /// How far apart two runs are, and how many samples they decide differently.
    fn apart(&self, a: &Outputs, b: &Outputs, tolerance: f64) -> Result<(Comparison, usize)> {
        let comparison = compare(&self.names, a, b, &self.rows)?;
        let decisions = Decisions {
            places: self.names.len()..self.values.len(),
            scores: self.scores,
            classes: self.classes,
            rows: &self.rows,
            tolerance,
        };
        Ok((comparison, decisions.wrong(a, b)))
    }
}

/// All values that depend on one of `nodes`.
fn behind(graph: &Graph<'_>, nodes: &BTreeSet<NodeId>) -> BTreeSet<ValueId> {
    let mut live = BTreeSet::new();
    for &node in graph.order() {
        let inputs = 0..graph.node(node).input.len();
        let mut inputs = inputs.filter_map(|input| graph.input(node, input));
        if nodes.contains(&node) || inputs.any(|id| live.contains(&id)) {
            let outputs = 0..graph.node(node).output.len();
            live.extend(outputs.filter_map(|output| graph.output(node, output)));
        }
    }
    live
}

/// The engines that ran, in their order.
type Runs<'e> = Vec<(&'e dyn Engine, Run)>;

/// Runs the models in every engine, the whole of them where possible.
fn all_runs<'e>(
    case: Case<'_>,
    values: &[ValueId],
    engines: &[&'e dyn Engine],
    samples: &[Samples],
) -> Result<(Runs<'e>, Vec<Skipped>)> {
    let runs = engines
        .iter()
        .map(|&engine| whole(case, values, engine, samples));
    let runs: Vec<Result<Run>> = runs.collect();
    let reference = runs.iter().position(Result::is_ok);
    let (mut complete, mut skipped) = (Vec::new(), Vec::new());
    for (run, &engine) in runs.into_iter().zip(engines) {
        let run = match (run, reference) {
            (Err(error), Some(reference)) => {
                let trunk = engines[reference];
                head_alone(case, values, engine, trunk, samples, stopper(&error))
            }
            (run, _) => run,
        };
        match run {
            Ok(run) => complete.push((engine, run)),
            Err(error) if reference.is_some() => skipped.push(Skipped {
                engine: engine.info().name.to_owned(),
                stopped_by: stopper(&error),
            }),
            Err(error) => return Err(error),
        }
    }
    Ok((complete, skipped))
}

/// The engine's own words on what stopped it, without its name.
fn stopper(error: &Error) -> String {
    match error {
        Error::Engine { what, .. } => what.clone(),
        other => other.to_string(),
    }
}

fn whole(
    case: Case<'_>,
    values: &[ValueId],
    engine: &dyn Engine,
    samples: &[Samples],
) -> Result<Run> {
    let input = ModelInput::of(case.graph)?.name;
    let batches: Vec<Vec<(&str, &Tensor)>> = samples
        .iter()
        .map(|batch| vec![(input.as_str(), &batch.input)])
        .collect();
    let one = |model: &ModelProto| outputs(engine, &with_values(case, model, values)?, &batches);
    let (masked, note) = one(case.masked)?;
    let (pruned, _) = one(case.pruned)?;
    Ok(Run {
        masked,
        pruned,
        scope: Scope::Whole,
        stopped_by: None,
        note,
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
    let (masked, note) = one(case.masked)?;
    let (pruned, _) = one(case.cut)?;
    Ok(Run {
        masked,
        pruned,
        scope: Scope::Head,
        stopped_by: Some(stopped_by),
        note,
    })
}
