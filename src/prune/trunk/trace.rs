//! Which layer's channels stand at the positions of an axis.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    flow::{Ask, Gives, Trunk},
    rules,
};
use crate::graph::ValueId;

/// Longest way back that is followed; the longest seen in a real model is below 20.
const MAX_DEPTH: usize = 200;

/// For each position of an axis of a value, the channel of the layer that makes it; positions with
/// the same number come and go together. Nothing where no layer can be found.
pub(super) fn units(
    trunk: &Trunk<'_>,
    value: ValueId,
    axis: usize,
    width: usize,
) -> Option<Arc<[usize]>> {
    if let Some(known) = trunk.traces.borrow().get(&(value, axis)) {
        return known.clone();
    }
    if *trunk.depth.borrow() >= MAX_DEPTH {
        return None;
    }
    *trunk.depth.borrow_mut() += 1;
    let found = follow(trunk, value, axis, width);
    *trunk.depth.borrow_mut() -= 1;
    let mut traces = trunk.traces.borrow_mut();
    traces.insert((value, axis), found.clone());
    found
}

fn follow(trunk: &Trunk<'_>, value: ValueId, axis: usize, width: usize) -> Option<Arc<[usize]>> {
    let graph = trunk.graph;
    let node = graph.producer(value)?;
    let outputs = &graph.node(node).output;
    let output = outputs.iter().position(|name| name == graph.name(value))?;
    let all: Vec<usize> = (0..width).collect();
    let ask = Ask {
        trunk,
        node,
        output,
        axis,
        width,
        need: &all,
    };
    let flow = rules::ask(&ask).ok()?;
    if matches!(flow.gives, Gives::Exactly(_)) {
        return Some(all.into());
    }
    let mut found: Vec<Option<usize>> = vec![None; width];
    let mut first = 0;
    for link in &flow.links {
        let Some(input) = graph.input(node, link.input) else {
            continue;
        };
        let size = link.inputs.len();
        if let Some(inner) = units(trunk, input, link.axis, size) {
            let mut places = BTreeMap::new();
            for (place, unit) in link.inputs.iter().enumerate().rev() {
                places.insert(*unit, place);
            }
            for (position, unit) in link.outputs.iter().enumerate() {
                if let (Some(_), Some(&place)) = (unit, places.get(unit)) {
                    found[position].get_or_insert(first + inner[place]);
                }
            }
        }
        first += size;
    }
    if found.iter().all(Option::is_none) {
        return None;
    }
    let positions = found.into_iter().enumerate();
    let alone = |(position, unit): (usize, Option<usize>)| unit.unwrap_or(first + position);
    Some(positions.map(alone).collect())
}
