//! What the model takes, and samples put into that form.

use crate::{
    data::Batch,
    error::{Error, Result, Site},
    graph::Graph,
    onnx::{DataType, Dim, Tensor},
};

/// Samples per run where the model leaves it open.
const BATCH: usize = 32;

/// Samples per run for large inputs, so that what a run makes stays near the processor: MobileNetV2 runs
/// a sixth faster than with 16, and the trunk of VGG16 holds 26 MB of activations per sample at 224 x 224.
const LARGE_BATCH: usize = 4;

/// Fewest samples of a device's batch, however large one is.
const LEAST_DEVICE_BATCH: usize = 16;

/// Most samples of a device's batch.
const DEVICE_BATCH: usize = 128;

/// Values of a device's batch: 64 images of 224 x 224 pixels.
const DEVICE_VALUES: usize = 64 * 3 * 224 * 224;

/// Values per sample from which an input counts as large: 3 x 224 x 224.
const LARGE_SAMPLE: usize = 150_528;

/// The one input of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelInput {
    /// Its name.
    pub name: String,
    /// Its element type.
    pub dtype: DataType,
    /// Its axes, the batch first.
    pub dims: Vec<Dim>,
}

/// Samples as the model takes them.
#[derive(Clone, Debug, PartialEq)]
pub struct Samples {
    /// The model's input, `[B, ..]`.
    pub input: Tensor,
    /// How many leading samples are real; the others fill up a fixed batch.
    pub count: usize,
    /// Class of each real sample, where known.
    pub labels: Option<Vec<usize>>,
}

impl ModelInput {
    /// The input that samples are given to.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when the model has no input, or several, or one of undeclared type.
    pub fn of(graph: &Graph<'_>) -> Result<Self> {
        let names: Vec<&str> = graph.inputs().iter().map(|&id| graph.name(id)).collect();
        let unsupported = |what: String| Error::Unsupported {
            site: Site::value(names.first().copied().unwrap_or("input")),
            what,
        };
        let &[name] = names.as_slice() else {
            let what = format!("samples feed one input, but the model has {names:?}");
            return Err(unsupported(what));
        };
        let declared = graph.proto().input.iter();
        let info = declared.into_iter().find(|info| info.name() == name);
        let dtype = info.and_then(|info| info.elem_type());
        let dims = info.and_then(|info| info.dims());
        Ok(Self {
            name: name.to_owned(),
            dtype: dtype.ok_or_else(|| unsupported("its element type is not declared".into()))?,
            dims: dims.ok_or_else(|| unsupported("its number of axes is not declared".into()))?,
        })
    }

    /// The batch size that the model insists on.
    pub fn fixed_batch(&self) -> Option<usize> {
        self.dims.first().and_then(Dim::fixed)
    }

    /// Samples to give per run: the model's own number, else 32, or 4 where `sample` values make
    /// one sample large.
    pub fn batch_size(&self, sample: usize) -> usize {
        let open = if sample < LARGE_SAMPLE {
            BATCH
        } else {
            LARGE_BATCH
        };
        self.fixed_batch().unwrap_or(open)
    }

    /// Samples to give a device per run, which wants more work at once: up to 128, fewer where
    /// `sample` values make one sample large.
    pub fn device_batch_size(&self, sample: usize) -> usize {
        let fits = DEVICE_VALUES / sample.max(1);
        self.fixed_batch()
            .unwrap_or_else(|| fits.clamp(LEAST_DEVICE_BATCH, DEVICE_BATCH))
    }

    /// Puts a batch of data into the form of this input.
    ///
    /// # Errors
    /// [`Error::Argument`] when the batch is empty, larger than the model's, or does not hold the
    /// values its shape says.
    pub fn samples(&self, batch: Batch) -> Result<Samples> {
        let Batch {
            mut shape,
            mut values,
            labels,
        } = batch;
        let count = shape.first().copied().unwrap_or(0);
        let invalid = |what: String| Error::Argument {
            name: "--data",
            what,
        };
        if count == 0 || values.len() % count != 0 {
            return Err(invalid(format!(
                "a batch of shape {shape:?} holds no samples"
            )));
        }
        if let Some(size) = self.fixed_batch() {
            if count > size {
                let what = format!("{count} samples do not fit the model's batch of {size}");
                return Err(invalid(what));
            }
            repeat_last(&mut values, count, size);
            shape[0] = size;
        }
        let input = Tensor::f32(shape, values)?;
        Ok(Samples {
            input: match self.dtype {
                DataType::Float => input,
                dtype => input.cast(dtype)?,
            },
            count,
            labels,
        })
    }
}

/// Appends copies of the last of `count` rows until there are `size`.
fn repeat_last(values: &mut Vec<f32>, count: usize, size: usize) {
    let row = values.len() / count;
    let last = values.len() - row;
    for _ in count..size {
        values.extend_from_within(last..last + row);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(batch: Dim) -> ModelInput {
        ModelInput {
            name: "x".to_owned(),
            dtype: DataType::Float16,
            dims: vec![batch, Dim::Fixed(2)],
        }
    }

    fn batch(rows: usize) -> Batch {
        Batch {
            shape: vec![rows, 2],
            values: (0..rows * 2).map(|value| value as f32).collect(),
            labels: Some(vec![7; rows]),
        }
    }

    #[test]
    fn a_short_batch_is_filled_with_its_last_sample_only_where_the_size_is_fixed() {
        let open = input(Dim::Unknown).samples(batch(3)).unwrap();
        assert_eq!((open.input.shape(), open.count), (&[3, 2][..], 3));
        let fixed = input(Dim::Fixed(4)).samples(batch(3)).unwrap();
        assert_eq!((fixed.input.shape(), fixed.count), (&[4, 2][..], 3));
        assert_eq!(*fixed.input.to_f32(), [0., 1., 2., 3., 4., 5., 4., 5.]);
        assert_eq!(fixed.input.dtype(), DataType::Float16);
        assert_eq!(fixed.labels, Some(vec![7; 3]));
    }

    #[test]
    fn batches_that_cannot_be_fed_are_refused() {
        assert!(input(Dim::Fixed(2)).samples(batch(3)).is_err());
        assert!(input(Dim::Unknown).samples(batch(0)).is_err());
    }

    #[test]
    fn batch_size_follows_the_model_then_the_size_of_a_sample() {
        assert_eq!(input(Dim::Fixed(3)).batch_size(10), 3);
        assert_eq!(input(Dim::Unknown).batch_size(784), 32);
        assert_eq!(input(Dim::Unknown).batch_size(3 * 224 * 224), 4);
        assert_eq!(input(Dim::Fixed(3)).device_batch_size(10), 3);
        assert_eq!(input(Dim::Unknown).device_batch_size(784), 128);
        assert_eq!(input(Dim::Unknown).device_batch_size(3 * 224 * 224), 64);
        assert_eq!(input(Dim::Unknown).device_batch_size(3 * 600 * 600), 16);
    }
}
