//! How a stored sample becomes model input, and where that knowledge came from.

use std::fmt::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::geometry::{Centring, Resize, Size};
use super::pixels::Channels;
use super::resize::Interpolation;
use super::shape::Layout;
use super::{config, presets};
use crate::error::{Error, Result};

/// What happens to a sample between the file and the model, in the order of the fields.
///
/// Written as JSON into the output model's metadata (`onnx_prune.preprocess`), from which [`Preprocess::find`] takes
/// it up again, so that a later run on the pruned model needs no flags.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Preprocess {
    /// Where the settings came from, in words: `preset imagenet, then --crop`.
    pub source: String,
    /// Channels the model is fed with; `None`: as many as its input declares, red first.
    pub channels: Option<Channels>,
    /// First geometric step; with neither `resize` nor `crop`, images are scaled to cover the model's input and cut.
    pub resize: Option<Resize>,
    /// Second geometric step: the centre, padded with black where the image is too small.
    pub crop: Option<Size>,
    /// Rounding of the crop's position.
    pub centring: Centring,
    /// Filter of the resize, computed as Pillow does.
    pub interpolation: Interpolation,
    /// Factor on each value; `None`: 1/255 for bytes, none for arrays of another type.
    pub rescale: Option<f64>,
    /// Subtracted after scaling; one value for all channels, or one for each; empty: nothing.
    pub mean: Vec<f32>,
    /// Divided by after that; as many values as `mean`.
    pub std: Vec<f32>,
    /// Layout of the model's input where its shape does not tell.
    pub layout: Option<Layout>,
    /// Whether `rescale`, `mean` and `std` also apply to arrays that are not bytes.
    pub float_arrays: FloatArrays,
}

/// What is done to arrays whose values are not bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FloatArrays {
    /// They are taken to be model input already.
    #[default]
    AsTheyAre,
    /// `rescale`, `mean` and `std` are applied, because a flag or named preset asked for them.
    Normalised,
}

impl Default for Preprocess {
    /// Bytes divided by 255, images scaled to cover the model's input and cut to it, nothing else.
    fn default() -> Self {
        Self {
            source: "default".to_owned(),
            channels: None,
            resize: None,
            crop: None,
            centring: Centring::Even,
            interpolation: Interpolation::Bilinear,
            rescale: None,
            mean: vec![],
            std: vec![],
            layout: None,
            float_arrays: FloatArrays::AsTheyAre,
        }
    }
}

/// What the command line says; each field given replaces that field alone.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overrides {
    /// `--preprocess`: a preset's name or the path of a configuration file. Given, nothing is looked for elsewhere.
    pub preprocess: Option<String>,
    /// `--resize`
    pub resize: Option<Resize>,
    /// `--crop`
    pub crop: Option<Size>,
    /// `--interpolation`
    pub interpolation: Option<Interpolation>,
    /// `--rescale`
    pub rescale: Option<f64>,
    /// `--mean`
    pub mean: Option<Vec<f32>>,
    /// `--std`
    pub std: Option<Vec<f32>>,
    /// `--layout`
    pub layout: Option<Layout>,
    /// `--channels`
    pub channels: Option<Channels>,
}

impl Preprocess {
    /// The preset called `name`, see [`super::preset_names`].
    pub fn preset(name: &str) -> Result<Self> {
        presets::find(name).ok_or_else(|| Error::Argument {
            name: "--preprocess",
            what: format!(
                "{name:?} is neither a file nor one of the presets {}",
                presets::names().collect::<Vec<_>>().join(", ")
            ),
        })
    }

    /// Reads a Hugging Face `preprocessor_config.json` or `processor_config.json`, a timm `config.json`, or a
    /// `Preprocess` of our own. `Error::Data` names the field that is missing or cannot be used.
    pub fn from_file(path: &Path) -> Result<Self> {
        config::read(path)
    }

    /// Reads the JSON that [`Preprocess::to_json`] wrote into a model's metadata.
    pub fn from_json(text: &str) -> Result<Self> {
        let mut read: Self = serde_json::from_str(text).map_err(|error| Error::Argument {
            name: "metadata onnx_prune.preprocess",
            what: error.to_string(),
        })?;
        read.source = "the model's metadata".to_owned();
        read.check()?;
        Ok(read)
    }

    /// One line of JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("strings and numbers always serialize")
    }

    /// Decides what to use, most explicit first: `--preprocess`; `stored` (the model's `onnx_prune.preprocess`); a
    /// configuration file beside the model or in its parent folder; the default. Then single flags replace single fields.
    pub fn find(overrides: &Overrides, model: Option<&Path>, stored: Option<&str>) -> Result<Self> {
        let mut found = match (&overrides.preprocess, stored) {
            (Some(name), _) => Self {
                float_arrays: FloatArrays::Normalised,
                ..Self::named(name)?
            },
            (None, Some(text)) => Self::from_json(text)?,
            (None, None) => model
                .map(config::beside)
                .transpose()?
                .flatten()
                .unwrap_or_default(),
        };
        found.apply(overrides);
        found.check()?;
        Ok(found)
    }

    fn named(name: &str) -> Result<Self> {
        match presets::find(name) {
            Some(preset) => Ok(preset),
            None if Path::new(name).is_file() => Self::from_file(Path::new(name)),
            None => Self::preset(name),
        }
    }

    fn apply(&mut self, overrides: &Overrides) {
        let given = Overrides::clone(overrides);
        let mut flags = vec![];
        let mut replace = |flag: &'static str, given: bool| {
            if given {
                flags.push(flag);
            }
        };
        replace("--resize", given.resize.is_some());
        replace("--crop", given.crop.is_some());
        replace("--interpolation", given.interpolation.is_some());
        replace("--rescale", given.rescale.is_some());
        replace("--mean", given.mean.is_some());
        replace("--std", given.std.is_some());
        replace("--layout", given.layout.is_some());
        replace("--channels", given.channels.is_some());
        if given.rescale.is_some() || given.mean.is_some() || given.std.is_some() {
            self.float_arrays = FloatArrays::Normalised;
        }
        self.resize = given.resize.or(self.resize);
        self.crop = given.crop.or(self.crop);
        self.interpolation = given.interpolation.unwrap_or(self.interpolation);
        self.rescale = given.rescale.or(self.rescale);
        self.mean = given.mean.unwrap_or_else(|| std::mem::take(&mut self.mean));
        self.std = given.std.unwrap_or_else(|| std::mem::take(&mut self.std));
        self.layout = given.layout.or(self.layout);
        self.channels = given.channels.or(self.channels);
        if !flags.is_empty() {
            let base = if self.source == "default" {
                String::new()
            } else {
                format!("{}, then ", self.source)
            };
            self.source = format!("{base}{}", flags.join(" "));
        }
    }

    /// Refuses numbers that cannot be meant.
    pub(super) fn check(&self) -> Result<()> {
        let refuse = |name, what: String| Err(Error::Argument { name, what });
        if let Some(bad) = self.mean.iter().find(|value| !value.is_finite()) {
            return refuse("--mean", format!("{bad} is not a finite number"));
        }
        if let Some(bad) = self
            .std
            .iter()
            .find(|value| !(value.is_finite() && **value > 0.0))
        {
            return refuse("--std", format!("{bad} is not a positive number"));
        }
        let lengths = (self.mean.len(), self.std.len());
        if lengths.0 > 1 && lengths.1 > 1 && lengths.0 != lengths.1 {
            return refuse(
                "--std",
                format!("has {} values where --mean has {}", lengths.1, lengths.0),
            );
        }
        if let Some(factor) = self
            .rescale
            .filter(|factor| !(factor.is_finite() && *factor > 0.0))
        {
            return refuse("--rescale", format!("{factor} is not a positive number"));
        }
        // Nobody's mean lies this far outside 0..1 unless it is on the scale of 0..255.
        if self.rescale.is_none() && self.mean.iter().any(|mean| mean.abs() > 2.0) {
            return refuse(
                "--mean",
                format!(
                    "{:?} is on the scale of 0 to 255, but bytes are divided by 255 first; divide it too, or add --rescale 1",
                    self.mean
                ),
            );
        }
        Ok(())
    }

    /// One line for the user: `resize 256, crop 224x224, bilinear; / 255, - [0.485, 0.456, 0.406], ...`.
    pub fn describe(&self) -> String {
        let mut text = self.describe_geometry();
        text.push_str("; ");
        text.push_str(&self.describe_values(true));
        if let Some(layout) = self.layout {
            let _ = write!(text, ", {}", layout.name());
        }
        let _ = write!(text, " (from {})", self.source);
        text
    }

    /// `/ 255, - [0.5], / [0.5], bgr` for bytes, or what of it applies to other numbers.
    pub(super) fn describe_values(&self, bytes: bool) -> String {
        let mut parts = vec![];
        match self.rescale {
            None if bytes => parts.push("values / 255".to_owned()),
            None => parts.push("values not scaled".to_owned()),
            Some(1.0) => parts.push("values not scaled".to_owned()),
            Some(factor) => parts.push(format!("values * {factor}")),
        }
        if !self.mean.is_empty() {
            parts.push(format!("- {:?}", self.mean));
        }
        if !self.std.is_empty() {
            parts.push(format!("/ {:?}", self.std));
        }
        if let Some(channels) = self.channels {
            parts.push(channels.name().to_owned());
        }
        parts.join(", ")
    }

    fn describe_geometry(&self) -> String {
        let filter = self.interpolation.name();
        match (self.resize, self.crop) {
            (None, None) => format!("scaled to cover the model's size and cut to it, {filter}"),
            (Some(Resize::Never), None) => "not resized".to_owned(),
            (None | Some(Resize::Never), Some(crop)) => format!("crop {crop}"),
            (Some(Resize::CropShare(share)), None) => {
                format!("resize to model's size / {share}, crop, {filter}")
            }
            (Some(Resize::CropShare(share)), Some(crop)) => {
                format!("resize to {crop} / {share}, crop {crop}, {filter}")
            }
            (Some(resize), None) => format!("resize {resize}, {filter}"),
            (Some(resize), Some(crop)) => format!("resize {resize}, crop {crop}, {filter}"),
        }
    }
}

#[cfg(test)]
mod tests;
