//! Scores, in short: their range, layer by layer.

use super::{left_out::left_out, numbers::count, part::covered, table};
use crate::{pipeline::ScoreReport, prune::LayerScores};

/// One line per layer; the scores themselves are in the JSON document.
pub fn scored(report: &ScoreReport) -> String {
    let header = ["layer", "neurons", "smallest", "median", "largest", "zero"];
    let rows = report.scores.layers.iter().map(row).collect();
    let samples = match report.score.samples {
        0 => "without samples".to_owned(),
        samples => format!("on {} samples", count(samples)),
    };
    let mut blocks = vec![table::numbers(&header, rows)];
    blocks.extend(left_out(&report.origin.data));
    blocks.push(format!(
        "criterion {}, {samples}, in {}",
        report.score.criterion, report.origin.engine
    ));
    blocks.extend(report.coverage.as_ref().map(covered));
    blocks.join("\n\n")
}

fn row(layer: &LayerScores) -> Vec<String> {
    let mut sorted = layer.values.clone();
    sorted.sort_by(f64::total_cmp);
    let at = |position: usize| {
        sorted
            .get(position)
            .map_or_else(String::new, |s| format!("{s:.3e}"))
    };
    let zeros = sorted.iter().filter(|score| **score == 0.0).count();
    vec![
        layer.name.clone(),
        count(sorted.len()),
        at(0),
        at(sorted.len() / 2),
        at(sorted.len().saturating_sub(1)),
        count(zeros),
    ]
}
