//! The best of each level, in short.

use super::{
    super::{numbers::share, table},
    level, points,
};
use crate::study::{ModelStudy, StudyReport};

/// One table per model: which choice wins at which level.
pub fn studied(report: &StudyReport) -> String {
    let blocks = report.models.iter().map(|model| {
        let lines = [
            title(model),
            winners(model),
            recommended(model, report.max_drop),
        ];
        lines.join("\n")
    });
    blocks.collect::<Vec<_>>().join("\n\n")
}

fn title(model: &ModelStudy) -> String {
    format!(
        "{}: {} {:.2} % on {} samples, {} cells",
        model.name,
        model.metric(),
        model.original_percent(),
        model.samples,
        model.cells.len()
    )
}

fn winners(model: &ModelStudy) -> String {
    let header = ["keep", "best choice", "%", "bytes", "best lsa", "%"];
    let rows = model.winners.iter().map(|winner| {
        let cell = &model.cells[winner.cell];
        let lsa = winner.lsa.map(|at| &model.cells[at]);
        vec![
            level(winner.keep),
            model.choices[cell.choice].label.clone(),
            format!("{:.2}", winner.percent),
            share(cell.part.bytes, model.bytes),
            lsa.map_or_else(String::new, |cell| model.choices[cell.choice].label.clone()),
            lsa.map_or_else(String::new, |cell| {
                format!("{:.2}", model.output_percent(cell))
            }),
        ]
    });
    table::words(&header, rows.collect())
}

/// `best: lsa, p = inf, residual at 0.3, 0.52 points below the original at 10.6 % of its bytes`
pub(super) fn recommended(model: &ModelStudy, max_drop: f64) -> String {
    let Some(best) = &model.best else {
        return format!("best: no cell loses at most {}", points(max_drop));
    };
    let cell = &model.cells[best.cell];
    let written = model
        .exported
        .as_ref()
        .map(|exported| match exported.passed {
            true => format!("; wrote {}", exported.path.display()),
            false => "; its proof failed, so it was not written".to_owned(),
        });
    let change = match best.drop >= 0.0 {
        true => format!("{:.2} points below", best.drop),
        false => format!("{:.2} points above", -best.drop),
    };
    format!(
        "best: {} at {}, {change} the original at {} of its bytes{}",
        model.choices[cell.choice].label,
        level(cell.keep),
        share(cell.part.bytes, model.bytes),
        written.unwrap_or_default()
    )
}
