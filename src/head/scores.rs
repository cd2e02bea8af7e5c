//! From an output of the model back to the last dense layer.

use std::collections::BTreeSet;

use super::{ClassScores, Ending};
use crate::{
    graph::{Graph, NodeId, Shapes, ValueId},
    onnx::Dim,
};

/// Operators that may stand between the last dense layer and the output.
const PASSING: &[&str] = &[
    "Add",
    "AveragePool",
    "Cast",
    "Clip",
    "Concat",
    "Div",
    "Dropout",
    "Flatten",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "Identity",
    "LeakyRelu",
    "LogSoftmax",
    "MaxPool",
    "Mean",
    "Mul",
    "Neg",
    "ReduceMax",
    "ReduceMean",
    "ReduceSum",
    "Relu",
    "Reshape",
    "Sigmoid",
    "Softmax",
    "Squeeze",
    "Sub",
    "Sum",
    "Tanh",
    "Transpose",
    "Unsqueeze",
];

/// Operators that turn scores into a decision, or into a map by class name (scikit-learn's exports);
/// the scores are their first input.
const DECISIONS: &[&str] = &["ArgMax", "TopK", "Hardmax", "ZipMap"];

/// Quantized operators: a model is pruned first and quantized then.
const QUANTIZED: &[&str] = &[
    "ConvInteger",
    "DequantizeLinear",
    "DynamicQuantizeLinear",
    "DynamicQuantizeMatMul",
    "MatMulInteger",
    "MatMulIntegerToFloat",
    "MatMulNBits",
    "QGemm",
    "QLinearAdd",
    "QLinearConv",
    "QLinearGlobalAveragePool",
    "QLinearMatMul",
    "QLinearSoftmax",
    "QuantizeLinear",
];

/// What one walk back from an output met.
struct Walk<'a> {
    graph: &'a Graph<'a>,
    last: Vec<NodeId>,
    seen: BTreeSet<ValueId>,
}

/// The class scores behind one output, or why there are none.
pub(super) fn behind(
    graph: &Graph<'_>,
    shapes: &Shapes,
    output: ValueId,
) -> Result<ClassScores, String> {
    let value = before_decision(graph, output);
    let (ending, logits) = ending(graph, value);
    let mut walk = Walk {
        graph,
        last: Vec::new(),
        seen: BTreeSet::new(),
    };
    walk.back(logits)?;
    if walk.last.is_empty() {
        return Err("does not depend on any dense layer".to_owned());
    }
    walk.last.sort();
    Ok(ClassScores {
        value,
        logits,
        classes: classes(graph, shapes, logits, &walk.last)?,
        ending,
        output,
        last: walk.last,
    })
}

/// Whether an operator works on quantized values.
pub(super) fn is_quantized(op_type: &str) -> bool {
    QUANTIZED.contains(&op_type)
}

/// Whether a node contracts its first input with constant weights.
pub(super) fn is_dense(graph: &Graph<'_>, node: NodeId) -> bool {
    let weight = graph.input(node, 1).and_then(|id| graph.constant(id));
    matches!(graph.node(node).op(), "Gemm" | "MatMul" | "Conv")
        && weight.is_some_and(|tensor| tensor.dims.len() >= 2)
}

/// Steps back over ArgMax and what follows it (Cast, Squeeze).
fn before_decision(graph: &Graph<'_>, output: ValueId) -> ValueId {
    let mut value = output;
    while let Some(node) = graph.producer(value) {
        let op_type = graph.node(node).op();
        let decides = DECISIONS.contains(&op_type);
        if !decides
            && !matches!(
                op_type,
                "Cast" | "Squeeze" | "Identity" | "Reshape" | "Flatten"
            )
        {
            return output;
        }
        let Some(input) = graph.input(node, 0) else {
            return output;
        };
        if decides {
            return input;
        }
        value = input;
    }
    output
}

/// The final non-linearity and the value in front of it.
fn ending(graph: &Graph<'_>, value: ValueId) -> (Ending, ValueId) {
    let mut at = value;
    while let Some(node) = graph.producer(at) {
        let found = match graph.node(node).op() {
            "Softmax" => Ending::Softmax,
            "LogSoftmax" => Ending::LogSoftmax,
            "Sigmoid" => Ending::Sigmoid,
            "Cast" | "Identity" | "Squeeze" | "Reshape" | "Flatten" => {
                match graph.input(node, 0) {
                    Some(input) => at = input,
                    None => break,
                }
                continue;
            }
            _ => break,
        };
        if let Some(input) = graph.input(node, 0) {
            return (found, input);
        }
        break;
    }
    (Ending::Logits, value)
}

impl Walk<'_> {
    fn back(&mut self, value: ValueId) -> Result<(), String> {
        let mut open = vec![value];
        while let Some(value) = open.pop() {
            if !self.seen.insert(value) || self.graph.constant(value).is_some() {
                continue;
            }
            let name = self.graph.name(value);
            let Some(node) = self.graph.producer(value) else {
                return Err(format!(
                    "reaches the model's input {name:?} without a dense layer"
                ));
            };
            let site = self.graph.site(node);
            let op_type = self.graph.node(node).op();
            if is_dense(self.graph, node) {
                if !self.last.contains(&node) {
                    self.last.push(node);
                }
            } else if is_quantized(op_type) {
                return Err(format!(
                    "{site} is quantized: prune the model first, then quantize it"
                ));
            } else if PASSING.contains(&op_type) {
                open.extend(data_inputs(self.graph, node));
            } else {
                return Err(format!("{site} makes the scores, and is no dense layer"));
            }
        }
        Ok(())
    }
}

/// Inputs that carry scores, as opposed to target shapes, axes and limits.
fn data_inputs(graph: &Graph<'_>, node: NodeId) -> Vec<ValueId> {
    let message = graph.node(node);
    let all = matches!(
        message.op(),
        "Add" | "Sub" | "Mul" | "Div" | "Sum" | "Mean" | "Concat"
    );
    let count = if all { message.input.len() } else { 1 };
    (0..count)
        .filter_map(|input| graph.input(node, input))
        .collect()
}

/// Number of classes: the declared size of the scores, else the outputs of the last dense layer.
fn classes(
    graph: &Graph<'_>,
    shapes: &Shapes,
    logits: ValueId,
    last: &[NodeId],
) -> Result<usize, String> {
    if let Some([_, Dim::Fixed(classes), rest @ ..]) = shapes.dims(logits)
        && rest.iter().all(|dim| *dim == Dim::Fixed(1))
    {
        return Ok(*classes);
    }
    let widths: BTreeSet<usize> = last.iter().filter_map(|&node| made(graph, node)).collect();
    match widths.iter().collect::<Vec<_>>()[..] {
        [&classes] => Ok(classes),
        _ => Err("gives scores of unknown shape".to_owned()),
    }
}

/// Number of outputs that a dense layer's weights make.
fn made(graph: &Graph<'_>, node: NodeId) -> Option<usize> {
    let weight = graph.constant(graph.input(node, 1)?)?;
    let message = graph.node(node);
    let axis = match message.op() {
        "Gemm" if message.int("transB").unwrap_or(0) == 0 => 1,
        "MatMul" => weight.dims.len().checked_sub(1)?,
        _ => 0,
    };
    usize::try_from(*weight.dims.get(axis)?).ok()
}
