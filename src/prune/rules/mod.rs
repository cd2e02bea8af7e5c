//! One small rule per operator: how a cut on an axis passes it.
//!
//! A rule is asked from one side, an input or an output of its node, and answers with every other
//! axis that must be cut with it, or with the reason why the cut cannot pass. The files have the
//! same names as those of the gradient rules.

mod activation;
mod conv;
mod elementwise;
mod matmul;
mod norm;
mod pool;
mod reduce;
mod select;
mod shape;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::{
    graph::{Graph, NodeId, Shapes, ValueId},
    onnx::{Dim, TensorProto},
};

/// The neuron at each position of an axis; positions of one neuron are kept or dropped together.
pub(super) type Map = Arc<[usize]>;

/// One side of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Port {
    /// The input of this number.
    Input(usize),
    /// The output of this number.
    Output(usize),
}

/// A cut that arrives at a node.
pub(super) struct Arrival<'a> {
    pub(super) graph: &'a Graph<'a>,
    pub(super) shapes: &'a Shapes,
    pub(super) node: NodeId,
    pub(super) port: Port,
    pub(super) axis: usize,
    pub(super) map: Map,
}

/// What a node is to a cut that reaches it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    /// The neurons pass through, one by one.
    Through,
    /// The node contracts over the neurons: the cut ends here, in its weights.
    Sink,
    /// The node makes the neurons: the cut ends here, in its weights.
    Source,
}

/// Everything a cut takes with it at one node.
#[derive(Debug)]
pub(super) struct Coupling {
    pub(super) role: Role,
    /// Other values of the node that must be cut, with the axis and its neurons.
    pub(super) ports: Vec<(Port, usize, Map)>,
    /// Constant inputs that must be cut, with the axis and its neurons.
    pub(super) cuts: Vec<(usize, usize, Map)>,
    /// The output axis whose size the node's constant target shape names.
    pub(super) target: Option<usize>,
}

impl Coupling {
    pub(super) fn new(role: Role) -> Self {
        Self {
            role,
            ports: Vec::new(),
            cuts: Vec::new(),
            target: None,
        }
    }
}

/// Why a cut cannot pass, in words for the report.
pub(super) type Stop = String;

/// Answers for one operator.
pub(super) type Rule = fn(&Arrival<'_>) -> Result<Coupling, Stop>;

const FAMILIES: &[&[(&str, Rule)]] = &[
    activation::RULES,
    conv::RULES,
    elementwise::RULES,
    matmul::RULES,
    norm::RULES,
    pool::RULES,
    reduce::RULES,
    select::RULES,
    shape::RULES,
];

/// What a rule says when it needs axes that neither the file declares nor a run has shown.
pub const UNKNOWN_SHAPE: &str = "has values of unknown shape";

/// Asks the rule of the node's operator.
pub(super) fn ask(arrival: &Arrival<'_>) -> Result<Coupling, Stop> {
    let node = arrival.graph.node(arrival.node);
    let site = arrival.graph.site(arrival.node);
    if !matches!(node.domain_or_default(), "" | "com.microsoft") {
        return Err(format!("{site} is of a domain without rules"));
    }
    let mut rules = FAMILIES.iter().copied().flatten();
    match rules.find(|(name, _)| *name == node.op()) {
        Some((_, rule)) => rule(arrival).map_err(|why| format!("{site} {why}")),
        None => Err(format!("{site} has no rule for cuts")),
    }
}

/// Names of all operators with a rule.
#[cfg(test)]
pub(super) fn names() -> Vec<&'static str> {
    let rules = FAMILIES.iter().copied().flatten();
    rules.map(|(name, _)| *name).collect()
}

impl Arrival<'_> {
    /// The value behind a port.
    pub(super) fn value(&self, port: Port) -> Option<ValueId> {
        match port {
            Port::Input(index) => self.graph.input(self.node, index),
            Port::Output(index) => self.graph.output(self.node, index),
        }
    }

    /// The constant behind an input, if it is one.
    pub(super) fn constant(&self, input: usize) -> Option<&TensorProto> {
        self.graph.constant(self.graph.input(self.node, input)?)
    }

    /// Axes of the value behind a port.
    pub(super) fn dims(&self, port: Port) -> Result<&[Dim], Stop> {
        let value = self.value(port);
        value
            .and_then(|id| self.shapes.dims(id))
            .ok_or_else(|| UNKNOWN_SHAPE.to_owned())
    }

    /// Number of axes of the value behind a port.
    pub(super) fn rank(&self, port: Port) -> Result<usize, Stop> {
        self.dims(port).map(<[Dim]>::len)
    }

    /// Number of positions on the axis that arrives.
    pub(super) fn width(&self) -> usize {
        self.map.len()
    }

    /// The only data port across from the one that arrives, for nodes with one of each.
    pub(super) fn across(&self) -> Result<Port, Stop> {
        match self.port {
            Port::Input(0) => Ok(Port::Output(0)),
            Port::Output(0) => Ok(Port::Input(0)),
            Port::Input(_) => Err("reads the neurons as a setting".to_owned()),
            Port::Output(_) => Err("gives more than one output".to_owned()),
        }
    }

    /// A coupling that passes the neurons on unchanged, to this axis of the port across.
    pub(super) fn pass_to(&self, axis: usize) -> Result<Coupling, Stop> {
        let mut coupling = Coupling::new(Role::Through);
        let port = self.across()?;
        coupling.ports.push((port, axis, self.map.clone()));
        Ok(coupling)
    }
}

/// An axis number as an index; negative ones count from the end.
pub(in crate::prune) fn wrap_axis(axis: i64, rank: usize) -> Option<usize> {
    let signed = i64::try_from(rank).ok()?;
    let wrapped = if axis < 0 { axis + signed } else { axis };
    usize::try_from(wrapped).ok().filter(|&index| index < rank)
}

/// Number of positions beside the batch (axis 0) and the neurons' own axis, where known.
pub(super) fn positions(dims: &[Dim], axis: usize) -> Option<usize> {
    let others = dims.iter().enumerate().skip(1);
    others
        .filter(|&(index, _)| index != axis)
        .try_fold(1_usize, |count, (_, dim)| match dim {
            Dim::Fixed(size) => count.checked_mul(*size),
            Dim::Symbol(_) | Dim::Unknown => None,
        })
}
