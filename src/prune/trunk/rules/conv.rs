//! Convolutions make their channels (axis 1) with their own weights.

use std::collections::{BTreeMap, BTreeSet};

use super::{Ask, Flow, Rule, Stop, matmul};
use crate::{
    error::Result as Checked,
    graph::Patch,
    onnx::NodeProto,
    prune::trunk::flow::{Cut, Link},
};

pub(super) const RULES: &[(&str, Rule)] = &[("Conv", conv), ("ConvTranspose", conv_transpose)];

/// Weights are `[O, I / group, kernel...]`.
fn conv(ask: &Ask<'_>) -> Result<Flow, Stop> {
    if ask.axis != 1 {
        return Err("mixes the positions of the axis".to_owned());
    }
    let groups = group_count(ask)?;
    let mut flow = if groups == 1 {
        Flow::made(ask.need)
    } else {
        grouped(ask, groups)?
    };
    matmul::weight(ask, &mut flow, 1, 0)?;
    matmul::bias(ask, &mut flow, 2)?;
    Ok(flow)
}

/// Weights are `[I, O / group, kernel...]`.
fn conv_transpose(ask: &Ask<'_>) -> Result<Flow, Stop> {
    if ask.axis != 1 {
        return Err("mixes the positions of the axis".to_owned());
    }
    if group_count(ask)? != 1 {
        return Err("is a grouped convolution".to_owned());
    }
    let mut flow = Flow::made(ask.need);
    matmul::weight(ask, &mut flow, 1, 1)?;
    matmul::bias(ask, &mut flow, 2)?;
    Ok(flow)
}

fn group_count(ask: &Ask<'_>) -> Result<usize, Stop> {
    let groups = ask.trunk.graph.node(ask.node).int("group").unwrap_or(1);
    let groups = usize::try_from(groups).ok().filter(|&count| count > 0);
    groups.ok_or_else(|| "has no valid number of groups".to_owned())
}

/// Whole groups go. Within those that stay, channels go where every group keeps as many.
fn grouped(ask: &Ask<'_>, groups: usize) -> Result<Flow, Stop> {
    let weight = ask.constant(1).ok_or("has weights that are computed")?;
    let inner = weight
        .dims
        .get(1)
        .and_then(|&size| usize::try_from(size).ok());
    let inner = inner.ok_or("has weights without channels")?;
    let outer = ask.width / groups;
    if outer * groups != ask.width || inner == 0 {
        return Err("has channels that do not fit its groups".to_owned());
    }
    let mut live: BTreeMap<usize, usize> = BTreeMap::new();
    for channel in ask.need {
        *live.entry(channel / outer).or_default() += 1;
    }
    let counts: BTreeSet<usize> = live.values().copied().collect();
    let made: Vec<usize> = if counts.len() == 1 {
        ask.need.to_vec()
    } else {
        let all = 0..ask.width;
        all.filter(|channel| live.contains_key(&(channel / outer)))
            .collect()
    };
    if made.len() == ask.width && ask.need.len() < ask.width {
        return Err("needs unequal numbers of channels of its groups".to_owned());
    }
    let mut flow = Flow::made(&made);
    flow.links.push(Link {
        input: 0,
        axis: 1,
        inputs: (0..groups * inner).map(|at| Some(at / inner)).collect(),
        outputs: (0..ask.width).map(|at| Some(at / outer)).collect(),
    });
    flow.edit = Some(set_groups);
    Ok(flow)
}

fn set_groups(cut: &Cut<'_>, patch: &mut Patch) -> Checked<()> {
    let graph = cut.trunk.graph;
    let groups = graph.node(cut.node).int("group").unwrap_or(1).max(1);
    let weight = graph.input(cut.node, 1).and_then(|id| graph.constant(id));
    let channels = weight.and_then(|tensor| tensor.dims.first().copied());
    let outer = usize::try_from(channels.unwrap_or(groups) / groups).unwrap_or(1);
    let live: BTreeSet<usize> = cut.kept.iter().map(|at| at / outer.max(1)).collect();
    let shown = NodeProto::default().with_int("group", live.len() as i64);
    for attribute in shown.attribute {
        patch.set_attribute(cut.node, attribute);
    }
    Ok(())
}
