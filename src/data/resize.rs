//! Pillow's resampling, bit for bit, on interleaved bytes.
//!
//! Published accuracies were measured on images resized by Pillow, and resamplers differ from it by up to 27 of 255
//! levels. What makes Pillow Pillow: the filter is stretched when shrinking (antialiasing), weights are
//! normalised in `f64` and rounded to 22-bit fixed point, columns are resampled before rows, and the
//! intermediate image is clipped to bytes. Source: `src/libImaging/Resample.c` and, for nearest, `Geometry.c`
//! (`ImagingScaleAffine`) up to Pillow 12.1. Pillow 13 resamples rows first where the height shrinks much more than
//! the width (python-pillow/Pillow#9549; 500x333 to 224x224 for one), which changes pixels at hard edges by up to 23
//! levels (bicubic); the order models were trained with is kept here.

mod passes;

use std::{f64::consts::PI, ops::Range, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::algebra::PixelWeights;
use crate::error::{Error, Result};
use passes::{columns, rows};

/// Fraction bits of a weight: 32 bits less 8 for the pixel and 2 for the sum (`PRECISION_BITS`).
const FRACTION_BITS: u32 = PixelWeights::FRACTION_BITS;

/// A Pillow resampling filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interpolation {
    /// The nearest pixel.
    Nearest,
    /// Mean of the covered pixels.
    Box,
    /// Triangle of radius 1.
    Bilinear,
    /// Hamming-windowed sinc of radius 1.
    Hamming,
    /// Cubic convolution of radius 2 with a = -0.5.
    Bicubic,
    /// Lanczos of radius 3.
    Lanczos,
}

impl Interpolation {
    const ALL: [(Self, &'static str, u64); 6] = [
        (Self::Nearest, "nearest", 0),
        (Self::Lanczos, "lanczos", 1),
        (Self::Bilinear, "bilinear", 2),
        (Self::Bicubic, "bicubic", 3),
        (Self::Box, "box", 4),
        (Self::Hamming, "hamming", 5),
    ];

    /// The name used by `--interpolation` and in configuration files.
    pub fn name(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(filter, ..)| *filter == self)
            .map_or("", |&(_, name, _)| name)
    }

    /// The filter with Pillow's number, as `resample` in a `preprocessor_config.json`.
    pub(super) fn from_pillow(number: u64) -> Option<Self> {
        Self::ALL
            .iter()
            .find(|(.., id)| *id == number)
            .map(|&(filter, ..)| filter)
    }

    /// Half the filter's width at scale 1; `None` for nearest, which is no convolution.
    fn support(self) -> Option<f64> {
        match self {
            Self::Nearest => None,
            Self::Box => Some(0.5),
            Self::Bilinear | Self::Hamming => Some(1.0),
            Self::Bicubic => Some(2.0),
            Self::Lanczos => Some(3.0),
        }
    }

    /// The filter's value at a distance of `x` pixels.
    fn weight(self, x: f64) -> f64 {
        let distance = x.abs();
        match self {
            Self::Nearest => 0.0,
            Self::Box if x > -0.5 && x <= 0.5 => 1.0,
            Self::Bilinear if distance < 1.0 => 1.0 - distance,
            Self::Hamming if distance == 0.0 => 1.0,
            Self::Hamming if distance < 1.0 => {
                let x = distance * PI;
                x.sin() / x * (0.54 + 0.46 * x.cos())
            }
            Self::Bicubic => bicubic(distance),
            Self::Lanczos if (-3.0..3.0).contains(&x) => sinc(x) * sinc(x / 3.0),
            Self::Box | Self::Bilinear | Self::Hamming | Self::Lanczos => 0.0,
        }
    }
}

impl FromStr for Interpolation {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL
            .iter()
            .find(|(_, name, _)| text.eq_ignore_ascii_case(name))
            .map(|&(filter, ..)| filter)
            .ok_or_else(|| Error::Argument {
                name: "--interpolation",
                what: format!(
                    "{text:?} is none of {}",
                    Self::ALL.map(|(_, name, _)| name).join(", ")
                ),
            })
    }
}

fn bicubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 {
        1.0
    } else {
        (x * PI).sin() / (x * PI)
    }
}

/// A part of the resized image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) rows: Range<usize>,
    pub(super) columns: Range<usize>,
}

/// Resizes `bytes`, `[height, width, channels]` row-major, to `[new_height, new_width, channels]`.
///
/// All sizes are at least 1 and `bytes` is as long as they say.
pub(super) fn resize(
    bytes: &[u8],
    from: (usize, usize, usize),
    (new_height, new_width): (usize, usize),
    filter: Interpolation,
) -> Vec<u8> {
    let all = Part {
        rows: 0..new_height,
        columns: 0..new_width,
    };
    resize_part(bytes, from, (new_height, new_width), &all, filter)
}

/// The pixels of [`resize`] that lie in `part`; nothing else is computed.
pub(super) fn resize_part(
    bytes: &[u8],
    (height, width, channels): (usize, usize, usize),
    (new_height, new_width): (usize, usize),
    part: &Part,
    filter: Interpolation,
) -> Vec<u8> {
    let Some(support) = filter.support() else {
        let rows = &sources(height, new_height)[part.rows.clone()];
        let columns = &sources(width, new_width)[part.columns.clone()];
        return nearest(bytes, (width, channels), rows, columns);
    };
    let vertical = (new_height != height)
        .then(|| Weights::new(height, new_height, &part.rows, filter, support));
    let read = match &vertical {
        Some(weights) => weights.read(),
        None => part.rows.clone(),
    };
    let source = &bytes[read.start * width * channels..read.end * width * channels];
    let narrowed = if new_width != width {
        let weights = Weights::new(width, new_width, &part.columns, filter, support);
        columns(source, (width, channels), &weights)
    } else {
        let kept = part.columns.start * channels..part.columns.end * channels;
        let rows = source.chunks_exact(width * channels);
        rows.flat_map(|row| &row[kept.clone()]).copied().collect()
    };
    match vertical {
        Some(weights) => rows(
            &narrowed,
            part.columns.len() * channels,
            read.start,
            &weights,
        ),
        None => narrowed,
    }
}

/// For each output position, where its source pixels start and their fixed-point weights.
struct Weights {
    spans: Vec<(usize, Range<usize>)>,
    /// Those of all positions, one after the other.
    fixed: Vec<i32>,
}

impl Weights {
    /// `precompute_coeffs` and `normalize_coeffs_8bpc`, for the output positions in `part`.
    fn new(
        size: usize,
        new_size: usize,
        part: &Range<usize>,
        filter: Interpolation,
        support: f64,
    ) -> Self {
        let scale = size as f64 / new_size as f64;
        let stretch = scale.max(1.0);
        let support = support * stretch;
        let (mut spans, mut fixed) = (Vec::with_capacity(part.len()), Vec::new());
        for position in part.clone() {
            let centre = (position as f64 + 0.5) * scale;
            // The casts cut towards zero and at zero, as C's `(int)` and the check after it do.
            let start = (centre - support + 0.5) as usize;
            let end = ((centre + support + 0.5) as usize).min(size);
            let weights: Vec<f64> = (start..end)
                .map(|source| filter.weight((source as f64 - centre + 0.5) * (1.0 / stretch)))
                .collect();
            // A running sum, as in C: `Iterator::sum` may not promise the order.
            let total = weights.iter().fold(0.0, |total, weight| total + weight);
            let normal = |weight: &f64| {
                if total == 0.0 {
                    *weight
                } else {
                    weight / total
                }
            };
            let first = fixed.len();
            fixed.extend(weights.iter().map(|weight| fixed_point(normal(weight))));
            spans.push((start, first..fixed.len()));
        }
        Self { spans, fixed }
    }

    /// For each position, where its source pixels start, and their weights.
    fn spans(&self) -> impl Iterator<Item = (usize, &[i32])> {
        let spans = self.spans.iter();
        spans.map(|(start, weights)| (*start, &self.fixed[weights.clone()]))
    }

    /// The source pixels that have a weight, with all between them.
    fn read(&self) -> Range<usize> {
        let start = self.spans().map(|(start, _)| start).min();
        let end = self.spans().map(|(start, weights)| start + weights.len());
        start.unwrap_or(0)..end.max().unwrap_or(0)
    }
}

/// Half away from zero, by C's cast towards zero.
fn fixed_point(weight: f64) -> i32 {
    let scaled = weight * f64::from(1 << FRACTION_BITS);
    (scaled + 0.5_f64.copysign(scaled)) as i32
}

fn clip(sum: i32) -> u8 {
    (sum >> FRACTION_BITS).clamp(0, 255) as u8
}

const HALF: i32 = 1 << (FRACTION_BITS - 1);

fn nearest(
    bytes: &[u8],
    (width, channels): (usize, usize),
    rows: &[usize],
    columns: &[usize],
) -> Vec<u8> {
    let mut out = Vec::with_capacity(rows.len() * columns.len() * channels);
    for y in rows {
        let row = &bytes[y * width * channels..];
        for x in columns {
            out.extend_from_slice(&row[x * channels..(x + 1) * channels]);
        }
    }
    out
}

/// Source position of each output position. The step is added up rather than multiplied, as Pillow does: the two
/// differ in the last bit, and with it now and then in the pixel.
fn sources(size: usize, new_size: usize) -> Vec<usize> {
    let step = size as f64 / new_size as f64;
    let mut position = step * 0.5;
    (0..new_size)
        .map(|_| {
            let source = (position as usize).min(size - 1);
            position += step;
            source
        })
        .collect()
}

#[cfg(test)]
mod tests;
