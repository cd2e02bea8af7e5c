//! Reverse-mode differentiation, ONNX in, ONNX out.
//!
//! [`differentiate`] walks back from the class scores and asks one small rule per operator
//! (`rules/`) for the nodes that carry the gradient to the operator's inputs. The result runs in
//! any ONNX runtime, beside the forward nodes whose values it reads.
//!
//! R class rows travel together: where a value is `[N, ..]`, its cotangent is `[R, N, ..]`, f32
//! whatever the model's own type. The seed is an input `[R, 1, K]`; row `r` holds for every sample,
//! so one-hot rows give the rows `dy_r/dx` of the Jacobian, and the caller bounds memory by giving
//! the classes in blocks. Where rows differ from sample to sample (a loss), it is `[R, N, K]`. R and
//! N are read off the inputs when the graph runs.
//!
//! The driver alone sums over broadcast axes, adds up what arrives from several readers of a value,
//! and drops nodes nobody needs. A rule knows its operator and nothing else. Weights are inputs like
//! any other: ask for a use of one, and its gradient comes, summed over the samples.

mod context;
mod path;
mod rules;
mod tape;
pub mod training;
mod var;
mod walk;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use crate::{
    error::{Error, Result, Site},
    graph::{self, Graph, Shapes, TensorType, Use, ValueId},
    onnx::{DataType, Dim, ModelProto, NodeProto, TensorProto, ValueInfoProto},
};
use path::Path;
use tape::Tape;
use var::Var;

/// What to differentiate.
#[derive(Clone, Copy, Debug)]
pub struct Request<'r> {
    /// The class scores, `[N, K]`.
    pub of: ValueId,
    /// Where the cotangents are wanted: each as it arrives at this one use, before the uses of the
    /// value are added up.
    pub wrt: &'r [Use],
    /// Values not to go behind: the features.
    pub stop: &'r [ValueId],
}

/// Nodes to put behind the forward nodes; see the module's head.
#[derive(Clone, Debug)]
pub struct Gradient {
    /// The nodes, in order. They read forward values and weights by their names.
    pub nodes: Vec<NodeProto>,
    /// Constants of these nodes.
    pub initializers: Vec<TensorProto>,
    /// Name of the input `[R, 1, K]` or `[R, N, K]`, f32: one row per wanted class.
    pub seed: String,
    /// Name of the cotangent of each wanted use, in the order of [`Request::wrt`]: f32, one leading
    /// axis R, then the shape of the value that is read there.
    pub cotangents: Vec<String>,
}

/// A gradient as a model that runs by itself.
#[derive(Clone, Debug)]
pub struct GradientModel {
    /// Inputs: those of the forward part, then the seed. Outputs: the cotangents, then the forward
    /// values that were asked for.
    pub model: ModelProto,
    /// Name of the seed; see [`Gradient::seed`].
    pub seed: String,
    /// Names of the outputs with the cotangents; see [`Gradient::cotangents`].
    pub cotangents: Vec<String>,
}

/// Writes the nodes that compute the cotangents asked for.
///
/// `shapes` must give the number of axes of the values on the way, and the sizes of their spatial
/// axes where windows are involved; the batch may stay unknown.
///
/// # Errors
/// [`Error::UnsupportedOperators`] with all operators on the way
/// that have no rule; [`Error::Unsupported`] for a variant of an operator
/// without one, or where `shapes` is silent; [`Error::Invalid`] where a node
/// breaks the rules of its operator.
pub fn differentiate(graph: &Graph<'_>, shapes: &Shapes, request: Request<'_>) -> Result<Gradient> {
    check_scores(graph, shapes, request.of)?;
    let path = Path::find(graph, shapes, request)?;
    let tape = Tape::new(graph);
    let seed = tape.name("seed");
    let arriving = walk::wide(graph, shapes, &tape, request.of, tape.value(&seed));
    let found = walk::back(graph, shapes, &path, &tape, request, arriving)?;
    let found: Vec<String> = found.into_iter().map(Var::name).collect();
    let numbers = 0..request.wrt.len();
    let cotangents: Vec<String> = numbers
        .map(|number| tape.name(&format!("cotangent_{number}")))
        .collect();
    let (nodes, initializers) = tape.finish(&found, &cotangents);
    Ok(Gradient {
        nodes,
        initializers,
        seed,
        cotangents,
    })
}

/// Class scores with further axes, even of size 1, are for the caller to flatten.
fn check_scores(graph: &Graph<'_>, shapes: &Shapes, of: ValueId) -> Result<()> {
    let Some(dims) = shapes.dims(of).filter(|dims| dims.len() != 2) else {
        return Ok(());
    };
    let value = Site::value(graph.name(of));
    Err(Error::Unsupported {
        site: graph.producer(of).map_or(value, |node| graph.site(node)),
        what: format!("makes class scores of {} axes, not [N, K]", dims.len()),
    })
}

/// The gradient together with the part of the model it needs.
///
/// `inputs` are the values the caller will give, usually the features; `values` are forward values
/// to have as outputs beside the cotangents.
///
/// # Errors
/// As [`differentiate`]; [`Error::Unsupported`] where the type of one of
/// `inputs` or `values` is not known.
pub fn gradient_model(
    graph: &Graph<'_>,
    shapes: &Shapes,
    request: Request<'_>,
    inputs: &[ValueId],
    values: &[ValueId],
) -> Result<GradientModel> {
    let gradient = differentiate(graph, shapes, request)?;
    let read = values_read(graph, &gradient, values);
    let known = with_types(shapes, &read, inputs, values);
    let mut model = graph::extract(graph, &known, inputs, &read)?;
    let Gradient {
        nodes,
        initializers,
        seed,
        cotangents,
    } = gradient;
    if let Some(part) = model.graph.as_mut() {
        part.input.push(seed_port(shapes, &seed, request.of));
        part.node.extend(nodes);
        part.initializer.extend(initializers);
        let ports = cotangents.iter().zip(request.wrt);
        let mut outputs: Vec<ValueInfoProto> = ports
            .map(|(name, &at)| cotangent_port(graph, shapes, name, at))
            .collect();
        for &value in values {
            let mut ports = part.output.iter();
            let port = ports.find(|port| port.name() == graph.name(value));
            outputs.extend(port.cloned());
        }
        part.output = outputs;
    }
    Ok(GradientModel {
        model,
        seed,
        cotangents,
    })
}

/// The values of `graph` that the gradient reads, with `values`; each once.
fn values_read(graph: &Graph<'_>, gradient: &Gradient, values: &[ValueId]) -> Vec<ValueId> {
    let names = gradient.nodes.iter().flat_map(|node| &node.input);
    let mut read: Vec<ValueId> = names.filter_map(|name| graph.value(name)).collect();
    read.extend(values);
    read.sort();
    read.dedup();
    read
}

/// `shapes` with some type for each of `read` that becomes neither an input nor an output: what
/// [`graph::extract`] declares for these is thrown away.
fn with_types(shapes: &Shapes, read: &[ValueId], inputs: &[ValueId], values: &[ValueId]) -> Shapes {
    let mut shapes = shapes.clone();
    let stays = |value| inputs.contains(value) || values.contains(value);
    for &value in read.iter().filter(|value| !stays(value)) {
        if shapes.tensor(value).is_none() {
            let (dtype, dims) = (DataType::Float, Vec::new());
            shapes.learn(value, TensorType { dtype, dims });
        }
    }
    shapes
}

fn seed_port(shapes: &Shapes, name: &str, of: ValueId) -> ValueInfoProto {
    let classes = shapes.dims(of).and_then(<[Dim]>::last).cloned();
    let dims = [rows(), Dim::Unknown, classes.unwrap_or(Dim::Unknown)];
    ValueInfoProto::tensor(name, DataType::Float, &dims)
}

fn cotangent_port(graph: &Graph<'_>, shapes: &Shapes, name: &str, at: Use) -> ValueInfoProto {
    let value = graph.input(at.node, at.input);
    let known = value.and_then(|value| shapes.dims(value));
    let mut dims = vec![rows()];
    dims.extend(known.unwrap_or_default().iter().cloned());
    ValueInfoProto::tensor(name, DataType::Float, &dims)
}

/// The class axis in declared shapes.
fn rows() -> Dim {
    Dim::Symbol("rows".to_owned())
}
