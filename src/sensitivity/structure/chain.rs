//! Which heads are chains: dense layers with functions of single neurons between them.
//!
//! ```text
//! features -> dense -> bend -> dense -> bend -> dense -> scores
//! ```
//!
//! A *bend* is whatever turns one number per neuron into one number per neuron: an activation, also
//! one that an exporter has written out in several operators, a bias, a normalisation by constants.

use std::collections::BTreeSet;

use super::matrix::Matrix;
use crate::{
    error::Result,
    graph::{Graph, NodeId, Shapes, Use, ValueId},
    head::{Head, Layer},
    onnx::Dim,
    prune::dense::{Kind, Weight},
    sensitivity::{Norm, power_sums::PowerSums},
};

/// Operators that only carry scores on: nothing here has a slope.
const PLAIN: &[&str] = &[
    "Cast",
    "Dropout",
    "Flatten",
    "Identity",
    "Reshape",
    "Squeeze",
    "Unsqueeze",
];

/// Operators on each number by itself; further inputs must be constant, or come from the same neuron.
const ELEMENTWISE: &[&str] = &[
    "Abs",
    "Add",
    "BatchNormalization",
    "Celu",
    "Clip",
    "Div",
    "Elu",
    "Erf",
    "Exp",
    "FastGelu",
    "Gelu",
    "HardSigmoid",
    "HardSwish",
    "LeakyRelu",
    "Log",
    "Mish",
    "Mul",
    "Neg",
    "PRelu",
    "Pow",
    "QuickGelu",
    "Reciprocal",
    "Relu",
    "Selu",
    "Sigmoid",
    "Softplus",
    "Softsign",
    "Sqrt",
    "Sub",
    "Swish",
    "Tanh",
    "ThresholdedRelu",
];

/// Those of them that are functions of one number alone.
const UNIFORM: &[&str] = &[
    "Celu",
    "Clip",
    "Elu",
    "FastGelu",
    "Gelu",
    "HardSigmoid",
    "HardSwish",
    "LeakyRelu",
    "Mish",
    "QuickGelu",
    "Relu",
    "Selu",
    "Sigmoid",
    "Softplus",
    "Softsign",
    "Swish",
    "Tanh",
    "ThresholdedRelu",
];

/// A head that is a chain.
pub(super) struct Chain {
    /// One per layer, from the features to the scores.
    pub(super) links: Vec<Link>,
}

/// A layer and the dense layer that reads it.
pub(super) struct Link {
    /// `[outputs, inputs]`.
    pub(super) weights: Matrix,
    /// What stands between its outputs and the next layer; nothing behind the last.
    pub(super) bend: Option<Bend>,
}

/// What stands between a dense layer and the next layer's neurons.
pub(super) struct Bend {
    /// What the dense layer makes.
    pub(super) from: ValueId,
    /// The next layer's value.
    pub(super) to: ValueId,
    /// Who reads `from`.
    pub(super) readers: Vec<Use>,
    /// Whether it treats all neurons alike: an activation as one operator, and biases.
    pub(super) uniform: bool,
    /// Whether it is one Relu, and nothing else.
    pub(super) relu: bool,
}

impl Chain {
    /// Recognises a chain; why the head is none, otherwise. Without `shapes`, a neuron may stand at
    /// several positions of a sample.
    pub(super) fn find(
        graph: &Graph<'_>,
        shapes: Option<&Shapes>,
        head: &Head,
    ) -> Result<Self, String> {
        let behind = graph.ancestors(head.scores.logits);
        let walk = Walk { graph, behind };
        let mut links = Vec::with_capacity(head.layers.len());
        for (at, layer) in head.layers.iter().enumerate() {
            let node = reader(graph, shapes, layer)?;
            let from = graph.output(node, 0).ok_or("a dense layer makes nothing")?;
            let bend = match head.layers.get(at + 1) {
                Some(next) => Some(walk.bend(from, one_value(next)?)?),
                None => {
                    walk.tail(from, head.scores.logits)?;
                    None
                }
            };
            let weights = weights(graph, node)?;
            if weights.inputs() != layer.width() {
                return Err(format!("{} counts other neurons", graph.site(node)));
            }
            links.push(Link { weights, bend });
        }
        let last = links.last().map(|link| link.weights.outputs());
        match last == Some(head.scores.classes) {
            true => Ok(Self { links }),
            false => Err("the last dense layer does not make one score per class".to_owned()),
        }
    }

    /// Sums that fit the layers, one per pair of norms.
    pub(super) fn sums(
        &self,
        norms: &[(Norm, Norm)],
        classes: usize,
    ) -> Result<Vec<Vec<PowerSums>>> {
        let layers = self.links.iter().map(|link| {
            let width = link.weights.inputs();
            let sums = norms.iter();
            let sums = sums.map(|&norms| PowerSums::of_neurons(norms, classes, width));
            sums.collect()
        });
        layers.collect()
    }
}

/// The value of a layer that one operator reads.
fn one_value(layer: &Layer) -> Result<ValueId, String> {
    match layer.group.sinks.as_slice() {
        [sink] => Ok(sink.value),
        _ => Err(format!(
            "layer {:?} is read by several operators",
            layer.name
        )),
    }
}

/// The dense layer that reads a layer's neurons, one number per neuron and sample.
fn reader(graph: &Graph<'_>, shapes: Option<&Shapes>, layer: &Layer) -> Result<NodeId, String> {
    let value = one_value(layer)?;
    let sink = &layer.group.sinks[0];
    let in_order = sink.map.iter().copied().eq(0..layer.width());
    let once = shapes.is_none_or(|shapes| {
        let dims = shapes.dims(value).unwrap_or_default();
        let mut beside = dims.iter().enumerate().skip(1);
        let alone = beside.all(|(axis, dim)| axis == sink.axis || *dim == Dim::Fixed(1));
        dims.len() > 1 && sink.axis > 0 && alone
    });
    if !in_order || !once {
        return Err(format!(
            "layer {:?} is not known to hold each neuron once",
            layer.name
        ));
    }
    if sink.at.input != 0 {
        return Err(format!(
            "{} reads it from the right",
            graph.site(sink.at.node)
        ));
    }
    Ok(sink.at.node)
}

fn weights(graph: &Graph<'_>, node: NodeId) -> Result<Matrix, String> {
    let weight = Weight::of(graph, node).map_err(|error| error.to_string())?;
    let one_pixel = weight.shape.iter().skip(2).all(|&size| size == 1);
    let fits = match weight.kind {
        Kind::Gemm | Kind::MatMul => true,
        Kind::Pixel | Kind::Window => one_pixel,
        Kind::TransposedGemm => false,
    };
    if !fits {
        return Err(format!("{} is no plain product", graph.site(node)));
    }
    let factor = match graph.node(node).op() {
        "Gemm" => graph.node(node).float("alpha").unwrap_or(1.0),
        _ => 1.0,
    };
    Matrix::of(&weight, factor).map_err(|error| error.to_string())
}

struct Walk<'w> {
    graph: &'w Graph<'w>,
    /// The nodes that the scores depend on.
    behind: BTreeSet<NodeId>,
}

impl Walk<'_> {
    fn readers(&self, value: ValueId) -> impl Iterator<Item = Use> {
        let uses = self.graph.uses(value).iter().copied();
        uses.filter(|reading| self.behind.contains(&reading.node))
    }

    /// The operators from `from` to `to`, where these are all on single neurons and nothing else
    /// leads on from them.
    fn bend(&self, from: ValueId, to: ValueId) -> Result<Bend, String> {
        let graph = self.graph;
        let wanted = graph.ancestors(to);
        let (mut inside, mut open) = (BTreeSet::from([from]), vec![from]);
        while let Some(value) = open.pop() {
            for reading in self.readers(value) {
                let node = reading.node;
                if value == to {
                    continue;
                }
                if !wanted.contains(&node) {
                    return Err(format!("{} leads past the next layer", graph.site(node)));
                }
                let op = graph.node(node).op();
                if !PLAIN.contains(&op) && !ELEMENTWISE.contains(&op) {
                    return Err(format!("{} mixes neurons", graph.site(node)));
                }
                let made = graph.output(node, 0).ok_or("an operator makes nothing")?;
                if inside.insert(made) {
                    open.push(made);
                }
            }
        }
        if !inside.contains(&to) {
            return Err(format!(
                "{:?} does not come from the layer before",
                graph.name(to)
            ));
        }
        self.closed(&inside, from)?;
        let made = inside.iter().filter(|value| **value != from);
        let mut ops = made.filter_map(|&value| graph.producer(value));
        let uniform = ops.all(|node| {
            let op = graph.node(node).op();
            op == "Add" || PLAIN.contains(&op) || UNIFORM.contains(&op)
        });
        let relu = |reading: &Use| {
            graph.node(reading.node).op() == "Relu" && graph.output(reading.node, 0) == Some(to)
        };
        let readers: Vec<Use> = self.readers(from).collect();
        Ok(Bend {
            from,
            to,
            relu: readers.len() == 1 && readers.iter().all(relu),
            readers,
            uniform,
        })
    }

    /// Everything that the operators inside read is inside too, or the same for every sample.
    fn closed(&self, inside: &BTreeSet<ValueId>, from: ValueId) -> Result<(), String> {
        let graph = self.graph;
        let made = inside.iter().filter(|value| **value != from);
        for node in made.filter_map(|&value| graph.producer(value)) {
            let count = graph.node(node).input.len();
            let mut read = (0..count).filter_map(|input| graph.input(node, input));
            if !read.all(|value| inside.contains(&value) || graph.is_fixed(value)) {
                return Err(format!("{} reads other values too", graph.site(node)));
            }
        }
        Ok(())
    }

    /// Behind the last dense layer only a bias may follow.
    fn tail(&self, from: ValueId, logits: ValueId) -> Result<(), String> {
        let graph = self.graph;
        let mut value = from;
        while value != logits {
            let mut readers = self.readers(value);
            let (Some(reading), None) = (readers.next(), readers.next()) else {
                return Err(format!("{:?} is read in several places", graph.name(value)));
            };
            let node = reading.node;
            let op = graph.node(node).op();
            let adds = op == "Add"
                && graph
                    .input(node, 1 - reading.input.min(1))
                    .is_some_and(|bias| graph.is_fixed(bias));
            if !adds && !PLAIN.contains(&op) {
                return Err(format!(
                    "{} stands behind the last dense layer",
                    graph.site(node)
                ));
            }
            value = graph.output(node, 0).ok_or("an operator makes nothing")?;
        }
        Ok(())
    }
}
