//! What may be typed: every flag, with its help.
//!
//! Parsing validates text and nothing else. Flags carry no default here, so that "given" and "not
//! given" stay apart: what a flag means when it is left out is the library's decision, and a flag
//! that would have no effect is refused ([`super::checks`]).

mod commands;
mod flags;
mod measure;
mod prune;
mod study;

use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};

use super::train::FinetuneArgs;

pub(super) use commands::{
    CacheAction, CacheArgs, CheckArgs, ClearArgs, CompletionsArgs, DemoArgs, FeaturesArgs,
    GradientArgs, InstallArgs, ManArgs, MergeArgs, RuntimeAction, RuntimeArgs, ScoreArgs,
    VerifyArgs,
};
pub(super) use flags::{
    DataFlags, EngineFlags, PreprocessFlags, SampleFlags, ScoreFlags, TestFlag,
};
pub(super) use measure::{BenchArgs, InspectArgs, PeakMemoryArgs};
pub(super) use prune::{PruneArgs, TransferFlags};
pub(super) use study::{CriteriaWord, StudyArgs};

const LONG_ABOUT: &str = "\
Makes pretrained ONNX classifiers smaller by removing the neurons of the classification head to which the class scores \
are least sensitive, and proves the result before it is put in place.

IN is read, OUT is written; neither Python nor a training framework is needed. With a subcommand, something else is \
done; see below.";

const AFTER_HELP: &str = "\
Examples:
  onnx-prune model.onnx small.onnx --keep 0.3 --data images/
  onnx-prune model.onnx small.onnx --norm 2 --keep features=0.3,fc1=512
  onnx-prune model.onnx small.onnx --max-drop 0.5 --data images/
  onnx-prune verify model.onnx small.onnx

Exit codes:
  0  done
  1  a check was not met: the result was not proved equal or misses its budget, and no output was left
  2  an error: bad flags, an unreadable model, bad data; no output was left
  75  an error that may pass, so that trying again makes sense: a full disk, a network that does not answer
  130  interrupted

Data goes to stdout; notes and progress go to stderr.";

/// Makes pretrained ONNX classifiers smaller by removing the neurons their class scores are least sensitive to
// `args_conflicts_with_subcommands` would read `onnx-prune --json score m.onnx` as two positionals.
#[derive(Debug, Parser)]
#[command(
    name = "onnx-prune",
    version,
    long_about = LONG_ABOUT,
    after_help = AFTER_HELP,
    subcommand_negates_reqs = true,
    disable_help_subcommand = true,
    max_term_width = 100
)]
pub(super) struct Cli {
    #[command(flatten)]
    pub(super) prune: PruneArgs,
    #[command(subcommand)]
    pub(super) command: Option<Command>,
    #[command(flatten)]
    pub(super) global: Global,
}

impl Cli {
    /// The model that is read, for commands that read one.
    pub(super) fn input(&self) -> Option<&Path> {
        match (&self.command, &self.prune) {
            (Some(Command::Score(args)), _) => Some(&args.input),
            (Some(Command::Features(args)), _) => Some(&args.input),
            (Some(Command::Gradient(args)), _) => Some(&args.input),
            (Some(Command::Finetune(args)), _) => Some(&args.input),
            (Some(Command::Verify(args)), _) => Some(&args.a),
            (Some(Command::Inspect(args)), _) => Some(&args.input),
            (Some(Command::Bench(args)), _) => args.models.first().map(PathBuf::as_path),
            (Some(Command::Study(args)), _) => args.models.first().map(PathBuf::as_path),
            (Some(Command::PeakMemory(args)), _) => Some(&args.input),
            (
                Some(
                    Command::Cache(_)
                    | Command::Completions(_)
                    | Command::Demo(_)
                    | Command::Man(_)
                    | Command::Merge(_)
                    | Command::Runtime(_),
                ),
                _,
            ) => None,
            (None, prune) => prune.files.as_ref().map(|files| files.input.as_path()),
        }
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Score the neurons of the head and cut nothing
    Score(ScoreArgs),
    /// Run the trunk over the samples, or a part of them, and keep what it computes
    Features(FeaturesArgs),
    /// Join the parts that `score --shard` or `features --shard` wrote on many machines
    Merge(MergeArgs),
    /// Write the graph that computes the gradients of the class scores
    Gradient(GradientArgs),
    /// Train the head on labels, or on the scores of another model
    Finetune(FinetuneArgs),
    /// Compare a model between the engines, or a pruned model with its original
    Verify(VerifyArgs),
    /// Show the head, what can be cut, and whether that is worth it
    Inspect(InspectArgs),
    /// Compare norms, criteria and levels: tables and a page with plots
    Study(StudyArgs),
    /// Measure how long models take on this machine, against each other
    Bench(BenchArgs),
    /// Show which ONNX Runtime is used and where it was looked for
    Runtime(RuntimeArgs),
    /// List what is kept of earlier runs, or remove it
    Cache(CacheArgs),
    /// Prune a small model that the program carries, to see what it does
    Demo(DemoArgs),
    /// Print what a shell needs to complete commands and flags
    Completions(CompletionsArgs),
    /// Print the manual page
    Man(ManArgs),
    /// Run a model once and say how much memory that took; `bench` starts this
    #[command(hide = true)]
    PeakMemory(PeakMemoryArgs),
}

/// Flags of every command.
#[derive(Debug, Args)]
pub(super) struct Global {
    /// Print one JSON document on stdout instead of a table
    #[arg(long, global = true, help_heading = "Options")]
    pub(super) json: bool,
    /// Print no progress and no notes on stderr
    #[arg(
        short,
        long,
        global = true,
        conflicts_with = "verbose",
        help_heading = "Options"
    )]
    pub(super) quiet: bool,
    /// Print each step and how long it took on stderr
    #[arg(short, long, global = true, help_heading = "Options")]
    pub(super) verbose: bool,
}
