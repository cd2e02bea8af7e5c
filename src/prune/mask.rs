//! The oracle of every cut: the original with the dropped neurons' contribution set to zero.
//!
//! A multiplication by zeros and ones in front of each sink. It shares nothing with the rewrite
//! but the group, so that a wrong index in one shows against the other.

use std::collections::BTreeMap;

use super::{Group, plan::Plan, rewrite::kept_positions};
use crate::{
    error::{Error, Result, Site},
    graph::{Graph, Patch},
    onnx::{DataType, ModelProto, NodeProto, Tensor, TensorData, TensorProto, slice},
};

/// The original model with masks in front of every sink of `groups`; `plan` has one entry each.
///
/// # Errors
/// [`Error::Unsupported`] where the weights are of a type that cannot be multiplied.
pub fn masked(graph: &Graph<'_>, groups: &[&Group], plan: &Plan) -> Result<ModelProto> {
    let mut patch = Patch::default();
    for (group, layer) in groups.iter().zip(&plan.layers) {
        if layer.keep.len() == group.width {
            continue;
        }
        for sink in &group.sinks {
            let kept = |neuron: &usize| layer.keep.binary_search(neuron).is_ok();
            let values: Vec<f32> = sink.map.iter().map(|n| f32::from(kept(n))).collect();
            let dtype = weight_type(graph, sink)?;
            let mut shape = vec![values.len()];
            shape.resize(trailing_axes(graph, sink)? + 1, 1);
            let mask = Tensor::new(shape, TensorData::F32(values))?.cast(dtype)?;
            let name = patch.fresh_name(graph, &format!("{}_mask", layer.name));
            let output = patch.fresh_name(graph, &format!("{}_masked", layer.name));
            patch.set_initializer(mask.to_proto(name.as_str()));
            let value = graph.name(sink.value);
            patch.insert(NodeProto::new("Mul", &[value, &name], &[&output]).with_name(&output));
            patch.redirect(sink.at, output);
        }
    }
    patch.apply(graph)
}

/// The original's weights with those of the pruned model in the places that were kept.
///
/// `weights` are initializers of the pruned model by name, repaired or trained; what was dropped
/// keeps the original's values, which the masks of [`masked`] make ineffective. So a model whose
/// weights have changed since the cut still has an oracle: the masked original with these.
///
/// # Errors
/// [`Error::Invalid`] where a weight does not fit the original's of that name.
pub fn widened(
    graph: &Graph<'_>,
    groups: &[&Group],
    plan: &Plan,
    weights: &BTreeMap<String, TensorProto>,
) -> Result<BTreeMap<String, TensorProto>> {
    let axes = cuts_by_name(graph, groups, plan);
    let widen = |(name, part): (&String, &TensorProto)| {
        let whole = graph.value(name).and_then(|value| graph.constant(value));
        let whole = whole.ok_or_else(|| Error::Invalid {
            site: Site::value(name),
            what: "is no weight of the original".to_owned(),
        })?;
        let axes = axes.get(name.as_str()).map_or(&[][..], Vec::as_slice);
        Ok((name.clone(), slice::scattered(whole, axes, part)?))
    };
    weights.iter().map(widen).collect()
}

/// Axes of a weight, with the positions that stay.
pub(super) type Axes = Vec<(usize, Vec<usize>)>;

/// The constants that shrink with the neurons, by name.
pub(super) fn cuts_by_name<'g>(
    graph: &'g Graph<'_>,
    groups: &[&Group],
    plan: &Plan,
) -> BTreeMap<&'g str, Axes> {
    let mut axes: BTreeMap<&str, Axes> = BTreeMap::new();
    for (group, layer) in groups.iter().zip(&plan.layers) {
        for cut in &group.cuts {
            if let Some(value) = graph.input(cut.at.node, cut.at.input) {
                let kept = (cut.axis, kept_positions(&cut.map, &layer.keep));
                let known = axes.entry(graph.name(value)).or_default();
                if !known.contains(&kept) {
                    known.push(kept);
                }
            }
        }
    }
    axes
}

fn weight_type(graph: &Graph<'_>, sink: &super::Sink) -> Result<DataType> {
    let weight = graph
        .input(sink.at.node, 1)
        .and_then(|id| graph.constant(id));
    let dtype = weight.and_then(|tensor| DataType::try_from(tensor.data_type()).ok());
    dtype.ok_or_else(|| Error::Unsupported {
        site: graph.site(sink.at.node),
        what: "has weights of an unknown type".to_owned(),
    })
}

/// Number of axes behind the neurons' axis, from the operator that contracts over it.
fn trailing_axes(graph: &Graph<'_>, sink: &super::Sink) -> Result<usize> {
    let node = graph.node(sink.at.node);
    match node.op() {
        // The last axis, unless Gemm transposes its input.
        "Gemm" | "MatMul" => {
            Ok(1_usize.saturating_sub(sink.axis) * usize::from(node.op() == "Gemm"))
        }
        "Conv" => {
            let weight = graph.constant_input(sink.at.node, 1);
            Ok(weight.map_or(0, |tensor| tensor.shape().len().saturating_sub(2)))
        }
        other => Err(Error::Unsupported {
            site: graph.site(sink.at.node),
            what: format!("{other} cannot be masked"),
        }),
    }
}
