//! A [`Preprocess`] worked out for one model input and one data set: stored sample in, one row of the batch out.

use super::array::{Dtype, Header};
use super::dataset::DataOptions;
use super::fill::{NumberFill, PixelFill};
use super::geometry::{Geometry, Resize, Size};
use super::pixels::Channels;
use super::preprocess::Preprocess;
use super::problem::{Problem, Read};
use super::readers::Sample;
use super::shape::{Dims, ImageAxes, InputShape, Layout, Wanted, fits_plain, product};
use super::values::{Affine, affines, value_note};

/// How every sample of a data set is turned into model input.
#[derive(Clone, Debug)]
pub(super) struct Recipe {
    /// Shape of one sample in the batch.
    shape: Vec<usize>,
    fill: Fill,
    /// What is done, in words.
    pub(super) note: String,
}

#[derive(Clone, Debug)]
enum Fill {
    Pixels(PixelFill),
    Numbers(NumberFill),
    /// One transformation for all elements, in the order of the array.
    Plain(Affine),
}

impl Recipe {
    /// Numbers that already are model input.
    pub(super) fn plain(shape: Vec<usize>) -> Self {
        Self {
            shape,
            fill: Fill::Plain(Affine::IDENTITY),
            note: "standard normal values".to_owned(),
        }
    }

    /// Channels of the images it makes, if it makes any.
    pub(super) fn channels(&self) -> Option<usize> {
        match &self.fill {
            Fill::Pixels(fill) => Some(fill.tables.len()),
            Fill::Numbers(fill) => Some(fill.affines.len()),
            Fill::Plain(_) => None,
        }
    }

    /// Shape of one sample in the batch.
    pub(super) fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// How a stored array of bytes is read as an image, if it is.
    pub(super) fn axes(&self) -> Option<ImageAxes> {
        match &self.fill {
            Fill::Pixels(fill) => fill.axes,
            Fill::Numbers(fill) => Some(fill.axes),
            Fill::Plain(_) => None,
        }
    }

    /// For images of any size, of which `first` is one.
    pub(super) fn for_images(first: Size, options: &DataOptions) -> Read<Self> {
        let preprocess = &options.preprocess;
        let Target {
            channels,
            size: model,
            layout,
        } = Target::of_images(&options.input, preprocess)?;
        let geometry = geometry(preprocess, model)?;
        let size = geometry.output(first);
        let recipe = Self::pixels(None, geometry, size, channels, layout, options)?;
        if !recipe.feeds(&options.input) {
            return Err(format!(
                "images of {first} pixels become samples of shape {:?} ({}), the model's input is {}",
                recipe.shape,
                preprocess.describe(),
                options.input
            )
            .into());
        }
        Ok(recipe)
    }

    /// For the samples of an array.
    pub(super) fn for_array(header: &Header, options: &DataOptions) -> Read<Self> {
        let found = match &options.input {
            InputShape::Plain(wanted) => Self::plain_array(header, wanted, options)?,
            InputShape::Image { .. } => Self::image_array(header, options)?,
        };
        found.ok_or_else(|| {
            Problem::Content(format!(
                "holds samples of shape {:?} ({}), the model's input is {}",
                header.sample_dims(),
                header.describe(),
                options.input
            ))
        })
    }

    fn plain_array(
        header: &Header,
        wanted: &[Option<usize>],
        options: &DataOptions,
    ) -> Read<Option<Self>> {
        if !fits_plain(header.sample_dims(), wanted) {
            return Ok(None);
        }
        let preprocess = &options.preprocess;
        if let Some(channels) = preprocess.channels {
            let what = format!(
                "{} channels are asked for, but it does not hold images",
                channels.name()
            );
            return Err(what.into());
        }
        let affine = affines(preprocess, 1, header.dtype)?[0];
        let shape = match wanted {
            [_] => product(header.sample_dims()).into_iter().collect(),
            _ => batch_shape(header.sample_dims(), wanted),
        };
        let note = value_note(preprocess, header.dtype);
        Ok(Some(Self {
            shape,
            fill: Fill::Plain(affine),
            note,
        }))
    }

    fn image_array(header: &Header, options: &DataOptions) -> Read<Option<Self>> {
        let (preprocess, sample) = (&options.preprocess, header.sample_dims());
        let Target {
            channels,
            size: model,
            layout,
        } = Target::of_images(&options.input, preprocess)?;
        let InputShape::Image { height, width, .. } = options.input else {
            return Ok(None);
        };
        let wanted = Wanted {
            channels,
            height,
            width,
            layout,
        };
        if header.dtype != Dtype::U8 {
            return match wanted.read(sample) {
                Some(axes) => {
                    Self::numbers(axes, channels, layout, header.dtype, options).map(Some)
                }
                None => Ok(None),
            };
        }
        let asked = preprocess.resize.is_some() || preprocess.crop.is_some();
        let (axes, geometry) = match wanted.read(sample) {
            Some(axes) if model.is_some() || !asked => (axes, Geometry::keep()),
            _ if asked => {
                let open = Wanted {
                    height: None,
                    width: None,
                    ..wanted
                };
                let Some(axes) = open.read(sample) else {
                    return Ok(None);
                };
                (axes, geometry(preprocess, model)?)
            }
            _ => return Ok(None),
        };
        let size = geometry.output(Size {
            height: axes.height,
            width: axes.width,
        });
        let recipe = Self::pixels(Some(axes), geometry, size, channels, layout, options)?;
        Ok(recipe.feeds(&options.input).then_some(recipe))
    }

    fn pixels(
        axes: Option<ImageAxes>,
        geometry: Geometry,
        size: Size,
        channels: usize,
        layout: Layout,
        options: &DataOptions,
    ) -> Read<Self> {
        let preprocess = &options.preprocess;
        let tables = affines(preprocess, channels, Dtype::U8)?
            .into_iter()
            .map(|affine| std::array::from_fn(|byte| affine.apply(byte as f32)))
            .collect();
        let shape = match &options.input {
            InputShape::Image { .. } => image_shape(channels, size, layout),
            InputShape::Plain(wanted) if wanted.len() == 1 => vec![size.height * size.width],
            InputShape::Plain(_) => vec![size.height, size.width],
        };
        let resized = if geometry.is_keep() {
            not_resized(preprocess)
        } else {
            "resized or cut; "
        };
        let note = format!("{resized}{}", value_note(preprocess, Dtype::U8));
        let fill = PixelFill {
            axes,
            geometry,
            size,
            layout,
            tables,
            grey_first: preprocess.channels == Some(Channels::Grey),
            reversed: preprocess.channels == Some(Channels::Bgr),
        };
        Ok(Self {
            shape,
            fill: Fill::Pixels(fill),
            note,
        })
    }

    fn numbers(
        axes: ImageAxes,
        channels: usize,
        layout: Layout,
        dtype: Dtype,
        options: &DataOptions,
    ) -> Read<Self> {
        let preprocess = &options.preprocess;
        let size = Size {
            height: axes.height,
            width: axes.width,
        };
        let fill = NumberFill {
            axes,
            layout,
            affines: affines(preprocess, channels, dtype)?,
            grey_first: preprocess.channels == Some(Channels::Grey),
            reversed: preprocess.channels == Some(Channels::Bgr),
        };
        Ok(Self {
            shape: image_shape(channels, size, layout),
            fill: Fill::Numbers(fill),
            note: format!(
                "{}{}",
                not_resized(preprocess),
                value_note(preprocess, dtype)
            ),
        })
    }

    /// Whether samples of this shape are what the model declares.
    fn feeds(&self, input: &InputShape) -> bool {
        let wanted = input.dims();
        wanted.len() == self.shape.len()
            && (self.shape.iter().zip(&wanted))
                .all(|(&dim, wanted)| wanted.is_none_or(|w| w == dim))
    }

    /// Writes one decoded sample into its row of the batch, which is as long as [`Recipe::shape`] says.
    pub(super) fn write(&self, sample: Sample, out: &mut [f32]) -> Read<()> {
        match (&self.fill, sample) {
            (Fill::Pixels(fill), Sample::Pixels(pixels)) => fill.write(pixels, out)?,
            (Fill::Numbers(fill), Sample::Numbers(values)) => fill.write(&values, out),
            (Fill::Plain(affine), Sample::Numbers(values)) => {
                for (out, value) in out.iter_mut().zip(values) {
                    *out = affine.apply(value);
                }
            }
            (Fill::Pixels(_), Sample::Numbers(_)) | (_, Sample::Pixels(_) | Sample::Encoded(_)) => {
                return Err("is of another kind than the data set's first sample".into());
            }
        }
        // Nearly always: all at once, which takes a tenth of the time of one by one.
        if out.iter().fold(true, |all, value| all & value.is_finite()) {
            return Ok(());
        }
        match out.iter().position(|value| !value.is_finite()) {
            Some(at) => {
                Err(format!("holds {} at element {at}, not a finite number", out[at]).into())
            }
            None => Ok(()),
        }
    }
}

/// The model's side for images.
struct Target {
    channels: usize,
    /// `None` unless both edges are known.
    size: Option<Size>,
    layout: Layout,
}

impl Target {
    /// An input without a channel axis takes grey images, as planes or flattened.
    fn of_images(input: &InputShape, preprocess: &Preprocess) -> Read<Self> {
        let both = |height: Option<usize>, width: Option<usize>| {
            Some(Size {
                height: height?,
                width: width?,
            })
        };
        match *input {
            InputShape::Image {
                channels,
                height,
                width,
                layout,
            } => Ok(Self {
                channels: channel_count(channels, preprocess)?,
                size: both(height, width),
                layout,
            }),
            InputShape::Plain(ref dims) if matches!(dims.len(), 1 | 2) => {
                let size = match dims[..] {
                    [height, width] => both(height, width),
                    _ => None,
                };
                Ok(Self {
                    channels: channel_count(Some(1), preprocess)?,
                    size,
                    layout: Layout::Nchw,
                })
            }
            InputShape::Plain(ref dims) => {
                Err(format!("holds images, the model's input {} takes none", Dims(dims)).into())
            }
        }
    }
}

fn channel_count(declared: Option<usize>, preprocess: &Preprocess) -> Read<usize> {
    let asked = preprocess
        .channels
        .map(|channels| if channels == Channels::Grey { 1 } else { 3 });
    match (declared, asked) {
        (Some(1), Some(3)) => Err("--channels asks for colour, the model takes one channel".into()),
        (Some(declared), _) => Ok(declared),
        (None, Some(asked)) => Ok(asked),
        (None, None) => Ok(match preprocess.mean.len().max(preprocess.std.len()) {
            0 | 1 => 3,
            several => several,
        }),
    }
}

fn geometry(preprocess: &Preprocess, model: Option<Size>) -> Read<Geometry> {
    let Preprocess {
        resize,
        crop,
        centring,
        interpolation,
        ..
    } = *preprocess;
    Geometry::new(resize, crop, model, centring, interpolation).ok_or_else(|| {
        let share = resize.map_or_else(String::new, |resize: Resize| resize.to_string());
        Problem::Content(format!(
            "cannot be resized by the share {share}: the model leaves its input's size open; give a --crop"
        ))
    })
}

/// Said aloud where a resize or crop was asked for and is left out.
fn not_resized(preprocess: &Preprocess) -> &'static str {
    match (preprocess.resize, preprocess.crop) {
        (None | Some(Resize::Never), None) => "",
        _ => "of the model's size already, so neither resized nor cut; ",
    }
}

fn image_shape(channels: usize, Size { height, width }: Size, layout: Layout) -> Vec<usize> {
    match layout {
        Layout::Nchw => vec![channels, height, width],
        Layout::Nhwc => vec![height, width, channels],
    }
}

/// The shape in the batch of a sample that fits `wanted`: its own where that is what the model declares, else its
/// real axes in the places of the model's, whose axes of size 1 are kept.
fn batch_shape(sample: &[usize], wanted: &[Option<usize>]) -> Vec<usize> {
    let exact = sample.len() == wanted.len()
        && (sample.iter().zip(wanted)).all(|(&dim, wanted)| wanted.is_none_or(|w| w == dim));
    if exact {
        return sample.to_vec();
    }
    let mut real = sample.iter().copied().filter(|&dim| dim != 1);
    let place = |dim: &Option<usize>| {
        if *dim == Some(1) {
            1
        } else {
            real.next().unwrap_or(1)
        }
    };
    wanted.iter().map(place).collect()
}

#[cfg(test)]
mod tests;
