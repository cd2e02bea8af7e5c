//! A cut without a selection: a layer as wide as before, with zeros where its dropped neurons are read.
//!
//! A selection in front of a small layer can cost more than the smaller product saves. The weights of
//! dropped neurons can be set to zero instead: the model computes the same, with the operators it had,
//! and gets neither smaller nor slower by it. Layers that need no selection are cut as ever.
//!
//! ```text
//! x -> Gather(1, 3) -> Gemm(columns 1 3)             cut
//! x -> Gemm(columns 0 1 0 3; those of 0 and 2 zero)  as wide as before
//! ```
//!
//! Zeros hide a value only as long as it is finite, as do the masks of [`super::mask`].

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Group, Plan, Source,
    mask::{self, Axes},
    rewrite::{self, kept_positions},
};
use crate::{
    error::{Error, Result},
    graph::{Graph, NodeId, Patch, Shapes, Use, ValueId},
    onnx::{ModelProto, TensorProto, slice},
};

/// Names of the layers whose cut begins with a selection.
pub fn selected<'p>(groups: &[&Group], plan: &'p Plan) -> Vec<&'p str> {
    let layers = plan.layers.iter().zip(groups);
    layers
        .filter(|(layer, group)| {
            let is_boundary = |source: &Source| matches!(source, Source::Boundary { .. });
            layer.keep.len() < layer.width && group.sources.iter().any(is_boundary)
        })
        .map(|(layer, _)| layer.name.as_str())
        .collect()
}

/// The model cut to `plan`, but with all layers [`selected`] from as wide as before.
///
/// `changed` are weights of the cut model that are no longer the original's, by name.
///
/// # Errors
/// Those of [`rewrite::pruned`]; [`Error::Invalid`] where a changed weight does not fit.
pub fn kept(
    graph: &Graph<'_>,
    shapes: &Shapes,
    groups: &[&Group],
    plan: &Plan,
    changed: &BTreeMap<String, TensorProto>,
) -> Result<ModelProto> {
    let mut wide = plan.clone();
    let names = selected(groups, plan);
    let is_selected = |name: &str| names.contains(&name);
    for layer in &mut wide.layers {
        if is_selected(&layer.name) {
            layer.keep = (0..layer.width).collect();
        }
    }
    let model = rewrite::pruned(graph, shapes, groups, &wide)?;
    let after = Graph::new(&model)?;
    let mut patch = Patch::default();
    let mut dropped: BTreeMap<Use, Axes> = BTreeMap::new();
    let mut sinks: BTreeSet<NodeId> = BTreeSet::new();
    for (group, layer) in groups.iter().zip(&plan.layers) {
        if is_selected(&layer.name) {
            sinks.extend(group.sinks.iter().map(|sink| sink.at.node));
            for cut in &group.cuts {
                let kept = kept_positions(&cut.map, &layer.keep);
                dropped.entry(cut.at).or_default().push((cut.axis, kept));
            }
        }
    }
    for (at, axes) in &dropped {
        let reads_neurons = at.input == 1 && sinks.contains(&at.node);
        let value = graph.input(at.node, at.input);
        let part = value.and_then(|id| changed.get(graph.name(id)));
        // What is not read by zeros may be anything but must not make infinity: a divisor of zero would.
        if !reads_neurons && part.is_none() {
            continue;
        }
        let place = same_use(graph, &after, *at)?;
        let whole = constant(&after, place)?;
        let part = match part {
            Some(part) => part.clone(),
            None => slice::select_all(whole, axes)?,
        };
        let mut tensor = match reads_neurons {
            true => slice::scattered(&slice::zeroed(whole)?, axes, &part)?,
            false => slice::scattered(whole, axes, &part)?,
        };
        rewrite::own_name(&after, &mut patch, place, &mut tensor);
        patch.set_initializer(tensor);
    }
    for (name, tensor) in changed {
        carry(&after, &mut patch, name, tensor);
    }
    patch.apply(&after)
}

/// Puts a changed weight in place where it is as large as before.
fn carry(graph: &Graph<'_>, patch: &mut Patch, name: &str, tensor: &TensorProto) {
    let value = graph.value(name);
    let fits = |id: &ValueId| {
        graph
            .constant(*id)
            .is_some_and(|old| old.dims == tensor.dims)
    };
    let Some(value) = value.filter(fits) else {
        return;
    };
    let mut tensor = tensor.clone();
    if graph.producer(value).is_some() {
        let name = patch.fresh_name(graph, &format!("{name}_cut"));
        for &reading in graph.uses(value) {
            patch.redirect(reading, name.as_str());
        }
        tensor.name = Some(name);
    }
    patch.set_initializer(tensor);
}

/// Weights of a model cut to `plan`, cut where they are as wide as the original's: what [`kept`] has
/// put between zeros. By name; the others stay as they are.
///
/// # Errors
/// Those of [`slice::select_all`].
pub fn narrowed(
    graph: &Graph<'_>,
    groups: &[&Group],
    plan: &Plan,
    weights: BTreeMap<String, TensorProto>,
) -> Result<BTreeMap<String, TensorProto>> {
    let cuts = mask::cuts_by_name(graph, groups, plan);
    let narrow = |(name, tensor): (String, TensorProto)| {
        let whole = graph.value(&name).and_then(|value| graph.constant(value));
        let is_wide =
            |axis: usize| whole.is_some_and(|whole| whole.dims.get(axis) == tensor.dims.get(axis));
        let axes = cuts.get(name.as_str()).into_iter().flatten();
        let axes: Axes = axes.filter(|(axis, _)| is_wide(*axis)).cloned().collect();
        match axes.is_empty() {
            true => Ok((name, tensor)),
            false => Ok((name, slice::select_all(&tensor, &axes)?)),
        }
    };
    weights.into_iter().map(narrow).collect()
}

/// The same reading in another version of the graph; the outputs of nodes keep their names.
fn same_use(graph: &Graph<'_>, after: &Graph<'_>, at: Use) -> Result<Use> {
    let output = graph.output(at.node, 0);
    let output = output.and_then(|id| after.value(graph.name(id)));
    let node = output.and_then(|id| after.producer(id));
    let node = node.ok_or_else(|| missing(graph, at, "is gone"))?;
    Ok(Use { node, ..at })
}

fn constant<'g>(graph: &'g Graph<'_>, at: Use) -> Result<&'g TensorProto> {
    let value = graph.input(at.node, at.input);
    let constant = value.and_then(|id| graph.constant(id));
    constant.ok_or_else(|| missing(graph, at, "reads no constant"))
}

fn missing(graph: &Graph<'_>, at: Use, what: &str) -> Error {
    Error::Unsupported {
        site: graph.site(at.node),
        what: what.to_owned(),
    }
}
