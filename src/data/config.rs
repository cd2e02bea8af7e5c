//! Preprocessing that the model's authors wrote down: Hugging Face and timm configuration files.

mod hugging_face;
mod timm;

use std::path::Path;

use serde_json::{Map, Value};

use super::geometry::{Size, edge};
use super::preprocess::Preprocess;
use super::problem::Read;
use super::readers::at;
use crate::error::{Error, Result};

/// Files looked for beside the model and then in its parent folder, in this order.
const NAMES: [&str; 3] = [
    "processor_config.json",
    "preprocessor_config.json",
    "config.json",
];
/// Far more than any such file has.
const MAX_BYTES: u64 = 16 << 20;

/// The configuration beside the model or in its parent folder, if there is one that speaks of images.
pub(super) fn beside(model: &Path) -> Result<Option<Preprocess>> {
    let folder = model.parent().map(|folder| {
        if folder.as_os_str().is_empty() {
            Path::new(".")
        } else {
            folder
        }
    });
    let parent = folder.map(|folder| folder.join(".."));
    for folder in folder.map(Path::to_owned).into_iter().chain(parent) {
        for name in NAMES {
            let path = folder.join(name);
            if !path.is_file() {
                continue;
            }
            let json = match load(&path) {
                // Many programs call their settings so, and not all of them write JSON.
                Err(Error::Data { .. }) if name == "config.json" => continue,
                loaded => loaded?,
            };
            if let Some(found) = interpret(&path, &json)? {
                return Ok(Some(found));
            }
        }
    }
    Ok(None)
}

/// The configuration in a file the user named; it must speak of images.
pub(super) fn read(path: &Path) -> Result<Preprocess> {
    interpret(path, &load(path)?)?.ok_or_else(|| Error::Data {
        path: path.to_owned(),
        what: "says nothing about images: neither a Hugging Face image processor, a timm pretrained_cfg nor our own JSON".to_owned(),
    })
}

fn load(path: &Path) -> Result<Value> {
    let refuse = |what: String| Error::Data {
        path: path.to_owned(),
        what,
    };
    let size = path.metadata().map_err(Error::io(path))?.len();
    if size > MAX_BYTES {
        return Err(refuse(format!("is {size} bytes long, no configuration is")));
    }
    let bytes = std::fs::read(path).map_err(Error::io(path))?;
    serde_json::from_slice(&bytes).map_err(|error| refuse(format!("is not JSON: {error}")))
}

fn interpret(path: &Path, json: &Value) -> Result<Option<Preprocess>> {
    let mut found = parse(json).map_err(at(path))?;
    if let Some(found) = &mut found {
        found.source = path.display().to_string();
        found.check()?;
    }
    Ok(found)
}

/// Tells the kinds apart by their keys.
fn parse(json: &Value) -> Read<Option<Preprocess>> {
    let Some(object) = json.as_object() else {
        return Err("is not a JSON object".into());
    };
    if object.contains_key("float_arrays") {
        let own = serde_json::from_value(json.clone());
        return own
            .map(Some)
            .map_err(|error| format!("is not a preprocessing of ours: {error}").into());
    }
    if let Some(inner) = object.get("image_processor").and_then(Value::as_object) {
        return hugging_face::read(inner).map(Some);
    }
    if [
        "image_processor_type",
        "feature_extractor_type",
        "image_mean",
        "do_normalize",
    ]
    .iter()
    .any(|key| object.contains_key(*key))
    {
        return hugging_face::read(object).map(Some);
    }
    let timm = object
        .get("pretrained_cfg")
        .and_then(Value::as_object)
        .unwrap_or(object);
    if timm.contains_key("input_size")
        && (timm.contains_key("mean") || timm.contains_key("crop_pct"))
    {
        return timm::read(timm).map(Some);
    }
    Ok(None)
}

/// A number for both edges, or `{height, width}`.
fn square(size: &Value) -> Read<Size> {
    if size.is_number() {
        return Ok(Size::square(pixels(size)?));
    }
    match (size.get("height"), size.get("width")) {
        (Some(height), Some(width)) => Ok(Size {
            height: pixels(height)?,
            width: pixels(width)?,
        }),
        _ => Err(format!(
            "has the size {size}, expected a number, shortest_edge, or height and width"
        )
        .into()),
    }
}

fn pixels(value: &Value) -> Read<usize> {
    edge(&value.to_string()).ok_or_else(|| format!("has a size of {value} pixels").into())
}

fn number(object: &Map<String, Value>, field: &str) -> Read<Option<f64>> {
    match object.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_f64() {
            Some(number) => Ok(Some(number)),
            None => Err(format!("has {field:?}: {value}, expected a number").into()),
        },
    }
}

/// One number or a list of them.
fn numbers(object: &Map<String, Value>, field: &str) -> Read<Option<Vec<f32>>> {
    let list = match object.get(field) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Array(list)) => list.iter().map(Value::as_f64).collect(),
        Some(one) => one.as_f64().map(|one| vec![one]),
    };
    match list {
        Some(list) => Ok(Some(
            list.into_iter().map(|number: f64| number as f32).collect(),
        )),
        None => Err(format!("has {field:?} that is not a list of numbers").into()),
    }
}

#[cfg(test)]
mod tests;
