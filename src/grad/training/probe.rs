//! Shapes of all values of a head, as a run shows them.

use std::collections::BTreeSet;

use crate::{
    engine::Engine,
    error::{Error, Result},
    graph::{self, Graph, Shapes, TensorType, ValueId},
    onnx::{
        DataType, Dim, ModelProto, NodeProto, Tensor, TensorProto, ValueInfoProto,
        tensor::element_count,
    },
};

/// From so many values on, a float weight is left away: it is no list of sizes or scales.
const LARGE: usize = 1 << 12;
/// Opset from which `Expand` exists.
const EXPAND: i64 = 8;

/// Completes what the head declares by what runs on `batches` show: sizes that differ between the
/// runs become unknown. Give two batches of different size, or one where the size is fixed.
///
/// # Errors
/// [`Error::Engine`] when the engine cannot run the head; [`Error::Argument`] without a batch.
pub fn probe(
    engine: &dyn Engine,
    head: &Graph<'_>,
    batches: &[Vec<(&str, &Tensor)>],
) -> Result<Shapes> {
    let mut shapes = Shapes::declared(head);
    let made = |id: &ValueId| head.producer(*id).is_some() && head.constant(*id).is_none();
    let values: Vec<ValueId> = head.values().filter(made).collect();
    let run = |model: &ModelProto, more: &[(&str, &Tensor)]| -> Result<Vec<Vec<Tensor>>> {
        let mut session = engine.load(model)?;
        let batches = batches.iter().map(|batch| [batch, more].concat());
        batches.map(|batch| session.run(&batch)).collect()
    };
    let whole = graph::with_outputs(head, &shapes, &values);
    let zero = head.fresh_name("zero");
    let light = light(head, &whole, &zero)?;
    let nothing = Tensor::f32([], vec![0.0])?;
    let runs = match light.map(|light| run(&light, &[(&zero, &nothing)])) {
        Some(Ok(runs)) => runs,
        Some(Err(_)) | None => run(&whole, &[])?,
    };
    let Some((first, others)) = runs.split_first() else {
        return Err(Error::Argument {
            name: "batches",
            what: "a probe needs at least one".to_owned(),
        });
    };
    for (at, (&id, tensor)) in values.iter().zip(first).enumerate() {
        let same = |axis: usize, size: usize| {
            let mut sizes = others.iter().map(|run| run[at].shape().get(axis).copied());
            sizes.all(|other| other == Some(size))
        };
        let dims = tensor.shape().iter().enumerate();
        let dims = dims.map(|(axis, &size)| match same(axis, size) {
            true => Dim::Fixed(size),
            false => Dim::Unknown,
        });
        let found = TensorType {
            dtype: tensor.dtype(),
            dims: dims.collect(),
        };
        shapes.learn(id, found);
    }
    Ok(shapes)
}

/// The model with zeros for its large weights: shapes do not depend on them, and handing them over
/// takes far longer than the run. Nothing where there are none.
///
/// The zeros come from the input `zero`: those of a constant would be made when the model is loaded,
/// and then be handed over like any weight.
pub(super) fn light(
    head: &Graph<'_>,
    model: &ModelProto,
    zero: &str,
) -> Result<Option<ModelProto>> {
    let mut light = model.clone();
    let is_large = |tensor: &TensorProto| {
        let sizes = tensor.dims.iter().map(|&size| usize::try_from(size).ok());
        let sizes: Option<Vec<usize>> = sizes.collect();
        let count = sizes.and_then(|sizes| element_count(&sizes));
        tensor.data_type() == i32::from(DataType::Float) && count >= Some(LARGE)
    };
    let Some(graph) = light.graph.as_mut() else {
        return Ok(None);
    };
    let all = std::mem::take(&mut graph.initializer);
    let (large, kept): (Vec<_>, Vec<_>) = all.into_iter().partition(is_large);
    if large.is_empty() || model.opset("").unwrap_or(0) < EXPAND {
        return Ok(None);
    }
    graph.initializer = kept;
    let mut nodes = Vec::new();
    for tensor in &large {
        let name = head.fresh_name(&format!("{}_shape", tensor.name()));
        let shape = Tensor::i64([tensor.dims.len()], tensor.dims.clone())?;
        graph.initializer.push(shape.to_proto(name.as_str()));
        nodes.push(NodeProto::new("Expand", &[zero, &name], &[tensor.name()]));
    }
    nodes.append(&mut graph.node);
    graph.node = nodes;
    let names: BTreeSet<&str> = large.iter().map(|tensor| tensor.name()).collect();
    graph.input.retain(|input| !names.contains(input.name()));
    let port = ValueInfoProto::tensor(zero, DataType::Float, &[]);
    graph.input.push(port);
    Ok(Some(light))
}
