//! Reductions over other axes than the channels'.

use super::{Ask, Flow, Rule, Stop, wrap_axis};

pub(super) const RULES: &[(&str, Rule)] = &[
    ("ReduceL1", reduce),
    ("ReduceL2", reduce),
    ("ReduceLogSum", reduce),
    ("ReduceLogSumExp", reduce),
    ("ReduceMax", reduce),
    ("ReduceMean", reduce),
    ("ReduceMin", reduce),
    ("ReduceProd", reduce),
    ("ReduceSum", reduce),
    ("ReduceSumSquare", reduce),
];

fn reduce(ask: &Ask<'_>) -> Result<Flow, Stop> {
    let node = ask.trunk.graph.node(ask.node);
    let rank = ask.dims(0)?.len();
    let reduced: Vec<usize> = match ask.list("axes", 1)? {
        Some(axes) if !axes.is_empty() => {
            let axes = axes.iter().map(|&axis| wrap_axis(axis, rank));
            let axes: Option<Vec<usize>> = axes.collect();
            axes.ok_or("has axes that do not fit")?
        }
        _ if node.int("noop_with_empty_axes").unwrap_or(0) != 0 => Vec::new(),
        _ => (0..rank).collect(),
    };
    let keeps = node.int("keepdims") != Some(0);
    let mut remaining = (0..rank).filter(|axis| keeps || !reduced.contains(axis));
    let axis = remaining.nth(ask.axis).ok_or("loses the axis")?;
    if reduced.contains(&axis) {
        return Err("reduces over the channels".to_owned());
    }
    Ok(ask.through(axis))
}
