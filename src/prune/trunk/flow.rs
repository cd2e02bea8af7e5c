//! How channels flow through one node: from which channels of its inputs each channel of an
//! output is made.

use std::{cell::RefCell, collections::BTreeMap, sync::Arc};

use crate::{
    error::Result,
    graph::{Graph, NodeId, Patch, Shapes, ValueId},
    onnx::{Dim, Tensor, TensorProto},
};

/// Why channels cannot be followed back through a node, in words for the report.
pub(super) type Stop = String;

/// What a rule says where neither the file nor a run shows the axes it needs.
pub(super) const UNKNOWN_SHAPE: &str = "has values of unknown shape";

/// For an axis of a value, the channel that each of its positions is of, where one was found.
type Traces = BTreeMap<(ValueId, usize), Option<Arc<[usize]>>>;

/// The graph, what is known of its values, and which layers make which axes.
pub(super) struct Trunk<'a> {
    pub(super) graph: &'a Graph<'a>,
    pub(super) shapes: &'a Shapes,
    /// By value and axis: the channel of the producing layer at each position.
    pub(super) traces: RefCell<Traces>,
    /// Nesting of the traces under way.
    pub(super) depth: RefCell<usize>,
}

/// A question to a rule: what of the inputs makes this of an output?
pub(super) struct Ask<'a> {
    pub(super) trunk: &'a Trunk<'a>,
    pub(super) node: NodeId,
    /// Which output.
    pub(super) output: usize,
    /// The axis of that output along which only some channels are needed.
    pub(super) axis: usize,
    /// Size of the axis.
    pub(super) width: usize,
    /// The needed positions, sorted.
    pub(super) need: &'a [usize],
}

/// The unit at each position of an axis; a position without one has no part in a link.
pub(super) type Units = Vec<Option<usize>>;

/// Positions of the output are made of the positions of an input that have the same unit.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) input: usize,
    pub(super) axis: usize,
    pub(super) inputs: Units,
    pub(super) outputs: Units,
}

/// Which positions of its output a node gives once its inputs have shrunk.
#[derive(Debug, PartialEq)]
pub(super) enum Gives {
    /// All that can be made of what the inputs still hold.
    Available,
    /// What all inputs hold; an input that holds more is selected from.
    Common,
    /// These, which it makes with its own weights; inputs that hold more than that takes are
    /// selected from.
    Exactly(Vec<usize>),
    /// Those that are needed: the node is a selection, and a new one takes its place.
    Picked,
}

/// An edit of the node beyond its constants.
pub(super) type Edit = fn(&Cut<'_>, &mut Patch) -> Result<()>;

/// How channels flow through one node.
pub(super) struct Flow {
    pub(super) links: Vec<Link>,
    /// Constant inputs with the axis along which they have one entry per position of the output.
    pub(super) cuts: Vec<(usize, usize)>,
    pub(super) gives: Gives,
    pub(super) edit: Option<Edit>,
}

/// A node whose output shrinks.
pub(super) struct Cut<'a> {
    pub(super) trunk: &'a Trunk<'a>,
    pub(super) node: NodeId,
    /// The axis of the output.
    pub(super) axis: usize,
    /// The positions of the output that stay.
    pub(super) kept: &'a [usize],
    /// The positions that the first link's input still has.
    pub(super) held: &'a [usize],
    /// For each link, the positions of its input that are read from now on.
    pub(super) read: &'a [Vec<usize>],
}

impl<'a> Trunk<'a> {
    pub(super) fn new(graph: &'a Graph<'a>, shapes: &'a Shapes) -> Self {
        Self {
            graph,
            shapes,
            traces: RefCell::default(),
            depth: RefCell::default(),
        }
    }
}

impl Link {
    /// Every position of the input's axis makes the same position of the output's.
    pub(super) fn same(input: usize, axis: usize, width: usize) -> Self {
        let units: Units = (0..width).map(Some).collect();
        Self {
            input,
            axis,
            inputs: units.clone(),
            outputs: units,
        }
    }
}

impl Flow {
    /// One input makes the output, position by position.
    pub(super) fn through(link: Link) -> Self {
        Self {
            links: vec![link],
            cuts: Vec::new(),
            gives: Gives::Available,
            edit: None,
        }
    }

    /// The node makes these positions with its own weights.
    pub(super) fn made(positions: &[usize]) -> Self {
        Self {
            links: Vec::new(),
            cuts: Vec::new(),
            gives: Gives::Exactly(positions.to_vec()),
            edit: None,
        }
    }
}

impl Ask<'_> {
    /// The only data input makes the output, position by position along this axis of it.
    ///
    /// A constant in its place, as in front of a weight that is cast, is cut.
    pub(super) fn through(&self, axis: usize) -> Flow {
        if self.constant(0).is_some() {
            let mut flow = Flow::made(self.need);
            flow.cuts.push((0, axis));
            return flow;
        }
        Flow::through(Link::same(0, axis, self.width))
    }

    /// The constant behind an input, if it is one.
    pub(super) fn constant(&self, input: usize) -> Option<&TensorProto> {
        let value = self.trunk.graph.input(self.node, input)?;
        self.trunk.graph.constant(value)
    }

    /// The whole numbers behind a constant input.
    pub(super) fn numbers(&self, input: usize) -> Option<Vec<i64>> {
        Some(Tensor::from_proto(self.constant(input)?).ok()?.to_i64())
    }

    /// A list of whole numbers that is an attribute or, in later operator sets, a constant input;
    /// nothing inside where it is left out.
    ///
    /// # Errors
    /// When it is computed.
    pub(super) fn list(&self, name: &str, input: usize) -> Result<Option<Vec<i64>>, Stop> {
        if let Some(values) = self.trunk.graph.node(self.node).ints(name) {
            return Ok(Some(values.to_vec()));
        }
        if self.trunk.graph.input(self.node, input).is_none() {
            return Ok(None);
        }
        let values = self.numbers(input);
        values
            .map(Some)
            .ok_or_else(|| format!("has {name} that are computed"))
    }

    /// Axes of an input.
    pub(super) fn dims(&self, input: usize) -> Result<&[Dim], Stop> {
        let value = self.trunk.graph.input(self.node, input);
        let dims = value.and_then(|id| self.trunk.shapes.dims(id));
        dims.ok_or_else(|| UNKNOWN_SHAPE.to_owned())
    }

    /// Axes of the output.
    pub(super) fn output_dims(&self) -> Result<&[Dim], Stop> {
        let value = self.trunk.graph.output(self.node, self.output);
        let dims = value.and_then(|id| self.trunk.shapes.dims(id));
        dims.ok_or_else(|| UNKNOWN_SHAPE.to_owned())
    }

    /// Whether another output than the one asked about is read.
    pub(super) fn has_other_readers(&self) -> bool {
        let graph = self.trunk.graph;
        let count = graph.node(self.node).output.len();
        (0..count)
            .filter(|&index| index != self.output)
            .filter_map(|index| graph.output(self.node, index))
            .any(|id| !graph.uses(id).is_empty() || graph.is_output(id))
    }
}
