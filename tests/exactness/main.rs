//! The pruned model equals the original without the dropped neurons' contribution, and a model
//! without the channels nobody reads equals the one with them: networks by name, and random ones,
//! in both engines.

#![expect(
    clippy::unwrap_used,
    reason = "a panic is the failure report of a test"
)]

mod heads;
mod nets;
mod provider;
mod random_trunk;
mod reorder;
mod trunk;
