//! Named preprocessings, one line each.

use super::geometry::Resize;
use super::pixels::Channels;
use super::preprocess::Preprocess;
use super::resize::Interpolation::{self, Bicubic, Bilinear};

/// Mean and standard deviation of ImageNet's training images (torchvision, timm).
pub(super) const IMAGENET: [[f32; 3]; 2] = [[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]];
/// Values to -1..1 (Inception, ViT; `IMAGENET_STANDARD` in transformers).
pub(super) const HALVES: [[f32; 3]; 2] = [[0.5; 3], [0.5; 3]];
/// Mean and standard deviation of CLIP's training images.
pub(super) const CLIP: [[f32; 3]; 2] = [
    [0.481_454_66, 0.457_827_5, 0.408_210_73],
    [0.268_629_54, 0.261_302_6, 0.275_777_1],
];

struct Preset {
    name: &'static str,
    /// Share of the resized image that the crop keeps; `None`: scaled to cover the model's input.
    crop_share: Option<f64>,
    interpolation: Interpolation,
    rescale: Option<f64>,
    mean: &'static [f32],
    std: &'static [f32],
    channels: Option<Channels>,
}

const NONE: Preset = Preset {
    name: "none",
    crop_share: None,
    interpolation: Bilinear,
    rescale: None,
    mean: &[],
    std: &[],
    channels: None,
};

/// Sizes follow the model's input: `imagenet` is 256/224 for an input of 224, 342/299 for one of 299.
const PRESETS: &[Preset] = &[
    NONE,
    // torchvision's first weights: resize 256, crop 224.
    Preset {
        name: "imagenet",
        crop_share: Some(0.875),
        mean: &IMAGENET[0],
        std: &IMAGENET[1],
        ..NONE
    },
    // torchvision's second weights: resize 232, crop 224; 224/232 rounded down so that 224 gives 232.
    Preset {
        name: "imagenet-v2",
        crop_share: Some(0.965),
        mean: &IMAGENET[0],
        std: &IMAGENET[1],
        ..NONE
    },
    // timm's bicubic default.
    Preset {
        name: "imagenet-bicubic",
        crop_share: Some(0.875),
        interpolation: Bicubic,
        mean: &IMAGENET[0],
        std: &IMAGENET[1],
        ..NONE
    },
    Preset {
        name: "inception",
        crop_share: Some(0.875),
        interpolation: Bicubic,
        mean: &HALVES[0],
        std: &HALVES[1],
        ..NONE
    },
    Preset {
        name: "clip",
        interpolation: Bicubic,
        mean: &CLIP[0],
        std: &CLIP[1],
        ..NONE
    },
    // keras.applications, mode "tf": x / 127.5 - 1.
    Preset {
        name: "keras-tf",
        rescale: Some(1.0),
        mean: &[127.5],
        std: &[127.5],
        ..NONE
    },
    // keras.applications, mode "caffe" (VGG, ResNet v1): blue first, minus the mean, not scaled.
    Preset {
        name: "keras-caffe",
        rescale: Some(1.0),
        mean: &[103.939, 116.779, 123.68],
        std: &[1.0],
        channels: Some(Channels::Bgr),
        ..NONE
    },
    Preset {
        name: "mnist",
        mean: &[0.1307],
        std: &[0.3081],
        ..NONE
    },
    Preset {
        name: "fashion-mnist",
        mean: &[0.286],
        std: &[0.353],
        ..NONE
    },
    Preset {
        name: "cifar10",
        mean: &[0.4914, 0.4822, 0.4465],
        std: &[0.247, 0.2435, 0.2616],
        ..NONE
    },
    Preset {
        name: "cifar100",
        mean: &[0.5071, 0.4865, 0.4409],
        std: &[0.2673, 0.2564, 0.2762],
        ..NONE
    },
];

/// Names of the presets, in the order of the documentation.
pub fn names() -> impl Iterator<Item = &'static str> {
    PRESETS.iter().map(|preset| preset.name)
}

pub(super) fn find(name: &str) -> Option<Preprocess> {
    let preset = PRESETS.iter().find(|preset| preset.name == name)?;
    Some(Preprocess {
        source: format!("preset {name}"),
        resize: preset.crop_share.map(Resize::CropShare),
        interpolation: preset.interpolation,
        rescale: preset.rescale,
        mean: preset.mean.to_vec(),
        std: preset.std.to_vec(),
        channels: preset.channels,
        ..Preprocess::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_is_sound_and_unique() {
        let mut seen = std::collections::BTreeSet::new();
        for name in names() {
            let preset = find(name).unwrap();
            preset
                .check()
                .unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(seen.insert(name), "{name} twice");
            assert_eq!(
                Preprocess::from_json(&preset.to_json()).unwrap().mean,
                preset.mean
            );
        }
        assert!(find("imagenette").is_none());
    }
}
