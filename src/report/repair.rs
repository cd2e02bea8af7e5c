//! What a repair did, layer by layer.

use super::table;
use crate::repair::{LayerRepair, Matching};

/// What the repair did to each layer it looked at.
pub(super) fn repair(layers: &[LayerRepair]) -> Option<String> {
    if layers.is_empty() {
        return None;
    }
    let rows = layers.iter().map(|layer| {
        vec![
            layer.node.clone(),
            layer.error_before.map_or_else(String::new, percent),
            layer.error_after.map_or_else(String::new, percent),
            if layer.applied {
                "repaired"
            } else {
                "left as cut"
            }
            .to_owned(),
        ]
    });
    let header = ["repair: error of", "cut", "repaired", ""];
    let mut text = table::numbers(&header, rows.collect());
    for layer in layers {
        if let Some(found) = &layer.matching {
            text.push_str(&format!("\n{}: {}", layer.node, matched(found)));
        }
        if let Some(note) = &layer.note {
            text.push_str(&format!("\n{}: {note}", layer.node));
        }
    }
    Some(text)
}

/// What matching the class probabilities did.
fn matched(found: &Matching) -> String {
    let Matching {
        steps,
        divergence_before: before,
        divergence_after: after,
        ..
    } = found;
    match found.applied {
        true => format!(
            "class probabilities matched in {steps} steps, divergence from the original's {before:.4} -> {after:.4} nats"
        ),
        false => format!(
            "class probabilities left as they are: divergence from the original's {before:.4}, {after:.4} after {steps} steps"
        ),
    }
}

/// A share as a percentage.
fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}
