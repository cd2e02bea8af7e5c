//! Operators on maps: they pass along axes they leave alone.

use super::{Ask, Flow, Rule, Stop, wrap_axis};
use crate::{
    error::Result as Checked,
    graph::{Patch, Use},
    onnx::Tensor,
    prune::trunk::flow::Cut,
};

pub(super) const RULES: &[(&str, Rule)] =
    &[("Pad", pad), ("Resize", resize), ("Upsample", upsample)];

/// Nothing may be added before or behind the channels.
fn pad(ask: &Ask<'_>) -> Result<Flow, Stop> {
    let rank = ask.dims(0)?.len();
    let pads = ask.list("pads", 1)?.ok_or("has no pads")?;
    let axes = match ask.list("axes", 3)? {
        Some(axes) => axes,
        None => (0..rank as i64).collect(),
    };
    let place = axes
        .iter()
        .position(|&axis| wrap_axis(axis, rank) == Some(ask.axis));
    if let Some(place) = place {
        let added = |at: usize| pads.get(at).copied() != Some(0);
        if added(place) || added(place + axes.len()) {
            return Err("adds channels".to_owned());
        }
    }
    Ok(ask.through(ask.axis))
}

/// Scales (input 2) or sizes (input 3) of all axes or of `axes`; the channels' must stay.
fn resize(ask: &Ask<'_>) -> Result<Flow, Stop> {
    let graph = ask.trunk.graph;
    let node = graph.node(ask.node);
    if node.string("coordinate_transformation_mode").as_deref() == Some("tf_crop_and_resize") {
        return Err("crops while it resizes".to_owned());
    }
    let is_empty = |input: usize| ask.constant(input).is_some_and(|t| t.dims.contains(&0));
    let given = |input: usize| graph.input(ask.node, input).is_some() && !is_empty(input);
    let place = match node.ints("axes") {
        None => Some(ask.axis),
        Some(axes) => {
            let rank = ask.dims(0)?.len();
            axes.iter()
                .position(|&axis| wrap_axis(axis, rank) == Some(ask.axis))
        }
    };
    let Some(place) = place else {
        return Ok(ask.through(ask.axis));
    };
    // Before operator set 11, the scales are input 1.
    let scales = if graph.opset(ask.node) < 11 { 1 } else { 2 };
    let mut flow = ask.through(ask.axis);
    if given(scales) {
        scale_of_one(graph.constant_input(ask.node, scales), place)?;
    } else if given(3) {
        let sizes = ask.numbers(3).ok_or("has sizes that are computed")?;
        if sizes.get(place).map(|&size| usize::try_from(size)) != Some(Ok(ask.width)) {
            return Err("resizes the channels".to_owned());
        }
        if node
            .string("keep_aspect_ratio_policy")
            .is_some_and(|how| how != "stretch")
        {
            return Err("keeps the ratio of its axes".to_owned());
        }
        flow.edit = Some(set_size);
    } else {
        return Err("has neither scales nor sizes".to_owned());
    }
    Ok(flow)
}

fn upsample(ask: &Ask<'_>) -> Result<Flow, Stop> {
    let graph = ask.trunk.graph;
    let scales = match graph.node(ask.node).floats("scales") {
        Some(scales) => {
            Some(Tensor::f32([scales.len()], scales.to_vec()).map_err(|e| e.to_string())?)
        }
        None => graph.constant_input(ask.node, 1),
    };
    scale_of_one(scales, ask.axis)?;
    Ok(ask.through(ask.axis))
}

fn scale_of_one(scales: Option<Tensor>, place: usize) -> Result<(), Stop> {
    let scales = scales.ok_or("has scales that are computed")?;
    match scales.to_f32().get(place) {
        Some(&1.0) => Ok(()),
        _ => Err("resizes the channels".to_owned()),
    }
}

/// Sizes name the number of channels.
fn set_size(cut: &Cut<'_>, patch: &mut Patch) -> Checked<()> {
    let graph = cut.trunk.graph;
    let node = graph.node(cut.node);
    let Some(sizes) = graph.constant_input(cut.node, 3) else {
        return Ok(());
    };
    let mut sizes = sizes.to_i64();
    let place = match node.ints("axes") {
        None => Some(cut.axis),
        Some(axes) => axes.iter().position(|&axis| axis == cut.axis as i64),
    };
    if let Some(size) = place.and_then(|place| sizes.get_mut(place)) {
        *size = cut.kept.len() as i64;
    }
    let name = patch.fresh_name(graph, &format!("{}_sizes", graph.site(cut.node).node));
    patch.set_initializer(Tensor::i64([sizes.len()], sizes)?.to_proto(name.as_str()));
    patch.redirect(
        Use {
            node: cut.node,
            input: 3,
        },
        name,
    );
    Ok(())
}
