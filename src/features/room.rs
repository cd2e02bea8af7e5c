//! How many samples fit into memory at once.

use std::collections::BTreeMap;

use super::ModelInput;
use crate::{
    engine::Engine,
    error::Result,
    graph::{self, Graph, Shapes, ValueId},
    onnx::Tensor,
};

/// Of the free memory, what values may take, in fifths: the rest is for work space (a convolution
/// may want as much again) and for what an allocator cannot use.
const FIFTHS: u64 = 3;

/// More at once gains nothing, even on large devices.
const MOST: u64 = 256;

/// Bytes that one more sample takes in a run, seen in a run on `sample`, one sample (or a fixed
/// batch) of the model's input.
///
/// # Errors
/// [`Error::Engine`](crate::Error::Engine) when the engine cannot give every value.
pub fn sample_bytes(
    engine: &dyn Engine,
    graph: &Graph<'_>,
    shapes: &Shapes,
    sample: &Tensor,
) -> Result<u64> {
    let input = ModelInput::of(graph)?.name;
    let made = |&id: &ValueId| graph.producer(id).is_some() && graph.constant(id).is_none();
    let values: Vec<ValueId> = graph.values().filter(made).collect();
    let values: Vec<ValueId> = values
        .into_iter()
        .filter(|&id| graph.is_tensor(id))
        .collect();
    let model = graph::with_outputs(graph, shapes, &values);
    let outputs = engine.load(&model)?.run(&[(&input, sample)])?;
    let mut bytes: BTreeMap<ValueId, u64> =
        values.into_iter().zip(outputs.iter().map(size)).collect();
    bytes.extend(graph.value(&input).map(|id| (id, size(sample))));
    let rows = sample.shape().first().copied().unwrap_or(1).max(1) as u64;
    let most = graph::live_bytes(graph, &|id| bytes.get(&id).copied().unwrap_or(0));
    Ok(most.div_ceil(rows))
}

fn size(tensor: &Tensor) -> u64 {
    let values: usize = tensor.shape().iter().product();
    (values * tensor.dtype().bytes().unwrap_or(1)) as u64
}

/// How many samples of so many bytes fit into `free` bytes; at least one.
pub fn fitting(free: u64, sample_bytes: u64) -> usize {
    let room = free / 5 * FIFTHS;
    let count = (room / sample_bytes.max(1)).clamp(1, MOST);
    usize::try_from(count).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::testing::engines;
    use crate::onnx::{DataType, Dim, GraphProto, ModelProto, NodeProto, ValueInfoProto};

    #[test]
    fn a_sample_takes_what_lives_at_once() {
        let port = |name| {
            let dims = [Dim::Symbol("n".to_owned()), Dim::Fixed(10)];
            ValueInfoProto::tensor(name, DataType::Float, &dims)
        };
        let mut graph = GraphProto::new("test");
        graph.input = vec![port("x")];
        graph.output = vec![port("y")];
        // 40 bytes each: x and a; then a, b and c; then b, c and y.
        graph.node = vec![
            NodeProto::new("Relu", &["x"], &["a"]),
            NodeProto::new("Neg", &["a"], &["b"]),
            NodeProto::new("Exp", &["a"], &["c"]),
            NodeProto::new("Add", &["b", "c"], &["y"]),
        ];
        let model = ModelProto::new(graph, 17);
        let graph = Graph::new(&model).unwrap();
        let shapes = Shapes::declared(&graph);
        for (engine, rows) in engines().iter().zip([1, 3]) {
            let sample = Tensor::f32([rows, 10], vec![0.5; rows * 10]).unwrap();
            let bytes = sample_bytes(engine.as_ref(), &graph, &shapes, &sample).unwrap();
            assert_eq!(bytes, 120, "{}", engine.info());
        }
    }

    #[test]
    fn free_memory_decides_within_limits() {
        let cases = [
            (0, 1000, 1),
            (1000, 1000, 1),
            (10_000, 1000, 6),
            (u64::MAX, 1000, 256),
            (1000, 0, 256),
        ];
        for (free, sample, expected) in cases {
            assert_eq!(fitting(free, sample), expected, "{free} {sample}");
        }
    }
}
