//! One step of training as one graph: forward, loss, gradients, optimizer.
//!
//! The weights are inputs of the graph, and the weights after the step are outputs: an engine that
//! feeds them back ([`crate::engine::Steps`]) trains without anything else. Numbers that change from
//! step to step (the learning rate, the bias corrections of AdamW) are inputs as well, so one graph
//! serves a whole run.
//!
//! ```text
//! features, target [N, K], weight [N, 1], W, moments  ->  loss [], logits [N, K], W', moments'
//! ```
//!
//! `target` is what the probabilities should be, times the sample's weight: a row of zeros with weight
//! 0 is a sample that is not there. Everything a caller may want (labels, smoothing, a teacher, an
//! average over the real samples of a short batch) is said in these two inputs.
//!
//! The gradient of a dense layer's weight is never written down where the optimizer lets it be: the
//! sum of weight and scaled gradient is one Gemm, `W' = Gemm(x, -rate dy, C = W, transA = 1)`.

mod forward;
mod loss;
mod parameters;
mod probe;
mod state;
#[cfg(test)]
mod tests;
mod update;

use std::collections::{BTreeMap, BTreeSet};

use super::{Request, path::Path, tape::Tape, var::Var, walk};
use crate::{
    engine::{EngineInfo, Snapshot},
    error::{Error, Result, Site},
    graph::{Graph, Shapes, Use},
    onnx::{DataType, Dim, GraphProto, ModelProto, NodeProto, Tensor, TensorProto, ValueInfoProto},
};
use forward::Forward;
use state::{Held, State};
use update::Names;

pub use loss::Loss;
pub use probe::probe;
pub use update::Optimizer;

/// What a training step does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Training {
    /// Samples per step.
    pub batch: usize,
    /// What is made small.
    pub loss: Loss,
    /// The logits are divided by it before the loss; 1 but for distillation.
    pub temperature: f32,
    /// How the weights follow the gradient.
    pub optimizer: Optimizer,
    /// Share of every matrix that goes per unit of learning rate, apart from the gradient
    /// (Loshchilov & Hutter 2019, arXiv:1711.05101, algorithm 2). Biases and scales keep theirs.
    pub weight_decay: f32,
    /// Values of a matrix that are updated together where the optimizer passes over them many
    /// times; see [`Training::PIECE`].
    pub piece: usize,
}

impl Training {
    /// 2 MiB: with gradient and moments, what fits the caches of a common processor.
    pub const PIECE: usize = 1 << 19;

    /// A whole weight: on an H200, VGG16's head in pieces of 8 MiB took twice as long, and in pieces of
    /// 4 MiB three times, since a kernel takes longer to launch than to work on one.
    pub const PIECE_ON_DEVICE: usize = usize::MAX;

    /// The piece that suits where an engine computes.
    pub fn piece_for(engine: &EngineInfo) -> usize {
        match engine.precision {
            None => Self::PIECE,
            Some(_) => Self::PIECE_ON_DEVICE,
        }
    }
}

/// A training step as a model, and how it is run.
#[derive(Clone, Debug)]
pub struct TrainingGraph {
    /// Outputs: the loss, f32 `[]`; the logits before the step, `[N, K]`; then the state.
    pub model: ModelProto,
    /// Pairs of an output and the input that it is in the next step.
    pub feedback: Vec<(String, String)>,
    /// First value of each of these inputs.
    pub initial: Snapshot,
    /// The head alone, on the same weights as they are in the state: its output is the logits, its
    /// inputs are the features and the inputs that [`TrainingGraph::held_weights`] gives.
    pub forward: ModelProto,
    /// Input `[N, K]`, f32.
    pub target: String,
    /// Input `[N, 1]`, f32.
    pub weight: String,
    /// What is trained.
    pub parameters: Vec<Parameter>,
    training: Training,
    names: Names,
    scalars: Vec<String>,
}

/// A trained initializer.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// Its name in the model.
    pub name: String,
    /// Sizes of its axes.
    pub shape: Vec<usize>,
    /// The inputs that hold it: parts of these sizes along `axis`.
    pieces: Vec<(String, usize)>,
    axis: usize,
}

/// Writes the training step of a head.
///
/// The graph's one output is the logits, `[N, K]` or with further axes of size 1; its inputs are the
/// features. All of it is f32 ([`crate::engine::widened`]), and `shapes` knows every value's axes.
/// Trained are weights and biases of dense layers and scales and shifts of normalisations;
/// statistics stay.
///
/// # Errors
/// [`Error::UnsupportedOperators`] with all operators on the way that have no gradient rule;
/// [`Error::Unsupported`] where nothing can be trained, or one of the weights has no gradient rule.
pub fn training_graph(
    graph: &Graph<'_>,
    shapes: &Shapes,
    training: Training,
) -> Result<TrainingGraph> {
    let piece = training.optimizer.piece(training.piece);
    let forward = Forward::new(graph, shapes, piece)?;
    let graph = Graph::new(&forward.model)?;
    let shapes = forward.shapes(&graph);
    let unsupported = |what: &str| Error::Unsupported {
        site: Site::value(&forward.logits),
        what: what.to_owned(),
    };
    let logits = graph.value(&forward.logits);
    let logits = logits.ok_or_else(|| unsupported("is not made by the head"))?;
    let classes = shapes.size(logits, 1);
    let classes = classes.ok_or_else(|| unsupported("has an unknown number of classes"))?;
    let free = parameters::find(&graph, &forward.dense);
    let made = forward.dense.iter().filter_map(|dense| dense.made(&graph));
    let wrt: Vec<Use> = made
        .chain(free.iter().flat_map(|free| free.uses.clone()))
        .collect();
    if wrt.is_empty() {
        return Err(unsupported("depends on no weight that can be trained"));
    }
    let stop = graph.inputs();
    let request = Request {
        of: logits,
        wrt: &wrt,
        stop: &stop,
    };
    let path = Path::find(&graph, &shapes, request)?;
    let tape = Tape::new(&graph);
    let (target, weight) = (tape.name("target"), tape.name("weight"));
    let names = Names::new(&tape);
    let (loss, slope) = training.loss.write(
        tape.value(&forward.logits),
        tape.value(&target),
        tape.value(&weight),
        training.temperature,
    );
    let found = walk::back(
        &graph,
        &shapes,
        &path,
        &tape,
        request,
        slope.unsqueeze(&[0]),
    )?;
    let mut state = State::new(&tape, &names, training);
    let mut found = found.into_iter();
    for (dense, cotangent) in forward.dense.iter().zip(&mut found) {
        state.dense(dense, cotangent);
    }
    for free in &free {
        let cotangents: Vec<Var<'_>> = found.by_ref().take(free.uses.len()).collect();
        state.free(free, &cotangents);
    }
    let State {
        held, parameters, ..
    } = state;
    let next = held.iter().map(|held| held.next.name());
    let values: Vec<String> = [loss.name()].into_iter().chain(next).collect();
    let feedback = held
        .iter()
        .map(|held| (held.output.clone(), held.input.clone()));
    let feedback: Vec<(String, String)> = feedback.collect();
    let sizes = held
        .iter()
        .map(|held| (held.input.clone(), held.shape.clone()));
    let sizes: Vec<(String, Vec<usize>)> = sizes.collect();
    let initial = initial(held)?;
    let renewed = feedback.iter().map(|(output, _)| output.clone());
    let outputs: Vec<String> = [tape.name("loss")].into_iter().chain(renewed).collect();
    let (nodes, constants) = tape.finish(&values, &outputs);
    let read: BTreeSet<&str> = nodes
        .iter()
        .flat_map(|node| &node.input)
        .map(String::as_str)
        .collect();
    let scalars = names
        .all()
        .filter(|name| read.contains(name))
        .map(str::to_owned);
    let scalars: Vec<String> = scalars.collect();
    let border = Border {
        batch: training.batch,
        target: (&target, classes),
        weight: &weight,
        logits: &forward.logits,
        scalars: &scalars,
        outputs: &outputs,
        held: &sizes,
    };
    let parts: BTreeSet<&str> = parameters.iter().flat_map(Parameter::parts).collect();
    Ok(TrainingGraph {
        forward: border.forward(forward.model.clone(), &parts),
        model: border.close(forward.model.clone(), nodes, constants),
        feedback,
        initial,
        target,
        weight,
        parameters,
        training,
        names,
        scalars,
    })
}

/// What is held before the first step.
fn initial(held: Vec<Held<'_>>) -> Result<Snapshot> {
    let mut weights = Vec::new();
    let mut zeros = Snapshot::default();
    for held in held {
        match held.first {
            Some(first) => weights.push((held.input, Tensor::from_proto(&first)?)),
            None => zeros.add_zeros(held.input, &held.shape),
        }
    }
    Ok(Snapshot::from(weights).and(zeros))
}

/// What crosses the border of a training graph.
struct Border<'b> {
    batch: usize,
    /// With the number of classes.
    target: (&'b str, usize),
    weight: &'b str,
    logits: &'b str,
    scalars: &'b [String],
    /// The loss, then the state.
    outputs: &'b [String],
    /// What is held, with its shape.
    held: &'b [(String, Vec<usize>)],
}

impl Border<'_> {
    /// Puts the nodes behind the head's own and declares inputs and outputs.
    fn close(
        &self,
        mut model: ModelProto,
        nodes: Vec<NodeProto>,
        constants: Vec<TensorProto>,
    ) -> ModelProto {
        let Some(graph) = model.graph.as_mut() else {
            return model;
        };
        self.open(graph);
        graph.node.extend(nodes);
        graph.initializer.extend(constants);
        let batch = Dim::Fixed(self.batch);
        let scores = self.scores();
        graph.input.push(port(self.target.0, &scores));
        graph.input.push(port(self.weight, &[batch, Dim::Fixed(1)]));
        graph
            .input
            .extend(self.scalars.iter().map(|name| port(name, &[])));
        graph.output = vec![port(&self.outputs[0], &[]), port(self.logits, &scores)];
        for ((name, shape), output) in self.held.iter().zip(&self.outputs[1..]) {
            graph.input.push(port(name, &fixed(shape)));
            graph.output.push(port(output, &fixed(shape)));
        }
        model
    }

    /// The head alone, which reads the weights `parts` from inputs.
    fn forward(&self, mut model: ModelProto, parts: &BTreeSet<&str>) -> ModelProto {
        if let Some(graph) = model.graph.as_mut() {
            self.open(graph);
            let held = self.held.iter();
            let held = held.filter(|(name, _)| parts.contains(name.as_str()));
            graph
                .input
                .extend(held.map(|(name, shape)| port(name, &fixed(shape))));
            graph.output = vec![port(self.logits, &self.scores())];
        }
        model
    }

    /// Leaves of the head what is no state, and gives its features the batch size.
    fn open(&self, graph: &mut GraphProto) {
        let held: BTreeSet<&str> = self.held.iter().map(|(name, _)| name.as_str()).collect();
        graph
            .initializer
            .retain(|tensor| !held.contains(tensor.name()));
        graph.input.retain(|input| !held.contains(input.name()));
        let constants: BTreeSet<&str> = graph
            .initializer
            .iter()
            .map(|tensor| tensor.name())
            .collect();
        for input in graph
            .input
            .iter_mut()
            .filter(|input| !constants.contains(input.name()))
        {
            if let (Some(dtype), Some(mut dims)) = (input.elem_type(), input.dims())
                && let Some(first) = dims.first_mut()
            {
                *first = Dim::Fixed(self.batch);
                *input = ValueInfoProto::tensor(input.name(), dtype, &dims);
            }
        }
    }

    fn scores(&self) -> [Dim; 2] {
        [Dim::Fixed(self.batch), Dim::Fixed(self.target.1)]
    }
}

fn port(name: &str, dims: &[Dim]) -> ValueInfoProto {
    ValueInfoProto::tensor(name, DataType::Float, dims)
}

fn fixed(shape: &[usize]) -> Vec<Dim> {
    shape.iter().copied().map(Dim::Fixed).collect()
}

impl TrainingGraph {
    /// The inputs that change from step to step; `step` counts from 1.
    ///
    /// # Errors
    /// None in practice: one number always fits.
    pub fn scalars(&self, step: u64, learning_rate: f64) -> Result<Vec<(&str, Tensor)>> {
        let Training {
            optimizer,
            weight_decay,
            ..
        } = self.training;
        let values = optimizer.scalars(step, learning_rate, weight_decay);
        let used = self.names.with(values).into_iter();
        let used = used.filter(|(name, _)| self.scalars.iter().any(|known| known == name));
        used.map(|(name, value)| Ok((name, Tensor::f32([], vec![value as f32])?)))
            .collect()
    }

    /// Of what the steps hold, the state: what a step renews.
    pub fn held_state(&self, held: &Snapshot) -> Snapshot {
        let fed: BTreeSet<&str> = self.feedback.iter().map(|(_, to)| to.as_str()).collect();
        held.only(|name| fed.contains(name))
    }

    /// Of what the steps hold, the trained weights.
    pub fn held_weights(&self, held: &Snapshot) -> Snapshot {
        let parts: BTreeSet<&str> = self.parameters.iter().flat_map(Parameter::parts).collect();
        held.only(|name| parts.contains(name))
    }

    /// The trained weights in a state that [`crate::engine::Steps::state`] gave, f32, by their names
    /// in the head.
    ///
    /// # Errors
    /// [`Error::Argument`] when `state` is not of this graph.
    pub fn weights(&self, state: &[(String, Tensor)]) -> Result<BTreeMap<String, Tensor>> {
        let held = state.iter().map(|(name, tensor)| (name.as_str(), tensor));
        let held: BTreeMap<&str, &Tensor> = held.collect();
        let parameters = self.parameters.iter();
        parameters
            .map(|parameter| Ok((parameter.name.clone(), parameter.joined(&held)?)))
            .collect()
    }
}

impl Parameter {
    /// Names of the inputs that hold it.
    fn parts(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().map(|(name, _)| name.as_str())
    }

    fn joined(&self, held: &BTreeMap<&str, &Tensor>) -> Result<Tensor> {
        let unlike = || Error::Argument {
            name: "state",
            what: format!("holds no {:?} of shape {:?}", self.name, self.shape),
        };
        let parts = self.pieces.iter().map(|(name, size)| {
            let tensor = held.get(name.as_str()).ok_or_else(unlike)?;
            Ok((tensor.to_f32(), *size))
        });
        let parts: Vec<_> = parts.collect::<Result<_>>()?;
        let inner: usize = self.shape.iter().skip(self.axis + 1).product();
        let outer: usize = self.shape.iter().take(self.axis).product();
        let mut values = Vec::with_capacity(self.shape.iter().product());
        for row in 0..outer {
            for (part, size) in &parts {
                let width = size * inner;
                let found = part.get(row * width..(row + 1) * width);
                values.extend_from_slice(found.ok_or_else(unlike)?);
            }
        }
        Tensor::f32(self.shape.clone(), values)
    }
}
