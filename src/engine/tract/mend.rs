//! What a valid model needs so that tract reads it as ONNX means it.
//!
//! Each mend says in the same words, to tract 0.23.9, what the model already says; none changes
//! what is computed. Found by running a zoo of 190 exports in both engines; a mend can go when tract
//! reads the model without it, which the test that names it shows.

use crate::onnx::proto::type_proto;
use crate::onnx::{AttributeProto, GraphProto, NodeProto, Tensor, TensorData};

/// First operator set in which Add broadcasts like Gemm's third input.
const BROADCASTING: i64 = 7;

/// Applies every mend to a graph and the graphs in it.
pub(super) fn mend(graph: &mut GraphProto, opset: i64) {
    forget_shapes(graph);
    state_default_fill(&mut graph.node);
    if opset >= BROADCASTING {
        split_biases(graph);
    }
    let attributes = graph.node.iter_mut().flat_map(|node| &mut node.attribute);
    for inner in attributes.flat_map(subgraphs) {
        mend(inner, opset);
    }
}

fn subgraphs(attribute: &mut AttributeProto) -> impl Iterator<Item = &mut GraphProto> {
    attribute.g.iter_mut().chain(&mut attribute.graphs)
}

/// Exporters leave shape notes (`value_info`, symbolic batch sizes, output shapes) that tract holds
/// against the concrete input shapes it is given, and then it refuses the model.
fn forget_shapes(graph: &mut GraphProto) {
    graph.value_info.clear();
    for info in graph.input.iter_mut().chain(&mut graph.output) {
        if let Some(type_proto::Value::TensorType(tensor)) =
            info.r#type.as_mut().and_then(|kind| kind.value.as_mut())
        {
            tensor.shape = None;
        }
    }
}

/// ConstantOfShape without a value fills with f32 zeros; tract takes f64 ones. (Swin, dynamo.)
fn state_default_fill(nodes: &mut [NodeProto]) {
    for node in nodes {
        if node.op() == "ConstantOfShape" && node.attribute("value").is_none() {
            let zero = Tensor::new([1], TensorData::F32(vec![0.0]));
            let zero = zero.expect("one value fits the shape of one value");
            *node = std::mem::take(node).with_tensor("value", zero.to_proto(""));
        }
    }
}

/// tract multiplies Gemm's third input by an f32 `beta`, whatever the type of the rest, and so
/// refuses f16 and f64: the sum is written as an Add of its own.
fn split_biases(graph: &mut GraphProto) {
    let nodes = std::mem::take(&mut graph.node);
    for node in nodes {
        match split_bias(&node) {
            Some(pair) => graph.node.extend(pair),
            None => graph.node.push(node),
        }
    }
}

fn split_bias(node: &NodeProto) -> Option<[NodeProto; 2]> {
    let plain = |name| node.float(name).is_none_or(|factor| factor == 1.0);
    let ([a, b, c], [y]) = (node.input.as_slice(), node.output.as_slice()) else {
        return None;
    };
    if node.op() != "Gemm" || c.is_empty() || !plain("alpha") || !plain("beta") {
        return None;
    }
    let product_name = format!("{y} without bias");
    let mut product = node.clone();
    product.input = vec![a.clone(), b.clone()];
    product.output = vec![product_name.clone()];
    // tract wants names that differ, and nodes may have none; values always do.
    product.name = Some(product_name.clone());
    let sum = NodeProto::new("Add", &[&product_name, c], &[y]).with_name(node.name());
    Some([product, sum])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Engine, testing};
    use crate::onnx::{DataType, Dim, ModelProto, ValueInfoProto};

    /// Runs `x` of shape [2, 2] through the nodes in both engines and gives what each says.
    fn run(nodes: Vec<NodeProto>, x: TensorData, constants: &[(&str, Tensor)]) -> Vec<Tensor> {
        let dtype = x.dtype();
        let mut graph = GraphProto::new("mend");
        let stale = [Dim::Symbol("stale".to_owned()), Dim::Fixed(2)];
        graph.input = vec![ValueInfoProto::tensor("x", dtype, &stale)];
        graph.output = vec![ValueInfoProto::tensor("y", dtype, &stale)];
        graph.initializer = constants
            .iter()
            .map(|(name, tensor)| tensor.to_proto(*name))
            .collect();
        graph.node = nodes;
        let model = ModelProto::new(graph, 17);
        let x = Tensor::new([2, 2], x).unwrap();
        let run = |engine: &dyn Engine| {
            let mut session = engine.load(&model).unwrap();
            session.run(&[("x", &x)]).unwrap().remove(0)
        };
        testing::engines()
            .iter()
            .map(|engine| run(engine.as_ref()))
            .collect()
    }

    #[test]
    fn fill_without_value_is_f32_zeros() {
        let fill = NodeProto::new("ConstantOfShape", &["shape"], &["zeros"]);
        let shape = Tensor::i64([1], vec![2]).unwrap();
        let add = NodeProto::new("Add", &["x", "zeros"], &["y"]);
        let x = TensorData::F32(vec![1., 2., 3., 4.]);
        let results = run(vec![fill, add], x.clone(), &[("shape", shape)]);
        let expected = Tensor::new([2, 2], x).unwrap();
        assert_eq!(results, [expected.clone(), expected]);
    }

    #[test]
    fn gemm_with_bias_runs_in_every_float_type() {
        for dtype in [DataType::Float, DataType::Float16, DataType::Double] {
            for alpha in [None, Some(1.0)] {
                let mut gemm =
                    NodeProto::new("Gemm", &["x", "w", "b"], &["y"]).with_int("transB", 1);
                if let Some(alpha) = alpha {
                    gemm = gemm.with_float("alpha", alpha);
                }
                let cast = |shape: &[usize], values: Vec<f32>| {
                    let tensor = Tensor::f32(shape, values).unwrap();
                    tensor.cast(dtype).unwrap()
                };
                let w = cast(&[2, 2], vec![1., 2., 3., 4.]);
                let b = cast(&[2], vec![0.5, -0.5]);
                let x = cast(&[2, 2], vec![1., 0., 1., 1.]).into_data();
                let results = run(vec![gemm], x, &[("w", w), ("b", b)]);
                let expected = cast(&[2, 2], vec![1.5, 2.5, 3.5, 6.5]);
                assert_eq!(results, [expected.clone(), expected], "{dtype}");
            }
        }
    }

    #[test]
    fn gemms_without_names_are_told_apart() {
        let w = Tensor::f32([2, 2], vec![1., 2., 3., 4.]).unwrap();
        let b = Tensor::f32([2], vec![0.5, -0.5]).unwrap();
        let first = NodeProto::new("Gemm", &["x", "w", "b"], &["h"]);
        let second = NodeProto::new("Gemm", &["h", "w", "b"], &["y"]);
        let x = TensorData::F32(vec![1., 0., 0., 1.]);
        let results = run(vec![first, second], x, &[("w", w), ("b", b)]);
        let expected = Tensor::f32([2, 2], vec![6.5, 8.5, 14.5, 20.5]).unwrap();
        assert_eq!(results, [expected.clone(), expected]);
    }

    #[test]
    fn scaled_gemm_is_left_alone() {
        let w = Tensor::f32([2, 2], vec![1., 2., 3., 4.]).unwrap();
        let b = Tensor::f32([2], vec![1., 2.]).unwrap();
        let gemm = NodeProto::new("Gemm", &["x", "w", "b"], &["y"])
            .with_float("alpha", 2.)
            .with_float("beta", 10.);
        let x = TensorData::F32(vec![1., 0., 0., 1.]);
        let results = run(vec![gemm], x, &[("w", w), ("b", b)]);
        let expected = Tensor::f32([2, 2], vec![12., 24., 16., 28.]).unwrap();
        assert_eq!(results, [expected.clone(), expected]);
    }
}
