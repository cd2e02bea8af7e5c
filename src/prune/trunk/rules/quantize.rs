//! Conversions between real numbers and integers, with one scale for all or one per channel.

use super::{Ask, Flow, Rule, Stop, wrap_axis};

pub(super) const RULES: &[(&str, Rule)] = &[
    ("DequantizeLinear", linear),
    ("DynamicQuantizeLinear", mixes),
    ("QuantizeLinear", linear),
];

/// Inputs 1 and 2, scale and zero point, are scalars or have one entry per position of `axis`.
fn linear(ask: &Ask<'_>) -> Result<Flow, Stop> {
    let graph = ask.trunk.graph;
    let node = graph.node(ask.node);
    if node.int("block_size").unwrap_or(0) != 0 {
        return Err("has scales per block".to_owned());
    }
    let mut flow = ask.through(ask.axis);
    for input in 1..3 {
        if graph.input(ask.node, input).is_none() {
            continue;
        }
        let tensor = ask.constant(input).ok_or("has scales that are computed")?;
        match tensor.dims.as_slice() {
            [] | [1] => {}
            [_] => {
                let rank = ask.output_dims().map(<[_]>::len).or_else(|why| {
                    let data = ask.constant(0).map(|tensor| tensor.dims.len());
                    data.ok_or(why)
                })?;
                if wrap_axis(node.int("axis").unwrap_or(1), rank) == Some(ask.axis) {
                    flow.cuts.push((input, 0));
                }
            }
            _ => return Err("has scales of more than one axis".to_owned()),
        }
    }
    Ok(flow)
}

fn mixes(_: &Ask<'_>) -> Result<Flow, Stop> {
    Err("takes its scale from all channels together".to_owned())
}
