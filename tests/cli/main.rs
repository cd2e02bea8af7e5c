//! The program as its users meet it: arguments in, streams, files and exit codes out.

#![expect(
    clippy::unwrap_used,
    reason = "a panic is the failure report of a test"
)]

mod agreement;
mod bad_input;
mod budget;
mod cache;
mod completeness;
mod enough;
mod exporters;
mod flags;
mod formats;
mod forms;
mod help;
mod inspecting;
mod jobs;
mod measuring;
mod poor_data;
mod sharding;
mod shell;
mod studying;
mod support;
mod training;
