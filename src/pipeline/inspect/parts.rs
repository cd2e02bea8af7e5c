//! The parts of a model: head, what a cut can remove in the trunk, the rest.

use std::collections::BTreeSet;

use prost::Message;
use serde::Serialize;

use super::{costs::Costs, cuts::Cut};
use crate::{
    graph::{Graph, NodeId, Use, ValueId},
    head::Head,
    onnx::TensorProto,
    pipeline::{parts, setup::Setup},
};

/// Which part of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PartName {
    /// From the features to the class scores.
    Head,
    /// The part of the trunk that loses channels, from its first such node to the features.
    Removable,
    /// The rest of the trunk.
    Rest,
    /// All of it.
    Whole,
}

/// What a part holds.
#[derive(Clone, Debug, Serialize)]
pub struct Part {
    /// Which part.
    pub part: PartName,
    /// Number of its nodes.
    pub nodes: usize,
    /// Values of its floating-point weights.
    pub parameters: u64,
    /// Bytes of its weights; of the whole model, those of the file.
    pub bytes: u64,
    /// Multiply-accumulates per sample, as far as they are counted.
    pub macs: u64,
    /// Seconds of one run, measured; nothing without timing.
    pub seconds: Option<f64>,
}

/// The nodes of a model, by part.
pub(super) struct Nodes {
    pub(super) head: BTreeSet<NodeId>,
    pub(super) removable: BTreeSet<NodeId>,
    rest: BTreeSet<NodeId>,
}

impl Nodes {
    /// Sorts the nodes by what the deepest cut does to them.
    pub(super) fn of(setup: &Setup<'_>, head: &Head, cut: Option<&Cut>) -> Self {
        let graph = &setup.graph;
        let shrinks = |node: NodeId| {
            let name = graph.site(node).node;
            let mut removed = cut.iter().flat_map(|cut| &cut.removed);
            removed.any(|removal| removal.node == name)
        };
        let needed: BTreeSet<NodeId> = head
            .features
            .iter()
            .flat_map(|&value| graph.ancestors(value))
            .collect();
        let mut removable: BTreeSet<NodeId> = BTreeSet::new();
        for &node in graph.order() {
            let behind = producers(graph, node).any(|before| removable.contains(&before));
            let inside = needed.contains(&node) && !head.nodes.contains(&node);
            if inside && (behind || shrinks(node)) {
                removable.insert(node);
            }
        }
        let all = graph.order().iter().copied();
        let rest = all.filter(|node| !head.nodes.contains(node) && !removable.contains(node));
        Self {
            rest: rest.collect(),
            head: head.nodes.clone(),
            removable,
        }
    }

    /// What the removable part reads of the rest, and the features it makes.
    pub(super) fn border(&self, graph: &Graph<'_>, head: &Head) -> (Vec<ValueId>, Vec<ValueId>) {
        let read = self.removable.iter().flat_map(|&node| inputs(graph, node));
        let outside = |id: &ValueId| {
            let made = graph.producer(*id);
            made.is_none_or(|node| !self.removable.contains(&node)) && !graph.is_fixed(*id)
        };
        let begin: BTreeSet<ValueId> = read.filter(outside).collect();
        let made = |id: &&ValueId| {
            let node = graph.producer(**id);
            node.is_some_and(|node| self.removable.contains(&node))
        };
        let end = head.features.iter().filter(made).copied().collect();
        (begin.into_iter().collect(), end)
    }

    /// The parts and the whole, without times; the removable part only where there is one.
    pub(super) fn parts(
        &self,
        setup: &Setup<'_>,
        costs: &Costs,
        file: &parts::FileReport,
    ) -> Vec<Part> {
        let nodes = [
            (PartName::Head, &self.head),
            (PartName::Removable, &self.removable),
            (PartName::Rest, &self.rest),
        ];
        let mut found: Vec<Part> = Vec::new();
        for (part, nodes) in nodes {
            if part == PartName::Removable && nodes.is_empty() {
                continue;
            }
            found.push(Part {
                part,
                nodes: nodes.len(),
                parameters: 0,
                bytes: 0,
                macs: costs.of_nodes(nodes),
                seconds: None,
            });
        }
        for (readers, tensor) in weights(&setup.graph) {
            let reads = |nodes: &BTreeSet<NodeId>| !readers.is_disjoint(nodes);
            let part = match (reads(&self.head), reads(&self.removable)) {
                (true, _) => PartName::Head,
                (false, true) => PartName::Removable,
                (false, false) => PartName::Rest,
            };
            if let Some(found) = found.iter_mut().find(|found| found.part == part) {
                found.parameters += parts::parameters_of(tensor);
                found.bytes += tensor.encoded_len() as u64;
            }
        }
        found.push(Part {
            part: PartName::Whole,
            nodes: setup.graph.order().len(),
            parameters: file.parameters,
            bytes: file.bytes,
            macs: costs.total(),
            seconds: None,
        });
        found
    }
}

fn inputs(graph: &Graph<'_>, node: NodeId) -> impl Iterator<Item = ValueId> {
    (0..graph.node(node).input.len()).filter_map(move |at| graph.input(node, at))
}

fn producers(graph: &Graph<'_>, node: NodeId) -> impl Iterator<Item = NodeId> {
    inputs(graph, node).filter_map(|value| graph.producer(value))
}

/// Every weight, with the nodes that read it to compute something that differs between samples.
fn weights<'g>(graph: &'g Graph<'_>) -> Vec<(BTreeSet<NodeId>, &'g TensorProto)> {
    let proto = graph.proto();
    let stored = proto
        .initializer
        .iter()
        .map(|tensor| (tensor.name(), tensor));
    let made = proto.node.iter().filter_map(|node| {
        let tensor = node.attribute("value")?.t.as_ref()?;
        Some((node.output.first()?.as_str(), tensor))
    });
    let all = stored.chain(made);
    all.filter_map(|(name, tensor)| Some((readers(graph, graph.value(name)?), tensor)))
        .collect()
}

fn readers(graph: &Graph<'_>, value: ValueId) -> BTreeSet<NodeId> {
    let mut open = vec![value];
    let mut found = BTreeSet::new();
    while let Some(value) = open.pop() {
        for &Use { node, .. } in graph.uses(value) {
            let outputs =
                (0..graph.node(node).output.len()).filter_map(|at| graph.output(node, at));
            let (fixed, live): (Vec<ValueId>, Vec<ValueId>) =
                outputs.partition(|&output| graph.is_fixed(output));
            open.extend(fixed);
            if !live.is_empty() {
                found.insert(node);
            }
        }
    }
    found
}
