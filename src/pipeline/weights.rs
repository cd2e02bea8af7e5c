//! Weights that are no longer the original's: where they live, and what the model is held against.

use std::collections::BTreeMap;

use super::setup::Setup;
use crate::{
    error::Result,
    finetune,
    graph::{Graph, NodeId},
    head::Head,
    onnx::{ModelProto, TensorProto},
    prune::{Group, Plan, dense, mask},
};

/// The model with weights and biases in the head that belong to one operator each, so that a repair
/// or a training step only ever puts other numbers into them.
pub(super) fn own(setup: &Setup<'_>, head: &Head) -> Result<ModelProto> {
    let sinks = head.layers.iter().flat_map(|layer| &layer.group.sinks);
    let mut nodes: Vec<NodeId> = sinks.map(|sink| sink.at.node).collect();
    nodes.extend(&head.scores.last);
    let name = |node: NodeId| Some(setup.graph.name(setup.graph.output(node, 0)?).to_owned());
    let names: Vec<String> = nodes.into_iter().filter_map(name).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let model = finetune::with_own_weights(setup.graph.model().clone(), &head.nodes)?;
    dense::with_biases(model, &names)
}

/// The original with the dropped neurons' contribution set to zero, and with `weights` of the
/// smaller model where these are no longer the original's.
pub(super) fn oracle(
    graph: &Graph<'_>,
    groups: &[&Group],
    plan: &Plan,
    weights: &BTreeMap<String, TensorProto>,
) -> Result<ModelProto> {
    let mut masked = mask::masked(graph, groups, plan)?;
    let weights = mask::widened(graph, groups, plan, weights)?;
    finetune::apply(&mut masked, &weights)?;
    Ok(masked)
}
