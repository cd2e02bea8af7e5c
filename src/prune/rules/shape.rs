//! Operators that only move axes. In a head they pass where every neuron keeps a position of its
//! own; where several positions become separate neurons (VGG's flatten), the features begin.

use super::{Arrival, Coupling, Port, Rule, Stop, wrap_axis};
use crate::onnx::{Dim, Tensor};

pub(super) const RULES: &[(&str, Rule)] = &[
    ("Flatten", reshape),
    ("Reshape", reshape),
    ("Squeeze", reshape),
    ("Transpose", transpose),
    ("Unsqueeze", reshape),
];

/// Passes when both sides have exactly one axis of more than one entry beside the batch.
fn reshape(arrival: &Arrival<'_>) -> Result<Coupling, Stop> {
    let other = arrival.across()?;
    let here = arrival.dims(arrival.port)?;
    let there = arrival.dims(other)?;
    let width = arrival.width();
    if neuron_axis(here, width)? != arrival.axis {
        return Err("moves the neurons to another axis".to_owned());
    }
    let axis = neuron_axis(there, width)?;
    let mut coupling = arrival.pass_to(axis)?;
    if arrival.graph.node(arrival.node).op() == "Reshape" {
        let output_axis = match arrival.port {
            Port::Input(_) => axis,
            Port::Output(_) => arrival.axis,
        };
        coupling.target = names_size(arrival, output_axis, width)?.then_some(output_axis);
    }
    Ok(coupling)
}

/// The one axis beside the batch with more than one entry; with `width` 1, the last axis.
fn neuron_axis(dims: &[Dim], width: usize) -> Result<usize, Stop> {
    let mut found = None;
    for (axis, dim) in dims.iter().enumerate().skip(1) {
        match dim {
            Dim::Fixed(1) => {}
            Dim::Fixed(size) if *size == width && found.is_none() => found = Some(axis),
            Dim::Fixed(_) => return Err("turns positions into neurons".to_owned()),
            Dim::Symbol(_) | Dim::Unknown => return Err(super::UNKNOWN_SHAPE.to_owned()),
        }
    }
    found.ok_or_else(|| "has no axis for the neurons".to_owned())
}

/// Whether the target shape says the number of neurons, so that it must change with them.
fn names_size(arrival: &Arrival<'_>, axis: usize, width: usize) -> Result<bool, Stop> {
    let Some(target) = arrival.constant(1) else {
        // A computed target follows the real shape unless it holds the number of neurons;
        // a new constant target is right in both cases.
        return Ok(true);
    };
    let target = Tensor::from_proto(target).map_err(|error| error.to_string())?;
    let named = target.to_i64().get(axis).copied();
    Ok(named.is_some_and(|size| usize::try_from(size) == Ok(width)))
}

fn transpose(arrival: &Arrival<'_>) -> Result<Coupling, Stop> {
    let rank = arrival.rank(arrival.port)?;
    let node = arrival.graph.node(arrival.node);
    let order: Vec<usize> = match node.ints("perm") {
        Some(axes) => axes
            .iter()
            .filter_map(|&axis| wrap_axis(axis, rank))
            .collect(),
        None => (0..rank).rev().collect(),
    };
    let axis = match arrival.port {
        Port::Input(_) => order.iter().position(|&axis| axis == arrival.axis),
        Port::Output(_) => order.get(arrival.axis).copied(),
    };
    arrival.pass_to(axis.ok_or("has an order of axes that does not fit")?)
}
