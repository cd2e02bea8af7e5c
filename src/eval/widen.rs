//! Half-precision models in single precision, for engines that do not compute in half.
//!
//! Every f16 and bf16 value is an f32 value exactly, so the widened model is the same network
//! without the rounding between its layers. A cut that is right in one is right in the other.

use crate::{
    error::Result,
    onnx::{
        AttributeProto, DataType, GraphProto, ModelProto, Tensor, TensorProto, ValueInfoProto,
        proto::type_proto,
    },
};

/// The half-precision type that a model's weights are in; f16 where it holds both.
pub fn half_type(model: &ModelProto) -> Option<DataType> {
    let weights = model.graph.iter().flat_map(|graph| &graph.initializer);
    let types = weights.filter_map(|tensor| DataType::try_from(tensor.data_type()).ok());
    let mut halves: Vec<DataType> = types.filter(|&dtype| is_half(dtype)).collect();
    halves.sort_by_key(|&dtype| dtype != DataType::Float16);
    halves.first().copied()
}

/// The model with every f16 and bf16 weight, value and Cast turned to f32.
///
/// # Errors
/// [`crate::Error::Invalid`] when a weight cannot be decoded.
pub fn widened(model: &ModelProto) -> Result<ModelProto> {
    let mut model = model.clone();
    if let Some(graph) = &mut model.graph {
        widen_graph(graph)?;
    }
    Ok(model)
}

fn is_half(dtype: DataType) -> bool {
    matches!(dtype, DataType::Float16 | DataType::Bfloat16)
}

fn is_half_number(number: i64) -> bool {
    let number = i32::try_from(number).unwrap_or_default();
    DataType::try_from(number).is_ok_and(is_half)
}

fn widen_graph(graph: &mut GraphProto) -> Result<()> {
    for tensor in &mut graph.initializer {
        widen_tensor(tensor)?;
    }
    let values = graph.input.iter_mut().chain(&mut graph.output);
    values.chain(&mut graph.value_info).for_each(widen_value);
    for node in &mut graph.node {
        for attribute in &mut node.attribute {
            widen_attribute(attribute)?;
        }
    }
    Ok(())
}

fn widen_tensor(tensor: &mut TensorProto) -> Result<()> {
    if is_half_number(i64::from(tensor.data_type())) {
        let wide = Tensor::from_proto(tensor)?.cast(DataType::Float)?;
        *tensor = wide.to_proto(tensor.name());
    }
    Ok(())
}

fn widen_value(value: &mut ValueInfoProto) {
    let kind = value.r#type.as_mut().and_then(|kind| kind.value.as_mut());
    if let Some(type_proto::Value::TensorType(tensor)) = kind
        && is_half_number(i64::from(tensor.elem_type()))
    {
        tensor.elem_type = Some(DataType::Float.into());
    }
}

/// Constants, subgraphs, and the target type of Cast and its like (`to`, `dtype`).
fn widen_attribute(attribute: &mut AttributeProto) -> Result<()> {
    if matches!(attribute.name(), "to" | "dtype") && is_half_number(attribute.i()) {
        attribute.i = Some(i64::from(i32::from(DataType::Float)));
    }
    if let Some(tensor) = &mut attribute.t {
        widen_tensor(tensor)?;
    }
    if let Some(graph) = &mut attribute.g {
        widen_graph(graph)?;
    }
    attribute.graphs.iter_mut().try_for_each(widen_graph)
}
