//! One small rule per operator: which channels of its inputs make these channels of its output.
//!
//! The files have the same names as those of the rules for cuts and gradients.

mod activation;
mod conv;
mod elementwise;
mod matmul;
mod norm;
mod pool;
mod quantize;
mod reduce;
mod select;
mod shape;
mod spatial;

use super::flow::{Ask, Flow, Stop};
pub(super) use select::own_axis;

/// Answers for one operator.
pub(super) type Rule = fn(&Ask<'_>) -> Result<Flow, Stop>;

const FAMILIES: &[&[(&str, Rule)]] = &[
    activation::RULES,
    conv::RULES,
    elementwise::RULES,
    matmul::RULES,
    norm::RULES,
    pool::RULES,
    quantize::RULES,
    reduce::RULES,
    select::RULES,
    shape::RULES,
    spatial::RULES,
];

/// Asks the rule of the node's operator.
pub(super) fn ask(ask: &Ask<'_>) -> Result<Flow, Stop> {
    let graph = ask.trunk.graph;
    let node = graph.node(ask.node);
    let site = graph.site(ask.node);
    // Axis 0 is the batch, wherever channels are.
    if ask.axis == 0 && graph.is_fixed(graph.output(ask.node, ask.output).ok_or("")?) {
        // A weight on its way to an operator: its first axis may be the channels.
    } else if ask.axis == 0 {
        return Err(format!("{site} is reached along the batch"));
    }
    if !matches!(node.domain_or_default(), "" | "com.microsoft") {
        return Err(format!("{site} is of a domain without rules"));
    }
    let mut rules = FAMILIES.iter().copied().flatten();
    match rules.find(|(name, _)| *name == node.op()) {
        Some((_, rule)) => rule(ask).map_err(|why| format!("{site} {why}")),
        None => Err(format!("{site} has no rule for channels")),
    }
}

/// Names of all operators with a rule.
#[cfg(test)]
pub(super) fn names() -> Vec<&'static str> {
    let rules = FAMILIES.iter().copied().flatten();
    rules.map(|(name, _)| *name).collect()
}

/// An axis number as an index; negative ones count from the end.
fn wrap_axis(axis: i64, rank: usize) -> Option<usize> {
    crate::prune::rules::wrap_axis(axis, rank)
}
