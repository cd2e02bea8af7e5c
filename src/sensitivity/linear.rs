//! Whether the class scores depend on the layers in a straight line.

use std::collections::BTreeSet;

use crate::{
    features::FeatureBatch,
    graph::{Graph, NodeId, Shapes, ValueId},
    head::Head,
    onnx::{DataType, Dim, Tensor},
};

/// Operators that are linear in all their inputs together.
const SUMS: &[&str] = &["Add", "Concat", "Mean", "Sub", "Sum"];

/// Operators that are linear in their first input when the others are constant.
const FIRST: &[&str] = &[
    "AveragePool",
    "BatchNormalization",
    "Cast",
    "Conv",
    "Div",
    "Dropout",
    "Expand",
    "Flatten",
    "Gather",
    "Gemm",
    "GlobalAveragePool",
    "Identity",
    "MatMul",
    "Mul",
    "Neg",
    "Pad",
    "ReduceMean",
    "ReduceSum",
    "Reshape",
    "Slice",
    "Split",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
];

/// Operators whose other inputs only say where elements go, and need not be constant.
const ARRANGING: &[&str] = &["Reshape", "Expand", "Squeeze", "Unsqueeze"];

/// Whether the derivative of the logits at every sink is the same for every sample.
pub(super) fn is_linear(graph: &Graph<'_>, head: &Head) -> bool {
    let mut live: BTreeSet<ValueId> = BTreeSet::new();
    let sinks = head.layers.iter().flat_map(|layer| &layer.group.sinks);
    let sinks: BTreeSet<NodeId> = sinks.map(|sink| sink.at.node).collect();
    let behind = graph.ancestors(head.scores.logits);
    for &node in graph.order().iter().filter(|node| behind.contains(node)) {
        let inputs = 0..graph.node(node).input.len();
        let is_live = |input| {
            graph
                .input(node, input)
                .is_some_and(|id| live.contains(&id))
        };
        let reached = sinks.contains(&node) || inputs.clone().any(is_live);
        if !reached {
            continue;
        }
        let constant = |input| match graph.input(node, input) {
            Some(id) => graph.is_fixed(id),
            None => true,
        };
        let op_type = graph.node(node).op();
        let linear = SUMS.contains(&op_type)
            || ARRANGING.contains(&op_type)
            || (FIRST.contains(&op_type) && inputs.clone().skip(1).all(constant))
            || (op_type == "Mul" && inputs.clone().filter(|&input| !constant(input)).count() == 1);
        if !linear {
            return false;
        }
        let outputs = 0..graph.node(node).output.len();
        live.extend(outputs.filter_map(|output| graph.output(node, output)));
    }
    true
}

/// Features that are zero, one sample or the model's fixed batch; nothing where their shapes are
/// not known or one of them is no number to differentiate by.
pub(super) fn zeros(shapes: &Shapes, head: &Head) -> Option<FeatureBatch> {
    let mut values = Vec::new();
    let mut rows = None;
    for &id in &head.features {
        let known = shapes.tensor(id)?;
        let float = matches!(
            known.dtype,
            DataType::Float | DataType::Float16 | DataType::Bfloat16 | DataType::Double
        );
        let (batch, sample) = known.dims.split_first()?;
        if !float {
            return None;
        }
        let batch = batch.fixed().unwrap_or(1);
        let mut shape = vec![batch];
        shape.extend(sample.iter().map(Dim::fixed).collect::<Option<Vec<_>>>()?);
        let count = shape.iter().product();
        values.push(
            Tensor::f32(shape, vec![0.0; count])
                .ok()?
                .cast(known.dtype)
                .ok()?,
        );
        if rows.replace(batch).is_some_and(|known| known != batch) {
            return None;
        }
    }
    Some(FeatureBatch {
        values,
        rows: rows?,
        samples: 1,
        labels: None,
    })
}
