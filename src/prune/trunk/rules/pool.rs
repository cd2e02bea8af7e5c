//! Pooling works channel by channel, whatever the window.

use super::{Ask, Flow, Rule, Stop};

pub(super) const RULES: &[(&str, Rule)] = &[
    ("AveragePool", pool),
    ("GlobalAveragePool", pool),
    ("GlobalLpPool", pool),
    ("GlobalMaxPool", pool),
    ("LpPool", pool),
    ("MaxPool", pool),
];

fn pool(ask: &Ask<'_>) -> Result<Flow, Stop> {
    if ask.axis != 1 {
        return Err("pools along the axis".to_owned());
    }
    // The positions of maxima count through all channels.
    if ask.has_other_readers() {
        return Err("gives the positions of its maxima too".to_owned());
    }
    Ok(ask.through(1))
}
