//! How much memory a run takes at once.

use std::collections::BTreeMap;

use super::{Graph, ValueId};

/// The most bytes of values that exist at the same time, in the order of the graph: a value lives
/// from the node that makes it to its last reader, an output to the end. Constants do not count.
///
/// A runtime may take more (work space, another order) and, where it computes in place, less.
pub fn live_bytes(graph: &Graph<'_>, bytes: &dyn Fn(ValueId) -> u64) -> u64 {
    let mut readers: BTreeMap<ValueId, usize> = BTreeMap::new();
    let size = |id: ValueId| match graph.constant(id) {
        Some(_) => 0,
        None => bytes(id),
    };
    let inputs = graph.inputs();
    let mut live: u64 = inputs.iter().map(|&id| size(id)).sum();
    let mut most = live;
    for &node in graph.order() {
        let proto = graph.node(node);
        let made = (0..proto.output.len()).filter_map(|at| graph.output(node, at));
        live += made.map(size).sum::<u64>();
        most = most.max(live);
        for id in (0..proto.input.len()).filter_map(|at| graph.input(node, at)) {
            let left = readers.entry(id).or_insert_with(|| graph.uses(id).len());
            *left = left.saturating_sub(1);
            if *left == 0 && !graph.is_output(id) {
                live = live.saturating_sub(size(id));
            }
        }
    }
    most
}
