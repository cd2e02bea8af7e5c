//! timm's `pretrained_cfg`, as `transforms_imagenet_eval` reads it.

use serde_json::{Map, Value};

use super::{number, numbers, pixels};
use crate::data::geometry::{Resize, Size};
use crate::data::preprocess::Preprocess;
use crate::data::presets::IMAGENET;
use crate::data::problem::Read;
use crate::data::resize::Interpolation::Bilinear;

/// Reads the object that holds `input_size`.
pub(super) fn read(object: &Map<String, Value>) -> Read<Preprocess> {
    let input = object.get("input_size").and_then(Value::as_array);
    let Some([_, height, width]) = input.map(Vec::as_slice) else {
        return Err("has no input_size of three numbers".into());
    };
    let size = Size {
        height: pixels(height)?,
        width: pixels(width)?,
    };
    let share = number(object, "crop_pct")?.unwrap_or(0.875);
    if !(0.05..=1.0).contains(&share) {
        return Err(format!("has \"crop_pct\": {share}, expected a share of at most 1").into());
    }
    let grown = |edge: usize| (edge as f64 / share).floor() as usize;
    let scaled = Size {
        height: grown(size.height),
        width: grown(size.width),
    };
    let resize = match object.get("crop_mode").and_then(Value::as_str) {
        Some("squash") => Resize::Exact(scaled),
        Some("border") => {
            return Err(
                "has \"crop_mode\": \"border\", which is not supported; give --resize and --crop"
                    .into(),
            );
        }
        _ if scaled.height == scaled.width => Resize::ShorterEdge(scaled.height),
        _ => Resize::CropShare(share),
    };
    let interpolation = match object.get("interpolation").and_then(Value::as_str) {
        Some(name) => name
            .parse()
            .map_err(|_| format!("has the unknown interpolation {name:?}"))?,
        None => Bilinear,
    };
    Ok(Preprocess {
        resize: Some(resize),
        crop: Some(size),
        interpolation,
        mean: numbers(object, "mean")?.unwrap_or(IMAGENET[0].to_vec()),
        std: numbers(object, "std")?.unwrap_or(IMAGENET[1].to_vec()),
        ..Preprocess::default()
    })
}
