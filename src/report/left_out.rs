//! Samples that a run did without.

use crate::pipeline::DataReport;

/// How many samples could not be used, and the first ten of them; nothing where all could.
pub(super) fn left_out(data: &DataReport) -> Option<String> {
    let of_data = data.skipped.as_ref();
    let of_test = data.test.as_ref().and_then(|test| test.skipped.as_ref());
    let named = [("--data", of_data), ("--test", of_test)];
    let lines: Vec<String> = named
        .into_iter()
        .filter_map(|(name, skipped)| Some(format!("{name}: {}", skipped?.describe()?)))
        .collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}
