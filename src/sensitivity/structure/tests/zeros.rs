//! Features that are mostly 0, which the engine does not multiply.

use super::{assert_near, by_gradient, request, scored};
use crate::{
    data::Batch,
    engine::testing::engines,
    features::testing::{Dense, batch, features, opened},
    graph::Graph,
    onnx::{ModelProto, NodeProto, Tensor},
    sensitivity::{Norm, Of, ScoreOptions, score_norms},
};

const WIDTHS: [usize; 3] = [70, 20, 4];

/// What is said where zeros are left out.
const SAID: &str = "features read without zeros";

/// Samples of which two numbers in three are 0.
fn zeros(samples: usize) -> Batch {
    let mut data = batch(&[samples, WIDTHS[0]], 2, 5);
    data.values.iter_mut().for_each(|value| {
        if *value < 1.0 / 3.0 {
            *value = 0.0;
        }
    });
    data
}

/// A network whose first layer is changed.
fn net(change: impl Fn(&mut Vec<NodeProto>, &mut ModelProto)) -> ModelProto {
    let mut model = Dense::random(&WIDTHS, "Softmax", 11).model();
    let mut nodes = std::mem::take(&mut model.graph.as_mut().unwrap().node);
    change(&mut nodes, &mut model);
    model.graph.as_mut().unwrap().node = nodes;
    model
}

/// The first layer as a product and a sum.
fn as_matmul(nodes: &mut Vec<NodeProto>, model: &mut ModelProto) {
    let weights = &mut model.graph.as_mut().unwrap().initializer[0];
    let weight = Tensor::from_proto(weights).unwrap();
    let values = weight.to_f32();
    let [inputs, outputs, _] = WIDTHS;
    let swapped = (0..inputs * outputs).map(|at| values[at % outputs * inputs + at / outputs]);
    let swapped = Tensor::f32([inputs, outputs], swapped.collect()).unwrap();
    *weights = swapped.to_proto("w0");
    let product = NodeProto::new("MatMul", &["x", "w0"], &["xw"]).with_name("xw");
    let sum = NodeProto::new("Add", &["xw", "b0"], &["y0"]).with_name("y0");
    nodes.splice(..1, [product, sum]);
}

#[test]
fn heads_score_as_their_gradient_graphs_do() {
    let scalar = |_: &mut Vec<NodeProto>, model: &mut ModelProto| {
        let bias = &mut model.graph.as_mut().unwrap().initializer[1];
        *bias = Tensor::f32([1], vec![0.25]).unwrap().to_proto("b0");
    };
    let factors = |nodes: &mut Vec<NodeProto>, _: &mut ModelProto| {
        let node = nodes[0].clone();
        nodes[0] = node.with_float("alpha", 0.5).with_float("beta", -2.0);
    };
    let without = |nodes: &mut Vec<NodeProto>, _: &mut ModelProto| nodes[0].input.truncate(2);
    let nets = [
        ("a bias for each neuron", net(|_, _| {})),
        ("one bias", net(scalar)),
        ("no bias", net(without)),
        ("factors", net(factors)),
        ("MatMul and Add", net(as_matmul)),
    ];
    let norms = [Norm::P(1.0), Norm::P(2.0), Norm::Inf].map(|p| (p, p));
    let data = zeros(60);
    for engine in engines() {
        for (what, model) in &nets {
            for wanted in [(Of::Probabilities, &norms[..]), (Of::Logits, &norms[1..2])] {
                let expected = by_gradient(&*engine, model, wanted, &data);
                let found = scored(&*engine, model, wanted, vec![data.clone()]);
                let way = found[0].report.way.clone().unwrap_or_default();
                assert!(way.contains(SAID), "{what}: {way}");
                for (found, expected) in found.iter().zip(&expected) {
                    for (layer, expected) in found.scores.layers.iter().zip(expected) {
                        let what = format!("{} {what}, {}", engine.info(), layer.name);
                        assert_near(&what, &layer.values, expected);
                    }
                }
            }
        }
    }
}

#[test]
fn weights_that_are_no_numbers_are_refused_as_without_zeros() {
    // That of an input that is always 0, to a unit that no sample needs.
    let spoil = |_: &mut Vec<NodeProto>, model: &mut ModelProto| {
        let initializers = &mut model.graph.as_mut().unwrap().initializer;
        let mut weight = Tensor::from_proto(&initializers[0])
            .unwrap()
            .to_f32()
            .into_owned();
        weight[0] = f32::INFINITY;
        let weight = Tensor::f32([WIDTHS[1], WIDTHS[0]], weight).unwrap();
        initializers[0] = weight.to_proto("w0");
        let mut bias = Tensor::from_proto(&initializers[1])
            .unwrap()
            .to_f32()
            .into_owned();
        bias[0] = -1e9;
        let bias = Tensor::f32([WIDTHS[1]], bias).unwrap();
        initializers[1] = bias.to_proto("b0");
    };
    let model = net(spoil);
    let mut data = zeros(60);
    let samples = data.values.chunks_exact_mut(WIDTHS[0]);
    samples.for_each(|sample| sample[0] = 0.0);
    for engine in engines() {
        for norm in [Norm::P(1.0), Norm::P(2.0), Norm::Inf] {
            let graph = Graph::new(&model).unwrap();
            let (shapes, head) = opened(&*engine, &graph, &data);
            let options = ScoreOptions::default();
            let request = request(&*engine, &graph, (&shapes, &head), &options);
            let batches = features(&*engine, &graph, (&shapes, &head), vec![data.clone()]);
            let error = score_norms(request, &[(norm, norm)], batches.into_iter().map(Ok));
            let error = error.map(|_| ()).unwrap_err().to_string();
            assert!(error.contains("is NaN or infinite"), "{error}");
        }
    }
}

#[test]
fn features_with_few_zeros_go_through_the_engine() {
    let norms = [(Norm::P(1.0), Norm::P(1.0))];
    let data = batch(&[60, WIDTHS[0]], 2, 5);
    for engine in engines() {
        let found = scored(
            &*engine,
            &net(|_, _| {}),
            (Of::Probabilities, &norms),
            vec![data.clone()],
        );
        let way = found[0].report.way.clone().unwrap_or_default();
        assert!(!way.contains(SAID), "{way}");
    }
}
