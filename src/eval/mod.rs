//! What a pruned model is worth: proof that it computes what it should, accuracy, agreement.
//!
//! The proof ([`verify`]) runs the user's own model: the original with the dropped neurons'
//! contribution set to zero must give the same outputs as the pruned model, in every engine, and
//! the pruned model the same outputs in all of them. Nothing here decides what happens to the
//! output file; that is the pipeline's part.

mod compare;
mod decisions;
#[cfg(test)]
mod tests;
mod top;
mod verify;

pub use compare::{Comparison, Outputs, compare, outputs};
pub use top::{Accuracy, Agreement, TopClasses, accuracy, agreement};
pub use verify::{Case, Check, Scope, Skipped, Verification, verify};
