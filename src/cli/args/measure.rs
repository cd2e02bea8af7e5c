//! Flags of the commands that measure.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use onnx_prune::{
    engine::{EngineChoice, Precision, ProviderChoice},
    prune::Budget,
};

use super::{
    super::values,
    flags::{DataFlags, EngineFlags},
};

#[derive(Debug, Args)]
pub(in super::super) struct InspectArgs {
    /// The model
    #[arg(value_name = "IN")]
    pub(in super::super) input: PathBuf,
    /// The other model, with --diff
    #[arg(value_name = "OTHER", requires = "diff")]
    pub(in super::super) other: Option<PathBuf>,
    /// Show what differs between IN and OTHER; nothing is run
    #[arg(long, requires = "other")]
    pub(in super::super) diff: bool,
    /// How many neurons the cut on trial keeps, as for the main job [default: 0.5]
    #[arg(long, value_name = "R", value_parser = values::budget, allow_negative_numbers = true)]
    pub(in super::super) keep: Option<Budget>,
    /// Measure no times, only count
    #[arg(long)]
    pub(in super::super) no_time: bool,
    /// Samples per timed run [default: 1, or what the model insists on]
    #[arg(long, value_name = "N", value_parser = values::at_least_one, allow_negative_numbers = true)]
    pub(in super::super) batch: Option<usize>,
    #[command(flatten)]
    pub(in super::super) engine: EngineFlags,
}

#[derive(Debug, Args)]
pub(in super::super) struct BenchArgs {
    /// The models; the first is what the others are compared with
    #[arg(value_name = "MODEL", required = true)]
    pub(in super::super) models: Vec<PathBuf>,
    /// Measure the heads alone, too: from the features to the class scores
    #[arg(long)]
    pub(in super::super) head: bool,
    /// Samples per run: one number or several (1,8) [default: 1, or what the model insists on]
    #[arg(
        long,
        value_name = "N,...",
        value_delimiter = ',',
        value_parser = values::at_least_one,
        allow_negative_numbers = true
    )]
    pub(in super::super) batch: Vec<usize>,
    /// Measure so many rounds; six or more give an interval of the ratio
    #[arg(
        long,
        value_name = "N",
        value_parser = values::at_least_one,
        allow_negative_numbers = true,
        conflicts_with = "seconds"
    )]
    pub(in super::super) rounds: Option<usize>,
    /// Measure about so long, for each runtime, number of threads and batch [default: 10]
    #[arg(long, value_name = "S", value_parser = values::duration, allow_negative_numbers = true)]
    pub(in super::super) seconds: Option<Duration>,
    /// Write the tables to this file in Markdown
    #[arg(long, value_name = "FILE", help_heading = "Options")]
    pub(in super::super) markdown: Option<PathBuf>,
    /// Replace FILE if it exists
    #[arg(long, requires = "markdown", help_heading = "Options")]
    pub(in super::super) force: bool,
    #[command(flatten)]
    pub(in super::super) data: DataFlags,
    #[command(flatten)]
    pub(in super::super) engine: BenchEngineFlags,
}

/// Flags about what computes, where several are measured one after the other.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Engine")]
pub(in super::super) struct BenchEngineFlags {
    /// What runs the models: auto (ONNX Runtime where found, else tract), tract, ort, or several
    /// (ort,tract) [default: auto]
    #[arg(
        long,
        value_name = "ENGINE,...",
        value_delimiter = ',',
        visible_alias = "engine"
    )]
    pub(in super::super) runtime: Vec<EngineChoice>,
    /// Where ONNX Runtime computes: auto, cpu, cuda or cuda:1 [default: auto]
    #[arg(long, value_name = "PROVIDER")]
    pub(in super::super) provider: Option<ProviderChoice>,
    /// How exact products of f32 are on a CUDA device: fp32, or tf32 (rounded to 10 bits first, and
    /// faster) [default: fp32]
    #[arg(long, value_name = "PRECISION")]
    pub(in super::super) precision: Option<Precision>,
    /// Threads that compute: one number or several (1,2) [default: one per core]
    #[arg(
        long,
        value_name = "N,...",
        value_delimiter = ',',
        value_parser = values::at_least_one,
        allow_negative_numbers = true
    )]
    pub(in super::super) threads: Vec<usize>,
    /// The ONNX Runtime library to use, instead of looking for one
    #[arg(long, value_name = "FILE")]
    pub(in super::super) ort_lib: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(in super::super) struct PeakMemoryArgs {
    /// The model
    #[arg(value_name = "IN")]
    pub(in super::super) input: PathBuf,
    /// Samples per run [default: by the size of a sample]
    #[arg(long, value_name = "N", value_parser = values::at_least_one, allow_negative_numbers = true)]
    pub(in super::super) batch: Option<usize>,
    #[command(flatten)]
    pub(in super::super) engine: EngineFlags,
}
