//! Trained weights and the model they came from.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    error::{Error, Result},
    graph::{Graph, NodeId, Patch, Use},
    onnx::{DataType, ModelProto, NodeProto, Tensor, TensorProto},
};

/// The model in which the nodes of the head share no constant with anything else, so that training
/// them changes nothing else. Vectors are copied for each reader, matrices once for the head.
///
/// Values keep their names. A model that shares nothing comes back as it is.
///
/// # Errors
/// [`Error::Invalid`] when the model has no usable graph.
pub fn with_own_weights(model: ModelProto, head: &BTreeSet<NodeId>) -> Result<ModelProto> {
    let graph = Graph::new(&model)?;
    let mut patch = Patch::default();
    let mut is_changed = false;
    for value in graph.values() {
        let uses = graph.uses(value);
        let (ours, others): (Vec<Use>, Vec<Use>) =
            uses.iter().partition(|at| head.contains(&at.node));
        let first = usize::from(others.is_empty() && !graph.is_output(value));
        let Some(tensor) = graph
            .constant(value)
            .filter(|_| uses.len() > 1 && !ours.is_empty())
        else {
            continue;
        };
        let is_float = DataType::try_from(tensor.data_type()).is_ok_and(DataType::is_float);
        if !is_float || ours.iter().any(|at| at.input == Use::CAPTURE) {
            continue;
        }
        let copies: Vec<Vec<Use>> = match tensor.dims.len() {
            0 => continue,
            1 => ours.iter().skip(first).map(|&at| vec![at]).collect(),
            _ if first == 0 => vec![ours],
            _ => continue,
        };
        for uses in copies {
            let name = patch.fresh_name(&graph, &format!("{}_own", graph.name(value)));
            let mut copy = tensor.clone();
            copy.name = Some(name.clone());
            patch.set_initializer(copy);
            uses.into_iter()
                .for_each(|at| patch.redirect(at, name.as_str()));
            is_changed = true;
        }
    }
    if !is_changed {
        return Ok(model);
    }
    patch.apply(&graph)
}

/// Puts trained weights in place of those of the same name: initializers, or Constant nodes.
///
/// # Errors
/// [`Error::Argument`] when the model has no constant of a name, type and shape; it is then
/// unchanged.
pub fn apply(model: &mut ModelProto, weights: &BTreeMap<String, TensorProto>) -> Result<()> {
    let mut changed = model.clone();
    let mut left: BTreeMap<&str, &TensorProto> = weights
        .iter()
        .map(|(name, tensor)| (name.as_str(), tensor))
        .collect();
    let fits = |old: &TensorProto, new: &TensorProto| {
        old.dims == new.dims && old.data_type() == new.data_type()
    };
    if let Some(graph) = &mut changed.graph {
        for old in &mut graph.initializer {
            if let Some(&new) = left.get(old.name()).filter(|new| fits(old, new)) {
                left.remove(old.name());
                *old = new.clone();
            }
        }
        for node in graph.node.iter_mut().filter(|node| node.op() == "Constant") {
            let name = node.output.first().cloned().unwrap_or_default();
            let new = left.get(name.as_str()).copied();
            let attributes = node
                .attribute
                .iter_mut()
                .filter_map(|attribute| attribute.t.as_mut());
            for old in attributes {
                if let Some(new) = new.filter(|new| fits(old, new)) {
                    left.remove(name.as_str());
                    *old = new.clone();
                }
            }
        }
    }
    if let Some((name, _)) = left.first_key_value() {
        return Err(Error::Argument {
            name: "weights",
            what: format!("the model has no constant {name:?} of that type and shape"),
        });
    }
    *model = changed;
    Ok(())
}

/// Weights in the element types that the head has them in.
pub(super) fn written(
    head: &ModelProto,
    weights: BTreeMap<String, Tensor>,
) -> Result<BTreeMap<String, TensorProto>> {
    let graph = head.graph.iter();
    let types: BTreeMap<&str, i32> = graph
        .flat_map(|graph| {
            let initializers = graph
                .initializer
                .iter()
                .map(|tensor| (tensor.name(), tensor.data_type()));
            initializers.chain(graph.node.iter().filter_map(constant))
        })
        .collect();
    let written = weights.into_iter().map(|(name, tensor)| {
        let dtype = types.get(name.as_str()).copied();
        let dtype = dtype.and_then(|dtype| DataType::try_from(dtype).ok());
        let proto = match dtype {
            Some(dtype) if dtype != tensor.dtype() => tensor.cast(dtype)?.to_proto(name.as_str()),
            _ => tensor.to_proto(name.as_str()),
        };
        Ok((name, proto))
    });
    written.collect()
}

fn constant(node: &NodeProto) -> Option<(&str, i32)> {
    let tensor = node.tensor("value").filter(|_| node.op() == "Constant")?;
    Some((node.output.first()?, tensor.data_type()))
}
