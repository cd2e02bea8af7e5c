//! Pooling works channel by channel. In a head it passes only where there is nothing to pool any
//! more: what is in front of a real pooling belongs to the trunk.

use super::{Arrival, Coupling, Port, Rule, Stop, positions};

pub(super) const RULES: &[(&str, Rule)] = &[
    ("AveragePool", pool),
    ("GlobalAveragePool", pool),
    ("GlobalLpPool", pool),
    ("GlobalMaxPool", pool),
    ("LpPool", pool),
    ("MaxPool", pool),
];

fn pool(arrival: &Arrival<'_>) -> Result<Coupling, Stop> {
    if arrival.axis != 1 {
        return Err("pools over the neurons".to_owned());
    }
    match positions(arrival.dims(Port::Input(0))?, 1) {
        Some(1) => arrival.pass_to(1),
        Some(count) => Err(format!("pools {count} positions into each feature")),
        None => Err(super::UNKNOWN_SHAPE.to_owned()),
    }
}
