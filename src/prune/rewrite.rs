//! Makes the smaller model from a plan: weights cut, selections put in front of what stays whole.

use std::collections::BTreeMap;

use super::{Group, Source, group::ConstantCut, plan::Plan};
use crate::{
    error::{Error, Result},
    graph::{Graph, NodeId, Patch, Shapes, Use, ValueId},
    onnx::{Dim, ModelProto, NodeProto, Tensor, TensorProto, slice},
};

/// The model with only the neurons of `plan` left; it has one entry per group.
///
/// Weights that shrink are new tensors; all others stay the shared bytes of the original.
///
/// # Errors
/// [`Error::Unsupported`] where a constant cannot be cut or a target shape cannot be rewritten.
pub fn pruned(
    graph: &Graph<'_>,
    shapes: &Shapes,
    groups: &[&Group],
    plan: &Plan,
) -> Result<ModelProto> {
    let mut patch = Patch::default();
    let mut cuts: BTreeMap<Use, Vec<(usize, Vec<usize>)>> = BTreeMap::new();
    for (group, layer) in groups.iter().zip(&plan.layers) {
        if layer.keep.len() == group.width {
            continue;
        }
        for ConstantCut { at, axis, map } in &group.cuts {
            let kept = kept_positions(map, &layer.keep);
            cuts.entry(*at).or_default().push((*axis, kept));
        }
        for source in &group.sources {
            add_selection(graph, &mut patch, source, layer);
        }
        for &(node, axis) in &group.targets {
            retarget(graph, shapes, &mut patch, node, axis, layer.keep.len())?;
        }
        group.values.iter().for_each(|&id| patch.forget_shape(id));
    }
    for (at, axes) in cuts {
        cut_constant(graph, &mut patch, at, &axes)?;
    }
    patch.apply(graph)
}

/// Positions of an axis whose neuron is kept; `keep` is sorted.
pub(super) fn kept_positions(map: &[usize], keep: &[usize]) -> Vec<usize> {
    let neurons = map.iter().enumerate();
    neurons
        .filter(|(_, neuron)| keep.binary_search(neuron).is_ok())
        .map(|(position, _)| position)
        .collect()
}

/// A Gather that picks the kept neurons of a value that keeps its width.
fn add_selection(
    graph: &Graph<'_>,
    patch: &mut Patch,
    source: &Source,
    layer: &super::plan::LayerPlan,
) {
    let Source::Boundary {
        value,
        axis,
        map,
        readers,
        ..
    } = source
    else {
        return;
    };
    let kept = kept_positions(map, &layer.keep);
    if kept.len() == map.len() {
        return;
    }
    let indices: Vec<i64> = kept.iter().map(|&position| position as i64).collect();
    let name = patch.fresh_name(graph, &format!("{}_kept", layer.name));
    let output = patch.fresh_name(graph, &format!("{}_selected", layer.name));
    let tensor = Tensor::i64([indices.len()], indices).expect("a vector fits its own length");
    patch.set_initializer(tensor.to_proto(name.as_str()));
    let gather = NodeProto::new("Gather", &[graph.name(*value), &name], &[&output])
        .with_name(&output)
        .with_int("axis", *axis as i64);
    patch.insert(gather);
    for &reading in readers {
        patch.redirect(reading, output.as_str());
    }
}

/// Cuts the constant behind one input along some of its axes.
pub(super) fn cut_constant(
    graph: &Graph<'_>,
    patch: &mut Patch,
    at: Use,
    axes: &[(usize, Vec<usize>)],
) -> Result<()> {
    let missing = || Error::Unsupported {
        site: graph.site(at.node),
        what: format!("its input {} is no constant", at.input),
    };
    let value = graph.input(at.node, at.input).ok_or_else(missing)?;
    let whole = graph.constant(value).ok_or_else(missing)?;
    let mut tensor = slice::select_all(whole, axes)?;
    own_name(graph, patch, at, &mut tensor);
    patch.set_initializer(tensor);
    Ok(())
}

/// Gives a constant that is to be another for this input alone a name of its own, where others read the
/// old one.
pub(super) fn own_name(graph: &Graph<'_>, patch: &mut Patch, at: Use, tensor: &mut TensorProto) {
    let value = graph.input(at.node, at.input);
    if let Some(value) = value.filter(|&value| !is_own_initializer(graph, value)) {
        let name = patch.fresh_name(graph, &format!("{}_cut", graph.name(value)));
        tensor.name = Some(name.clone());
        patch.redirect(at, name);
    }
}

/// Whether a value is an initializer that only one input reads: it may change in place.
pub(super) fn is_own_initializer(graph: &Graph<'_>, value: ValueId) -> bool {
    let name = graph.name(value);
    graph.producer(value).is_none()
        && graph.uses(value).len() == 1
        && !graph.is_output(value)
        && graph.constant(value).is_some_and(|t| t.name() == name)
}

/// Gives a Reshape a target shape with the new number of neurons.
///
/// Sizes that are not fixed are the batch's: copied (0) when it is the first axis, else inferred.
pub(super) fn retarget(
    graph: &Graph<'_>,
    shapes: &Shapes,
    patch: &mut Patch,
    node: NodeId,
    axis: usize,
    width: usize,
) -> Result<()> {
    let unsupported = |what: &str| Error::Unsupported {
        site: graph.site(node),
        what: what.to_owned(),
    };
    let output = graph.output(node, 0);
    let dims = output.and_then(|id| shapes.dims(id));
    let dims = dims.ok_or_else(|| unsupported("has an output of unknown shape"))?;
    let mut target = Vec::with_capacity(dims.len());
    for (index, dim) in dims.iter().enumerate() {
        target.push(match dim {
            _ if index == axis => width as i64,
            Dim::Fixed(size) => *size as i64,
            Dim::Symbol(_) | Dim::Unknown => -1,
        });
    }
    if target.iter().filter(|&&size| size == -1).count() > 1 {
        return Err(unsupported("has more than one axis of changing size"));
    }
    let name = patch.fresh_name(graph, &format!("{}_shape", graph.site(node).node));
    let tensor = Tensor::i64([target.len()], target).expect("a vector fits its own length");
    patch.set_initializer(tensor.to_proto(name.as_str()));
    patch.redirect(Use { node, input: 1 }, name);
    Ok(())
}
