//! What is in a gradient graph.

use super::table;
use crate::pipeline::GradientReport;

/// Inputs and outputs of the graph, in words.
pub fn differentiated(report: &GradientReport) -> String {
    let rows = report
        .cotangents
        .iter()
        .map(|layer| vec![layer.layer.clone(), layer.outputs.join(", ")]);
    let head = &report.head;
    format!(
        "inputs: {}, and {} [R, 1, {}], one row for each wanted mix of classes\n\n{}\n\nwrote {}",
        head.features.join(", "),
        report.seed_input,
        head.classes,
        table::words(&["layer", "outputs [R, N, ...]"], rows.collect()),
        report.output.display()
    )
}
