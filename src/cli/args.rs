//! What may be typed: every flag, with its help.
//!
//! Parsing validates text and nothing else. Flags carry no default here, so that "given" and "not
//! given" stay apart: what a flag means when it is left out is the library's decision, and a flag
//! that would have no effect is refused ([`super::checks`]).

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, Parser, Subcommand};
use onnx_prune::{
    data::{Channels, Interpolation, Layout, Resize, Size},
    engine::{EngineChoice, ProviderChoice},
    pipeline::{Align, Granularity, Metric, ScoreWith, Trunk},
    prune::{Budget, Scope},
    repair::Repair,
    sensitivity::{Criterion, Norm, Of, Scale},
    transfer::Classes,
};

use super::{
    train::{FinetuneArgs, TrainFlags},
    values,
};

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
  2  an error: bad flags, an unreadable model, bad data, a full disk; no output was left
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
            (Some(Command::Gradient(args)), _) => Some(&args.input),
            (Some(Command::Finetune(args)), _) => Some(&args.input),
            (Some(Command::Verify(args)), _) => Some(&args.a),
            (Some(Command::Inspect(args)), _) => Some(&args.input),
            (Some(Command::Bench(args)), _) => args.models.first().map(PathBuf::as_path),
            (Some(Command::PeakMemory(args)), _) => Some(&args.input),
            (Some(Command::Cache(_) | Command::Runtime(_)), _) => None,
            (None, prune) => prune.files.as_ref().map(|files| files.input.as_path()),
        }
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Score the neurons of the head and cut nothing
    Score(ScoreArgs),
    /// Write the graph that computes the gradients of the class scores
    Gradient(GradientArgs),
    /// Train the head on labels, or on the scores of another model
    Finetune(FinetuneArgs),
    /// Compare a model between the engines, or a pruned model with its original
    Verify(VerifyArgs),
    /// Show the head, what can be cut, and whether that is worth it
    Inspect(InspectArgs),
    /// Measure how long models take on this machine, against each other
    Bench(BenchArgs),
    /// Show which ONNX Runtime is used and where it was looked for
    Runtime(RuntimeArgs),
    /// List what is kept of earlier runs, or remove it
    Cache(CacheArgs),
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

/// The main job.
#[derive(Debug, Args)]
pub(super) struct PruneArgs {
    /// There unless a subcommand is.
    #[command(flatten)]
    pub(super) files: Option<Files>,
    /// How many neurons stay: a share (0.3) or a number (512) for all layers, by layer
    /// (features=0.3,fc1=512), or both (0.5,fc1=512) [default: 0.5]
    #[arg(long, value_name = "R", value_parser = values::budget, allow_negative_numbers = true)]
    pub(super) keep: Option<Budget>,
    /// Whether neurons compete within their layer (local) or over all layers (global) [default: local]
    #[arg(long, value_name = "SCOPE", value_parser = values::scope)]
    pub(super) scope: Option<Scope>,
    #[command(flatten)]
    pub(super) limit: LimitFlags,
    #[command(flatten)]
    pub(super) score: ScoreFlags,
    #[command(flatten)]
    pub(super) repair: RepairFlags,
    #[command(flatten)]
    pub(super) train: TrainFlags,
    /// With --epochs, learn the original's own scores even where there are labels [default: labels
    /// where there are any]
    #[arg(long, help_heading = "Training")]
    pub(super) distill: bool,
    #[command(flatten)]
    pub(super) trunk: TrunkFlags,
    #[command(flatten)]
    pub(super) transfer: TransferFlags,
    #[command(flatten)]
    pub(super) samples: SampleFlags,
    #[command(flatten)]
    pub(super) data: DataFlags,
    /// Samples for figures alone; nothing of --data is held out then
    #[arg(long, value_name = "PATH", help_heading = "Data")]
    pub(super) test: Option<PathBuf>,
    #[command(flatten)]
    pub(super) engine: EngineFlags,
    /// Replace OUT if it exists
    #[arg(long, help_heading = "Options")]
    pub(super) force: bool,
    /// Write the result without proving it; recorded in OUT
    #[arg(long, conflicts_with = "require_both", help_heading = "Options")]
    pub(super) no_verify: bool,
    /// Fail unless both engines prove the whole model
    #[arg(long, help_heading = "Options")]
    pub(super) require_both: bool,
}

/// Flags on what the result may cost, in place of --keep.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Budget (in place of --keep; exit code 1 if it cannot be met)")]
pub(super) struct LimitFlags {
    /// Keep as few neurons as lose at most so many points of --metric
    #[arg(long, value_name = "POINTS", value_parser = values::points, conflicts_with = "keep", allow_negative_numbers = true)]
    pub(super) max_drop: Option<f64>,
    /// What --max-drop counts: accuracy (needs labels), or agreement with the original (needs none)
    /// [default: accuracy]
    #[arg(long, value_name = "METRIC", value_parser = values::own::<Metric>, requires = "max_drop")]
    pub(super) metric: Option<Metric>,
    /// Keep as many neurons as fit into a file of this size: 5000000, 5MB, 4.8MiB
    #[arg(long, value_name = "BYTES", value_parser = values::bytes, conflicts_with = "keep", allow_negative_numbers = true)]
    pub(super) max_bytes: Option<u64>,
}

/// Flags on what leaves the trunk.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Trunk")]
pub(super) struct TrunkFlags {
    /// What stays or goes as one: neuron, channel (all positions of a flatten layer's channel, so
    /// that its filter goes too), or auto (the smaller file, where both agree equally well with the
    /// original) [default: neuron]
    #[arg(long, value_name = "UNIT", value_parser = values::own::<Granularity>)]
    pub(super) granularity: Option<Granularity>,
    /// Round the number of neurons, or channels, that stay up to a multiple of 1, 8 or 16, or of what
    /// is measured to be fastest: auto [default: 1]
    #[arg(long, value_name = "N", value_parser = values::own::<Align>, allow_negative_numbers = true)]
    pub(super) align: Option<Align>,
    /// Channels of the trunk that only dropped neurons read: exact (they go where the result stays
    /// the same) or none (they stay) [default: exact]
    #[arg(long, value_name = "HOW", value_parser = values::own::<Trunk>)]
    pub(super) trunk: Option<Trunk>,
}

/// Flags on other classes.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Transfer to other classes (needs labelled --data)")]
pub(super) struct TransferFlags {
    /// First replace the last layer by one for the classes of the data: from-data, or their number
    #[arg(long, value_name = "CLASSES", value_parser = values::own::<Classes>, allow_negative_numbers = true)]
    pub(super) classes: Option<Classes>,
    /// Whose scores choose what stays: source (the classes the model came with) or target (the new
    /// ones) [default: target]
    #[arg(long, value_name = "CLASSES", value_parser = values::own::<ScoreWith>, requires = "classes")]
    pub(super) score_with: Option<ScoreWith>,
}

/// Flags on giving back what the cut took.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Repair")]
pub(super) struct RepairFlags {
    /// How kept neurons take over for dropped ones: none, mean or least-squares [default:
    /// least-squares with --data, none without]
    #[arg(long, value_name = "HOW", value_parser = values::own::<Repair>)]
    pub(super) repair: Option<Repair>,
    /// Measure random and weight-norm choices of as many neurons beside the result
    #[arg(long)]
    pub(super) baselines: bool,
}

// A struct of its own without flattened parts: clap's derive finds no other kind to be there or not.
#[derive(Debug, Args)]
pub(super) struct Files {
    /// The model to prune
    #[arg(value_name = "IN")]
    pub(super) input: PathBuf,
    /// Where the pruned model goes
    #[arg(value_name = "OUT")]
    pub(super) output: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct ScoreArgs {
    /// The model whose neurons are scored
    #[arg(value_name = "IN")]
    pub(super) input: PathBuf,
    /// Write the scores to this file as JSON
    #[arg(short, long, value_name = "FILE")]
    pub(super) output: Option<PathBuf>,
    #[command(flatten)]
    pub(super) score: ScoreFlags,
    #[command(flatten)]
    pub(super) samples: SampleFlags,
    #[command(flatten)]
    pub(super) data: DataFlags,
    #[command(flatten)]
    pub(super) engine: EngineFlags,
    /// Replace FILE if it exists
    #[arg(long, requires = "output", help_heading = "Options")]
    pub(super) force: bool,
}

#[derive(Debug, Args)]
pub(super) struct GradientArgs {
    /// The classifier
    #[arg(value_name = "IN")]
    pub(super) input: PathBuf,
    /// Where the gradient graph goes
    #[arg(value_name = "OUT")]
    pub(super) output: PathBuf,
    /// What is differentiated: probabilities or logits [default: probabilities]
    #[arg(long, value_name = "SCORES", value_parser = values::own::<Of>)]
    pub(super) of: Option<Of>,
    #[command(flatten)]
    pub(super) engine: EngineFlags,
    /// Replace OUT if it exists
    #[arg(long, help_heading = "Options")]
    pub(super) force: bool,
}

#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    /// The model, or the original of B
    #[arg(value_name = "A")]
    pub(super) a: PathBuf,
    /// A model that onnx-prune made from A
    #[arg(value_name = "B")]
    pub(super) b: Option<PathBuf>,
    #[command(flatten)]
    pub(super) data: DataFlags,
    #[command(flatten)]
    pub(super) engine: EngineFlags,
    /// Fail unless both engines run the whole model
    #[arg(long, help_heading = "Options")]
    pub(super) require_both: bool,
}

#[derive(Debug, Args)]
pub(super) struct InspectArgs {
    /// The model
    #[arg(value_name = "IN")]
    pub(super) input: PathBuf,
    /// The other model, with --diff
    #[arg(value_name = "OTHER", requires = "diff")]
    pub(super) other: Option<PathBuf>,
    /// Show what differs between IN and OTHER; nothing is run
    #[arg(long, requires = "other")]
    pub(super) diff: bool,
    /// How many neurons the cut on trial keeps, as for the main job [default: 0.5]
    #[arg(long, value_name = "R", value_parser = values::budget, allow_negative_numbers = true)]
    pub(super) keep: Option<Budget>,
    /// Measure no times, only count
    #[arg(long)]
    pub(super) no_time: bool,
    /// Samples per timed run [default: 1, or what the model insists on]
    #[arg(long, value_name = "N", value_parser = values::at_least_one, allow_negative_numbers = true)]
    pub(super) batch: Option<usize>,
    #[command(flatten)]
    pub(super) engine: EngineFlags,
}

#[derive(Debug, Args)]
pub(super) struct BenchArgs {
    /// The models; the first is what the others are compared with
    #[arg(value_name = "MODEL", required = true)]
    pub(super) models: Vec<PathBuf>,
    /// Measure the heads alone, too: from the features to the class scores
    #[arg(long)]
    pub(super) head: bool,
    /// Samples per run: one number or several (1,8) [default: 1, or what the model insists on]
    #[arg(
        long,
        value_name = "N,...",
        value_delimiter = ',',
        value_parser = values::at_least_one,
        allow_negative_numbers = true
    )]
    pub(super) batch: Vec<usize>,
    /// Measure so many rounds; six or more give an interval of the ratio
    #[arg(
        long,
        value_name = "N",
        value_parser = values::at_least_one,
        allow_negative_numbers = true,
        conflicts_with = "seconds"
    )]
    pub(super) rounds: Option<usize>,
    /// Measure about so long, for each runtime, number of threads and batch [default: 10]
    #[arg(long, value_name = "S", value_parser = values::duration, allow_negative_numbers = true)]
    pub(super) seconds: Option<Duration>,
    /// Write the tables to this file in Markdown
    #[arg(long, value_name = "FILE", help_heading = "Options")]
    pub(super) markdown: Option<PathBuf>,
    /// Replace FILE if it exists
    #[arg(long, requires = "markdown", help_heading = "Options")]
    pub(super) force: bool,
    #[command(flatten)]
    pub(super) data: DataFlags,
    #[command(flatten)]
    pub(super) engine: BenchEngineFlags,
}

/// Flags about what computes, where several are measured one after the other.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Engine")]
pub(super) struct BenchEngineFlags {
    /// What runs the models: auto (ONNX Runtime where found, else tract), tract, ort, or several
    /// (ort,tract) [default: auto]
    #[arg(
        long,
        value_name = "ENGINE,...",
        value_delimiter = ',',
        visible_alias = "engine"
    )]
    pub(super) runtime: Vec<EngineChoice>,
    /// Where ONNX Runtime computes: auto, cpu, cuda or cuda:1 [default: auto]
    #[arg(long, value_name = "PROVIDER")]
    pub(super) provider: Option<ProviderChoice>,
    /// Threads that compute: one number or several (1,2) [default: one per core]
    #[arg(
        long,
        value_name = "N,...",
        value_delimiter = ',',
        value_parser = values::at_least_one,
        allow_negative_numbers = true
    )]
    pub(super) threads: Vec<usize>,
    /// The ONNX Runtime library to use, instead of looking for one
    #[arg(long, value_name = "FILE")]
    pub(super) ort_lib: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct PeakMemoryArgs {
    /// The model
    #[arg(value_name = "IN")]
    pub(super) input: PathBuf,
    /// Samples per run [default: by the size of a sample]
    #[arg(long, value_name = "N", value_parser = values::at_least_one, allow_negative_numbers = true)]
    pub(super) batch: Option<usize>,
    #[command(flatten)]
    pub(super) engine: EngineFlags,
}

#[derive(Debug, Args)]
pub(super) struct RuntimeArgs {
    #[command(subcommand)]
    pub(super) action: Option<RuntimeAction>,
    /// The ONNX Runtime library to look at first
    // An id of its own: clap hands values of global arguments up to the main job's flag of that id.
    #[arg(id = "library", long = "ort-lib", value_name = "FILE", global = true)]
    pub(super) ort_lib: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Subcommand)]
pub(super) enum RuntimeAction {
    /// Run a small model in both engines and compare
    Check,
    /// Fetch ONNX Runtime with pip and unpack the library into the data folder
    Install,
}

#[derive(Debug, Args)]
pub(super) struct CacheArgs {
    #[command(subcommand)]
    pub(super) action: Option<CacheAction>,
    /// The folder, if it is another than the user's cache folder
    // An id of its own, as with `runtime --ort-lib`.
    #[arg(id = "folder", long = "cache", value_name = "DIR", global = true)]
    pub(super) folder: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Subcommand)]
pub(super) enum CacheAction {
    /// Remove all of it, or what has not been used for long
    Clear(ClearArgs),
}

#[derive(Clone, Copy, Debug, Args)]
pub(super) struct ClearArgs {
    /// Keep what was used within so many days
    #[arg(long, value_name = "DAYS", allow_negative_numbers = true)]
    pub(super) older_than: Option<u64>,
}

/// Flags that decide a score.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Scores")]
pub(super) struct ScoreFlags {
    /// What makes a neuron worth keeping: lsa, weight, activation, variance, apoz, taylor, wifv,
    /// obs, random [default: lsa]
    #[arg(long, value_name = "NAME", value_parser = values::own::<Criterion>)]
    pub(super) criterion: Option<Criterion>,
    /// The norm over the samples: a number from 1 on, or inf [default: inf]
    #[arg(long, value_name = "P", value_parser = values::own::<Norm>, allow_negative_numbers = true)]
    pub(super) norm: Option<Norm>,
    /// The norm over the classes [default: that of --norm]
    #[arg(long, value_name = "Q", value_parser = values::own::<Norm>, allow_negative_numbers = true)]
    pub(super) over_classes: Option<Norm>,
    /// What is differentiated: probabilities or logits [default: probabilities, logits without data]
    #[arg(long, value_name = "SCORES", value_parser = values::own::<Of>)]
    pub(super) of: Option<Of>,
    /// What one unit of a neuron's change is worth: none, std, range, residual (what the neurons
    /// kept cannot reproduce) or auto [default: auto, which is residual, or none without data]
    #[arg(long, value_name = "SCALE", value_parser = values::own::<Scale>)]
    pub(super) scale: Option<Scale>,
}

/// Flags about samples and what is done to them.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Data")]
pub(super) struct DataFlags {
    /// Samples: a folder of images, .npy, .npz or IDX [default: synthetic noise]
    #[arg(long, value_name = "PATH")]
    pub(super) data: Option<PathBuf>,
    /// Decides every random choice [default: 0]
    #[arg(long, value_name = "SEED", allow_negative_numbers = true)]
    pub(super) seed: Option<u64>,
    #[command(flatten)]
    pub(super) preprocess: PreprocessFlags,
}

/// Flags about how many samples are scored.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Data")]
pub(super) struct SampleFlags {
    /// Score, or train on, at most this many samples [default: 1000, or 32 of synthetic noise; all
    /// when training]
    #[arg(long, value_name = "N", value_parser = values::at_least_one, allow_negative_numbers = true)]
    pub(super) samples: Option<usize>,
    /// Samples per run of the model [default: by the size of a sample]
    #[arg(long, value_name = "N", value_parser = values::at_least_one, allow_negative_numbers = true)]
    pub(super) batch: Option<usize>,
    /// Keep what the trunk computes in this folder, and use what is there [default: the user's
    /// cache folder]
    #[arg(long, value_name = "DIR", conflicts_with = "no_cache")]
    pub(super) cache: Option<PathBuf>,
    /// Keep what the trunk computes in memory alone
    #[arg(long)]
    pub(super) no_cache: bool,
}

/// Flags about what is done to a sample; each replaces one setting of the preset or file.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Preprocessing (with --data)")]
pub(super) struct PreprocessFlags {
    /// A preset (imagenet, none, ...) or a preprocessor_config.json or timm config.json
    #[arg(long, value_name = "NAME|FILE")]
    pub(super) preprocess: Option<String>,
    /// Resize first: 256 (shorter edge), 256x224 (height x width), /0.875 or none
    #[arg(long, value_name = "SIZE", value_parser = values::own::<Resize>)]
    pub(super) resize: Option<Resize>,
    /// Then cut out the centre: 224 or 224x192
    #[arg(long, value_name = "SIZE", value_parser = values::own::<Size>)]
    pub(super) crop: Option<Size>,
    /// Filter of the resize: nearest, box, bilinear, hamming, bicubic or lanczos
    #[arg(long, value_name = "FILTER", value_parser = values::own::<Interpolation>)]
    pub(super) interpolation: Option<Interpolation>,
    /// Multiply pixels by this [default: 1/255 for bytes]
    #[arg(long, value_name = "FACTOR", allow_negative_numbers = true)]
    pub(super) rescale: Option<f64>,
    /// Subtract this from scaled pixels: one number, or one for each channel (0.485,0.456,0.406)
    #[arg(
        long,
        value_name = "M,...",
        value_delimiter = ',',
        allow_hyphen_values = true
    )]
    pub(super) mean: Option<Vec<f32>>,
    /// Then divide by this
    #[arg(
        long,
        value_name = "S,...",
        value_delimiter = ',',
        allow_hyphen_values = true
    )]
    pub(super) std: Option<Vec<f32>>,
    /// Layout of the model's input, where its shape does not tell: nchw or nhwc
    #[arg(long, value_name = "LAYOUT", value_parser = values::own::<Layout>)]
    pub(super) layout: Option<Layout>,
    /// Channels the model is fed with: grey, rgb or bgr
    #[arg(long, value_name = "CHANNELS", value_parser = values::own::<Channels>)]
    pub(super) channels: Option<Channels>,
}

/// Flags about what computes.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Engine")]
pub(super) struct EngineFlags {
    /// What runs the model: auto (ONNX Runtime where found, else tract), tract or ort
    /// [default: auto]
    #[arg(long, value_name = "ENGINE")]
    pub(super) engine: Option<EngineChoice>,
    /// Where it computes: auto, cpu, cuda or cuda:1 [default: auto]
    #[arg(long, value_name = "PROVIDER")]
    pub(super) provider: Option<ProviderChoice>,
    /// Threads that compute [default: one per core]
    #[arg(long, value_name = "N", value_parser = values::at_least_one, allow_negative_numbers = true)]
    pub(super) threads: Option<usize>,
    /// The ONNX Runtime library to use, instead of looking for one
    #[arg(long, value_name = "FILE")]
    pub(super) ort_lib: Option<PathBuf>,
}
