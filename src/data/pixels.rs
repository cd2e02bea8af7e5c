//! One decoded image: bytes, interleaved, with Pillow's conversion between colour and grey.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::geometry::Size;
use super::resize::{Interpolation, Part, resize, resize_part};
use crate::error::{Error, Result};

/// Which channels the model is fed with, in which order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Channels {
    /// Luminance only; a model of three channels gets it three times.
    Grey,
    /// Red, green, blue.
    Rgb,
    /// Blue, green, red (Caffe, OpenCV).
    Bgr,
}

impl Channels {
    /// The name used by `--channels`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Grey => "grey",
            Self::Rgb => "rgb",
            Self::Bgr => "bgr",
        }
    }
}

impl FromStr for Channels {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.to_ascii_lowercase().as_str() {
            "1" | "grey" | "gray" => Ok(Self::Grey),
            "3" | "rgb" => Ok(Self::Rgb),
            "bgr" => Ok(Self::Bgr),
            _ => Err(Error::Argument {
                name: "--channels",
                what: format!("{text:?} is none of grey (or 1), rgb (or 3), bgr"),
            }),
        }
    }
}

/// Weights of red, green and blue in Pillow's `L`, in 1/65536 (ITU-R 601-2; `L24` in `Convert.c`).
pub(super) const LUMA: [u32; 3] = [19_595, 38_470, 7_471];

/// An image as `[height, width, channels]` bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pixels {
    pub(super) size: Size,
    pub(super) channels: usize,
    pub(super) bytes: Vec<u8>,
}

impl Pixels {
    /// Grey from colour or colour from grey; any other pair of counts is left as it is.
    pub(super) fn with_channels(self, channels: usize) -> Self {
        let bytes = match (self.channels, channels) {
            (1, 3) => self.bytes.iter().flat_map(|&grey| [grey; 3]).collect(),
            (3, 1) => self.bytes.chunks_exact(3).map(luma).collect(),
            _ => return self,
        };
        Self {
            channels,
            bytes,
            ..self
        }
    }

    pub(super) fn resized(self, size: Size, filter: Interpolation) -> Self {
        if size == self.size {
            return self;
        }
        let from = (self.size.height, self.size.width, self.channels);
        let bytes = resize(&self.bytes, from, (size.height, size.width), filter);
        Self {
            size,
            bytes,
            ..self
        }
    }

    /// `self.resized(size, filter).window(window, top, left)`; where the window lies inside, without the rest.
    pub(super) fn resized_window(
        self,
        size: Size,
        filter: Interpolation,
        window: Size,
        (top, left): (isize, isize),
    ) -> Self {
        let inside = |start: isize, length: usize, all: usize| {
            let start = usize::try_from(start).ok()?;
            let range = start..start.checked_add(length)?;
            (range.end <= all).then_some(range)
        };
        let rows = inside(top, window.height, size.height);
        let columns = inside(left, window.width, size.width);
        let (Some(rows), Some(columns), true) = (rows, columns, size != self.size) else {
            return self.resized(size, filter).window(window, top, left);
        };
        let from = (self.size.height, self.size.width, self.channels);
        let part = Part { rows, columns };
        let to = (size.height, size.width);
        let bytes = resize_part(&self.bytes, from, to, &part, filter);
        Self {
            size: window,
            bytes,
            ..self
        }
    }

    /// The part of `size` whose upper left corner is at (`top`, `left`), black where it lies outside.
    pub(super) fn window(self, size: Size, top: isize, left: isize) -> Self {
        if size == self.size && top == 0 && left == 0 {
            return self;
        }
        let mut bytes = vec![0; size.height * size.width * self.channels];
        let stride = size.width * self.channels;
        let from_column = usize::try_from(left).unwrap_or(0);
        let to_column = usize::try_from(-left).unwrap_or(0);
        let columns = self
            .size
            .width
            .saturating_sub(from_column)
            .min(size.width.saturating_sub(to_column));
        for (y, row) in bytes.chunks_exact_mut(stride).enumerate() {
            let Some(source) = y.checked_add_signed(top).filter(|&y| y < self.size.height) else {
                continue;
            };
            let from = (source * self.size.width + from_column) * self.channels;
            let to = to_column * self.channels;
            let count = columns * self.channels;
            row[to..to + count].copy_from_slice(&self.bytes[from..from + count]);
        }
        Self {
            size,
            bytes,
            ..self
        }
    }
}

fn luma(rgb: &[u8]) -> u8 {
    let sum: u32 = rgb
        .iter()
        .zip(LUMA)
        .map(|(&v, weight)| u32::from(v) * weight)
        .sum();
    // At most 255: the weights add up to 65536.
    ((sum + 0x8000) >> 16) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pixels(height: usize, width: usize, channels: usize, bytes: &[u8]) -> Pixels {
        Pixels {
            size: Size { height, width },
            channels,
            bytes: bytes.to_vec(),
        }
    }

    #[test]
    fn grey_is_pillows_l() {
        // Pillow 13.0.0: Image.new("RGB", (1, 1), c).convert("L").getpixel((0, 0))
        let cases: [([u8; 3], u8); 6] = [
            ([255, 255, 255], 255),
            ([255, 0, 0], 76),
            ([0, 255, 0], 150),
            ([0, 0, 255], 29),
            ([12, 34, 56], 30),
            ([201, 7, 99], 75),
        ];
        for (rgb, grey) in cases {
            assert_eq!(
                pixels(1, 1, 3, &rgb).with_channels(1).bytes,
                [grey],
                "{rgb:?}"
            );
        }
        assert_eq!(
            pixels(1, 2, 1, &[5, 9]).with_channels(3).bytes,
            [5, 5, 5, 9, 9, 9]
        );
    }

    #[test]
    fn a_window_may_stick_out() {
        let image = pixels(2, 3, 1, &[1, 2, 3, 4, 5, 6]);
        type Case<'a> = ((usize, usize), isize, isize, &'a [u8]);
        let cases: [Case; 4] = [
            ((1, 2), 1, 1, &[5, 6]),
            ((2, 3), 0, 0, &[1, 2, 3, 4, 5, 6]),
            ((3, 4), -1, -1, &[0, 0, 0, 0, 0, 1, 2, 3, 0, 4, 5, 6]),
            ((1, 5), 0, -1, &[0, 1, 2, 3, 0]),
        ];
        for ((height, width), top, left, expected) in cases {
            let window = image.clone().window(Size { height, width }, top, left);
            assert_eq!(window.bytes, expected, "{height}x{width} at {top},{left}");
        }
    }
}
