//! The graph behind a model's nodes: who makes a value, who uses it, in which order.
//!
//! A [`Graph`] is a view; it never changes the model. Edits go through a [`Patch`], which gives a
//! new model. Constant nodes and initializers are treated alike, also behind `Identity`.
//! Node order in the file is not trusted: everything here follows the values.

mod extract;
mod live;
mod macs;
mod order;
mod patch;
mod shapes;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};

use crate::{
    error::{Error, Result, Site},
    onnx::{
        GraphProto, ModelProto, NodeProto, Tensor, TensorData, TensorProto, proto::type_proto,
        slice,
    },
};

pub use extract::{extract, with_outputs};
pub use live::live_bytes;
pub use macs::{Macs, Sizes};
pub use patch::Patch;
pub use shapes::{Shapes, TensorType};

/// Oldest operator set whose semantics the rules know: broadcasting as it is today.
const OLDEST_OPSET: i64 = 7;
/// Newest operator set of `ai.onnx` that was read when the rules were written (onnx 1.23).
const NEWEST_OPSET: i64 = 28;

/// A node of the graph, by its place in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub(crate) usize);

/// A value of the graph: an input, an initializer or a node's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ValueId(pub(crate) usize);

/// One reading of a value: the `input`-th input of `node`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Use {
    /// The node that reads.
    pub node: NodeId,
    /// Which of its inputs, or [`Use::CAPTURE`].
    pub input: usize,
}

impl Use {
    /// Stands for the input number where a subgraph of the node (If, Loop, Scan) reads the value.
    pub const CAPTURE: usize = usize::MAX;
}

/// A read-only view of a model's main graph.
#[derive(Debug)]
pub struct Graph<'m> {
    model: &'m ModelProto,
    proto: &'m GraphProto,
    names: Vec<&'m str>,
    ids: HashMap<&'m str, ValueId>,
    producers: Vec<Option<NodeId>>,
    uses: Vec<Vec<Use>>,
    order: Vec<NodeId>,
    initializers: HashMap<ValueId, &'m TensorProto>,
    /// Constants that the file holds in another form: scalar and list attributes of Constant
    /// nodes, and transposed weights.
    made: HashMap<ValueId, TensorProto>,
}

impl<'m> Graph<'m> {
    /// Indexes the main graph of `model`.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a value made twice or never, and for a cycle;
    /// [`Error::Unsupported`] for an operator set older or newer than the rules know.
    pub fn new(model: &'m ModelProto) -> Result<Self> {
        let proto = model.graph.as_ref().ok_or_else(|| Error::Invalid {
            site: Site::value("graph"),
            what: "the model has no graph".to_owned(),
        })?;
        check_opset(model)?;
        let mut graph = Self {
            model,
            proto,
            names: Vec::new(),
            ids: HashMap::new(),
            producers: Vec::new(),
            uses: Vec::new(),
            order: Vec::new(),
            initializers: HashMap::new(),
            made: HashMap::new(),
        };
        graph.add_sources();
        graph.add_nodes()?;
        graph.add_uses()?;
        graph.order = order::topological(&graph)?;
        graph.fold_transposes();
        Ok(graph)
    }

    fn add_sources(&mut self) {
        for input in &self.proto.input {
            self.intern(input.name());
        }
        for tensor in &self.proto.initializer {
            let id = self.intern(tensor.name());
            self.initializers.insert(id, tensor);
        }
        for sparse in &self.proto.sparse_initializer {
            if let Some(values) = &sparse.values {
                self.intern(values.name());
            }
        }
    }

    fn add_nodes(&mut self) -> Result<()> {
        for (index, node) in self.proto.node.iter().enumerate() {
            let id = NodeId(index);
            for output in node.output.iter().filter(|name| !name.is_empty()) {
                if self.ids.contains_key(output.as_str()) {
                    return Err(Error::Invalid {
                        site: self.site(id),
                        what: format!("makes value {output:?}, which exists already"),
                    });
                }
                let value = self.intern(output);
                self.producers[value.0] = Some(id);
            }
            if node.op() == "Constant" && node.domain_or_default().is_empty() {
                self.add_constant(node);
            }
        }
        Ok(())
    }

    fn add_constant(&mut self, node: &'m NodeProto) {
        let Some(id) = node.output.first().and_then(|name| self.value(name)) else {
            return;
        };
        if let Some(tensor) = node.tensor("value") {
            self.initializers.insert(id, tensor);
        } else if let Some(tensor) = scalar_constant(node) {
            let name = self.names[id.0];
            self.made.insert(id, tensor.to_proto(name));
        }
    }

    fn add_uses(&mut self) -> Result<()> {
        for (index, node) in self.proto.node.iter().enumerate() {
            let id = NodeId(index);
            for (input, name) in node.input.iter().enumerate() {
                if name.is_empty() {
                    continue;
                }
                let value = self.value(name).ok_or_else(|| Error::Invalid {
                    site: self.site(id),
                    what: format!("reads value {name:?}, which nothing makes"),
                })?;
                self.uses[value.0].push(Use { node: id, input });
            }
            for name in order::captured(node) {
                if let Some(value) = self.value(name) {
                    let input = Use::CAPTURE;
                    self.uses[value.0].push(Use { node: id, input });
                }
            }
        }
        for output in &self.proto.output {
            if self.value(output.name()).is_none() {
                return Err(Error::Invalid {
                    site: Site::value(output.name()),
                    what: "is a graph output, but nothing makes it".to_owned(),
                });
            }
        }
        Ok(())
    }

    /// Exporters that fold no constants write `x W^T` as a Transpose of W and a MatMul.
    fn fold_transposes(&mut self) {
        for id in self.order.clone() {
            let node = self.node(id);
            let swaps = node.ints("perm").is_none_or(|axes| axes == [1, 0]);
            if node.op() != "Transpose" || !swaps {
                continue;
            }
            let weight = self.input(id, 0).and_then(|value| self.constant(value));
            let folded = weight.and_then(slice::transposed);
            if let (Some(mut tensor), Some(output)) = (folded, self.output(id, 0)) {
                tensor.name = Some(self.names[output.0].to_owned());
                self.made.insert(output, tensor);
            }
        }
    }

    fn intern(&mut self, name: &'m str) -> ValueId {
        if let Some(&id) = self.ids.get(name) {
            return id;
        }
        let id = ValueId(self.names.len());
        self.names.push(name);
        self.ids.insert(name, id);
        self.producers.push(None);
        self.uses.push(Vec::new());
        id
    }

    /// The model this is a view of.
    pub fn model(&self) -> &'m ModelProto {
        self.model
    }

    /// The main graph's message.
    pub fn proto(&self) -> &'m GraphProto {
        self.proto
    }

    /// The node itself.
    pub fn node(&self, id: NodeId) -> &'m NodeProto {
        &self.proto.node[id.0]
    }

    /// The value of this name.
    pub fn value(&self, name: &str) -> Option<ValueId> {
        self.ids.get(name).copied()
    }

    /// Name of a value.
    pub fn name(&self, id: ValueId) -> &'m str {
        self.names[id.0]
    }

    /// All values, in the order of the file.
    pub fn values(&self) -> impl Iterator<Item = ValueId> + use<> {
        (0..self.names.len()).map(ValueId)
    }

    /// The value a node reads as its `index`-th input; nothing when it is left out.
    pub fn input(&self, node: NodeId, index: usize) -> Option<ValueId> {
        self.value(self.node(node).input.get(index)?)
    }

    /// The value a node makes as its `index`-th output; nothing when it is left out.
    pub fn output(&self, node: NodeId, index: usize) -> Option<ValueId> {
        self.value(self.node(node).output.get(index)?)
    }

    /// The node that makes a value; nothing for inputs and initializers.
    pub fn producer(&self, id: ValueId) -> Option<NodeId> {
        self.producers[id.0]
    }

    /// Every reading of a value, in the order of the file.
    pub fn uses(&self, id: ValueId) -> &[Use] {
        &self.uses[id.0]
    }

    /// Whether a value is an output of the graph.
    pub fn is_output(&self, id: ValueId) -> bool {
        let name = self.name(id);
        self.proto.output.iter().any(|output| output.name() == name)
    }

    /// Whether a value is a tensor, as far as is declared: an output may be a sequence or a map.
    pub fn is_tensor(&self, id: ValueId) -> bool {
        let name = self.name(id);
        let declared = self.proto.output.iter().find(|info| info.name() == name);
        let kind = declared.and_then(|info| info.r#type.as_ref()?.value.as_ref());
        kind.is_none_or(|kind| matches!(kind, type_proto::Value::TensorType(_)))
    }

    /// The outputs, as far as tensors tell what they hold: in place of a sequence of maps stands the
    /// tensor that ZipMap makes it of; what else is no tensor is left out.
    pub fn tensor_outputs(&self) -> Vec<ValueId> {
        let mut found = Vec::new();
        for output in self.outputs() {
            let maps = { self.producer(output) }.filter(|&node| self.node(node).op() == "ZipMap");
            let told = match maps {
                Some(node) => self.input(node, 0),
                None => self.is_tensor(output).then_some(output),
            };
            found.extend(told.filter(|told| !found.contains(told)));
        }
        found
    }

    /// All nodes, each after the nodes whose values it reads.
    pub fn order(&self) -> &[NodeId] {
        &self.order
    }

    /// The tensor behind a constant value: an initializer, a Constant node, a transposed weight,
    /// or any of them behind `Identity`.
    pub fn constant(&self, id: ValueId) -> Option<&TensorProto> {
        let mut id = id;
        loop {
            if let Some(tensor) = self.initializers.get(&id) {
                return Some(tensor);
            }
            if let Some(tensor) = self.made.get(&id) {
                return Some(tensor);
            }
            let node = self.producer(id)?;
            if self.node(node).op() != "Identity" {
                return None;
            }
            id = self.input(node, 0)?;
        }
    }

    /// The decoded constant behind a node's input, if it is one.
    pub fn constant_input(&self, node: NodeId, index: usize) -> Option<Tensor> {
        let value = self.input(node, index)?;
        Tensor::from_proto(self.constant(value)?).ok()
    }

    /// All nodes that a value depends on.
    pub fn ancestors(&self, value: ValueId) -> BTreeSet<NodeId> {
        let mut found = BTreeSet::new();
        let mut open = vec![value];
        while let Some(value) = open.pop() {
            if let Some(node) = self.producer(value)
                && found.insert(node)
            {
                let count = self.node(node).input.len();
                open.extend((0..count).filter_map(|input| self.input(node, input)));
            }
        }
        found
    }

    /// Whether a value is the same for every sample: a constant, or computed from constants only.
    pub fn is_fixed(&self, value: ValueId) -> bool {
        if self.constant(value).is_some() {
            return true;
        }
        let Some(node) = self.producer(value) else {
            return false;
        };
        let count = self.node(node).input.len();
        let mut inputs = (0..count).filter_map(|input| self.input(node, input));
        inputs.all(|input| self.is_fixed(input))
    }

    /// Where a node is, for error messages.
    pub fn site(&self, id: NodeId) -> Site {
        let node = self.node(id);
        let name = match node.name() {
            "" => node.output.first().map_or("", String::as_str),
            name => name,
        };
        let op_type = match node.domain_or_default() {
            "" => node.op().to_owned(),
            domain => format!("{domain}.{}", node.op()),
        };
        Site {
            node: name.to_owned(),
            op_type,
            opset: self.opset(id),
        }
    }

    /// Version of the operator set a node belongs to; 0 when the model does not import it.
    pub fn opset(&self, id: NodeId) -> i64 {
        let domain = self.node(id).domain_or_default();
        self.model.opset(domain).unwrap_or(0)
    }

    /// The inputs a caller must give: graph inputs that no initializer fills.
    pub fn inputs(&self) -> Vec<ValueId> {
        let names = self.proto.input.iter().map(|input| input.name());
        names
            .filter_map(|name| self.value(name))
            .filter(|id| !self.initializers.contains_key(id))
            .collect()
    }

    /// The outputs of the graph, in their order.
    pub fn outputs(&self) -> Vec<ValueId> {
        let outputs = self.proto.output.iter();
        outputs
            .filter_map(|output| self.value(output.name()))
            .collect()
    }

    /// A value name that is not in use, starting with `base`.
    pub fn fresh_name(&self, base: &str) -> String {
        let taken = |name: &str| self.ids.contains_key(name);
        if !taken(base) {
            return base.to_owned();
        }
        (1_usize..)
            .map(|number| format!("{base}_{number}"))
            .find(|name| !taken(name))
            .expect("a graph has finitely many names")
    }
}

fn check_opset(model: &ModelProto) -> Result<()> {
    let site = || Site::value("opset_import");
    let version = model.opset("").ok_or_else(|| Error::Invalid {
        site: site(),
        what: "the model imports no ai.onnx operator set".to_owned(),
    })?;
    if (OLDEST_OPSET..=NEWEST_OPSET).contains(&version) {
        return Ok(());
    }
    Err(Error::Unsupported {
        site: site(),
        what: format!(
            "operator set {version} is not known ({OLDEST_OPSET} to {NEWEST_OPSET} are); export the model again with one of these"
        ),
    })
}

/// The tensor of a Constant node that gives its value in a scalar or list attribute.
fn scalar_constant(node: &NodeProto) -> Option<Tensor> {
    let (shape, data) = if let Some(value) = node.float("value_float") {
        (vec![], TensorData::F32(vec![value]))
    } else if let Some(values) = node.floats("value_floats") {
        (vec![values.len()], TensorData::F32(values.to_vec()))
    } else if let Some(value) = node.int("value_int") {
        (vec![], TensorData::I64(vec![value]))
    } else {
        let values = node.ints("value_ints")?;
        (vec![values.len()], TensorData::I64(values.to_vec()))
    };
    Tensor::new(shape, data).ok()
}
