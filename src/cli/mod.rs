//! The command line: flags, commands, messages, exit codes.
//!
//! [`args`] says what may be typed, [`checks`] refuses flags that would have no effect, and each
//! command is one file that turns flags into options of [`onnx_prune::pipeline`] and prints the
//! report. Nothing is computed here.

mod args;
mod bench;
mod cache;
mod checks;
mod demo;
mod failure;
mod features;
mod finetune;
mod gradient;
mod inspect;
mod interrupt;
mod merge;
mod options;
mod output;
mod progress;
mod prune;
mod runtime;
mod score;
mod shell;
mod study;
mod timings;
mod train;
mod values;
mod verify;

use std::{ffi::OsString, process::ExitCode};

use clap::{CommandFactory, FromArgMatches};
use onnx_prune::Result;

use args::{Cli, Command};

/// How a command ended that met no error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// Everything asked for was done.
    Done,
    /// A check was not met; nothing was left behind.
    NotMet,
}

impl Outcome {
    fn of(passed: bool) -> Self {
        if passed { Self::Done } else { Self::NotMet }
    }
}

/// Runs the program on the arguments of this process.
pub(crate) fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let cli = match parse(&arguments) {
        Ok(cli) => cli,
        Err(error) => return failure::usage(&error, &arguments),
    };
    interrupt::watch();
    match run(&cli) {
        // A run that was too far on to stop has done its work.
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::NotMet) => ExitCode::from(1),
        Err(_) if interrupt::seen() => failure::interrupted(),
        Err(error) => failure::report(&error, cli.input()),
    }
}

fn parse(arguments: &[OsString]) -> Result<Cli, clap::Error> {
    let matches = Cli::command().try_get_matches_from(arguments)?;
    checks::nothing_before_the_subcommand(&matches)?;
    Cli::from_arg_matches(&matches)
}

fn run(cli: &Cli) -> Result<Outcome> {
    match &cli.command {
        Some(Command::Score(args)) => score::run(args, &cli.global),
        Some(Command::Features(args)) => features::run(args, &cli.global),
        Some(Command::Merge(args)) => merge::run(args, &cli.global),
        Some(Command::Gradient(args)) => gradient::run(args, &cli.global),
        Some(Command::Finetune(args)) => finetune::run(args, &cli.global),
        Some(Command::Verify(args)) => verify::run(args, &cli.global),
        Some(Command::Inspect(args)) => inspect::run(args, &cli.global),
        Some(Command::Bench(args)) => bench::run(args, &cli.global),
        Some(Command::Study(args)) => study::run(args, &cli.global),
        Some(Command::PeakMemory(args)) => bench::peak_memory(args, &cli.global),
        Some(Command::Runtime(args)) => runtime::run(args, &cli.global),
        Some(Command::Cache(args)) => cache::run(args, &cli.global),
        Some(Command::Demo(args)) => demo::run(args, &cli.global),
        Some(Command::Completions(args)) => shell::completions(args, &cli.global),
        Some(Command::Man(args)) => shell::man(args, &cli.global),
        None => prune::run(&cli.prune, &cli.global),
    }
}
