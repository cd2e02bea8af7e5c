//! Axes that can only be cut together, found by following one of them through the graph.
//!
//! The walk starts at a *sink*, an operator that contracts over the neurons, and asks each operator
//! it meets for the other axes that go with the cut. It ends in the operators that make the
//! neurons (their weights shrink), or, where it cannot go on, in a *boundary*: a value that keeps
//! its full width, with a Gather that picks the kept neurons for the readers behind it. So every
//! sink with constant weights can be cut; what the boundary costs is said in its reason.
//!
//! ```text
//! trunk -> value ======> Gather -> BatchNorm -> Gemm (sink)      boundary
//! Gemm (source) -> Relu -> Gemm (sink)                           all of it shrinks
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::rules::{self, Arrival, Coupling, Map, Port, Role};
use crate::{
    error::{Error, Result},
    graph::{Graph, NodeId, Shapes, Use, ValueId},
};

/// Neurons that are cut together, and everything that shrinks with them.
#[derive(Clone, Debug)]
pub struct Group {
    /// Number of neurons.
    pub width: usize,
    /// Where the neurons are contracted, in graph order.
    pub sinks: Vec<Sink>,
    /// Where they come from.
    pub sources: Vec<Source>,
    pub(super) cuts: Vec<ConstantCut>,
    pub(super) targets: Vec<(NodeId, usize)>,
    pub(super) values: Vec<ValueId>,
}

/// An operator that contracts over the neurons.
#[derive(Clone, Debug, PartialEq)]
pub struct Sink {
    /// The node and which of its inputs holds the neurons.
    pub at: Use,
    /// The value read there.
    pub value: ValueId,
    /// The neurons' axis of that value.
    pub axis: usize,
    /// The neuron at each position of the axis.
    pub map: Arc<[usize]>,
}

/// Where the neurons of a group come from.
#[derive(Clone, Debug)]
pub enum Source {
    /// A layer whose own weights shrink.
    Layer(NodeId),
    /// A value that keeps its full width; its readers in the group get a selection.
    Boundary {
        /// The value.
        value: ValueId,
        /// The neurons' axis.
        axis: usize,
        /// The neuron at each position of the axis.
        map: Arc<[usize]>,
        /// The readings that get the selection.
        readers: Vec<Use>,
        /// Why the cut goes no further.
        why: String,
    },
}

/// A constant that shrinks along one axis.
#[derive(Clone, Debug)]
pub(super) struct ConstantCut {
    pub(super) at: Use,
    pub(super) axis: usize,
    pub(super) map: Arc<[usize]>,
}

/// The part of a graph in which groups are looked for.
#[derive(Clone, Copy, Debug)]
pub struct Region<'a> {
    /// The graph.
    pub graph: &'a Graph<'a>,
    /// What is known of its values.
    pub shapes: &'a Shapes,
    /// The nodes the class scores depend on; a reader outside keeps the full width.
    pub inside: &'a BTreeSet<NodeId>,
}

impl Group {
    /// The group of the neurons that `sink` contracts over.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when `sink` is no operator with constant weights.
    pub fn of(region: Region<'_>, sink: Use) -> Result<Self> {
        let start = Start::new(region, sink)?;
        let mut barriers = BTreeMap::new();
        loop {
            let mut walk = Walk::new(region, &barriers);
            match walk.run(&start) {
                Ok(()) => {
                    let group = walk.into_group(start.map.len());
                    let idle = group.shrinks_only_sinks() && !barriers.contains_key(&start.value);
                    if !idle {
                        return Ok(group);
                    }
                    // Nothing between the boundary and the sink has weights: pick the neurons
                    // right in front of the sink, where the values are smallest.
                    let why = group.boundary_reason();
                    barriers.insert(start.value, why);
                }
                Err((value, why)) => {
                    barriers.insert(value, why);
                }
            }
        }
    }

    fn shrinks_only_sinks(&self) -> bool {
        let sinks: BTreeSet<NodeId> = self.sinks.iter().map(|sink| sink.at.node).collect();
        let layers = self.sources.iter().any(|s| matches!(s, Source::Layer(_)));
        !layers && self.cuts.iter().all(|cut| sinks.contains(&cut.at.node))
    }

    fn boundary_reason(&self) -> String {
        let reasons = self.sources.iter().map(|source| match source {
            Source::Boundary { why, .. } => why.clone(),
            Source::Layer(_) => String::new(),
        });
        reasons.collect::<Vec<_>>().join("; ")
    }

    /// The sets of neurons that one weight or another holds alone, when that is not all of them.
    pub(super) fn parts(&self) -> Vec<Vec<usize>> {
        let mut parts: Vec<Vec<usize>> = Vec::new();
        for cut in &self.cuts {
            let part: BTreeSet<usize> = cut.map.iter().copied().collect();
            if part.len() < self.width {
                parts.push(part.into_iter().collect());
            }
        }
        parts.sort();
        parts.dedup();
        parts
    }

    /// The neuron behind each entry of a weight axis of `node`, where that axis shrinks with the
    /// group; the weight is input 1.
    pub fn neurons_of(&self, node: NodeId, axis: usize) -> Option<&[usize]> {
        let at = Use { node, input: 1 };
        let cut = self
            .cuts
            .iter()
            .find(|cut| cut.at == at && cut.axis == axis)?;
        Some(&cut.map)
    }

    /// The layers whose own weights shrink.
    pub fn layers(&self) -> impl Iterator<Item = NodeId> {
        self.sources.iter().filter_map(|source| match source {
            Source::Layer(node) => Some(*node),
            Source::Boundary { .. } => None,
        })
    }
}

struct Start {
    sink: Use,
    value: ValueId,
    axis: usize,
    map: Map,
}

impl Start {
    /// Asks the sink along every axis of its input; the right one is the one it contracts over.
    fn new(region: Region<'_>, sink: Use) -> Result<Self> {
        let Region { graph, shapes, .. } = region;
        let unsupported = |what: String| Error::Unsupported {
            site: graph.site(sink.node),
            what,
        };
        let value = graph
            .input(sink.node, sink.input)
            .ok_or_else(|| unsupported("has no such input".to_owned()))?;
        let mut reasons = Vec::new();
        for (axis, width) in candidate_axes(region, sink) {
            let arrival = Arrival {
                graph,
                shapes,
                node: sink.node,
                port: Port::Input(sink.input),
                axis,
                map: (0..width).collect(),
            };
            match rules::ask(&arrival) {
                Ok(coupling) if coupling.role == Role::Sink => {
                    let map = arrival.map;
                    return Ok(Self {
                        sink,
                        value,
                        axis,
                        map,
                    });
                }
                Ok(_) => reasons.push("does not contract over its input".to_owned()),
                Err(why) => reasons.push(why),
            }
        }
        reasons.dedup();
        Err(unsupported(format!(
            "cannot be cut: {}",
            reasons.join("; ")
        )))
    }
}

/// Axes over which the operator may contract, with the sizes its weights give them.
///
/// The weights know the width even where no shape of the input is declared.
fn candidate_axes(region: Region<'_>, sink: Use) -> Vec<(usize, usize)> {
    let graph = region.graph;
    let weight = graph.input(sink.node, 1).and_then(|id| graph.constant(id));
    let sizes = weight.map_or(&[][..], |tensor| &tensor.dims);
    let rank = graph
        .input(sink.node, sink.input)
        .and_then(|id| region.shapes.rank(id))
        .unwrap_or(2);
    let mut candidates = Vec::new();
    for axis in 0..rank {
        for size in sizes.iter().take(2.max(sizes.len())) {
            if let Ok(width) = usize::try_from(*size)
                && width > 0
                && !candidates.contains(&(axis, width))
            {
                candidates.push((axis, width));
            }
        }
    }
    candidates
}

/// A value at which the walk must stop, and why.
type Barrier = (ValueId, String);

struct Walk<'a> {
    region: Region<'a>,
    barriers: &'a BTreeMap<ValueId, String>,
    visited: BTreeMap<ValueId, (usize, Map)>,
    /// By role, since one node can make the neurons it also contracts over (a gate).
    nodes: BTreeMap<(NodeId, Role), (Port, Coupling)>,
    open: Vec<ValueId>,
}

impl<'a> Walk<'a> {
    fn new(region: Region<'a>, barriers: &'a BTreeMap<ValueId, String>) -> Self {
        Self {
            region,
            barriers,
            visited: BTreeMap::new(),
            nodes: BTreeMap::new(),
            open: Vec::new(),
        }
    }

    fn run(&mut self, start: &Start) -> Result<(), Barrier> {
        self.visit(start.value, start.axis, &start.map)?;
        // The sink itself first, so that a boundary right in front of it knows its reader.
        self.pass(start.value, Port::Input(start.sink.input), start.sink.node)
            .map_err(|why| (start.value, why))?;
        while let Some(value) = self.open.pop() {
            if self.barriers.contains_key(&value) {
                self.direct_sinks(value);
            } else {
                self.explore(value).map_err(|why| (value, why))?;
            }
        }
        Ok(())
    }

    /// Notes that a value is cut; a value that would be cut in two ways is a barrier.
    fn visit(&mut self, value: ValueId, axis: usize, map: &Map) -> Result<(), Barrier> {
        match self.visited.get(&value) {
            Some((old_axis, old_map)) if *old_axis == axis && old_map == map => Ok(()),
            Some(_) => Err((value, "it is needed in two different orders".to_owned())),
            None => {
                self.visited.insert(value, (axis, map.clone()));
                self.open.push(value);
                Ok(())
            }
        }
    }

    /// Goes from a value to its producer and to all its readers.
    fn explore(&mut self, value: ValueId) -> Result<(), String> {
        let graph = self.region.graph;
        if graph.is_output(value) {
            return Err("it is an output of the model".to_owned());
        }
        let producer = graph
            .producer(value)
            .ok_or_else(|| "it is an input of the model".to_owned())?;
        let outputs = &graph.node(producer).output;
        let index = outputs.iter().position(|name| name == graph.name(value));
        self.pass(value, Port::Output(index.unwrap_or(0)), producer)?;
        for &reading in graph.uses(value) {
            if reading.input == Use::CAPTURE || !self.region.inside.contains(&reading.node) {
                let site = graph.site(reading.node);
                return Err(format!("{site} reads it too"));
            }
            self.pass(value, Port::Input(reading.input), reading.node)?;
        }
        Ok(())
    }

    /// Readers of a boundary that contract over it right away join the group.
    fn direct_sinks(&mut self, value: ValueId) {
        for &reading in self.region.graph.uses(value) {
            if !self.region.inside.contains(&reading.node) || reading.input == Use::CAPTURE {
                continue;
            }
            let port = Port::Input(reading.input);
            if let Ok(coupling) = self.ask(value, port, reading.node)
                && coupling.role == Role::Sink
            {
                let key = (reading.node, Role::Sink);
                self.nodes.entry(key).or_insert((port, coupling));
            }
        }
    }

    /// Takes the cut on `value` through one node.
    fn pass(&mut self, value: ValueId, port: Port, node: NodeId) -> Result<(), String> {
        if self.reached(node, port) {
            return Ok(());
        }
        let coupling = self.ask(value, port, node)?;
        let graph = self.region.graph;
        if self.nodes.contains_key(&(node, coupling.role)) {
            return Err(format!("{} reads it twice", graph.site(node)));
        }
        for (other, axis, map) in &coupling.ports {
            let next = match other {
                Port::Input(index) => graph.input(node, *index),
                Port::Output(index) => graph.output(node, *index),
            };
            let Some(next) = next else { continue };
            if let (Port::Output(_), Some(why)) = (other, self.barriers.get(&next)) {
                return Err(why.clone());
            }
            self.visit(next, *axis, map).map_err(|(_, why)| why)?;
        }
        self.nodes.insert((node, coupling.role), (port, coupling));
        Ok(())
    }

    /// Whether the cut already passes this side of a node.
    fn reached(&self, node: NodeId, port: Port) -> bool {
        let range = (node, Role::Through)..=(node, Role::Source);
        self.nodes.range(range).any(|(_, (known, coupling))| {
            *known == port || coupling.ports.iter().any(|(other, ..)| *other == port)
        })
    }

    fn ask(&self, value: ValueId, port: Port, node: NodeId) -> Result<Coupling, String> {
        let (axis, map) = &self.visited[&value];
        rules::ask(&Arrival {
            graph: self.region.graph,
            shapes: self.region.shapes,
            node,
            port,
            axis: *axis,
            map: map.clone(),
        })
    }

    fn into_group(self, width: usize) -> Group {
        let mut group = Group {
            width,
            sinks: Vec::new(),
            sources: Vec::new(),
            cuts: Vec::new(),
            targets: Vec::new(),
            values: Vec::new(),
        };
        for (&value, (axis, map)) in &self.visited {
            match self.barriers.get(&value) {
                None => group.values.push(value),
                Some(why) => group.sources.push(Source::Boundary {
                    value,
                    axis: *axis,
                    map: map.clone(),
                    readers: self.readers(value),
                    why: why.clone(),
                }),
            }
        }
        for (&(node, _), (port, coupling)) in &self.nodes {
            self.add_node(&mut group, node, *port, coupling);
        }
        group
    }

    fn add_node(&self, group: &mut Group, node: NodeId, port: Port, coupling: &Coupling) {
        for (input, axis, map) in &coupling.cuts {
            group.cuts.push(ConstantCut {
                at: Use {
                    node,
                    input: *input,
                },
                axis: *axis,
                map: map.clone(),
            });
        }
        group
            .targets
            .extend(coupling.target.map(|axis| (node, axis)));
        match (coupling.role, port) {
            (Role::Sink, Port::Input(input)) => {
                if let Some(value) = self.region.graph.input(node, input)
                    && let Some((axis, map)) = self.visited.get(&value)
                {
                    group.sinks.push(Sink {
                        at: Use { node, input },
                        value,
                        axis: *axis,
                        map: map.clone(),
                    });
                }
            }
            (Role::Source, _) => group.sources.push(Source::Layer(node)),
            (Role::Sink | Role::Through, _) => {}
        }
    }

    /// The readings of a boundary by nodes of the group.
    fn readers(&self, value: ValueId) -> Vec<Use> {
        let uses = self.region.graph.uses(value).iter();
        uses.copied()
            .filter(|reading| self.reached(reading.node, Port::Input(reading.input)))
            .collect()
    }
}
