use super::*;
use crate::{
    engine::testing,
    head::find,
    onnx::{DataType, GraphProto, NodeProto},
};

/// Sums of a few f32 products in different orders.
const ENGINE_TOLERANCE: f32 = 1e-5;

fn node(op: &str, inputs: &[&str], output: &str) -> NodeProto {
    NodeProto::new(op, inputs, &[output]).with_name(&format!("node_{output}"))
}

fn values(count: usize) -> Vec<f32> {
    (0..count)
        .map(|i| ((i * 7 + 3) % 11) as f32 / 5.0 - 1.0)
        .collect()
}

fn info(name: &str, sizes: &[usize]) -> ValueInfoProto {
    let batch = Dim::Symbol("n".to_owned());
    let dims: Vec<Dim> = [batch]
        .into_iter()
        .chain(sizes.iter().map(|&s| Dim::Fixed(s)))
        .collect();
    ValueInfoProto::tensor(name, DataType::Float, &dims)
}

/// `x [n, 4] -> r [n, 6]`, then `nodes`; three classes, `y` and `r` are outputs.
fn model(nodes: &[NodeProto], outputs: &[ValueInfoProto]) -> ModelProto {
    let mut graph = GraphProto::new("test");
    graph.input = vec![info("x", &[4])];
    graph.output = outputs.to_vec();
    graph.output.push(info("r", &[6]));
    graph.node = vec![node("Gemm", &["x", "a"], "h"), node("Relu", &["h"], "r")];
    graph.node.extend_from_slice(nodes);
    for (name, shape) in [
        ("a", vec![4, 6]),
        ("w", vec![6, 3]),
        ("wt", vec![3, 6]),
        ("k", vec![3, 6, 1, 1]),
        ("b", vec![3]),
        ("b2", vec![1, 3]),
        ("two", vec![]),
        ("three", vec![3]),
    ] {
        let tensor = Tensor::f32(shape.clone(), values(shape.iter().product())).unwrap();
        let positive = tensor
            .to_f32()
            .iter()
            .map(|value| value.abs() + 1.0)
            .collect();
        let tensor = if name.starts_with('t') {
            Tensor::f32(shape, positive).unwrap()
        } else {
            tensor
        };
        graph.initializer.push(tensor.to_proto(name));
    }
    for (name, sizes) in [
        ("to_class", vec![-1, 3]),
        ("to_rest", vec![0, -1]),
        ("to_map", vec![0, 6, 1, 1]),
        ("only_class", vec![3]),
        ("zero", vec![0]),
    ] {
        graph
            .initializer
            .push(Tensor::i64([sizes.len()], sizes).unwrap().to_proto(name));
    }
    graph.value_info = vec![info("c", &[3, 1, 1]), info("m", &[6, 1, 1])];
    ModelProto::new(graph, 17)
}

fn replaced(model: &ModelProto, weights: &LastWeights) -> Result<ModelProto> {
    let graph = Graph::new(model)?;
    let shapes = Shapes::declared(&graph);
    let head = find(&graph, &shapes)?;
    let last = LastLayer::of(&graph, &shapes, &head.scores)?;
    assert_eq!(
        (graph.name(last.input), last.width, last.classes),
        (
            if head
                .scores
                .last
                .iter()
                .any(|&n| graph.node(n).op() == "Conv")
            {
                "m"
            } else {
                "r"
            },
            6,
            3
        )
    );
    let (changed, _) = last.replaced(weights)?;
    let classes = weights.bias.len();
    let known = last.with_classes(&shapes, classes);
    let new = Graph::new(&changed)?;
    for (id, name) in new.outputs().iter().map(|&id| (id, new.name(id))) {
        let old = graph.value(name).map(|id| known.dims(id));
        assert_eq!(Some(Shapes::declared(&new).dims(id)), old, "{name}");
    }
    Ok(changed)
}

/// Row-major `[n, K]`, of what the new layer and the ending make of `r`.
fn expected(r: &[f32], weights: &LastWeights, ending: &str) -> Vec<f32> {
    let classes = weights.bias.len();
    let mut all = Vec::new();
    for row in r.chunks_exact(6) {
        let scores: Vec<f64> = (0..classes)
            .map(|class| {
                let weight = &weights.weight[class * 6..][..6];
                let products = weight.iter().zip(row).map(|(w, x)| w * f64::from(*x));
                products.sum::<f64>() + weights.bias[class]
            })
            .collect();
        let sum: f64 = scores.iter().map(|score| score.exp()).sum();
        let top = (0..classes)
            .max_by(|&a, &b| scores[a].total_cmp(&scores[b]))
            .unwrap();
        match ending {
            "Softmax" => all.extend(scores.iter().map(|score| (score.exp() / sum) as f32)),
            "ArgMax" => all.push(top as f32),
            _ => all.extend(scores.iter().map(|&score| score as f32)),
        }
    }
    all
}

fn weights(classes: usize) -> LastWeights {
    let wide = |count: usize| values(count).into_iter().map(f64::from).collect::<Vec<_>>();
    LastWeights {
        weight: wide(classes * 6),
        bias: wide(classes + 2)[2..].to_vec(),
    }
}

#[test]
fn a_new_last_layer_computes_its_scores_however_the_old_one_was_written() {
    struct Case {
        nodes: Vec<NodeProto>,
        /// Of the output `y`, without the batch.
        declared: Vec<usize>,
        ending: &'static str,
    }
    let scores = |nodes: Vec<NodeProto>, ending| Case {
        nodes,
        declared: vec![3],
        ending,
    };
    let gemm = |inputs: &[&str], output: &str| node("Gemm", inputs, output);
    let conv = |more: NodeProto| {
        vec![
            node("Reshape", &["r", "to_map"], "m"),
            node("Conv", &["m", "k", "b"], "c"),
            more,
        ]
    };
    let shape = |output: &str| {
        vec![
            node("Shape", &["x"], "s"),
            node("Gather", &["s", "zero"], "n"),
            node("Concat", &["n", "only_class"], "t").with_int("axis", 0),
            node("Reshape", &["c", "t"], output),
        ]
    };
    let mut computed = conv(node("Identity", &["b"], "unused"));
    computed.truncate(2);
    computed.extend(shape("y"));
    let cases = [
        // without a bias, with factors
        scores(vec![gemm(&["r", "w"], "y").with_float("alpha", 2.0)], ""),
        scores(
            vec![
                gemm(&["r", "wt", "b"], "y")
                    .with_int("transB", 1)
                    .with_float("beta", 0.5),
            ],
            "",
        ),
        scores(
            vec![gemm(&["r", "w", "b"], "y").with_float("beta", 0.0)],
            "",
        ),
        // MatMul with a bias in an Add, without one, and with one that does not count classes
        scores(
            vec![
                node("MatMul", &["r", "w"], "p"),
                node("Add", &["b2", "p"], "l"),
                node("Softmax", &["l"], "y").with_int("axis", -1),
            ],
            "Softmax",
        ),
        scores(vec![node("MatMul", &["r", "w"], "y")], ""),
        // convolutions, and targets that name the classes, do not, or are computed
        scores(conv(node("Flatten", &["c"], "y")), ""),
        scores(conv(node("Reshape", &["c", "to_class"], "y")), ""),
        scores(conv(node("Reshape", &["c", "to_rest"], "y")), ""),
        scores(computed, ""),
        Case {
            nodes: conv(node("Identity", &["c"], "y")),
            declared: vec![3, 1, 1],
            ending: "",
        },
        // a constant factor behind the layer is taken out of its weights
        scores(
            vec![gemm(&["r", "w"], "l"), node("Div", &["l", "two"], "y")],
            "",
        ),
        // a decision
        Case {
            nodes: vec![
                gemm(&["r", "w"], "l"),
                node("ArgMax", &["l"], "top")
                    .with_int("axis", 1)
                    .with_int("keepdims", 0),
                node("Cast", &["top"], "y").with_int("to", DataType::Float as i64),
            ],
            declared: vec![],
            ending: "ArgMax",
        },
    ];
    let x = Tensor::f32([5, 4], values(20)).unwrap();
    for case in cases {
        let original = model(&case.nodes, &[info("y", &case.declared)]);
        for classes in [2, 3, 7] {
            let new = weights(classes);
            let changed = replaced(&original, &new).unwrap();
            let outputs = &changed.graph.as_ref().unwrap().output;
            let wanted = case
                .declared
                .iter()
                .map(|&size| if size == 3 { classes } else { size });
            assert_eq!(outputs[0], info("y", &wanted.collect::<Vec<_>>()));
            for engine in testing::engines() {
                let got = engine.load(&changed).unwrap().run(&[("x", &x)]).unwrap();
                let wanted = expected(&got[1].to_f32(), &new, case.ending);
                let far = got[0]
                    .to_f32()
                    .iter()
                    .zip(&wanted)
                    .map(|(a, b)| (a - b).abs())
                    .fold(0.0, f32::max);
                assert!(
                    got[0].to_f32().len() == wanted.len() && far < ENGINE_TOLERANCE,
                    "{:?} to {classes} in {}: {far}",
                    case.nodes.iter().map(|node| node.op()).collect::<Vec<_>>(),
                    engine.info().name
                );
            }
        }
    }
}

#[test]
fn what_other_nodes_read_stays() {
    let nodes = [
        node("Gemm", &["r", "w", "b"], "y"),
        node("Gemm", &["r", "w", "b"], "z"),
        node("Relu", &["z"], "other"),
    ];
    let original = model(&nodes, &[info("y", &[3]), info("other", &[3])]);
    let changed = replaced(&original, &weights(2)).unwrap();
    let x = Tensor::f32([2, 4], values(8)).unwrap();
    for engine in testing::engines() {
        let run = |model| engine.load(model).unwrap().run(&[("x", &x)]).unwrap();
        let (before, after) = (run(&original), run(&changed));
        assert_eq!(after[0].shape(), [2, 2]);
        assert_eq!(before[1], after[1]);
    }
}

#[test]
fn what_speaks_of_the_old_classes_is_refused() {
    let gemm = || node("Gemm", &["r", "w"], "l");
    let cases: Vec<(Vec<NodeProto>, &str)> = vec![
        (
            vec![gemm(), node("Mul", &["l", "three"], "y")],
            "node \"node_y\" (Mul, opset 17): stands behind the last layer and is no multiplication by one positive constant",
        ),
        (
            vec![gemm(), node("Div", &["two", "l"], "y")],
            "is no multiplication by one positive constant",
        ),
        (
            vec![gemm(), node("Relu", &["l"], "y")],
            "nothing is known of it for other classes",
        ),
        (
            vec![
                gemm(),
                node("Gemm", &["r", "w"], "q"),
                node("Add", &["l", "q"], "y"),
            ],
            "one last layer can be replaced, not several",
        ),
    ];
    for (nodes, words) in cases {
        let error = replaced(&model(&nodes, &[info("y", &[3])]), &weights(2)).unwrap_err();
        assert!(matches!(error, Error::Unsupported { .. }), "{error:?}");
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[test]
fn a_layer_that_makes_a_map_of_scores_is_refused() {
    let nodes = [
        node("Reshape", &["r", "to_map"], "m"),
        node("Conv", &["m", "k"], "c"),
        node("GlobalAveragePool", &["c"], "g"),
        node("Flatten", &["g"], "y"),
    ];
    let mut original = model(&nodes, &[info("y", &[3])]);
    original.graph.as_mut().unwrap().value_info =
        vec![info("c", &[3, 2, 3]), info("m", &[6, 2, 3])];
    let error = replaced(&original, &weights(2)).unwrap_err().to_string();
    assert!(error.contains("at many positions"), "{error}");
}

#[test]
fn weights_that_do_not_fit_are_refused() {
    let original = model(&[node("Gemm", &["r", "w"], "y")], &[info("y", &[3])]);
    let mut wrong = weights(2);
    wrong.weight.pop();
    assert!(matches!(
        replaced(&original, &wrong),
        Err(Error::Argument { .. })
    ));
}
