//! One stored sample written into its row of the batch: channels, geometry, layout, values.

use super::geometry::{Geometry, Size};
use super::pixels::{LUMA, Pixels};
use super::problem::Read;
use super::shape::{Form, ImageAxes, Layout};
use super::values::Affine;

/// Pixels of the largest image a resize may make on its way; a very long, thin image would grow without bound.
const MAX_RESIZED_PIXELS: usize = 1 << 28;

/// From bytes in `[H, W, C]`.
#[derive(Clone, Debug)]
pub(super) struct PixelFill {
    /// How an array of bytes is read; `None` for decoded images.
    pub(super) axes: Option<ImageAxes>,
    pub(super) geometry: Geometry,
    pub(super) size: Size,
    pub(super) layout: Layout,
    /// Value of each byte, per channel of the model.
    pub(super) tables: Vec<[f32; 256]>,
    pub(super) grey_first: bool,
    pub(super) reversed: bool,
}

/// From numbers in the order of the array.
#[derive(Clone, Debug)]
pub(super) struct NumberFill {
    pub(super) axes: ImageAxes,
    pub(super) layout: Layout,
    pub(super) affines: Vec<Affine>,
    pub(super) grey_first: bool,
    pub(super) reversed: bool,
}

impl PixelFill {
    pub(super) fn write(&self, pixels: Pixels, out: &mut [f32]) -> Read<()> {
        let channels = self.tables.len();
        let pixels = if self.grey_first {
            pixels.with_channels(1)
        } else {
            pixels
        };
        let pixels = self.apply_geometry(pixels.with_channels(channels))?;
        if pixels.channels != channels {
            return Err(format!("has {} channels, expected {channels}", pixels.channels).into());
        }
        if pixels.size != self.size {
            let (size, first) = (pixels.size, self.size);
            return Err(format!(
                "comes out with {size} pixels, the first sample with {first}; give a --crop"
            )
            .into());
        }
        let plane = self.size.height * self.size.width;
        for (channel, table) in self.tables.iter().enumerate() {
            let source = if self.reversed {
                channels - 1 - channel
            } else {
                channel
            };
            let bytes = pixels.bytes[source..].iter().step_by(channels);
            match self.layout {
                Layout::Nchw => {
                    let out = &mut out[channel * plane..(channel + 1) * plane];
                    out.iter_mut()
                        .zip(bytes)
                        .for_each(|(out, &byte)| *out = table[usize::from(byte)]);
                }
                Layout::Nhwc => {
                    let out = out[channel..].iter_mut().step_by(channels);
                    out.zip(bytes)
                        .for_each(|(out, &byte)| *out = table[usize::from(byte)]);
                }
            }
        }
        Ok(())
    }

    fn apply_geometry(&self, pixels: Pixels) -> Read<Pixels> {
        let Size { height, width } = self.geometry.resized(pixels.size);
        let tallest = height.max(pixels.size.height);
        if tallest
            .checked_mul(width)
            .is_none_or(|area| area > MAX_RESIZED_PIXELS)
        {
            return Err(format!(
                "of {} pixels would be resized to {height}x{width}",
                pixels.size
            )
            .into());
        }
        Ok(self.geometry.apply(pixels))
    }
}

impl NumberFill {
    pub(super) fn write(&self, values: &[f32], out: &mut [f32]) {
        let channels = self.affines.len();
        let plane = self.axes.height * self.axes.width;
        let stored = self.axes.channels;
        let grey = self.grey_first || channels == 1;
        let at = |pixel: usize, channel: usize| match self.axes.form {
            Form::Planar => values[channel * plane + pixel],
            Form::Interleaved | Form::Plane => values[pixel * stored + channel],
        };
        for (channel, affine) in self.affines.iter().enumerate() {
            let wanted = if self.reversed {
                channels - 1 - channel
            } else {
                channel
            };
            for pixel in 0..plane {
                let value = match stored {
                    1 => at(pixel, 0),
                    3 if grey => (0..3)
                        .map(|c| at(pixel, c) * LUMA[c] as f32 / 65_536.0)
                        .sum(),
                    _ => at(pixel, wanted),
                };
                let position = match self.layout {
                    Layout::Nchw => channel * plane + pixel,
                    Layout::Nhwc => pixel * channels + channel,
                };
                out[position] = affine.apply(value);
            }
        }
    }
}
