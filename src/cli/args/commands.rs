//! Flags of the commands that have few of their own.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use clap_complete::Shell;
use onnx_prune::{engine::ProviderChoice, pipeline::BatchSize, sensitivity::Of, shards::Shard};

use super::{
    super::{timings::TimingFlags, values},
    flags::{DataFlags, EngineFlags, SampleFlags, ScoreFlags},
};

#[derive(Debug, Args)]
pub(in super::super) struct ScoreArgs {
    /// The model whose neurons are scored
    #[arg(value_name = "IN")]
    pub(in super::super) input: PathBuf,
    /// Write the scores to this file as JSON; with --shard, the part to this folder
    #[arg(short, long, value_name = "FILE|DIR")]
    pub(in super::super) output: Option<PathBuf>,
    /// Add up part I of N of the samples, for `merge`: I/N with I from 0 on, or auto or auto/N in an
    /// array of jobs (Slurm, Kubernetes, AWS Batch)
    #[arg(long, value_name = "I/N", value_parser = values::own::<Shard>, requires = "output", allow_negative_numbers = true)]
    pub(in super::super) shard: Option<Shard>,
    #[command(flatten)]
    pub(in super::super) score: ScoreFlags,
    #[command(flatten)]
    pub(in super::super) samples: SampleFlags,
    #[command(flatten)]
    pub(in super::super) data: DataFlags,
    #[command(flatten)]
    pub(in super::super) engine: EngineFlags,
    /// Write a page with plots of the scores to this file
    #[arg(long, value_name = "FILE")]
    pub(in super::super) html: Option<PathBuf>,
    /// Replace FILE, or the part of another run, if it exists
    #[arg(long, help_heading = "Options")]
    pub(in super::super) force: bool,
    #[command(flatten)]
    pub(in super::super) timings: TimingFlags,
}

#[derive(Debug, Args)]
pub(in super::super) struct FeaturesArgs {
    /// The model whose trunk is run
    #[arg(value_name = "IN")]
    pub(in super::super) input: PathBuf,
    /// Write the part to this folder
    #[arg(short, long, value_name = "DIR")]
    pub(in super::super) output: PathBuf,
    /// Take part I of N of the samples: I/N with I from 0 on, or auto or auto/N in an array of jobs
    /// (Slurm, Kubernetes, AWS Batch) [default: 0/1, all of them]
    #[arg(long, value_name = "I/N", value_parser = values::own::<Shard>, allow_negative_numbers = true)]
    pub(in super::super) shard: Option<Shard>,
    /// Samples per run of the model, or auto: as many as fit into free memory [default: by the size
    /// of a sample]
    #[arg(long, value_name = "N", value_parser = values::batch, allow_negative_numbers = true, help_heading = "Data")]
    pub(in super::super) batch: Option<BatchSize>,
    #[command(flatten)]
    pub(in super::super) data: DataFlags,
    #[command(flatten)]
    pub(in super::super) engine: EngineFlags,
    /// Replace the part of another run
    #[arg(long, help_heading = "Options")]
    pub(in super::super) force: bool,
}

#[derive(Debug, Args)]
pub(in super::super) struct MergeArgs {
    /// The folder with the parts that `score --shard` or `features --shard` wrote
    #[arg(value_name = "DIR")]
    pub(in super::super) folder: PathBuf,
    /// Write scores to this file as JSON; add features to the cache in this folder (see --cache of
    /// the other commands)
    #[arg(short, long, value_name = "FILE|DIR")]
    pub(in super::super) output: PathBuf,
    /// Merge what there is if parts are missing, and say how much that is
    #[arg(long)]
    pub(in super::super) allow_missing: bool,
    /// Replace FILE if it exists
    #[arg(long, help_heading = "Options")]
    pub(in super::super) force: bool,
}

#[derive(Debug, Args)]
pub(in super::super) struct GradientArgs {
    /// The classifier
    #[arg(value_name = "IN")]
    pub(in super::super) input: PathBuf,
    /// Where the gradient graph goes
    #[arg(value_name = "OUT")]
    pub(in super::super) output: PathBuf,
    /// What is differentiated: probabilities or logits [default: probabilities]
    #[arg(long, value_name = "SCORES", value_parser = values::own::<Of>)]
    pub(in super::super) of: Option<Of>,
    #[command(flatten)]
    pub(in super::super) engine: EngineFlags,
    /// Replace OUT if it exists
    #[arg(long, help_heading = "Options")]
    pub(in super::super) force: bool,
}

#[derive(Debug, Args)]
pub(in super::super) struct VerifyArgs {
    /// The model, or the original of B
    #[arg(value_name = "A")]
    pub(in super::super) a: PathBuf,
    /// A model that onnx-prune made from A
    #[arg(value_name = "B")]
    pub(in super::super) b: Option<PathBuf>,
    #[command(flatten)]
    pub(in super::super) data: DataFlags,
    #[command(flatten)]
    pub(in super::super) engine: EngineFlags,
    /// Fail unless both engines run the whole model
    #[arg(long, help_heading = "Options")]
    pub(in super::super) require_both: bool,
}

#[derive(Debug, Args)]
pub(in super::super) struct RuntimeArgs {
    #[command(subcommand)]
    pub(in super::super) action: Option<RuntimeAction>,
    /// The ONNX Runtime library to look at first
    // An id of its own: clap hands values of global arguments up to the main job's flag of that id.
    #[arg(id = "library", long = "ort-lib", value_name = "FILE", global = true)]
    pub(in super::super) ort_lib: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Subcommand)]
pub(in super::super) enum RuntimeAction {
    /// Run a small model in both engines and compare
    Check(CheckArgs),
    /// Fetch ONNX Runtime with pip and unpack the library into the data folder
    Install(InstallArgs),
}

#[derive(Clone, Copy, Debug, Args)]
pub(in super::super) struct CheckArgs {
    /// Where ONNX Runtime computes: auto, cpu, cuda or cuda:1 [default: auto]
    // An id of its own, as with `--ort-lib`.
    #[arg(id = "place", long = "provider", value_name = "PROVIDER")]
    pub(in super::super) provider: Option<ProviderChoice>,
}

#[derive(Clone, Copy, Debug, Args)]
pub(in super::super) struct InstallArgs {
    /// Fetch the build for CUDA, and the libraries of NVIDIA that it needs
    #[arg(long)]
    pub(in super::super) cuda: bool,
}

#[derive(Debug, Args)]
pub(in super::super) struct DemoArgs {
    /// Where model, samples and result go
    #[arg(value_name = "DIR", default_value = "onnx-prune-demo")]
    pub(in super::super) folder: PathBuf,
    /// Replace files of other content
    #[arg(long)]
    pub(in super::super) force: bool,
}

#[derive(Debug, Args)]
pub(in super::super) struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub(in super::super) shell: Shell,
}

#[derive(Debug, Args)]
pub(in super::super) struct ManArgs {
    /// Write a page for every command into this folder, instead of the main one to stdout
    #[arg(value_name = "DIR")]
    pub(in super::super) folder: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(in super::super) struct CacheArgs {
    #[command(subcommand)]
    pub(in super::super) action: Option<CacheAction>,
    /// The folder, if it is another than the user's cache folder
    // An id of its own, as with `runtime --ort-lib`.
    #[arg(id = "folder", long = "cache", value_name = "DIR", global = true)]
    pub(in super::super) folder: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Subcommand)]
pub(in super::super) enum CacheAction {
    /// Remove all of it, or what has not been used for long
    Clear(ClearArgs),
}

#[derive(Clone, Copy, Debug, Args)]
pub(in super::super) struct ClearArgs {
    /// Keep what was used within so many days
    #[arg(long, value_name = "DAYS", allow_negative_numbers = true)]
    pub(in super::super) older_than: Option<u64>,
}
