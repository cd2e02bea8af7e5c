//! Elementwise operators: a cut passes to every operand that has the axis.

use super::{Arrival, Coupling, Port, Role, Rule, Stop};
use crate::onnx::Dim;

pub(super) const RULES: &[(&str, Rule)] = &[
    ("Abs", unary),
    ("Add", broadcast),
    ("Cast", unary),
    ("Ceil", unary),
    ("Div", broadcast),
    ("Dropout", unary),
    ("Erf", unary),
    ("Exp", unary),
    ("Floor", unary),
    ("Identity", unary),
    ("Log", unary),
    ("Max", broadcast),
    ("Mean", broadcast),
    ("Min", broadcast),
    ("Mul", broadcast),
    ("Neg", unary),
    ("Pow", broadcast),
    ("Reciprocal", unary),
    ("Round", unary),
    ("Sign", unary),
    ("Sqrt", unary),
    ("Sub", broadcast),
    ("Sum", broadcast),
    ("Where", broadcast),
];

/// One data input, one data output, the same axes on both; further inputs are settings.
pub(super) fn unary(arrival: &Arrival<'_>) -> Result<Coupling, Stop> {
    let mask = arrival.graph.output(arrival.node, 1);
    if mask.is_some_and(|id| !arrival.graph.uses(id).is_empty() || arrival.graph.is_output(id)) {
        return Err("has a mask output that is read".to_owned());
    }
    arrival.pass_to(arrival.axis)
}

/// Operands of different rank are aligned at their last axis; an axis of size 1 is repeated.
pub(super) fn broadcast(arrival: &Arrival<'_>) -> Result<Coupling, Stop> {
    let from_end = axis_from_end(arrival)?;
    let mut coupling = Coupling::new(Role::Through);
    for input in 0..arrival.graph.node(arrival.node).input.len() {
        if arrival.port == Port::Input(input) {
            continue;
        }
        if let Some(tensor) = arrival.constant(input) {
            let Some(axis) = tensor.dims.len().checked_sub(from_end) else {
                continue;
            };
            let size = tensor.dims[axis];
            if usize::try_from(size) == Ok(arrival.width()) {
                coupling.cuts.push((input, axis, arrival.map.clone()));
            } else if size != 1 {
                return Err(format!("joins {} neurons with {size}", arrival.width()));
            }
        } else {
            operand(arrival, &mut coupling, Port::Input(input), from_end)?;
        }
    }
    if arrival.port != Port::Output(0) {
        operand(arrival, &mut coupling, Port::Output(0), from_end)?;
    }
    Ok(coupling)
}

/// How many axes the neurons' axis is from the end, the same for every operand and the output.
fn axis_from_end(arrival: &Arrival<'_>) -> Result<usize, Stop> {
    let rank = arrival.rank(arrival.port)?;
    rank.checked_sub(arrival.axis)
        .ok_or_else(|| "has declared shapes that contradict each other".to_owned())
}

fn operand(
    arrival: &Arrival<'_>,
    coupling: &mut Coupling,
    port: Port,
    from_end: usize,
) -> Result<(), Stop> {
    let dims = arrival.dims(port)?;
    let Some(axis) = dims.len().checked_sub(from_end) else {
        return Ok(());
    };
    match &dims[axis] {
        Dim::Fixed(size) if *size == arrival.width() => {
            coupling.ports.push((port, axis, arrival.map.clone()));
            Ok(())
        }
        Dim::Fixed(1) => Ok(()),
        Dim::Fixed(size) => Err(format!("joins {} neurons with {size}", arrival.width())),
        Dim::Symbol(_) | Dim::Unknown => Err(super::UNKNOWN_SHAPE.to_owned()),
    }
}
