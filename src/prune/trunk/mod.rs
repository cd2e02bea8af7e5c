//! Channels out of the trunk: a selection that a cut has left behind moves back to the weights
//! that make what it drops.
//!
//! From the outputs of the model back, `need` collects which channels of each value anybody
//! reads; a selection (Gather, Slice, Split) is where a value is needed only in part. From the
//! inputs forward, `shrink` then takes the others out: a convolution makes only what is needed,
//! what is between passes on what it gets, and where a value keeps more than a reader wants, a
//! selection stays, and a [`Stop`] says why.
//!
//! ```text
//! Conv -> BatchNorm -> Relu -> GlobalAveragePool -> Gather(kept) -> Gemm
//! Conv' -> BatchNorm' -> Relu -> GlobalAveragePool -> Gemm
//! ```
//!
//! Nothing here knows how the kept neurons were chosen, and nothing is approximate: the result
//! computes the same numbers, up to the order of sums in a runtime.

mod flow;
mod measure;
mod need;
mod reorder;
mod rules;
mod shrink;
#[cfg(test)]
mod tests;
mod trace;

use std::collections::BTreeMap;

use flow::Trunk;
use need::Needs;
use serde::Serialize;

use super::{Group, Source};
use crate::{
    error::Result,
    graph::{Graph, Shapes, ValueId},
    onnx::ModelProto,
};

/// A model without the channels that nobody reads.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// The smaller model; the same as before where nothing could be removed.
    pub model: ModelProto,
    /// The weights that lost channels, in graph order.
    pub removed: Vec<Removal>,
    /// The selections that are left.
    pub stops: Vec<Stop>,
}

/// A weight that lost channels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Removal {
    /// The node that reads it.
    pub node: String,
    /// Its name in the original.
    pub weight: String,
    /// Its shape.
    pub before: Vec<usize>,
    /// Its new shape; empty when it is gone.
    pub after: Vec<usize>,
    /// How many bytes it lost.
    pub bytes: usize,
}

/// A value of which a reader needs only a part, but which stays whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stop {
    /// The value.
    pub value: String,
    /// What needs the rest of it.
    pub why: String,
}

/// Removes the channels in front of every selection of a graph, as far back as that is exact.
///
/// `shapes` is needed near the selections; where it is silent, the selection stays.
///
/// # Errors
/// [`crate::Error::Unsupported`] for weights that cannot be cut (values narrower than a byte).
pub fn shrink(graph: &Graph<'_>, shapes: &Shapes) -> Result<Shrunk> {
    let trunk = Trunk::new(graph, shapes);
    let needs = Needs::of(&trunk);
    shrink::apply(&trunk, &needs)
}

/// [`shrink`] for `cut`, a model that [`super::rewrite::pruned`] made of `graph` and these groups;
/// its weights may have changed since. `shapes` are those of the original.
///
/// # Errors
/// As [`shrink`]; [`crate::Error::Invalid`] when `cut` is no valid graph.
pub fn shrink_cut(
    graph: &Graph<'_>,
    shapes: &Shapes,
    groups: &[&Group],
    cut: &ModelProto,
) -> Result<Shrunk> {
    let after = Graph::new(cut)?;
    let shapes = shapes_after(graph, shapes, groups, &after);
    shrink(&after, &shapes)
}

/// `cut`, as for [`shrink_cut`], with channels in such an order that those picked by a selection lie
/// together; nothing where no order can be changed.
///
/// It computes the same. The order of the head's neurons stays.
///
/// # Errors
/// As [`shrink_cut`].
pub fn neighbours(
    graph: &Graph<'_>,
    shapes: &Shapes,
    groups: &[&Group],
    cut: &ModelProto,
) -> Result<Option<ModelProto>> {
    let after = Graph::new(cut)?;
    let shapes = shapes_after(graph, shapes, groups, &after);
    reorder::neighbours(&after, &shapes)
}

/// What is still known of the values after the cut of `groups`.
fn shapes_after(
    graph: &Graph<'_>,
    shapes: &Shapes,
    groups: &[&Group],
    after: &Graph<'_>,
) -> Shapes {
    let changed = groups.iter().flat_map(|group| &group.values);
    let changed: Vec<ValueId> = changed.copied().collect();
    shapes.carried(graph, after, &changed)
}

/// About how many neurons of a layer each channel makes that they come from, by the operators on the
/// way to a convolution; nothing where these tell nothing. No shapes are needed.
pub fn positions(graph: &Graph<'_>, group: &Group) -> Option<usize> {
    let [Source::Boundary { value, .. }] = &group.sources[..] else {
        return None;
    };
    let mut value = *value;
    loop {
        let node = graph.producer(value)?;
        match graph.node(node).op() {
            "Conv" => {
                let weight = graph.constant(graph.input(node, 1)?)?;
                let channels = usize::try_from(*weight.dims.first()?).ok()?;
                return group.width.checked_div(channels);
            }
            "Flatten" | "Reshape" | "Dropout" | "Identity" | "BatchNormalization" | "Relu"
            | "LeakyRelu" | "Clip" | "MaxPool" | "AveragePool" => value = graph.input(node, 0)?,
            _ => return None,
        }
    }
}

/// For each neuron of a layer, the number of the channel it is a position of, `0..channels`.
///
/// A flatten layer of `[N, C, H, W]` has H·W neurons per channel; the channel's filter can go when
/// all of them go. Nothing where no neuron shares its channel with another.
pub fn channels(graph: &Graph<'_>, shapes: &Shapes, group: &Group) -> Option<Vec<usize>> {
    let trunk = Trunk::new(graph, shapes);
    let mut units: Vec<Option<usize>> = vec![None; group.width];
    let mut first = 0;
    for source in &group.sources {
        let Source::Boundary {
            value, axis, map, ..
        } = source
        else {
            continue;
        };
        if let Some(found) = trace::units(&trunk, *value, *axis, map.len()) {
            for (&neuron, &unit) in map.iter().zip(&*found) {
                units[neuron].get_or_insert(first + unit);
            }
            first += found.iter().max().map_or(0, |last| last + 1);
        }
    }
    let mut numbers = BTreeMap::new();
    let mut channels = Vec::with_capacity(group.width);
    for (neuron, unit) in units.into_iter().enumerate() {
        let next = numbers.len();
        let unit = unit.unwrap_or(first + neuron);
        channels.push(*numbers.entry(unit).or_insert(next));
    }
    (numbers.len() < group.width).then_some(channels)
}
