//! Where the nodes of the gradient graph are written down.
//!
//! Every new name starts with a prefix that no name of the model starts with, so none can collide.
//! A node that was written before, with the same inputs and attributes, is not written again: rules
//! may ask for a mask, a cast or a shape as often as they like.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
};

use super::var::Var;
use crate::{
    graph::Graph,
    onnx::{DataType, GraphProto, NodeProto, TensorProto},
};

/// The nodes and constants written so far, and how to name the next one.
#[derive(Debug)]
pub(super) struct Tape {
    opset: i64,
    prefix: String,
    state: RefCell<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Name of each [`Var`], by its id.
    names: Vec<String>,
    nodes: Vec<NodeProto>,
    initializers: Vec<TensorProto>,
    /// What was written, by a text of everything that matters but the output's name.
    known: BTreeMap<String, usize>,
}

impl Tape {
    /// An empty tape for nodes that go beside those of `graph`.
    pub(super) fn new(graph: &Graph<'_>) -> Self {
        let mut names = BTreeSet::new();
        add_names(graph.proto(), &mut names);
        let mut prefix = String::from("grad/");
        while names.iter().any(|name| name.starts_with(&prefix)) {
            prefix.insert(0, '_');
        }
        Self {
            opset: graph.model().opset("").unwrap_or(0),
            prefix,
            state: RefCell::default(),
        }
    }

    /// Version of the `ai.onnx` operator set that the nodes are written for.
    pub(super) fn opset(&self) -> i64 {
        self.opset
    }

    /// A name no value of the model has, nor one that the tape makes by itself.
    pub(super) fn name(&self, base: &str) -> String {
        format!("{}{base}", self.prefix)
    }

    /// A value that is already there: one of the forward graph, or an input.
    pub(super) fn value(&self, name: &str) -> Var<'_> {
        let id = self.state.borrow_mut().entry(format!("value {name}"), name);
        Var::new(self, id)
    }

    /// The name of a value.
    pub(super) fn name_of(&self, id: usize) -> String {
        self.state.borrow().names[id].clone()
    }

    /// Writes a node with one output, which gets a fresh name.
    pub(super) fn push(&self, op: &str, inputs: &[Var<'_>]) -> Var<'_> {
        self.push_with(op, inputs, |node| node)
    }

    /// Writes a node with one output after `attributes` were added to it.
    pub(super) fn push_with(
        &self,
        op: &str,
        inputs: &[Var<'_>],
        attributes: impl FnOnce(NodeProto) -> NodeProto,
    ) -> Var<'_> {
        let names: Vec<String> = inputs.iter().map(|var| var.name()).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut node = attributes(NodeProto::new(op, &names, &[]));
        let key = format!("{op} {:?} {:?}", node.input, node.attribute);
        let mut state = self.state.borrow_mut();
        if let Some(&id) = state.known.get(&key) {
            return Var::new(self, id);
        }
        let name = format!("{}{op}_{}", self.prefix, state.nodes.len());
        node.name = Some(name.clone());
        node.output = vec![name.clone()];
        state.nodes.push(node);
        let id = state.entry(key, &name);
        Var::new(self, id)
    }

    /// A scalar constant.
    pub(super) fn scalar(&self, value: f32) -> Var<'_> {
        self.filled(&[], value)
    }

    /// A constant of this shape with one value everywhere; for small kernels and scalars.
    pub(super) fn filled(&self, shape: &[usize], value: f32) -> Var<'_> {
        let count = shape.iter().product();
        let bytes = value.to_le_bytes().repeat(count);
        self.constant(DataType::Float, shape, bytes, &format!("{value:?}"))
    }

    /// A list of whole numbers: axes, sizes, indices.
    pub(super) fn ints(&self, values: &[i64]) -> Var<'_> {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes());
        let key = format!("{values:?}");
        self.constant(DataType::Int64, &[values.len()], bytes.collect(), &key)
    }

    fn constant(&self, dtype: DataType, shape: &[usize], bytes: Vec<u8>, key: &str) -> Var<'_> {
        let key = format!("{dtype:?} {shape:?} {key}");
        let mut state = self.state.borrow_mut();
        if let Some(&id) = state.known.get(&key) {
            return Var::new(self, id);
        }
        let name = format!("{}constant_{}", self.prefix, state.initializers.len());
        state.initializers.push(TensorProto {
            name: Some(name.clone()),
            data_type: Some(dtype.into()),
            dims: shape.iter().map(|&size| size as i64).collect(),
            raw_data: Some(bytes.into()),
            ..TensorProto::default()
        });
        let id = state.entry(key, &name);
        Var::new(self, id)
    }

    /// The nodes and constants that `outputs` need, with the outputs renamed to `names`.
    ///
    /// An output that is asked for twice, or that no node of the tape makes, gets an `Identity`.
    pub(super) fn finish(
        self,
        outputs: &[String],
        names: &[String],
    ) -> (Vec<NodeProto>, Vec<TensorProto>) {
        let State {
            mut nodes,
            mut initializers,
            ..
        } = self.state.into_inner();
        let made: BTreeSet<String> = nodes.iter().flat_map(|node| node.output.clone()).collect();
        let mut renamed: BTreeMap<&str, &str> = BTreeMap::new();
        for (output, name) in outputs.iter().zip(names) {
            if made.contains(output) && !renamed.contains_key(output.as_str()) {
                renamed.insert(output, name);
            } else {
                let node = NodeProto::new("Identity", &[output], &[name]);
                nodes.push(node.with_name(name));
            }
        }
        for node in &mut nodes {
            for value in node.input.iter_mut().chain(&mut node.output) {
                if let Some(&name) = renamed.get(value.as_str()) {
                    name.clone_into(value);
                }
            }
        }
        let needed = drop_unneeded(&mut nodes, names);
        initializers.retain(|tensor| needed.contains(tensor.name()));
        (nodes, initializers)
    }
}

impl State {
    /// The id behind `key`, which is a value called `name`; made when it is new.
    fn entry(&mut self, key: String, name: &str) -> usize {
        let names = &mut self.names;
        *self.known.entry(key).or_insert_with(|| {
            names.push(name.to_owned());
            names.len() - 1
        })
    }
}

/// Keeps the nodes on which `outputs` depend and gives the values read; `nodes` are in order.
fn drop_unneeded(nodes: &mut Vec<NodeProto>, outputs: &[String]) -> BTreeSet<String> {
    let mut needed: BTreeSet<String> = outputs.iter().cloned().collect();
    let mut kept = Vec::with_capacity(nodes.len());
    for node in nodes.drain(..).rev() {
        if node.output.iter().any(|name| needed.contains(name)) {
            needed.extend(node.input.iter().cloned());
            kept.push(node);
        }
    }
    kept.reverse();
    *nodes = kept;
    needed
}

/// All names of values and nodes, also inside the subgraphs of If, Loop and Scan.
fn add_names<'m>(graph: &'m GraphProto, names: &mut BTreeSet<&'m str>) {
    let values = graph.input.iter().chain(&graph.output);
    names.extend(values.map(|info| info.name()));
    names.extend(graph.initializer.iter().map(|tensor| tensor.name()));
    for node in &graph.node {
        names.insert(node.name());
        names.extend(node.output.iter().map(String::as_str));
        for body in node.graphs() {
            add_names(body, names);
        }
    }
}
