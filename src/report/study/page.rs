//! The study as a page.

use super::{
    super::{
        numbers::{count, megabytes, share},
        page::{Cell, Page, Table, entries, escaped},
    },
    level, markdown,
    plots::{self, Cost},
    points,
    terminal::recommended,
};
use crate::{
    pipeline::Stage,
    study::{ModelStudy, StudyReport},
};

/// Most classes whose changes are shown.
const CLASSES: usize = 20;

/// Changes in points from which a cell of the table is coloured, and how.
const GAINS: [(f64, &str); 3] = [(5.0, "heat g3"), (2.0, "heat g2"), (0.5, "heat g1")];
const LOSSES: [(f64, &str); 4] = [
    (15.0, "heat w4"),
    (5.0, "heat w3"),
    (2.0, "heat w2"),
    (0.5, "heat w1"),
];

/// One HTML file with all plots and tables; `command` is what made it.
pub fn studied_page(report: &StudyReport, command: &str) -> String {
    let names: Vec<&str> = report
        .models
        .iter()
        .map(|model| model.name.as_str())
        .collect();
    let cells: usize = report.models.iter().map(|model| model.cells.len()).sum();
    let lead = format!(
        "Which norm, how much, for which network: {} smaller models of {} on the same samples.",
        count(cells),
        listed(&names)
    );
    let mut page = Page::new("Pruning study", &lead);
    page.section("In short");
    in_short(&mut page, report);
    for model in &report.models {
        page.section(&model.name);
        of_model(&mut page, model, report);
    }
    page.section("How it was made");
    made(&mut page, report, command);
    page.html()
}

/// The plot of each model that says most, as files of their own: names and text.
pub fn studied_plots(report: &StudyReport) -> Vec<(String, String)> {
    let plots = report.models.iter().map(|model| {
        let stage = model.stages().last().copied().unwrap_or(Stage::Cut);
        let plot = plots::by_level(model, stage);
        let name = model.name.replace(['/', '\\'], "-");
        (format!("{name}-accuracy.svg"), plot.svg())
    });
    plots.collect()
}

fn listed(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}

fn in_short(page: &mut Page, report: &StudyReport) {
    page.say(&format!(
        "The smallest model of each network that loses at most {}. It was chosen by the figures shown, on the same test samples; other samples will like it a little less.",
        points(report.max_drop)
    ));
    let header = [
        "model", "original", "choice", "keep", "left", "change", "size",
    ];
    let rows = report.models.iter().map(|model| {
        let mut row = vec![
            Cell::word(&model.name),
            Cell::number(format!("{:.2} %", model.original_percent())),
        ];
        match &model.best {
            None => row.push(Cell::word("no cell is within the limit")),
            Some(best) => {
                let cell = &model.cells[best.cell];
                row.extend([
                    Cell::word(&model.choices[cell.choice].label),
                    Cell::number(level(cell.keep)),
                    Cell::number(format!("{:.2} %", best.percent)),
                    Cell::number(format!("{:+.2}", 0.0 - best.drop)),
                    Cell::number(share(cell.part.bytes, model.bytes)),
                ]);
            }
        }
        row
    });
    page.add(&table(&header, rows.collect()));
    page.heading("Local sensitivity: the best norm of each level");
    page.add(&norms(report));
    if let Some(model) = report.models.first() {
        let share = model.original_percent() / 100.0;
        let error = 100.0 * (share * (1.0 - share) / model.samples.max(1) as f64).sqrt();
        page.say(&format!(
            "On {} samples two figures differ by chance by about {:.1} points (two standard errors of a share like the original's); smaller differences say little.",
            count(model.samples),
            2.0 * error
        ));
    }
}

/// The best norm of each model and level, with what it leaves.
fn norms(report: &StudyReport) -> String {
    let mut header = vec![Cell::word("model")];
    header.extend(report.keeps.iter().map(|&keep| Cell::word(level(keep))));
    let rows = report.models.iter().map(|model| {
        let mut row = vec![Cell::word(&model.name)];
        row.extend(model.winners.iter().map(|winner| {
            let cell = &model.cells[winner.lsa.unwrap_or(winner.cell)];
            let choice = &model.choices[cell.choice].choice;
            match (choice.criterion.as_str(), &choice.norm) {
                ("lsa", Some(norm)) => {
                    Cell::word(format!("{norm}: {:.2} %", model.output_percent(cell)))
                }
                _ => Cell::word(""),
            }
        }));
        row
    });
    Table {
        header,
        rows: rows.collect(),
    }
    .html()
}

fn winners(model: &ModelStudy) -> String {
    let header = [
        "keep",
        "best choice",
        "left",
        "best local sensitivity",
        "left",
        "size",
    ];
    let rows = model.winners.iter().map(|winner| {
        let cell = &model.cells[winner.cell];
        let lsa = winner.lsa.unwrap_or(winner.cell);
        let lsa = &model.cells[lsa];
        let is_lsa = model.choices[lsa.choice].choice.criterion == "lsa";
        let (label, percent) = match is_lsa {
            true => (
                model.choices[lsa.choice].label.clone(),
                format!("{:.2} %", model.output_percent(lsa)),
            ),
            false => Default::default(),
        };
        vec![
            Cell::word(level(winner.keep)),
            Cell::word(&model.choices[cell.choice].label),
            Cell::number(format!("{:.2} %", winner.percent)),
            Cell::word(label),
            Cell::number(percent),
            Cell::number(share(cell.part.bytes, model.bytes)),
        ]
    });
    table(&header, rows.collect())
}

fn of_model(page: &mut Page, model: &ModelStudy, report: &StudyReport) {
    page.say(&markdown::about(model));
    page.add(&format!(
        "<p class=\"callout\">{}</p>",
        escaped(&recommended(model, report.max_drop))
    ));
    model.notes.iter().for_each(|note| page.say(note));
    page.heading("The best choice of each level");
    page.add(&winners(model));
    let stages = model.stages();
    let stages: Vec<_> = stages
        .into_iter()
        .map(|stage| plots::by_level(model, stage))
        .collect();
    page.heading(&format!("What is left at each level: {}", model.metric()));
    page.plots(&stages);
    page.heading("What it costs");
    page.plots(&[
        plots::against(model, Cost::Bytes),
        plots::against(model, Cost::Time),
    ]);
    page.heading("Scores, and how far the norms agree");
    page.plots(&plots::curves(model));
    page.plots(&plots::overlaps(model));
    by_class(page, model);
}

/// Changes by class at each level, of one choice.
fn by_class(page: &mut Page, model: &ModelStudy) {
    let best = model.best.as_ref().map(|best| best.cell);
    let shown = best.or_else(|| model.winners.first().map(|winner| winner.cell));
    let (Some(shown), Some(samples), Some(original)) =
        (shown, &model.samples_by_class, &model.original.right)
    else {
        return;
    };
    let shown = &model.cells[shown];
    let cells = model.cells.iter();
    let cells = cells.filter(|cell| cell.choice == shown.choice && cell.repair == shown.repair);
    let cells: Vec<_> = cells.collect();
    let change = |cell: &crate::study::Cell, class: usize| -> Option<f64> {
        let right = cell.part.stages.last()?.counts.right.as_ref()?;
        let change = right[class] as f64 - original[class] as f64;
        Some(100.0 * change / samples[class].max(1) as f64)
    };
    let mut classes: Vec<usize> = (0..samples.len())
        .filter(|&class| samples[class] > 0)
        .collect();
    if classes.len() > CLASSES {
        let size = |class: &usize| change(shown, *class).unwrap_or_default().abs();
        classes.sort_by(|one, other| size(other).total_cmp(&size(one)));
        classes.truncate(CLASSES);
    }
    page.heading(&format!(
        "Change by class, in points: {}",
        model.choices[shown.choice].label
    ));
    let mut header = vec![Cell::word("class"), Cell::number("original")];
    header.extend(cells.iter().map(|cell| Cell::number(level(cell.keep))));
    let rows = classes.into_iter().map(|class| {
        let share = 100.0 * original[class] as f64 / samples[class] as f64;
        let mut row = vec![
            Cell::word(class_name(model, class)),
            Cell::number(format!("{share:.1} %")),
        ];
        row.extend(
            cells
                .iter()
                .map(|cell| change(cell, class).map_or(Cell::number(""), heat)),
        );
        row
    });
    let rows: Vec<Vec<Cell>> = rows.collect();
    if rows.len() < samples.len() {
        page.say(&format!("The {} classes that change most.", rows.len()));
    }
    page.add(&Table { header, rows }.html());
}

fn class_name(model: &ModelStudy, class: usize) -> String {
    let names = model.class_names.as_ref();
    let name = names.and_then(|names| names.get(class));
    name.map_or_else(|| format!("class {class}"), String::clone)
}

fn heat(change: f64) -> Cell {
    let found = match change >= 0.0 {
        true => GAINS.iter().find(|(from, _)| change >= *from),
        false => LOSSES.iter().find(|(from, _)| -change >= *from),
    };
    let class = found.map_or("heat", |(_, class)| class);
    let text = match format!("{change:+.1}").as_str() {
        "+0.0" | "-0.0" => "0".to_owned(),
        text => text.to_owned(),
    };
    Cell::number(text).with(class)
}

fn made(page: &mut Page, report: &StudyReport, command: &str) {
    page.command(command);
    let mut all = vec![
        (
            "program".to_owned(),
            format!("onnx-prune {}", report.version),
        ),
        ("seed".to_owned(), report.seed.to_string()),
    ];
    for model in &report.models {
        let engine = &model.engine;
        all.push((
            model.name.clone(),
            format!(
                "{}, {}, SHA-256 {}; {} {} on {}",
                model.path.display(),
                megabytes(model.bytes),
                model.sha256,
                engine.name,
                engine.version,
                engine.provider
            ),
        ));
    }
    if let Some(model) = report.models.first() {
        let data = &model.data;
        let hash = data.fingerprint.clone().unwrap_or_default();
        all.push((
            "samples".to_owned(),
            format!("{}; SHA-256 {hash}", data.description),
        ));
        if let Some(test) = &data.test {
            let text = format!("{}; SHA-256 {}", test.description, test.fingerprint);
            all.push(("test samples".to_owned(), text));
        }
        all.push((
            "scored and solved on".to_owned(),
            format!("{} samples", count(model.calibration_samples)),
        ));
        all.push((
            "figures of".to_owned(),
            format!("{} samples that served nothing else", count(model.samples)),
        ));
        if !model.times.is_empty() {
            let text = "whole models, one sample at a time, in interleaved rounds on the machine that made this page; which neurons stay makes hardly a difference, so each level was timed once";
            all.push(("times".to_owned(), text.to_owned()));
        }
    }
    if let Some(training) = &report.training {
        let options = serde_json::to_string(training).unwrap_or_default();
        all.push(("training".to_owned(), options));
    }
    page.add(&entries(&all));
}

fn table(header: &[&str], rows: Vec<Vec<Cell>>) -> String {
    let numbers = ["original", "keep", "left", "change", "size"];
    let header =
        header
            .iter()
            .enumerate()
            .map(|(at, &title)| match at > 0 && numbers.contains(&title) {
                true => Cell::number(title),
                false => Cell::word(title),
            });
    Table {
        header: header.collect(),
        rows,
    }
    .html()
}
