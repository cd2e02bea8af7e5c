//! Between [`Tensor`] and the many fields in which a [`TensorProto`] may keep its values.
//!
//! Everything goes through little-endian bytes, the form of `raw_data`.

use bytes::Bytes;
use half::{bf16, f16};

use super::{
    layout::{Layout, check_values, invalid, is_external, layout},
    proto::{TensorProto, tensor_proto::DataType},
    tensor::{Tensor, TensorData},
};
use crate::error::{Error, Result, Site};

pub(super) fn decode(proto: &TensorProto) -> Result<Tensor> {
    let layout = layout(proto)?;
    let bytes = raw_bytes(proto, &layout)?;
    let data = match layout.dtype {
        DataType::Float => TensorData::F32(values(&bytes, f32::from_le_bytes)),
        DataType::Double => TensorData::F64(values(&bytes, f64::from_le_bytes)),
        DataType::Float16 => TensorData::F16(values(&bytes, f16::from_le_bytes)),
        DataType::Bfloat16 => TensorData::BF16(values(&bytes, bf16::from_le_bytes)),
        DataType::Int8 => TensorData::I8(values(&bytes, i8::from_le_bytes)),
        DataType::Int16 => TensorData::I16(values(&bytes, i16::from_le_bytes)),
        DataType::Int32 => TensorData::I32(values(&bytes, i32::from_le_bytes)),
        DataType::Int64 => TensorData::I64(values(&bytes, i64::from_le_bytes)),
        DataType::Uint8 => TensorData::U8(bytes.to_vec()),
        DataType::Uint16 => TensorData::U16(values(&bytes, u16::from_le_bytes)),
        DataType::Uint32 => TensorData::U32(values(&bytes, u32::from_le_bytes)),
        DataType::Uint64 => TensorData::U64(values(&bytes, u64::from_le_bytes)),
        DataType::Bool => TensorData::Bool(values(&bytes, |[byte]: [u8; 1]| byte != 0)),
        dtype => return Err(unsupported(proto, dtype)),
    };
    Tensor::new(layout.shape, data)
}

pub(super) fn encode(tensor: &Tensor, name: String) -> TensorProto {
    let raw: Vec<u8> = match tensor.data() {
        TensorData::F32(v) => bytes(v, |x| x.to_le_bytes()),
        TensorData::F64(v) => bytes(v, |x| x.to_le_bytes()),
        TensorData::F16(v) => bytes(v, |x| x.to_le_bytes()),
        TensorData::BF16(v) => bytes(v, |x| x.to_le_bytes()),
        TensorData::I8(v) => bytes(v, |x| x.to_le_bytes()),
        TensorData::I16(v) => bytes(v, |x| x.to_le_bytes()),
        TensorData::I32(v) => bytes(v, |x| x.to_le_bytes()),
        TensorData::I64(v) => bytes(v, |x| x.to_le_bytes()),
        TensorData::U8(v) => v.clone(),
        TensorData::U16(v) => bytes(v, |x| x.to_le_bytes()),
        TensorData::U32(v) => bytes(v, |x| x.to_le_bytes()),
        TensorData::U64(v) => bytes(v, |x| x.to_le_bytes()),
        TensorData::Bool(v) => v.iter().map(|&x| u8::from(x)).collect(),
    };
    TensorProto {
        name: Some(name),
        data_type: Some(tensor.dtype().into()),
        dims: tensor.shape().iter().map(|&size| to_dim(size)).collect(),
        raw_data: Some(raw.into()),
        ..TensorProto::default()
    }
}

/// A size as ONNX stores it. Sizes of tensors in memory always fit.
pub(super) fn to_dim(size: usize) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

/// The values as little-endian bytes: shared when they are in `raw_data`, converted otherwise.
///
/// # Errors
/// [`Error::Invalid`] when they do not fit the shape; [`Error::Unsupported`] for strings.
pub(super) fn raw_bytes(proto: &TensorProto, layout: &Layout) -> Result<Bytes> {
    if is_external(proto) {
        return Err(invalid(proto, "its external data has not been read"));
    }
    check_values(proto, layout)?;
    if let Some(raw) = proto.raw_data.as_ref().filter(|raw| !raw.is_empty()) {
        return Ok(raw.clone());
    }
    let bytes: Vec<u8> = match layout.dtype {
        DataType::Float | DataType::Complex64 => {
            bytes(&proto.float_data, |value| value.to_le_bytes())
        }
        DataType::Double | DataType::Complex128 => {
            bytes(&proto.double_data, |value| value.to_le_bytes())
        }
        DataType::Int64 => bytes(&proto.int64_data, |value| value.to_le_bytes()),
        DataType::Uint64 => bytes(&proto.uint64_data, |value| value.to_le_bytes()),
        DataType::Uint32 => narrow_u32(proto)?,
        DataType::String | DataType::Undefined => return Err(unsupported(proto, layout.dtype)),
        dtype => narrow_i32(proto, dtype)?,
    };
    Ok(bytes.into())
}

/// The inverse of [`values`]: a plain copy as well, which flattening the arrays would not be.
fn bytes<T: Copy, const N: usize>(values: &[T], to_bytes: impl Fn(T) -> [u8; N]) -> Vec<u8> {
    let mut bytes = vec![0; values.len() * N];
    let (chunks, _) = bytes.as_chunks_mut::<N>();
    for (chunk, &value) in chunks.iter_mut().zip(values) {
        *chunk = to_bytes(value);
    }
    bytes
}

/// Generic in the conversion, so that it becomes a plain copy on most machines.
fn values<T, const N: usize>(bytes: &[u8], from_bytes: impl Fn([u8; N]) -> T) -> Vec<T> {
    let (chunks, _) = bytes.as_chunks::<N>();
    chunks.iter().map(|&chunk| from_bytes(chunk)).collect()
}

fn narrow_u32(proto: &TensorProto) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(proto.uint64_data.len() * 4);
    for &value in &proto.uint64_data {
        let narrow = u32::try_from(value)
            .map_err(|_| invalid(proto, format!("{value} in uint64_data is no u32")))?;
        bytes.extend(narrow.to_le_bytes());
    }
    Ok(bytes)
}

/// `int32_data` holds every type of up to 32 bits: the low bytes of each entry count, signed or not.
fn narrow_i32(proto: &TensorProto, dtype: DataType) -> Result<Vec<u8>> {
    let (width, range) = match dtype.bits() {
        32 => (4, i32::MIN..=i32::MAX),
        16 => (2, i32::from(i16::MIN)..=i32::from(u16::MAX)),
        _ => (1, i32::from(i8::MIN)..=i32::from(u8::MAX)),
    };
    let mut bytes = Vec::with_capacity(proto.int32_data.len() * width);
    for value in &proto.int32_data {
        if !range.contains(value) {
            return Err(invalid(
                proto,
                format!("{value} in int32_data is no {dtype}"),
            ));
        }
        bytes.extend(&value.to_le_bytes()[..width]);
    }
    Ok(bytes)
}

fn unsupported(proto: &TensorProto, dtype: DataType) -> Error {
    Error::Unsupported {
        site: Site::value(proto.name()),
        what: format!("values of type {dtype} cannot be computed with"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tensor of four values with whatever `fill` puts into it.
    fn four(dtype: DataType, fill: impl FnOnce(&mut TensorProto)) -> TensorProto {
        let mut proto = TensorProto {
            name: Some("w".into()),
            data_type: Some(dtype.into()),
            dims: vec![2, 2],
            ..TensorProto::default()
        };
        fill(&mut proto);
        proto
    }

    fn all_types() -> Vec<TensorData> {
        let half = |x: f32| f16::from_f32(x);
        let brain = |x: f32| bf16::from_f32(x);
        vec![
            TensorData::F32(vec![1.5, -0.0, f32::INFINITY, 1e-40]),
            TensorData::F64(vec![1.5, -2.0, 1e300, 0.1]),
            TensorData::F16(vec![half(1.5), half(-2.0), half(65504.0), half(6e-8)]),
            TensorData::BF16(vec![brain(1.5), brain(-2.0), brain(3e38), brain(0.0)]),
            TensorData::I8(vec![1, -1, i8::MIN, i8::MAX]),
            TensorData::I16(vec![1, -1, i16::MIN, i16::MAX]),
            TensorData::I32(vec![1, -1, i32::MIN, i32::MAX]),
            TensorData::I64(vec![1, -1, i64::MIN, i64::MAX]),
            TensorData::U8(vec![0, 1, 128, 255]),
            TensorData::U16(vec![0, 1, 32768, 65535]),
            TensorData::U32(vec![0, 1, 1 << 31, u32::MAX]),
            TensorData::U64(vec![0, 1, 1 << 63, u64::MAX]),
            TensorData::Bool(vec![true, false, false, true]),
        ]
    }

    #[test]
    fn raw_data_of_every_type_reads_back() {
        for data in all_types() {
            let tensor = Tensor::new([2, 2], data).unwrap();
            let proto = tensor.to_proto("w");
            assert_eq!(Tensor::from_proto(&proto).unwrap(), tensor);
            assert_eq!((proto.name(), &proto.dims[..]), ("w", &[2, 2][..]));
        }
    }

    #[test]
    fn typed_fields_of_every_type_decode() {
        let int32 = |dtype, values: [i32; 4]| four(dtype, |p| p.int32_data = values.to_vec());
        let uint64 = |dtype, values: [u64; 4]| four(dtype, |p| p.uint64_data = values.to_vec());
        let protos = [
            four(DataType::Float, |p| {
                p.float_data = vec![1.5, -0.0, f32::INFINITY, 1e-40];
            }),
            four(DataType::Double, |p| {
                p.double_data = vec![1.5, -2.0, 1e300, 0.1];
            }),
            // Half-width floats are their bit patterns.
            int32(DataType::Float16, [0x3e00, 0xc000, 0x7bff, 1]),
            int32(DataType::Bfloat16, [0x3fc0, 0xc000, 0x7f62, 0]),
            int32(DataType::Int8, [1, -1, -128, 127]),
            int32(DataType::Int16, [1, -1, -32768, 32767]),
            int32(DataType::Int32, [1, -1, i32::MIN, i32::MAX]),
            four(DataType::Int64, |p| {
                p.int64_data = vec![1, -1, i64::MIN, i64::MAX];
            }),
            int32(DataType::Uint8, [0, 1, 128, 255]),
            int32(DataType::Uint16, [0, 1, 32768, 65535]),
            uint64(DataType::Uint32, [0, 1, 1 << 31, u32::MAX.into()]),
            uint64(DataType::Uint64, [0, 1, 1 << 63, u64::MAX]),
            int32(DataType::Bool, [1, 0, 0, 1]),
        ];
        for (proto, expected) in protos.iter().zip(all_types()) {
            let tensor = Tensor::from_proto(proto).unwrap();
            assert_eq!(tensor.data(), &expected);
            assert_eq!(tensor.shape(), [2, 2]);
        }
    }

    #[test]
    fn decode_refuses_values_that_do_not_fit() {
        let raw =
            |length: usize| move |p: &mut TensorProto| p.raw_data = Some(vec![0; length].into());
        let dims = |dims: [i64; 2]| four(DataType::Float, move |p| p.dims = dims.to_vec());
        let cases = [
            (
                four(DataType::Float, raw(15)),
                "raw_data holds 15 bytes, but f32[2, 2] needs 16",
            ),
            (
                four(DataType::Float, raw(17)),
                "raw_data holds 17 bytes, but f32[2, 2] needs 16",
            ),
            (four(DataType::Float, |_| {}), "has no data for f32[2, 2]"),
            (
                four(DataType::Float, |p| p.float_data = vec![0.0; 3]),
                "float_data holds 3 values, but f32[2, 2] needs 4",
            ),
            (
                four(DataType::Float, |p| p.int32_data = vec![0; 4]),
                "f32 values cannot be in int32_data",
            ),
            (
                four(DataType::Float, |p| {
                    raw(16)(p);
                    p.float_data = vec![0.0; 4];
                }),
                "has data in raw_data and float_data at once",
            ),
            (
                four(DataType::Int8, |p| p.int32_data = vec![0, 0, 0, 256]),
                "256 in int32_data is no i8",
            ),
            (
                four(DataType::Uint32, |p| p.uint64_data = vec![1 << 32; 4]),
                "4294967296 in uint64_data is no u32",
            ),
            (four(DataType::Undefined, raw(4)), "unknown element type 0"),
            (
                four(DataType::Float, |p| p.data_type = Some(99)),
                "unknown element type 99",
            ),
            (dims([-1, 4]), "dims [-1, 4] hold -1"),
            (
                dims([i64::MAX, 3]),
                "dims [9223372036854775807, 3] overflow",
            ),
            (
                dims([1 << 31, 1 << 31]),
                "dims [2147483648, 2147483648] overflow",
            ),
            (
                four(DataType::Float, |p| p.data_location = Some(1)),
                "its external data has not been read",
            ),
            (
                four(DataType::String, |p| p.string_data = vec!["a".into(); 4]),
                "values of type string cannot be computed with",
            ),
            (
                four(DataType::Int4, raw(2)),
                "values of type i4 cannot be computed with",
            ),
        ];
        for (proto, expected) in cases {
            let error = Tensor::from_proto(&proto).unwrap_err().to_string();
            assert_eq!(error, format!("value \"w\": {expected}"));
        }
    }

    #[test]
    fn scalars_and_empty_tensors_decode() {
        let mut scalar = four(DataType::Float, |p| p.float_data = vec![2.5]);
        scalar.dims.clear();
        assert_eq!(*Tensor::from_proto(&scalar).unwrap().to_f32(), [2.5]);
        let empty = four(DataType::Int64, |p| p.dims = vec![0, 3]);
        assert!(Tensor::from_proto(&empty).unwrap().data().is_empty());
    }
}
