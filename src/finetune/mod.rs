//! Trains a head on features that are there already, with training steps that are ONNX graphs.
//!
//! The trunk stays as it is, so an epoch is one pass over cached rows and through the head alone.
//! [`train`] shuffles, reads the next batches in a thread while the engine works on this one, warms
//! the learning rate up and lets it decay, measures after every epoch on samples it never trains on,
//! keeps the best weights, and stops when these do not get better. The weights it gives back are
//! those of the best epoch; the weights it began with count as epoch 0, so training never gives less
//! than it was given, as far as the validation samples tell.
//!
//! Nothing is written to disk but a checkpoint where one is asked for ([`Checkpoint`]).

mod batches;
mod checkpoint;
mod forward;
mod options;
mod run;
mod source;
#[cfg(test)]
mod tests;
mod weights;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    engine::Engine,
    error::Result,
    features::FeatureSet,
    head::Ending,
    onnx::{ModelProto, TensorProto},
};

pub use crate::grad::training::{Loss, Optimizer};
pub use checkpoint::Checkpoint;
pub use options::TrainOptions;
pub use weights::{apply, with_own_weights};

/// What is trained, on what, towards what.
#[derive(Clone, Copy)]
pub struct Request<'r> {
    /// Runs the steps.
    pub engine: &'r dyn Engine,
    /// The head: from the features to the scores or the logits, its only output.
    pub head_model: &'r ModelProto,
    /// Number of classes K.
    pub classes: usize,
    /// How the model ends; where the head does not stop in front of it, it is left away.
    pub ending: Ending,
    /// Inputs of the head.
    pub features: &'r FeatureSet,
    /// Positions of the samples to train on.
    pub train: &'r [usize],
    /// Positions of the samples that decide which epoch is best; may be empty: then it is the last.
    pub validation: &'r [usize],
    /// What the scores should be.
    pub target: Target<'r>,
}

/// What the scores should be.
#[derive(Clone, Copy, Debug)]
pub enum Target<'r> {
    /// The class of each sample of the features, by position.
    Labels(&'r [usize]),
    /// The same, and what a teacher thinks of it: `share` of what the probabilities should be comes
    /// from the label, the rest from the teacher's own (Hinton et al. 2015, section 2, at T = 1).
    Mixed {
        /// The class of each sample, by position.
        labels: &'r [usize],
        /// Logits of the teacher, `[N, K]`, by position.
        scores: &'r [f32],
        /// From 0 to 1.
        share: f64,
    },
    /// Logits of a teacher, `[N, K]`, by position (Hinton et al. 2015, arXiv:1503.02531): the loss is
    /// the Kullback-Leibler divergence of the probabilities at the temperature T, times T².
    Scores(&'r [f32]),
}

/// Where a run is; given after every step and every epoch.
#[derive(Clone, Debug)]
pub struct Progress<'p> {
    /// The epoch under way, from 1.
    pub epoch: usize,
    /// Epochs at most.
    pub epochs: usize,
    /// Steps done, over all epochs.
    pub step: u64,
    /// Steps in all, if none of the epochs is spared.
    pub steps: u64,
    /// Mean loss of this epoch's samples so far.
    pub loss: f64,
    /// Share of this epoch's samples so far whose top class is the target's, in percent.
    pub accuracy: f64,
    /// Learning rate of the last step.
    pub learning_rate: f64,
    /// The epoch that just ended, where one did.
    pub finished: Option<&'p Epoch>,
}

/// What an epoch came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    /// Its number; 0 is before the first step.
    pub epoch: usize,
    /// Mean loss on the training samples, while they were trained on; nothing for epoch 0.
    pub loss: Option<f64>,
    /// The same for the share whose top class is the target's, in percent.
    pub accuracy: Option<f64>,
    /// Mean loss on the validation samples, without label smoothing; nothing without such samples.
    pub validation_loss: Option<f64>,
    /// Share of the validation samples whose top class is the target's, in percent.
    pub validation_accuracy: Option<f64>,
}

/// Why a run ended.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "why", rename_all = "kebab-case")]
pub enum Stopped {
    /// All epochs are done.
    Finished,
    /// So many epochs brought nothing better.
    Patience,
    /// The loss or a validation score was no finite number.
    NotFinite {
        /// Epoch of the step.
        epoch: usize,
        /// The step, counted over all epochs from 1.
        step: u64,
        /// What was not finite.
        what: String,
    },
}

/// A finished run.
#[derive(Clone, Debug)]
pub struct Trained {
    /// The weights of the best epoch, by their names in the head and in its element types; see
    /// [`apply`].
    pub weights: BTreeMap<String, TensorProto>,
    /// All epochs, the start first.
    pub epochs: Vec<Epoch>,
    /// Number of the best one.
    pub best: usize,
    /// Why it ended.
    pub stopped: Stopped,
    /// What the loss is.
    pub loss: Loss,
    /// Steps taken.
    pub steps: u64,
    /// Samples per step.
    pub batch: usize,
    /// What the user should know: classes without samples, another batch size.
    pub notes: Vec<String>,
}

/// Hears of a run; an error ends it, and is what [`train`] then gives.
pub type Listener<'l> = dyn FnMut(&Progress<'_>) -> Result<()> + 'l;

/// Trains a head.
///
/// The same request, options and engine give the same weights, bit for bit.
///
/// # Errors
/// [`crate::Error::Argument`] for options out of range, no samples, a label that is not below K, or
/// logits of another size; [`crate::Error::UnsupportedOperators`] and
/// [`crate::Error::Unsupported`] where the head has no gradient; [`crate::Error::Engine`] when the
/// engine fails; [`crate::Error::Io`] when the features or the checkpoint cannot be read or written;
/// and whatever `on` gives.
pub fn train(
    request: Request<'_>,
    options: &TrainOptions,
    on: &mut Listener<'_>,
) -> Result<Trained> {
    run::train(request, options, on)
}
