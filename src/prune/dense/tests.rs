use super::*;
use crate::{
    engine::testing::engines,
    onnx::{Dim, GraphProto, ValueInfoProto},
};

/// Summation order differs where a bias moves from an Add into a Gemm; f16 rounds at 1e-3.
const F32_TOLERANCE: f32 = 1e-6;

fn weights(shape: &[usize], seed: usize) -> Tensor {
    let count: usize = shape.iter().product();
    let values = (0..count).map(|at| ((at * 7 + seed * 5) % 11) as f32 / 4.0 - 1.0);
    Tensor::f32(shape, values.collect()).unwrap()
}

/// One form of a dense layer; `x` is `[2, 3]`, the layer makes 4 values named `y`, the model gives
/// `out`.
struct Form {
    what: &'static str,
    nodes: Vec<NodeProto>,
    initializers: Vec<(&'static str, Tensor)>,
    x: &'static [usize],
    expected: Result<Expected, &'static str>,
}

struct Expected {
    kind: Kind,
    value: &'static str,
    axes: (usize, usize),
    alpha: f64,
    beta: f64,
}

fn is(kind: Kind, value: &'static str, axes: (usize, usize)) -> Result<Expected, &'static str> {
    Ok(Expected {
        kind,
        value,
        axes,
        alpha: 1.0,
        beta: 1.0,
    })
}

fn node(op: &str, inputs: &[&str], output: &str) -> NodeProto {
    NodeProto::new(op, inputs, &[output])
}

fn after(mut nodes: Vec<NodeProto>, value: &str) -> Vec<NodeProto> {
    nodes.push(node("Relu", &[value], "out"));
    nodes
}

fn gemm_forms() -> Vec<Form> {
    let plain = vec![("w", weights(&[3, 4], 1)), ("b", weights(&[4], 2))];
    let gemm = || node("Gemm", &["x", "w", "b"], "y");
    vec![
        Form {
            what: "Gemm that owns all",
            nodes: after(vec![gemm()], "y"),
            initializers: plain.clone(),
            x: &[2, 3],
            expected: is(Kind::Gemm, "y", (0, 1)),
        },
        Form {
            what: "Gemm without bias, weight transposed",
            nodes: after(
                vec![node("Gemm", &["x", "w"], "y").with_int("transB", 1)],
                "y",
            ),
            initializers: vec![("w", weights(&[4, 3], 1))],
            x: &[2, 3],
            expected: is(Kind::Gemm, "y", (1, 0)),
        },
        Form {
            what: "Gemm on transposed rows with factors",
            nodes: after(
                vec![
                    gemm()
                        .with_int("transA", 1)
                        .with_float("alpha", 2.0)
                        .with_float("beta", 0.5),
                ],
                "y",
            ),
            initializers: plain.clone(),
            x: &[3, 2],
            expected: Ok(Expected {
                kind: Kind::TransposedGemm,
                value: "y",
                axes: (0, 1),
                alpha: 2.0,
                beta: 0.5,
            }),
        },
        Form {
            what: "Gemm that ignores its bias",
            nodes: after(vec![gemm().with_float("beta", 0.0)], "y"),
            initializers: plain.clone(),
            x: &[2, 3],
            expected: is(Kind::Gemm, "y", (0, 1)),
        },
        Form {
            what: "Gemm with one bias for all outputs",
            nodes: after(vec![gemm()], "y"),
            initializers: vec![("w", weights(&[3, 4], 1)), ("b", weights(&[1, 1], 2))],
            x: &[2, 3],
            expected: is(Kind::Gemm, "y", (0, 1)),
        },
        Form {
            what: "Gemm with a bias per row",
            nodes: after(vec![gemm()], "y"),
            initializers: vec![("w", weights(&[3, 4], 1)), ("b", weights(&[2, 4], 2))],
            x: &[2, 3],
            expected: Err("is not one value per output"),
        },
        Form {
            what: "Gemm whose weight another node reads",
            nodes: after(
                vec![
                    gemm(),
                    node("ReduceSum", &["w"], "s"),
                    node("Add", &["y", "s"], "z"),
                ],
                "z",
            ),
            initializers: plain.clone(),
            x: &[2, 3],
            expected: is(Kind::Gemm, "y", (0, 1)),
        },
        Form {
            what: "Gemm with computed weights",
            nodes: after(
                vec![
                    node("Neg", &["w"], "n"),
                    node("Gemm", &["x", "n", "b"], "y"),
                ],
                "y",
            ),
            initializers: plain,
            x: &[2, 3],
            expected: Err("has weights that are computed"),
        },
    ]
}

fn other_forms() -> Vec<Form> {
    let matmul = || node("MatMul", &["x", "w"], "y");
    let plain = vec![("w", weights(&[3, 4], 1)), ("b", weights(&[4], 2))];
    vec![
        Form {
            what: "MatMul and Add",
            nodes: after(vec![matmul(), node("Add", &["b", "y"], "z")], "z"),
            initializers: plain.clone(),
            x: &[2, 5, 3],
            expected: is(Kind::MatMul, "z", (0, 1)),
        },
        Form {
            what: "MatMul alone",
            nodes: after(vec![matmul()], "y"),
            initializers: vec![("w", weights(&[3, 4], 1))],
            x: &[2, 3],
            expected: is(Kind::MatMul, "y", (0, 1)),
        },
        Form {
            what: "MatMul, Reshape, then Add",
            nodes: after(
                vec![
                    matmul(),
                    node("Flatten", &["y"], "f"),
                    node("Add", &["f", "b"], "z"),
                ],
                "z",
            ),
            initializers: plain.clone(),
            x: &[2, 3],
            expected: is(Kind::MatMul, "y", (0, 1)),
        },
        Form {
            what: "MatMul with two readers",
            nodes: after(
                vec![
                    matmul(),
                    node("Add", &["y", "b"], "a"),
                    node("Mul", &["y", "a"], "z"),
                ],
                "z",
            ),
            initializers: plain.clone(),
            x: &[2, 3],
            expected: is(Kind::MatMul, "y", (0, 1)),
        },
        Form {
            what: "MatMul and an Add of one entry per position",
            nodes: after(vec![matmul(), node("Add", &["y", "b"], "z")], "z"),
            initializers: vec![("w", weights(&[3, 4], 1)), ("b", weights(&[5, 4], 2))],
            x: &[2, 5, 3],
            expected: is(Kind::MatMul, "y", (0, 1)),
        },
        Form {
            what: "MatMul with a transposed weight",
            nodes: after(
                vec![
                    node("Transpose", &["v"], "w"),
                    matmul(),
                    node("Add", &["y", "b"], "z"),
                ],
                "z",
            ),
            initializers: vec![("v", weights(&[4, 3], 1)), ("b", weights(&[4], 2))],
            x: &[2, 3],
            expected: is(Kind::MatMul, "z", (0, 1)),
        },
        Form {
            what: "MatMul with one weight per entry",
            nodes: after(vec![matmul()], "y"),
            initializers: vec![("w", weights(&[2, 3, 4], 1))],
            x: &[2, 5, 3],
            expected: Err("has one weight per entry of a batch"),
        },
        Form {
            what: "Conv of one pixel without bias",
            nodes: after(vec![node("Conv", &["x", "w"], "y")], "y"),
            initializers: vec![("w", weights(&[4, 3, 1, 1], 1))],
            x: &[2, 3, 2, 2],
            expected: is(Kind::Pixel, "y", (1, 0)),
        },
        Form {
            what: "Conv of a window, its bias in two places",
            nodes: after(
                vec![
                    node("Conv", &["x", "w", "b"], "y"),
                    node("Add", &["y", "b"], "z"),
                ],
                "z",
            ),
            initializers: vec![("w", weights(&[1, 3, 2, 2], 1)), ("b", weights(&[1], 2))],
            x: &[2, 3, 2, 2],
            expected: is(Kind::Window, "y", (1, 0)),
        },
        Form {
            what: "Conv with padding",
            nodes: after(
                vec![node("Conv", &["x", "w"], "y").with_ints("pads", &[1, 1, 1, 1])],
                "y",
            ),
            initializers: vec![("w", weights(&[4, 3, 3, 3], 1))],
            x: &[2, 3, 2, 2],
            expected: Err("padding or dilation"),
        },
    ]
}

fn model(form: &Form, dtype: DataType) -> ModelProto {
    let mut graph = GraphProto::new("form");
    let dims: Vec<Dim> = form.x.iter().copied().map(Dim::Fixed).collect();
    graph.input = vec![ValueInfoProto::tensor("x", dtype, &dims)];
    let mut output = ValueInfoProto::tensor("out", dtype, &[]);
    if let Some(crate::onnx::proto::type_proto::Value::TensorType(tensor)) =
        output.r#type.as_mut().and_then(|kind| kind.value.as_mut())
    {
        tensor.shape = None;
    }
    graph.output = vec![output];
    graph.node = form.nodes.clone();
    for (name, tensor) in &form.initializers {
        let tensor = tensor.cast(dtype).unwrap();
        graph.initializer.push(tensor.to_proto(*name));
    }
    ModelProto::new(graph, 17)
}

fn outputs(model: &ModelProto, x: &Tensor) -> Vec<Vec<f32>> {
    let engines = engines().into_iter();
    engines
        .map(|engine| {
            let mut session = engine.load(model).unwrap();
            let out = session.run(&[("x", x)]).unwrap();
            out[0].to_f32().into_owned()
        })
        .collect()
}

#[test]
fn every_form_owns_weight_and_bias_and_computes_the_same() {
    for form in gemm_forms().into_iter().chain(other_forms()) {
        let what = form.what;
        let model = model(&form, DataType::Float);
        let x = weights(form.x, 3);
        let dense = with_biases(model.clone(), &["y"]).unwrap();
        let again = with_biases(dense.clone(), &["y"]).unwrap();
        assert_eq!(dense, again, "{what}: twice is once");
        for (before, after) in outputs(&model, &x).iter().zip(outputs(&dense, &x)) {
            assert_eq!(before.len(), after.len(), "{what}");
            for (before, after) in before.iter().zip(&after) {
                assert!(
                    (before - after).abs() <= F32_TOLERANCE,
                    "{what}: {before} {after}"
                );
            }
        }
        let graph = Graph::new(&dense).unwrap();
        match (find(&graph, "y"), form.expected) {
            (Ok(found), Ok(expected)) => {
                let seen = (found.kind, found.value.as_str(), found.alpha, found.beta);
                let wanted = (expected.kind, expected.value, expected.alpha, expected.beta);
                assert_eq!(seen, wanted, "{what}");
                assert_eq!(
                    (found.input_axis, found.output_axis),
                    expected.axes,
                    "{what}"
                );
                assert_eq!(found.input, "x", "{what}");
            }
            (Err(found), Err(why)) => {
                assert!(found.to_string().contains(why), "{what}: {found}");
            }
            (found, _) => panic!("{what}: {found:?}"),
        }
    }
}

#[test]
fn weights_and_biases_set_by_name_are_what_the_layer_computes_with() {
    for form in gemm_forms().into_iter().chain(other_forms()) {
        let (what, x) = (form.what, weights(form.x, 3));
        let mut dense = with_biases(model(&form, DataType::Float), &["y"]).unwrap();
        let Ok(found) = find(&Graph::new(&dense).unwrap(), "y") else {
            continue;
        };
        // A product of zeros and a bias of 3 / beta: every pre-activation is 3.
        let weight = Tensor::f32(&*found.shape, vec![0.0; found.shape.iter().product()]);
        let bias = vec![3.0 / found.beta as f32; found.outputs()];
        let bias = Tensor::f32(&*found.bias_shape, bias).unwrap();
        let weight = weight.unwrap().to_proto(found.weight.as_str());
        let bias = bias.to_proto(found.bias.as_str());
        let new = [weight, bias].map(|tensor| (tensor.name().to_owned(), tensor));
        set_weights(&mut dense, &new.into()).unwrap();
        let proto = dense.graph.as_mut().unwrap();
        proto.output[0].name = Some(found.value.clone());
        for values in outputs(&dense, &x) {
            assert!(
                values.iter().all(|&value| value == 3.0),
                "{what}: {values:?}"
            );
        }
    }
}

#[test]
fn half_precision_biases_have_the_weights_type() {
    for dtype in [DataType::Float16, DataType::Double, DataType::Bfloat16] {
        for form in other_forms() {
            let dense = with_biases(model(&form, dtype), &["y"]).unwrap();
            let graph = Graph::new(&dense).unwrap();
            let Ok(found) = find(&graph, "y") else {
                continue;
            };
            let bias = graph.constant(graph.value(&found.bias).unwrap()).unwrap();
            assert_eq!(found.dtype, dtype, "{}", form.what);
            assert_eq!(bias.data_type(), i32::from(dtype), "{}", form.what);
        }
    }
}

#[test]
fn weights_that_do_not_fit_change_nothing() {
    let form = &gemm_forms()[0];
    let mut dense = model(form, DataType::Float);
    let before = dense.clone();
    let good = weights(&[4], 9).to_proto("b");
    let cases = [
        weights(&[4, 3], 1).to_proto("w"),
        weights(&[3, 4], 1)
            .cast(DataType::Double)
            .unwrap()
            .to_proto("w"),
        weights(&[3, 4], 1).to_proto("v"),
    ];
    for bad in cases {
        let new = [good.clone(), bad].map(|tensor| (tensor.name().to_owned(), tensor));
        assert!(set_weights(&mut dense, &new.into()).is_err());
        assert_eq!(dense, before);
    }
}
