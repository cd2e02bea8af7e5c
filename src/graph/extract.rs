//! The part of a model between some of its values, as a model of its own.

use std::collections::BTreeSet;

use super::{Graph, NodeId, Shapes, TensorType, ValueId};
use crate::{
    error::{Error, Result, Site},
    onnx::{GraphProto, ModelProto, ValueInfoProto, proto::type_proto},
};

/// Cuts out what computes `outputs` from `inputs`.
///
/// Graph inputs that are reached without passing one of `inputs` stay inputs of the part. Weights
/// are shared with the original, not copied. `shapes` gives the element types of the new inputs
/// and outputs.
///
/// # Errors
/// [`Error::Unsupported`] when the element type of a new input or output is not known.
pub fn extract(
    graph: &Graph<'_>,
    shapes: &Shapes,
    inputs: &[ValueId],
    outputs: &[ValueId],
) -> Result<ModelProto> {
    let reached = reach(graph, inputs, outputs);
    let proto = graph.proto();
    let mut part = GraphProto {
        name: proto.name.clone(),
        ..GraphProto::default()
    };
    let constants = proto.initializer.iter();
    part.initializer = constants
        .filter(|tensor| contains(graph, &reached.values, tensor.name()))
        .cloned()
        .collect();
    let sparse = proto.sparse_initializer.iter();
    part.sparse_initializer = sparse
        .filter(|sparse| {
            let name = sparse.values.as_ref().map_or("", |values| values.name());
            contains(graph, &reached.values, name)
        })
        .cloned()
        .collect();
    for &id in inputs {
        if reached.values.contains(&id) {
            part.input.push(port(graph, shapes, id)?);
        }
    }
    let given: BTreeSet<&str> = inputs.iter().map(|&id| graph.name(id)).collect();
    let kept = proto.input.iter().filter(|input| {
        !given.contains(input.name()) && contains(graph, &reached.values, input.name())
    });
    part.input.extend(kept.cloned());
    for &id in outputs {
        part.output.push(port(graph, shapes, id)?);
    }
    let order = graph.order().iter();
    part.node = order
        .filter(|id| reached.nodes.contains(id))
        .map(|&id| graph.node(id).clone())
        .collect();
    Ok(ModelProto {
        graph: Some(part),
        metadata_props: Vec::new(),
        training_info: Vec::new(),
        ..shallow(graph.model())
    })
}

struct Reached {
    nodes: BTreeSet<NodeId>,
    values: BTreeSet<ValueId>,
}

/// Everything met on the way back from `outputs` to `inputs`.
fn reach(graph: &Graph<'_>, inputs: &[ValueId], outputs: &[ValueId]) -> Reached {
    let mut dependencies: Vec<Vec<ValueId>> = vec![Vec::new(); graph.proto().node.len()];
    for id in graph.values() {
        for reading in graph.uses(id) {
            dependencies[reading.node.0].push(id);
        }
    }
    let mut reached = Reached {
        nodes: BTreeSet::new(),
        values: BTreeSet::new(),
    };
    let mut open: Vec<ValueId> = outputs.to_vec();
    while let Some(id) = open.pop() {
        if !reached.values.insert(id) || inputs.contains(&id) {
            continue;
        }
        if let Some(node) = graph.producer(id)
            && reached.nodes.insert(node)
        {
            open.extend(&dependencies[node.0]);
        }
    }
    reached
}

fn contains(graph: &Graph<'_>, values: &BTreeSet<ValueId>, name: &str) -> bool {
    graph.value(name).is_some_and(|id| values.contains(&id))
}

fn port(graph: &Graph<'_>, shapes: &Shapes, id: ValueId) -> Result<ValueInfoProto> {
    let name = graph.name(id);
    let declared = graph.proto().input.iter().chain(&graph.proto().output);
    if let Some(info) = declared.into_iter().find(|info| info.name() == name) {
        return Ok(info.clone());
    }
    let TensorType { dtype, dims } = shapes.tensor(id).ok_or_else(|| Error::Unsupported {
        site: Site::value(name),
        what: "its element type is not declared".to_owned(),
    })?;
    Ok(ValueInfoProto::tensor(name, *dtype, dims))
}

/// The model without its graph; the parts a graph refers to (functions, operator sets) stay.
fn shallow(model: &ModelProto) -> ModelProto {
    ModelProto {
        ir_version: model.ir_version,
        opset_import: model.opset_import.clone(),
        producer_name: model.producer_name.clone(),
        producer_version: model.producer_version.clone(),
        functions: model.functions.clone(),
        ..ModelProto::default()
    }
}

/// The model with these outputs in place of its own, so that a run shows them.
///
/// Only element types are declared, and only where `shapes` knows them: both runtimes infer the
/// rest.
pub fn with_outputs(graph: &Graph<'_>, shapes: &Shapes, outputs: &[ValueId]) -> ModelProto {
    let mut model = graph.model().clone();
    if let Some(proto) = model.graph.as_mut() {
        let outputs = outputs.iter().map(|&id| {
            let known = shapes.dtype(id);
            let mut info = ValueInfoProto::tensor(graph.name(id), known.unwrap_or_default(), &[]);
            info.r#type = info.r#type.filter(|_| known.is_some());
            if let Some(type_proto::Value::TensorType(tensor)) =
                info.r#type.as_mut().and_then(|kind| kind.value.as_mut())
            {
                tensor.shape = None;
            }
            info
        });
        proto.output = outputs.collect();
    }
    model
}
