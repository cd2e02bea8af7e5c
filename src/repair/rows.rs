//! Values at a dense layer as rows: one per sample and position.

use std::borrow::Cow;

use crate::{onnx::Tensor, prune::dense::Kind};

/// Row-major `[count, width]`.
#[derive(Debug)]
pub(super) struct Rows<'t> {
    pub(super) count: usize,
    pub(super) width: usize,
    pub(super) values: Cow<'t, [f32]>,
}

/// What a layer of this kind reads, `width` numbers a row; nothing where it does not fit.
pub(super) fn read(kind: Kind, value: &Tensor, width: usize) -> Option<Rows<'_>> {
    let shape = value.shape();
    match kind {
        Kind::Gemm | Kind::MatMul => last_axis(value, width),
        Kind::TransposedGemm => match *shape {
            [inputs, rows] if inputs == width => Some(transposed(value, 1, inputs, rows)),
            _ => None,
        },
        Kind::Pixel => channels(value, width),
        // All pixels at once: the numbers of a sample lie as those of the weight.
        Kind::Window => {
            let count = *shape.first()?;
            let values = value.to_f32();
            (values.len() == count * width).then_some(Rows {
                count,
                width,
                values,
            })
        }
    }
}

/// What a layer of this kind makes, `width` numbers a row; nothing where it does not fit.
pub(super) fn made(kind: Kind, value: &Tensor, width: usize) -> Option<Rows<'_>> {
    match kind {
        Kind::Gemm | Kind::MatMul | Kind::TransposedGemm => last_axis(value, width),
        Kind::Pixel | Kind::Window => channels(value, width),
    }
}

/// The axis that counts what a layer of this kind makes.
pub(super) fn made_axis(kind: Kind, value: &Tensor) -> usize {
    match kind {
        Kind::Gemm | Kind::MatMul | Kind::TransposedGemm => value.shape().len().saturating_sub(1),
        Kind::Pixel | Kind::Window => 1,
    }
}

impl Rows<'_> {
    /// The rows with only these columns.
    pub(super) fn select(self, columns: &[usize]) -> Rows<'static> {
        let rows = self.values.chunks_exact(self.width.max(1));
        let values = rows.flat_map(|row| columns.iter().map(|&column| row[column]));
        Rows {
            count: self.count,
            width: columns.len(),
            values: values.collect(),
        }
    }
}

fn last_axis(value: &Tensor, width: usize) -> Option<Rows<'_>> {
    let (&last, rows) = value.shape().split_last()?;
    (last == width).then(|| Rows {
        count: rows.iter().product(),
        width,
        values: value.to_f32(),
    })
}

/// `[N, width, ..]`: a row per sample and pixel.
fn channels(value: &Tensor, width: usize) -> Option<Rows<'_>> {
    let (&samples, rest) = value.shape().split_first()?;
    let (&channels, pixels) = rest.split_first()?;
    (channels == width).then(|| transposed(value, samples, channels, pixels.iter().product()))
}

/// `[N, C, P]` as rows `[N * P, C]`.
fn transposed(value: &Tensor, samples: usize, channels: usize, pixels: usize) -> Rows<'_> {
    let mut values = value.to_f32();
    if pixels != 1 {
        let mut turned = Vec::with_capacity(values.len());
        for sample in values.chunks_exact((channels * pixels).max(1)) {
            for pixel in 0..pixels {
                turned.extend((0..channels).map(|channel| sample[channel * pixels + pixel]));
            }
        }
        values = Cow::Owned(turned);
    }
    Rows {
        count: samples * pixels,
        width: channels,
        values,
    }
}
