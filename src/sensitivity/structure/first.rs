//! Features that are mostly 0, as those behind a ReLU are, on their way through the first dense layer.
//!
//! An engine multiplies a 0 like any other number. Where most are 0, what the layer makes is summed up here,
//! over the others, and the engine runs what follows.

use std::borrow::Cow;

use rayon::prelude::*;

use super::{chain::Chain, last::are_finite};
use crate::{
    algebra::{Strips, add_sparse},
    error::Result,
    features::FeatureBatch,
    graph::{Graph, NodeId, ValueId},
    onnx::{DataType, Tensor, TensorData},
    sensitivity::{Request, forward::Forward},
};

/// Most weights that are held a second time, 16 MB of them. Of larger layers the forward run is a small part of
/// what scoring takes.
const WEIGHTS: usize = 4 << 20;

/// One row in so many is looked at for zeros.
const EVERY: usize = 64;

/// At most one feature in so many may be another number than 0: a product by lines of the weights takes twice
/// as long for each number as one by tiles.
const OTHERS: usize = 2;

/// Most rows of one task: what it makes of them, 512 kB for 512 neurons, stays in the second cache.
const ROWS: usize = 256;

/// The first dense layer of a chain.
pub(super) struct First {
    /// `[inputs, outputs]`.
    weights: Strips,
    /// One per output.
    bias: Vec<f32>,
    /// What follows it.
    forward: Forward,
    /// What it made of the last batch.
    made: Option<Tensor>,
}

impl First {
    /// Where the only features are what a dense layer of f32 reads, and its weights are not too many to be held
    /// once more; `wanted` as for [`Forward::new`].
    ///
    /// # Errors
    /// [`crate::Error::Engine`] when the engine cannot load what follows it.
    pub(super) fn of(
        request: Request<'_>,
        chain: &Chain,
        wanted: &[ValueId],
    ) -> Result<Option<Self>> {
        let Request {
            graph,
            shapes,
            engine,
            ..
        } = request;
        if engine.info().precision.is_some() {
            // A device.
            return Ok(None);
        }
        let link = &chain.links[0];
        let (Some(bend), &[features]) = (&link.bend, &*request.head.features) else {
            return Ok(None);
        };
        let (outputs, inputs) = (link.weights.outputs(), link.weights.inputs());
        let node = graph.producer(bend.from).filter(|&node| {
            matches!(graph.node(node).op(), "Gemm" | "MatMul")
                && graph.input(node, 0) == Some(features)
                && shapes
                    .tensor(bend.from)
                    .is_some_and(|made| made.dtype == DataType::Float && made.dims.len() == 2)
        });
        let (Some(node), ..=WEIGHTS) = (node, outputs.saturating_mul(inputs)) else {
            return Ok(None);
        };
        let Some(bias) = bias(graph, node, outputs) else {
            return Ok(None);
        };
        let weights = link.weights.to_tensor()?;
        let weights = weights.to_f32();
        if !are_finite(&weights) {
            // A feature that is 0 makes no number of these, and the engine tells.
            return Ok(None);
        }
        let weights = Strips::of_rows((inputs, outputs), |input, neurons, target| {
            let neurons = target.iter_mut().zip(neurons);
            neurons.for_each(|(to, neuron)| *to = weights[neuron * inputs + input]);
        });
        Ok(Some(Self {
            weights,
            bias,
            made: None,
            forward: Forward::behind(request, bend.from, wanted)?,
        }))
    }

    /// The wanted values of a batch that [`is_sparse`].
    pub(super) fn run<'r>(&'r mut self, batch: &'r FeatureBatch) -> Result<Vec<Cow<'r, Tensor>>> {
        let made = self.product(batch)?;
        let made = &*self.made.insert(made);
        let given: Vec<&Tensor> = batch.values.iter().chain([made]).collect();
        self.forward.run_given(&given)
    }

    /// What the layer makes.
    fn product(&mut self, batch: &FeatureBatch) -> Result<Tensor> {
        let (outputs, stride) = (self.bias.len(), self.weights.stride());
        let features = batch.values[0].to_f32();
        // Fresh memory would cost a tenth of the products.
        let mut made = match self.made.take().map(Tensor::into_data) {
            Some(TensorData::F32(made)) => made,
            _ => Vec::new(),
        };
        made.resize(batch.rows * stride, 0.0);
        let rows = batch.rows.div_ceil(rayon::current_num_threads());
        let rows = rows.clamp(1, ROWS);
        let tasks = made.par_chunks_mut(rows * stride);
        let tasks = tasks.zip(features.par_chunks(rows * self.weights.depth()));
        tasks.for_each(|(made, features)| {
            let lines = made.chunks_exact_mut(stride);
            lines.for_each(|line| line[..outputs].copy_from_slice(&self.bias));
            add_sparse(features, &self.weights, made);
        });
        // Without what fills up the last vector.
        for row in (1..batch.rows).take_while(|_| stride > outputs) {
            made.copy_within(row * stride..row * stride + outputs, row * outputs);
        }
        made.truncate(batch.rows * outputs);
        Tensor::f32([batch.rows, outputs], made)
    }
}

/// What a Gemm or MatMul adds, one number per output; nothing where that is not the same for every row.
fn bias(graph: &Graph<'_>, node: NodeId, outputs: usize) -> Option<Vec<f32>> {
    if graph.input(node, 2).is_none() {
        return Some(vec![0.0; outputs]);
    }
    let given = graph.constant_input(node, 2)?;
    let width = given.shape().last().copied().unwrap_or(1);
    let given = given.to_f32();
    if given.len() != width || width != outputs && width != 1 {
        return None;
    }
    let beta = graph.node(node).float("beta").unwrap_or(1.0);
    let given = given.iter().cycle().map(|bias| bias * beta);
    Some(given.take(outputs).collect())
}

/// Whether most of the features are 0, judged by some of the samples.
pub(super) fn is_sparse(batch: &FeatureBatch) -> bool {
    let [values] = batch.values.as_slice() else {
        return false;
    };
    let (TensorData::F32(values), &[rows, width]) = (values.data(), values.shape()) else {
        return false;
    };
    if rows * width == 0 {
        return false;
    }
    let rows = values.chunks_exact(width).step_by(EVERY);
    let (mut seen, mut others) = (0, 0);
    for row in rows {
        seen += width;
        others += row.iter().filter(|number| **number != 0.0).count();
    }
    others * OTHERS < seen
}
