//! Normalisations: those with statistics per channel pass, the others mix what they normalise.

use super::{Ask, Flow, Rule, Stop, wrap_axis};

pub(super) const RULES: &[(&str, Rule)] = &[
    ("BatchNormalization", batch_norm),
    ("GroupNormalization", mixes),
    ("InstanceNormalization", instance_norm),
    ("LRN", mixes),
    ("LayerNormalization", layer_norm),
    ("LogSoftmax", softmax),
    ("LpNormalization", mixes),
    ("MeanVarianceNormalization", mixes),
    ("RMSNormalization", layer_norm),
    ("SimplifiedLayerNormalization", layer_norm),
    ("SkipLayerNormalization", mixes),
    ("Softmax", softmax),
];

/// Scale, bias, mean and variance have one entry per channel (axis 1).
fn batch_norm(ask: &Ask<'_>) -> Result<Flow, Stop> {
    let node = ask.trunk.graph.node(ask.node);
    let training = node.int("training_mode").unwrap_or(0) != 0;
    if training || ask.has_other_readers() {
        return Err("is in training mode".to_owned());
    }
    per_channel(ask, 1..5)
}

/// Scale and bias have one entry per channel; mean and variance are those of each map.
fn instance_norm(ask: &Ask<'_>) -> Result<Flow, Stop> {
    per_channel(ask, 1..3)
}

fn per_channel(ask: &Ask<'_>, weights: std::ops::Range<usize>) -> Result<Flow, Stop> {
    if ask.axis != 1 {
        return Err("normalises along the axis".to_owned());
    }
    let mut flow = ask.through(1);
    for input in weights {
        let tensor = ask
            .constant(input)
            .ok_or("has statistics that are computed")?;
        if !matches!(tensor.dims.as_slice(), &[size] if usize::try_from(size) == Ok(ask.width)) {
            return Err(format!("has no statistics for {} channels", ask.width));
        }
        flow.cuts.push((input, 0));
    }
    Ok(flow)
}

/// Mixes the axes from `axis` on.
fn layer_norm(ask: &Ask<'_>) -> Result<Flow, Stop> {
    let rank = ask.output_dims()?.len();
    let node = ask.trunk.graph.node(ask.node);
    let first = wrap_axis(node.int("axis").unwrap_or(-1), rank);
    if first.is_none_or(|first| ask.axis >= first) || ask.has_other_readers() {
        return mixes(ask);
    }
    Ok(ask.through(ask.axis))
}

/// Mixes one axis; before operator set 13, all from that one on.
fn softmax(ask: &Ask<'_>) -> Result<Flow, Stop> {
    let graph = ask.trunk.graph;
    let rank = ask.output_dims()?.len();
    let axis = wrap_axis(graph.node(ask.node).int("axis").unwrap_or(-1), rank);
    if graph.opset(ask.node) < 13 || axis.is_none_or(|axis| axis == ask.axis) {
        return mixes(ask);
    }
    Ok(ask.through(ask.axis))
}

fn mixes(_: &Ask<'_>) -> Result<Flow, Stop> {
    Err("normalises over all channels together".to_owned())
}
