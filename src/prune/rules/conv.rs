//! Convolutions contract over all channels of a window; in a head they are dense layers.

use super::{Arrival, Coupling, Port, Rule, Stop, matmul, positions};

pub(super) const RULES: &[(&str, Rule)] = &[("Conv", conv)];

/// Weights are [O, I / group, kernel...], channels are axis 1 of input and output.
fn conv(arrival: &Arrival<'_>) -> Result<Coupling, Stop> {
    let node = arrival.graph.node(arrival.node);
    let weight = arrival.constant(1).ok_or("has weights that are computed")?;
    if node.int("group").unwrap_or(1) != 1 {
        return Err("is a grouped convolution".to_owned());
    }
    if arrival.axis != 1 {
        return Err("is reached at an axis that is not its channels".to_owned());
    }
    match arrival.port {
        Port::Input(0) => matmul::sink(arrival, 1, 1, &weight.dims),
        Port::Output(0) => {
            // A convolution that still sees a map belongs to the trunk.
            match positions(arrival.dims(arrival.port)?, 1) {
                Some(1) => {}
                Some(count) => return Err(format!("makes {count} positions per channel")),
                None => return Err(super::UNKNOWN_SHAPE.to_owned()),
            }
            let mut coupling = matmul::source(arrival, 1, 0, &weight.dims)?;
            matmul::bias(arrival, &mut coupling, 2)?;
            Ok(coupling)
        }
        Port::Input(_) | Port::Output(_) => Err("reads the neurons as weights".to_owned()),
    }
}
