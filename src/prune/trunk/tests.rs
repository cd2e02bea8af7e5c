//! One case per operator: `x [N, 3, 4, 4] -> Conv (6 channels) -> operator -> Gather -> sum`.
//!
//! Either the selection reaches the Conv, which then makes two channels and gives the same in both
//! engines, or it stops with the reason that the case names.

use std::collections::BTreeSet;

use super::{rules, shrink};
use crate::{
    engine::testing::engines,
    graph::{Graph, Shapes, TensorType},
    onnx::{DataType, Dim, GraphProto, ModelProto, NodeProto, Tensor, ValueInfoProto},
};

/// The kept channels, of which no group of two or three has more than another.
const KEPT: [i64; 2] = [1, 4];
/// Sums of a few dozen f32 products; a narrower layer may be added up in another order.
const TOLERANCE: f32 = 1e-4;

/// What is expected of the selection.
enum Expected {
    /// It disappears into the first Conv.
    Passes,
    /// It disappears into the operator itself, or whatever is in front of it.
    Ends,
    /// It stays, with these words.
    Stops(&'static str),
}
use Expected::{Ends, Passes, Stops};

struct Case {
    op: &'static str,
    opset: i64,
    /// Nodes from `h [N, 6, 4, 4]` to `z`, whose channels are axis `axis`.
    nodes: Vec<NodeProto>,
    axis: i64,
    expected: Expected,
}

fn node(op: &str, inputs: &[&str], output: &str) -> NodeProto {
    NodeProto::new(op, inputs, &[output]).with_name(&format!("{op}_{output}"))
}

fn case(op: &'static str, nodes: Vec<NodeProto>, expected: Expected) -> Case {
    Case {
        op,
        opset: 18,
        nodes,
        axis: 1,
        expected,
    }
}

fn direct(op: &'static str, inputs: &[&str], expected: Expected) -> Case {
    case(op, vec![node(op, inputs, "z")], expected)
}

fn later(opset: i64, case: Case) -> Case {
    Case { opset, ..case }
}

fn along(axis: i64, case: Case) -> Case {
    Case { axis, ..case }
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for op in [
        "Abs",
        "Cast",
        "Ceil",
        "Celu",
        "Clip",
        "Dropout",
        "Elu",
        "Erf",
        "Exp",
        "Floor",
        "HardSigmoid",
        "HardSwish",
        "Identity",
        "LeakyRelu",
        "Log",
        "Mish",
        "Neg",
        "Reciprocal",
        "Relu",
        "Round",
        "Selu",
        "Shrink",
        "Sigmoid",
        "Sign",
        "Softplus",
        "Softsign",
        "Sqrt",
        "Tanh",
        "ThresholdedRelu",
    ] {
        // Positive, and away from zero: some of these have no value elsewhere.
        let nodes = vec![
            node("Abs", &["h"], "a"),
            node("Add", &["a", "one"], "b"),
            match op {
                "Cast" => node(op, &["b"], "z").with_int("to", 1),
                _ => node(op, &["b"], "z"),
            },
        ];
        cases.push(case(op, nodes, Passes));
    }
    cases.push(later(20, direct("Gelu", &["h"], Passes)));
    for op in [
        "Add", "Div", "Max", "Mean", "Min", "Mul", "PRelu", "Sub", "Sum",
    ] {
        cases.push(direct(op, &["h", "column"], Passes));
        cases.push(direct(op, &["h", "one"], Passes));
    }
    cases.push(direct("Pow", &["h", "two"], Passes));
    for op in ["Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"] {
        let nodes = vec![
            node(op, &["h", "column"], "g"),
            node("Where", &["g", "h", "column"], "z"),
        ];
        cases.push(case(op, nodes, Passes));
    }
    for op in ["And", "Or", "Xor"] {
        let nodes = vec![
            node("Greater", &["h", "one"], "g"),
            node("Less", &["h", "column"], "l"),
            node(op, &["g", "l"], "b"),
            node("Where", &["b", "h", "one"], "z"),
        ];
        cases.push(case(op, nodes, Passes));
    }
    let negated = vec![
        node("Greater", &["h", "one"], "g"),
        node("Not", &["g"], "b"),
        node("Where", &["b", "h", "one"], "z"),
    ];
    cases.push(case("Not", negated, Passes));
    let chosen = vec![
        node("Greater", &["h", "column"], "g"),
        node("Where", &["g", "h", "one"], "z"),
    ];
    cases.push(case("Where", chosen, Passes));
    cases.extend(layers());
    cases.extend(norms());
    cases.extend(maps());
    cases.extend(shapes());
    cases.extend(selections());
    cases
}

fn layers() -> Vec<Case> {
    let grouped =
        |weight: &str, groups: i64| node("Conv", &["h", weight], "z").with_int("group", groups);
    let tokens = |last: NodeProto| {
        vec![
            node("Reshape", &["h", "as_rows"], "r"),
            node("Transpose", &["r"], "t").with_ints("perm", &[0, 2, 1]),
            last,
        ]
    };
    let flat = |last: NodeProto| {
        vec![
            node("GlobalAveragePool", &["h"], "p"),
            node("Flatten", &["p"], "f"),
            last,
        ]
    };
    vec![
        direct("Conv", &["h", "full", "row"], Ends),
        case("Conv", vec![grouped("depthwise", 6)], Passes),
        case("Conv", vec![grouped("pairs", 2)], Ends),
        case("Conv", vec![grouped("triples", 3)], Ends),
        direct("ConvTranspose", &["h", "full", "row"], Ends),
        case(
            "ConvTranspose",
            vec![node("ConvTranspose", &["h", "depthwise"], "z").with_int("group", 6)],
            Stops("grouped"),
        ),
        along(
            2,
            case(
                "MatMul",
                tokens(node("MatMul", &["t", "square"], "z")),
                Ends,
            ),
        ),
        case(
            "Gemm",
            flat(node("Gemm", &["f", "square", "row"], "z")),
            Ends,
        ),
        case(
            "Gemm",
            flat(node("Gemm", &["f", "square", "one"], "z").with_int("transB", 1)),
            Ends,
        ),
        case(
            "DequantizeLinear",
            vec![
                node("QuantizeLinear", &["full", "row", "zeros"], "q").with_int("axis", 0),
                node("DequantizeLinear", &["q", "row", "zeros"], "w").with_int("axis", 0),
                node("Conv", &["h", "w", "row"], "z"),
            ],
            Ends,
        ),
        case(
            "QuantizeLinear",
            vec![
                node("QuantizeLinear", &["h", "one", "zero_byte"], "q"),
                node("DequantizeLinear", &["q", "one", "zero_byte"], "z"),
            ],
            Passes,
        ),
        case(
            "DynamicQuantizeLinear",
            vec![
                NodeProto::new("DynamicQuantizeLinear", &["h"], &["q", "s", "o"])
                    .with_name("DynamicQuantizeLinear"),
                node("DequantizeLinear", &["q", "s", "o"], "z"),
            ],
            Stops("scales that are computed"),
        ),
    ]
}

fn norms() -> Vec<Case> {
    let mixed = "normalises over all channels";
    vec![
        direct(
            "BatchNormalization",
            &["h", "row", "row", "row", "positive"],
            Passes,
        ),
        direct("InstanceNormalization", &["h", "row", "row"], Passes),
        direct("LayerNormalization", &["h", "four"], Passes),
        case(
            "LayerNormalization",
            vec![node("LayerNormalization", &["h", "whole"], "z").with_int("axis", 1)],
            Stops(mixed),
        ),
        direct("Softmax", &["h"], Passes),
        case(
            "Softmax",
            vec![node("Softmax", &["h"], "z").with_int("axis", 1)],
            Stops(mixed),
        ),
        later(12, direct("Softmax", &["h"], Stops(mixed))),
        direct("LogSoftmax", &["h"], Passes),
        case(
            "LpNormalization",
            vec![node("LpNormalization", &["h"], "z").with_int("axis", 1)],
            Stops(mixed),
        ),
        case(
            "LRN",
            vec![node("LRN", &["h"], "z").with_int("size", 3)],
            Stops(mixed),
        ),
        direct("MeanVarianceNormalization", &["h"], Stops(mixed)),
        later(
            21,
            case(
                "GroupNormalization",
                vec![
                    node("GroupNormalization", &["h", "row", "row"], "z").with_int("num_groups", 2),
                ],
                Stops(mixed),
            ),
        ),
        later(23, direct("RMSNormalization", &["h", "four"], Passes)),
    ]
}

fn maps() -> Vec<Case> {
    let window = |op: &'static str| {
        let node = node(op, &["h"], "z").with_ints("kernel_shape", &[2, 2]);
        case(op, vec![node], Passes)
    };
    let reduce = |op: &'static str| {
        let nodes = [node("Exp", &["h"], "e"), node(op, &["e", "last_two"], "z")];
        case(
            op,
            vec![nodes[0].clone(), nodes[1].clone().with_int("keepdims", 0)],
            Passes,
        )
    };
    let older = |op: &'static str| {
        let node = node(op, &["h"], "z").with_ints("axes", &[2, 3]);
        later(12, case(op, vec![node], Passes))
    };
    let mut cases: Vec<Case> = ["GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"]
        .map(|op| direct(op, &["h"], Passes))
        .into();
    cases.extend(["AveragePool", "MaxPool", "LpPool"].map(window));
    cases.extend(["ReduceMean", "ReduceMax"].map(older));
    cases.extend(
        [
            "ReduceL1",
            "ReduceL2",
            "ReduceLogSum",
            "ReduceLogSumExp",
            "ReduceMax",
            "ReduceMean",
            "ReduceMin",
            "ReduceProd",
            "ReduceSum",
            "ReduceSumSquare",
        ]
        .map(reduce),
    );
    cases.push(case(
        "ReduceSum",
        vec![
            node("ReduceSum", &["h", "axis_one"], "r"),
            node("Add", &["h", "r"], "z"),
        ],
        Stops("ReduceSum"),
    ));
    cases.extend([
        direct("Pad", &["h", "pad_map"], Passes),
        direct("Pad", &["h", "pad_channels"], Stops("adds channels")),
        direct("Resize", &["h", "", "scales"], Passes),
        direct("Resize", &["h", "", "", "sizes"], Passes),
        later(9, direct("Upsample", &["h", "scales"], Passes)),
    ]);
    cases
}

fn shapes() -> Vec<Case> {
    let last = |name: &str| node("Transpose", &[name], "z").with_ints("perm", &[0, 2, 3, 1]);
    vec![
        along(3, case("Transpose", vec![last("h")], Passes)),
        direct("Reshape", &["h", "as_rows"], Passes),
        case(
            "Squeeze",
            vec![
                node("GlobalAveragePool", &["h"], "p"),
                node("Squeeze", &["p", "last_two"], "z"),
            ],
            Passes,
        ),
        direct("Unsqueeze", &["h", "last_axis"], Passes),
        case(
            "Flatten",
            vec![
                node("GlobalAveragePool", &["h"], "p"),
                node("Flatten", &["p"], "z"),
            ],
            Passes,
        ),
    ]
}

fn selections() -> Vec<Case> {
    let halves = NodeProto::new("Split", &["h", "halves"], &["s", "t"])
        .with_name("Split")
        .with_int("axis", 1);
    let old_halves = NodeProto::new("Split", &["h"], &["s", "t"])
        .with_name("Split")
        .with_int("axis", 1);
    let join = |axis| node("Concat", &["s", "t"], "z").with_int("axis", axis);
    vec![
        case("Split", vec![halves, join(1)], Passes),
        later(11, case("Split", vec![old_halves, join(1)], Passes)),
        case(
            "Concat",
            vec![node("Relu", &["h"], "s"), node("Neg", &["h"], "t"), join(2)],
            Passes,
        ),
        case(
            "Gather",
            vec![node("Gather", &["h", "backwards"], "z").with_int("axis", 1)],
            Stops("different channels"),
        ),
        direct("Slice", &["h", "first", "third", "axis_two"], Passes),
    ]
}

/// Rules whose operator neither engine runs in such a chain, and what they are like.
const ELSEWHERE: &[(&str, &str)] = &[
    ("FastGelu", "com.microsoft; as Gelu"),
    ("QuickGelu", "com.microsoft; as Gelu"),
    (
        "SimplifiedLayerNormalization",
        "com.microsoft; as LayerNormalization",
    ),
    (
        "SkipLayerNormalization",
        "com.microsoft; as GroupNormalization",
    ),
    (
        "Swish",
        "opset 24, which neither engine runs yet; as Sigmoid",
    ),
];

fn float(name: &str, shape: &[usize], seed: f32) -> crate::onnx::TensorProto {
    let count: usize = shape.iter().product();
    let values = (0..count).map(|index| (index as f32 * 0.7 + seed).sin() + 0.05);
    Tensor::f32(shape, values.collect()).unwrap().to_proto(name)
}

fn int(name: &str, values: &[i64]) -> crate::onnx::TensorProto {
    Tensor::i64([values.len()], values.to_vec())
        .unwrap()
        .to_proto(name)
}

fn model(case: &Case) -> ModelProto {
    let mut graph = GraphProto::new("case");
    let dims = [
        Dim::Symbol("n".to_owned()),
        Dim::Fixed(3),
        Dim::Fixed(4),
        Dim::Fixed(4),
    ];
    graph.input = vec![ValueInfoProto::tensor("x", DataType::Float, &dims)];
    let mut output = ValueInfoProto::tensor("y", DataType::Float, &[]);
    output.r#type = None;
    graph.output = vec![output];
    graph.node = vec![node("Conv", &["x", "w0", "row"], "h")];
    graph.node.extend(case.nodes.clone());
    let pick = node("Gather", &["z", "kept"], "picked").with_int("axis", case.axis);
    graph.node.push(pick);
    graph
        .node
        .push(node("Cast", &["picked"], "y").with_int("to", 1));
    let bytes = |name: &str, shape: &[usize]| {
        let zeros = Tensor::i64(shape, vec![0; shape.iter().product()]).unwrap();
        zeros.cast(DataType::Int8).unwrap().to_proto(name)
    };
    let positive = vec![0.5, 1.0, 1.5, 2.0, 2.5, 3.0];
    let scales = Tensor::f32([4], vec![1.0, 1.0, 2.0, 2.0]).unwrap();
    let constants = [
        float("w0", &[6, 3, 1, 1], 0.1),
        Tensor::f32([6], positive.clone()).unwrap().to_proto("row"),
        Tensor::f32([6], positive).unwrap().to_proto("positive"),
        float("column", &[6, 1, 1], 0.5),
        float("four", &[4], 0.5),
        float("whole", &[6, 4, 4], 0.5),
        Tensor::f32([1], vec![1.0]).unwrap().to_proto("one"),
        Tensor::f32([1], vec![2.0]).unwrap().to_proto("two"),
        float("full", &[6, 6, 1, 1], 0.3),
        float("square", &[6, 6], 0.3),
        float("depthwise", &[6, 1, 2, 2], 0.3),
        float("pairs", &[6, 3, 1, 1], 0.3),
        float("triples", &[6, 2, 1, 1], 0.3),
        bytes("zeros", &[6]),
        bytes("zero_byte", &[1]),
        scales.to_proto("scales"),
        int("sizes", &[3, 6, 8, 8]),
        int("as_rows", &[0, 6, 16]),
        int("last_two", &[2, 3]),
        int("last_axis", &[4]),
        int("axis_one", &[1]),
        int("axis_two", &[2]),
        int("first", &[0]),
        int("third", &[3]),
        int("halves", &[3, 3]),
        int("backwards", &[5, 4, 3, 2, 1, 0]),
        int("pad_map", &[0, 0, 1, 1, 0, 0, 1, 1]),
        int("pad_channels", &[0, 1, 0, 0, 0, 0, 0, 0]),
        int("kept", &KEPT),
    ];
    let read: BTreeSet<&String> = graph.node.iter().flat_map(|node| &node.input).collect();
    let used = constants
        .iter()
        .filter(|tensor| read.contains(tensor.name.as_ref().unwrap()));
    graph.initializer = used.cloned().collect();
    ModelProto::new(graph, case.opset)
}

fn input() -> Tensor {
    let values = (0..144).map(|index| (index as f32 * 1.3).cos());
    Tensor::f32([3, 3, 4, 4], values.collect()).unwrap()
}

/// Shapes of all values, as a probe learns them.
fn shapes_of(graph: &Graph<'_>) -> Shapes {
    let mut shapes = Shapes::declared(graph);
    let made = graph.values().filter(|&id| graph.producer(id).is_some());
    let values: Vec<_> = made.collect();
    let probe = crate::graph::with_outputs(graph, &shapes, &values);
    let mut session = engines()[1]
        .load(&probe)
        .unwrap_or_else(|error| panic!("{error} {:?}", graph.proto().node));
    let outputs = session.run(&[("x", &input())]).unwrap();
    for (&id, tensor) in values.iter().zip(&outputs) {
        let sizes = tensor.shape().iter().enumerate();
        let is_fixed = graph.is_fixed(id);
        let dims = sizes.map(|(axis, &size)| match axis {
            0 if !is_fixed => Dim::Unknown,
            _ => Dim::Fixed(size),
        });
        let dims = dims.collect();
        let dtype = tensor.dtype();
        shapes.learn(id, TensorType { dtype, dims });
    }
    shapes
}

/// Nothing when the case comes out as expected.
fn failure(case: &Case) -> Option<String> {
    let model = model(case);
    let graph = match Graph::new(&model) {
        Ok(graph) => graph,
        Err(error) => return Some(error.to_string()),
    };
    let shrunk = match shrink(&graph, &shapes_of(&graph)) {
        Ok(shrunk) => shrunk,
        Err(error) => return Some(error.to_string()),
    };
    let text = crate::onnx::text::print(shrunk.model.graph.as_ref().unwrap());
    let reaches = |name: &str| shrunk.removed.iter().any(|cut| cut.weight == name);
    let fits = match case.expected {
        Passes => reaches("w0") && shrunk.stops.is_empty(),
        Ends => !shrunk.removed.is_empty() && shrunk.stops.is_empty(),
        Stops(words) => shrunk.stops.iter().any(|stop| stop.why.contains(words)),
    };
    if !fits {
        return Some(format!("{:?} {:?}\n{text}", shrunk.removed, shrunk.stops));
    }
    inexact(&model, &shrunk.model).map(|why| format!("{why}\n{text}"))
}

/// The shrunk model against the whole one, in both engines.
fn inexact(whole: &ModelProto, shrunk: &ModelProto) -> Option<String> {
    for engine in engines() {
        let run = |model: &ModelProto| {
            let session = engine.load(model);
            session.and_then(|mut session| session.run(&[("x", &input())]))
        };
        let (whole, shrunk) = match (run(whole), run(shrunk)) {
            (Ok(whole), Ok(shrunk)) => (whole, shrunk),
            // What tract lacks it lacks in both; ONNX Runtime has proved the case.
            (Err(_), Err(_)) if engine.info().name == "tract" => continue,
            (whole, shrunk) => return Some(format!("{:?} {:?}", whole.err(), shrunk.err())),
        };
        let (a, b) = (whole[0].to_f32(), shrunk[0].to_f32());
        let apart = a.iter().zip(b.iter()).map(|(a, b)| (a - b).abs());
        let worst = apart.fold(0.0_f32, f32::max);
        let largest = a.iter().fold(1.0_f32, |most, value| most.max(value.abs()));
        if a.len() != b.len() || worst.is_nan() || worst > TOLERANCE * largest {
            return Some(format!("{worst} apart in {}", engine.info().name));
        }
    }
    None
}

#[test]
fn every_rule_shrinks_exactly_or_stops_with_its_reason() {
    let failed: Vec<String> = cases()
        .iter()
        .filter_map(|case| Some(format!("{}: {}", case.op, failure(case)?)))
        .collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn every_rule_has_a_case() {
    let cases = cases();
    let elsewhere = |name: &str| ELSEWHERE.iter().any(|(op, _)| *op == name);
    let missing: Vec<&str> = rules::names()
        .into_iter()
        .filter(|name| !cases.iter().any(|case| case.op == *name) && !elsewhere(name))
        .collect();
    assert!(missing.is_empty(), "rules without a case: {missing:?}");
}

#[test]
fn an_operator_without_a_rule_keeps_the_selection() {
    assert_eq!(
        failure(&direct("Sin", &["h"], Stops("has no rule for channels"))),
        None
    );
}
