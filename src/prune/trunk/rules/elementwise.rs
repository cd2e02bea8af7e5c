//! Elementwise operators: a channel of the output is made of the same channel of every operand.

use super::{Ask, Flow, Rule, Stop};
use crate::{
    onnx::Dim,
    prune::trunk::flow::{Gives, Link, UNKNOWN_SHAPE},
};

pub(super) const RULES: &[(&str, Rule)] = &[
    ("Abs", unary),
    ("Add", broadcast),
    ("And", broadcast),
    ("Cast", unary),
    ("Ceil", unary),
    ("Div", broadcast),
    ("Dropout", unary),
    ("Equal", broadcast),
    ("Erf", unary),
    ("Exp", unary),
    ("Floor", unary),
    ("Greater", broadcast),
    ("GreaterOrEqual", broadcast),
    ("Identity", unary),
    ("Less", broadcast),
    ("LessOrEqual", broadcast),
    ("Log", unary),
    ("Max", broadcast),
    ("Mean", broadcast),
    ("Min", broadcast),
    ("Mul", broadcast),
    ("Neg", unary),
    ("Not", unary),
    ("Or", broadcast),
    ("Pow", broadcast),
    ("Reciprocal", unary),
    ("Round", unary),
    ("Sign", unary),
    ("Sqrt", unary),
    ("Sub", broadcast),
    ("Sum", broadcast),
    ("Where", broadcast),
    ("Xor", broadcast),
];

/// One data input, one data output, the same axes on both; further inputs are settings.
pub(super) fn unary(ask: &Ask<'_>) -> Result<Flow, Stop> {
    if ask.has_other_readers() {
        return Err("has a mask output that is read".to_owned());
    }
    Ok(ask.through(ask.axis))
}

/// Operands of different rank are aligned at their last axis; an axis of size 1 is repeated.
pub(super) fn broadcast(ask: &Ask<'_>) -> Result<Flow, Stop> {
    let rank = ask.output_dims()?.len();
    let from_end = rank
        .checked_sub(ask.axis)
        .ok_or("has declared shapes that contradict each other")?;
    let mut flow = Flow {
        links: Vec::new(),
        cuts: Vec::new(),
        gives: Gives::Common,
        edit: None,
    };
    for input in 0..ask.trunk.graph.node(ask.node).input.len() {
        let dims = ask.dims(input)?;
        let Some(axis) = dims.len().checked_sub(from_end) else {
            continue;
        };
        match dims[axis] {
            Dim::Fixed(1) => {}
            Dim::Fixed(size) if size != ask.width => {
                return Err(format!("joins {} channels with {size}", ask.width));
            }
            Dim::Fixed(_) if ask.constant(input).is_some() => flow.cuts.push((input, axis)),
            Dim::Fixed(_) => flow.links.push(Link::same(input, axis, ask.width)),
            Dim::Symbol(_) | Dim::Unknown => return Err(UNKNOWN_SHAPE.to_owned()),
        }
    }
    if flow.links.is_empty() {
        flow.gives = Gives::Exactly(ask.need.to_vec());
    }
    Ok(flow)
}
