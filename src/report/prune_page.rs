//! A pruning run as a page.

use super::{
    numbers::count,
    page::{Axis, Cell, Mark, Page, Plot, Point, Rule, Series, Style, Table, Unit, entries},
    prune::{PROOF, certified, ending, proof_rows, size_rows, worth_rows},
    repair,
};
use crate::{
    finetune::Epoch,
    pipeline::{PruneReport, SearchReport, TrainingReport},
};

/// One HTML file with what the run did; `command` is what made it.
pub fn pruned_page(report: &PruneReport, command: &str) -> String {
    let lead = format!("{}, {}", report.input.path.display(), ending(report));
    let mut page = Page::new("Pruned model", &lead);
    page.section("In short");
    page.add(&numbers(&["", "before", "after", ""], size_rows(report)));
    if let Some((mut header, rows)) = worth_rows(report) {
        // The text report has no room for the last one.
        header.resize(rows.iter().map(Vec::len).max().unwrap_or(0), "trained");
        page.add(&numbers(&header, rows));
    }
    if let Some(found) = &report.certificate {
        page.say(&certified(found));
    }
    report.notes.iter().for_each(|note| page.say(note));
    let mut plots: Vec<Plot> = report.search.iter().map(searched).collect();
    plots.extend(report.training.iter().map(trained));
    if !plots.is_empty() {
        page.section("How it went");
        page.plots(&plots);
    }
    let repaired = &report.repair.layers;
    if !repaired.is_empty() {
        page.section("Repair");
        page.say("Difference from the original on samples that were not fitted, as a share of its standard deviation.");
        page.add(&numbers(
            &["", "cut", "repaired", ""],
            repair::rows(repaired),
        ));
        repair::remarks(repaired)
            .iter()
            .for_each(|remark| page.say(remark));
    }
    if let Some(verification) = &report.verification {
        page.section("Proof");
        page.say(&format!(
            "On {} samples; differences relative to the largest output.",
            count(verification.samples)
        ));
        page.add(&numbers(&PROOF, proof_rows(verification)));
    }
    page.section("How it was made");
    made(&mut page, report, command);
    page.html()
}

fn numbers(header: &[&str], rows: Vec<Vec<String>>) -> String {
    let rows = rows.into_iter().map(|row| {
        let cells = row.into_iter().enumerate().map(|(at, text)| match at {
            0 => Cell::word(text),
            _ => Cell::number(text),
        });
        cells.collect()
    });
    let header = header.iter().enumerate().map(|(at, title)| match at {
        0 => Cell::word(*title),
        _ => Cell::number(*title),
    });
    Table {
        header: header.collect(),
        rows: rows.collect(),
    }
    .html()
}

/// Every level that a search looked at.
fn searched(report: &SearchReport) -> Plot {
    let mut tried: Vec<_> = report.tried.iter().collect();
    tried.sort_by(|one, other| other.keep.total_cmp(&one.keep));
    let points = tried.into_iter().map(|tried| {
        let (y, text) = match (tried.drop, tried.error) {
            (Some(drop), Some(error)) => (drop, format!("{drop:.2} ± {error:.2}")),
            _ => (
                tried.bytes as f64,
                count(usize::try_from(tried.bytes).unwrap_or(usize::MAX)),
            ),
        };
        let verdict = if tried.met { "within" } else { "over" };
        Point {
            x: tried.keep,
            y,
            range: tried.error.map(|error| (y - error, y + error)),
            label: format!("keep {}: {text}, {verdict} the budget", tried.keep),
            value: text,
            ringed: tried.keep == report.keep,
        }
    });
    let limit = &report.limit;
    let (title, unit, most) = match (limit.max_drop, limit.max_bytes) {
        (Some(most), _) => ("points lost", Unit::Plain, Some(most)),
        (None, most) => ("bytes", Unit::Bytes, most.map(|most| most as f64)),
    };
    Plot {
        caption: "Levels that were looked at; the one taken is ringed".to_owned(),
        x: Axis::logarithmic("share of neurons kept", Unit::Plain).falling(),
        y: Axis::linear(title, unit),
        series: vec![Series {
            label: title.to_owned(),
            name: None,
            style: Style::default(),
            line: true,
            points: points.collect(),
        }],
        rules: most
            .map(|most| Rule::Across(most, "budget".to_owned()))
            .into_iter()
            .collect(),
        front: Vec::new(),
    }
}

/// Loss by epoch.
fn trained(report: &TrainingReport) -> Plot {
    type Loss = fn(&Epoch) -> Option<f64>;
    let losses: [(&str, Mark, Loss); 2] = [
        ("training", Mark::Circle, |epoch| epoch.loss),
        ("validation", Mark::Square, |epoch| epoch.validation_loss),
    ];
    let series = losses
        .into_iter()
        .enumerate()
        .map(|(colour, (label, mark, loss))| {
            let points = report.history.iter().filter_map(|epoch| {
                let loss = loss(epoch)?;
                Some(Point {
                    x: epoch.epoch as f64,
                    y: loss,
                    range: None,
                    value: format!("{loss:.4}"),
                    label: format!("epoch {}: {label} loss {loss:.4}", epoch.epoch),
                    ringed: epoch.epoch == report.best,
                })
            });
            Series {
                label: label.to_owned(),
                name: None,
                style: Style {
                    colour,
                    dash: colour,
                    mark,
                    faint: false,
                },
                line: true,
                points: points.collect(),
            }
        });
    let ticks: Vec<f64> = report
        .history
        .iter()
        .map(|epoch| epoch.epoch as f64)
        .collect();
    Plot {
        caption: "Loss by epoch; the epoch taken is ringed".to_owned(),
        x: Axis::linear("epoch", Unit::Plain).at(&ticks),
        y: Axis::linear("loss", Unit::Plain),
        series: series.collect(),
        rules: Vec::new(),
        front: Vec::new(),
    }
}

fn made(page: &mut Page, report: &PruneReport, command: &str) {
    page.command(command);
    let score = &report.score;
    let mut all = vec![
        (
            "program".to_owned(),
            concat!("onnx-prune ", env!("CARGO_PKG_VERSION")).to_owned(),
        ),
        ("engine".to_owned(), report.engine.to_string()),
        ("seed".to_owned(), report.seed.to_string()),
        ("criterion".to_owned(), score.criterion.to_string()),
    ];
    let norm = score.norm.map(|norm| ("norm".to_owned(), norm.to_string()));
    all.extend(norm);
    let data = &report.data;
    let hash = data.fingerprint.as_ref();
    let hash = hash.map_or_else(String::new, |hash| format!("; SHA-256 {hash}"));
    all.push(("samples".to_owned(), format!("{}{hash}", data.description)));
    if let Some(test) = &data.test {
        let text = format!("{}; SHA-256 {}", test.description, test.fingerprint);
        all.push(("test samples".to_owned(), text));
    }
    page.add(&entries(&all));
}
