//! Backwards through the graph: which channels of each value anybody needs.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    flow::{Ask, Flow, Gives, Trunk},
    measure, rules,
};
use crate::graph::{Graph, NodeId, Use, ValueId};

/// What the readers of a value need of it together.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Need {
    /// Some positions of one axis.
    Part {
        /// The axis.
        axis: usize,
        /// Its size.
        width: usize,
        /// The positions.
        keep: BTreeSet<usize>,
    },
    /// The whole value, and why.
    All(String),
}

/// How channels flow along one axis of an output.
pub(super) struct AlongAxis {
    pub(super) axis: usize,
    pub(super) width: usize,
    pub(super) flow: Flow,
}

/// The needs of all values of a graph.
pub(super) struct Needs {
    /// A value without an entry is needed by nobody.
    pub(super) values: BTreeMap<ValueId, Need>,
    /// By node and output, where less than the whole output is needed or less of an input.
    pub(super) flows: BTreeMap<(NodeId, usize), AlongAxis>,
    /// Nodes of whose outputs nothing is needed any more.
    pub(super) dead: BTreeSet<NodeId>,
    /// Values of which only the shape is read, but not the size of the channels' axis.
    measured: BTreeSet<ValueId>,
}

impl Need {
    fn join(&mut self, other: Self) {
        match (&mut *self, other) {
            (Self::All(_), _) => {}
            (
                Self::Part { axis, width, keep },
                Self::Part {
                    axis: other_axis,
                    width: other_width,
                    keep: others,
                },
            ) if *axis == other_axis && *width == other_width => keep.extend(others),
            (Self::Part { .. }, Self::Part { .. }) => {
                *self = Self::All("it is needed along two axes".to_owned());
            }
            (Self::Part { .. }, all) => *self = all,
        }
        if let Self::Part { width, keep, .. } = self
            && keep.len() >= *width
        {
            *self = Self::All("all of its channels are needed".to_owned());
        }
    }
}

impl Needs {
    /// The needs of all values, from the outputs of the model back.
    pub(super) fn of(trunk: &Trunk<'_>) -> Self {
        let graph = trunk.graph;
        let mut needs = Self {
            values: BTreeMap::new(),
            flows: BTreeMap::new(),
            dead: BTreeSet::new(),
            measured: BTreeSet::new(),
        };
        let mut captured: BTreeMap<NodeId, Vec<ValueId>> = BTreeMap::new();
        for value in graph.values() {
            if graph.is_output(value) {
                needs.add(value, Need::All("it is an output of the model".to_owned()));
            }
            let captures = graph.uses(value).iter();
            for reading in captures.filter(|reading| reading.input == Use::CAPTURE) {
                captured.entry(reading.node).or_default().push(value);
            }
        }
        for &node in graph.order().iter().rev() {
            if needs.pass(trunk, node) {
                for &value in captured.get(&node).into_iter().flatten() {
                    let why = format!("a subgraph of {} reads it", graph.site(node));
                    needs.add(value, Need::All(why));
                }
            }
        }
        needs
    }

    fn add(&mut self, value: ValueId, need: Need) {
        match self.values.get_mut(&value) {
            Some(known) => known.join(need),
            None => {
                // Joined with nothing: only its own size is checked.
                let mut own = need.clone();
                own.join(need);
                self.values.insert(value, own);
            }
        }
    }

    /// Takes the needs of a node's outputs to its inputs; whether the node is needed at all.
    fn pass(&mut self, trunk: &Trunk<'_>, node: NodeId) -> bool {
        let graph = trunk.graph;
        let outputs = named_outputs(graph, node);
        let is_used = |&(_, id): &(usize, ValueId)| !graph.uses(id).is_empty();
        if !outputs.iter().any(is_used)
            && outputs.iter().all(|(_, id)| !self.values.contains_key(id))
        {
            // Nobody read it before; it stays, so what it reads stays.
            self.need_all(graph, node, &BTreeSet::new());
            return true;
        }
        for &(_, id) in &outputs {
            if self.measured.contains(&id) && !self.values.contains_key(&id) {
                self.add(id, Need::All("its shape is read".to_owned()));
            }
        }
        if !outputs.iter().any(|(_, id)| self.values.contains_key(id)) {
            self.dead.insert(node);
            return false;
        }
        if measure::reads_batch_size(trunk, node) {
            self.measured.extend(graph.input(node, 0));
            return true;
        }
        let mut linked = BTreeSet::new();
        let mut whole = false;
        for (output, id) in outputs {
            match self.question(trunk, node, id) {
                Some((axis, width, keep)) => {
                    match self.ask(trunk, (node, output), axis, width, &keep) {
                        Ok(inputs) => linked.extend(inputs),
                        Err(why) => {
                            self.values.insert(id, Need::All(why));
                            whole = true;
                        }
                    }
                }
                None => whole = true,
            }
        }
        if whole {
            linked.clear();
        }
        self.need_all(graph, node, &linked);
        true
    }

    /// What to ask about an output; nothing where all of it is needed of all inputs.
    fn question(
        &self,
        trunk: &Trunk<'_>,
        node: NodeId,
        id: ValueId,
    ) -> Option<(usize, usize, Vec<usize>)> {
        if let Some(Need::Part { axis, width, keep }) = self.values.get(&id) {
            return Some((*axis, *width, keep.iter().copied().collect()));
        }
        let graph = trunk.graph;
        let captured = graph.uses(id).iter().any(|use_| use_.input == Use::CAPTURE);
        if graph.is_output(id) || captured {
            return None;
        }
        let axis = rules::own_axis(trunk, node)?;
        let width = trunk.shapes.size(id, axis).or_else(|| {
            let indices = graph.input(node, 1).and_then(|id| graph.constant(id))?;
            let is_gather = graph.node(node).op() == "Gather" && indices.dims.len() == 1;
            is_gather.then(|| usize::try_from(indices.dims[0]).ok())?
        })?;
        // A part nobody needs keeps one channel: no runtime is asked to make an empty one.
        let count = match self.values.contains_key(&id) {
            true => width,
            false => width.min(1),
        };
        Some((axis, width, (0..count).collect()))
    }

    /// Asks the rule and passes its answer on; the inputs it spoke of.
    fn ask(
        &mut self,
        trunk: &Trunk<'_>,
        (node, output): (NodeId, usize),
        axis: usize,
        width: usize,
        keep: &[usize],
    ) -> Result<Vec<usize>, String> {
        let ask = Ask {
            trunk,
            node,
            output,
            axis,
            width,
            need: keep,
        };
        let flow = rules::ask(&ask)?;
        let made = match &flow.gives {
            Gives::Exactly(made) => made.as_slice(),
            _ => keep,
        };
        let mut inputs = Vec::new();
        for link in &flow.links {
            if link.outputs.len() != width {
                return Err(format!(
                    "{} has declared shapes that contradict each other",
                    trunk.graph.site(node)
                ));
            }
        }
        for link in &flow.links {
            inputs.push(link.input);
            let units: BTreeSet<usize> = made.iter().filter_map(|&at| link.outputs[at]).collect();
            let positions = link.inputs.iter().enumerate();
            let keep: BTreeSet<usize> = positions
                .filter(|(_, unit)| unit.is_some_and(|unit| units.contains(&unit)))
                .map(|(position, _)| position)
                .collect();
            if let Some(value) = trunk.graph.input(node, link.input)
                && !keep.is_empty()
            {
                self.add(
                    value,
                    Need::Part {
                        axis: link.axis,
                        width: link.inputs.len(),
                        keep,
                    },
                );
            }
        }
        let along = AlongAxis { axis, width, flow };
        self.flows.insert((node, output), along);
        Ok(inputs)
    }

    /// Everything that no link spoke of is needed as it is.
    fn need_all(&mut self, graph: &Graph<'_>, node: NodeId, linked: &BTreeSet<usize>) {
        let inputs = 0..graph.node(node).input.len();
        for input in inputs.filter(|input| !linked.contains(input)) {
            if let Some(value) = graph.input(node, input) {
                let why = format!("{} reads all of it", graph.site(node));
                self.add(value, Need::All(why));
            }
        }
    }
}

fn named_outputs(graph: &Graph<'_>, node: NodeId) -> Vec<(usize, ValueId)> {
    let count = graph.node(node).output.len();
    (0..count)
        .filter_map(|index| Some((index, graph.output(node, index)?)))
        .collect()
}
