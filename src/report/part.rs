//! Parts of shards and what was made of them, in a line or two.

use super::numbers::count;
use crate::{
    data::readable_bytes,
    pipeline::{MergedReport, PartReport},
    shards::Coverage,
};

/// What the part holds, and where it is.
pub fn parted(report: &PartReport) -> String {
    let how = if report.found { "found" } else { "wrote" };
    let path = report.path.display();
    let blocks = match report.blocks.len() {
        0 => "no blocks".to_owned(),
        1 => format!("block {}", report.blocks.start),
        _ => format!(
            "blocks {} to {}",
            report.blocks.start,
            report.blocks.end - 1
        ),
    };
    format!(
        "{how} {path}: shard {}, {blocks}, {} samples, {}",
        report.shard,
        count(report.samples),
        readable_bytes(report.bytes)
    )
}

/// Where merged features are, and how many.
pub fn merged_features(report: &MergedReport) -> String {
    let lines = [format!(
        "features of {} samples, {}, are in {}",
        count(report.samples),
        readable_bytes(report.bytes),
        report.folder.display()
    )];
    let lines = lines
        .into_iter()
        .chain(report.coverage.as_ref().map(covered));
    lines.collect::<Vec<_>>().join("\n")
}

/// How much is missing.
pub(super) fn covered(coverage: &Coverage) -> String {
    let [blocks, all_blocks] = coverage.blocks;
    let [samples, all] = coverage.samples;
    format!(
        "not all: {} of {} samples, {blocks} of {all_blocks} blocks",
        count(samples),
        count(all)
    )
}
