//! One row per cell, for other programs.

use std::collections::BTreeMap;

use csv::WriterBuilder;

use super::level;
use crate::{
    pipeline::Stage,
    study::{Cell, ModelStudy, StudyReport},
};

const STAGES: [Stage; 3] = [Stage::Cut, Stage::Repaired, Stage::Tuned];

/// Every cell of every model; figures are percent of the test samples, empty where a stage was not
/// there or nothing has labels.
pub fn studied_csv(report: &StudyReport) -> String {
    let header = [
        "model",
        "criterion",
        "norm",
        "scale",
        "seed",
        "repair",
        "epochs",
        "keep",
        "neurons",
        "neurons_by_layer",
        "parameters",
        "bytes",
        "samples",
        "accuracy_original",
        "accuracy_cut",
        "accuracy_repaired",
        "accuracy_tuned",
        "same_cut",
        "same_repaired",
        "same_tuned",
    ];
    let rows = report.models.iter().flat_map(|model| {
        let cells = model.cells.iter();
        cells.map(|cell| row(model, cell))
    });
    table(&header, rows)
}

/// Times of every level of every model; not part of the results, since no two measurements are
/// alike.
pub fn times_csv(report: &StudyReport) -> String {
    let header = ["model", "keep", "seconds", "ratio", "low", "high"];
    let rows = report.models.iter().flat_map(|model| {
        model.times.iter().map(|time| {
            let (low, high) = time.interval.unzip();
            let number = |value: f64| format!("{value:.6}");
            let or_empty = |value: Option<f64>| value.map(number).unwrap_or_default();
            vec![
                model.name.clone(),
                level(time.keep),
                format!("{:.9}", time.seconds),
                number(time.ratio),
                or_empty(low),
                or_empty(high),
            ]
        })
    });
    table(&header, rows)
}

fn row(model: &ModelStudy, cell: &Cell) -> Vec<String> {
    let choice = &model.choices[cell.choice].choice;
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let part = &cell.part;
    let kept: Vec<String> = part.kept.iter().map(usize::to_string).collect();
    let mut row = vec![
        model.name.clone(),
        choice.criterion.clone(),
        text(&choice.norm),
        text(&choice.scale),
        choice
            .seed
            .map_or_else(String::new, |seed| seed.to_string()),
        cell.repair.clone(),
        cell.epochs.to_string(),
        level(cell.keep),
        part.kept.iter().sum::<usize>().to_string(),
        kept.join(" "),
        part.parameters.to_string(),
        part.bytes.to_string(),
        model.samples.to_string(),
    ];
    let percent = |count: Option<usize>| {
        let share = count.map(|count| 100.0 * count as f64 / model.samples.max(1) as f64);
        share.map_or_else(String::new, |share| format!("{share:.4}"))
    };
    let sum = |right: &Option<Vec<usize>>| right.as_ref().map(|right| right.iter().sum());
    row.push(percent(sum(&model.original.right)));
    let stages: BTreeMap<Stage, _> = part
        .stages
        .iter()
        .map(|at| (at.stage, &at.counts))
        .collect();
    let accuracy = STAGES.map(|stage| percent(stages.get(&stage).and_then(|at| sum(&at.right))));
    let same = STAGES.map(|stage| percent(stages.get(&stage).map(|at| at.same)));
    row.extend(accuracy.into_iter().chain(same));
    row
}

fn table(header: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut writer = WriterBuilder::new().from_writer(Vec::new());
    let written = writer.write_record(header).and_then(|()| {
        rows.into_iter()
            .try_for_each(|row| writer.write_record(row))
    });
    written.expect("memory takes every row, and all rows are as long as the header");
    let bytes = writer.into_inner().expect("memory takes every row");
    String::from_utf8(bytes).expect("text goes in")
}
