//! Which nodes lie between the values asked about and the class scores.

use std::collections::BTreeSet;

use super::{
    Request,
    rules::{self, Found},
};
use crate::{
    error::{Error, Result},
    graph::{Graph, NodeId, Shapes, Use, ValueId},
    onnx::DataType,
};

/// The nodes through which a gradient flows, in the order of the graph.
pub(super) struct Path<'r> {
    request: Request<'r>,
    nodes: BTreeSet<NodeId>,
    order: Vec<NodeId>,
}

impl<'r> Path<'r> {
    /// Walks back from the class scores, but not behind `stop`, and keeps what depends on one of
    /// the uses asked about.
    ///
    /// # Errors
    /// [`Error::UnsupportedOperators`] with every operator on the way that has no rule.
    pub(super) fn find(graph: &Graph<'_>, shapes: &Shapes, request: Request<'r>) -> Result<Self> {
        let ancestors = ancestors(graph, request);
        let mut path = Self {
            request,
            nodes: BTreeSet::new(),
            order: Vec::new(),
        };
        let mut missing = Vec::new();
        for &id in graph.order().iter().filter(|id| ancestors.contains(id)) {
            let inputs = 0..graph.node(id).input.len();
            let found = rules::find(graph, id);
            let wanted = inputs
                .into_iter()
                .any(|input| path.wants(graph, shapes, id, input));
            if !wanted || matches!(found, Found::Zero) {
                continue;
            }
            if matches!(found, Found::Absent) {
                missing.push(graph.site(id));
            }
            path.nodes.insert(id);
            path.order.push(id);
        }
        if missing.is_empty() {
            return Ok(path);
        }
        missing.sort();
        Err(Error::UnsupportedOperators(missing))
    }

    /// The nodes, each before the nodes whose values it reads.
    pub(super) fn backwards(&self) -> impl Iterator<Item = NodeId> {
        self.order.iter().rev().copied()
    }

    /// Whether the cotangent at this use was asked for.
    pub(super) fn is_target(&self, node: NodeId, input: usize) -> bool {
        self.request.wrt.contains(&Use { node, input })
    }

    /// Whether a gradient that arrives at this value has somewhere to go.
    pub(super) fn passes(&self, graph: &Graph<'_>, shapes: &Shapes, value: ValueId) -> bool {
        let producer = graph.producer(value);
        producer.is_some_and(|node| self.nodes.contains(&node))
            && !self.request.stop.contains(&value)
            && shapes.dtype(value).is_none_or(is_float)
    }

    /// Whether the gradient of this input is needed at all.
    pub(super) fn wants(
        &self,
        graph: &Graph<'_>,
        shapes: &Shapes,
        node: NodeId,
        input: usize,
    ) -> bool {
        let Some(value) = graph.input(node, input) else {
            return false;
        };
        self.is_target(node, input) || self.passes(graph, shapes, value)
    }
}

/// Every node that `of` depends on without passing a value of `stop`.
fn ancestors(graph: &Graph<'_>, request: Request<'_>) -> BTreeSet<NodeId> {
    let mut found = BTreeSet::new();
    let mut open = vec![request.of];
    while let Some(value) = open.pop() {
        let Some(node) = graph.producer(value) else {
            continue;
        };
        if request.stop.contains(&value) || !found.insert(node) {
            continue;
        }
        let inputs = 0..graph.node(node).input.len();
        open.extend(inputs.filter_map(|input| graph.input(node, input)));
    }
    found
}

fn is_float(dtype: DataType) -> bool {
    matches!(
        dtype,
        DataType::Float | DataType::Float16 | DataType::Bfloat16 | DataType::Double
    )
}
