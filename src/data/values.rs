//! Stored numbers to model values: scale, mean, deviation.

use super::array::Dtype;
use super::preprocess::{FloatArrays, Preprocess};
use super::problem::{Problem, Read};

/// `(value * scale - mean) / std`, in the order and precision of torchvision and numpy.
#[derive(Clone, Copy, Debug)]
pub(super) struct Affine {
    scale: Scale,
    mean: f32,
    std: f32,
}

#[derive(Clone, Copy, Debug)]
enum Scale {
    Keep,
    /// `/ 255` in f32, as `ToTensor` computes it: not the same bits as multiplying by 1/255.
    By255,
    Factor(f64),
}

impl Affine {
    pub(super) const IDENTITY: Self = Self {
        scale: Scale::Keep,
        mean: 0.0,
        std: 1.0,
    };

    /// The value the model gets.
    pub(super) fn apply(self, value: f32) -> f32 {
        let scaled = match self.scale {
            Scale::Keep => value,
            Scale::By255 => value / 255.0,
            Scale::Factor(factor) => (f64::from(value) * factor) as f32,
        };
        (scaled - self.mean) / self.std
    }
}

/// One transformation per channel of the model.
pub(super) fn affines(preprocess: &Preprocess, channels: usize, dtype: Dtype) -> Read<Vec<Affine>> {
    if dtype != Dtype::U8 && preprocess.float_arrays == FloatArrays::AsTheyAre {
        return Ok(vec![Affine::IDENTITY; channels]);
    }
    let scale = match preprocess.rescale {
        Some(1.0) => Scale::Keep,
        Some(factor) => Scale::Factor(factor),
        None if dtype == Dtype::U8 => Scale::By255,
        None => Scale::Keep,
    };
    let value = |name: &str, values: &[f32], channel: usize, default: f32| match values {
        [] => Ok(default),
        [one] => Ok(*one),
        several if several.len() == channels => Ok(several[channel]),
        several => Err(Problem::Content(format!(
            "cannot be normalised: {name} has {} values, the model's input takes {channels} channels",
            several.len()
        ))),
    };
    let of_channel = |channel| {
        Ok(Affine {
            scale,
            mean: value("mean", &preprocess.mean, channel, 0.0)?,
            std: value("std", &preprocess.std, channel, 1.0)?,
        })
    };
    (0..channels).map(of_channel).collect()
}

/// What happens to values of this type, in words.
pub(super) fn value_note(preprocess: &Preprocess, dtype: Dtype) -> String {
    if dtype != Dtype::U8 && preprocess.float_arrays == FloatArrays::AsTheyAre {
        return format!("{} values taken as they are", dtype.name());
    }
    preprocess.describe_values(dtype == Dtype::U8)
}
