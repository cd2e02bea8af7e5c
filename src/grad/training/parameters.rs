//! Which initializers are trained, beside the weights of plain dense layers.

use std::collections::BTreeMap;

use super::forward::Dense;
use crate::{
    graph::{Graph, NodeId, Use},
    onnx::{DataType, TensorProto},
};

/// Operators with parameters, and the inputs that hold them. Statistics of normalisations are no
/// parameters. A constant that is added or multiplied is a bias or a scale if it has more than one
/// value: single numbers belong to formulas.
const PARAMETERS: &[(&str, &[usize])] = &[
    ("Add", &[0, 1]),
    ("BatchNormalization", &[1, 2]),
    ("Conv", &[1, 2]),
    ("Gemm", &[0, 1, 2]),
    ("InstanceNormalization", &[1, 2]),
    ("LayerNormalization", &[1, 2]),
    ("MatMul", &[0, 1]),
    ("Mul", &[0, 1]),
    ("RMSNormalization", &[1]),
];

/// Operators whose constants may be single numbers of a formula.
const FORMULAS: [&str; 2] = ["Add", "Mul"];

/// Operators that only show a weight in another form.
const VIEWS: [&str; 6] = [
    "Flatten",
    "Identity",
    "Reshape",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
];

/// An initializer that is trained, with all its uses.
pub(super) struct Free {
    pub(super) uses: Vec<Use>,
    pub(super) shape: Vec<usize>,
    /// Its bytes are shared with the model.
    pub(super) first: TensorProto,
}

/// The parameters that `dense` does not hold, in the order of the graph. One that is also used as
/// something else (a bias that is the mean of a normalisation, too) stays as it is.
pub(super) fn find(graph: &Graph<'_>, dense: &[Dense]) -> Vec<Free> {
    let mut found: Vec<(String, Vec<Use>)> = Vec::new();
    for &node in graph.order() {
        let op = graph.node(node).op();
        let Some((_, inputs)) = PARAMETERS.iter().find(|(name, _)| *name == op) else {
            continue;
        };
        for &input in *inputs {
            let Some((name, at)) = behind(graph, node, input) else {
                continue;
            };
            match found.iter_mut().find(|(known, _)| *known == name) {
                Some((_, uses)) if uses.contains(&at) => {}
                Some((_, uses)) => uses.push(at),
                None => found.push((name, vec![at])),
            }
        }
    }
    let taken = |name: &str| dense.iter().any(|dense| dense.holds(name));
    let initializers = graph.proto().initializer.iter();
    let tensors: BTreeMap<&str, _> = initializers.map(|tensor| (tensor.name(), tensor)).collect();
    let free = found.into_iter().filter_map(|(name, uses)| {
        let first = TensorProto::clone(tensors.get(name.as_str())?);
        let sizes = first.dims.iter().map(|&size| usize::try_from(size).ok());
        let shape: Vec<usize> = sizes.collect::<Option<_>>()?;
        let formula = |at: &Use| FORMULAS.contains(&graph.node(at.node).op());
        let number = shape.iter().product::<usize>() == 1 && uses.iter().any(formula);
        let all = graph.uses(graph.value(&name)?);
        let only = all.iter().all(|at| uses.contains(at));
        let is_float = first.data_type() == i32::from(DataType::Float);
        let fits = is_float && only && !number && !taken(&name);
        fits.then_some(Free { uses, shape, first })
    });
    free.collect()
}

/// The initializer behind an input, and where it is first read.
fn behind(graph: &Graph<'_>, node: NodeId, input: usize) -> Option<(String, Use)> {
    let mut at = Use { node, input };
    loop {
        let value = graph.input(at.node, at.input)?;
        match graph.producer(value) {
            None => {
                let name = graph.name(value);
                let mut initializers = graph.proto().initializer.iter();
                let known = initializers.any(|tensor| tensor.name() == name);
                return known.then(|| (name.to_owned(), at));
            }
            Some(node) if VIEWS.contains(&graph.node(node).op()) => at = Use { node, input: 0 },
            Some(_) => return None,
        }
    }
}
