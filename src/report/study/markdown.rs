//! All tables of a study.

use super::{
    super::{
        numbers::{count, megabytes, seconds},
        table,
    },
    heading, level,
    lines::lines,
    terminal::recommended,
};
use crate::study::{ModelStudy, StudyReport};

/// The study as Markdown; figures are percent of the test samples.
pub fn studied_markdown(report: &StudyReport) -> String {
    let mut blocks = vec!["# Study".to_owned()];
    for model in &report.models {
        blocks.push(format!("## {}", model.name));
        blocks.push(about(model));
        blocks.push(recommended(model, report.max_drop));
        blocks.extend(stages(model, &report.keeps));
        blocks.extend(overlaps(model, &report.keeps));
        blocks.extend(times(model));
    }
    blocks.push("## How it was made".to_owned());
    blocks.push(made(report));
    blocks.join("\n\n")
}

/// The network in one sentence.
pub(super) fn about(model: &ModelStudy) -> String {
    let layers = model.layers.iter();
    let layers: Vec<String> = layers
        .map(|layer| format!("{} neurons of {}", count(layer.width), layer.name))
        .collect();
    format!(
        "{}, {} parameters, head: {}; {} {:.2} % on {} samples.",
        megabytes(model.bytes),
        count(usize::try_from(model.parameters).unwrap_or(usize::MAX)),
        layers.join(" and "),
        model.metric(),
        model.original_percent(),
        count(model.samples)
    )
}

/// A table per stage: a row per choice, a column per level; the best of each level is bold.
fn stages(model: &ModelStudy, keeps: &[f64]) -> Vec<String> {
    let tables = model.stages().into_iter().map(|stage| {
        let lines = lines(model, stage);
        let best = |keep: f64| {
            let points = lines.iter().flat_map(|line| &line.points);
            let points = points
                .filter(|point| point.keep == keep)
                .map(|point| point.mean);
            points.fold(f64::NEG_INFINITY, f64::max)
        };
        let mut header = vec!["choice".to_owned()];
        header.extend(keeps.iter().map(|&keep| level(keep)));
        let rows = lines.iter().map(|line| {
            let mut row = vec![line.label.clone()];
            for &keep in keeps {
                let point = line.points.iter().find(|point| point.keep == keep);
                row.push(match point {
                    Some(point) if point.mean == best(keep) => format!("**{}**", point.text()),
                    Some(point) => point.text(),
                    None => String::new(),
                });
            }
            row
        });
        let rows = rows.collect();
        format!(
            "### {}, {}, by level\n\n{}",
            capital(model.metric()),
            heading(stage),
            table::markdown(&header, rows)
        )
    });
    tables.collect()
}

fn overlaps(model: &ModelStudy, keeps: &[f64]) -> Option<String> {
    if model.overlaps.is_empty() {
        return None;
    }
    let mut header = ["choice", "layer", "norms"].map(str::to_owned).to_vec();
    header.extend(keeps.iter().map(|&keep| level(keep)));
    let mut rows: Vec<Vec<String>> = Vec::new();
    for overlap in &model.overlaps {
        let names = [
            overlap.choice.clone(),
            overlap.layer.clone(),
            format!("{} and {}", overlap.one, overlap.other),
        ];
        if rows.last().is_none_or(|row| row[..3] != names) {
            rows.push(names.to_vec());
        }
        if let Some(row) = rows.last_mut() {
            row.push(format!("{:.1} %", 100.0 * overlap.share));
        }
    }
    Some(format!(
        "### Kept by both norms\n\n{}",
        table::markdown(&header, rows)
    ))
}

fn times(model: &ModelStudy) -> Option<String> {
    if model.times.is_empty() {
        return None;
    }
    let header = [
        "keep",
        "one sample",
        "of the original's time",
        "95 % interval",
    ];
    let rows = model.times.iter().map(|time| {
        let interval = time.interval;
        vec![
            match time.keep {
                1.0 => "original".to_owned(),
                keep => level(keep),
            },
            seconds(time.seconds),
            format!("{:.3}", time.ratio),
            interval.map_or_else(String::new, |(low, high)| format!("{low:.3} to {high:.3}")),
        ]
    });
    Some(format!(
        "### Times of whole models, on the machine that made this\n\n{}",
        table::markdown(&header.map(str::to_owned), rows.collect())
    ))
}

/// Versions, hashes and seeds.
fn made(report: &StudyReport) -> String {
    let mut lines = vec![format!(
        "- onnx-prune {}, seed {}",
        report.version, report.seed
    )];
    for model in &report.models {
        let engine = &model.engine;
        lines.push(format!(
            "- {}: `{}`, {} bytes, SHA-256 `{}`; {} {} on {}; scored and solved on {} samples; best cells were chosen by the figures shown",
            model.name,
            model.path.display(),
            count(usize::try_from(model.bytes).unwrap_or(usize::MAX)),
            model.sha256,
            engine.name,
            engine.version,
            engine.provider,
            count(model.calibration_samples)
        ));
    }
    if let Some(model) = report.models.first() {
        let fingerprint = |hash: &Option<String>| hash.clone().unwrap_or_default();
        lines.push(format!(
            "- samples: {}, SHA-256 `{}`",
            model.data.description,
            fingerprint(&model.data.fingerprint)
        ));
        if let Some(test) = &model.data.test {
            lines.push(format!(
                "- test samples: {}, SHA-256 `{}`",
                test.description, test.fingerprint
            ));
        }
    }
    lines.join("\n")
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters
        .next()
        .map(|letter| letter.to_uppercase().to_string());
    first.unwrap_or_default() + letters.as_str()
}
