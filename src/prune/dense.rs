//! Dense layers whose weight and bias can be replaced: what repair and training change.
//!
//! A sink of a head is a Gemm, a MatMul or a Conv. Its weight may be shared with other nodes or be
//! held by a Constant node, and it may have no bias. [`with_biases`] gives each sink a weight and
//! a bias of its own, as initializers, without changing what the model computes; [`find`] says
//! where they are; [`set_weights`] replaces them.
//!
//! ```text
//! MatMul -> y          becomes   MatMul -> y_unbiased -> Add -> y
//! MatMul -> y -> Add   stays, the Add holds the bias
//! ```
//!
//! Every value keeps its name and its meaning, so that the value of one name is the same quantity
//! in the original and in the pruned model.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use super::rewrite::is_own_initializer;
use crate::{
    error::{Error, Result, Site},
    graph::{Graph, NodeId, Patch, Use, ValueId},
    onnx::{DataType, ModelProto, NodeProto, Tensor, TensorProto},
};

/// A dense layer that owns its weight and its bias.
///
/// It computes `alpha * x W + beta * b`, where x is read along its contracted axis.
#[derive(Clone, Debug, PartialEq)]
pub struct Dense {
    /// How it computes.
    pub kind: Kind,
    /// The value it reads.
    pub input: String,
    /// The value it makes, the bias included; of the same name in the original.
    pub value: String,
    /// Initializer that holds the weight; read by nothing else.
    pub weight: String,
    /// Element type of weight and bias.
    pub dtype: DataType,
    /// Sizes of the weight's axes.
    pub shape: Vec<usize>,
    /// The weight's axis that counts what is read.
    pub input_axis: usize,
    /// The weight's axis that counts what is made.
    pub output_axis: usize,
    /// Initializer that holds the bias, one value per output; read by nothing else.
    pub bias: String,
    /// Sizes of the bias' axes; all are 1 but the last.
    pub bias_shape: Vec<usize>,
    /// Factor of the product.
    pub alpha: f64,
    /// Factor of the bias; never 0.
    pub beta: f64,
}

/// How a dense layer computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Gemm on `[rows, inputs]`.
    Gemm,
    /// Gemm on `[inputs, rows]`.
    TransposedGemm,
    /// MatMul on `[.., inputs]`.
    MatMul,
    /// A Conv that sees one pixel at a time, on `[N, inputs, ..]`.
    Pixel,
    /// A Conv without padding that may see all pixels at once, on `[N, inputs, ..]`.
    Window,
}

impl Dense {
    /// Number of values made.
    pub fn outputs(&self) -> usize {
        self.shape[self.output_axis]
    }
}

/// The contraction behind a value, and the Add that holds its bias where that is a node.
#[derive(Clone, Copy, Debug)]
struct Layer {
    node: NodeId,
    /// The input that reads the bias: the third of the contraction, or one of the Add.
    bias: Use,
    /// The last value: with the bias where there is one.
    value: ValueId,
}

/// The model in which every named dense layer owns its weight and bias as initializers.
///
/// `sinks` are the names of the values that the layers make, as in
/// [`super::Sink::at`]'s node. A layer that cannot be given both (computed weights, quantized
/// ones, a bias that differs by row) stays as it is; [`find`] then says why.
///
/// # Errors
/// [`Error::Invalid`] when the model has no usable graph; [`Error::Argument`] when it has no value
/// of one of these names.
pub fn with_biases(model: ModelProto, sinks: &[&str]) -> Result<ModelProto> {
    let mut model = model;
    for sink in sinks {
        let graph = Graph::new(&model)?;
        let mut patch = Patch::default();
        let value = named(&graph, sink)?;
        if give_own(&graph, value, &mut patch).is_ok() {
            model = patch.apply(&graph)?;
        }
    }
    Ok(model)
}

/// The dense layer that makes the value `sink`, in a model from [`with_biases`].
///
/// # Errors
/// [`Error::Unsupported`] when it has no weight or bias of its own, with the reason;
/// [`Error::Argument`] when there is no such value.
pub fn find(graph: &Graph<'_>, sink: &str) -> Result<Dense> {
    let layer = locate(graph, named(graph, sink)?)?;
    let unsupported = |what: &str| unsupported(graph, layer.node, what);
    let weight = Weight::of(graph, layer.node)?;
    let bias = graph.input(layer.bias.node, layer.bias.input);
    let bias = bias.ok_or_else(|| unsupported("has no bias"))?;
    for (value, what) in [(weight.value, "weight"), (bias, "bias")] {
        if !is_own_initializer(graph, value) {
            return Err(unsupported(&format!("has no {what} of its own")));
        }
    }
    let node = graph.node(layer.node);
    let factor = |name| match node.op() {
        "Gemm" => f64::from(node.float(name).unwrap_or(1.0)),
        _ => 1.0,
    };
    let (alpha, beta) = (factor("alpha"), factor("beta"));
    if alpha == 0.0 || beta == 0.0 {
        return Err(unsupported("multiplies its weight or its bias by 0"));
    }
    let bias_shape = bias_shape(graph, bias, weight.outputs())
        .filter(|shape| shape.iter().product::<usize>() == weight.outputs())
        .ok_or_else(|| unsupported("has a bias that is not one value per output"))?;
    let input = graph.input(layer.node, 0);
    Ok(Dense {
        kind: weight.kind,
        input: input.map_or("", |id| graph.name(id)).to_owned(),
        value: graph.name(layer.value).to_owned(),
        weight: graph.name(weight.value).to_owned(),
        dtype: weight.dtype,
        shape: weight.shape,
        input_axis: weight.input_axis,
        output_axis: weight.output_axis,
        bias: graph.name(bias).to_owned(),
        bias_shape,
        alpha,
        beta,
    })
}

/// Replaces initializers by those of the same name.
///
/// # Errors
/// [`Error::Argument`] when the model has no initializer of a name, or one of another shape or
/// element type; the model is then unchanged.
pub fn set_weights(model: &mut ModelProto, weights: &BTreeMap<String, TensorProto>) -> Result<()> {
    let initializers = model.graph.iter_mut().flat_map(|g| &mut g.initializer);
    let mut places: BTreeMap<String, &mut TensorProto> = initializers
        .filter(|tensor| weights.contains_key(tensor.name()))
        .map(|tensor| (tensor.name().to_owned(), tensor))
        .collect();
    for (name, new) in weights {
        let old = places.get(name);
        let fits = old.is_some_and(|old| {
            old.dims == new.dims && old.data_type() == new.data_type() && new.name() == name
        });
        if !fits {
            return Err(Error::Argument {
                name: "weights",
                what: format!(
                    "the model has no initializer {name:?} of type {} and shape {:?}",
                    new.data_type(),
                    new.dims
                ),
            });
        }
    }
    for (name, place) in &mut places {
        if let Some(new) = weights.get(name) {
            **place = new.clone();
        }
    }
    Ok(())
}

/// Collects the edits that make one layer own what it reads.
fn give_own(graph: &Graph<'_>, value: ValueId, patch: &mut Patch) -> Result<()> {
    let layer = locate(graph, value)?;
    let unsupported = |what: &str| unsupported(graph, layer.node, what);
    let weight = Weight::of(graph, layer.node)?;
    let base = graph.name(value).to_owned();
    let bias = graph.input(layer.bias.node, layer.bias.input);
    let is_gemm = graph.node(layer.node).op() == "Gemm";
    let ignored = is_gemm && graph.node(layer.node).float("beta") == Some(0.0);
    let tensor = match bias.filter(|_| !ignored) {
        Some(bias) => own_bias(graph, bias, weight.outputs())
            .ok_or_else(|| unsupported("has a bias that is not one constant per output"))?,
        None => Some(
            Tensor::f32([weight.outputs()], vec![0.0; weight.outputs()])?
                .cast(weight.dtype)?
                .to_proto(""),
        ),
    };
    if !is_own_initializer(graph, weight.value) {
        let mut own = weight.tensor.clone();
        let name = patch.fresh_name(graph, &format!("{base}_weight"));
        own.name = Some(name.clone());
        patch.set_initializer(own);
        patch.redirect(
            Use {
                node: layer.node,
                input: 1,
            },
            name,
        );
    }
    let Some(mut tensor) = tensor else {
        return Ok(());
    };
    let name = patch.fresh_name(graph, &format!("{base}_bias"));
    tensor.name = Some(name.clone());
    patch.set_initializer(tensor);
    if ignored {
        let one = NodeProto::default().with_float("beta", 1.0);
        one.attribute
            .into_iter()
            .for_each(|beta| patch.set_attribute(layer.node, beta));
    }
    if bias.is_some() || graph.node(layer.node).op() != "MatMul" {
        patch.redirect(layer.bias, name);
    } else {
        let inner = patch.fresh_name(graph, &format!("{base}_unbiased"));
        let output = patch.fresh_name(graph, &format!("{base}_biased"));
        patch.rename_output(layer.node, 0, inner.as_str());
        let add = NodeProto::new("Add", &[&inner, &name], &[&base]).with_name(&output);
        patch.insert(add);
    }
    Ok(())
}

/// The layer that makes a value; the value is the contraction's own output, or that of the Add
/// that [`with_biases`] put behind it.
fn locate(graph: &Graph<'_>, value: ValueId) -> Result<Layer> {
    let missing = || Error::Unsupported {
        site: Site::value(graph.name(value)),
        what: "is not made by a dense layer".to_owned(),
    };
    let node = graph.producer(value).ok_or_else(missing)?;
    match graph.node(node).op() {
        "Gemm" | "Conv" => Ok(Layer {
            node,
            bias: Use { node, input: 2 },
            value,
        }),
        "MatMul" => Ok(matmul(graph, node, value)),
        "Add" => {
            let inputs = (0..2).filter_map(|input| graph.input(node, input));
            let mut made = inputs.filter_map(|id| Some((id, graph.producer(id)?)));
            let inner = made.find(|(_, made)| graph.node(*made).op() == "MatMul");
            let (inner, inner_node) = inner.ok_or_else(missing)?;
            let layer = matmul(graph, inner_node, inner);
            if layer.value == value {
                Ok(layer)
            } else {
                Err(missing())
            }
        }
        _ => Err(missing()),
    }
}

/// A MatMul with the Add behind it, where that adds a constant per output and nothing else reads
/// the product.
fn matmul(graph: &Graph<'_>, node: NodeId, value: ValueId) -> Layer {
    let bare = Layer {
        node,
        bias: Use { node, input: 2 },
        value,
    };
    let outputs = Weight::of(graph, node).map(|weight| weight.outputs());
    let (&[reading], Ok(outputs)) = (graph.uses(value), outputs) else {
        return bare;
    };
    if graph.is_output(value) || reading.input > 1 || graph.node(reading.node).op() != "Add" {
        return bare;
    }
    let bias = Use {
        node: reading.node,
        input: 1 - reading.input,
    };
    let constant = graph.input(bias.node, bias.input);
    let per_output = constant
        .and_then(|id| bias_shape(graph, id, outputs))
        .is_some_and(|shape| shape.last() == Some(&outputs));
    match graph.output(reading.node, 0) {
        Some(value) if per_output => Layer { node, bias, value },
        _ => bare,
    }
}

/// A copy of a bias for its only reader; nothing where it can stay; `None` outside where it is no
/// constant per output.
fn own_bias(graph: &Graph<'_>, bias: ValueId, outputs: usize) -> Option<Option<TensorProto>> {
    let shape = bias_shape(graph, bias, outputs)?;
    let constant = graph.constant(bias)?;
    if shape.iter().product::<usize>() == outputs {
        let own = is_own_initializer(graph, bias);
        return Some((!own).then(|| constant.clone()));
    }
    let one = Tensor::from_proto(constant).ok()?;
    let all = one.data().select(&[1], 0, &vec![0; outputs]).ok()?;
    let all = Tensor::new([outputs], all).ok()?;
    Some(Some(all.to_proto("")))
}

/// Sizes of a constant that adds the same to every row: `outputs` values on the last axis, or one
/// in all.
fn bias_shape(graph: &Graph<'_>, bias: ValueId, outputs: usize) -> Option<Vec<usize>> {
    let constant = graph.constant(bias)?;
    let shape = sizes(constant)?;
    let count: usize = shape.iter().product();
    let last = shape.last().copied().unwrap_or(1);
    (count == last && (count == outputs || count == 1)).then_some(shape)
}

/// The weight of a contraction, wherever it is held.
pub struct Weight<'g> {
    value: ValueId,
    /// The constant itself.
    pub tensor: &'g TensorProto,
    /// How it is used.
    pub kind: Kind,
    /// Its element type, a floating-point one.
    pub dtype: DataType,
    /// Sizes of its axes.
    pub shape: Vec<usize>,
    /// The axis that counts what is read.
    pub input_axis: usize,
    /// The axis that counts what is made.
    pub output_axis: usize,
}

impl<'g> Weight<'g> {
    /// The weight of a Gemm, a MatMul or a Conv.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where it is no constant of floating-point numbers, or has one matrix
    /// per entry of a batch.
    pub fn of(graph: &'g Graph<'_>, node: NodeId) -> Result<Self> {
        let unsupported = |what: &str| unsupported(graph, node, what);
        let value = graph.input(node, 1);
        let value = value.ok_or_else(|| unsupported("has no weight"))?;
        let tensor = graph.constant(value);
        let tensor = tensor.ok_or_else(|| unsupported("has weights that are computed"))?;
        let shape = sizes(tensor).ok_or_else(|| unsupported("has weights of broken shape"))?;
        let dtype = DataType::try_from(tensor.data_type()).unwrap_or_default();
        if !dtype.is_float() {
            return Err(unsupported(
                "has weights that are no floating-point numbers",
            ));
        }
        let message = graph.node(node);
        let is_set = |name| message.int(name).unwrap_or(0) != 0;
        let (kind, input_axis, output_axis) = match (message.op(), shape.len()) {
            ("Gemm", 2) => {
                let kind = match is_set("transA") {
                    true => Kind::TransposedGemm,
                    false => Kind::Gemm,
                };
                let inner = usize::from(is_set("transB"));
                (kind, inner, 1 - inner)
            }
            ("MatMul", 2) => (Kind::MatMul, 0, 1),
            ("MatMul", _) => return Err(unsupported("has one weight per entry of a batch")),
            ("Conv", 3..) => (window(message, &shape).map_err(unsupported)?, 1, 0),
            _ => return Err(unsupported("is no dense layer")),
        };
        Ok(Self {
            value,
            tensor,
            kind,
            dtype,
            shape,
            input_axis,
            output_axis,
        })
    }

    fn outputs(&self) -> usize {
        self.shape[self.output_axis]
    }
}

/// What a convolution with weights of this shape sees at a time.
fn window(node: &NodeProto, shape: &[usize]) -> Result<Kind, &'static str> {
    let all = |name, wanted| {
        let values = node.ints(name).unwrap_or(&[]);
        values.iter().all(|&value| value == wanted)
    };
    let pads_itself = node.string("auto_pad");
    if node.int("group").unwrap_or(1) != 1 {
        return Err("is a grouped convolution");
    }
    let padded = pads_itself.is_some_and(|pad| !matches!(pad.as_str(), "NOTSET" | "VALID" | ""));
    if padded || !all("pads", 0) || !all("dilations", 1) {
        return Err("is a convolution with padding or dilation");
    }
    let is_pixel = shape.iter().skip(2).all(|&size| size == 1) && all("strides", 1);
    Ok(if is_pixel { Kind::Pixel } else { Kind::Window })
}

fn sizes(tensor: &TensorProto) -> Option<Vec<usize>> {
    let sizes = tensor.dims.iter().map(|&size| usize::try_from(size).ok());
    sizes.collect()
}

fn named(graph: &Graph<'_>, name: &str) -> Result<ValueId> {
    graph.value(name).ok_or_else(|| Error::Argument {
        name: "sinks",
        what: format!("the model has no value {name:?}"),
    })
}

fn unsupported(graph: &Graph<'_>, node: NodeId, what: &str) -> Error {
    Error::Unsupported {
        site: graph.site(node),
        what: what.to_owned(),
    }
}
