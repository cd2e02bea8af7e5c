//! Normalisations: BatchNorm works channel by channel, the others mix what they normalise over.

use super::{Arrival, Coupling, Rule, Stop};

pub(super) const RULES: &[(&str, Rule)] = &[
    ("BatchNormalization", batch_norm),
    ("GroupNormalization", mixes),
    ("LayerNormalization", layer_norm),
    ("LpNormalization", mixes),
    ("LRN", mixes),
    ("LogSoftmax", mixes),
    ("RMSNormalization", layer_norm),
    ("SimplifiedLayerNormalization", layer_norm),
    ("SkipLayerNormalization", mixes),
    ("Softmax", mixes),
    ("Hardmax", mixes),
    ("MeanVarianceNormalization", mixes),
];

/// Scale, bias, mean and variance have one entry per channel (axis 1).
fn batch_norm(arrival: &Arrival<'_>) -> Result<Coupling, Stop> {
    if arrival.axis != 1 {
        return Err("normalises another axis than the neurons'".to_owned());
    }
    let node = arrival.graph.node(arrival.node);
    let training = node.int("training_mode").unwrap_or(0) != 0;
    if training || node.output.iter().skip(1).any(|name| !name.is_empty()) {
        return Err("is in training mode".to_owned());
    }
    let mut coupling = arrival.pass_to(1)?;
    for input in 1..5 {
        let tensor = arrival
            .constant(input)
            .ok_or("has statistics that are computed")?;
        if tensor.dims.first().map(|&size| usize::try_from(size)) != Some(Ok(arrival.width())) {
            return Err(format!("has no statistics for {} neurons", arrival.width()));
        }
        coupling.cuts.push((input, 0, arrival.map.clone()));
    }
    Ok(coupling)
}

/// Mixes the axes from `axis` on; the neurons pass where their axis comes before.
fn layer_norm(arrival: &Arrival<'_>) -> Result<Coupling, Stop> {
    let rank = arrival.rank(arrival.port)?;
    let node = arrival.graph.node(arrival.node);
    let first = super::wrap_axis(node.int("axis").unwrap_or(-1), rank);
    if first.is_some_and(|first| arrival.axis < first) {
        arrival.pass_to(arrival.axis)
    } else {
        mixes(arrival)
    }
}

fn mixes(_: &Arrival<'_>) -> Result<Coupling, Stop> {
    Err("normalises over all neurons together".to_owned())
}
