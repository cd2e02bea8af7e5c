//! Flags of the main job.

use std::path::PathBuf;

use clap::Args;
use onnx_prune::{
    pipeline::{Align, Form, Granularity, Metric, ScoreWith, Trunk},
    prune::{Budget, Scope},
    repair::Repair,
    transfer::Classes,
};

use super::{
    super::{timings::TimingFlags, train::TrainFlags, values},
    flags::{DataFlags, DistillFlag, EngineFlags, SampleFlags, ScoreFlags, TestFlag},
};

/// The main job.
#[derive(Debug, Args)]
pub(in super::super) struct PruneArgs {
    /// There unless a subcommand is.
    #[command(flatten)]
    pub(in super::super) files: Option<Files>,
    /// How many neurons stay: a share (0.3) or a number (512) for all layers, by layer
    /// (features=0.3,fc1=512), or both (0.5,fc1=512) [default: 0.5]
    #[arg(long, value_name = "R", value_parser = values::budget, allow_negative_numbers = true)]
    pub(in super::super) keep: Option<Budget>,
    /// Whether neurons compete within their layer (local) or over all layers (global) [default: local]
    #[arg(long, value_name = "SCOPE", value_parser = values::scope)]
    pub(in super::super) scope: Option<Scope>,
    #[command(flatten)]
    pub(in super::super) limit: LimitFlags,
    /// Use the scores that `score --output` or `merge` wrote, in place of computing some
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["criterion", "norm", "over_classes", "of", "scale"],
        help_heading = "Scores"
    )]
    pub(in super::super) scores: Option<PathBuf>,
    #[command(flatten)]
    pub(in super::super) score: ScoreFlags,
    #[command(flatten)]
    pub(in super::super) repair: RepairFlags,
    #[command(flatten)]
    pub(in super::super) train: TrainFlags,
    #[command(flatten)]
    pub(in super::super) distill: DistillFlag,
    /// With --epochs and labels, which share of the target comes from them, the rest from the original's
    /// own scores: from 0 to 1 [default: 1]
    #[arg(long, value_name = "SHARE", value_parser = values::share, allow_negative_numbers = true, conflicts_with = "distill", help_heading = "Training")]
    pub(in super::super) label_share: Option<f64>,
    #[command(flatten)]
    pub(in super::super) trunk: TrunkFlags,
    #[command(flatten)]
    pub(in super::super) transfer: TransferFlags,
    #[command(flatten)]
    pub(in super::super) samples: SampleFlags,
    #[command(flatten)]
    pub(in super::super) data: DataFlags,
    #[command(flatten)]
    pub(in super::super) test: TestFlag,
    #[command(flatten)]
    pub(in super::super) engine: EngineFlags,
    /// Write what was done to this file: a page (FILE.html) or the JSON document (FILE.json); also
    /// where no output is left
    #[arg(long, value_name = "FILE", help_heading = "Options")]
    pub(in super::super) report: Option<PathBuf>,
    /// Replace OUT, and FILE of --report, if it exists
    #[arg(long, help_heading = "Options")]
    pub(in super::super) force: bool,
    /// Write the result without proving it; recorded in OUT
    #[arg(long, conflicts_with = "require_both", help_heading = "Options")]
    pub(in super::super) no_verify: bool,
    /// Fail unless both engines prove the whole model
    #[arg(long, help_heading = "Options")]
    pub(in super::super) require_both: bool,
    #[command(flatten)]
    pub(in super::super) timings: TimingFlags,
}

// A struct of its own without flattened parts: clap's derive finds no other kind to be there or not.
#[derive(Debug, Args)]
pub(in super::super) struct Files {
    /// The model to prune
    #[arg(value_name = "IN")]
    pub(in super::super) input: PathBuf,
    /// Where the pruned model goes
    #[arg(value_name = "OUT")]
    pub(in super::super) output: PathBuf,
}

/// Flags on what the result may cost, in place of --keep.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Budget (in place of --keep; exit code 1 if it cannot be met)")]
pub(in super::super) struct LimitFlags {
    /// Keep as few neurons as lose at most so many points of --metric
    #[arg(long, value_name = "POINTS", value_parser = values::points, conflicts_with = "keep", allow_negative_numbers = true)]
    pub(in super::super) max_drop: Option<f64>,
    /// What --max-drop counts: accuracy (needs labels), or agreement with the original (needs none)
    /// [default: accuracy]
    #[arg(long, value_name = "METRIC", value_parser = values::own::<Metric>, requires = "max_drop")]
    pub(in super::super) metric: Option<Metric>,
    /// Keep as many neurons as fit into a file of this size: 5000000, 5MB, 4.8MiB
    #[arg(long, value_name = "BYTES", value_parser = values::bytes, conflicts_with = "keep", allow_negative_numbers = true)]
    pub(in super::super) max_bytes: Option<u64>,
}

/// Flags on the form of the cut and on its speed.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Form and speed")]
pub(in super::super) struct TrunkFlags {
    /// What stays or goes as one: neuron, channel (all positions of a flatten layer's channel, so
    /// that its filter goes too), or auto (the smaller file, where both agree equally well with the
    /// original) [default: neuron]
    #[arg(long, value_name = "UNIT", value_parser = values::own::<Granularity>)]
    pub(in super::super) granularity: Option<Granularity>,
    /// Round the number of neurons, or channels, that stay up to a multiple of 1, 8 or 16, or of what
    /// is measured to be fastest: auto [default: 1]
    #[arg(long, value_name = "N", value_parser = values::own::<Align>, allow_negative_numbers = true)]
    pub(in super::super) align: Option<Align>,
    /// Channels of the trunk that only dropped neurons read: exact (they go where the result stays
    /// the same) or none (they stay) [default: exact]
    #[arg(long, value_name = "HOW", value_parser = values::own::<Trunk>)]
    pub(in super::super) trunk: Option<Trunk>,
    /// Which form of the cut is written: smallest (the smallest file), or fastest (of several that
    /// compute the same, by measurement; a layer keeps its width, with zeros, where a selection in
    /// front of it would cost time) [default: smallest]
    #[arg(long, value_name = "FORM", value_parser = values::own::<Form>)]
    pub(in super::super) form: Option<Form>,
    /// Write OUT only if it is measured to be faster than IN, in the engine of the run; exit code 1
    /// otherwise
    #[arg(long)]
    pub(in super::super) require_faster: bool,
}

/// Flags on other classes.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Transfer to other classes (needs labelled --data)")]
pub(in super::super) struct TransferFlags {
    /// First replace the last layer by one for the classes of the data: from-data, or their number
    #[arg(long, value_name = "CLASSES", value_parser = values::own::<Classes>, allow_negative_numbers = true)]
    pub(in super::super) classes: Option<Classes>,
    /// Whose scores choose what stays: source (the classes the model came with) or target (the new
    /// ones) [default: target]
    #[arg(long, value_name = "CLASSES", value_parser = values::own::<ScoreWith>, requires = "classes")]
    pub(in super::super) score_with: Option<ScoreWith>,
}

/// Flags on giving back what the cut took.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Repair")]
pub(in super::super) struct RepairFlags {
    /// How kept neurons take over for dropped ones: none, mean, least-squares, or reweighted (least
    /// squares, then the class probabilities) [default: reweighted with --data, none without]
    #[arg(long, value_name = "HOW", value_parser = values::own::<Repair>)]
    pub(in super::super) repair: Option<Repair>,
    /// Measure random and weight-norm choices of as many neurons beside the result
    #[arg(long)]
    pub(in super::super) baselines: bool,
}
