//! Dense layers: Gemm and MatMul make their last axis with their own weights.

use super::{Ask, Flow, Rule, Stop};
use crate::prune::trunk::flow::Link;

pub(super) const RULES: &[(&str, Rule)] = &[("Gemm", gemm), ("MatMul", matmul)];

/// `y = A' B' + C`: the channels are B's second axis after transposition.
fn gemm(ask: &Ask<'_>) -> Result<Flow, Stop> {
    let transposed = ask.trunk.graph.node(ask.node).int("transB").unwrap_or(0) != 0;
    if ask.axis != 1 {
        return Err("is reached at an axis it does not make".to_owned());
    }
    let mut flow = Flow::made(ask.need);
    weight(ask, &mut flow, 1, usize::from(!transposed))?;
    bias(ask, &mut flow, 2)?;
    Ok(flow)
}

/// `y = A B`: the channels are B's last axis.
fn matmul(ask: &Ask<'_>) -> Result<Flow, Stop> {
    let rank = ask.dims(1)?.len();
    if rank < 2 {
        return Err("has weights that are a vector".to_owned());
    }
    if ask.axis + 1 != ask.output_dims()?.len() {
        return Err("is reached at an axis it does not make".to_owned());
    }
    let mut flow = Flow::made(ask.need);
    weight(ask, &mut flow, 1, rank - 1)?;
    Ok(flow)
}

/// Weights with one entry per channel along `axis`: a constant, or made from constants.
pub(super) fn weight(
    ask: &Ask<'_>,
    flow: &mut Flow,
    input: usize,
    axis: usize,
) -> Result<(), Stop> {
    let graph = ask.trunk.graph;
    let value = graph.input(ask.node, input).ok_or("has no weights")?;
    if let Some(tensor) = graph.constant(value) {
        let size = tensor.dims.get(axis).copied().unwrap_or(0);
        if usize::try_from(size) != Ok(ask.width) {
            return Err(format!(
                "has weights for {size} channels where {} are made",
                ask.width
            ));
        }
        flow.cuts.push((input, axis));
    } else if graph.is_fixed(value) {
        flow.links.push(Link::same(input, axis, ask.width));
    } else {
        return Err("has weights that are computed".to_owned());
    }
    Ok(())
}

/// A bias that is broadcast over the batch: its last axis is the channels', or has size 1.
pub(super) fn bias(ask: &Ask<'_>, flow: &mut Flow, input: usize) -> Result<(), Stop> {
    let graph = ask.trunk.graph;
    let Some(value) = graph.input(ask.node, input) else {
        return Ok(());
    };
    let rank = match graph.constant(value) {
        Some(tensor) if tensor.dims.last().is_none_or(|&size| size == 1) => return Ok(()),
        Some(tensor) => tensor.dims.len(),
        None => ask.dims(input).map_or(1, <[_]>::len),
    };
    weight(ask, flow, input, rank.saturating_sub(1))
}
