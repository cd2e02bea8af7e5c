use super::*;
use crate::{
    error::{Error, Result},
    graph::{Graph, Shapes},
    onnx::{DataType, Dim, GraphProto, ModelProto, NodeProto, Tensor, ValueInfoProto},
};

fn node(op: &str, inputs: &[&str], output: &str) -> NodeProto {
    NodeProto::new(op, inputs, &[output]).with_name(&format!("node_{output}"))
}

/// `x [n, 4]`; weights `a [4, 6]`, `b [6, 5]`, `c [5, 3]`, `d [6, 3]`; Gemm and MatMul only.
fn model(nodes: Vec<NodeProto>, outputs: &[&str]) -> ModelProto {
    let mut graph = GraphProto::new("test");
    let n = Dim::Symbol("n".to_owned());
    graph.input = vec![ValueInfoProto::tensor(
        "x",
        DataType::Float,
        &[n, Dim::Fixed(4)],
    )];
    graph.output = outputs
        .iter()
        .map(|name| ValueInfoProto::tensor(name, DataType::Float, &[Dim::Unknown, Dim::Unknown]))
        .collect();
    graph.node = nodes;
    for (name, rows, columns) in [("a", 4, 6), ("b", 6, 5), ("c", 5, 3), ("d", 6, 3)] {
        let values = vec![0.5; rows * columns];
        let tensor = Tensor::f32([rows, columns], values).unwrap();
        graph.initializer.push(tensor.to_proto(name));
    }
    ModelProto::new(graph, 18)
}

/// Everything about a head that a test may look at, in names.
#[derive(Debug, PartialEq)]
struct Found {
    layers: Vec<(String, usize)>,
    scores: String,
    logits: String,
    ending: Ending,
    features: Vec<String>,
}

fn find_in(model: &ModelProto) -> Result<(Found, Vec<String>)> {
    let graph = Graph::new(model)?;
    let head = find(&graph, &Shapes::declared(&graph))?;
    let name = |id| graph.name(id).to_owned();
    let layers = head.layers.iter();
    let found = Found {
        layers: layers
            .map(|layer| (layer.name.clone(), layer.width()))
            .collect(),
        scores: name(head.scores.value),
        logits: name(head.scores.logits),
        ending: head.scores.ending,
        features: head.features.iter().map(|&id| name(id)).collect(),
    };
    Ok((found, head.notes))
}

fn two_dense() -> Vec<NodeProto> {
    vec![
        node("Gemm", &["x", "a"], "h"),
        node("Relu", &["h"], "r"),
        node("Gemm", &["r", "d"], "y"),
    ]
}

#[test]
fn endings_are_recognised_and_decisions_stepped_over() {
    let with = |more: Vec<NodeProto>| {
        let mut nodes = two_dense();
        nodes.extend(more);
        nodes
    };
    let cases = [
        (vec![], "y", "y", "y", Ending::Logits),
        (
            vec![node("Softmax", &["y"], "p")],
            "p",
            "p",
            "y",
            Ending::Softmax,
        ),
        (
            vec![node("LogSoftmax", &["y"], "p")],
            "p",
            "p",
            "y",
            Ending::LogSoftmax,
        ),
        (
            vec![node("Sigmoid", &["y"], "p")],
            "p",
            "p",
            "y",
            Ending::Sigmoid,
        ),
        (
            vec![node("ArgMax", &["y"], "k")],
            "k",
            "y",
            "y",
            Ending::Logits,
        ),
        (
            vec![
                node("Softmax", &["y"], "p"),
                node("ZipMap", &["p"], "k").with_domain("ai.onnx.ml"),
            ],
            "k",
            "p",
            "y",
            Ending::Softmax,
        ),
        (
            vec![node("Softmax", &["y"], "p"), node("ArgMax", &["p"], "k")],
            "k",
            "p",
            "y",
            Ending::Softmax,
        ),
    ];
    for (more, output, scores, logits, ending) in cases {
        let (found, _) = find_in(&model(with(more), &[output])).unwrap();
        let expected = Found {
            layers: vec![("features".to_owned(), 4), ("fc1".to_owned(), 6)],
            scores: scores.to_owned(),
            logits: logits.to_owned(),
            ending,
            features: vec!["x".to_owned()],
        };
        assert_eq!(found, expected, "output {output}");
    }
}

#[test]
fn an_embedding_that_is_also_an_output_keeps_its_width_and_is_named() {
    let (found, notes) = find_in(&model(two_dense(), &["r", "y"])).unwrap();
    assert_eq!(found.scores, "y");
    let note = notes
        .iter()
        .find(|note| note.contains("output of the model"));
    assert!(note.is_some_and(|note| note.contains("\"r\"")), "{notes:?}");
}

#[test]
fn a_second_head_is_named_and_keeps_the_features_it_reads() {
    let mut nodes = two_dense();
    nodes.push(node("Gemm", &["x", "a"], "other"));
    let (found, notes) = find_in(&model(nodes, &["y", "other"])).unwrap();
    assert_eq!(found.scores, "y");
    assert_eq!(found.layers[0], ("features".to_owned(), 4));
    assert!(
        notes.iter().any(|note| note.contains("\"other\"")),
        "{notes:?}"
    );
}

#[test]
fn what_was_tried_is_listed_where_no_head_is_found() {
    let relu = node("Relu", &["x"], "y");
    let quantized = node("DequantizeLinear", &["x", "a"], "y");
    let computed = vec![node("Sin", &["x"], "s"), node("Add", &["s", "s"], "y")];
    for (nodes, words) in [
        (vec![relu], "reaches the model's input \"x\""),
        (vec![quantized], "prune the model first, then quantize it"),
        (computed, "is no dense layer"),
    ] {
        let error = find_in(&model(nodes, &["y"])).unwrap_err();
        assert!(matches!(error, Error::NoHead { .. }), "{error:?}");
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[test]
fn random_numbers_are_told() {
    let with = |more: Vec<NodeProto>, logits: &str| {
        let mut nodes = vec![node("Gemm", &["x", "a"], "h")];
        nodes.extend(more);
        nodes.push(node("Gemm", &[logits, "d"], "y"));
        let mut model = model(nodes, &["y"]);
        for (name, value) in [("off", 0.0), ("half", 0.5), ("on", 1.0)] {
            let tensor = Tensor::f32([], vec![value]).unwrap().to_proto(name);
            model.graph.as_mut().unwrap().initializer.push(tensor);
        }
        find_in(&model).unwrap().1
    };
    let drop = |inputs: &[&str]| with(vec![node("Dropout", inputs, "r")], "r");
    let noise = |op: &str| vec![node(op, &["h"], "noise"), node("Mul", &["h", "noise"], "r")];
    let cases = [
        (drop(&["h"]), None),
        (drop(&["h", "half", "off"]), None),
        (drop(&["h", "off", "on"]), None),
        (drop(&["h", "half", "on"]), Some("node_r")),
        (drop(&["h", "", "on"]), Some("node_r")),
        (with(noise("RandomUniformLike"), "r"), Some("node_noise")),
        (with(noise("Bernoulli"), "r"), Some("node_noise")),
        // what the scores do not depend on
        (with(noise("RandomNormalLike"), "h"), None),
        (with(noise("Sigmoid"), "r"), None),
    ];
    for (at, (notes, expected)) in cases.into_iter().enumerate() {
        let told: Vec<&String> = { notes.iter() }
            .filter(|note| note.contains("draws random numbers"))
            .collect();
        assert_eq!(
            told.len(),
            usize::from(expected.is_some()),
            "{at}: {notes:?}"
        );
        if let Some(name) = expected {
            assert!(told[0].contains(name), "{at}: {told:?}");
        }
    }
}
