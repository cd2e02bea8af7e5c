//! Nodes that draw random numbers, as an export in training mode has them.

use std::collections::BTreeSet;

use crate::graph::{Graph, NodeId};

/// Operators that do nothing else.
const RANDOM: &[&str] = &[
    "Bernoulli",
    "Multinomial",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
];

/// What is to be said of the nodes that the class scores depend on; nothing where they are the same in each run.
pub(super) fn note(graph: &Graph<'_>, inside: &BTreeSet<NodeId>) -> Option<String> {
    let mut found = inside.iter().filter(|&&node| draws(graph, node));
    let first = graph.site(*found.next()?);
    let more = match found.count() {
        0 => String::new(),
        more => format!(" (and {more} more)"),
    };
    Some(format!(
        "{first} draws random numbers{more}, so the scores are others in each run: export the model in evaluation \
         mode, in PyTorch with model.eval()"
    ))
}

fn draws(graph: &Graph<'_>, node: NodeId) -> bool {
    let op = graph.node(node).op();
    let is_set = |input| {
        graph
            .constant_input(node, input)
            .map(|value| value.to_f32()[..] != [0.0])
    };
    // Dropout has a switch, and drops half unless it is told otherwise.
    let drops = || is_set(2) == Some(true) && is_set(1) != Some(false);
    RANDOM.contains(&op) || op == "Dropout" && drops()
}
