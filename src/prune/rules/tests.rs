//! One case per operator: `x [N, 4] -> Gemm (6 neurons) -> operator -> Gemm (3 scores)`.
//!
//! Either the cut reaches the first Gemm, and then the pruned model must equal the masked one in
//! both engines, or it stops, with the reason that the case names.

use super::super::{Budget, Group, Keep, LayerScores, Region, Scores, Source, mask, rewrite};
use crate::{
    engine::testing::engines,
    graph::{Graph, NodeId, Shapes, TensorType, Use},
    onnx::{DataType, Dim, GraphProto, ModelProto, NodeProto, Tensor, TensorData, ValueInfoProto},
};

const NEURONS: usize = 6;
/// Both runs sum the same few numbers in f32.
const TOLERANCE: f32 = 1e-5;

/// What is expected of the cut in front of the last Gemm.
enum Expected {
    /// It passes the operator and shrinks the first Gemm.
    Passes,
    /// It stops with these words.
    Stops(&'static str),
}
use Expected::{Passes, Stops};

struct Case {
    op: &'static str,
    opset: i64,
    /// Nodes from `h` to `z`, both `[N, 6]`; constants `row [6]`, `one [1]`, `matrix [6, 6]`.
    nodes: Vec<NodeProto>,
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
        expected,
    }
}

/// `z = op(h, ...)` with further inputs.
fn direct(op: &'static str, inputs: &[&str], expected: Expected) -> Case {
    case(op, vec![node(op, inputs, "z")], expected)
}

/// The operator on `[N, 6, 1, 1]`, between two reshapes.
fn on_maps(op: &'static str, middle: NodeProto, expected: Expected) -> Case {
    let nodes = vec![
        node("Reshape", &["h", "as_map"], "m"),
        middle,
        node("Flatten", &["p"], "z").with_int("axis", 1),
    ];
    case(op, nodes, expected)
}

fn later(opset: i64, case: Case) -> Case {
    Case { opset, ..case }
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
        "Sigmoid",
        "Sign",
        "Softplus",
        "Softsign",
        "Sqrt",
        "Tanh",
        "ThresholdedRelu",
    ] {
        let float = i64::from(i32::from(DataType::Float));
        // Positive, and away from zero: some of these have no value elsewhere.
        let nodes = vec![
            node("Abs", &["h"], "a"),
            node("Add", &["a", "one"], "b"),
            match op {
                "Cast" => node(op, &["b"], "z").with_int("to", float),
                _ => node(op, &["b"], "z"),
            },
        ];
        cases.push(case(op, nodes, Passes));
    }
    cases.push(later(20, direct("Gelu", &["h"], Passes)));
    for op in [
        "Add", "Div", "Max", "Mean", "Min", "Mul", "PRelu", "Sub", "Sum",
    ] {
        cases.push(direct(op, &["h", "row"], Passes));
        cases.push(direct(op, &["h", "one"], Passes));
    }
    cases.push(direct("Pow", &["h", "two"], Passes));
    cases.push(direct("Where", &["flags", "h", "row"], Passes));
    cases.extend(norms());
    cases.extend(shapes());
    cases.extend(stops());
    cases
}

fn norms() -> Vec<Case> {
    let statistics = ["h", "row", "row", "row", "positive"];
    vec![
        direct("BatchNormalization", &statistics, Passes),
        direct(
            "LayerNormalization",
            &["h", "row"],
            Stops("normalises over all neurons"),
        ),
        direct("Softmax", &["h"], Stops("normalises over all neurons")),
        direct("LogSoftmax", &["h"], Stops("normalises over all neurons")),
        direct("Hardmax", &["h"], Stops("normalises over all neurons")),
        direct(
            "LpNormalization",
            &["h"],
            Stops("normalises over all neurons"),
        ),
        later(
            23,
            direct(
                "RMSNormalization",
                &["h", "row"],
                Stops("normalises over all neurons"),
            ),
        ),
        on_maps(
            "LRN",
            node("LRN", &["m"], "p").with_int("size", 3),
            Stops("normalises over all neurons"),
        ),
        on_maps(
            "MeanVarianceNormalization",
            node("MeanVarianceNormalization", &["m"], "p"),
            Stops("normalises over all neurons"),
        ),
        later(
            21,
            on_maps(
                "GroupNormalization",
                node("GroupNormalization", &["m", "row", "row"], "p").with_int("num_groups", 2),
                Stops("normalises over all neurons"),
            ),
        ),
    ]
}

fn shapes() -> Vec<Case> {
    let pool = |op: &'static str| on_maps(op, node(op, &["m"], "p"), Passes);
    let window = |op: &'static str| {
        let node = node(op, &["m"], "p").with_ints("kernel_shape", &[1, 1]);
        on_maps(op, node, Passes)
    };
    let reduce = |op: &'static str| {
        let nodes = vec![
            node("Reshape", &["h", "as_map"], "m"),
            node(op, &["m", "last_two"], "z").with_int("keepdims", 0),
        ];
        case(op, nodes, Passes)
    };
    let mut cases: Vec<Case> = ["GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"]
        .map(pool)
        .into();
    cases.extend(["AveragePool", "MaxPool", "LpPool"].map(window));
    cases.push(case(
        "ReduceMean",
        vec![
            node("Reshape", &["h", "as_map"], "m"),
            node("ReduceMean", &["m", "last_two"], "z").with_int("keepdims", 0),
        ],
        Passes,
    ));
    cases.extend(["ReduceL1", "ReduceL2", "ReduceMax", "ReduceMin"].map(reduce));
    cases.push(case(
        "ReduceSum",
        vec![
            node("ReduceSum", &["h", "last"], "r"),
            node("Add", &["h", "r"], "z"),
        ],
        Stops("reduces over the neurons"),
    ));
    cases.push(case(
        "Transpose",
        vec![
            node("Reshape", &["h", "as_map"], "m"),
            node("Transpose", &["m"], "p").with_ints("perm", &[0, 2, 3, 1]),
            node("Reshape", &["p", "as_row"], "z"),
        ],
        Passes,
    ));
    cases.push(case(
        "Squeeze",
        vec![
            node("Unsqueeze", &["h", "last_two"], "m"),
            node("Squeeze", &["m", "last_two"], "z"),
        ],
        Passes,
    ));
    cases.push(case(
        "Unsqueeze",
        vec![
            node("Unsqueeze", &["h", "last_two"], "m"),
            node("Flatten", &["m"], "z"),
        ],
        Passes,
    ));
    cases.push(direct("Reshape", &["h", "as_row"], Passes));
    cases.push(direct("Flatten", &["h"], Passes));
    cases
}

fn stops() -> Vec<Case> {
    let pick = "picks the neurons";
    let split = NodeProto::new("Split", &["h", "halves"], &["z1", "z2"])
        .with_name("the_Split")
        .with_int("axis", 1);
    let join = node("Concat", &["z1", "z2"], "z").with_int("axis", 1);
    let top = NodeProto::new("TopK", &["h", "six"], &["z", "places"]).with_name("the_TopK");
    vec![
        case(
            "Gather",
            vec![node("Gather", &["h", "places6"], "z").with_int("axis", 1)],
            Stops(pick),
        ),
        direct(
            "Slice",
            &["h", "zero_index", "six", "axis_one"],
            Stops(pick),
        ),
        case("Split", vec![split, join], Stops(pick)),
        case("TopK", vec![top], Stops("compares all neurons")),
        case(
            "ArgMax",
            vec![
                node("ArgMax", &["h"], "a").with_int("axis", 1),
                node("Cast", &["a"], "f").with_int("to", i64::from(i32::from(DataType::Float))),
                node("Add", &["h", "f"], "z"),
            ],
            Stops("compares all neurons"),
        ),
    ]
}

/// Rules whose operator is outside `ai.onnx` or no part of such a chain, and where they are tested.
const ELSEWHERE: &[(&str, &str)] = &[
    ("Concat", "tests/exactness.rs, two branches"),
    ("Conv", "tests/exactness.rs, convolutional head"),
    ("FastGelu", "com.microsoft; as Gelu"),
    ("Gemm", "every case here"),
    ("MatMul", "tests/exactness.rs, random heads"),
    ("QuickGelu", "com.microsoft; as Gelu"),
    (
        "SimplifiedLayerNormalization",
        "com.microsoft; as LayerNormalization",
    ),
    (
        "SkipLayerNormalization",
        "com.microsoft; as LayerNormalization",
    ),
    (
        "Swish",
        "opset 24, which neither engine runs yet; as Sigmoid",
    ),
];

fn float(name: &str, shape: &[usize], seed: f32) -> crate::onnx::TensorProto {
    let count: usize = shape.iter().product();
    let values = (0..count).map(|index| (index as f32 * 0.7 + seed).sin());
    Tensor::f32(shape, values.collect()).unwrap().to_proto(name)
}

fn int(name: &str, values: &[i64]) -> crate::onnx::TensorProto {
    Tensor::i64([values.len()], values.to_vec())
        .unwrap()
        .to_proto(name)
}

fn model(case: &Case) -> ModelProto {
    let mut graph = GraphProto::new("case");
    let n = || Dim::Symbol("n".to_owned());
    graph.input = vec![ValueInfoProto::tensor(
        "x",
        DataType::Float,
        &[n(), Dim::Fixed(4)],
    )];
    graph.output = vec![ValueInfoProto::tensor(
        "y",
        DataType::Float,
        &[n(), Dim::Fixed(3)],
    )];
    graph
        .node
        .push(NodeProto::new("Gemm", &["x", "w0", "b0"], &["h"]).with_name("first"));
    graph.node.extend(case.nodes.clone());
    graph
        .node
        .push(NodeProto::new("Gemm", &["z", "w1", "b1"], &["y"]).with_name("last"));
    let flags = TensorData::Bool(vec![true, false, true, true, false, true]);
    let flags = Tensor::new([NEURONS], flags).unwrap();
    let positive = Tensor::f32([NEURONS], vec![0.5, 1.0, 1.5, 2.0, 2.5, 3.0]).unwrap();
    graph.initializer = vec![
        float("w0", &[4, NEURONS], 0.1),
        float("b0", &[NEURONS], 0.2),
        float("w1", &[NEURONS, 3], 0.3),
        float("b1", &[3], 0.4),
        float("row", &[NEURONS], 0.5),
        float("one", &[1], 1.0),
        positive.to_proto("positive"),
        flags.to_proto("flags"),
        Tensor::f32([1], vec![2.0]).unwrap().to_proto("two"),
        int("as_map", &[-1, 6, 1, 1]),
        int("as_row", &[-1, 6]),
        int("last_two", &[2, 3]),
        int("last", &[1]),
        int("halves", &[3, 3]),
        int("six", &[6]),
        int("places6", &[5, 4, 3, 2, 1, 0]),
        int("zero_index", &[0]),
        int("axis_one", &[1]),
    ];
    let read: Vec<&String> = graph.node.iter().flat_map(|node| &node.input).collect();
    let used = graph
        .initializer
        .iter()
        .filter(|t| read.iter().any(|name| *name == t.name()));
    graph.initializer = used.cloned().collect();
    ModelProto::new(graph, case.opset)
}

fn input() -> Tensor {
    let values = (0..20).map(|index| (index as f32 * 1.3).cos());
    Tensor::f32([5, 4], values.collect()).unwrap()
}

/// Shapes of all values, as the rules get them: declared, then learned from two runs.
fn shapes_of(graph: &Graph<'_>) -> Shapes {
    let mut shapes = Shapes::declared(graph);
    let values: Vec<_> = graph
        .values()
        .filter(|&id| graph.producer(id).is_some())
        .collect();
    let probe = crate::graph::with_outputs(graph, &shapes, &values);
    let mut session = engines()[1]
        .load(&probe)
        .unwrap_or_else(|error| panic!("{error} {:?}", graph.proto().node));
    let outputs = session.run(&[("x", &input())]).unwrap();
    for (&id, tensor) in values.iter().zip(&outputs) {
        let sizes = tensor.shape().iter().enumerate();
        let dims = sizes.map(|(axis, &size)| match axis {
            0 => Dim::Unknown,
            _ => Dim::Fixed(size),
        });
        let dtype = tensor.dtype();
        let dims = dims.collect();
        shapes.learn(id, TensorType { dtype, dims });
    }
    shapes
}

fn failure(case: &Case) -> Option<String> {
    let model = model(case);
    let graph = match Graph::new(&model) {
        Ok(graph) => graph,
        Err(error) => return Some(error.to_string()),
    };
    let shapes = shapes_of(&graph);
    let inside = graph.order().iter().copied().collect();
    let region = Region {
        graph: &graph,
        shapes: &shapes,
        inside: &inside,
    };
    let last = NodeId(model.graph.as_ref().unwrap().node.len() - 1);
    let group = Group::of(
        region,
        Use {
            node: last,
            input: 0,
        },
    )
    .unwrap();
    let reasons = group.sources.iter().map(|source| match source {
        Source::Layer(node) => format!("reaches {}", graph.site(*node).node),
        Source::Boundary { why, .. } => format!("stops: {why}"),
    });
    let found = reasons.collect::<Vec<_>>().join("; ");
    let fits = match case.expected {
        Passes => found == "reaches first",
        Stops(words) => found.starts_with("stops") && found.contains(words),
    };
    if !fits {
        return Some(found);
    }
    inexact(&graph, &shapes, &group)
}

/// The pruned model against the masked one, in both engines.
fn inexact(graph: &Graph<'_>, shapes: &Shapes, group: &Group) -> Option<String> {
    let scores = Scores {
        layers: vec![LayerScores::new("fc1", vec![1.0, 5.0, 2.0, 4.0, 0.0, 3.0])],
    };
    let plan = Budget::uniform(Keep::Count(3)).select(&scores).unwrap();
    let masked = mask::masked(graph, &[group], &plan).unwrap();
    let pruned = rewrite::pruned(graph, shapes, &[group], &plan).unwrap();
    for engine in engines() {
        let run = |model: &ModelProto| {
            engine
                .load(model)
                .and_then(|mut s| s.run(&[("x", &input())]))
        };
        let (masked, pruned) = match (run(&masked), run(&pruned)) {
            (Ok(masked), Ok(pruned)) => (masked, pruned),
            // What tract lacks it lacks in both; ONNX Runtime has proved the case.
            (Err(_), Err(_)) if engine.info().name == "tract" => continue,
            (masked, pruned) => return Some(format!("{:?} {:?}", masked.err(), pruned.err())),
        };
        let (a, b) = (masked[0].to_f32(), pruned[0].to_f32());
        let apart = a.iter().zip(b.iter()).map(|(a, b)| (a - b).abs());
        let worst = apart.fold(0.0_f32, f32::max);
        if worst.is_nan() || worst > TOLERANCE || a.iter().all(|v| *v == 0.0) {
            return Some(format!("{worst} apart in {}", engine.info().name));
        }
    }
    None
}

#[test]
fn every_rule_cuts_exactly_or_stops_with_its_reason() {
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
    let missing: Vec<&str> = super::names()
        .into_iter()
        .filter(|name| !cases.iter().any(|case| case.op == *name) && !elsewhere(name))
        .collect();
    assert!(missing.is_empty(), "rules without a case: {missing:?}");
}

#[test]
fn an_operator_without_a_rule_stops_the_cut() {
    let unknown = direct("Sin", &["h"], Stops("has no rule for cuts"));
    assert_eq!(failure(&unknown), None);
}
