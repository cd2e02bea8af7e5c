//! Edits to a graph, collected first and applied at once to give a new, checked model.

use std::collections::{BTreeMap, BTreeSet};

use super::{Graph, NodeId, Use, ValueId};
use crate::{
    error::{Error, Result, Site},
    onnx::{
        AttributeProto, DataType, Dim, GraphProto, ModelProto, NodeProto, TensorProto,
        ValueInfoProto,
    },
};

/// A set of edits. Nothing happens before [`Patch::apply`].
#[derive(Debug, Default)]
pub struct Patch {
    redirected: BTreeMap<Use, String>,
    renamed: BTreeMap<(NodeId, usize), String>,
    detached: BTreeSet<Use>,
    removed: BTreeSet<NodeId>,
    initializers: BTreeMap<String, TensorProto>,
    attributes: BTreeMap<(NodeId, String), AttributeProto>,
    dropped: BTreeSet<(NodeId, String)>,
    inserted: Vec<NodeProto>,
    stale: BTreeSet<ValueId>,
    fresh: BTreeSet<String>,
}

impl Patch {
    /// Makes one reading of a value read another value; an input that is left out appears.
    pub fn redirect(&mut self, reading: Use, value: impl Into<String>) {
        self.redirected.insert(reading, value.into());
    }

    /// Gives the `output`-th output of a node another name, so that an inserted node can make the
    /// value of the old one.
    pub fn rename_output(&mut self, node: NodeId, output: usize, name: impl Into<String>) {
        self.renamed.insert((node, output), name.into());
    }

    /// Takes one input off a node; the inputs behind it move up.
    pub fn detach(&mut self, reading: Use) {
        self.detached.insert(reading);
    }

    /// Removes a node, whose outputs nothing may read any more.
    pub fn remove(&mut self, node: NodeId) {
        self.removed.insert(node);
    }

    /// Sets an initializer, new or in place of the one of this name.
    pub fn set_initializer(&mut self, tensor: TensorProto) {
        self.initializers.insert(tensor.name().to_owned(), tensor);
    }

    /// Sets an attribute of a node.
    pub fn set_attribute(&mut self, node: NodeId, attribute: AttributeProto) {
        let key = (node, attribute.name().to_owned());
        self.attributes.insert(key, attribute);
    }

    /// Takes an attribute off a node.
    pub fn drop_attribute(&mut self, node: NodeId, name: &str) {
        self.dropped.insert((node, name.to_owned()));
    }

    /// Adds a node; it is placed right after the last node it reads from.
    pub fn insert(&mut self, node: NodeProto) {
        self.inserted.push(node);
    }

    /// Says that the declared shape of a value no longer holds.
    pub fn forget_shape(&mut self, value: ValueId) {
        self.stale.insert(value);
    }

    /// A value name that neither the graph nor this patch uses, starting with `base`.
    pub fn fresh_name(&mut self, graph: &Graph<'_>, base: &str) -> String {
        let mut name = graph.fresh_name(base);
        let mut number = 1;
        while self.fresh.contains(&name) {
            name = graph.fresh_name(&format!("{base}_{number}"));
            number += 1;
        }
        self.fresh.insert(name.clone());
        name
    }

    /// Gives the edited model.
    ///
    /// Initializers and nodes that lost their last reader are gone, declared shapes that
    /// no longer hold are dropped, and everything else is as it was. The result is checked: every
    /// value that is read is made once, and there is no cycle.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the edits do not fit together.
    pub fn apply(self, graph: &Graph<'_>) -> Result<ModelProto> {
        let mut model = graph.model().clone();
        let is_old = model.ir_version.is_some_and(|version| version < 4);
        let proto = model.graph.as_mut().ok_or_else(|| Error::Invalid {
            site: Site::value("graph"),
            what: "the model has no graph".to_owned(),
        })?;
        let read_before = read_names(proto);
        let stale: BTreeSet<String> = self
            .stale
            .iter()
            .map(|&id| graph.name(id).to_owned())
            .collect();
        self.edit(proto, is_old);
        proto.value_info.retain(|info| !stale.contains(info.name()));
        remove_orphans(proto, &read_before);
        Graph::new(&model)?;
        Ok(model)
    }

    /// Graphs of IR version 3 and older, `is_old`, declare each initializer as an input too.
    fn edit(self, proto: &mut GraphProto, is_old: bool) {
        for (reading, name) in self.redirected {
            let inputs = &mut proto.node[reading.node.0].input;
            if inputs.len() <= reading.input {
                inputs.resize(reading.input + 1, String::new());
            }
            inputs[reading.input] = name;
        }
        for ((node, output), name) in self.renamed {
            proto.node[node.0].output[output] = name;
        }
        for ((node, name), attribute) in self.attributes {
            let attributes = &mut proto.node[node.0].attribute;
            match attributes.iter_mut().find(|old| old.name() == name) {
                Some(old) => *old = attribute,
                None => attributes.push(attribute),
            }
        }
        for reading in self.detached.into_iter().rev() {
            proto.node[reading.node.0].input.remove(reading.input);
        }
        for (node, name) in self.dropped {
            let attributes = &mut proto.node[node.0].attribute;
            attributes.retain(|attribute| attribute.name() != name);
        }
        let mut place = 0;
        proto.node.retain(|_| {
            place += 1;
            !self.removed.contains(&NodeId(place - 1))
        });
        let mut new = self.initializers;
        for tensor in &mut proto.initializer {
            if let Some(replacement) = new.remove(tensor.name()) {
                let input = proto.input.iter_mut().find(|i| i.name() == tensor.name());
                if let Some(input) = input {
                    *input = declaration(&replacement);
                }
                *tensor = replacement;
            }
        }
        if is_old {
            proto.input.extend(new.values().map(declaration));
        }
        proto.initializer.extend(new.into_values());
        for node in self.inserted {
            let place = place_for(proto, &node);
            proto.node.insert(place, node);
        }
    }
}

/// The declaration of an initializer as a graph input.
fn declaration(tensor: &TensorProto) -> ValueInfoProto {
    let dtype = DataType::try_from(tensor.data_type()).unwrap_or_default();
    let sizes = tensor.dims.iter();
    let dims: Vec<Dim> = sizes
        .map(|&size| usize::try_from(size).map_or(Dim::Unknown, Dim::Fixed))
        .collect();
    ValueInfoProto::tensor(tensor.name(), dtype, &dims)
}

/// Index after the last node whose values `node` reads.
fn place_for(proto: &GraphProto, node: &NodeProto) -> usize {
    let made_by = |earlier: &NodeProto| earlier.output.iter().any(|name| node.input.contains(name));
    proto
        .node
        .iter()
        .rposition(made_by)
        .map_or(0, |last| last + 1)
}

/// Removes constants and nodes that were read before and are not any more, and what fed only them.
fn remove_orphans(proto: &mut GraphProto, read_before: &BTreeSet<String>) {
    loop {
        let read = read_names(proto);
        let orphan = |name: &str| read_before.contains(name) && !read.contains(name);
        let before = proto.node.len() + proto.initializer.len();
        let gone: BTreeSet<String> = proto
            .initializer
            .iter()
            .map(|tensor| tensor.name().to_owned())
            .filter(|name| orphan(name))
            .collect();
        proto
            .initializer
            .retain(|tensor| !gone.contains(tensor.name()));
        proto.input.retain(|input| !gone.contains(input.name()));
        proto.node.retain(|node| {
            !node
                .output
                .iter()
                .all(|name| name.is_empty() || orphan(name))
        });
        proto
            .quantization_annotation
            .retain(|annotation| !orphan(annotation.tensor_name()));
        proto.value_info.retain(|info| !orphan(info.name()));
        if proto.node.len() + proto.initializer.len() == before {
            return;
        }
    }
}

/// Every name that a node, a subgraph or the outside reads.
fn read_names(proto: &GraphProto) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for node in &proto.node {
        names.extend(node.input.iter().cloned());
        names.extend(super::order::captured(node).into_iter().map(str::to_owned));
    }
    names.extend(proto.output.iter().map(|output| output.name().to_owned()));
    names
}
