//! Weights, read a few rows and columns at a time.

use bytes::Bytes;
use ndarray::ArrayViewMut2;
use rayon::prelude::*;
use std::ops::Range;

use crate::{
    error::Result,
    onnx::{DataType, Tensor, slice},
    prune::dense::Weight,
};

/// A weight `[outputs, inputs]` in f32.
///
/// Where the model's bytes are that already, they are shared: a layer of VGG16 has 411 MB.
pub(super) struct Matrix {
    outputs: usize,
    inputs: usize,
    values: Values,
}

enum Values {
    /// Little-endian f32, row-major; not aligned.
    Shared(Bytes),
    Own(Vec<f32>),
}

impl Matrix {
    /// The weight, times `factor`.
    pub(super) fn of(weight: &Weight<'_>, factor: f32) -> Result<Self> {
        let (outputs, inputs) = (
            weight.shape[weight.output_axis],
            weight.shape[weight.input_axis],
        );
        let in_order = weight.output_axis < weight.input_axis;
        let raw = weight.tensor.raw_data.as_ref();
        let raw = raw.filter(|raw| raw.len() == outputs * inputs * size_of::<f32>());
        if let Some(raw) = raw
            && weight.dtype == DataType::Float
            && in_order
            && factor == 1.0
        {
            return Ok(Self {
                outputs,
                inputs,
                values: Values::Shared(raw.clone()),
            });
        }
        let swapped = (!in_order)
            .then(|| slice::transposed(weight.tensor))
            .flatten();
        let tensor = Tensor::from_proto(swapped.as_ref().unwrap_or(weight.tensor))?;
        let mut values = tensor.to_f32().into_owned();
        if factor != 1.0 {
            values.iter_mut().for_each(|value| *value *= factor);
        }
        Ok(Self {
            outputs,
            inputs,
            values: Values::Own(values),
        })
    }

    #[cfg(test)]
    pub(super) fn new(outputs: usize, inputs: usize, values: Vec<f32>) -> Self {
        Self {
            outputs,
            inputs,
            values: Values::Own(values),
        }
    }

    pub(super) fn outputs(&self) -> usize {
        self.outputs
    }

    pub(super) fn inputs(&self) -> usize {
        self.inputs
    }

    /// All of it, `[outputs, inputs]`.
    ///
    /// # Errors
    /// None in practice: it has as many numbers as rows times columns.
    pub(super) fn to_tensor(&self) -> Result<Tensor> {
        let mut values = vec![0.0; self.outputs * self.inputs];
        let rows = values.par_chunks_mut(self.inputs.max(1)).enumerate();
        rows.for_each(|(row, target)| self.read(row, 0..self.inputs, target));
        Tensor::f32([self.outputs, self.inputs], values)
    }

    /// Copies neighbouring weights of one row.
    pub(super) fn read(&self, row: usize, columns: Range<usize>, target: &mut [f32]) {
        let at = row * self.inputs;
        let (start, end) = (at + columns.start, at + columns.end);
        match &self.values {
            Values::Own(values) => target.copy_from_slice(&values[start..end]),
            Values::Shared(bytes) => {
                let width = size_of::<f32>();
                let (chunks, _) = bytes[start * width..end * width].as_chunks();
                let pairs = target.iter_mut().zip(chunks);
                pairs.for_each(|(target, chunk)| *target = f32::from_le_bytes(*chunk));
            }
        }
    }

    /// Copies `rows`, neighbouring columns of each, into a matrix of as many rows.
    pub(super) fn gather(
        &self,
        rows: impl IntoIterator<Item = usize>,
        columns: Range<usize>,
        mut target: ArrayViewMut2<'_, f32>,
    ) {
        for (row, mut target) in rows.into_iter().zip(target.rows_mut()) {
            if let Some(target) = target.as_slice_mut() {
                self.read(row, columns.clone(), target);
            }
        }
    }
}
