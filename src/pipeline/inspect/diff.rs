//! What differs between two models: layers of the head, weights, operators, sizes.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use serde::Serialize;

use crate::{
    error::Result,
    graph::{Graph, Shapes},
    head::{self, Head},
    onnx::{Dim, GraphProto, Model, ModelProto, TensorProto},
    pipeline::{parts::FileReport, setup},
};

/// Schema of [`DiffReport`].
const SCHEMA: &str = "onnx-prune/diff/v1";

/// Which models are compared.
#[derive(Clone, Debug)]
pub struct DiffOptions {
    /// The one before.
    pub a: PathBuf,
    /// The one after.
    pub b: PathBuf,
}

/// What differs.
#[derive(Clone, Debug, Serialize)]
pub struct DiffReport {
    /// Name and version of this layout.
    pub schema: &'static str,
    /// The first model.
    pub a: FileReport,
    /// The second.
    pub b: FileReport,
    /// Inputs and outputs that differ.
    pub ports: Vec<PortDiff>,
    /// Layers of the heads that differ.
    pub layers: Vec<LayerDiff>,
    /// Weights that differ in shape or values, by name.
    pub weights: Vec<WeightDiff>,
    /// Operators that occur more or less often, with both numbers.
    pub operators: BTreeMap<String, [usize; 2]>,
    /// Heads that were not found, and why.
    pub notes: Vec<String>,
    /// Whether nothing differs.
    pub same: bool,
}

/// A layer of a head in both models; nothing where one has no layer of this name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LayerDiff {
    /// Name of the layer.
    pub name: String,
    /// Neurons in the first model.
    pub a: Option<usize>,
    /// Neurons in the second.
    pub b: Option<usize>,
}

/// A weight in both models; nothing where one has none of this name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WeightDiff {
    /// Name of the initializer.
    pub name: String,
    /// Its shape in the first model.
    pub a: Option<Vec<i64>>,
    /// Its shape in the second; the same where only values differ.
    pub b: Option<Vec<i64>>,
}

/// An input or output of either model, as declared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PortDiff {
    /// Its name.
    pub name: String,
    /// Its type in the first model.
    pub a: Option<String>,
    /// Its type in the second.
    pub b: Option<String>,
}

/// Compares two models by names and shapes, and equal shapes by values; nothing is run.
///
/// # Errors
/// Those of reading a model. A model without a head is no error, but noted.
pub fn diff(options: &DiffOptions) -> Result<DiffReport> {
    let [a, b] = [setup::load(&options.a)?, setup::load(&options.b)?];
    let (graphs, mut notes) = ([Graph::new(&a.proto)?, Graph::new(&b.proto)?], Vec::new());
    let widths = graphs.each_ref().map(|graph| match found(graph) {
        Ok(head) => widths(&head),
        Err(error) => {
            notes.push(error.to_string());
            BTreeMap::new()
        }
    });
    let layers = both(&widths).map(|(name, [a, b])| LayerDiff { name, a, b });
    let shapes = [&a, &b].map(shapes);
    let changed = values_that_differ(&a, &b);
    let weights = everything(&shapes).filter(|(name, [a, b])| a != b || changed.contains(name));
    let ports = [&a, &b].map(|model| ports(&model.proto));
    let ports: Vec<PortDiff> = both(&ports)
        .map(|(name, [a, b])| PortDiff { name, a, b })
        .collect();
    let operators = [&a, &b].map(|model| operators(&model.proto));
    let operators: BTreeMap<String, [usize; 2]> = both(&operators)
        .map(|(name, counts)| (name, counts.map(Option::unwrap_or_default)))
        .collect();
    let (layers, weights): (Vec<LayerDiff>, Vec<WeightDiff>) = (
        layers.collect(),
        weights
            .map(|(name, [a, b])| WeightDiff { name, a, b })
            .collect(),
    );
    let files = [FileReport::from(&a), FileReport::from(&b)];
    let same = layers.is_empty() && weights.is_empty() && ports.is_empty() && operators.is_empty();
    let [a, b] = files;
    Ok(DiffReport {
        schema: SCHEMA,
        a,
        b,
        ports,
        layers,
        weights,
        operators,
        notes,
        same,
    })
}

/// By what the file declares.
fn found(graph: &Graph<'_>) -> Result<Head> {
    head::find(graph, &Shapes::declared(graph))
}

fn widths(head: &Head) -> BTreeMap<String, usize> {
    let layers = head.layers.iter();
    layers
        .map(|layer| (layer.name.clone(), layer.width()))
        .collect()
}

fn initializers(model: &Model) -> impl Iterator<Item = &TensorProto> {
    let graph: Option<&GraphProto> = model.proto.graph.as_ref();
    graph.into_iter().flat_map(|graph| &graph.initializer)
}

fn shapes(model: &Model) -> BTreeMap<String, Vec<i64>> {
    let tensors = initializers(model);
    tensors
        .map(|tensor| (tensor.name().to_owned(), tensor.dims.clone()))
        .collect()
}

/// Names of weights of one shape whose bytes or type differ.
fn values_that_differ(a: &Model, b: &Model) -> BTreeSet<String> {
    let others: BTreeMap<&str, &TensorProto> = initializers(b)
        .map(|tensor| (tensor.name(), tensor))
        .collect();
    let differ = |tensor: &&TensorProto| {
        let other = others.get(tensor.name());
        other.is_some_and(|other| tensor.dims == other.dims && tensor != other)
    };
    let differing = initializers(a).filter(differ);
    differing.map(|tensor| tensor.name().to_owned()).collect()
}

fn ports(model: &ModelProto) -> BTreeMap<String, String> {
    let graph = model.graph.iter();
    let infos = graph.flat_map(|graph| graph.input.iter().chain(&graph.output));
    let text = infos.map(|info| {
        let dims: Vec<String> = info.dims().iter().flatten().map(Dim::to_string).collect();
        let dtype = info
            .elem_type()
            .map_or("?".to_owned(), |dtype| dtype.to_string());
        (
            info.name().to_owned(),
            format!("{dtype} [{}]", dims.join(", ")),
        )
    });
    text.collect()
}

fn operators(model: &ModelProto) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for node in model.graph.iter().flat_map(|graph| &graph.node) {
        *counts.entry(node.op().to_owned()).or_default() += 1;
    }
    counts
}

type Pairs<T> = BTreeMap<String, [Option<T>; 2]>;

/// All names of both sides.
fn everything<T: Clone>(
    sides: &[BTreeMap<String, T>; 2],
) -> impl Iterator<Item = (String, [Option<T>; 2])> {
    let mut pairs: Pairs<T> = BTreeMap::new();
    for name in sides.iter().flat_map(BTreeMap::keys) {
        pairs.insert(
            name.clone(),
            sides.each_ref().map(|side| side.get(name).cloned()),
        );
    }
    pairs.into_iter()
}

/// The names at which the sides differ.
fn both<T: Clone + PartialEq>(
    sides: &[BTreeMap<String, T>; 2],
) -> impl Iterator<Item = (String, [Option<T>; 2])> {
    everything(sides).filter(|(_, [a, b])| a != b)
}
