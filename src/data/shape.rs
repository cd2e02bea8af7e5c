//! What the model's input wants of one sample, and how a stored array answers to it.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Where the channel axis of an image batch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// `[N, C, H, W]`
    Nchw,
    /// `[N, H, W, C]`
    Nhwc,
}

impl Layout {
    /// The name used by `--layout`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nchw => "nchw",
            Self::Nhwc => "nhwc",
        }
    }
}

impl FromStr for Layout {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.to_ascii_lowercase().as_str() {
            "nchw" => Ok(Self::Nchw),
            "nhwc" => Ok(Self::Nhwc),
            _ => Err(Error::Argument {
                name: "--layout",
                what: format!("{text:?} is neither nchw nor nhwc"),
            }),
        }
    }
}

/// The model's declared input shape without the batch axis; `None` where the model leaves a size open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InputShape {
    /// A batch of images.
    Image {
        /// Number of channels.
        channels: Option<usize>,
        /// Height in pixels.
        height: Option<usize>,
        /// Width in pixels.
        width: Option<usize>,
        /// Where the channel axis is.
        layout: Layout,
    },
    /// Anything else: `[N, F]` vectors, `[N, H, W]` without a channel axis, sequences.
    Plain(Vec<Option<usize>>),
}

impl InputShape {
    /// Reads declared dimensions, batch axis first. Four of them are an image; without `layout` (which is
    /// [`Preprocess::layout`](super::Preprocess::layout)) the channel axis is the one of size 1, 3 or 4, the second axis
    /// if both or none are.
    ///
    /// ```
    /// use onnx_prune::data::{InputShape, Layout};
    /// let input = InputShape::from_dims(&[None, Some(224), Some(224), Some(3)], None)?;
    /// assert!(matches!(input, InputShape::Image { layout: Layout::Nhwc, channels: Some(3), .. }));
    /// # Ok::<(), onnx_prune::Error>(())
    /// ```
    pub fn from_dims(dims: &[Option<usize>], layout: Option<Layout>) -> Result<Self> {
        let Some((_batch, sample)) = dims.split_first() else {
            return Err(Error::Argument {
                name: "--data",
                what: "the model's input is a scalar and takes no samples".to_owned(),
            });
        };
        let &[a, b, c] = sample else {
            return match layout {
                Some(_) => Err(Error::Argument {
                    name: "--layout",
                    what: format!(
                        "the model's input {} is not a batch of images",
                        Dims(sample)
                    ),
                }),
                None => Ok(Self::Plain(sample.to_vec())),
            };
        };
        let is_channels = |dim| matches!(dim, Some(1 | 3 | 4));
        let guessed = if is_channels(c) && !is_channels(a) {
            Layout::Nhwc
        } else {
            Layout::Nchw
        };
        let layout = layout.unwrap_or(guessed);
        let (channels, height, width) = match layout {
            Layout::Nchw => (a, b, c),
            Layout::Nhwc => (c, a, b),
        };
        Ok(Self::Image {
            channels,
            height,
            width,
            layout,
        })
    }

    /// Sizes in the order of the model's axes.
    pub(super) fn dims(&self) -> Vec<Option<usize>> {
        match *self {
            Self::Image {
                channels,
                height,
                width,
                layout: Layout::Nchw,
            } => vec![channels, height, width],
            Self::Image {
                channels,
                height,
                width,
                layout: Layout::Nhwc,
            } => vec![height, width, channels],
            Self::Plain(ref dims) => dims.clone(),
        }
    }
}

impl fmt::Display for InputShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Dims(&self.dims()).fmt(f)
    }
}

/// Prints open sizes as `?`, with the batch axis in front: `[N, 3, ?, ?]`.
pub(super) struct Dims<'a>(pub(super) &'a [Option<usize>]);

impl fmt::Display for Dims<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[N")?;
        for dim in self.0 {
            match dim {
                Some(dim) => write!(f, ", {dim}")?,
                None => f.write_str(", ?")?,
            }
        }
        f.write_str("]")
    }
}

/// How the axes of one stored sample are to be read as an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// `[C, H, W]`
    Planar,
    /// `[H, W, C]`
    Interleaved,
    /// `[H, W]`, or `[F]` that is one grey plane.
    Plane,
}

/// An image array's axes: form, channels, height, width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ImageAxes {
    pub(super) form: Form,
    pub(super) channels: usize,
    pub(super) height: usize,
    pub(super) width: usize,
}

/// The model's side of the comparison; `None` fits everything.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub(super) channels: usize,
    pub(super) height: Option<usize>,
    pub(super) width: Option<usize>,
    pub(super) layout: Layout,
}

impl Wanted {
    /// How `sample` (a stored sample's dimensions) reads as an image the model takes; `None` if in no way.
    ///
    /// An exact channel count beats one that needs a conversion between grey and colour; if both readings are then
    /// still possible, the model's own layout decides.
    pub(super) fn read(&self, sample: &[usize]) -> Option<ImageAxes> {
        let candidates = match *sample {
            [a, b, c] => {
                let planar = ImageAxes {
                    form: Form::Planar,
                    channels: a,
                    height: b,
                    width: c,
                };
                let interleaved = ImageAxes {
                    form: Form::Interleaved,
                    channels: c,
                    height: a,
                    width: b,
                };
                match self.layout {
                    Layout::Nchw => vec![planar, interleaved],
                    Layout::Nhwc => vec![interleaved, planar],
                }
            }
            [height, width] => vec![ImageAxes {
                form: Form::Plane,
                channels: 1,
                height,
                width,
            }],
            [features] => self.flat_plane(features).into_iter().collect(),
            _ => vec![],
        };
        let fits = |axes: &&ImageAxes| {
            self.height.is_none_or(|height| height == axes.height)
                && self.width.is_none_or(|width| width == axes.width)
                && converts(axes.channels, self.channels)
        };
        let exact = |axes: &&ImageAxes| axes.channels == self.channels;
        let fitting: Vec<_> = candidates.iter().filter(fits).collect();
        fitting
            .iter()
            .copied()
            .find(exact)
            .or(fitting.first().copied())
            .copied()
    }

    /// `[N, F]` rows are taken for images only where nothing has to be guessed: one channel, known size.
    fn flat_plane(&self, features: usize) -> Option<ImageAxes> {
        let (height, width) = (self.height?, self.width?);
        (self.channels == 1 && height.checked_mul(width) == Some(features)).then_some(ImageAxes {
            form: Form::Plane,
            channels: 1,
            height,
            width,
        })
    }
}

/// Whether an image of `from` channels can feed a model of `to` channels.
pub(super) fn converts(from: usize, to: usize) -> bool {
    from == to || matches!((from, to), (1, 3) | (3, 1))
}

/// Whether a stored sample can be handed unchanged to an input that is not an image: same sizes once axes of size 1
/// are left out, or a row-major flattening of an array with at most two real axes.
pub(super) fn fits_plain(sample: &[usize], wanted: &[Option<usize>]) -> bool {
    let real: Vec<usize> = sample.iter().copied().filter(|&dim| dim != 1).collect();
    let real_wanted: Vec<_> = wanted.iter().filter(|&&dim| dim != Some(1)).collect();
    let same = real.len() == real_wanted.len()
        && (real.iter().zip(&real_wanted)).all(|(&dim, wanted)| wanted.is_none_or(|w| w == dim));
    let exact = sample.len() == wanted.len()
        && (sample.iter().zip(wanted)).all(|(&dim, wanted)| wanted.is_none_or(|w| w == dim));
    let flattened = wanted.len() == 1
        && real.len() <= 2
        && wanted[0].is_none_or(|features| Some(features) == product(sample));
    exact || same || flattened
}

/// Product of `dims`, `None` on overflow.
pub(super) fn product(dims: &[usize]) -> Option<usize> {
    dims.iter()
        .try_fold(1_usize, |product, &dim| product.checked_mul(dim))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declared_dimensions_tell_the_layout() {
        let image = |channels, height, width, layout| InputShape::Image {
            channels,
            height,
            width,
            layout,
        };
        let cases = [
            // caption, dims, layout asked for, expected
            (
                "channels first",
                vec![None, Some(3), Some(8), Some(9)],
                None,
                image(Some(3), Some(8), Some(9), Layout::Nchw),
            ),
            (
                "channels last",
                vec![None, Some(8), Some(9), Some(3)],
                None,
                image(Some(3), Some(8), Some(9), Layout::Nhwc),
            ),
            (
                "both could be",
                vec![None, Some(3), Some(3), Some(3)],
                None,
                image(Some(3), Some(3), Some(3), Layout::Nchw),
            ),
            (
                "asked for",
                vec![None, Some(3), Some(3), Some(3)],
                Some(Layout::Nhwc),
                image(Some(3), Some(3), Some(3), Layout::Nhwc),
            ),
            (
                "all open",
                vec![None; 4],
                None,
                image(None, None, None, Layout::Nchw),
            ),
            (
                "vectors",
                vec![None, Some(7)],
                None,
                InputShape::Plain(vec![Some(7)]),
            ),
            (
                "no channel axis",
                vec![None, Some(7), Some(8)],
                None,
                InputShape::Plain(vec![Some(7), Some(8)]),
            ),
        ];
        for (caption, dims, layout, expected) in cases {
            assert_eq!(
                InputShape::from_dims(&dims, layout).unwrap(),
                expected,
                "{caption}"
            );
        }
        assert!(InputShape::from_dims(&[], None).is_err());
        assert!(InputShape::from_dims(&[None, Some(4)], Some(Layout::Nchw)).is_err());
        assert_eq!(
            image(Some(3), None, Some(9), Layout::Nhwc).to_string(),
            "[N, ?, 9, 3]"
        );
    }

    #[test]
    fn arrays_are_read_where_nothing_is_guessed() {
        let wanted = |channels, size: Option<usize>, layout| Wanted {
            channels,
            height: size,
            width: size,
            layout,
        };
        let grey = wanted(1, Some(28), Layout::Nchw);
        let colour = wanted(3, Some(8), Layout::Nchw);
        let open = wanted(3, None, Layout::Nhwc);
        let axes = |form, channels, height, width| {
            Some(ImageAxes {
                form,
                channels,
                height,
                width,
            })
        };
        let cases: Vec<(&str, Wanted, Vec<usize>, Option<ImageAxes>)> = vec![
            ("plane", grey, vec![28, 28], axes(Form::Plane, 1, 28, 28)),
            (
                "one channel first",
                grey,
                vec![1, 28, 28],
                axes(Form::Planar, 1, 28, 28),
            ),
            (
                "one channel last",
                grey,
                vec![28, 28, 1],
                axes(Form::Interleaved, 1, 28, 28),
            ),
            (
                "colour to grey",
                grey,
                vec![28, 28, 3],
                axes(Form::Interleaved, 3, 28, 28),
            ),
            (
                "flat grey rows",
                grey,
                vec![784],
                axes(Form::Plane, 1, 28, 28),
            ),
            ("flat rows of another length", grey, vec![783], None),
            ("another size", grey, vec![27, 28], None),
            ("too many axes", grey, vec![1, 1, 28, 28], None),
            ("no axes", grey, vec![], None),
            (
                "grey to colour",
                colour,
                vec![8, 8],
                axes(Form::Plane, 1, 8, 8),
            ),
            ("flat colour is ambiguous", colour, vec![192], None),
            ("two channels", colour, vec![2, 8, 8], None),
            (
                "own layout decides",
                wanted(3, Some(3), Layout::Nhwc),
                vec![3, 3, 3],
                axes(Form::Interleaved, 3, 3, 3),
            ),
            (
                "open sizes, channels last",
                open,
                vec![5, 6, 3],
                axes(Form::Interleaved, 3, 5, 6),
            ),
            (
                "open sizes, channels first",
                open,
                vec![3, 5, 6],
                axes(Form::Planar, 3, 5, 6),
            ),
            (
                "exact beats grey",
                open,
                vec![3, 5, 1],
                axes(Form::Planar, 3, 5, 1),
            ),
        ];
        for (caption, wanted, sample, expected) in cases {
            assert_eq!(wanted.read(&sample), expected, "{caption}");
        }
    }

    #[test]
    fn plain_inputs_take_equal_or_flattened_samples() {
        type Case<'a> = (&'a [usize], &'a [Option<usize>], bool);
        let cases: [Case; 9] = [
            (&[7], &[Some(7)], true),
            (&[7], &[None], true),
            (&[8], &[Some(7)], false),
            (&[28, 28], &[Some(784)], true),
            (&[1, 28, 28], &[Some(784)], true),
            (&[3, 28, 28], &[Some(2352)], false),
            (&[28, 28, 1], &[Some(28), Some(28)], true),
            (&[28, 27], &[Some(28), Some(28)], false),
            (&[5, 6], &[None, Some(6)], true),
        ];
        for (sample, wanted, expected) in cases {
            assert_eq!(
                fits_plain(sample, wanted),
                expected,
                "{sample:?} {wanted:?}"
            );
        }
    }
}
