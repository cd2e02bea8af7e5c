//! Finds the head: picks the output, then the layers in front of it, then the features.

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
};

use super::{BORDER, ClassScores, Head, Layer, random, scores};
use crate::{
    error::{Error, Result},
    graph::{Graph, NodeId, Shapes, Use, ValueId},
    onnx::Dim,
    prune::{Group, Region, Source, UNKNOWN_SHAPE},
};

/// Finds the classification head of a graph.
///
/// # Errors
/// [`Error::NoHead`] with everything that was tried.
pub fn find(graph: &Graph<'_>, shapes: &Shapes) -> Result<Head> {
    let mut tried = Vec::new();
    let mut candidates = Vec::new();
    for output in graph.outputs() {
        match scores::behind(graph, shapes, output) {
            Ok(found) => candidates.push(found),
            Err(why) => tried.push(format!("output {:?}: {why}", graph.name(output))),
        }
    }
    let ancestors: Vec<BTreeSet<NodeId>> = candidates
        .iter()
        .map(|scores| graph.ancestors(scores.value))
        .collect();
    let Some(best) = last_candidate(&candidates, &ancestors) else {
        return Err(Error::NoHead { tried });
    };
    let inside = &ancestors[best];
    let mut notes = other_outputs(graph, &candidates, best);
    notes.extend(random::note(graph, inside));
    let mut finder = Finder {
        region: Region {
            graph,
            shapes,
            inside,
        },
        groups: BTreeMap::new(),
        notes,
        wants_shapes: Cell::new(false),
    };
    for &node in &candidates[best].last {
        finder.follow(node);
    }
    finder.into_head(candidates.swap_remove(best), tried)
}

/// The candidate whose scores no other candidate is computed from; the first of several.
fn last_candidate(candidates: &[ClassScores], ancestors: &[BTreeSet<NodeId>]) -> Option<usize> {
    let feeds_another = |index: usize| {
        let last = &candidates[index].last;
        let others = (0..candidates.len())
            .filter(|&other| other != index && candidates[other].last != *last);
        others
            .into_iter()
            .any(|other| last.iter().all(|node| ancestors[other].contains(node)))
    };
    let free = (0..candidates.len()).find(|&index| !feeds_another(index));
    free.or((!candidates.is_empty()).then_some(0))
}

fn other_outputs(graph: &Graph<'_>, candidates: &[ClassScores], best: usize) -> Vec<String> {
    let chosen = graph.name(candidates[best].output);
    let others = candidates.iter().filter(|other| {
        other.output != candidates[best].output && other.last != candidates[best].last
    });
    others
        .map(|other| {
            let name = graph.name(other.output);
            format!("output {name:?} has scores of its own; only those of {chosen:?} are looked at")
        })
        .collect()
}

struct Finder<'a> {
    region: Region<'a>,
    /// Groups by their first sink.
    groups: BTreeMap<Use, Group>,
    notes: Vec<String>,
    /// Whether the way back met a value of unknown shape.
    wants_shapes: Cell<bool>,
}

impl Finder<'_> {
    /// Finds the group in front of a dense layer, and those in front of the layers that make it.
    fn follow(&mut self, node: NodeId) {
        let mut open = vec![node];
        let mut done = BTreeSet::new();
        while let Some(node) = open.pop() {
            let sink = Use { node, input: 0 };
            if !done.insert(node) || self.is_known(sink) {
                continue;
            }
            match Group::of(self.region, sink) {
                Ok(group) => {
                    open.extend(group.layers());
                    open.extend(self.behind_boundaries(&group));
                    let first = group.sinks.iter().map(|sink| sink.at).min();
                    done.extend(group.sinks.iter().map(|sink| sink.at.node));
                    self.groups.insert(first.unwrap_or(sink), group);
                }
                Err(error) => self.notes.push(error.to_string()),
            }
        }
    }

    /// Dense layers that feed a boundary of the group: they keep their outputs, but what they read
    /// can be cut all the same. The way back ends where values have more than one position.
    fn behind_boundaries(&self, group: &Group) -> Vec<NodeId> {
        let Region { graph, shapes, .. } = self.region;
        let boundaries = group.sources.iter().filter_map(|source| match source {
            Source::Boundary { value, .. } => Some(*value),
            Source::Layer(_) => None,
        });
        let mut open: Vec<ValueId> = boundaries.collect();
        let mut seen = BTreeSet::new();
        let mut found = Vec::new();
        while let Some(value) = open.pop() {
            let Some(node) = graph.producer(value) else {
                continue;
            };
            match shapes.dims(value) {
                Some(dims) if is_vector(dims) => {}
                Some(_) => continue,
                None => {
                    self.wants_shapes.set(true);
                    continue;
                }
            }
            if !seen.insert(node) {
                continue;
            }
            if scores::is_dense(graph, node) {
                found.push(node);
            } else {
                let count = graph.node(node).input.len();
                open.extend((0..count).filter_map(|input| graph.input(node, input)));
            }
        }
        found
    }

    fn is_known(&self, sink: Use) -> bool {
        let groups = self.groups.values();
        groups
            .flat_map(|group| &group.sinks)
            .any(|known| known.at == sink)
    }

    fn into_head(mut self, scores: ClassScores, mut tried: Vec<String>) -> Result<Head> {
        let graph = self.region.graph;
        let place = places(graph);
        let mut groups: Vec<Group> = std::mem::take(&mut self.groups).into_values().collect();
        for group in &mut groups {
            group.sinks.sort_by_key(|sink| place[&sink.at.node]);
        }
        groups.sort_by_key(|group| group.sinks.first().map(|sink| place[&sink.at.node]));
        groups.retain(|group| group.width > 1);
        if groups.is_empty() {
            tried.append(&mut self.notes);
            return Err(Error::NoHead { tried });
        }
        let layers = self.name(groups);
        let (features, nodes) = self.border(&layers, scores.value);
        let unknown = self.notes.iter().any(|note| note.contains(UNKNOWN_SHAPE));
        let wants_shapes = unknown || self.wants_shapes.get();
        Ok(Head {
            scores,
            layers,
            features,
            nodes,
            notes: self.notes,
            wants_shapes,
        })
    }

    /// Names layers by what makes them, and notes where cutting them ends.
    fn name(&mut self, groups: Vec<Group>) -> Vec<Layer> {
        let graph = self.region.graph;
        let (mut features, mut dense) = (0, 0);
        let mut layers = Vec::new();
        for group in groups {
            let makers: Vec<String> = group
                .layers()
                .map(|node| graph.site(node).to_string())
                .collect();
            let hidden = !makers.is_empty() || !self.behind_boundaries(&group).is_empty();
            let name = if !hidden {
                features += 1;
                numbered("features", features)
            } else {
                dense += 1;
                format!("fc{dense}")
            };
            let readers = group.sinks.iter();
            let readers: Vec<String> = readers
                .map(|sink| graph.site(sink.at.node).to_string())
                .collect();
            let mut recognised = format!("read by {}", readers.join(" and "));
            if !makers.is_empty() {
                recognised = format!("made by {}, {recognised}", makers.join(" and "));
            }
            for source in &group.sources {
                if let Source::Boundary { value, why, .. } = source {
                    let value = graph.name(*value);
                    self.notes
                        .push(format!("layer {name:?}: {BORDER} {value:?}, because {why}"));
                }
            }
            layers.push(Layer {
                name,
                group,
                recognised,
                units: None,
            });
        }
        layers
    }

    /// What the head reads of the trunk, and the nodes behind it.
    ///
    /// The head is everything on a way from a layer's neurons to the scores.
    fn border(&self, layers: &[Layer], scores: ValueId) -> (Vec<ValueId>, BTreeSet<NodeId>) {
        let Region { graph, inside, .. } = self.region;
        let mut starts: BTreeSet<ValueId> = BTreeSet::new();
        for layer in layers {
            for source in &layer.group.sources {
                if let Source::Boundary { value, .. } = source {
                    starts.insert(*value);
                }
            }
            for sink in &layer.group.sinks {
                let made = layer.group.layers().next().is_some();
                if !made {
                    starts.insert(sink.value);
                }
            }
        }
        let mut live: BTreeSet<ValueId> = starts.clone();
        let mut nodes = BTreeSet::new();
        for &node in graph.order().iter().filter(|node| inside.contains(node)) {
            let count = graph.node(node).input.len();
            let mut inputs = (0..count).filter_map(|input| graph.input(node, input));
            if inputs.any(|value| live.contains(&value)) {
                nodes.insert(node);
                let outputs = 0..graph.node(node).output.len();
                live.extend(outputs.filter_map(|output| graph.output(node, output)));
            }
        }
        let mut features = Vec::new();
        for &node in &nodes {
            for input in 0..graph.node(node).input.len() {
                let Some(value) = graph.input(node, input) else {
                    continue;
                };
                let from_head = graph.producer(value).is_some_and(|p| nodes.contains(&p));
                let known = from_head || features.contains(&value) || graph.is_fixed(value);
                if !known {
                    features.push(value);
                }
            }
        }
        features.retain(|&value| value != scores);
        features.sort();
        (features, nodes)
    }
}

/// Whether at most one axis beside the batch has more than one entry.
fn is_vector(dims: &[Dim]) -> bool {
    let others = dims.iter().skip(1);
    others.filter(|dim| **dim != Dim::Fixed(1)).count() <= 1 && dims.len() > 1
}

fn numbered(name: &str, number: usize) -> String {
    if number == 1 {
        name.to_owned()
    } else {
        format!("{name}{number}")
    }
}

fn places(graph: &Graph<'_>) -> BTreeMap<NodeId, usize> {
    let order = graph.order().iter().enumerate();
    order.map(|(place, &node)| (node, place)).collect()
}
