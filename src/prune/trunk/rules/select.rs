//! Joining and picking along axes.

use super::{Ask, Flow, Rule, Stop, wrap_axis};
use crate::{
    error::Result as Checked,
    graph::{Graph, NodeId, Patch, Shapes, Use},
    onnx::{Dim, NodeProto, Tensor},
    prune::trunk::flow::{Cut, Gives, Link, Trunk, UNKNOWN_SHAPE, Units},
};

pub(super) const RULES: &[(&str, Rule)] = &[
    ("Concat", concat),
    ("Gather", gather),
    ("Slice", slice),
    ("Split", split),
];

/// The axis along which a node picks, so that it needs only a part of its input whatever is needed
/// of its output.
pub(in crate::prune::trunk) fn own_axis(trunk: &Trunk<'_>, node: NodeId) -> Option<usize> {
    let Trunk { graph, shapes, .. } = trunk;
    let rank = graph.input(node, 0).and_then(|id| shapes.rank(id))?;
    match graph.node(node).op() {
        "Gather" | "Split" => wrap_axis(graph.node(node).int("axis").unwrap_or(0), rank),
        "Slice" => match sliced(graph, shapes, node).ok()?.as_slice() {
            [one] => Some(one.axis),
            _ => None,
        },
        _ => None,
    }
    .filter(|&axis| axis > 0)
}

/// Operands stand one behind the other on the joined axis; on others they are cut alike.
fn concat(ask: &Ask<'_>) -> Result<Flow, Stop> {
    let node = ask.trunk.graph.node(ask.node);
    let rank = ask.output_dims()?.len();
    let joined = node.int("axis").and_then(|axis| wrap_axis(axis, rank));
    let joined = joined.ok_or("has an axis that does not fit")?;
    let mut flow = Flow {
        links: Vec::new(),
        cuts: Vec::new(),
        gives: Gives::Available,
        edit: Some(drop_parts),
    };
    if joined != ask.axis {
        flow.gives = Gives::Common;
        flow.edit = None;
    }
    let mut first = 0;
    for input in 0..node.input.len() {
        if ask.constant(input).is_some() {
            return Err("joins the channels with constants".to_owned());
        }
        if joined != ask.axis {
            flow.links.push(Link::same(input, ask.axis, ask.width));
            continue;
        }
        let size = size_of(ask.dims(input)?, ask.axis)?;
        let mut outputs: Units = vec![None; ask.width];
        let part = outputs.get_mut(first..first + size);
        let part = part.ok_or("joins more channels than it gives")?;
        for (unit, output) in part.iter_mut().enumerate() {
            *output = Some(unit);
        }
        flow.links.push(Link {
            input,
            axis: ask.axis,
            inputs: (0..size).map(Some).collect(),
            outputs,
        });
        first += size;
    }
    Ok(flow)
}

/// Takes off the parts of which nothing is needed.
fn drop_parts(cut: &Cut<'_>, patch: &mut Patch) -> Checked<()> {
    for (input, read) in cut.read.iter().enumerate() {
        if read.is_empty() {
            let node = cut.node;
            patch.detach(Use { node, input });
        }
    }
    Ok(())
}

fn size_of(dims: &[Dim], axis: usize) -> Result<usize, Stop> {
    let size = dims.get(axis).and_then(Dim::fixed);
    size.ok_or_else(|| UNKNOWN_SHAPE.to_owned())
}

/// One entry of the output for each index.
fn gather(ask: &Ask<'_>) -> Result<Flow, Stop> {
    let dims = ask.dims(0)?;
    let own = ask.trunk.graph.node(ask.node).int("axis").unwrap_or(0);
    let own = wrap_axis(own, dims.len()).ok_or("has an axis that does not fit")?;
    let shape = ask.constant(1).map(|tensor| tensor.dims.len());
    match shape {
        Some(1) => {}
        // One index takes the axis away, and those behind it move up.
        Some(0) => return Ok(ask.through(ask.axis + usize::from(own <= ask.axis))),
        Some(_) => return Err("picks in more than one axis".to_owned()),
        None => return Err("picks what is computed".to_owned()),
    }
    if own != ask.axis {
        return Ok(ask.through(ask.axis));
    }
    let size = size_of(dims, own)?;
    let signed = size as i64;
    let indices = ask.numbers(1).ok_or("has indices that cannot be read")?;
    let outputs = indices.iter().map(|&index| {
        let index = if index < 0 { index + signed } else { index };
        usize::try_from(index).ok().filter(|&index| index < size)
    });
    let outputs: Option<Vec<usize>> = outputs.collect();
    let outputs = outputs.ok_or("has indices out of range")?;
    Ok(picked(ask, size, outputs))
}

fn picked(ask: &Ask<'_>, size: usize, outputs: Vec<usize>) -> Flow {
    let mut flow = Flow::through(Link {
        input: 0,
        axis: ask.axis,
        inputs: (0..size).map(Some).collect(),
        outputs: outputs.into_iter().map(Some).collect(),
    });
    flow.gives = Gives::Picked;
    flow
}

/// A range of one axis.
struct Sliced {
    axis: usize,
    start: usize,
    end: usize,
}

fn slice(ask: &Ask<'_>) -> Result<Flow, Stop> {
    let sliced = sliced(ask.trunk.graph, ask.trunk.shapes, ask.node)?;
    match sliced.iter().find(|slice| slice.axis == ask.axis) {
        None => Ok(ask.through(ask.axis)),
        Some(own) if sliced.len() == 1 => {
            let size = size_of(ask.dims(0)?, own.axis)?;
            Ok(picked(ask, size, (own.start..own.end).collect()))
        }
        Some(_) => Err("slices several axes at once".to_owned()),
    }
}

/// The axes of which a Slice takes a part; other steps than 1 are only allowed where it is not
/// asked for positions.
fn sliced(graph: &Graph<'_>, shapes: &Shapes, node: NodeId) -> Result<Vec<Sliced>, Stop> {
    let list = |name: &str, input: usize| match graph.node(node).ints(name) {
        Some(values) => Ok(Some(values.to_vec())),
        None if graph.input(node, input).is_none() => Ok(None),
        None => match graph.constant_input(node, input) {
            Some(tensor) => Ok(Some(tensor.to_i64())),
            None => Err(format!("has {name} that are computed")),
        },
    };
    let dims = graph.input(node, 0).and_then(|id| shapes.dims(id));
    let dims = dims.ok_or(UNKNOWN_SHAPE)?;
    let starts = list("starts", 1)?.ok_or("has no starts")?;
    let ends = list("ends", 2)?.ok_or("has no ends")?;
    let axes = list("axes", 3)?.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = list("steps", 4)?.unwrap_or_else(|| vec![1; starts.len()]);
    if ends.len() != starts.len() || axes.len() != starts.len() || steps.len() != starts.len() {
        return Err("has lists of different lengths".to_owned());
    }
    let mut found = Vec::new();
    for (at, &axis) in axes.iter().enumerate() {
        let axis = wrap_axis(axis, dims.len()).ok_or("has an axis that does not fit")?;
        let size = size_of(dims, axis)? as i64;
        let clamp = |value: i64| {
            let wrapped = if value < 0 {
                value.saturating_add(size)
            } else {
                value
            };
            usize::try_from(wrapped.clamp(0, size)).unwrap_or(0)
        };
        let (start, end) = (clamp(starts[at]), clamp(ends[at]));
        if steps[at] != 1 {
            return Err("takes every other value".to_owned());
        }
        if (start, end) != (0, size as usize) {
            found.push(Sliced {
                axis,
                start,
                end: end.max(start),
            });
        }
    }
    Ok(found)
}

/// Each output is a part of the input, one behind the other.
fn split(ask: &Ask<'_>) -> Result<Flow, Stop> {
    let graph = ask.trunk.graph;
    let dims = ask.dims(0)?;
    let own = wrap_axis(graph.node(ask.node).int("axis").unwrap_or(0), dims.len());
    if own != Some(ask.axis) {
        return Ok(ask.through(ask.axis));
    }
    if graph.node(ask.node).output.iter().any(String::is_empty) {
        return Err("has parts that nobody reads".to_owned());
    }
    let (sizes, size) = (part_sizes(ask.trunk, ask.node)?, size_of(dims, ask.axis)?);
    let first: usize = sizes.iter().take(ask.output).sum();
    let part = sizes.get(ask.output).copied().unwrap_or(0);
    if sizes.iter().sum::<usize>() != size || part != ask.width {
        return Err("has parts that do not fit".to_owned());
    }
    let mut flow = Flow::through(Link {
        input: 0,
        axis: ask.axis,
        inputs: (0..size).map(Some).collect(),
        outputs: (first..first + part).map(Some).collect(),
    });
    flow.edit = Some(set_parts);
    Ok(flow)
}

/// Sizes of a Split's parts, from the outputs' declared or seen shapes.
fn part_sizes(trunk: &Trunk<'_>, node: NodeId) -> Result<Vec<usize>, Stop> {
    let graph = trunk.graph;
    let count = graph.node(node).output.len();
    let input = graph.input(node, 0).ok_or("has no input")?;
    let rank = trunk.shapes.rank(input).ok_or(UNKNOWN_SHAPE)?;
    let axis = wrap_axis(graph.node(node).int("axis").unwrap_or(0), rank);
    let axis = axis.ok_or("has an axis that does not fit")?;
    let total = trunk.shapes.size(input, axis).ok_or(UNKNOWN_SHAPE)?;
    let listed = match graph.node(node).ints("split") {
        Some(sizes) => Some(sizes.to_vec()),
        None => match graph.input(node, 1) {
            Some(_) => {
                let sizes = graph.constant_input(node, 1);
                Some(sizes.ok_or("has parts that are computed")?.to_i64())
            }
            None => None,
        },
    };
    match listed {
        Some(sizes) => {
            let sizes = sizes.iter().map(|&size| usize::try_from(size).ok());
            let sizes: Option<Vec<usize>> = sizes.collect();
            sizes.filter(|sizes| sizes.len() == count)
        }
        None => {
            // Equal parts; the last takes what is left.
            let part = total.div_ceil(count.max(1));
            let sizes = (0..count).map(|at| part.min(total.saturating_sub(at * part)));
            Some(sizes.collect())
        }
    }
    .ok_or_else(|| "has parts that do not fit".to_owned())
}

/// Writes the new sizes of all parts, in the form of the operator set.
fn set_parts(cut: &Cut<'_>, patch: &mut Patch) -> Checked<()> {
    let graph = cut.trunk.graph;
    let sizes = part_sizes(cut.trunk, cut.node).unwrap_or_default();
    let mut first = 0;
    let mut left = Vec::with_capacity(sizes.len());
    for size in sizes {
        let inside = first..first + size;
        left.push(cut.held.iter().filter(|&at| inside.contains(at)).count() as i64);
        first += size;
    }
    let node = cut.node;
    if graph.opset(node) < 13 {
        let shown = NodeProto::default().with_ints("split", &left);
        for attribute in shown.attribute {
            patch.set_attribute(node, attribute);
        }
        return Ok(());
    }
    let name = patch.fresh_name(graph, &format!("{}_parts", graph.site(node).node));
    patch.set_initializer(Tensor::i64([left.len()], left)?.to_proto(name.as_str()));
    patch.redirect(Use { node, input: 1 }, name);
    patch.drop_attribute(node, "num_outputs");
    Ok(())
}
