//! Typed tensors: what the engines take and give, and what constants decode to.
//!
//! [`Tensor`] owns its values. A weight that is only passed on is never turned into one: it stays
//! the shared bytes of its [`TensorProto`].

use std::borrow::Cow;

use half::{bf16, f16};

use super::proto::{TensorProto, tensor_proto::DataType};
use crate::error::{Error, Result};

/// A dense tensor in row-major order.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    shape: Vec<usize>,
    data: TensorData,
}

/// The values of a [`Tensor`], one variant per element type that occurs in classifiers.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the variants are the ONNX element types")]
pub enum TensorData {
    F32(Vec<f32>),
    F64(Vec<f64>),
    F16(Vec<f16>),
    BF16(Vec<bf16>),
    I8(Vec<i8>),
    I16(Vec<i16>),
    I32(Vec<i32>),
    I64(Vec<i64>),
    U8(Vec<u8>),
    U16(Vec<u16>),
    U32(Vec<u32>),
    U64(Vec<u64>),
    Bool(Vec<bool>),
}

impl Tensor {
    /// A tensor of this shape; the number of values must fit it.
    ///
    /// # Errors
    /// [`Error::Argument`] when `shape` and the number of values disagree.
    pub fn new(shape: impl Into<Vec<usize>>, data: TensorData) -> Result<Self> {
        let shape = shape.into();
        let elements = element_count(&shape);
        if elements != Some(data.len()) {
            return Err(Error::Argument {
                name: "tensor",
                what: format!("shape {shape:?} does not fit {} values", data.len()),
            });
        }
        Ok(Self { shape, data })
    }

    /// An f32 tensor; see [`Tensor::new`].
    pub fn f32(shape: impl Into<Vec<usize>>, values: Vec<f32>) -> Result<Self> {
        Self::new(shape, TensorData::F32(values))
    }

    /// An i64 tensor; see [`Tensor::new`].
    pub fn i64(shape: impl Into<Vec<usize>>, values: Vec<i64>) -> Result<Self> {
        Self::new(shape, TensorData::I64(values))
    }

    /// Sizes of the axes; empty for a scalar.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The values in row-major order.
    pub fn data(&self) -> &TensorData {
        &self.data
    }

    /// The values in row-major order, without the shape.
    pub fn into_data(self) -> TensorData {
        self.data
    }

    /// ONNX element type.
    pub fn dtype(&self) -> DataType {
        self.data.dtype()
    }

    /// The values as f32: borrowed when they are f32, converted (rounded to nearest) otherwise.
    pub fn to_f32(&self) -> Cow<'_, [f32]> {
        self.data.to_f32()
    }

    /// The values as i64; fractions are cut off, booleans become 0 and 1.
    pub fn to_i64(&self) -> Vec<i64> {
        self.data.to_i64()
    }

    /// The same values in another element type: floats rounded to nearest; in integers, fractions
    /// cut off and what does not fit saturated.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when `dtype` is no type a [`Tensor`] can hold.
    pub fn cast(&self, dtype: DataType) -> Result<Self> {
        Ok(Self {
            shape: self.shape.clone(),
            data: self.data.cast(dtype)?,
        })
    }

    /// Decodes a weight or constant, whatever field its values are in.
    ///
    /// External data must have been read before (see [`super::Model::load`]).
    ///
    /// # Errors
    /// [`Error::Invalid`] when dims are negative or overflow, or the data does not fit them;
    /// [`Error::Unsupported`] for strings, complex numbers and sub-byte types.
    pub fn from_proto(proto: &TensorProto) -> Result<Self> {
        super::decode::decode(proto)
    }

    /// Encodes as `raw_data` under this name.
    pub fn to_proto(&self, name: impl Into<String>) -> TensorProto {
        super::decode::encode(self, name.into())
    }
}

/// Product of the sizes, or nothing when it overflows.
pub fn element_count(shape: &[usize]) -> Option<usize> {
    shape
        .iter()
        .try_fold(1_usize, |count, &size| count.checked_mul(size))
}
