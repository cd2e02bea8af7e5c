//! Where the pixels of the model's input come from in the image: resize, then cut out the centre.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::pixels::Pixels;
use super::resize::Interpolation;
use crate::error::{Error, Result};

/// The largest edge a flag or configuration may ask for; far above any model, far below trouble.
const MAX_EDGE: usize = 16_384;

/// Height and width in pixels, written `224x192`, or `224` where both are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Size {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl Size {
    pub(super) fn square(edge: usize) -> Self {
        Self {
            height: edge,
            width: edge,
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.height, self.width)
    }
}

impl From<Size> for String {
    fn from(size: Size) -> Self {
        size.to_string()
    }
}

impl TryFrom<String> for Size {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl FromStr for Size {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (height, width) = text.split_once(['x', 'X']).unwrap_or((text, text));
        match (edge(height), edge(width)) {
            (Some(height), Some(width)) => Ok(Self { height, width }),
            _ => Err(Error::Argument {
                name: "--crop",
                what: format!(
                    "{text:?} is not a size such as 224 or 224x192 (height x width, 1 to {MAX_EDGE})"
                ),
            }),
        }
    }
}

pub(super) fn edge(text: &str) -> Option<usize> {
    text.trim()
        .parse()
        .ok()
        .filter(|edge| (1..=MAX_EDGE).contains(edge))
}

/// How an image is resized before it is cut.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Resize {
    /// The shorter edge becomes this long and the other keeps the ratio, cut to whole pixels; written `256`.
    ShorterEdge(usize),
    /// Both edges are given, the ratio is not kept; written `256x224`.
    Exact(Size),
    /// So that the crop (or the model's input) is this share of the shorter edge; written `/0.875`.
    CropShare(f64),
    /// Not at all; written `none`.
    Never,
}

impl fmt::Display for Resize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ShorterEdge(edge) => write!(f, "{edge}"),
            Self::Exact(size) => write!(f, "{size}"),
            Self::CropShare(share) => write!(f, "/{share}"),
            Self::Never => f.write_str("none"),
        }
    }
}

impl From<Resize> for String {
    fn from(resize: Resize) -> Self {
        resize.to_string()
    }
}

impl TryFrom<String> for Resize {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl FromStr for Resize {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let share = |text: &str| {
            let share = text.parse::<f64>().ok();
            share.filter(|share| *share >= 0.1 && *share <= 1.0)
        };
        let parsed = match text.strip_prefix('/') {
            Some(text) => share(text).map(Self::CropShare),
            None if text == "none" => Some(Self::Never),
            None if text.contains(['x', 'X']) => text.parse().ok().map(Self::Exact),
            None => edge(text).map(Self::ShorterEdge),
        };
        parsed.ok_or_else(|| Error::Argument {
            name: "--resize",
            what: format!(
                "{text:?} is none of 256 (shorter edge), 256x224 (height x width), /0.875 (crop as a share of it), none"
            ),
        })
    }
}

/// Which pixel is the upper left one of a centred cut when an odd number of pixels is left over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Centring {
    /// Halves go to the even number: torchvision's and timm's `round`.
    #[default]
    Even,
    /// Halves go down: Hugging Face's `//`.
    Down,
}

impl Centring {
    /// Start of a span of `inner` pixels centred in `outer`; negative where `inner` is the longer one.
    fn start(self, outer: usize, inner: usize) -> isize {
        let spare = outer.abs_diff(inner);
        let half = match (self, outer >= inner) {
            (Self::Even, true) if spare % 4 == 3 => spare / 2 + 1,
            // Padding: torchvision puts the smaller half in front, Hugging Face the larger one.
            (Self::Down, false) => spare.div_ceil(2),
            _ => spare / 2,
        };
        let half = isize::try_from(half).unwrap_or(0);
        if outer >= inner { half } else { -half }
    }
}

/// The two steps, with the model's size known.
#[derive(Clone, Debug)]
pub(super) struct Geometry {
    resize: Step,
    crop: Option<Size>,
    centring: Centring,
    interpolation: Interpolation,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Keep,
    ShorterEdge(usize),
    Exact(Size),
    /// The smallest image of this ratio that covers the size.
    Cover(Size),
}

impl Geometry {
    /// An image stays as it is.
    pub(super) fn keep() -> Self {
        Self {
            resize: Step::Keep,
            crop: None,
            centring: Centring::default(),
            interpolation: Interpolation::Nearest,
        }
    }

    /// Whether images come out as they go in.
    pub(super) fn is_keep(&self) -> bool {
        matches!(self.resize, Step::Keep) && self.crop.is_none()
    }

    /// What `resize` and `crop` ask for. Where neither is given, images are scaled to cover the model's size and cut
    /// to it; `None` where a size is needed and neither the model nor the flags have one.
    pub(super) fn new(
        resize: Option<Resize>,
        crop: Option<Size>,
        model: Option<Size>,
        centring: Centring,
        interpolation: Interpolation,
    ) -> Option<Self> {
        let base = crop.or(model);
        let (resize, crop) = match (resize, crop) {
            (None, None) => (model.map_or(Step::Keep, Step::Cover), model),
            (None | Some(Resize::Never), crop) => (Step::Keep, crop),
            (Some(Resize::ShorterEdge(edge)), crop) => (Step::ShorterEdge(edge), crop),
            (Some(Resize::Exact(size)), crop) => (Step::Exact(size), crop),
            (Some(Resize::CropShare(share)), _) => {
                let grown = |edge: usize| ((edge as f64 / share).floor() as usize).max(1);
                let base = base?;
                let covered = Size {
                    height: grown(base.height),
                    width: grown(base.width),
                };
                (Step::Cover(covered), Some(base))
            }
        };
        Some(Self {
            resize,
            crop,
            centring,
            interpolation,
        })
    }

    /// The size an image of `size` comes out with.
    pub(super) fn output(&self, size: Size) -> Size {
        self.crop.unwrap_or_else(|| self.resized(size))
    }

    /// Runs both steps.
    pub(super) fn apply(&self, pixels: Pixels) -> Pixels {
        let resized = self.resized(pixels.size);
        let Some(crop) = self.crop else {
            return pixels.resized(resized, self.interpolation);
        };
        let top = self.centring.start(resized.height, crop.height);
        let left = self.centring.start(resized.width, crop.width);
        pixels.resized_window(resized, self.interpolation, crop, (top, left))
    }

    /// The largest image, in pixels, that the resize step makes of one of `size`.
    pub(super) fn resized(&self, size: Size) -> Size {
        match self.resize {
            Step::Keep => size,
            Step::Exact(size) => size,
            Step::ShorterEdge(edge) => shorter_edge(size, edge),
            Step::Cover(wanted) if wanted.height == wanted.width => {
                shorter_edge(size, wanted.height)
            }
            Step::Cover(wanted) => cover(size, wanted),
        }
    }
}

/// `int(edge * long / short)` for the longer edge, as torchvision and Hugging Face compute it.
fn shorter_edge(size: Size, edge: usize) -> Size {
    let longer = |long: usize, short: usize| (edge as f64 * long as f64 / short as f64) as usize;
    if size.height <= size.width {
        Size {
            height: edge,
            width: longer(size.width, size.height),
        }
    } else {
        Size {
            height: longer(size.height, size.width),
            width: edge,
        }
    }
}

/// The smallest size of `size`'s ratio, rounded, that covers `wanted`.
fn cover(size: Size, wanted: Size) -> Size {
    let scale =
        (wanted.height as f64 / size.height as f64).max(wanted.width as f64 / size.width as f64);
    let scaled = |edge: usize, least: usize| ((edge as f64 * scale).round() as usize).max(least);
    Size {
        height: scaled(size.height, wanted.height),
        width: scaled(size.width, wanted.width),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(height: usize, width: usize) -> Size {
        Size { height, width }
    }

    #[test]
    fn sizes_come_out_as_the_training_code_has_them() {
        let s224 = Some(size(224, 224));
        let cases = [
            // caption, resize, crop, model, image, resized, output
            (
                "torchvision",
                Some(Resize::ShorterEdge(256)),
                s224,
                s224,
                size(375, 500),
                size(256, 341),
                size(224, 224),
            ),
            (
                "portrait",
                Some(Resize::ShorterEdge(256)),
                s224,
                s224,
                size(500, 333),
                size(384, 256),
                size(224, 224),
            ),
            (
                "timm",
                Some(Resize::CropShare(0.95)),
                None,
                s224,
                size(400, 400),
                size(235, 235),
                size(224, 224),
            ),
            (
                "share of the crop",
                Some(Resize::CropShare(0.5)),
                Some(size(10, 10)),
                s224,
                size(9, 9),
                size(20, 20),
                size(10, 10),
            ),
            (
                "neither given",
                None,
                None,
                s224,
                size(448, 500),
                size(224, 250),
                size(224, 224),
            ),
            (
                "not square",
                None,
                None,
                Some(size(100, 50)),
                size(200, 200),
                size(100, 100),
                size(100, 50),
            ),
            (
                "squash",
                Some(Resize::Exact(size(224, 224))),
                None,
                s224,
                size(30, 90),
                size(224, 224),
                size(224, 224),
            ),
            (
                "crop alone",
                None,
                s224,
                s224,
                size(300, 300),
                size(300, 300),
                size(224, 224),
            ),
            (
                "nothing known",
                None,
                None,
                None,
                size(30, 40),
                size(30, 40),
                size(30, 40),
            ),
        ];
        for (caption, resize, crop, model, image, resized, output) in cases {
            let geometry =
                Geometry::new(resize, crop, model, Centring::Even, Interpolation::Bilinear)
                    .unwrap();
            assert_eq!(geometry.resized(image), resized, "{caption}");
            assert_eq!(geometry.output(image), output, "{caption}");
        }
        let share = Some(Resize::CropShare(0.875));
        assert!(Geometry::new(share, None, None, Centring::Even, Interpolation::Box).is_none());
    }

    #[test]
    fn centres_are_those_of_torchvision_and_hugging_face() {
        // torchvision: int(round((outer - inner) / 2.0)), padding (inner - outer) // 2 in front;
        // transformers: (outer - inner) // 2, padding ceil((inner - outer) / 2) in front.
        let cases = [
            (10, 10, 0, 0),
            (11, 10, 0, 0),
            (13, 10, 2, 1),
            (15, 10, 2, 2),
            (17, 10, 4, 3),
            (9, 10, 0, -1),
            (7, 10, -1, -2),
        ];
        for (outer, inner, even, down) in cases {
            assert_eq!(Centring::Even.start(outer, inner), even, "{outer} {inner}");
            assert_eq!(Centring::Down.start(outer, inner), down, "{outer} {inner}");
        }
    }

    #[test]
    fn sizes_and_resizes_read_back_what_they_print() {
        for text in ["256", "256x224", "/0.875", "none"] {
            assert_eq!(text.parse::<Resize>().unwrap().to_string(), text);
        }
        for bad in [
            "", "0", "-1", "x", "224x", "99999", "/0", "/2", "/nan", "1e3",
        ] {
            assert!(bad.parse::<Resize>().is_err(), "{bad}");
        }
        assert_eq!("7".parse::<Size>().unwrap(), Size::square(7));
        assert!("7x0".parse::<Size>().is_err());
    }
}
