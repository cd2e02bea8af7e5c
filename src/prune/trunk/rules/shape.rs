//! Operators that only move axes: which channel a position of a flattened axis belongs to follows
//! from the sizes and from the layer that makes the channels.
//!
//! ```text
//! [N, C, H, W] -> [N, C H W]      position p is of channel p / (H W)
//! [N, H, W, C] -> [N, H W C]      position p is of channel p % C
//! ```

use std::ops::Range;

use super::{Ask, Flow, Rule, Stop, wrap_axis};
use crate::{
    error::Result as Checked,
    graph::Patch,
    onnx::Dim,
    prune::{
        rewrite,
        trunk::{
            flow::{Cut, Link, UNKNOWN_SHAPE, Units},
            trace,
        },
    },
};

pub(super) const RULES: &[(&str, Rule)] = &[
    ("Flatten", reshape),
    ("Reshape", reshape),
    ("Squeeze", reshape),
    ("Transpose", transpose),
    ("Unsqueeze", reshape),
];

fn transpose(ask: &Ask<'_>) -> Result<Flow, Stop> {
    let axis = match ask.trunk.graph.node(ask.node).ints("perm") {
        Some(order) => {
            let axis = order.get(ask.axis).copied();
            axis.and_then(|axis| wrap_axis(axis, order.len()))
        }
        None => {
            let rank = ask.dims(0).or_else(|_| ask.output_dims())?.len();
            rank.checked_sub(ask.axis + 1)
        }
    };
    Ok(ask.through(axis.ok_or("has an order of axes that does not fit")?))
}

/// Axes of both sides that hold the same values in the same order.
struct Block {
    inputs: Range<usize>,
    outputs: Range<usize>,
}

fn reshape(ask: &Ask<'_>) -> Result<Flow, Stop> {
    let (from, to) = (ask.dims(0)?, ask.output_dims()?);
    let block = block(from, to, ask.axis)?;
    let inputs = long_axes(from, block.inputs);
    let outputs = long_axes(to, block.outputs);
    let link = match (inputs.as_slice(), outputs.as_slice()) {
        ([(axis, _)], [_]) => Link::same(0, *axis, ask.width),
        (axes, [_]) => {
            // Which of the joined axes holds the channels, the layer that makes them knows.
            let makes = |&&(axis, size): &&(usize, usize)| {
                let value = ask.trunk.graph.input(ask.node, 0);
                value.is_some_and(|id| trace::units(ask.trunk, id, axis, size).is_some())
            };
            let found = axes.iter().find(makes);
            let &(axis, size) = found.ok_or("joins axes that no layer makes")?;
            let stride: usize = behind(axes, axis);
            Link {
                input: 0,
                axis,
                inputs: (0..size).map(Some).collect(),
                outputs: (0..ask.width).map(|at| Some(at / stride % size)).collect(),
            }
        }
        ([(axis, size)], axes) => {
            let stride: usize = behind(axes, ask.axis);
            let inputs: Units = (0..*size).map(|at| Some(at / stride % ask.width)).collect();
            Link {
                input: 0,
                axis: *axis,
                inputs,
                outputs: (0..ask.width).map(Some).collect(),
            }
        }
        _ => return Err("joins and splits axes at once".to_owned()),
    };
    let mut flow = Flow::through(link);
    if ask.trunk.graph.node(ask.node).op() == "Reshape" {
        let unknown = to.iter().filter(|dim| dim.fixed().is_none()).count();
        if !adapts(ask) {
            if unknown > 1 {
                return Err("has more than one axis of changing size".to_owned());
            }
            flow.edit = Some(set_target);
        }
    }
    Ok(flow)
}

/// Whether the target shape leaves the size of the axis open.
fn adapts(ask: &Ask<'_>) -> bool {
    let target = ask.numbers(1);
    target.is_some_and(|sizes| sizes.get(ask.axis) == Some(&-1))
}

fn set_target(cut: &Cut<'_>, patch: &mut Patch) -> Checked<()> {
    let (graph, shapes) = (cut.trunk.graph, cut.trunk.shapes);
    rewrite::retarget(graph, shapes, patch, cut.node, cut.axis, cut.kept.len())
}

/// The axes of more than one entry.
fn long_axes(dims: &[Dim], range: Range<usize>) -> Vec<(usize, usize)> {
    range
        .filter_map(|axis| Some((axis, dims[axis].fixed()?)))
        .filter(|&(_, size)| size != 1)
        .collect()
}

/// Number of entries of the axes behind one.
fn behind(axes: &[(usize, usize)], axis: usize) -> usize {
    let after = axes.iter().filter(|(other, _)| *other > axis);
    after.map(|(_, size)| size).product::<usize>().max(1)
}

/// The smallest blocks of axes whose sizes multiply to the same number, from the last axis on.
fn block(from: &[Dim], to: &[Dim], axis: usize) -> Result<Block, Stop> {
    let (mut input, mut output) = (from.len(), to.len());
    while input > 0 && output > 0 {
        let (last_input, last_output) = (input, output);
        let (mut left, mut right) = (1_usize, 1_usize);
        loop {
            let (dims, at, product) = if left <= right && input == last_input || left < right {
                (from, &mut input, &mut left)
            } else {
                (to, &mut output, &mut right)
            };
            *at = at.checked_sub(1).ok_or("has sizes that do not fit")?;
            let size = dims[*at].fixed().filter(|&size| size > 0);
            *product = size
                .and_then(|size| product.checked_mul(size))
                .ok_or(UNKNOWN_SHAPE)?;
            if left == right && input < last_input && output < last_output {
                break;
            }
        }
        if (output..last_output).contains(&axis) {
            return Ok(Block {
                inputs: input..last_input,
                outputs: output..last_output,
            });
        }
    }
    Err(UNKNOWN_SHAPE.to_owned())
}
