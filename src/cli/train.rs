//! Flags about training: of `finetune`, and those of every command that trains.

use std::path::PathBuf;

use clap::Args;
use onnx_prune::{
    Error, Result,
    finetune::{Checkpoint, Optimizer, TrainOptions},
    pipeline::Training,
    transfer::Classes,
};

use super::{
    args::{DataFlags, EngineFlags, SampleFlags, TestFlag},
    timings::TimingFlags,
    values,
};

/// Learning rates that suit the optimizers on features of everyday size.
const SGD_RATE: f64 = 0.01;
/// Share of the velocity that stays, as nearly everybody has it.
const MOMENTUM: f32 = 0.9;

#[derive(Debug, Args)]
pub(super) struct FinetuneArgs {
    /// The model whose head is trained
    #[arg(value_name = "IN")]
    pub(super) input: PathBuf,
    /// Where the trained model goes
    #[arg(value_name = "OUT")]
    pub(super) output: PathBuf,
    /// Learn the scores of this model instead of labels: the original of IN
    #[arg(long, value_name = "MODEL", help_heading = "Training")]
    pub(super) teacher: Option<PathBuf>,
    /// First replace the last layer by one for the classes of the data: from-data, or their number
    #[arg(long, value_name = "CLASSES", value_parser = values::own::<Classes>, allow_negative_numbers = true, help_heading = "Training")]
    pub(super) classes: Option<Classes>,
    #[command(flatten)]
    pub(super) train: TrainFlags,
    #[command(flatten)]
    pub(super) samples: SampleFlags,
    #[command(flatten)]
    pub(super) data: DataFlags,
    #[command(flatten)]
    pub(super) test: TestFlag,
    #[command(flatten)]
    pub(super) engine: EngineFlags,
    /// Replace OUT if it exists
    #[arg(long, help_heading = "Options")]
    pub(super) force: bool,
    #[command(flatten)]
    pub(super) timings: TimingFlags,
}

/// Flags that decide how a head is trained.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Training")]
pub(super) struct TrainFlags {
    /// Passes over the training samples, at most [default of finetune: 5]
    #[arg(long, value_name = "E", value_parser = values::at_least_one, allow_negative_numbers = true)]
    pub(super) epochs: Option<usize>,
    /// How the weights follow the gradient: adamw or sgd [default: adamw]
    #[arg(long, value_name = "NAME", value_parser = values::optimizer)]
    pub(super) optimizer: Option<values::OptimizerName>,
    /// The largest learning rate; it rises first and then falls along a cosine
    /// [default: 0.005, 0.01 with sgd]
    #[arg(long, value_name = "RATE", allow_negative_numbers = true)]
    pub(super) learning_rate: Option<f64>,
    /// Share of all steps over which the learning rate rises [default: 0.05]
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    pub(super) warmup: Option<f64>,
    /// Samples per training step [default: 128]
    #[arg(long, value_name = "N", value_parser = values::at_least_one, allow_negative_numbers = true)]
    pub(super) train_batch: Option<usize>,
    /// Share of every matrix that goes per unit of learning rate [default: 0.01, 0 with sgd]
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    pub(super) weight_decay: Option<f32>,
    /// Share of the velocity that stays, with sgd [default: 0.9]
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    pub(super) momentum: Option<f32>,
    /// Share of the label that is spread over all classes [default: 0]
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    pub(super) label_smoothing: Option<f64>,
    /// What scores are divided by when a model is imitated [default: 2]
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    pub(super) temperature: Option<f64>,
    /// Stop after this many epochs without a better loss on the validation samples [default: 3]
    #[arg(long, value_name = "E", value_parser = values::at_least_one, allow_negative_numbers = true)]
    pub(super) patience: Option<usize>,
    /// Append a line of JSON for each epoch and every 100 steps to this file
    #[arg(long, value_name = "FILE")]
    pub(super) log: Option<PathBuf>,
    /// Keep the state in this file after each epoch, and go on from there if it exists
    #[arg(long, value_name = "FILE")]
    pub(super) checkpoint: Option<PathBuf>,
}

impl TrainFlags {
    /// The training; `imitates` where a teacher's scores are learned instead of labels.
    pub(super) fn to_training(&self, seed: u64, imitates: bool) -> Result<Training> {
        Ok(Training {
            options: self.to_options(seed, imitates)?,
            distill: imitates,
            label_share: None,
            log: self.log.clone(),
        })
    }

    /// Of a run that trains only if it is told how long.
    pub(super) fn if_any(&self, seed: u64, imitates: bool) -> Result<Option<Training>> {
        if self.epochs.is_some() {
            return self.to_training(seed, imitates).map(Some);
        }
        let given = [
            ("--optimizer", self.optimizer.is_some()),
            ("--learning-rate", self.learning_rate.is_some()),
            ("--warmup", self.warmup.is_some()),
            ("--train-batch", self.train_batch.is_some()),
            ("--weight-decay", self.weight_decay.is_some()),
            ("--momentum", self.momentum.is_some()),
            ("--label-smoothing", self.label_smoothing.is_some()),
            ("--temperature", self.temperature.is_some()),
            ("--patience", self.patience.is_some()),
            ("--log", self.log.is_some()),
            ("--checkpoint", self.checkpoint.is_some()),
            ("--distill", imitates),
        ];
        match given.into_iter().find(|(_, given)| *given) {
            Some((name, _)) => Err(Error::Argument {
                name,
                what: "has no effect without --epochs".to_owned(),
            }),
            None => Ok(None),
        }
    }

    fn to_options(&self, seed: u64, imitates: bool) -> Result<TrainOptions> {
        let is_sgd = self.optimizer == Some(values::OptimizerName::Sgd);
        let useless = [
            (
                "--momentum",
                self.momentum.is_some() && !is_sgd,
                "with --optimizer adamw",
            ),
            (
                "--temperature",
                self.temperature.is_some() && !imitates,
                "where labels are learned",
            ),
            (
                "--label-smoothing",
                self.label_smoothing.is_some() && imitates,
                "where a model is imitated",
            ),
        ];
        if let Some((name, _, when)) = useless.into_iter().find(|(_, useless, _)| *useless) {
            return Err(Error::Argument {
                name,
                what: format!("has no effect {when}"),
            });
        }
        let default = TrainOptions::default();
        let (rate, decay, optimizer) = if is_sgd {
            let momentum = self.momentum.unwrap_or(MOMENTUM);
            (SGD_RATE, 0.0, Optimizer::Sgd { momentum })
        } else {
            (
                default.learning_rate,
                default.weight_decay,
                default.optimizer,
            )
        };
        Ok(TrainOptions {
            epochs: self.epochs.unwrap_or(default.epochs),
            batch: self.train_batch.unwrap_or(default.batch),
            optimizer,
            learning_rate: self.learning_rate.unwrap_or(rate),
            warmup: self.warmup.unwrap_or(default.warmup),
            weight_decay: self.weight_decay.unwrap_or(decay),
            label_smoothing: self.label_smoothing.unwrap_or(default.label_smoothing),
            temperature: self.temperature.unwrap_or(default.temperature),
            seed,
            patience: self.patience.or(default.patience),
            checkpoint: self.checkpoint.clone().map(|path| Checkpoint { path }),
        })
    }
}
