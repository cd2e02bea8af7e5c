//! What a comparison found.

use super::{
    left_out::left_out,
    numbers::{count, difference},
    prune::proof,
    table,
};
use crate::pipeline::{Compared, VerifyReport};

/// One line per comparison, with the measured maximum and the tolerance.
pub fn verified(report: &VerifyReport) -> String {
    let found = match &report.proof {
        Some(found) => proof(found),
        None => comparisons(report),
    };
    let blocks = [left_out(&report.data), Some(found)];
    blocks
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join("\n\n")
}

fn comparisons(report: &VerifyReport) -> String {
    let rows = report
        .comparisons
        .iter()
        .map(|compared| row(compared, report.tolerance));
    let header = ["", "max difference", "allowed", ""];
    let verdict = if report.passed { "equal" } else { "NOT equal" };
    format!(
        "{}\n\n{verdict} on {} samples; differences relative to the largest output",
        table::words(&header, rows.collect()),
        count(report.samples),
    )
}

fn row(compared: &Compared, tolerance: f64) -> Vec<String> {
    vec![
        compared.what.clone(),
        difference(compared.comparison.max_rel),
        format!("{tolerance:.0e}"),
        if compared.passed { "ok" } else { "FAILED" }.to_owned(),
    ]
}
