//! The head in the form that is trained and measured: f32, up to the logits, at one batch size.

use std::collections::BTreeSet;

use super::{
    Request,
    batches::{Aim, top},
    source::{self, Source, WIDENED},
};
use crate::{
    engine::{self, Engine, Snapshot, Steps},
    error::{Error, Result},
    features::FeatureSet,
    grad::training::{self, TrainingGraph},
    graph::{self, Graph, Shapes, TensorType, ValueId},
    head::Ending,
    onnx::{DataType, Dim, ModelProto, Tensor, ValueInfoProto},
};

/// Operators that may stand behind the final Softmax or Sigmoid.
const BEHIND: [&str; 5] = ["Cast", "Flatten", "Identity", "Reshape", "Squeeze"];

/// Samples of a probe: as few as show what the batch is.
const PROBED: [usize; 2] = [2, 3];

/// How far the logits of a sample may depend on who else is in the batch: rounding.
const SAME: f32 = 1e-3;

/// The head up to the logits, in f32.
pub(super) fn logits_model(request: &Request<'_>) -> Result<ModelProto> {
    let wide = engine::widened(request.head_model, &WIDENED)?;
    let model = wide.unwrap_or_else(|| request.head_model.clone());
    let graph = Graph::new(&model)?;
    let wanted = match request.ending {
        Ending::Logits => None,
        Ending::Softmax => before(&graph, "Softmax"),
        Ending::LogSoftmax => before(&graph, "LogSoftmax"),
        Ending::Sigmoid => before(&graph, "Sigmoid"),
    };
    let Some(logits) = wanted else {
        return Ok(model);
    };
    let mut shapes = Shapes::declared(&graph);
    if shapes.tensor(logits).is_none() {
        let (dtype, dims) = (
            DataType::Float,
            vec![Dim::Unknown, Dim::Fixed(request.classes)],
        );
        shapes.learn(logits, TensorType { dtype, dims });
    }
    let mut part = graph::extract(&graph, &shapes, &graph.inputs(), &[logits])?;
    // The number of axes is for the probe to see.
    for output in part.graph.iter_mut().flat_map(|graph| &mut graph.output) {
        *output = untyped(output.name());
    }
    Ok(part)
}

fn untyped(name: &str) -> ValueInfoProto {
    let mut info = ValueInfoProto::tensor(name, DataType::Float, &[]);
    info.r#type = None;
    info
}

/// What the final non-linearity reads.
fn before(graph: &Graph<'_>, ending: &str) -> Option<ValueId> {
    let mut value = *graph.outputs().first()?;
    loop {
        let node = graph.producer(value)?;
        let op = graph.node(node).op();
        if op == ending {
            return graph.input(node, 0);
        }
        if !BEHIND.contains(&op) {
            return None;
        }
        value = graph.input(node, 0)?;
    }
}

/// Inputs of the head beside `rows` samples, repeated as needed.
fn inputs(features: &FeatureSet, positions: &[usize], rows: usize) -> Result<Vec<Tensor>> {
    let rows = (0..rows).map(|row| positions[row % positions.len()]);
    source::read(features, &rows.collect::<Vec<_>>())
}

/// Features in batches of `wanted`, where the head takes such, though the model it comes from says
/// otherwise; else in batches of the model's own size.
pub(super) fn batched(
    request: &Request<'_>,
    model: &mut ModelProto,
    wanted: usize,
) -> Result<(FeatureSet, usize)> {
    let features = request.features.clone();
    let Some(own) = features.fixed_batch() else {
        return Ok((features, wanted));
    };
    let free = freed(model);
    if own != wanted {
        let try_out = |model: &ModelProto, size: usize| {
            let features = features.clone().with_fixed_batch(size);
            let count = request.train.len().min(own).min(size);
            let values = inputs(&features, &request.train[..count], size)?;
            let mut session = request.engine.load(model)?;
            let named: Vec<_> = features
                .names()
                .iter()
                .map(String::as_str)
                .zip(&values)
                .collect();
            let logits = session.run(&named)?.swap_remove(0).to_f32().into_owned();
            Ok::<_, Error>(
                logits
                    .chunks(logits.len().max(size) / size)
                    .take(count)
                    .map(<[f32]>::to_vec)
                    .collect::<Vec<_>>(),
            )
        };
        let fixed = try_out(model, own)?;
        let same = try_out(&free, wanted).is_ok_and(|found| {
            let pairs = found.iter().flatten().zip(fixed.iter().flatten());
            found.len() == fixed.len()
                && pairs
                    .into_iter()
                    .all(|(a, b)| (a - b).abs() <= SAME * (1.0 + b.abs()))
        });
        if !same {
            return Ok((features, own));
        }
    }
    *model = free;
    Ok((features.with_fixed_batch(wanted), wanted))
}

/// The model with inputs and outputs of any batch size.
fn freed(model: &ModelProto) -> ModelProto {
    let mut model = model.clone();
    if let Some(graph) = &mut model.graph {
        let given: Vec<String> = graph
            .initializer
            .iter()
            .map(|tensor| tensor.name().to_owned())
            .collect();
        for input in graph
            .input
            .iter_mut()
            .filter(|input| !given.iter().any(|name| name == input.name()))
        {
            if let (Some(dtype), Some(mut dims)) = (input.elem_type(), input.dims())
                && let Some(first) = dims.first_mut()
            {
                *first = Dim::Symbol("batch".to_owned());
                *input = ValueInfoProto::tensor(input.name(), dtype, &dims);
            }
        }
        graph
            .output
            .iter_mut()
            .for_each(|output| *output = untyped(output.name()));
        graph.value_info.clear();
    }
    model
}

/// Shapes of all values of the head.
pub(super) fn shapes(
    engine: &dyn Engine,
    graph: &Graph<'_>,
    features: &FeatureSet,
    positions: &[usize],
) -> Result<Shapes> {
    let fixed = features.fixed_batch().map(|size| vec![size]);
    let sizes = fixed.unwrap_or_else(|| PROBED.to_vec());
    let runs = sizes
        .into_iter()
        .map(|size| inputs(features, positions, size));
    let runs: Vec<Vec<Tensor>> = runs.collect::<Result<_>>()?;
    let names = || features.names().iter().map(String::as_str);
    let batches: Vec<Vec<(&str, &Tensor)>> =
        runs.iter().map(|run| names().zip(run).collect()).collect();
    training::probe(engine, graph, &batches)
}

/// The head as a session whose weights can be changed.
pub(super) struct Forward {
    steps: Box<dyn Steps>,
}

/// Loss and accuracy on samples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Measured {
    pub(super) loss: f64,
    /// In percent.
    pub(super) accuracy: f64,
}

impl Forward {
    /// The head of `graph` on the weights, and features, that its steps hold.
    pub(super) fn new(engine: &dyn Engine, graph: &TrainingGraph, held: &Snapshot) -> Result<Self> {
        let inputs = graph.forward.graph.iter().flat_map(|graph| &graph.input);
        let inputs: BTreeSet<&str> = inputs.map(|input| input.name()).collect();
        let held = held.only(|name| inputs.contains(name));
        Ok(Self {
            steps: engine.load_steps(&graph.forward, &[], held)?,
        })
    }

    /// Goes on with these weights.
    pub(super) fn hold(&mut self, weights: Snapshot) -> Result<()> {
        self.steps.hold(weights)
    }

    /// Mean loss and accuracy; nothing where a score is not finite.
    pub(super) fn measure(
        &mut self,
        aim: Aim<'_>,
        source: &Source,
        positions: &[usize],
        size: usize,
    ) -> Result<Option<Measured>> {
        let aim = aim.judged();
        let (mut loss, mut right) = (0.0, 0_usize);
        super::batches::ahead(aim, source, positions, size, |positions, batch| {
            let named: Vec<_> = source.names().zip(&batch.values).collect();
            let outputs = self.steps.step(&named)?;
            let logits = outputs.first().map(Tensor::to_f32).unwrap_or_default();
            for ((&position, expected), row) in positions
                .iter()
                .zip(&batch.tops)
                .zip(logits.chunks(aim.classes))
            {
                loss += aim.loss(row, &aim.shares(position));
                right += usize::from(top(row) == *expected);
            }
            Ok(loss.is_finite())
        })?;
        let count = positions.len().max(1) as f64;
        Ok(loss.is_finite().then(|| Measured {
            loss: loss / count,
            accuracy: 100.0 * right as f64 / count,
        }))
    }
}
