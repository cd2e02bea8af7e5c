//! Scores as a page.

use super::{
    numbers::count,
    page::{Axis, Cell, Mark, Page, Plot, Point, Series, Style, Table, Unit, entries},
};
use crate::{pipeline::ScoreReport, prune::LayerScores};

/// Points of a curve, and neurons listed at either end.
const POINTS: usize = 60;
const LISTED: usize = 8;

/// One HTML file with the scores of each layer; `command` is what made it.
pub fn scored_page(report: &ScoreReport, command: &str) -> String {
    let lead = format!(
        "{}, by {}",
        report.origin.input.display(),
        report.score.criterion
    );
    let mut page = Page::new("Scores of neurons", &lead);
    report.origin.notes.iter().for_each(|note| page.say(note));
    let layers = &report.scores.layers;
    page.section("Sorted scores");
    page.plots(&layers.iter().map(curve).collect::<Vec<_>>());
    page.section("Both ends");
    for layer in layers {
        page.heading(&format!("{}: {} neurons", layer.name, count(layer.width())));
        page.add(&ends(layer));
    }
    page.section("How it was made");
    page.command(command);
    let score = &report.score;
    let optional = |name: &str, value: Option<String>| value.map(|value| (name.to_owned(), value));
    let mut all = vec![
        (
            "program".to_owned(),
            concat!("onnx-prune ", env!("CARGO_PKG_VERSION")).to_owned(),
        ),
        ("engine".to_owned(), report.origin.engine.to_string()),
        ("seed".to_owned(), report.origin.seed.to_string()),
        (
            "samples".to_owned(),
            format!(
                "{}; {} scored",
                report.origin.data.description,
                count(score.samples)
            ),
        ),
    ];
    all.extend(optional(
        "norm over samples",
        score.norm.map(|norm| norm.to_string()),
    ));
    all.extend(optional(
        "norm over classes",
        score.over_classes.map(|norm| norm.to_string()),
    ));
    let notes = score
        .notes
        .iter()
        .map(|note| ("note".to_owned(), note.clone()));
    all.extend(notes);
    page.add(&entries(&all));
    page.html()
}

/// Neurons, the most worth keeping first, with their scores.
fn ranked(layer: &LayerScores) -> Vec<(usize, f64)> {
    let ranking = layer.ranked_units().concat();
    ranking
        .into_iter()
        .map(|neuron| (neuron, layer.values[neuron]))
        .collect()
}

fn curve(layer: &LayerScores) -> Plot {
    let ranked = ranked(layer);
    let largest = ranked.iter().map(|(_, score)| *score).fold(0.0, f64::max);
    let floor = if largest > 0.0 { 1e-6 * largest } else { 1.0 };
    let last = ranked.len().saturating_sub(1);
    let count = ranked.len().min(POINTS);
    let points = (0..count).map(|point| {
        let rank = point * last / (count - 1).max(1);
        let (neuron, score) = ranked[rank];
        Point {
            x: (rank + 1) as f64,
            // What is 0 has no place on this axis.
            y: score.max(floor),
            range: None,
            value: format!("{score:.3e}"),
            label: format!("rank {}: neuron {neuron}, {score:.3e}", rank + 1),
            ringed: false,
        }
    });
    Plot {
        caption: format!("{}: scores, sorted", layer.name),
        x: Axis::linear("rank", Unit::Plain),
        y: Axis::logarithmic("score", Unit::Plain),
        series: vec![Series {
            label: layer.name.clone(),
            name: None,
            style: Style {
                mark: Mark::None,
                ..Style::default()
            },
            line: true,
            points: points.collect(),
        }],
        rules: Vec::new(),
        front: Vec::new(),
    }
}

/// The first and the last of the ranking.
fn ends(layer: &LayerScores) -> String {
    let ranked = ranked(layer);
    let first = ranked.iter().take(LISTED);
    let last = ranked.iter().rev().take(LISTED);
    let rows = first.zip(last).enumerate().map(|(at, (first, last))| {
        let cells = [first, last].into_iter().flat_map(|(neuron, score)| {
            [
                Cell::number(neuron.to_string()),
                Cell::number(format!("{score:.3e}")),
            ]
        });
        [Cell::word((at + 1).to_string())]
            .into_iter()
            .chain(cells)
            .collect()
    });
    let header = ["", "stays longest", "score", "goes first", "score"];
    Table {
        header: header.map(Cell::number).into(),
        rows: rows.collect(),
    }
    .html()
}
