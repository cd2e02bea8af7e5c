//! Value conversions between element types.
//!
//! Floats round to nearest; to integers, fractions are cut off and what does not fit saturates;
//! NaN becomes 0 there. Booleans are 0 and 1.

#![expect(
    clippy::as_conversions,
    reason = "values, not sizes: rounding and saturation are what is asked for"
)]

use std::borrow::Cow;

use half::{bf16, f16};

use super::{proto::tensor_proto::DataType, tensor::TensorData};
use crate::error::{Error, Result, Site};

/// Holds every value of every element type exactly.
#[derive(Clone, Copy)]
enum Wide {
    Integer(i128),
    Float(f64),
}

impl Wide {
    fn to_f64(self) -> f64 {
        match self {
            Self::Integer(value) => value as f64,
            Self::Float(value) => value,
        }
    }

    fn to_f32(self) -> f32 {
        match self {
            Self::Integer(value) => value as f32,
            Self::Float(value) => value as f32,
        }
    }

    fn to_integer(self) -> i128 {
        match self {
            Self::Integer(value) => value,
            Self::Float(value) => value as i128,
        }
    }

    fn to_bool(self) -> bool {
        match self {
            Self::Integer(value) => value != 0,
            Self::Float(value) => value != 0.0,
        }
    }
}

/// Evaluates `$body` with `$values` bound to an iterator of [`Wide`] over any variant.
macro_rules! with_wide {
    ($data:expr, $values:ident => $body:expr) => {
        match $data {
            TensorData::F32(v) => with_wide!(v, Float, f64::from, $values => $body),
            TensorData::F64(v) => with_wide!(v, Float, f64::from, $values => $body),
            TensorData::F16(v) => with_wide!(v, Float, f64::from, $values => $body),
            TensorData::BF16(v) => with_wide!(v, Float, f64::from, $values => $body),
            TensorData::I8(v) => with_wide!(v, Integer, i128::from, $values => $body),
            TensorData::I16(v) => with_wide!(v, Integer, i128::from, $values => $body),
            TensorData::I32(v) => with_wide!(v, Integer, i128::from, $values => $body),
            TensorData::I64(v) => with_wide!(v, Integer, i128::from, $values => $body),
            TensorData::U8(v) => with_wide!(v, Integer, i128::from, $values => $body),
            TensorData::U16(v) => with_wide!(v, Integer, i128::from, $values => $body),
            TensorData::U32(v) => with_wide!(v, Integer, i128::from, $values => $body),
            TensorData::U64(v) => with_wide!(v, Integer, i128::from, $values => $body),
            TensorData::Bool(v) => with_wide!(v, Integer, i128::from, $values => $body),
        }
    };
    ($vector:expr, $kind:ident, $from:expr, $values:ident => $body:expr) => {{
        let $values = $vector.iter().map(|&value| Wide::$kind($from(value)));
        $body
    }};
}

/// Clamps to the range of an integer type.
macro_rules! saturate {
    ($values:expr, $to:ty) => {
        $values
            .map(|value| {
                let bounded = value
                    .to_integer()
                    .clamp(i128::from(<$to>::MIN), i128::from(<$to>::MAX));
                bounded as $to
            })
            .collect()
    };
}

impl TensorData {
    /// Number of values.
    pub fn len(&self) -> usize {
        with_wide!(self, values => values.len())
    }

    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// ONNX element type.
    pub fn dtype(&self) -> DataType {
        match self {
            Self::F32(_) => DataType::Float,
            Self::F64(_) => DataType::Double,
            Self::F16(_) => DataType::Float16,
            Self::BF16(_) => DataType::Bfloat16,
            Self::I8(_) => DataType::Int8,
            Self::I16(_) => DataType::Int16,
            Self::I32(_) => DataType::Int32,
            Self::I64(_) => DataType::Int64,
            Self::U8(_) => DataType::Uint8,
            Self::U16(_) => DataType::Uint16,
            Self::U32(_) => DataType::Uint32,
            Self::U64(_) => DataType::Uint64,
            Self::Bool(_) => DataType::Bool,
        }
    }

    /// The values as f32: borrowed when they are f32.
    pub fn to_f32(&self) -> Cow<'_, [f32]> {
        match self {
            Self::F32(values) => Cow::Borrowed(values),
            other => Cow::Owned(with_wide!(other, values => values.map(Wide::to_f32).collect())),
        }
    }

    /// The values as i64.
    pub fn to_i64(&self) -> Vec<i64> {
        with_wide!(self, values => saturate!(values, i64))
    }

    /// The same values in another element type.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when `dtype` has no variant here.
    pub fn cast(&self, dtype: DataType) -> Result<Self> {
        if dtype == self.dtype() {
            return Ok(self.clone());
        }
        with_wide!(self, values => Ok(match dtype {
            DataType::Float => Self::F32(values.map(Wide::to_f32).collect()),
            DataType::Double => Self::F64(values.map(Wide::to_f64).collect()),
            DataType::Float16 => Self::F16(values.map(|v| f16::from_f64(v.to_f64())).collect()),
            DataType::Bfloat16 => Self::BF16(values.map(|v| bf16::from_f64(v.to_f64())).collect()),
            DataType::Int8 => Self::I8(saturate!(values, i8)),
            DataType::Int16 => Self::I16(saturate!(values, i16)),
            DataType::Int32 => Self::I32(saturate!(values, i32)),
            DataType::Int64 => Self::I64(saturate!(values, i64)),
            DataType::Uint8 => Self::U8(saturate!(values, u8)),
            DataType::Uint16 => Self::U16(saturate!(values, u16)),
            DataType::Uint32 => Self::U32(saturate!(values, u32)),
            DataType::Uint64 => Self::U64(saturate!(values, u64)),
            DataType::Bool => Self::Bool(values.map(Wide::to_bool).collect()),
            _ => {
                return Err(Error::Unsupported {
                    site: Site::value("tensor"),
                    what: format!("cannot become {dtype}"),
                });
            }
        }))
    }

    /// The values whose index on `axis` of `shape` is in `keep`, in that order.
    ///
    /// # Errors
    /// [`Error::Argument`] when the axis or an index is out of range.
    pub fn select(&self, shape: &[usize], axis: usize, keep: &[usize]) -> Result<Self> {
        macro_rules! select_each {
            ($($variant:ident)*) => {
                match self {
                    $(Self::$variant(v) => {
                        Self::$variant(super::slice::select_axis(v, shape, axis, keep)?)
                    })*
                }
            };
        }
        Ok(select_each!(F32 F64 F16 BF16 I8 I16 I32 I64 U8 U16 U32 U64 Bool))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn casts_round_saturate_and_cut_off() {
        let big = i64::MAX - 1;
        let cases = [
            // Exact where the target can hold it, even beyond 2^53.
            (
                TensorData::I64(vec![big]),
                TensorData::U64(vec![9_223_372_036_854_775_806]),
            ),
            // Fractions are cut off towards zero, NaN becomes 0, the rest saturates.
            (
                TensorData::F32(vec![1.9, -1.9, f32::NAN, 1e9, -1e9]),
                TensorData::I8(vec![1, -1, 0, 127, -128]),
            ),
            (TensorData::I32(vec![-1, 300]), TensorData::U8(vec![0, 255])),
            // Round to nearest, ties to even: 2^24 + 1 lies between two f32.
            (
                TensorData::I32(vec![16_777_217]),
                TensorData::F32(vec![16_777_216.0]),
            ),
            (TensorData::F64(vec![0.1]), TensorData::F32(vec![0.1])),
            (
                TensorData::F32(vec![65536.0]),
                TensorData::F16(vec![f16::INFINITY]),
            ),
            (
                TensorData::F32(vec![1.0]),
                TensorData::BF16(vec![bf16::ONE]),
            ),
            // Booleans.
            (
                TensorData::F32(vec![0.0, -0.5]),
                TensorData::Bool(vec![false, true]),
            ),
            (
                TensorData::Bool(vec![false, true]),
                TensorData::F64(vec![0.0, 1.0]),
            ),
        ];
        for (from, to) in cases {
            assert_eq!(from.cast(to.dtype()).unwrap(), to, "{from:?}");
        }
        assert!(TensorData::F32(vec![]).cast(DataType::String).is_err());
    }

    #[test]
    fn f32_values_are_borrowed() {
        let data = TensorData::F32(vec![1.0, 2.0]);
        assert!(matches!(data.to_f32(), Cow::Borrowed([1.0, 2.0])));
        assert_eq!(TensorData::F16(vec![f16::ONE]).to_f32(), [1.0].as_slice());
        assert_eq!(TensorData::U64(vec![u64::MAX]).to_i64(), [i64::MAX]);
    }
}
