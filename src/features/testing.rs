//! Small classifiers made in code, and samples for them.

use crate::{
    data::Batch,
    engine::Engine,
    graph::{Graph, Shapes},
    head::{self, Head},
    onnx::{DataType, Dim, GraphProto, ModelProto, NodeProto, Tensor, ValueInfoProto},
};

use super::{FeatureBatch, ModelInput, Trunk, probe};

const OPSET: i64 = 17;

/// A network of dense layers, `x -> Gemm -> activation -> ... -> Gemm -> ending`.
#[derive(Clone, Debug)]
pub(crate) struct Dense {
    /// Sizes of the input, the hidden layers and the scores.
    pub(crate) widths: Vec<usize>,
    pub(crate) activation: &'static str,
    /// Empty for logits.
    pub(crate) ending: &'static str,
    /// Nothing where the batch size is free.
    pub(crate) batch: Option<usize>,
    /// Row-major `[out, in]`, and one bias per output.
    pub(crate) weights: Vec<(Vec<f32>, Vec<f32>)>,
}

impl Dense {
    /// Random weights, the same for the same `seed`.
    pub(crate) fn random(widths: &[usize], ending: &'static str, seed: u64) -> Self {
        let mut numbers = Numbers(seed);
        let weights = widths.windows(2).map(|pair| {
            let scale = (pair[0] as f32).sqrt().recip() * 2.0;
            let weight = numbers.take(pair[0] * pair[1]);
            let weight = weight.into_iter().map(|w| w * scale).collect();
            (weight, numbers.take(pair[1]))
        });
        Self {
            weights: weights.collect(),
            widths: widths.to_vec(),
            activation: "Relu",
            ending,
            batch: None,
        }
    }

    pub(crate) fn model(&self) -> ModelProto {
        let dim = self
            .batch
            .map_or(Dim::Symbol("batch".to_owned()), Dim::Fixed);
        let port = |name: &str, width| {
            ValueInfoProto::tensor(name, DataType::Float, &[dim.clone(), Dim::Fixed(width)])
        };
        let mut graph = GraphProto::new("dense");
        graph.input = vec![port("x", self.widths[0])];
        let mut value = "x".to_owned();
        for (layer, (weight, bias)) in self.weights.iter().enumerate() {
            let (w, b, y) = (
                format!("w{layer}"),
                format!("b{layer}"),
                format!("y{layer}"),
            );
            let shape = [self.widths[layer + 1], self.widths[layer]];
            let tensor = Tensor::f32(shape, weight.clone()).unwrap();
            graph.initializer.push(tensor.to_proto(w.as_str()));
            let tensor = Tensor::f32([bias.len()], bias.clone()).unwrap();
            graph.initializer.push(tensor.to_proto(b.as_str()));
            let gemm = NodeProto::new("Gemm", &[&value, &w, &b], &[&y]);
            graph.node.push(gemm.with_name(&y).with_int("transB", 1));
            value = y;
            let is_last = layer + 1 == self.weights.len();
            let op = if is_last {
                self.ending
            } else {
                self.activation
            };
            if !op.is_empty() {
                let output = format!("{value}_{op}");
                let node = NodeProto::new(op, &[&value], &[&output]).with_name(&output);
                graph.node.push(node);
                value = output;
            }
        }
        graph.output = vec![port(&value, self.widths[self.widths.len() - 1])];
        ModelProto::new(graph, OPSET)
    }
}

/// Numbers in -1..1, spread evenly enough for tests.
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn take(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.next()).collect()
    }

    fn next(&mut self) -> f32 {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        (mixed >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}

/// Random samples of this shape, labels counting up to `classes`.
pub(crate) fn batch(shape: &[usize], classes: usize, seed: u64) -> Batch {
    Batch {
        shape: shape.to_vec(),
        values: Numbers(seed).take(shape.iter().product()),
        labels: Some((0..shape[0]).map(|sample| sample % classes).collect()),
    }
}

/// Samples `from..to` of a batch.
pub(crate) fn part(batch: &Batch, from: usize, to: usize) -> Batch {
    let size = batch.values.len() / batch.shape[0];
    let mut shape = batch.shape.clone();
    shape[0] = to - from;
    Batch {
        shape,
        values: batch.values[from * size..to * size].to_vec(),
        labels: batch
            .labels
            .as_ref()
            .map(|labels| labels[from..to].to_vec()),
    }
}

/// What is known of a model after a probe, and its head.
pub(crate) fn opened(engine: &dyn Engine, graph: &Graph<'_>, batch: &Batch) -> (Shapes, Head) {
    let input = Tensor::f32(batch.shape.clone(), batch.values.clone()).unwrap();
    let declared = Shapes::declared(graph);
    let shapes = probe(engine, graph, &declared, &input).unwrap();
    let head = head::find(graph, &shapes).unwrap();
    (shapes, head)
}

/// The features of several batches.
pub(crate) fn features(
    engine: &dyn Engine,
    graph: &Graph<'_>,
    (shapes, head): (&Shapes, &Head),
    batches: Vec<Batch>,
) -> Vec<FeatureBatch> {
    let input = ModelInput::of(graph).unwrap();
    let mut trunk = Trunk::new(engine, graph, shapes, head).unwrap();
    let samples = batches.into_iter().map(|batch| input.samples(batch));
    trunk.features(samples).map(Result::unwrap).collect()
}
