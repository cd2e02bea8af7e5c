//! The program as its users meet it: arguments in, streams, files and exit codes out.

mod bad_input;
mod completeness;
mod flags;
mod help;
mod jobs;
mod support;
