//! What a pruned model is worth: proof that it computes what it should, accuracy, agreement.
//!
//! The proof ([`verify`]) runs the user's own model: the original with the dropped neurons'
//! contribution set to zero must give the same outputs as the pruned model, in every engine, and
//! the pruned model the same outputs in all of them. Nothing here decides what happens to the
//! output file; that is the pipeline's part. [`latency`] measures models against each other.

mod compare;
mod cuts;
mod decisions;
mod latency;
mod scores;
mod statistics;
#[cfg(test)]
mod tests;
mod top;
mod verify;

pub use compare::{Comparison, Outputs, compare, outputs};
pub use cuts::{CutHead, Cuts, HeldFeatures, first_layer};
pub use latency::{
    Clock, Effort, Latencies, Latency, Ratio, Schedule, Subject, WallClock, clearly_fastest,
    latency,
};
pub use scores::{ClassScores, HeadModel, scores, scores_of_all};
pub use statistics::{CONFIDENCE, FEWEST, Interval, Summary, median, median_interval};
pub use top::{Accuracy, Agreement, TopClasses, accuracy, agreement};
pub use verify::{Case, Check, Scope, Skipped, Verification, verify};
