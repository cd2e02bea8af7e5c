//! Another order of channels, in which those that are kept lie together.
//!
//! A selection copies its channels one by one; where they are neighbours, it is a range, and one
//! copy. The order of a layer's channels means nothing as long as everything that makes or reads
//! them agrees, so the layers that make a value, and all that read it, get another order: first
//! the channels of the selection, in their own order, then the others.
//!
//! ```text
//! Conv(rows 0 1 2 3) -> Relu -> Gather(1, 3) -> ...      -> Conv(columns 0 1 2 3)
//! Conv(rows 1 3 0 2) -> Relu -> Gather(0, 1) -> ...      -> Conv(columns 1 3 0 2)
//! ```
//!
//! The set of values that share an order is found from one of them, to both sides. Wherever
//! anything else than a layer, a selection or an operator that works channel by channel is met,
//! nothing is changed.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    flow::{Ask, Flow, Gives, Link, Trunk},
    rules,
};
use crate::{
    error::Result,
    graph::{Graph, NodeId, Patch, Shapes, Use, ValueId},
    onnx::{ModelProto, Tensor},
    prune::rewrite,
};

/// The model in which the channels of every selection that allows it are neighbours; nothing where
/// none does.
///
/// # Errors
/// [`crate::Error::Unsupported`] for weights that cannot be cut (values narrower than a byte).
pub(super) fn neighbours(graph: &Graph<'_>, shapes: &Shapes) -> Result<Option<ModelProto>> {
    let trunk = Trunk::new(graph, shapes);
    let mut patch = Patch::default();
    let mut ordered: BTreeSet<ValueId> = BTreeSet::new();
    // Of one weight, both axes may get another order.
    let mut cuts: Orders = BTreeMap::new();
    for &node in graph.order() {
        let Some(selection) = Selection::of(&trunk, node) else {
            continue;
        };
        if ordered.contains(&selection.value) || selection.is_range() {
            continue;
        }
        let Some(shared) = Shared::of(&trunk, &selection) else {
            continue;
        };
        shared.apply(graph, &mut patch, &mut cuts, &selection.order())?;
        ordered.extend(shared.values.keys());
    }
    for (at, axes) in cuts {
        rewrite::cut_constant(graph, &mut patch, at, &axes)?;
    }
    match ordered.is_empty() {
        true => Ok(None),
        false => patch.apply(graph).map(Some),
    }
}

/// The new order of the entries of constants, along some of their axes.
type Orders = BTreeMap<Use, Vec<(usize, Vec<usize>)>>;

/// A Gather of constant positions.
struct Selection {
    value: ValueId,
    axis: usize,
    width: usize,
    kept: Vec<usize>,
}

impl Selection {
    fn of(trunk: &Trunk<'_>, node: NodeId) -> Option<Self> {
        let graph = trunk.graph;
        let value = graph
            .input(node, 0)
            .filter(|_| graph.node(node).op() == "Gather")?;
        let axis = rules::own_axis(trunk, node)?;
        let width = trunk.shapes.size(value, axis)?;
        let kept = positions(graph, node, width)?;
        // Positions out of order mean something to the reader.
        let is_sorted = kept.is_sorted_by(|a, b| a < b);
        is_sorted.then_some(Self {
            value,
            axis,
            width,
            kept,
        })
    }

    fn is_range(&self) -> bool {
        let mut pairs = self.kept.windows(2);
        pairs.all(|pair| pair[1] == pair[0] + 1)
    }

    /// For each new position the old one.
    fn order(&self) -> Vec<usize> {
        let others = (0..self.width).filter(|at| self.kept.binary_search(at).is_err());
        self.kept.iter().copied().chain(others).collect()
    }
}

/// The constant positions that a Gather picks along one axis; nothing for other indices.
fn positions(graph: &Graph<'_>, node: NodeId, width: usize) -> Option<Vec<usize>> {
    let indices = graph.constant_input(node, 1)?;
    if indices.shape().len() != 1 {
        return None;
    }
    let wrap = |index: i64| {
        let index = if index < 0 {
            index + width as i64
        } else {
            index
        };
        usize::try_from(index).ok().filter(|&at| at < width)
    };
    indices.to_i64().into_iter().map(wrap).collect()
}

/// Everything that has to have the same order of channels.
struct Shared {
    /// The values, with the axis of the channels.
    values: BTreeMap<ValueId, usize>,
    /// Constants with one entry per channel along an axis.
    constants: BTreeSet<(Use, usize)>,
    /// Selections from these values.
    selections: BTreeSet<NodeId>,
    width: usize,
}

impl Shared {
    /// What shares its order with the value that is selected from; nothing where that cannot be
    /// followed to its ends.
    fn of(trunk: &Trunk<'_>, selection: &Selection) -> Option<Self> {
        let mut shared = Self {
            values: BTreeMap::new(),
            constants: BTreeSet::new(),
            selections: BTreeSet::new(),
            width: selection.width,
        };
        let mut open = vec![(selection.value, selection.axis)];
        while let Some((value, axis)) = open.pop() {
            match shared.values.get(&value) {
                Some(&known) if known == axis => continue,
                Some(_) => return None,
                None => shared.values.insert(value, axis),
            };
            shared.follow_back(trunk, (value, axis), &mut open)?;
            for &reading in trunk.graph.uses(value) {
                shared.follow_on(trunk, reading, axis, &mut open)?;
            }
        }
        Some(shared)
    }

    /// To what makes a value.
    fn follow_back(
        &mut self,
        trunk: &Trunk<'_>,
        (value, axis): (ValueId, usize),
        open: &mut Vec<(ValueId, usize)>,
    ) -> Option<()> {
        let graph = trunk.graph;
        if graph.is_output(value) || trunk.shapes.size(value, axis) != Some(self.width) {
            return None;
        }
        let node = graph.producer(value)?;
        let flow = self.flow(trunk, node, (value, axis))?;
        for link in &flow.links {
            open.push((graph.input(node, link.input)?, link.axis));
        }
        for &(input, axis) in &flow.cuts {
            self.constants.insert((Use { node, input }, axis));
        }
        Some(())
    }

    /// To what reads a value.
    fn follow_on(
        &mut self,
        trunk: &Trunk<'_>,
        reading: Use,
        axis: usize,
        open: &mut Vec<(ValueId, usize)>,
    ) -> Option<()> {
        if reading.input == Use::CAPTURE {
            return None;
        }
        let graph = trunk.graph;
        let Use { node, input } = reading;
        if let Some(weight) = contracted(trunk, reading, axis) {
            let at = Use { node, input: 1 };
            let size = graph.constant(graph.input(node, 1)?)?.dims.get(weight);
            if size.copied() != i64::try_from(self.width).ok() {
                return None;
            }
            self.constants.insert((at, weight));
            return Some(());
        }
        if input == 0 && rules::own_axis(trunk, node) == Some(axis) {
            let is_selection = graph.node(node).op() == "Gather";
            positions(graph, node, self.width).filter(|_| is_selection)?;
            self.selections.insert(node);
            return Some(());
        }
        let [name] = graph.node(node).output.as_slice() else {
            return None;
        };
        let output = graph.value(name)?;
        let axes = 0..trunk.shapes.rank(output)?;
        let leads_here = |link: &Link| link.input == input && link.axis == axis;
        let found = axes.into_iter().find(|&axis| {
            let flow = self.flow(trunk, node, (output, axis));
            flow.is_some_and(|flow| flow.links.iter().any(leads_here))
        });
        open.push((output, found?));
        Some(())
    }

    /// How a node makes the channels, if it does so one by one.
    fn flow(&self, trunk: &Trunk<'_>, node: NodeId, made: (ValueId, usize)) -> Option<Flow> {
        let (value, axis) = made;
        let graph = trunk.graph;
        let all: Vec<usize> = (0..self.width).collect();
        let outputs = &graph.node(node).output;
        let ask = Ask {
            trunk,
            node,
            output: outputs.iter().position(|name| name == graph.name(value))?,
            axis,
            width: trunk
                .shapes
                .size(value, axis)
                .filter(|&size| size == self.width)?,
            need: &all,
        };
        let flow = rules::ask(&ask).ok()?;
        let same = Link::same(0, 0, self.width);
        let one_by_one = |link: &Link| link.inputs == same.inputs && link.outputs == same.outputs;
        let is_selection = flow.gives == Gives::Picked;
        (!is_selection && flow.links.iter().all(one_by_one)).then_some(flow)
    }

    fn apply(
        &self,
        graph: &Graph<'_>,
        patch: &mut Patch,
        cuts: &mut Orders,
        order: &[usize],
    ) -> Result<()> {
        for &(at, axis) in &self.constants {
            cuts.entry(at).or_default().push((axis, order.to_vec()));
        }
        let mut place = vec![0; order.len()];
        for (new, &old) in order.iter().enumerate() {
            place[old] = new as i64;
        }
        for &node in &self.selections {
            let picked = positions(graph, node, self.width).unwrap_or_default();
            let picked: Vec<i64> = picked.into_iter().map(|old| place[old]).collect();
            let name = patch.fresh_name(graph, &format!("{}_kept", graph.site(node).node));
            patch.set_initializer(Tensor::i64([picked.len()], picked)?.to_proto(name.as_str()));
            patch.redirect(Use { node, input: 1 }, name);
        }
        Ok(())
    }
}

/// The axis of the weights, input 1, that an operator contracts over when it reads channels here.
fn contracted(trunk: &Trunk<'_>, reading: Use, axis: usize) -> Option<usize> {
    let graph = trunk.graph;
    let node = graph.node(reading.node);
    let constant = |input| {
        graph
            .input(reading.node, input)
            .and_then(|id| graph.constant(id))
    };
    let weights = constant(1)?.dims.len();
    let rank = graph
        .input(reading.node, 0)
        .and_then(|id| trunk.shapes.rank(id))?;
    let flag = |name: &str| node.int(name).unwrap_or(0) != 0;
    match (node.op(), reading.input) {
        ("Conv", 0) if axis == 1 && node.int("group").unwrap_or(1) == 1 => Some(1),
        ("Gemm", 0) if axis == 1 && !flag("transA") => Some(usize::from(flag("transB"))),
        ("MatMul", 0) if axis + 1 == rank && weights == 2 => Some(0),
        _ => None,
    }
}
