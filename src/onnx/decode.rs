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
        TensorData::F32(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        TensorData::F64(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        TensorData::F16(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        TensorData::BF16(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        TensorData::I8(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        TensorData::I16(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        TensorData::I32(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        TensorData::I64(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        TensorData::U8(v) => v.clone(),
        TensorData::U16(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        TensorData::U32(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        TensorData::U64(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
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
            flatten(&proto.float_data, |value| value.to_le_bytes())
        }
        DataType::Double | DataType::Complex128 => {
            flatten(&proto.double_data, |value| value.to_le_bytes())
        }
        DataType::Int64 => flatten(&proto.int64_data, |value| value.to_le_bytes()),
        DataType::Uint64 => flatten(&proto.uint64_data, |value| value.to_le_bytes()),
        DataType::Uint32 => narrow_u32(proto)?,
        DataType::String | DataType::Undefined => return Err(unsupported(proto, layout.dtype)),
        dtype => narrow_i32(proto, dtype)?,
    };
    Ok(bytes.into())
}

fn flatten<T: Copy, const N: usize>(values: &[T], to_bytes: fn(T) -> [u8; N]) -> Vec<u8> {
    values.iter().flat_map(|&value| to_bytes(value)).collect()
}

fn values<T, const N: usize>(bytes: &[u8], from_bytes: fn([u8; N]) -> T) -> Vec<T> {
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
