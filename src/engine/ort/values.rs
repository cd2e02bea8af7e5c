//! Between our tensors and ONNX Runtime's.

use std::fmt::Debug;

use ::ort::Error;
use ::ort::session::SessionInputValue;

use ::ort::value::{
    DynValue, PrimitiveTensorElementType, Tensor as OrtTensor, TensorElementType, TensorRef,
    ValueType,
};
use half::{bf16, f16};

use crate::onnx::{DataType, Tensor, TensorData};

/// Lends a tensor to ONNX Runtime, without copying it.
pub(super) fn to_ort(tensor: &Tensor) -> ::ort::Result<SessionInputValue<'_>> {
    let shape = tensor.shape();
    match tensor.data() {
        TensorData::F32(values) => lend(shape, values),
        TensorData::F64(values) => lend(shape, values),
        TensorData::F16(values) => lend(shape, values),
        TensorData::BF16(values) => lend(shape, values),
        TensorData::I8(values) => lend(shape, values),
        TensorData::I16(values) => lend(shape, values),
        TensorData::I32(values) => lend(shape, values),
        TensorData::I64(values) => lend(shape, values),
        TensorData::U8(values) => lend(shape, values),
        TensorData::U16(values) => lend(shape, values),
        TensorData::U32(values) => lend(shape, values),
        TensorData::U64(values) => lend(shape, values),
        TensorData::Bool(values) => lend(shape, values),
    }
}

fn lend<'t, T>(shape: &[usize], values: &'t [T]) -> ::ort::Result<SessionInputValue<'t>>
where
    T: PrimitiveTensorElementType + Debug + Clone + 'static,
{
    Ok(TensorRef::from_array_view((shape.to_vec(), values))?.into())
}

/// Hands a tensor over to ONNX Runtime, without copying it.
pub(super) fn into_ort(tensor: Tensor) -> ::ort::Result<DynValue> {
    let shape = tensor.shape().to_vec();
    match tensor.into_data() {
        TensorData::F32(values) => give(shape, values),
        TensorData::F64(values) => give(shape, values),
        TensorData::F16(values) => give(shape, values),
        TensorData::BF16(values) => give(shape, values),
        TensorData::I8(values) => give(shape, values),
        TensorData::I16(values) => give(shape, values),
        TensorData::I32(values) => give(shape, values),
        TensorData::I64(values) => give(shape, values),
        TensorData::U8(values) => give(shape, values),
        TensorData::U16(values) => give(shape, values),
        TensorData::U32(values) => give(shape, values),
        TensorData::U64(values) => give(shape, values),
        TensorData::Bool(values) => give(shape, values),
    }
}

fn give<T>(shape: Vec<usize>, values: Vec<T>) -> ::ort::Result<DynValue>
where
    T: PrimitiveTensorElementType + Debug + Clone + 'static,
{
    Ok(OrtTensor::from_array((shape, values))?.into_dyn())
}

/// Copies a result out.
pub(super) fn from_ort(value: &DynValue) -> ::ort::Result<Tensor> {
    let ValueType::Tensor { ty, shape, .. } = value.dtype() else {
        return Err(Error::new(format!(
            "an output is no tensor but {}",
            value.dtype()
        )));
    };
    let shape: Vec<usize> = shape
        .iter()
        .map(|&size| usize::try_from(size).map_err(Error::wrap))
        .collect::<::ort::Result<_>>()?;
    let data = match ty {
        TensorElementType::Float32 => TensorData::F32(copy::<f32>(value)?),
        TensorElementType::Float64 => TensorData::F64(copy::<f64>(value)?),
        TensorElementType::Float16 => TensorData::F16(copy::<f16>(value)?),
        TensorElementType::Bfloat16 => TensorData::BF16(copy::<bf16>(value)?),
        TensorElementType::Int8 => TensorData::I8(copy::<i8>(value)?),
        TensorElementType::Int16 => TensorData::I16(copy::<i16>(value)?),
        TensorElementType::Int32 => TensorData::I32(copy::<i32>(value)?),
        TensorElementType::Int64 => TensorData::I64(copy::<i64>(value)?),
        TensorElementType::Uint8 => TensorData::U8(copy::<u8>(value)?),
        TensorElementType::Uint16 => TensorData::U16(copy::<u16>(value)?),
        TensorElementType::Uint32 => TensorData::U32(copy::<u32>(value)?),
        TensorElementType::Uint64 => TensorData::U64(copy::<u64>(value)?),
        TensorElementType::Bool => TensorData::Bool(copy::<bool>(value)?),
        other => {
            return Err(Error::new(format!(
                "an output is of type {other}, which no tensor here holds"
            )));
        }
    };
    Tensor::new(shape, data).map_err(Error::wrap)
}

fn copy<T: PrimitiveTensorElementType + Clone>(value: &DynValue) -> ::ort::Result<Vec<T>> {
    let (shape, values) = value.try_extract_tensor::<T>()?;
    debug_assert_eq!(shape.num_elements(), values.len());
    Ok(values.to_vec())
}

/// ONNX's name for an element type of ONNX Runtime.
pub(super) fn data_type(element: TensorElementType) -> DataType {
    match element {
        TensorElementType::Float32 => DataType::Float,
        TensorElementType::Float64 => DataType::Double,
        TensorElementType::Float16 => DataType::Float16,
        TensorElementType::Bfloat16 => DataType::Bfloat16,
        TensorElementType::Int8 => DataType::Int8,
        TensorElementType::Int16 => DataType::Int16,
        TensorElementType::Int32 => DataType::Int32,
        TensorElementType::Int64 => DataType::Int64,
        TensorElementType::Uint8 => DataType::Uint8,
        TensorElementType::Uint16 => DataType::Uint16,
        TensorElementType::Uint32 => DataType::Uint32,
        TensorElementType::Uint64 => DataType::Uint64,
        TensorElementType::Bool => DataType::Bool,
        TensorElementType::String => DataType::String,
        // No port of a classifier; `run` refuses such values by name.
        _ => DataType::Undefined,
    }
}
