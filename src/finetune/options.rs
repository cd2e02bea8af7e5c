//! What a training run can be told, and the learning rate over its course.

use serde::Serialize;

use super::{Checkpoint, Optimizer};
use crate::error::{Error, Result};

/// Everything a training run can be told. Shares and rates are checked when it begins.
#[derive(Clone, Debug, Serialize)]
pub struct TrainOptions {
    /// Passes over the training samples, at most.
    pub epochs: usize,
    /// Samples per step.
    #[serde(rename = "train_batch")]
    pub batch: usize,
    /// How the weights follow the gradient.
    pub optimizer: Optimizer,
    /// The largest learning rate.
    pub learning_rate: f64,
    /// Share of all steps over which the rate rises from 0 to that.
    pub warmup: f64,
    /// Share of every matrix that goes per unit of learning rate.
    pub weight_decay: f32,
    /// Share of the target that is spread evenly over all classes.
    pub label_smoothing: f64,
    /// What a teacher's logits, and the head's own, are divided by; of no effect with labels.
    pub temperature: f64,
    /// Decides the order of the samples.
    pub seed: u64,
    /// Epochs without a better validation loss after which the run ends; nothing for never.
    pub patience: Option<usize>,
    /// Where the state is kept after every epoch, and continued from.
    #[serde(skip)]
    pub checkpoint: Option<Checkpoint>,
}

impl Default for TrainOptions {
    /// Five epochs of AdamW.
    fn default() -> Self {
        Self {
            epochs: 5,
            batch: 128,
            optimizer: Optimizer::ADAMW,
            learning_rate: 5e-3,
            warmup: 0.05,
            weight_decay: 0.01,
            label_smoothing: 0.0,
            temperature: 2.0,
            seed: 0,
            patience: Some(3),
            checkpoint: None,
        }
    }
}

impl TrainOptions {
    /// Refuses what no run could use.
    pub(super) fn check(&self) -> Result<()> {
        let positive = |value: f64| value.is_finite() && value > 0.0;
        let share = |value: f64| (0.0..1.0).contains(&value);
        let momentum = match self.optimizer {
            Optimizer::Sgd { momentum } => f64::from(momentum),
            Optimizer::AdamW { .. } => 0.0,
        };
        let decay = f64::from(self.weight_decay);
        let checks = [
            ("--epochs", self.epochs > 0, "at least one is needed"),
            (
                "--train-batch",
                self.batch > 0,
                "at least one sample is needed",
            ),
            (
                "--learning-rate",
                positive(self.learning_rate),
                "is not a positive number",
            ),
            ("--momentum", share(momentum), "is not from 0 to below 1"),
            ("--warmup", share(self.warmup), "is not from 0 to below 1"),
            (
                "--weight-decay",
                decay.is_finite() && decay >= 0.0,
                "is not a number from 0 on",
            ),
            (
                "--label-smoothing",
                share(self.label_smoothing),
                "is not from 0 to below 1",
            ),
            (
                "--temperature",
                positive(self.temperature),
                "is not a positive number",
            ),
        ];
        match checks.into_iter().find(|(_, fine, _)| !fine) {
            Some((name, _, what)) => Err(Error::Argument {
                name,
                what: what.to_owned(),
            }),
            None => Ok(()),
        }
    }

    /// The learning rate of a step, counted from 1, of `steps`: a straight rise, then half a cosine
    /// down to 0 (Loshchilov & Hutter 2017, arXiv:1608.03983, equation 5, without restarts).
    pub(super) fn rate(&self, step: u64, steps: u64) -> f64 {
        let warm = (self.warmup * steps as f64).floor();
        let step = step as f64;
        if step <= warm {
            return self.learning_rate * step / warm;
        }
        // Counted so that neither the first step behind the rise nor the last is without effect.
        let done = (step - warm - 1.0) / (steps as f64 - warm).max(1.0);
        self.learning_rate * 0.5 * (1.0 + (std::f64::consts::PI * done).cos())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_rises_and_falls_and_is_never_zero() {
        let options = TrainOptions {
            learning_rate: 1.0,
            warmup: 0.2,
            ..TrainOptions::default()
        };
        let rates: Vec<f64> = (1..=10).map(|step| options.rate(step, 10)).collect();
        assert_eq!(rates[..3], [0.5, 1.0, 1.0]);
        assert!(rates[2..].is_sorted_by(|one, next| one > next), "{rates:?}");
        assert!(rates[9] > 0.0 && rates[9] < 0.05, "{rates:?}");
        // half of the way down: (1 + cos(pi / 2)) / 2
        assert!((rates[6] - 0.5).abs() < 1e-12);
        assert_eq!(options.rate(1, 1), 1.0);
    }

    #[test]
    fn values_out_of_range_are_named() {
        type Change = fn(&mut TrainOptions);
        let cases: [(&str, Change); 8] = [
            ("--epochs", |options| options.epochs = 0),
            ("--train-batch", |options| options.batch = 0),
            ("--learning-rate", |options| {
                options.learning_rate = f64::NAN
            }),
            ("--momentum", |options| {
                options.optimizer = Optimizer::Sgd { momentum: 1.0 }
            }),
            ("--warmup", |options| options.warmup = -0.1),
            ("--weight-decay", |options| {
                options.weight_decay = f32::INFINITY
            }),
            ("--label-smoothing", |options| options.label_smoothing = 1.0),
            ("--temperature", |options| options.temperature = 0.0),
        ];
        assert!(TrainOptions::default().check().is_ok());
        for (expected, change) in cases {
            let mut options = TrainOptions::default();
            change(&mut options);
            let error = options.check().unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
