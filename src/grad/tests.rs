//! The driver, on small heads; the rules have their cases beside them.

use std::collections::BTreeSet;

use super::{
    Gradient, GradientModel, Request, differentiate, gradient_model,
    rules::{self, CONTRIB, RULES, ZERO},
    testing::{self, Case, check, probe, spread},
};
use crate::{
    Error,
    engine::testing::engines,
    graph::{Graph, Shapes, Use},
    onnx::{DataType, Dim, GraphProto, ModelProto, NodeProto, Tensor, ValueInfoProto, text},
};

/// Engines add up in different orders; f32 has 7 digits and the sums have some ten terms.
const TOLERANCE: f32 = 1e-5;

#[test]
fn every_rule_has_a_case() {
    let cases = rules::cases();
    let tested: BTreeSet<&str> = cases.iter().map(Case::op).collect();
    let rows = RULES.iter().copied().flatten().map(|(op, _)| *op);
    let rows = rows.chain(CONTRIB.iter().map(|(op, _)| *op));
    let missing: Vec<&str> = rows.filter(|op| !tested.contains(op)).collect();
    assert!(missing.is_empty(), "no case for {missing:?}");
}

#[test]
fn every_operator_is_in_one_table_once() {
    let rows = RULES.iter().copied().flatten().map(|(op, _)| *op);
    let all: Vec<&str> = rows.chain(ZERO.iter().copied()).collect();
    let distinct: BTreeSet<&str> = all.iter().copied().collect();
    assert_eq!(all.len(), distinct.len(), "{all:?}");
    for family in RULES {
        assert!(family.is_sorted_by_key(|(op, _)| *op), "{family:?}");
    }
}

/// y = x·f(x) for an f that changes in steps: only the factor x has a slope.
#[test]
fn steps_have_no_gradient() {
    let stepwise = |op: &str| {
        let node = NodeProto::new("Mul", &["x", "steps"], &["y"]);
        Case::new(node)
            .caption("with a value that changes in steps")
            .then(NodeProto::new(op, &["x"], &["steps"]))
            .within("x", &[2, 6], -3.0, 3.0)
    };
    check(&["Ceil", "Floor", "Round", "Sign"].map(stepwise));
}

/// A head in half precision: weights and forward values are cast, cotangents are f32.
#[test]
fn half_precision_heads_get_f32_cotangents() {
    let last = || NodeProto::new("Softplus", &["h"], &["y"]);
    let inputs = |case: Case| {
        case.input("x", &[2, 3])
            .weight("w", &[3, 4])
            .weight("b", &[4])
    };
    let matmul = Case::new(NodeProto::new("MatMul", &["x", "w"], &["m"]))
        .caption("in half precision")
        .then(NodeProto::new("Add", &["m", "b"], &["h"]))
        .then(last());
    let gemm = Case::new(NodeProto::new("Gemm", &["x", "w", "b"], &["h"]))
        .caption("in half precision")
        .then(last());
    check(&[
        inputs(matmul).dtype(DataType::Float16),
        inputs(gemm).dtype(DataType::Bfloat16),
    ]);
}

/// `p = Softmax(Relu(x·W1 + b1)·W2)` with 3 features, 4 neurons, 3 classes.
fn softmax_head() -> ModelProto {
    let mut graph = GraphProto::new("head");
    let dims = [Dim::Symbol("batch".to_owned()), Dim::Fixed(3)];
    graph.input = vec![ValueInfoProto::tensor("x", DataType::Float, &dims)];
    graph.node = vec![
        NodeProto::new("Gemm", &["x", "w1", "b1"], &["z"]),
        NodeProto::new("Relu", &["z"], &["h"]),
        NodeProto::new("MatMul", &["h", "w2"], &["logits"]),
        NodeProto::new("Softmax", &["logits"], &["p"]),
    ];
    graph.output = vec![ValueInfoProto::tensor("p", DataType::Float, &dims)];
    graph.initializer = vec![
        spread(&[3, 4], -1.0, 1.0, 1).to_proto("w1"),
        spread(&[4], -0.5, 0.5, 2).to_proto("b1"),
        spread(&[4, 3], -1.0, 1.0, 3).to_proto("w2"),
    ];
    ModelProto::new(graph, 17)
}

/// The use of a value by its only reader.
fn only_use(graph: &Graph<'_>, name: &str) -> Use {
    let uses = graph.uses(graph.value(name).unwrap());
    assert_eq!(uses.len(), 1);
    uses[0]
}

fn one_hot(classes: usize) -> Tensor {
    let values = (0..classes * classes).map(|at| f32::from(at % (classes + 1) == 0));
    Tensor::f32([classes, 1, classes], values.collect()).unwrap()
}

/// Oracle: dp/dh = (diag p − p pᵀ)·W2ᵀ and dp/dx = dp/dh·D·W1ᵀ, written out in f64.
fn closed_form(x: &[f32]) -> (Vec<f64>, Vec<f64>) {
    let [w1, b1, w2] = [
        spread(&[3, 4], -1.0, 1.0, 1),
        spread(&[4], -0.5, 0.5, 2),
        spread(&[4, 3], -1.0, 1.0, 3),
    ]
    .map(|tensor| -> Vec<f64> { tensor.to_f32().iter().map(|&value| value.into()).collect() });
    let z = |neuron: usize| -> f64 {
        let products = (0..3).map(|feature| f64::from(x[feature]) * w1[feature * 4 + neuron]);
        products.sum::<f64>() + b1[neuron]
    };
    let z: Vec<f64> = (0..4).map(z).collect();
    let logit = |class: usize| -> f64 { (0..4).map(|i| z[i].max(0.0) * w2[i * 3 + class]).sum() };
    let exps: Vec<f64> = (0..3).map(|class| logit(class).exp()).collect();
    let total: f64 = exps.iter().sum();
    let p: Vec<f64> = exps.iter().map(|exp| exp / total).collect();
    let slope = |class: usize, neuron: usize| -> f64 {
        let mean: f64 = (0..3).map(|k| p[k] * w2[neuron * 3 + k]).sum();
        p[class] * (w2[neuron * 3 + class] - mean)
    };
    let mut by_neuron = Vec::new();
    let mut by_feature = Vec::new();
    for class in 0..3 {
        by_neuron.extend((0..4).map(|neuron| slope(class, neuron)));
        by_feature.extend((0..3).map(|feature| -> f64 {
            let through = |neuron: usize| {
                let open = f64::from(u8::from(z[neuron] > 0.0));
                slope(class, neuron) * open * w1[feature * 4 + neuron]
            };
            (0..4).map(through).sum()
        }));
    }
    (by_neuron, by_feature)
}

#[test]
fn softmax_head_has_the_jacobian_of_the_closed_form() {
    let model = softmax_head();
    let graph = Graph::new(&model).unwrap();
    for engine in engines() {
        // The batch of the probe is not the batch of the run.
        let shapes = probe(
            &graph,
            engine.as_ref(),
            &[("x", spread(&[2, 3], -2.0, 2.0, 0))],
        );
        let wrt = [only_use(&graph, "h"), only_use(&graph, "x")];
        let x = graph.value("x").unwrap();
        let request = Request {
            of: graph.value("p").unwrap(),
            wrt: &wrt,
            stop: &[x],
        };
        let gradient = gradient_model(&graph, &shapes.unwrap(), request, &[x], &[]).unwrap();
        let samples = spread(&[5, 3], -2.0, 2.0, 4);
        let inputs = [("x", samples.clone())];
        let found = testing::run(&gradient, engine.as_ref(), &inputs, &one_hot(3)).unwrap();
        let shapes: Vec<&[usize]> = found.iter().map(Tensor::shape).collect();
        assert_eq!(shapes, [&[3, 5, 4], &[3, 5, 3]]);
        for (sample, x) in samples.to_f32().chunks(3).enumerate() {
            let (by_neuron, by_feature) = closed_form(x);
            for (tensor, expected, width) in [(&found[0], by_neuron, 4), (&found[1], by_feature, 3)]
            {
                for (at, expected) in expected.into_iter().enumerate() {
                    let (class, column) = (at / width, at % width);
                    let found = tensor.to_f32()[(class * 5 + sample) * width + column];
                    let difference = (found - expected as f32).abs();
                    assert!(
                        difference < TOLERANCE,
                        "{found} {expected} {}",
                        engine.info()
                    );
                }
            }
        }
    }
}

/// A residual block whose input is read twice.
fn residual_head() -> ModelProto {
    let mut model = softmax_head();
    let graph = model.graph.as_mut().unwrap();
    graph.node = vec![
        NodeProto::new("Relu", &["x"], &["h"]),
        NodeProto::new("Add", &["h", "x"], &["s"]),
        NodeProto::new("Identity", &["s"], &["p"]),
    ];
    graph.initializer.clear();
    model
}

fn declared(model: &ModelProto) -> (Graph<'_>, Shapes) {
    let graph = Graph::new(model).unwrap();
    let mut shapes = Shapes::declared(&graph);
    let x = shapes.tensor(graph.value("x").unwrap()).unwrap().clone();
    for value in graph.values() {
        if shapes.tensor(value).is_none() {
            shapes.learn(value, x.clone());
        }
    }
    (graph, shapes)
}

fn differentiated(model: &ModelProto, wrt: &[(usize, usize)], stop: &[&str]) -> Gradient {
    let (graph, shapes) = declared(model);
    let wrt = uses(&graph, wrt);
    let stop: Vec<_> = stop.iter().map(|name| graph.value(name).unwrap()).collect();
    let request = Request {
        of: graph.value("p").unwrap(),
        wrt: &wrt,
        stop: &stop,
    };
    differentiate(&graph, &shapes, request).unwrap()
}

/// Uses by the number of the node in the file and of the input.
fn uses(graph: &Graph<'_>, wrt: &[(usize, usize)]) -> Vec<Use> {
    let all = graph.values().flat_map(|value| graph.uses(value));
    let all: Vec<Use> = all.copied().collect();
    let named = |&(node, input): &(usize, usize)| {
        let reader = &graph.proto().node[node];
        let mut uses = all
            .iter()
            .filter(|at| std::ptr::eq(graph.node(at.node), reader));
        *uses.find(|at| at.input == input).unwrap()
    };
    wrt.iter().map(named).collect()
}

#[test]
fn cotangents_are_those_of_one_use_each() {
    let model = residual_head();
    let (graph, shapes) = declared(&model);
    let wrt = uses(&graph, &[(0, 0), (1, 1), (1, 0)]);
    let x = graph.value("x").unwrap();
    let request = Request {
        of: graph.value("p").unwrap(),
        wrt: &wrt,
        stop: &[x],
    };
    let gradient = gradient_model(&graph, &shapes, request, &[x], &[x]).unwrap();
    let inputs = [("x", Tensor::f32([1, 3], vec![1.0, -1.0, 2.0]).unwrap())];
    let seed = Tensor::f32([1, 1, 3], vec![1.0, 10.0, 100.0]).unwrap();
    for engine in engines() {
        let found = testing::run(&gradient, engine.as_ref(), &inputs, &seed).unwrap();
        let found: Vec<Vec<f32>> = found
            .iter()
            .map(|tensor| tensor.to_f32().to_vec())
            .collect();
        let expected = [
            // through the Relu
            [1.0, 0.0, 100.0],
            // beside it
            [1.0, 10.0, 100.0],
            // behind it
            [1.0, 10.0, 100.0],
            // the forward value that was asked for
            [1.0, -1.0, 2.0],
        ];
        assert_eq!(found, expected.map(|row| row.to_vec()), "{}", engine.info());
    }
}

#[test]
fn nothing_behind_the_features_is_visited() {
    let mut model = residual_head();
    let graph = model.graph.as_mut().unwrap();
    graph.node[0] = NodeProto::new("NoSuchOperator", &["x"], &["h"]);
    // Relu stands for the trunk, whose operators need no rules.
    let gradient = differentiated(&model, &[(1, 0)], &["h"]);
    assert_eq!(gradient.cotangents.len(), 1);
}

#[test]
fn all_operators_without_a_rule_are_reported_at_once() {
    let mut model = residual_head();
    let graph = model.graph.as_mut().unwrap();
    graph.node = vec![
        NodeProto::new("Nonsense", &["x"], &["h"]).with_name("first"),
        NodeProto::new("Relu", &["h"], &["r"]).with_domain("com.example"),
        NodeProto::new("Tanh", &["r"], &["p"]),
        // Nobody asked about this one.
        NodeProto::new("Elsewhere", &["x"], &["unread"]),
    ];
    let (graph, shapes) = declared(&model);
    let wrt = uses(&graph, &[(0, 0)]);
    let request = Request {
        of: graph.value("p").unwrap(),
        wrt: &wrt,
        stop: &[],
    };
    let Err(Error::UnsupportedOperators(sites)) = differentiate(&graph, &shapes, request) else {
        panic!("not refused");
    };
    let operators: Vec<&str> = sites.iter().map(|site| site.op_type.as_str()).collect();
    assert_eq!(operators, ["Nonsense", "com.example.Relu"]);
}

#[test]
fn operators_that_compute_shapes_need_no_rule() {
    let mut model = residual_head();
    let graph = model.graph.as_mut().unwrap();
    graph.node = vec![
        NodeProto::new("Shape", &["x"], &["shape"]),
        NodeProto::new("Mod", &["shape", "shape"], &["to"]),
        NodeProto::new("Reshape", &["x", "to"], &["p"]),
    ];
    assert_eq!(
        differentiated(&model, &[(2, 0)], &["x"]).cotangents.len(),
        1
    );
}

#[test]
fn names_of_the_model_are_never_taken() {
    let mut model = residual_head();
    let graph = model.graph.as_mut().unwrap();
    graph.node[0].output[0] = "grad/seed".to_owned();
    graph.node[1].input[0] = "grad/seed".to_owned();
    graph.node[2].name = Some("_grad/cotangent_0".to_owned());
    let gradient = differentiated(&model, &[(0, 0), (1, 0)], &["x"]);
    assert_eq!(gradient.seed, "__grad/seed");
    let names = gradient.nodes.iter().flat_map(|node| &node.output);
    assert!(names.into_iter().all(|name| name.starts_with("__grad/")));
}

#[test]
fn a_use_without_gradient_gets_zeros() {
    let mut model = residual_head();
    let graph = model.graph.as_mut().unwrap();
    graph.node[0] = NodeProto::new("Floor", &["x"], &["h"]);
    let (graph, shapes) = declared(&model);
    let wrt = uses(&graph, &[(0, 0)]);
    let x = graph.value("x").unwrap();
    let request = Request {
        of: graph.value("p").unwrap(),
        wrt: &wrt,
        stop: &[x],
    };
    let gradient: GradientModel = gradient_model(&graph, &shapes, request, &[x], &[]).unwrap();
    let inputs = [("x", spread(&[4, 3], -1.0, 1.0, 0))];
    for engine in engines() {
        let found = testing::run(&gradient, engine.as_ref(), &inputs, &one_hot(3)).unwrap();
        assert_eq!(found[0], Tensor::f32([3, 4, 3], vec![0.0; 36]).unwrap());
    }
}

#[test]
fn variants_without_a_rule_name_their_node() {
    struct Refusal {
        node: NodeProto,
        expected: &'static str,
    }
    let max_pool = NodeProto::new("MaxPool", &["x"], &["y"]).with_ints("kernel_shape", &[2]);
    let cases = [
        // windows that overlap
        Refusal {
            node: max_pool,
            expected: "node \"y\" (MaxPool, opset 17): has windows that overlap or leave a border",
        },
        // three inputs
        Refusal {
            node: NodeProto::new("Max", &["x", "x", "x"], &["y"]),
            expected: "node \"y\" (Max, opset 17): has a gradient for two inputs only",
        },
        // more inputs than the operator has
        Refusal {
            node: NodeProto::new("Add", &["x", "x", "x"], &["y"]),
            expected: "node \"y\" (Add, opset 17): has 3 inputs, expected 2",
        },
        // an axis that does not exist
        Refusal {
            node: NodeProto::new("Softmax", &["x"], &["y"]).with_int("axis", 3),
            expected: "node \"y\" (Softmax, opset 17): axis 3 of a value of 3 axes",
        },
        // noise
        Refusal {
            node: NodeProto::new("BatchNormalization", &["x"; 5], &["y"])
                .with_int("training_mode", 1),
            expected: "node \"y\" (BatchNormalization, opset 17): is in training mode",
        },
    ];
    for case in cases {
        let mut model = residual_head();
        let graph = model.graph.as_mut().unwrap();
        graph.node = vec![case.node, NodeProto::new("Flatten", &["y"], &["p"])];
        let dims = [
            Dim::Symbol("batch".to_owned()),
            Dim::Fixed(3),
            Dim::Fixed(5),
        ];
        graph.input = vec![ValueInfoProto::tensor("x", DataType::Float, &dims)];
        let (graph, shapes) = declared(&model);
        let wrt = uses(&graph, &[(0, 0)]);
        let request = Request {
            of: graph.value("p").unwrap(),
            wrt: &wrt,
            stop: &[],
        };
        let error = differentiate(&graph, &shapes, request).unwrap_err();
        assert_eq!(error.to_string(), case.expected);
    }
}

#[test]
fn scores_of_a_map_are_refused() {
    let mut model = residual_head();
    model.graph.as_mut().unwrap().output.clear();
    let (graph, mut shapes) = declared(&model);
    let of = graph.value("p").unwrap();
    let mut map = shapes.tensor(of).unwrap().clone();
    map.dims.push(Dim::Fixed(1));
    shapes.learn(of, map);
    let request = Request {
        of,
        wrt: &[],
        stop: &[],
    };
    let error = differentiate(&graph, &shapes, request).unwrap_err();
    let expected = "node \"p\" (Identity, opset 17): makes class scores of 3 axes, not [N, K]";
    assert_eq!(error.to_string(), expected);
}

/// The text of a whole gradient, to be read beside the formula of [`closed_form`].
#[test]
fn gradient_of_a_softmax_head_reads_as_its_formula() {
    let model = softmax_head();
    let (graph, shapes) = declared(&model);
    let x = graph.value("x").unwrap();
    let request = Request {
        of: graph.value("p").unwrap(),
        wrt: &[only_use(&graph, "h"), only_use(&graph, "x")],
        stop: &[x],
    };
    let gradient = gradient_model(&graph, &shapes, request, &[x], &[]).unwrap();
    insta::assert_snapshot!(text::print(gradient.model.graph.as_ref().unwrap()), @r#"
    graph "head" (x: f32[batch,3], grad/seed: f32[rows,?,3]) -> (grad/cotangent_0: f32[rows,batch,3], grad/cotangent_1: f32[rows,batch,3])
      w1: f32[3,4]
      b1: f32[4]
      w2: f32[4,3]
      grad/constant_0: i64[1]
      grad/constant_1: f32[]
      z = Gemm(x, w1, b1)
      h = Relu(z)
      logits = MatMul(h, w2)
      p = Softmax(logits)
      grad/Greater_0 = Greater(p, p)
      grad/Cast_1 = Cast(grad/Greater_0) {to=1}
      grad/Add_2 = Add(grad/seed, grad/Cast_1)
      grad/Mul_3 = Mul(grad/Add_2, p)
      grad/ReduceSum_4 = ReduceSum(grad/Mul_3, grad/constant_0) {keepdims=1}
      grad/Mul_5 = Mul(p, grad/ReduceSum_4)
      grad/Sub_6 = Sub(grad/Mul_3, grad/Mul_5)
      grad/Transpose_7 = Transpose(w2) {perm=[1,0]}
      grad/cotangent_0 = MatMul(grad/Sub_6, grad/Transpose_7)
      grad/Greater_9 = Greater(h, grad/constant_1)
      grad/Cast_10 = Cast(grad/Greater_9) {to=1}
      grad/Mul_11 = Mul(grad/cotangent_0, grad/Cast_10)
      grad/Transpose_12 = Transpose(w1) {perm=[1,0]}
      grad/cotangent_1 = MatMul(grad/Mul_11, grad/Transpose_12)
    "#);
}
