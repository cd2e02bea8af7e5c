//! Topological order, and the values that subgraphs read from outside.

use std::collections::{BTreeSet, VecDeque};

use super::{Graph, NodeId};
use crate::{
    error::{Error, Result},
    onnx::{GraphProto, NodeProto},
};

/// All nodes, each after the nodes it depends on; ties keep the order of the file.
pub(super) fn topological(graph: &Graph<'_>) -> Result<Vec<NodeId>> {
    let count = graph.proto.node.len();
    let mut waiting = vec![0_usize; count];
    let mut readers: Vec<Vec<usize>> = vec![Vec::new(); count];
    for value in graph.values() {
        let Some(NodeId(producer)) = graph.producer(value) else {
            continue;
        };
        for reading in graph.uses(value) {
            waiting[reading.node.0] += 1;
            readers[producer].push(reading.node.0);
        }
    }
    let mut ready: VecDeque<usize> = (0..count).filter(|&node| waiting[node] == 0).collect();
    let mut order = Vec::with_capacity(count);
    while let Some(node) = ready.pop_front() {
        order.push(NodeId(node));
        for &reader in &readers[node] {
            waiting[reader] -= 1;
            if waiting[reader] == 0 {
                ready.push_back(reader);
            }
        }
    }
    match waiting.iter().position(|&left| left > 0) {
        None => Ok(order),
        Some(node) => Err(Error::Invalid {
            site: graph.site(NodeId(node)),
            what: "depends on its own output (the graph has a cycle)".to_owned(),
        }),
    }
}

/// Names that the subgraphs of `node` read but do not make.
pub(super) fn captured(node: &NodeProto) -> BTreeSet<&str> {
    let mut free = BTreeSet::new();
    for graph in node.graphs() {
        free.extend(free_names(graph));
    }
    free
}

fn free_names(graph: &GraphProto) -> BTreeSet<&str> {
    let inputs = graph.input.iter().map(|input| input.name());
    let constants = graph.initializer.iter().map(|tensor| tensor.name());
    let made = graph.node.iter().flat_map(|node| &node.output);
    let bound: BTreeSet<&str> = inputs
        .chain(constants)
        .chain(made.map(String::as_str))
        .collect();
    let mut free = BTreeSet::new();
    for node in &graph.node {
        free.extend(node.input.iter().map(String::as_str));
        free.extend(captured(node));
    }
    free.extend(graph.output.iter().map(|output| output.name()));
    free.retain(|name| !name.is_empty() && !bound.contains(name));
    free
}
