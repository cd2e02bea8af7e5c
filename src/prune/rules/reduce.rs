//! Reductions over other axes than the neurons'; like pooling, they pass where nothing is left
//! to reduce.

use super::{Arrival, Coupling, Port, Rule, Stop, wrap_axis};
use crate::onnx::{Dim, Tensor};

pub(super) const RULES: &[(&str, Rule)] = &[
    ("ArgMax", mixes),
    ("ReduceL1", reduce),
    ("ReduceL2", reduce),
    ("ReduceMax", reduce),
    ("ReduceMean", reduce),
    ("ReduceMin", reduce),
    ("ReduceSum", reduce),
    ("TopK", mixes),
];

fn mixes(_: &Arrival<'_>) -> Result<Coupling, Stop> {
    Err("compares all neurons with each other".to_owned())
}

fn reduce(arrival: &Arrival<'_>) -> Result<Coupling, Stop> {
    let dims = arrival.dims(Port::Input(0))?;
    let reduced = reduced_axes(arrival, dims.len()).ok_or("has axes that are computed")?;
    let keeps = arrival.graph.node(arrival.node).int("keepdims") != Some(0);
    let remaining: Vec<usize> = (0..dims.len())
        .filter(|axis| keeps || !reduced.contains(axis))
        .collect();
    let input_axis = match arrival.port {
        Port::Input(_) => arrival.axis,
        Port::Output(_) => *remaining.get(arrival.axis).ok_or("loses the axis")?,
    };
    if reduced.contains(&input_axis) {
        return Err("reduces over the neurons".to_owned());
    }
    for &axis in &reduced {
        match dims[axis] {
            Dim::Fixed(1) => {}
            Dim::Fixed(count) => return Err(format!("reduces {count} positions into one")),
            Dim::Symbol(_) | Dim::Unknown => return Err(super::UNKNOWN_SHAPE.to_owned()),
        }
    }
    let output_axis = remaining.iter().position(|&axis| axis == input_axis);
    match arrival.port {
        Port::Input(_) => arrival.pass_to(output_axis.ok_or("loses the axis")?),
        Port::Output(_) => arrival.pass_to(input_axis),
    }
}

/// The axes as an attribute (older operator sets) or as a constant input; none means all.
fn reduced_axes(arrival: &Arrival<'_>, rank: usize) -> Option<Vec<usize>> {
    let node = arrival.graph.node(arrival.node);
    let axes = match node.ints("axes") {
        Some(axes) => axes.to_vec(),
        None => match arrival.value(Port::Input(1)) {
            Some(_) => Tensor::from_proto(arrival.constant(1)?).ok()?.to_i64(),
            None if node.int("noop_with_empty_axes").unwrap_or(0) != 0 => return Some(Vec::new()),
            None => return Some((0..rank).collect()),
        },
    };
    axes.into_iter().map(|axis| wrap_axis(axis, rank)).collect()
}
