//! What a run found, for people and for programs: short tables, and one JSON document.
//!
//! Reports are made in [`crate::pipeline`] and [`crate::study`]; this module only writes them down. It prints nothing:
//! what becomes of the text is the caller's part.

mod bench;
mod cache;
mod finetune;
mod form;
mod gradient;
mod inspect;
mod left_out;
mod numbers;
mod page;
mod part;
mod prune;
mod prune_page;
mod repair;
mod runtime;
mod score;
mod score_page;
mod speed;
mod study;
mod table;
mod timings;
mod verify;

use serde::Serialize;

pub use bench::{benched, benched_markdown};
pub use cache::{cached, cleared};
pub use finetune::finetuned;
pub use gradient::differentiated;
pub use inspect::{compared, inspected};
pub use part::{merged_features, parted};
pub use prune::pruned;
pub use prune_page::pruned_page;
pub use runtime::runtimes;
pub use score::scored;
pub use score_page::scored_page;
pub use study::{studied, studied_csv, studied_markdown, studied_page, studied_plots, times_csv};
pub use timings::timed;
pub use verify::verified;

/// The report as one JSON document, keys in the order of the fields; what is not a finite number is
/// `null`.
///
/// # Panics
/// When `report` is no report of [`crate::pipeline`] but a type that JSON cannot hold.
pub fn json<T: Serialize>(report: &T) -> String {
    serde_json::to_string_pretty(report).expect("reports hold strings, numbers and lists of these")
}
