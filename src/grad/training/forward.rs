//! The head in the form that is trained: dense layers marked, and large ones in pieces.
//!
//! AdamW reads and writes each weight some dozen times. Done for a matrix of 50 MB at once, each time
//! goes to memory; done for 2 MB after 2 MB, all but the first stay in the cache.

use std::collections::BTreeMap;

use crate::{
    error::{Error, Result, Site},
    grad::var::to_index,
    graph::{Graph, NodeId, Shapes, TensorType, Use},
    onnx::{DataType, Dim, ModelProto, NodeProto, Tensor, TensorProto, slice},
};

/// Opset from which `Split` takes the sizes as an input.
const SPLIT_INPUT: i64 = 13;

/// The head, with what is needed to train it.
pub(super) struct Forward {
    pub(super) model: ModelProto,
    /// Dense layers whose weight is a matrix of their own.
    pub(super) dense: Vec<Dense>,
    /// The logits, `[N, K]`.
    pub(super) logits: String,
    types: BTreeMap<String, TensorType>,
}

/// A Gemm or MatMul with a matrix of its own. Behind it stands an Identity, at whose input the
/// cotangent of everything it makes arrives.
pub(super) struct Dense {
    /// The value it makes, behind the Identity.
    value: String,
    pub(super) weight: String,
    pub(super) shape: [usize; 2],
    /// Whether the weight is `[outputs, inputs]`.
    pub(super) flipped: bool,
    pub(super) alpha: f32,
    pub(super) pieces: Vec<Piece>,
    pub(super) bias: Option<Bias>,
}

/// Some of a weight's inputs, and the part of the layer's input that they read.
pub(super) struct Piece {
    pub(super) value: String,
    pub(super) rank: usize,
    pub(super) weight: String,
    pub(super) size: usize,
    /// Its bytes are shared with the model.
    pub(super) first: TensorProto,
}

pub(super) struct Bias {
    pub(super) beta: f32,
    pub(super) shape: Vec<usize>,
    pub(super) first: TensorProto,
}

impl Dense {
    pub(super) fn outputs(&self) -> usize {
        self.shape[usize::from(!self.flipped)]
    }

    /// Where the cotangent of what the layer makes is read.
    pub(super) fn made(&self, graph: &Graph<'_>) -> Option<Use> {
        let node = graph.producer(graph.value(&self.value)?)?;
        Some(Use { node, input: 0 })
    }

    /// Whether this initializer is one of the layer's.
    pub(super) fn holds(&self, name: &str) -> bool {
        let bias = self
            .bias
            .as_ref()
            .is_some_and(|bias| bias.first.name() == name);
        bias || self.weight == name || self.pieces.iter().any(|piece| piece.weight == name)
    }
}

impl Forward {
    /// # Errors
    /// [`Error::Unsupported`] when the head has not one output, or it is no `[N, K]`.
    pub(super) fn new(graph: &Graph<'_>, shapes: &Shapes, piece: usize) -> Result<Self> {
        let &[output] = graph.outputs().as_slice() else {
            return Err(Error::Unsupported {
                site: Site::value("outputs"),
                what: "a head that is trained has one output, the logits".to_owned(),
            });
        };
        let known = graph
            .values()
            .filter_map(|id| Some((graph.name(id).to_owned(), shapes.tensor(id)?.clone())));
        let mut builder = Builder {
            graph,
            piece,
            nodes: Vec::new(),
            initializers: graph.proto().initializer.clone(),
            dense: Vec::new(),
            types: known.collect(),
        };
        for &node in graph.order() {
            builder.node(node)?;
        }
        let logits = builder.flat(graph.name(output), shapes.dims(output))?;
        let mut model = graph.model().clone();
        if let Some(proto) = model.graph.as_mut() {
            proto.node = builder.nodes;
            proto.initializer = builder.initializers;
        }
        Ok(Self {
            model,
            dense: builder.dense,
            logits,
            types: builder.types,
        })
    }

    /// What is known of the values of `graph`, which is this model's.
    pub(super) fn shapes(&self, graph: &Graph<'_>) -> Shapes {
        let mut shapes = Shapes::declared(graph);
        for (name, known) in &self.types {
            if let Some(id) = graph.value(name) {
                shapes.learn(id, known.clone());
            }
        }
        shapes
    }
}

struct Builder<'g> {
    graph: &'g Graph<'g>,
    /// Values of a weight that are to stay together.
    piece: usize,
    nodes: Vec<NodeProto>,
    initializers: Vec<TensorProto>,
    dense: Vec<Dense>,
    types: BTreeMap<String, TensorType>,
}

impl Builder<'_> {
    /// Takes a node over: constants become initializers, dense layers are marked.
    fn node(&mut self, id: NodeId) -> Result<()> {
        let node = self.graph.node(id);
        let constant = self
            .graph
            .output(id, 0)
            .and_then(|value| self.graph.constant(value));
        if node.op() == "Constant"
            && let Some(tensor) = constant
        {
            let mut tensor = tensor.clone();
            tensor.name = node.output.first().cloned();
            self.initializers.push(tensor);
            return Ok(());
        }
        match self.dense(id)? {
            Some(dense) => self.mark(id, dense),
            None => {
                self.nodes.push(node.clone());
                Ok(())
            }
        }
    }

    /// The layer that a node is, if its matrix is an initializer that nothing else reads.
    fn dense(&self, id: NodeId) -> Result<Option<Dense>> {
        let (graph, node) = (self.graph, self.graph.node(id));
        let flipped = |name| node.int(name).unwrap_or(0) != 0;
        let is_dense = match node.op() {
            "Gemm" => !flipped("transA"),
            "MatMul" => true,
            _ => false,
        };
        let (Some(value), Some(made)) = (node.input.first(), node.output.first()) else {
            return Ok(None);
        };
        let own = self.own(id, 1).filter(|_| is_dense);
        let Some((first, &[rows, columns])) = own.as_ref().map(|own| (&own.0, own.1.as_slice()))
        else {
            return Ok(None);
        };
        let rank = self.types.get(value).map(|known| known.dims.len());
        let varies = graph
            .value(value)
            .is_some_and(|value| !graph.is_fixed(value));
        let (Some(rank), true) = (rank.filter(|&rank| rank >= 2), varies) else {
            return Ok(None);
        };
        let gemm = node.op() == "Gemm";
        let factor = |name| node.float(name).filter(|_| gemm).unwrap_or(1.0);
        let shape = [rows, columns];
        let flipped = gemm && flipped("transB");
        let outputs = shape[usize::from(!flipped)];
        let bias = self.own(id, 2).filter(|(_, shape)| {
            shape.last() == Some(&outputs) && shape.iter().product::<usize>() == outputs
        });
        let weight = node.input[1].clone();
        Ok(Some(Dense {
            value: made.clone(),
            pieces: vec![Piece {
                value: value.clone(),
                rank,
                weight: weight.clone(),
                size: shape[usize::from(flipped)],
                first: first.clone(),
            }],
            weight,
            shape,
            flipped,
            alpha: factor("alpha"),
            bias: bias.map(|(first, shape)| Bias {
                beta: factor("beta"),
                shape,
                first,
            }),
        }))
    }

    /// The f32 initializer that an input reads and nothing else does, and its sizes.
    fn own(&self, node: NodeId, input: usize) -> Option<(TensorProto, Vec<usize>)> {
        let graph = self.graph;
        let value = graph.input(node, input)?;
        let name = graph.name(value);
        let own = graph.uses(value) == [Use { node, input }] && !graph.is_output(value);
        let mut initializers = graph.proto().initializer.iter();
        let tensor = initializers.find(|tensor| own && tensor.name() == name)?;
        let is_float = tensor.data_type() == i32::from(DataType::Float);
        let sizes = tensor.dims.iter().map(|&size| usize::try_from(size).ok());
        is_float.then_some((tensor.clone(), sizes.collect::<Option<_>>()?))
    }

    /// Writes the layer with an Identity behind it.
    fn mark(&mut self, id: NodeId, mut dense: Dense) -> Result<()> {
        let mut node = self.graph.node(id).clone();
        let bare = self.graph.fresh_name(&format!("{}_bare", dense.value));
        if let Some(known) = self.types.get(&dense.value).cloned() {
            self.types.insert(bare.clone(), known);
        }
        node.output[0] = bare.clone();
        let values = dense.shape[0] * dense.shape[1];
        let count = values.div_ceil(self.piece.max(1));
        let count = count.min(dense.pieces[0].size);
        let opset = self.graph.model().opset("").unwrap_or(0);
        if count > 1 && dense.pieces[0].rank == 2 && opset >= SPLIT_INPUT {
            self.split(&node, &mut dense, count)?;
        } else {
            self.nodes.push(node);
        }
        let mark = NodeProto::new("Identity", &[&bare], &[&dense.value]);
        self.nodes.push(mark.with_name(&bare));
        self.dense.push(dense);
        Ok(())
    }

    /// Writes the layer as a sum over parts of its inputs: `y = x1 W1 + (x2 W2 + (.. + b))`.
    fn split(&mut self, node: &NodeProto, dense: &mut Dense, count: usize) -> Result<()> {
        let whole = dense.pieces.remove(0);
        let (axis, base) = (usize::from(dense.flipped), &dense.weight);
        let made = self.types.get(&dense.value).cloned();
        let name = |what: &str, at: usize| self.graph.fresh_name(&format!("{base}_{what}_{at}"));
        let bound = |at: usize| at * whole.size / count;
        let parts: Vec<String> = (0..count).map(|at| name("input", at)).collect();
        let sizes: Vec<usize> = (0..count).map(|at| bound(at + 1) - bound(at)).collect();
        let lengths = sizes.iter().map(|&size| to_index(size)).collect();
        let lengths = Tensor::i64([count], lengths)?.to_proto(name("sizes", 0));
        let outputs: Vec<&str> = parts.iter().map(String::as_str).collect();
        let split = NodeProto::new("Split", &[&whole.value, lengths.name()], &outputs);
        let mut nodes = vec![split.with_int("axis", 1).with_name(&name("split", 0))];
        let mut addend = node.input.get(2).filter(|name| !name.is_empty()).cloned();
        let mut initializers = vec![lengths.clone()];
        for (at, (part, &size)) in parts.iter().zip(&sizes).enumerate() {
            let keep: Vec<usize> = (bound(at)..bound(at + 1)).collect();
            let mut first = slice::select(&whole.first, axis, &keep)?;
            let weight = name("part", at);
            first.name = Some(weight.clone());
            initializers.push(first.clone());
            let is_last = at + 1 == count;
            let sum = if is_last {
                node.output[0].clone()
            } else {
                name("sum", at)
            };
            let mut inputs = vec![part.as_str(), weight.as_str()];
            inputs.extend(addend.as_deref());
            let mut gemm = NodeProto::new("Gemm", &inputs, &[&sum]).with_name(&name("product", at));
            gemm = gemm.with_int("transB", i64::from(dense.flipped));
            gemm = gemm.with_float("alpha", dense.alpha);
            if at == 0 {
                gemm = gemm.with_float("beta", node.float("beta").unwrap_or(1.0));
            }
            nodes.push(gemm);
            let dtype = DataType::Float;
            let batch = made.as_ref().and_then(|known| known.dims.first().cloned());
            let dims = vec![batch.unwrap_or(Dim::Unknown), Dim::Fixed(size)];
            self.types.insert(part.clone(), TensorType { dtype, dims });
            if let Some(known) = &made {
                self.types.insert(sum.clone(), known.clone());
            }
            addend = Some(sum);
            dense.pieces.push(Piece {
                value: part.clone(),
                rank: 2,
                weight,
                size,
                first,
            });
        }
        self.initializers
            .retain(|tensor| tensor.name() != dense.weight);
        self.initializers.extend(initializers);
        self.nodes.extend(nodes);
        Ok(())
    }

    /// Logits with further axes, which must be of size 1, as `[N, K]`.
    fn flat(&mut self, logits: &str, dims: Option<&[Dim]>) -> Result<String> {
        let unsupported = |what: String| Error::Unsupported {
            site: Site::value(logits),
            what,
        };
        let dims = dims.ok_or_else(|| unsupported("has an unknown number of axes".to_owned()))?;
        match dims {
            [_, _] => return Ok(logits.to_owned()),
            [_, _, rest @ ..] if rest.iter().all(|dim| *dim == Dim::Fixed(1)) => {}
            _ => {
                let what = format!(
                    "has {} axes, not [N, K]: one score per class is trained",
                    dims.len()
                );
                return Err(unsupported(what));
            }
        }
        let flat = self.graph.fresh_name(&format!("{logits}_flat"));
        let node = NodeProto::new("Flatten", &[logits], &[&flat]).with_name(&flat);
        self.nodes.push(node.with_int("axis", 1));
        let (dtype, dims) = (DataType::Float, dims[..2].to_vec());
        self.types.insert(flat.clone(), TensorType { dtype, dims });
        Ok(flat)
    }
}
