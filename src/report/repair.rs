//! What a repair did, layer by layer.

use super::table;
use crate::repair::{LayerRepair, Matching};

/// What the repair did to each layer it looked at.
pub(super) fn repair(layers: &[LayerRepair]) -> Option<String> {
    if layers.is_empty() {
        return None;
    }
    let header = ["repair: error of", "cut", "repaired", ""];
    let mut text = table::numbers(&header, rows(layers));
    for remark in remarks(layers) {
        text.push_str(&format!("\n{remark}"));
    }
    Some(text)
}

/// Each operator that was looked at, with its error before and after.
pub(super) fn rows(layers: &[LayerRepair]) -> Vec<Vec<String>> {
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
    rows.collect()
}

/// What is to be said besides.
pub(super) fn remarks(layers: &[LayerRepair]) -> Vec<String> {
    let remarks = layers.iter().flat_map(|layer| {
        let matching = layer.matching.as_ref().map(matched);
        let all = matching.into_iter().chain(layer.note.clone());
        all.map(|remark| format!("{}: {remark}", layer.node))
    });
    remarks.collect()
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
