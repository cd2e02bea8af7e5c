//! A study: in short on the terminal, whole as CSV, Markdown and a page.

mod csv;
mod lines;
mod markdown;
mod page;
mod plots;
mod terminal;

pub use csv::{studied_csv, times_csv};
pub use markdown::studied_markdown;
pub use page::{studied_page, studied_plots};
pub use terminal::studied;

use crate::pipeline::Stage;

/// A stage as a heading has it.
fn heading(stage: Stage) -> &'static str {
    match stage {
        Stage::Cut => "before repair",
        Stage::Repaired => "after repair",
        Stage::Tuned => "after fine-tuning",
    }
}

/// `1 point`, `0.5 points`
fn points(number: f64) -> String {
    match number == 1.0 {
        true => "1 point".to_owned(),
        false => format!("{number} points"),
    }
}

/// `0.3`, `0.05`
fn level(keep: f64) -> String {
    format!("{keep}")
}
