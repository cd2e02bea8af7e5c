//! Shapes read off values whose channels may go: harmless where only the batch size is used.

use super::flow::Trunk;
use crate::{
    graph::{Graph, NodeId, Use, ValueId},
    onnx::Tensor,
};

/// More steps from a Shape to what uses its entries were never seen; exporters write up to four.
const MAX_STEPS: usize = 16;
/// Axes that a value of unknown rank is taken to have; entries counted from the end are refused.
const MANY_AXES: usize = 64;

/// Whether a node is a Shape of which only the batch size, entry 0, is used.
pub(super) fn reads_batch_size(trunk: &Trunk<'_>, node: NodeId) -> bool {
    let graph = trunk.graph;
    if graph.node(node).op() != "Shape" {
        return false;
    }
    let rank = graph.input(node, 0).and_then(|id| trunk.shapes.rank(id));
    let bound = |name: &str, default: usize| match graph.node(node).int(name) {
        None => Some(default),
        Some(at) => place(at, rank.unwrap_or(MANY_AXES), rank.is_some()),
    };
    let last = rank.unwrap_or(MANY_AXES);
    let (Some(start), Some(end)) = (bound("start", 0), bound("end", last)) else {
        return false;
    };
    let entries: Vec<usize> = (start..end).collect();
    let known = rank.is_some();
    graph
        .output(node, 0)
        .is_some_and(|shape| uses_first(graph, shape, &entries, known, MAX_STEPS))
}

/// Whether all that uses a list of sizes, those of these axes, uses none but that of axis 0.
fn uses_first(
    graph: &Graph<'_>,
    value: ValueId,
    entries: &[usize],
    known: bool,
    steps: usize,
) -> bool {
    if entries.iter().all(|&axis| axis == 0) {
        return true;
    }
    if steps == 0 || graph.is_output(value) {
        return false;
    }
    graph.uses(value).iter().all(|&reading| {
        let left = picked(graph, reading, entries, known);
        let output = graph.output(reading.node, 0);
        match (left, output) {
            (Some(left), Some(output)) => uses_first(graph, output, &left, known, steps - 1),
            _ => false,
        }
    })
}

/// The axes whose sizes are left in the output of a reader; nothing where it does more than pick.
fn picked(graph: &Graph<'_>, reading: Use, entries: &[usize], known: bool) -> Option<Vec<usize>> {
    let Use { node, input } = reading;
    if input != 0 {
        return None;
    }
    let count = entries.len();
    match graph.node(node).op() {
        "Cast" | "Identity" | "Squeeze" | "Unsqueeze" => Some(entries.to_vec()),
        "Gather" => {
            let indices = graph.constant_input(node, 1)?.to_i64();
            let places = indices.iter().map(|&index| place(index, count, known));
            places.map(|at| entries.get(at?).copied()).collect()
        }
        "Slice" => {
            let one = |name: &str, at: usize| -> Option<i64> {
                match graph.node(node).ints(name) {
                    Some(values) => Some(*values.first()?),
                    None => {
                        let tensor: Tensor = graph.constant_input(node, at)?;
                        tensor.to_i64().first().copied()
                    }
                }
            };
            let has_steps = graph.input(node, 4).is_some();
            if has_steps && one("steps", 4)? != 1 {
                return None;
            }
            let start = place(one("starts", 1)?, count, known)?;
            let end = place(one("ends", 2)?, count, known)?;
            Some(entries.get(start..end.max(start))?.to_vec())
        }
        _ => None,
    }
}

/// A place in a list, counted from its end where negative; at most its length.
fn place(at: i64, count: usize, known: bool) -> Option<usize> {
    match usize::try_from(at) {
        Ok(at) => Some(at.min(count)),
        Err(_) if known => count.checked_sub(usize::try_from(at.unsigned_abs()).ok()?),
        Err(_) => None,
    }
}
