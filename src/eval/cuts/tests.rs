//! Shared products against heads that the engine runs by themselves.

use super::*;
use crate::{
    engine::testing::engines,
    features::testing::{Dense as Net, Numbers},
    onnx::{NodeProto, ValueInfoProto},
};

const WIDTHS: [usize; 3] = [40, 17, 3];

fn net() -> Net {
    Net::random(&WIDTHS, "", 5)
}

/// Every n-th of so many, with an offset.
fn each(count: usize, step: usize, first: usize) -> Vec<usize> {
    (first..count).step_by(step).collect()
}

fn cut(net: &Net, inputs: Vec<usize>, outputs: Vec<usize>) -> CutHead {
    let part = |weight: &[f32], rows: &[usize], width: usize, columns: &[usize]| {
        let rows = rows.iter();
        let numbers = rows.flat_map(|row| {
            columns
                .iter()
                .map(move |column| weight[row * width + column])
        });
        numbers.collect::<Vec<f32>>()
    };
    let mut small = net.clone();
    small.widths = vec![inputs.len(), outputs.len(), WIDTHS[2]];
    let (first, last) = (&net.weights[0], &net.weights[1]);
    let bias = outputs.iter().map(|&output| first.1[output]).collect();
    small.weights = vec![
        (part(&first.0, &outputs, WIDTHS[0], &inputs), bias),
        (
            part(&last.0, &each(WIDTHS[2], 1, 0), WIDTHS[1], &outputs),
            last.1.clone(),
        ),
    ];
    let mut model = small.model();
    let graph = model.graph.as_mut().unwrap();
    let dims = [Dim::Symbol("batch".to_owned()), Dim::Fixed(WIDTHS[0])];
    graph.input = vec![ValueInfoProto::tensor("x", DataType::Float, &dims)];
    let reads = graph.node.iter_mut().flat_map(|node| &mut node.input);
    reads
        .filter(|name| *name == "x")
        .for_each(|name| *name = "some".to_owned());
    let kept = inputs.iter().map(|&input| input as i64).collect();
    let kept = Tensor::i64([inputs.len()], kept).unwrap();
    graph.initializer.push(kept.to_proto("kept"));
    let gather = NodeProto::new("Gather", &["x", "kept"], &["some"]);
    graph.node.insert(0, gather.with_int("axis", 1));
    CutHead {
        model,
        inputs,
        outputs,
    }
}

fn features(count: usize) -> FeatureSet {
    features_of(count, |number| number)
}

fn mostly_zeros(count: usize) -> FeatureSet {
    features_of(count, |number| (number - 0.2).max(0.0))
}

fn features_of(count: usize, change: impl Fn(f32) -> f32) -> FeatureSet {
    let values = Numbers(9).take(count * WIDTHS[0]);
    let values = values.into_iter().map(change).collect();
    let values = Tensor::f32([count, WIDTHS[0]], values).unwrap();
    FeatureSet::from_memory(vec!["x".to_owned()], vec![values], None).unwrap()
}

/// What the engine makes of each head by itself.
fn alone(
    engine: &dyn Engine,
    heads: &[ModelProto],
    features: &FeatureSet,
    at: &[usize],
) -> Vec<Vec<usize>> {
    let of = |model| HeadModel {
        model,
        classes: WIDTHS[2],
    };
    let top = |model| {
        scores(engine, of(model), features, at, &mut |_| Ok(()))
            .unwrap()
            .top()
    };
    heads.iter().map(top).collect()
}

fn shared(
    engine: &dyn Engine,
    cuts: &Cuts,
    features: &FeatureSet,
    at: &[usize],
) -> Vec<Vec<usize>> {
    cuts.top(engine, WIDTHS[2], features, at, &mut |_| Ok(()))
        .unwrap()
}

#[test]
fn shared_products_decide_as_each_head_does() {
    let net = net();
    let cuts = vec![
        // nested, from wide to narrow
        cut(&net, each(40, 1, 1), each(17, 1, 2)),
        cut(&net, each(40, 2, 1), each(17, 2, 2)),
        cut(&net, each(40, 8, 1), each(17, 4, 2)),
        // in none of these, and the same again
        cut(&net, each(40, 3, 0), each(17, 3, 0)),
        cut(&net, each(40, 3, 0), each(17, 3, 0)),
        // all features, some neurons
        cut(&net, each(40, 1, 0), each(17, 5, 1)),
    ];
    let heads = cuts.iter().map(|cut| cut.model.clone());
    let heads: Vec<ModelProto> = [net.model()].into_iter().chain(heads).collect();
    let at: Vec<usize> = (0..600).rev().filter(|at| at % 7 != 0).collect();
    for features in [features(600), mostly_zeros(600)] {
        let held = HeldFeatures::of(&features).unwrap().map(Arc::new);
        let prepared = Cuts::new(net.model(), cuts.clone(), &features, held.as_ref());
        let prepared = prepared.unwrap().unwrap();
        for engine in engines() {
            let expected = alone(&*engine, &heads, &features, &at);
            assert_eq!(shared(&*engine, &prepared, &features, &at), expected);
        }
    }
}

#[test]
fn heads_that_read_mostly_zeros_decide_by_themselves_as_in_the_engine() {
    let net = net();
    let features = mostly_zeros(600);
    let held = Arc::new(HeldFeatures::of(&features).unwrap().unwrap());
    let at: Vec<usize> = (0..600).rev().filter(|at| at % 7 != 0).collect();
    let mut other = cut(&net, each(40, 3, 1), each(17, 2, 1)).model;
    for head in [net.model(), other.clone()] {
        let cuts = Cuts::alone(&head, &features, &held).unwrap().unwrap();
        for engine in engines() {
            let expected = alone(&*engine, std::slice::from_ref(&head), &features, &at);
            assert_eq!(shared(&*engine, &cuts, &features, &at), expected);
        }
    }
    // 0 times infinity is not 0.
    let first = &mut other.graph.as_mut().unwrap().initializer[0];
    let shape = Tensor::from_proto(first).unwrap().shape().to_vec();
    let count = shape.iter().product();
    let infinite = Tensor::f32(shape, vec![f32::INFINITY; count]).unwrap();
    *first = infinite.to_proto(first.name());
    assert!(Cuts::alone(&other, &features, &held).unwrap().is_none());
}

#[test]
fn features_are_held_where_most_are_0() {
    assert!(HeldFeatures::of(&features(20)).unwrap().is_none());
    let fixed = mostly_zeros(20).with_fixed_batch(4);
    assert!(HeldFeatures::of(&fixed).unwrap().is_none());
    let none = mostly_zeros(20).select(&[]).unwrap();
    assert!(HeldFeatures::of(&none).unwrap().is_none());
    assert!(HeldFeatures::of(&mostly_zeros(20)).unwrap().is_some());
}

#[test]
fn cuts_follow_from_what_is_nearest() {
    let net = net();
    let cuts = vec![
        cut(&net, each(40, 8, 1), each(17, 4, 2)),
        cut(&net, each(40, 1, 1), each(17, 1, 2)),
        cut(&net, each(40, 2, 1), each(17, 2, 2)),
    ];
    let prepared = Cuts::new(net.model(), cuts, &features(1), None)
        .unwrap()
        .unwrap();
    assert_eq!(prepared.order, [0, 2, 3, 1]);
    let step = |at: usize| {
        let step = &prepared.steps[at];
        let base = step.base.as_ref().map(|(base, _)| *base);
        (base, step.changed.features.len())
    };
    // 40 features; one less; half of them; and five, which are fewer than those that would go.
    assert_eq!(
        [step(0), step(2), step(3)],
        [(None, 40), (Some(0), 1), (Some(2), 19)]
    );
    assert_eq!(step(1), (None, 5));
}

#[test]
fn what_is_too_near_to_tell_is_asked_of_the_engine() {
    // The last two classes have the same weights: always even.
    let mut net = net();
    let (weight, bias) = &mut net.weights[1];
    let (first, last) = weight.split_at_mut(2 * WIDTHS[1]);
    last.copy_from_slice(&first[WIDTHS[1]..]);
    bias[2] = bias[1];
    let cuts = vec![cut(&net, each(40, 2, 0), each(17, 2, 0))];
    let heads = [net.model(), cuts[0].model.clone()];
    let features = features(50);
    let at: Vec<usize> = (0..50).collect();
    let prepared = Cuts::new(net.model(), cuts, &features, None)
        .unwrap()
        .unwrap();
    for engine in engines() {
        let expected = alone(&*engine, &heads, &features, &at);
        assert!(expected[0].contains(&1));
        assert_eq!(shared(&*engine, &prepared, &features, &at), expected);
    }
    let mut found = Found::default();
    let rows = [[3.0, 1.0], [1.0, 1.0], [5.0, 5.0001], [f32::NAN, 1.0]];
    found.take(rows.as_flattened(), 2, &[4, 5, 6, 7]);
    assert_eq!(found.near, [(1, 5), (2, 6), (3, 7)]);
}

#[test]
fn heads_that_share_nothing_are_left_to_the_engine() {
    let net = net();
    let features = features(3);
    let is_shared = |whole: &Net, cut: CutHead| {
        Cuts::new(whole.model(), vec![cut], &features, None)
            .unwrap()
            .is_some()
    };
    let own = || cut(&net, each(40, 2, 0), each(17, 2, 0));
    assert!(is_shared(&net, own()));
    // repaired weights
    let mut other = net.clone();
    other.weights[0].0[2] += 0.5;
    assert!(!is_shared(&other, own()));
    // neurons that are not there
    let mut wrong = own();
    wrong.outputs = each(18, 2, 1);
    assert!(!is_shared(&net, wrong));
    // one layer only
    let one = Net::random(&[40, 3], "", 1);
    assert!(first_layer(&one.model(), &features).unwrap().is_none());
    // a fixed batch
    assert!(
        first_layer(&net.model(), &features.clone().with_fixed_batch(2))
            .unwrap()
            .is_none()
    );
}
