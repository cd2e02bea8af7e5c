//! A head as a chain of operators, run with all its values shown.

use super::bounds::{self, Step};
use crate::{
    engine::Session,
    error::Result,
    features::FeatureBatch,
    graph::{self, Graph, NodeId, Shapes, ValueId},
    onnx::{DataType, ModelProto, Tensor},
};

/// Operators at the end that keep the order of the classes.
const MONOTONE: &[&str] = &["Softmax", "LogSoftmax", "Sigmoid", "Identity"];

/// A chain from one feature to the logits.
pub(super) struct Chain {
    /// The head with every value of the chain as an output, in order.
    pub(super) model: ModelProto,
    /// The feature it begins with.
    feature: usize,
    steps: Vec<Step>,
    roundoff: f64,
}

impl Chain {
    /// Follows the scores back to a feature; or why that cannot be done.
    pub(super) fn of(model: &ModelProto, features: &[String]) -> Result<Result<Self, String>> {
        let graph = Graph::new(model)?;
        Ok(Self::follow(&graph, features))
    }

    fn follow(graph: &Graph<'_>, features: &[String]) -> Result<Self, String> {
        let constants = graph.proto().initializer.iter();
        let types = constants.filter_map(|tensor| DataType::try_from(tensor.data_type()).ok());
        let roundoff = bounds::roundoff(types.filter(|dtype| dtype.is_float()));
        let mut value = *graph.outputs().first().ok_or("has no output")?;
        let (mut steps, mut values) = (Vec::new(), Vec::new());
        let mut at_end = true;
        let feature = loop {
            let name = graph.name(value);
            if let Some(feature) = features.iter().position(|feature| feature == name) {
                break feature;
            }
            let node = graph
                .producer(value)
                .ok_or("reads a value that is no feature")?;
            let input = only_input(graph, node)?;
            at_end &= MONOTONE.contains(&graph.node(node).op());
            if !at_end {
                let site = graph.site(node);
                let step = Step::of(graph, node, roundoff);
                steps.push(step.map_err(|why| format!("{site} {why}"))?);
                values.push(value);
            }
            if matches!(graph.node(node).op(), "Gather")
                && !features.iter().any(|f| f == graph.name(input))
            {
                return Err(format!("{} selects behind the features", graph.site(node)));
            }
            value = input;
        };
        steps.reverse();
        values.reverse();
        if steps.is_empty() {
            return Err("the scores are features".to_owned());
        }
        let shown = graph::with_outputs(graph, &Shapes::declared(graph), &values);
        Ok(Self {
            model: shown,
            feature,
            steps,
            roundoff,
        })
    }

    /// The top class of each sample, where no rounding can change it.
    pub(super) fn tops(
        &self,
        session: &mut dyn Session,
        names: &[String],
        batch: &FeatureBatch,
    ) -> Result<Vec<Option<usize>>> {
        let given = names.iter().map(String::as_str).zip(&batch.values);
        let given: Vec<(&str, &Tensor)> = given
            .filter(|(name, _)| session.inputs().iter().any(|port| port.name == *name))
            .collect();
        let outputs = session.run(&given)?;
        let feature = &batch.values[self.feature];
        let tensors: Vec<&Tensor> = std::iter::once(feature).chain(&outputs).collect();
        let values: Vec<_> = tensors.iter().map(|tensor| tensor.to_f32()).collect();
        let rows = (0..batch.samples).map(|row| {
            let part = |at: usize| &values[at][bounds::sample(tensors[at], &values[at], row)];
            let mut errors = vec![0.0; part(0).len()];
            for (at, step) in self.steps.iter().enumerate() {
                errors = step.carry(part(at), &errors, part(at + 1), self.roundoff);
            }
            top(part(self.steps.len()), &errors)
        });
        Ok(rows.collect())
    }
}

/// The class whose score is above all others by more than both can be off.
fn top(scores: &[f32], errors: &[f64]) -> Option<usize> {
    let classes = scores.iter().zip(errors).enumerate();
    let (best, (score, error)) = classes
        .clone()
        .max_by(|(_, (a, _)), (_, (b, _))| a.total_cmp(b))?;
    let lowest = f64::from(*score) - error;
    let mut others = classes.filter(|(class, _)| *class != best);
    let clear = others.all(|(_, (score, error))| f64::from(*score) + error < lowest);
    (clear && scores.len() == errors.len()).then_some(best)
}

/// The one input of a node that is not the same for every sample.
fn only_input(graph: &Graph<'_>, node: NodeId) -> Result<ValueId, String> {
    let count = graph.node(node).input.len();
    let inputs = (0..count).filter_map(|input| graph.input(node, input));
    let varying: Vec<ValueId> = inputs.filter(|&id| !graph.is_fixed(id)).collect();
    match varying[..] {
        [only] if graph.input(node, 0) == Some(only) || is_symmetric(graph, node) => Ok(only),
        _ => Err(format!("{} joins several values", graph.site(node))),
    }
}

/// Whether either operand may be the constant.
fn is_symmetric(graph: &Graph<'_>, node: NodeId) -> bool {
    matches!(graph.node(node).op(), "Add" | "Sub" | "Mul")
}
