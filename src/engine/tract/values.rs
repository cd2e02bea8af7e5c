//! Between our tensors and tract's.

use tract_onnx::prelude::{Datum, DatumType, Tensor as TractTensor};
use tract_onnx::tract_core::internal::TDim;

use crate::onnx::{DataType, Tensor, TensorData};

/// tract's name for an element type; it knows no bfloat16.
pub(super) fn datum_type(dtype: DataType) -> Result<DatumType, String> {
    Ok(match dtype {
        DataType::Float => DatumType::F32,
        DataType::Double => DatumType::F64,
        DataType::Float16 => DatumType::F16,
        DataType::Int8 => DatumType::I8,
        DataType::Int16 => DatumType::I16,
        DataType::Int32 => DatumType::I32,
        DataType::Int64 => DatumType::I64,
        DataType::Uint8 => DatumType::U8,
        DataType::Uint16 => DatumType::U16,
        DataType::Uint32 => DatumType::U32,
        DataType::Uint64 => DatumType::U64,
        DataType::Bool => DatumType::Bool,
        other => return Err(format!("element type {other} is not supported")),
    })
}

/// ONNX's name for an element type of tract.
pub(super) fn data_type(datum: DatumType) -> Result<DataType, String> {
    Ok(match datum {
        DatumType::F32 => DataType::Float,
        DatumType::F64 => DataType::Double,
        DatumType::F16 => DataType::Float16,
        DatumType::I8 => DataType::Int8,
        DatumType::I16 => DataType::Int16,
        DatumType::I32 => DataType::Int32,
        DatumType::I64 => DataType::Int64,
        DatumType::U8 => DataType::Uint8,
        DatumType::U16 => DataType::Uint16,
        DatumType::U32 => DataType::Uint32,
        DatumType::U64 => DataType::Uint64,
        DatumType::Bool => DataType::Bool,
        other => {
            return Err(format!(
                "gave a value of type {other:?}, which no tensor here holds"
            ));
        }
    })
}

/// Copies a tensor into tract's aligned memory.
pub(super) fn to_tract(tensor: &Tensor) -> Result<TractTensor, String> {
    let shape = tensor.shape();
    match tensor.data() {
        TensorData::F32(values) => TractTensor::from_shape(shape, values),
        TensorData::F64(values) => TractTensor::from_shape(shape, values),
        TensorData::F16(values) => TractTensor::from_shape(shape, values),
        TensorData::I8(values) => TractTensor::from_shape(shape, values),
        TensorData::I16(values) => TractTensor::from_shape(shape, values),
        TensorData::I32(values) => TractTensor::from_shape(shape, values),
        TensorData::I64(values) => TractTensor::from_shape(shape, values),
        TensorData::U8(values) => TractTensor::from_shape(shape, values),
        TensorData::U16(values) => TractTensor::from_shape(shape, values),
        TensorData::U32(values) => TractTensor::from_shape(shape, values),
        TensorData::U64(values) => TractTensor::from_shape(shape, values),
        TensorData::Bool(values) => TractTensor::from_shape(shape, values),
        TensorData::BF16(_) => return Err("element type bf16 is not supported".to_owned()),
    }
    .map_err(|error| error.to_string())
}

/// Copies a result out; tract's symbolic sizes become i64.
pub(super) fn from_tract(tensor: &TractTensor) -> Result<Tensor, String> {
    let data = match tensor.datum_type() {
        DatumType::F32 => TensorData::F32(values(tensor)?),
        DatumType::F64 => TensorData::F64(values(tensor)?),
        DatumType::F16 => TensorData::F16(values(tensor)?),
        DatumType::I8 => TensorData::I8(values(tensor)?),
        DatumType::I16 => TensorData::I16(values(tensor)?),
        DatumType::I32 => TensorData::I32(values(tensor)?),
        DatumType::I64 => TensorData::I64(values(tensor)?),
        DatumType::U8 => TensorData::U8(values(tensor)?),
        DatumType::U16 => TensorData::U16(values(tensor)?),
        DatumType::U32 => TensorData::U32(values(tensor)?),
        DatumType::U64 => TensorData::U64(values(tensor)?),
        DatumType::Bool => TensorData::Bool(values(tensor)?),
        dtype if dtype == TDim::datum_type() => {
            let sizes = tensor.cast_to::<i64>().map_err(|error| error.to_string())?;
            TensorData::I64(values(&sizes)?)
        }
        other => {
            return Err(format!(
                "gave a value of type {other:?}, which no tensor here holds"
            ));
        }
    };
    Tensor::new(tensor.shape(), data).map_err(|error| error.to_string())
}

fn values<T: Datum + Copy>(tensor: &TractTensor) -> Result<Vec<T>, String> {
    let view = tensor
        .try_as_plain_ram()
        .map_err(|error| error.to_string())?;
    let slice = view.as_slice::<T>().map_err(|error| error.to_string())?;
    Ok(slice.to_vec())
}
