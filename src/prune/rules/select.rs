//! Joining and picking along axes.

use std::sync::Arc;

use super::{Arrival, Coupling, Port, Role, Rule, Stop, wrap_axis};
use crate::onnx::Dim;

pub(super) const RULES: &[(&str, Rule)] = &[
    ("Concat", concat),
    ("Gather", picks),
    ("Slice", picks),
    ("Split", picks),
];

/// Where features are picked out of more, the head begins behind it.
fn picks(_: &Arrival<'_>) -> Result<Coupling, Stop> {
    Err("picks the neurons out of more values".to_owned())
}

/// Operands stand one behind the other on the joined axis, each with its part of the neurons.
fn concat(arrival: &Arrival<'_>) -> Result<Coupling, Stop> {
    let rank = arrival.rank(Port::Output(0))?;
    let node = arrival.graph.node(arrival.node);
    let joined = node.int("axis").and_then(|axis| wrap_axis(axis, rank));
    if joined != Some(arrival.axis) {
        return Err("joins values along another axis than the neurons'".to_owned());
    }
    if arrival.port != Port::Output(0) {
        return Err("joins the neurons with others".to_owned());
    }
    let mut coupling = Coupling::new(Role::Through);
    let mut first = 0;
    for input in 0..node.input.len() {
        if arrival.constant(input).is_some() {
            return Err("joins the neurons with constants".to_owned());
        }
        let port = Port::Input(input);
        let size = match arrival.dims(port)?.get(arrival.axis) {
            Some(Dim::Fixed(size)) => *size,
            _ => return Err(super::UNKNOWN_SHAPE.to_owned()),
        };
        let part = arrival.map.get(first..first + size);
        let part: Arc<[usize]> = Arc::from(part.ok_or("joins more values than it gives")?);
        coupling.ports.push((port, arrival.axis, part));
        first += size;
    }
    Ok(coupling)
}
