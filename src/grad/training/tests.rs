//! Training graphs against differences and against a slow reference, in both engines.

mod reference;

use std::collections::BTreeMap;

use prost::Message;

use super::{Loss, Optimizer, Training, TrainingGraph, probe, training_graph};
use crate::{
    engine::{Engine, EngineInfo, Precision, Steps, testing::engines},
    graph::Graph,
    onnx::{DataType, Dim, GraphProto, ModelProto, NodeProto, Tensor, ValueInfoProto},
};
use reference::{Numbers, Reference};

/// Rows of a batch in these tests.
const BATCH: usize = 6;
const CLASSES: usize = 3;
/// f32 sums of some ten terms, a hundred steps long; seen 5e-7.
const TOLERANCE: f64 = 2e-6;
/// Step and tolerance of central differences of fourth order in f32, see `grad::testing`.
const STEP: f32 = 0.02;
const DIFFERENCES: f64 = 2e-4;

/// A head from `x`, its nodes and its weights.
struct Head {
    caption: &'static str,
    input: &'static [usize],
    nodes: Vec<NodeProto>,
    weights: Vec<(&'static str, Vec<usize>)>,
    /// What is trained.
    trained: &'static [&'static str],
    not_in_tract: bool,
}

impl Head {
    fn model(&self) -> ModelProto {
        let mut numbers = Numbers(5);
        let mut dims = vec![Dim::Symbol("batch".to_owned())];
        dims.extend(self.input.iter().copied().map(Dim::Fixed));
        let mut graph = GraphProto::new("head");
        graph.input = vec![ValueInfoProto::tensor("x", DataType::Float, &dims)];
        let logits = [dims[0].clone(), Dim::Fixed(CLASSES)];
        graph.output = vec![ValueInfoProto::tensor("z", DataType::Float, &logits)];
        if self.caption.contains("further axes") {
            graph.output[0].r#type = None;
        }
        let weights = self.weights.iter().map(|(name, shape)| {
            let mut values = numbers.take(shape.iter().product());
            if name.starts_with("variance") {
                values
                    .iter_mut()
                    .for_each(|value| *value = value.abs() + 0.5);
            }
            Tensor::f32(shape.clone(), values).unwrap().to_proto(*name)
        });
        graph.initializer = weights.collect();
        graph.node = self.nodes.clone();
        ModelProto::new(graph, 17)
    }

    fn features(&self, rows: usize, seed: u64) -> Tensor {
        let mut shape = vec![rows];
        shape.extend(self.input);
        let values = Numbers(seed).take(shape.iter().product());
        Tensor::f32(shape, values).unwrap()
    }

    fn training(&self, engine: &dyn Engine, training: Training) -> TrainingGraph {
        let model = self.model();
        let graph = Graph::new(&model).unwrap();
        let (two, three) = (self.features(2, 1), self.features(3, 1));
        let shapes = probe(engine, &graph, &[vec![("x", &two)], vec![("x", &three)]]).unwrap();
        training_graph(&graph, &shapes, training).unwrap()
    }
}

fn heads() -> Vec<Head> {
    let node = |op: &str, inputs: &[&str], output: &str| {
        NodeProto::new(op, inputs, &[output]).with_name(output)
    };
    let flipped = |node: NodeProto| node.with_int("transB", 1);
    vec![
        Head {
            caption: "as PyTorch writes it",
            input: &[5],
            nodes: vec![
                flipped(node("Gemm", &["x", "w0", "b0"], "y0"))
                    .with_float("alpha", 0.75)
                    .with_float("beta", 1.5),
                node("Tanh", &["y0"], "h0"),
                flipped(node("Gemm", &["h0", "w1", "b1"], "z")),
            ],
            weights: vec![
                ("w0", vec![4, 5]),
                ("b0", vec![4]),
                ("w1", vec![CLASSES, 4]),
                ("b1", vec![CLASSES]),
            ],
            trained: &["w0", "b0", "w1", "b1"],
            not_in_tract: false,
        },
        Head {
            caption: "products and sums, over tokens, with a normalisation",
            input: &[2, 5],
            nodes: vec![
                node("MatMul", &["x", "w0"], "m0"),
                node("Add", &["m0", "b0"], "y0"),
                node("LayerNormalization", &["y0", "scale", "shift"], "n0"),
                node("ReduceMean", &["n0"], "pooled")
                    .with_ints("axes", &[1])
                    .with_int("keepdims", 0),
                node("Gemm", &["pooled", "w1"], "z"),
            ],
            weights: vec![
                ("w0", vec![5, 4]),
                ("b0", vec![4]),
                ("scale", vec![4]),
                ("shift", vec![4]),
                ("w1", vec![4, CLASSES]),
            ],
            trained: &["w0", "b0", "scale", "shift", "w1"],
            not_in_tract: false,
        },
        Head {
            caption: "convolutions, with further axes",
            input: &[3, 2, 2],
            nodes: vec![
                node("Conv", &["x", "w0", "b0"], "y0"),
                node("Sigmoid", &["y0"], "h0"),
                node("Conv", &["h0", "w1", "b1"], "z"),
            ],
            weights: vec![
                ("w0", vec![4, 3, 1, 1]),
                ("b0", vec![4]),
                ("w1", vec![CLASSES, 4, 2, 2]),
                ("b1", vec![CLASSES]),
            ],
            trained: &["w0", "b0", "w1", "b1"],
            not_in_tract: true,
        },
        Head {
            caption: "fixed statistics, a transposed weight and one that is used twice",
            input: &[4],
            nodes: vec![
                node(
                    "BatchNormalization",
                    &["x", "scale", "shift", "mean", "variance"],
                    "n0",
                ),
                node("MatMul", &["n0", "w0"], "y0"),
                node("Tanh", &["y0"], "h0"),
                node("MatMul", &["h0", "w0"], "y1"),
                node("Transpose", &["w1"], "w1t"),
                node("MatMul", &["y1", "w1t"], "z"),
            ],
            weights: vec![
                ("scale", vec![4]),
                ("shift", vec![4]),
                ("mean", vec![4]),
                ("variance", vec![4]),
                ("w0", vec![4, 4]),
                ("w1", vec![CLASSES, 4]),
            ],
            trained: &["scale", "shift", "w0", "w1"],
            not_in_tract: true,
        },
    ]
}

fn training(loss: Loss, temperature: f32, optimizer: Optimizer) -> Training {
    Training {
        batch: BATCH,
        loss,
        temperature,
        optimizer,
        weight_decay: 0.0,
        piece: Training::PIECE,
    }
}

/// Shares of the classes that sum to the sample's weight; the last sample is not there.
fn targets() -> (Tensor, Tensor) {
    let mut numbers = Numbers(9);
    let (mut target, mut weight) = (Vec::new(), Vec::new());
    for row in 0..BATCH {
        let shares: Vec<f32> = numbers
            .take(CLASSES)
            .iter()
            .map(|value| value.abs())
            .collect();
        let whole = if row + 1 == BATCH { 0.0 } else { 0.25 };
        let sum: f32 = shares.iter().sum();
        target.extend(shares.iter().map(|share| share / sum * whole));
        weight.push(whole);
    }
    let target = Tensor::f32([BATCH, CLASSES], target).unwrap();
    (target, Tensor::f32([BATCH, 1], weight).unwrap())
}

fn load(engine: &dyn Engine, graph: &TrainingGraph) -> Box<dyn Steps> {
    let steps = engine.load_steps(&graph.model, &graph.feedback, graph.initial.clone());
    steps.unwrap_or_else(|error| panic!("{}: {error}", engine.info()))
}

/// One step, and its loss.
fn step(
    steps: &mut dyn Steps,
    graph: &TrainingGraph,
    x: &Tensor,
    (target, weight): (&Tensor, &Tensor),
    (number, rate): (u64, f64),
) -> f64 {
    let scalars = graph.scalars(number, rate).unwrap();
    let mut inputs = vec![("x", x), (&graph.target, target), (&graph.weight, weight)];
    inputs.extend(scalars.iter().map(|(name, value)| (*name, value)));
    f64::from(steps.step(&inputs).unwrap()[0].to_f32()[0])
}

/// ⟨g, v⟩ from the velocity after one step, against the difference quotient of the loss along v.
#[test]
fn gradients_agree_with_differences() {
    let optimizer = Optimizer::Sgd { momentum: 0.5 };
    let settings = [
        (Loss::CrossEntropy, 1.0),
        (Loss::CrossEntropy, 3.0),
        (Loss::BinaryCrossEntropy, 2.0),
    ];
    for head in heads() {
        for (engine, (loss, temperature)) in engines()
            .iter()
            .flat_map(|engine| settings.map(|setting| (engine, setting)))
        {
            if head.not_in_tract && engine.info().name == "tract" {
                continue;
            }
            let graph = head.training(&**engine, training(loss, temperature, optimizer));
            let names: Vec<&str> = graph
                .parameters
                .iter()
                .map(|parameter| parameter.name.as_str())
                .collect();
            let mut sorted = names.clone();
            sorted.sort_unstable();
            let mut expected = head.trained.to_vec();
            expected.sort_unstable();
            assert_eq!(sorted, expected, "{}", head.caption);
            let (x, (target, weight)) = (head.features(BATCH, 2), targets());
            let initial = graph.initial.fetch().unwrap();
            let mut steps = load(&**engine, &graph);
            step(&mut *steps, &graph, &x, (&target, &weight), (1, 1.0));
            let after: BTreeMap<String, Tensor> = steps.state().unwrap().into_iter().collect();
            for (at, name) in names.iter().enumerate() {
                let first = &initial.iter().find(|(held, _)| held == name).unwrap().1;
                let along = Numbers(at as u64 + 3).take(first.data().len());
                let mut at_distance = |distance: f32| {
                    let values = first.to_f32();
                    let moved = values.iter().zip(&along).map(|(w, v)| w + distance * v);
                    let moved = Tensor::f32(first.shape(), moved.collect()).unwrap();
                    let moved = vec![((*name).to_owned(), moved)];
                    steps.hold(graph.initial.clone()).unwrap();
                    steps.hold(moved.into()).unwrap();
                    step(&mut *steps, &graph, &x, (&target, &weight), (1, 0.0))
                };
                let near = at_distance(STEP) - at_distance(-STEP);
                let far = at_distance(2.0 * STEP) - at_distance(-2.0 * STEP);
                let expected = (8.0 * near - far) / (12.0 * f64::from(STEP));
                let velocity = after
                    .iter()
                    .find(|(held, _)| held.ends_with(&format!("velocity/{name}")));
                let gradient = velocity.unwrap().1.to_f32();
                let terms = gradient.iter().zip(&along);
                let terms: Vec<f64> = terms.map(|(g, v)| -f64::from(g * v)).collect();
                let size: f64 = terms.iter().map(|term| term.abs()).sum();
                let found: f64 = terms.iter().sum();
                assert!(
                    (found - expected).abs() <= DIFFERENCES * (size + 0.1),
                    "{} in {}, {loss:?} by {name}: {found} but {expected}",
                    head.caption,
                    engine.info()
                );
            }
        }
    }
}

#[test]
fn a_hundred_steps_follow_the_reference() {
    let (sgd, momentum) = (
        Optimizer::Sgd { momentum: 0.0 },
        Optimizer::Sgd { momentum: 0.9 },
    );
    let settings = [
        (Loss::CrossEntropy, 1.0, sgd, 0.0, 1),
        (Loss::CrossEntropy, 1.0, momentum, 0.1, 1),
        (
            Loss::CrossEntropy,
            1.0,
            Optimizer::ADAMW,
            0.1,
            Training::PIECE,
        ),
        // in pieces of 2, 2 and 1 and of 1, 1, 2 of the layers' inputs
        (Loss::CrossEntropy, 1.0, Optimizer::ADAMW, 0.1, 8),
        (
            Loss::CrossEntropy,
            4.0,
            Optimizer::ADAMW,
            0.0,
            Training::PIECE,
        ),
        (
            Loss::BinaryCrossEntropy,
            1.0,
            Optimizer::ADAMW,
            0.0,
            Training::PIECE,
        ),
    ];
    let mut head = heads().remove(0);
    head.nodes[1] = NodeProto::new("Relu", &["y0"], &["h0"]);
    for engine in engines() {
        for (loss, temperature, optimizer, weight_decay, piece) in settings {
            let mut training = training(loss, temperature, optimizer);
            training.weight_decay = weight_decay;
            training.piece = piece;
            let graph = head.training(&*engine, training);
            let start = graph.weights(&graph.initial.fetch().unwrap()).unwrap();
            let mut reference = Reference::new(&start, training);
            let mut steps = load(&*engine, &graph);
            let (target, weight) = targets();
            for number in 1..=100 {
                let x = head.features(BATCH, number);
                let rate = 0.02 / (1.0 + number as f64 / 50.0);
                let found = step(&mut *steps, &graph, &x, (&target, &weight), (number, rate));
                let expected = reference.step(&x, &target, &weight, (number, rate));
                assert!(
                    (found - expected).abs() <= TOLERANCE,
                    "{optimizer:?} {loss:?} in {}, step {number}: {found} but {expected}",
                    engine.info()
                );
            }
            let weights = graph.weights(&steps.state().unwrap()).unwrap();
            for (name, expected) in reference.weights() {
                let found = weights[name].to_f32().into_owned();
                let pairs = found.iter().zip(expected.iter());
                let apart = pairs
                    .map(|(a, b)| (f64::from(*a) - b).abs())
                    .fold(0.0, f64::max);
                // Adam divides small gradients by their own size, rounding errors too.
                assert!(
                    apart <= 50.0 * TOLERANCE,
                    "{name}: {apart} in {}",
                    engine.info()
                );
            }
        }
    }
}

#[test]
fn samples_of_no_weight_change_nothing() {
    let head = &heads()[0];
    let (target, weight) = targets();
    for engine in engines() {
        let graph = head.training(
            &*engine,
            training(Loss::CrossEntropy, 1.0, Optimizer::ADAMW),
        );
        let ends = [1.0, -7.0].map(|filling| {
            let mut values = head.features(BATCH, 2).to_f32().into_owned();
            values[(BATCH - 1) * 5..].fill(filling);
            let x = Tensor::f32([BATCH, 5], values).unwrap();
            let mut steps = load(&*engine, &graph);
            let loss = step(&mut *steps, &graph, &x, (&target, &weight), (1, 0.1));
            (loss, steps.state().unwrap())
        });
        assert_eq!(ends[0], ends[1], "{}", engine.info());
    }
}

#[test]
fn what_cannot_be_trained_is_named() {
    let engine = &engines()[1];
    let mut head = heads().remove(2);
    head.nodes[0] = head.nodes[0].clone().with_ints("pads", &[1, 1, 1, 1]);
    head.nodes.insert(
        1,
        NodeProto::new("MaxPool", &["y0"], &["p0"])
            .with_ints("kernel_shape", &[2, 2])
            .with_ints("strides", &[2, 2]),
    );
    head.nodes[2].input[0] = "p0".to_owned();
    let model = head.model();
    let graph = Graph::new(&model).unwrap();
    let x = head.features(2, 1);
    let shapes = probe(&**engine, &graph, &[vec![("x", &x)]]).unwrap();
    let training = training(Loss::CrossEntropy, 1.0, Optimizer::ADAMW);
    let error = training_graph(&graph, &shapes, training)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("\"y0\" (Conv") && error.contains("see one pixel"),
        "{error}"
    );
}

#[test]
fn pieces_suit_where_an_engine_computes() {
    let device = EngineInfo {
        precision: Some(Precision::Fp32),
        ..EngineInfo::default()
    };
    // The dense layers of VGG16.
    let layers = [25088 * 4096, 4096 * 4096, 4096 * 1000_usize];
    let pieces = |info: &EngineInfo| {
        let piece = Training::piece_for(info);
        layers
            .iter()
            .map(|size| size.div_ceil(piece))
            .sum::<usize>()
    };
    assert_eq!(pieces(&EngineInfo::default()), 236);
    assert_eq!(pieces(&device), layers.len());
}

/// The head alone makes, on what the steps hold, the logits that the next step begins with.
#[test]
fn the_head_alone_runs_on_what_the_steps_hold() {
    let head = &heads()[0];
    let (target, weight) = targets();
    for engine in engines() {
        let mut training = training(Loss::CrossEntropy, 1.0, Optimizer::ADAMW);
        training.piece = 8;
        let graph = head.training(&*engine, training);
        let x = head.features(BATCH, 2);
        let mut steps = load(&*engine, &graph);
        let start = graph.held_weights(&steps.snapshot());
        let mut alone = engine.load_steps(&graph.forward, &[], start).unwrap();
        for number in 1..=3 {
            let snapshot = steps.snapshot();
            assert_eq!(
                graph.held_state(&snapshot).fetch().unwrap(),
                steps.state().unwrap()
            );
            alone.hold(graph.held_weights(&snapshot)).unwrap();
            let found = alone.step(&[("x", &x)]).unwrap();
            let scalars = graph.scalars(number, 0.1).unwrap();
            let mut inputs = vec![
                ("x", &x),
                (&graph.target, &target),
                (&graph.weight, &weight),
            ];
            inputs.extend(scalars.iter().map(|(name, value)| (*name, value)));
            let outputs = steps.step(&inputs).unwrap();
            assert_eq!(found[0], outputs[1], "step {number} in {}", engine.info());
        }
    }
}

/// Shapes are the same with zeros in place of the large weights.
#[test]
fn shapes_do_not_need_large_weights() {
    let mut head = heads().remove(0);
    for (name, shape) in &mut head.weights {
        match *name {
            "w0" => *shape = vec![900, 5],
            "b0" => *shape = vec![900],
            "w1" => *shape = vec![CLASSES, 900],
            _ => {}
        }
    }
    let model = head.model();
    let graph = Graph::new(&model).unwrap();
    let light = probe::light(&graph, &model, "zero").unwrap().unwrap();
    assert!(light.encoded_len() < model.encoded_len() / 2);
    let zero = Tensor::f32([], vec![0.0]).unwrap();
    for engine in engines() {
        let batches = [2, 3].map(|rows| head.features(rows, 1));
        let mut session = engine.load(&light).unwrap();
        for x in &batches {
            let found = session.run(&[("x", x), ("zero", &zero)]).unwrap();
            assert_eq!(
                found[0].shape(),
                [x.shape()[0], CLASSES],
                "{}",
                engine.info()
            );
        }
        let batches = batches.each_ref().map(|x| vec![("x", x)]);
        let shapes = probe(&*engine, &graph, &batches).unwrap();
        let of = |name: &str| shapes.dims(graph.value(name).unwrap()).unwrap().to_vec();
        assert_eq!(of("y0"), [Dim::Unknown, Dim::Fixed(900)]);
        assert_eq!(of("w0"), [Dim::Fixed(900), Dim::Fixed(5)]);
    }
}
