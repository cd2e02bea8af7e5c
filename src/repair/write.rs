//! Changes put into a dense layer's initializers.

use std::collections::BTreeMap;

use super::ridge::Part;
use crate::{
    error::{Error, Result},
    onnx::{DataType, ModelProto, Tensor, TensorData, TensorProto},
    prune::dense::Dense,
};

/// The layer's initializers with the change of one site added in f64 and rounded to their type;
/// nothing where that cannot hold them.
///
/// # Errors
/// [`Error::Argument`] when the model does not hold them.
pub(super) fn applied(
    model: &ModelProto,
    dense: &Dense,
    part: Part<'_>,
) -> Result<Option<BTreeMap<String, TensorProto>>> {
    let mut new = BTreeMap::new();
    let bias = part.shift.iter().map(|shift| shift / dense.beta);
    let mut changes = vec![(&dense.bias, bias.collect::<Vec<f64>>())];
    if let Some(change) = part.change {
        let change = if dense.output_axis == 0 {
            change.reversed_axes()
        } else {
            change
        };
        let change = change.iter().map(|value| value / dense.alpha);
        changes.push((&dense.weight, change.collect()));
    }
    for (name, change) in changes {
        let Some(tensor) = sum(initializer(model, name)?, &change)? else {
            return Ok(None);
        };
        new.insert(name.clone(), tensor.to_proto(name.as_str()));
    }
    Ok(Some(new))
}

fn initializer<'m>(model: &'m ModelProto, name: &str) -> Result<&'m TensorProto> {
    let mut known = model.graph.iter().flat_map(|graph| &graph.initializer);
    let found = known.find(|tensor| tensor.name() == name);
    found.ok_or_else(|| Error::Argument {
        name: "weights",
        what: format!("the model has no initializer {name:?}"),
    })
}

fn sum(proto: &TensorProto, change: &[f64]) -> Result<Option<Tensor>> {
    let tensor = Tensor::from_proto(proto)?;
    let (dtype, shape) = (tensor.dtype(), tensor.shape().to_vec());
    let TensorData::F64(mut values) = tensor.into_data().cast(DataType::Double)? else {
        return Ok(None);
    };
    let pairs = values.iter_mut().zip(change);
    pairs.for_each(|(value, change)| *value += change);
    let sum = Tensor::new(shape, TensorData::F64(values))?.cast(dtype)?;
    let is_finite = sum.to_f32().iter().all(|value| value.is_finite());
    Ok(is_finite.then_some(sum))
}
