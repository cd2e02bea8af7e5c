//! Flags of `study`.

use std::{path::PathBuf, str::FromStr, time::Duration};

use clap::Args;
use onnx_prune::{
    Error,
    repair::Repair,
    sensitivity::{Criterion, Norm, Of, Scale},
};

use super::{
    super::{train::TrainFlags, values},
    flags::{DataFlags, DistillFlag, EngineFlags, SampleFlags, TestFlag},
};

/// One word of `--criteria`.
#[derive(Clone, Copy, Debug)]
pub(in super::super) enum CriteriaWord {
    All,
    One(Criterion),
}

impl FromStr for CriteriaWord {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "all" => Ok(Self::All),
            name => name.parse().map(Self::One),
        }
    }
}

#[derive(Debug, Args)]
pub(in super::super) struct StudyArgs {
    /// The models
    #[arg(value_name = "MODEL", required = true)]
    pub(in super::super) models: Vec<PathBuf>,
    /// Folder of the study: results.csv, results.json, report.md, report.html, and what is finished;
    /// the same command goes on from there
    #[arg(short, long, value_name = "DIR", required = true)]
    pub(in super::super) output: PathBuf,
    #[command(flatten)]
    pub(in super::super) grid: GridFlags,
    #[command(flatten)]
    pub(in super::super) best: BestFlags,
    #[command(flatten)]
    pub(in super::super) train: TrainFlags,
    #[command(flatten)]
    pub(in super::super) distill: DistillFlag,
    #[command(flatten)]
    pub(in super::super) samples: SampleFlags,
    #[command(flatten)]
    pub(in super::super) data: DataFlags,
    #[command(flatten)]
    pub(in super::super) test: TestFlag,
    #[command(flatten)]
    pub(in super::super) engine: EngineFlags,
}

/// Flags on what is combined with what.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Grid (every combination is a cell)")]
pub(in super::super) struct GridFlags {
    /// Shares of the neurons that stay [default: 0.9,0.7,0.5,0.3,0.2,0.1,0.05]
    #[arg(
        long,
        value_name = "R,...",
        value_delimiter = ',',
        allow_negative_numbers = true
    )]
    pub(in super::super) keeps: Vec<f64>,
    /// Norms over samples and classes: numbers from 1 on, or inf [default: 1,2,inf]
    #[arg(long, value_name = "P,...", value_delimiter = ',', value_parser = values::own::<Norm>, allow_negative_numbers = true)]
    pub(in super::super) norms: Vec<Norm>,
    /// What chooses: names as for --criterion, or all [default: lsa,random,weight,taylor,obs]
    #[arg(long, value_name = "NAME,...", value_delimiter = ',', value_parser = values::own::<CriteriaWord>)]
    pub(in super::super) criteria: Vec<CriteriaWord>,
    /// What one unit of a neuron's change is worth, as for --scale [default: auto]
    #[arg(long, value_name = "SCALE,...", value_delimiter = ',', value_parser = values::own::<Scale>)]
    pub(in super::super) scales: Vec<Scale>,
    /// What is differentiated: probabilities or logits [default: probabilities]
    #[arg(long, value_name = "SCORES", value_parser = values::own::<Of>)]
    pub(in super::super) of: Option<Of>,
    /// How kept neurons take over, one way or several, as for the main job [default: that of the main
    /// job]
    #[arg(long, value_name = "HOW,...", value_delimiter = ',', value_parser = values::own::<Repair>)]
    pub(in super::super) repair: Vec<Repair>,
    /// Draws of the random choice, each with its own order of training [default: 3]
    #[arg(long, value_name = "N", value_parser = values::at_least_one, allow_negative_numbers = true)]
    pub(in super::super) seeds: Option<usize>,
}

/// Flags on what is recommended, and on times.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Best models and times")]
pub(in super::super) struct BestFlags {
    /// Points of accuracy (of agreement without labels) that a best model may lose [default: 1]
    #[arg(long, value_name = "POINTS", value_parser = values::points, allow_negative_numbers = true)]
    pub(in super::super) max_drop: Option<f64>,
    /// Write the best model of each into DIR/best, proved like any output; exit code 1 if a proof fails
    #[arg(long)]
    pub(in super::super) export_best: bool,
    /// Time the levels of each model about so long [default: 5]
    #[arg(long, value_name = "S", value_parser = values::duration, allow_negative_numbers = true, conflicts_with = "no_time")]
    pub(in super::super) seconds: Option<Duration>,
    /// Measure no times
    #[arg(long)]
    pub(in super::super) no_time: bool,
}
