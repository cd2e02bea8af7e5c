//! Flags that several commands share.

use std::path::PathBuf;

use clap::Args;
use onnx_prune::{
    data::{Channels, Interpolation, Layout, OnBadSample, Resize, Size},
    engine::{EngineChoice, Precision, ProviderChoice},
    pipeline::BatchSize,
    sensitivity::{Criterion, Norm, Of, Scale},
};

use super::super::values::{self, SampleCount};

/// Flags that decide a score.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Scores")]
pub(in super::super) struct ScoreFlags {
    /// What makes a neuron worth keeping: lsa, weight, activation, variance, apoz, taylor, wifv,
    /// obs, curvature, random [default: lsa]
    #[arg(long, value_name = "NAME", value_parser = values::own::<Criterion>)]
    pub(in super::super) criterion: Option<Criterion>,
    /// The norm over the samples: a number from 1 on, or inf [default: inf]
    #[arg(long, value_name = "P", value_parser = values::own::<Norm>, allow_negative_numbers = true)]
    pub(in super::super) norm: Option<Norm>,
    /// The norm over the classes [default: that of --norm]
    #[arg(long, value_name = "Q", value_parser = values::own::<Norm>, allow_negative_numbers = true)]
    pub(in super::super) over_classes: Option<Norm>,
    /// What is differentiated: probabilities or logits [default: probabilities, logits without data]
    #[arg(long, value_name = "SCORES", value_parser = values::own::<Of>)]
    pub(in super::super) of: Option<Of>,
    /// What one unit of a neuron's change is worth: none, std, range, residual (what the neurons
    /// kept cannot reproduce) or auto [default: auto, which is residual, or none without data]
    #[arg(long, value_name = "SCALE", value_parser = values::own::<Scale>)]
    pub(in super::super) scale: Option<Scale>,
    /// Leave out class rows of the derivatives whose p (1 - p), p the class' probability, is no more
    /// than this, as 1e-5; the report says what it costs
    #[arg(long, value_name = "EPS", value_parser = values::tolerance, allow_negative_numbers = true)]
    pub(in super::super) row_tolerance: Option<f64>,
    /// Let M random sums of the class rows stand for all of them, with --norm 2; the report says
    /// what it costs
    #[arg(long, value_name = "M", value_parser = values::at_least_one, allow_negative_numbers = true)]
    pub(in super::super) probes: Option<usize>,
}

/// Flags about samples and what is done to them.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Data")]
pub(in super::super) struct DataFlags {
    /// Samples: a folder of images, .csv of paths and labels, .tar, .parquet, CIFAR, IDX, .npy, .npz or
    /// .pb; several by braces, `a-{00..12}.tar`; a part by `#`, `folder#train` [default:
    /// none]
    #[arg(long, value_name = "PATH")]
    pub(in super::super) data: Option<PathBuf>,
    /// What becomes of samples that cannot be read: they end the run (error), or are left out and
    /// counted (skip, which decodes every sample once beforehand) [default: error]
    #[arg(long, value_name = "error|skip", value_parser = values::own::<OnBadSample>)]
    pub(in super::super) on_bad_sample: Option<OnBadSample>,
    /// Decides every random choice [default: 0]
    #[arg(long, value_name = "SEED", allow_negative_numbers = true)]
    pub(in super::super) seed: Option<u64>,
    #[command(flatten)]
    pub(in super::super) preprocess: PreprocessFlags,
}

/// Flags about how many samples are scored.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Data")]
pub(in super::super) struct SampleFlags {
    /// Score, or train on, at most this many samples; auto: as many as it takes for others to choose
    /// the same neurons [default: 1000; all when training; without data, bounds from the weights
    /// where they are enough, else 32 of synthetic noise]
    #[arg(long, value_name = "N", value_parser = values::samples, allow_negative_numbers = true)]
    pub(in super::super) samples: Option<SampleCount>,
    /// Samples per run of the model, or auto: as many as fit into free memory [default: by the size
    /// of a sample]
    #[arg(long, value_name = "N", value_parser = values::batch, allow_negative_numbers = true)]
    pub(in super::super) batch: Option<BatchSize>,
    /// Keep what the trunk computes in this folder, and use what is there [default: the user's
    /// cache folder]
    #[arg(long, value_name = "DIR", conflicts_with = "no_cache")]
    pub(in super::super) cache: Option<PathBuf>,
    /// Keep what the trunk computes in memory alone
    #[arg(long)]
    pub(in super::super) no_cache: bool,
}

/// Flags about what is done to a sample; each replaces one setting of the preset or file.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Preprocessing (with --data)")]
pub(in super::super) struct PreprocessFlags {
    /// A preset (imagenet, none, ...) or a preprocessor_config.json or timm config.json
    #[arg(long, value_name = "NAME|FILE")]
    pub(in super::super) preprocess: Option<String>,
    /// Resize first: 256 (shorter edge), 256x224 (height x width), /0.875 or none
    #[arg(long, value_name = "SIZE", value_parser = values::own::<Resize>)]
    pub(in super::super) resize: Option<Resize>,
    /// Then cut out the centre: 224 or 224x192
    #[arg(long, value_name = "SIZE", value_parser = values::own::<Size>)]
    pub(in super::super) crop: Option<Size>,
    /// Filter of the resize: nearest, box, bilinear, hamming, bicubic or lanczos
    #[arg(long, value_name = "FILTER", value_parser = values::own::<Interpolation>)]
    pub(in super::super) interpolation: Option<Interpolation>,
    /// Multiply pixels by this [default: 1/255 for bytes]
    #[arg(long, value_name = "FACTOR", allow_negative_numbers = true)]
    pub(in super::super) rescale: Option<f64>,
    /// Subtract this from scaled pixels: one number, or one for each channel (0.485,0.456,0.406)
    #[arg(
        long,
        value_name = "M,...",
        value_delimiter = ',',
        allow_hyphen_values = true
    )]
    pub(in super::super) mean: Option<Vec<f32>>,
    /// Then divide by this
    #[arg(
        long,
        value_name = "S,...",
        value_delimiter = ',',
        allow_hyphen_values = true
    )]
    pub(in super::super) std: Option<Vec<f32>>,
    /// Layout of the model's input, where its shape does not tell: nchw or nhwc
    #[arg(long, value_name = "LAYOUT", value_parser = values::own::<Layout>)]
    pub(in super::super) layout: Option<Layout>,
    /// Channels the model is fed with: grey, rgb or bgr
    #[arg(long, value_name = "CHANNELS", value_parser = values::own::<Channels>)]
    pub(in super::super) channels: Option<Channels>,
}

/// Where figures come from.
#[derive(Debug, Default, Args)]
pub(in super::super) struct TestFlag {
    /// Samples for figures alone; nothing of --data is held out then
    #[arg(long, value_name = "PATH", help_heading = "Data")]
    pub(in super::super) test: Option<PathBuf>,
}

/// What a head is trained towards, where nothing else names a teacher.
#[derive(Debug, Default, Args)]
pub(in super::super) struct DistillFlag {
    /// With --epochs, learn the original's own scores even where there are labels [default: labels
    /// where there are any]
    #[arg(long, help_heading = "Training")]
    pub(in super::super) distill: bool,
}

/// Flags about what computes.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Engine")]
pub(in super::super) struct EngineFlags {
    /// What runs the model: auto (ONNX Runtime where found, else tract), tract or ort
    /// [default: auto]
    #[arg(long, value_name = "ENGINE")]
    pub(in super::super) engine: Option<EngineChoice>,
    /// Where it computes: auto, cpu, cuda or cuda:1 [default: auto]
    #[arg(long, value_name = "PROVIDER")]
    pub(in super::super) provider: Option<ProviderChoice>,
    /// How exact products of f32 are on a CUDA device: fp32, or tf32 (rounded to 10 bits first, and
    /// faster) [default: fp32]
    #[arg(long, value_name = "PRECISION")]
    pub(in super::super) precision: Option<Precision>,
    /// Threads that compute [default: one per core]
    #[arg(long, value_name = "N", value_parser = values::at_least_one, allow_negative_numbers = true)]
    pub(in super::super) threads: Option<usize>,
    /// The ONNX Runtime library to use, instead of looking for one
    #[arg(long, value_name = "FILE")]
    pub(in super::super) ort_lib: Option<PathBuf>,
}
