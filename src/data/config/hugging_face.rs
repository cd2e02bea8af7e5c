//! `preprocessor_config.json` and `processor_config.json` as transformers 5 reads them.
//!
//! A field that a file leaves out has a default that depends on the image processor class named in it. For classes
//! that are not in [`CLASSES`] a missing field is an error that names it: a guess would be off unnoticed.
//! Source of the defaults: `image_processing_pil_*.py`.

use serde_json::{Map, Value};

use super::timm;
use super::{number, numbers, pixels, square};
use crate::data::geometry::{Centring, Resize, Size};
use crate::data::preprocess::Preprocess;
use crate::data::presets::{CLIP, HALVES, IMAGENET};
use crate::data::problem::Read;
use crate::data::resize::Interpolation::{self, Bicubic, Bilinear};

/// Defaults of one Hugging Face image processor.
struct Class {
    /// Without `ImageProcessor`, `ImageProcessorFast` or `FeatureExtractor`.
    name: &'static str,
    resize: Resize,
    crop: Option<usize>,
    interpolation: Interpolation,
    normal: [[f32; 3]; 2],
    rule: Rule,
}

/// How a class turns `size` into a resize.
#[derive(Clone, Copy, PartialEq)]
enum Rule {
    /// A bare number is both edges.
    Square,
    /// A bare number is the shorter edge.
    Shorter,
    /// Shorter edge / `crop_pct`, then a crop to it; both edges from 384 up.
    ConvNext,
    /// Shorter edge / `crop_pct`.
    CropPct,
    /// Shorter edge * 256 / 224.
    Levit,
}

const VIT: Class = Class {
    name: "ViT",
    resize: Resize::Exact(Size {
        height: 224,
        width: 224,
    }),
    crop: None,
    interpolation: Bilinear,
    normal: HALVES,
    rule: Rule::Square,
};
const CLIP_CLASS: Class = Class {
    name: "CLIP",
    resize: Resize::ShorterEdge(224),
    crop: Some(224),
    interpolation: Bicubic,
    normal: CLIP,
    rule: Rule::Shorter,
};

const CLASSES: &[Class] = &[
    VIT,
    CLIP_CLASS,
    Class {
        name: "DeiT",
        resize: Resize::Exact(Size {
            height: 256,
            width: 256,
        }),
        crop: Some(224),
        interpolation: Bicubic,
        ..VIT
    },
    Class {
        name: "Beit",
        interpolation: Bicubic,
        ..VIT
    },
    Class {
        name: "Siglip",
        interpolation: Bicubic,
        ..VIT
    },
    Class {
        name: "Segformer",
        resize: Resize::Exact(Size {
            height: 512,
            width: 512,
        }),
        normal: IMAGENET,
        ..VIT
    },
    Class {
        name: "EfficientNet",
        resize: Resize::Exact(Size {
            height: 346,
            width: 346,
        }),
        interpolation: Bicubic,
        ..VIT
    },
    Class {
        name: "MobileNetV1",
        resize: Resize::ShorterEdge(256),
        interpolation: Bilinear,
        normal: HALVES,
        ..CLIP_CLASS
    },
    Class {
        name: "MobileNetV2",
        resize: Resize::ShorterEdge(256),
        interpolation: Bilinear,
        normal: HALVES,
        ..CLIP_CLASS
    },
    Class {
        name: "Bit",
        ..CLIP_CLASS
    },
    Class {
        name: "ConvNext",
        resize: Resize::ShorterEdge(384),
        crop: None,
        normal: HALVES,
        rule: Rule::ConvNext,
        ..CLIP_CLASS
    },
    Class {
        name: "PoolFormer",
        normal: IMAGENET,
        rule: Rule::CropPct,
        ..CLIP_CLASS
    },
    Class {
        name: "Levit",
        normal: IMAGENET,
        rule: Rule::Levit,
        ..CLIP_CLASS
    },
];

/// Reads the object that holds the image processor.
pub(super) fn read(object: &Map<String, Value>) -> Read<Preprocess> {
    if let Some(timm) = object.get("pretrained_cfg").and_then(Value::as_object) {
        return timm::read(timm);
    }
    let class = class_of(object);
    let missing = |field: &str| {
        format!("leaves out {field:?}, and the defaults of its image processor class are not known")
    };
    // A step is done unless it is switched off; what it needs must then be there.
    let does =
        |step: &str, default: bool| object.get(step).and_then(Value::as_bool).unwrap_or(default);
    let mut found = Preprocess {
        centring: Centring::Down,
        ..Preprocess::default()
    };
    found.resize = Some(Resize::Never);
    if does("do_resize", true) {
        let rule = class.map_or(Rule::Shorter, |class| class.rule);
        found.resize = match object.get("size") {
            Some(size) => Some(sized(size, rule, object)?),
            None => match class.ok_or_else(|| missing("size"))?.resize {
                Resize::ShorterEdge(edge) => Some(shorter_edge(edge, rule, object)?),
                resize => Some(resize),
            },
        };
        found.interpolation = match object.get("resample") {
            Some(number) => interpolation(number)?,
            None => class.ok_or_else(|| missing("resample"))?.interpolation,
        };
        if rule == Rule::ConvNext {
            convnext(&mut found, object)?;
        }
    }
    if does(
        "do_center_crop",
        class.is_some_and(|class| class.crop.is_some()),
    ) {
        found.crop = Some(match object.get("crop_size") {
            Some(size) => square(size)?,
            None => class
                .and_then(|class| class.crop)
                .map(Size::square)
                .ok_or_else(|| missing("crop_size"))?,
        });
    }
    found.rescale = rescale(object, does("do_rescale", true))?;
    if does("do_normalize", true) {
        let default = |row: usize| class.map(|class| class.normal[row].to_vec());
        found.mean = numbers(object, "image_mean")?
            .or(default(0))
            .ok_or_else(|| missing("image_mean"))?;
        found.std = numbers(object, "image_std")?
            .or(default(1))
            .ok_or_else(|| missing("image_std"))?;
    }
    if class.is_some_and(|class| class.name == "EfficientNet") {
        efficientnet(&mut found, object)?;
    }
    Ok(found)
}

fn class_of(object: &Map<String, Value>) -> Option<&'static Class> {
    let name = ["image_processor_type", "feature_extractor_type"]
        .iter()
        .find_map(|key| object.get(*key)?.as_str())?;
    let bare = name
        .trim_end_matches("Fast")
        .trim_end_matches("Pil")
        .trim_end_matches("ImageProcessor")
        .trim_end_matches("FeatureExtractor");
    CLASSES.iter().find(|class| class.name == bare)
}

/// `size` as a number, `{shortest_edge}` or `{height, width}`.
fn sized(size: &Value, rule: Rule, object: &Map<String, Value>) -> Read<Resize> {
    if size.is_number() && rule == Rule::Square {
        return Ok(Resize::Exact(square(size)?));
    }
    match size
        .get("shortest_edge")
        .or(size.is_number().then_some(size))
    {
        Some(edge) => shorter_edge(pixels(edge)?, rule, object),
        None => Ok(Resize::Exact(square(size)?)),
    }
}

fn shorter_edge(edge: usize, rule: Rule, object: &Map<String, Value>) -> Read<Resize> {
    Ok(Resize::ShorterEdge(match rule {
        Rule::CropPct | Rule::ConvNext => divided(edge, number(object, "crop_pct")?, rule),
        Rule::Levit => edge * 256 / 224,
        Rule::Square | Rule::Shorter => edge,
    }))
}

/// `int(edge / crop_pct)` with the class's own default.
fn divided(edge: usize, crop_pct: Option<f64>, rule: Rule) -> usize {
    let default = if rule == Rule::ConvNext {
        224.0 / 256.0
    } else {
        0.9
    };
    let share = crop_pct
        .filter(|share| *share > 0.05 && *share <= 1.0)
        .unwrap_or(default);
    (edge as f64 / share) as usize
}

/// Below 384 ConvNeXt cuts the size out of a larger image; from there on it ignores the ratio.
fn convnext(found: &mut Preprocess, object: &Map<String, Value>) -> Read<()> {
    let edge = match object.get("size") {
        None => 384,
        Some(size) => pixels(size.get("shortest_edge").unwrap_or(size))?,
    };
    if edge < 384 {
        found.crop = Some(Size::square(edge));
    } else {
        found.resize = Some(Resize::Exact(Size::square(edge)));
    }
    Ok(())
}

/// `include_top` divides by the deviation once more: ((x - mean) / std - 0) / std.
fn efficientnet(found: &mut Preprocess, object: &Map<String, Value>) -> Read<()> {
    let is_set = |key: &str, default| object.get(key).and_then(Value::as_bool).unwrap_or(default);
    if is_set("rescale_offset", false) {
        return Err(
            "sets rescale_offset, which is not supported; give --rescale, --mean and --std".into(),
        );
    }
    if is_set("include_top", true) {
        found.std.iter_mut().for_each(|std| *std *= *std);
    }
    Ok(())
}

/// `None` for 1/255, which bytes get anyway and float arrays do not.
fn rescale(object: &Map<String, Value>, does: bool) -> Read<Option<f64>> {
    if !does {
        return Ok(Some(1.0));
    }
    let factor = number(object, "rescale_factor")?.unwrap_or(1.0 / 255.0);
    Ok(((factor * 255.0 - 1.0).abs() > 1e-6).then_some(factor))
}

fn interpolation(number: &Value) -> Read<Interpolation> {
    let found = number.as_u64().and_then(Interpolation::from_pillow);
    found.ok_or_else(|| {
        format!("has \"resample\": {number}, expected one of Pillow's numbers 0 to 5").into()
    })
}
