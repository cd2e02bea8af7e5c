//! Forwards through the graph: every value loses what nobody needs and its producer need not make.

use std::collections::BTreeMap;

use super::{
    Removal, Shrunk, Stop,
    flow::{Cut, Gives, Link, Trunk},
    need::{AlongAxis, Need, Needs},
};
use crate::{
    error::Result,
    graph::{Graph, NodeId, Patch, Use, ValueId},
    onnx::{DataType, NodeProto, Tensor},
    prune::rewrite,
};

/// First operator set in which Slice takes its ranges as inputs.
const SLICE_INPUTS: i64 = 10;

/// The model without what nobody needs.
pub(super) fn apply(trunk: &Trunk<'_>, needs: &Needs) -> Result<Shrunk> {
    let mut shrinking = Shrinking {
        trunk,
        needs,
        patch: Patch::default(),
        held: BTreeMap::new(),
        names: BTreeMap::new(),
        selections: BTreeMap::new(),
        removed: Vec::new(),
        stops: Vec::new(),
    };
    for &node in trunk.graph.order() {
        shrinking.node(node)?;
    }
    let Shrinking {
        patch,
        removed,
        stops,
        ..
    } = shrinking;
    Ok(Shrunk {
        model: patch.apply(trunk.graph)?,
        removed,
        stops,
    })
}

/// What is left of a value along an axis.
struct Held {
    axis: usize,
    keep: Vec<usize>,
}

struct Shrinking<'a> {
    trunk: &'a Trunk<'a>,
    needs: &'a Needs,
    patch: Patch,
    /// Values that have shrunk.
    held: BTreeMap<ValueId, Held>,
    /// Values that have another name now.
    names: BTreeMap<ValueId, String>,
    /// Names of selections made, by value, axis and positions.
    selections: BTreeMap<(ValueId, usize, Vec<usize>), String>,
    removed: Vec<Removal>,
    stops: Vec<Stop>,
}

impl Shrinking<'_> {
    fn graph(&self) -> &'_ Graph<'_> {
        self.trunk.graph
    }

    fn node(&mut self, node: NodeId) -> Result<()> {
        if self.needs.dead.contains(&node) {
            self.remove_dead(node);
            return Ok(());
        }
        for input in 0..self.graph().node(node).input.len() {
            let value = self.graph().input(node, input);
            if let Some(name) = value.and_then(|id| self.names.get(&id)) {
                self.patch.redirect(Use { node, input }, name.as_str());
            }
        }
        let flows = &self.needs.flows;
        for (&(_, output), along) in flows.range((node, 0)..=(node, usize::MAX)) {
            self.output(node, output, along)?;
        }
        Ok(())
    }

    fn remove_dead(&mut self, node: NodeId) {
        self.patch.remove(node);
        for input in 0..self.graph().node(node).input.len() {
            let before = dims(self.graph(), node, input);
            if before.len() > 1 {
                self.note_removal(Use { node, input }, Vec::new());
            }
        }
    }

    /// Takes out of one output what its flow allows.
    fn output(&mut self, node: NodeId, output: usize, along: &AlongAxis) -> Result<()> {
        let Some(value) = self.graph().output(node, output) else {
            return Ok(());
        };
        let needed: Vec<usize> = match self.needs.values.get(&value) {
            Some(Need::Part { keep, .. }) => keep.iter().copied().collect(),
            _ => (0..along.width).collect(),
        };
        let kept = match &along.flow.gives {
            Gives::Picked => {
                self.pick(node, value, along, &needed);
                return Ok(());
            }
            Gives::Exactly(kept) => kept.clone(),
            Gives::Available | Gives::Common => self.available(node, along, &needed),
        };
        if kept.len() == along.width {
            return Ok(());
        }
        let adapts = along.flow.gives != Gives::Available;
        let mut read = Vec::new();
        for link in &along.flow.links {
            let wanted = positions_for(link, &kept);
            if adapts && let Some(from) = self.graph().input(node, link.input) {
                let name = self.selection(from, link.axis, &wanted);
                let reading = Use {
                    node,
                    input: link.input,
                };
                if name != self.graph().name(from) {
                    self.patch.redirect(reading, name);
                }
            }
            read.push(wanted);
        }
        for &(input, axis) in &along.flow.cuts {
            let at = Use { node, input };
            let mut after = dims(self.graph(), node, input);
            if let Some(size) = after.get_mut(axis) {
                *size = kept.len();
            }
            self.note_removal(at, after);
            let axes = [(axis, kept.clone())];
            rewrite::cut_constant(self.trunk.graph, &mut self.patch, at, &axes)?;
        }
        let held = along.flow.links.first();
        let held = held.map_or_else(Vec::new, |link| self.held_by(node, link));
        if let Some(edit) = along.flow.edit {
            let cut = Cut {
                trunk: self.trunk,
                node,
                axis: along.axis,
                kept: &kept,
                held: &held,
                read: &read,
            };
            edit(&cut, &mut self.patch)?;
        }
        self.hold(value, along.axis, kept);
        Ok(())
    }

    fn hold(&mut self, value: ValueId, axis: usize, keep: Vec<usize>) {
        self.patch.forget_shape(value);
        self.held.insert(value, Held { axis, keep });
    }

    /// The positions of an output that can be made of what the inputs still hold.
    fn available(&self, node: NodeId, along: &AlongAxis, needed: &[usize]) -> Vec<usize> {
        let mut missing = vec![false; along.width];
        for link in &along.flow.links {
            let is_needed = needed.iter().any(|&at| link.outputs[at].is_some());
            let held = self.held_by(node, link);
            let mut lost = vec![false; along.width.max(link.inputs.len())];
            let mut at = held.iter().peekable();
            for (position, unit) in link.inputs.iter().enumerate() {
                let is_held = at.next_if(|&&held| held == position).is_some();
                if let Some(unit) = unit
                    && !is_held
                    && let Some(lost) = lost.get_mut(*unit)
                {
                    *lost = true;
                }
            }
            for (position, unit) in link.outputs.iter().enumerate() {
                if let Some(unit) = unit {
                    missing[position] |= !is_needed || lost.get(*unit).copied().unwrap_or(true);
                }
            }
        }
        (0..along.width).filter(|&at| !missing[at]).collect()
    }

    /// The positions that the input of a link still has.
    fn held_by(&self, node: NodeId, link: &Link) -> Vec<usize> {
        let value = self.graph().input(node, link.input);
        match value.and_then(|id| self.held.get(&id)) {
            Some(held) if held.axis == link.axis => held.keep.clone(),
            _ => (0..link.inputs.len()).collect(),
        }
    }

    /// Puts a new selection in the place of an old one, or nothing where nothing is left to drop.
    fn pick(&mut self, node: NodeId, value: ValueId, along: &AlongAxis, needed: &[usize]) {
        let Some(link) = along.flow.links.first() else {
            return;
        };
        let Some(from) = self.graph().input(node, link.input) else {
            return;
        };
        let is_whole = needed.len() == along.width;
        let positions: Vec<usize> = needed.iter().filter_map(|&at| link.outputs[at]).collect();
        let is_gather = self.graph().node(node).op() == "Gather";
        let becomes_slice = is_gather && is_range(&positions) && self.has_slice_inputs();
        if is_whole && !self.held.contains_key(&from) && !becomes_slice {
            if is_gather {
                self.stop(from);
            }
            return;
        }
        let name = self.selection(from, link.axis, &positions);
        self.patch.remove(node);
        self.patch.forget_shape(value);
        self.names.insert(value, name);
        if !is_whole {
            self.hold(value, along.axis, needed.to_vec());
        }
    }

    /// The name of a value with only these positions, in this order.
    fn selection(&mut self, value: ValueId, axis: usize, wanted: &[usize]) -> String {
        let known = self.names.get(&value).cloned();
        let name = known.unwrap_or_else(|| self.graph().name(value).to_owned());
        let held = self.held.get(&value).filter(|held| held.axis == axis);
        let places: Vec<usize> = match held {
            Some(held) => {
                let place = |position| held.keep.binary_search(position).ok();
                wanted.iter().filter_map(place).collect()
            }
            None => wanted.to_vec(),
        };
        let size = held.map_or_else(
            || {
                self.trunk
                    .shapes
                    .size(value, axis)
                    .or_else(|| constant_size(self.trunk.graph, value, axis))
            },
            |held| Some(held.keep.len()),
        );
        let in_order = places.iter().enumerate().all(|(at, &place)| at == place);
        if in_order && (size == Some(places.len())) {
            return name;
        }
        let key = (value, axis, wanted.to_vec());
        if let Some(made) = self.selections.get(&key) {
            return made.clone();
        }
        let made = self.insert_selection(&name, axis, &places);
        self.selections.insert(key, made.clone());
        self.stop(value);
        made
    }

    /// A range is a Slice, which copies whole blocks; all else is a Gather.
    fn insert_selection(&mut self, value: &str, axis: usize, places: &[usize]) -> String {
        let graph = self.trunk.graph;
        let output = self.patch.fresh_name(graph, &format!("{value}_selected"));
        let first = places.first().copied().unwrap_or(0);
        let node = if is_range(places) && self.has_slice_inputs() {
            let mut number = |what: &str, value: usize| {
                let name = self.patch.fresh_name(graph, &format!("{output}_{what}"));
                let tensor = Tensor::i64([1], vec![value as i64]).expect("one value");
                self.patch.set_initializer(tensor.to_proto(name.as_str()));
                name
            };
            let start = number("start", first);
            let end = number("end", first + places.len());
            let axes = number("axis", axis);
            NodeProto::new("Slice", &[value, &start, &end, &axes], &[&output])
        } else {
            let kept = self.patch.fresh_name(graph, &format!("{output}_kept"));
            let indices = places.iter().map(|&place| place as i64).collect();
            let tensor = Tensor::i64([places.len()], indices).expect("a vector fits its length");
            self.patch.set_initializer(tensor.to_proto(kept.as_str()));
            NodeProto::new("Gather", &[value, &kept], &[&output]).with_int("axis", axis as i64)
        };
        self.patch.insert(node.with_name(&output));
        output
    }

    fn has_slice_inputs(&self) -> bool {
        self.graph().model().opset("").unwrap_or(0) >= SLICE_INPUTS
    }

    fn stop(&mut self, value: ValueId) {
        let stop = Stop {
            value: self.graph().name(value).to_owned(),
            why: self.explain(value),
        };
        if !self.stops.contains(&stop) {
            self.stops.push(stop);
        }
    }

    /// What keeps a value from shrinking further: its own reader, or that of a value it is made of.
    fn explain(&self, value: ValueId) -> String {
        let graph = self.graph();
        let mut at = value;
        loop {
            if let Some(Need::All(why)) = self.needs.values.get(&at) {
                return why.clone();
            }
            let Some(node) = graph.producer(at) else {
                return "it is an input of the model".to_owned();
            };
            let flows = self.needs.flows.range((node, 0)..=(node, usize::MAX));
            let links = flows.flat_map(|(_, along)| &along.flow.links);
            let inputs = links.filter_map(|link| graph.input(node, link.input));
            let whole = |id: &ValueId| !self.held.contains_key(id);
            let mut inputs: Vec<ValueId> = inputs.collect();
            inputs.sort_by_key(|id| !whole(id));
            match inputs.first() {
                Some(&next) => at = next,
                None => return "its readers need different channels of it".to_owned(),
            }
        }
    }

    fn note_removal(&mut self, at: Use, after: Vec<usize>) {
        let graph = self.trunk.graph;
        let Some(value) = graph.input(at.node, at.input) else {
            return;
        };
        let Some(tensor) = graph.constant(value) else {
            return;
        };
        let before = dims(graph, at.node, at.input);
        let bits = DataType::try_from(tensor.data_type()).map_or(0, DataType::bits);
        let count = |shape: &[usize]| shape.iter().product::<usize>();
        let left = if after.is_empty() { 0 } else { count(&after) };
        self.removed.push(Removal {
            node: graph.site(at.node).node,
            weight: graph.name(value).to_owned(),
            bytes: count(&before).saturating_sub(left) * bits / 8,
            before,
            after,
        });
    }
}

fn is_range(places: &[usize]) -> bool {
    let first = places.first().copied().unwrap_or(0);
    let mut places = places.iter().enumerate();
    places.all(|(at, &place)| place == first + at)
}

/// The positions of a link's input that make these of the output.
fn positions_for(link: &Link, kept: &[usize]) -> Vec<usize> {
    let units: std::collections::BTreeSet<usize> =
        kept.iter().filter_map(|&at| link.outputs[at]).collect();
    let positions = link.inputs.iter().enumerate();
    positions
        .filter(|(_, unit)| unit.is_some_and(|unit| units.contains(&unit)))
        .map(|(position, _)| position)
        .collect()
}

fn dims(graph: &Graph<'_>, node: NodeId, input: usize) -> Vec<usize> {
    let value = graph.input(node, input);
    let tensor = value.and_then(|id| graph.constant(id));
    let sizes = tensor.into_iter().flat_map(|tensor| &tensor.dims);
    sizes
        .filter_map(|&size| usize::try_from(size).ok())
        .collect()
}

fn constant_size(graph: &Graph<'_>, value: ValueId, axis: usize) -> Option<usize> {
    let size = graph.constant(value)?.dims.get(axis)?;
    usize::try_from(*size).ok()
}
