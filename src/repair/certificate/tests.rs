use super::*;
use crate::{
    engine::testing::engines,
    features::testing::{Dense, Numbers},
    onnx::{DataType, NodeProto, Tensor},
};

/// Two random heads of one form, the second a little off, and samples.
fn pair(widths: &[usize], activation: &'static str, off: f32, seed: u64) -> (Dense, Dense, Tensor) {
    let mut first = Dense::random(widths, "Softmax", seed);
    first.activation = activation;
    let mut second = first.clone();
    let mut numbers = Numbers(seed + 100);
    for (weight, bias) in &mut second.weights {
        for value in weight.iter_mut().chain(bias) {
            *value += off * numbers.take(1)[0];
        }
    }
    let x = numbers.take(200 * widths[0]);
    let x = Tensor::f32([200, widths[0]], x).unwrap();
    (first, second, x)
}

fn features(x: &Tensor) -> FeatureSet {
    FeatureSet::from_memory(vec!["x".to_owned()], vec![x.clone()], None).unwrap()
}

fn certified(
    engine: &dyn Engine,
    models: [&ModelProto; 2],
    x: &Tensor,
    at: &[usize],
) -> Certificate {
    let features = features(x);
    let comparison = Comparison {
        engine,
        original: models[0],
        pruned: models[1],
        features: &features,
        positions: at,
    };
    certificate(comparison, &mut |_| Ok(())).unwrap()
}

/// Scores in f64, by definition.
fn slow(net: &Dense, x: &[f32]) -> Vec<f64> {
    let mut values: Vec<f64> = x.iter().map(|&value| f64::from(value)).collect();
    for (layer, (weight, bias)) in net.weights.iter().enumerate() {
        let rows = weight.chunks(values.len()).zip(bias);
        let made = rows.map(|(row, &bias)| {
            let products = row.iter().zip(&values).map(|(&w, x)| f64::from(w) * x);
            products.sum::<f64>() + f64::from(bias)
        });
        values = made.collect();
        if layer + 1 < net.weights.len() {
            for value in &mut values {
                *value = match net.activation {
                    "Relu" => value.max(0.0),
                    "Tanh" => value.tanh(),
                    _ => 1.0 / (1.0 + (-*value).exp()),
                };
            }
        }
    }
    values
}

fn top_of(scores: &[f64]) -> usize {
    let classes = scores.iter().enumerate();
    classes.max_by(|a, b| a.1.total_cmp(b.1)).unwrap().0
}

#[test]
fn no_sample_whose_class_changes_is_certified_and_most_others_are() {
    let cases: [(&[usize], &str); 4] = [
        (&[20, 5], "Relu"),
        (&[20, 16, 5], "Relu"),
        (&[20, 16, 12, 5], "Tanh"),
        (&[20, 16, 12, 5], "Sigmoid"),
    ];
    for engine in engines() {
        for (seed, (widths, activation)) in (1..).zip(cases) {
            for off in [0.0, 0.02, 0.5] {
                let (first, second, x) = pair(widths, activation, off, seed);
                let models = [first.model(), second.model()];
                let tensor = x.to_f32();
                let kept = |row: &usize| {
                    let values = &tensor[row * widths[0]..(row + 1) * widths[0]];
                    top_of(&slow(&first, values)) == top_of(&slow(&second, values))
                };
                let (same, changed): (Vec<usize>, Vec<usize>) = (0..200).partition(kept);
                let same = same.len();
                let wrong = certified(&*engine, [&models[0], &models[1]], &x, &changed);
                assert_eq!(wrong.certified, 0, "{widths:?} {off}");
                let all: Vec<usize> = (0..200).collect();
                let found = certified(&*engine, [&models[0], &models[1]], &x, &all);
                assert_eq!((found.samples, &found.unavailable), (200, &None));
                assert!(found.certified <= same && same > 0, "{found:?} {same}");
                assert!(
                    found.certified * 10 >= same * 9,
                    "{widths:?} {off}: {found:?} {same}"
                );
            }
        }
    }
}

#[test]
fn a_tie_is_not_certified() {
    let mut net = Dense::random(&[4, 3], "", 1);
    let (weight, bias) = &mut net.weights[0];
    // Two classes alike.
    weight.copy_within(0..4, 4);
    bias[1] = bias[0];
    bias[2] = -100.0;
    let x = Tensor::f32([8, 4], Numbers(3).take(32)).unwrap();
    let model = net.model();
    let all: Vec<usize> = (0..8).collect();
    let found = certified(&*engines()[0], [&model, &model], &x, &all);
    assert_eq!((found.samples, found.certified), (8, 0));
}

#[test]
fn the_bound_holds_for_sums_in_half_precision() {
    // A margin of 2^-9 is far above the rounding of f32 and within that of f16.
    let mut net = Dense::random(&[4, 2], "", 1);
    net.weights[0] = (vec![1.0; 8], vec![0.0, 2.0_f32.powi(-9)]);
    let x = Tensor::f32([1, 4], vec![0.5; 4]).unwrap();
    let full = net.model();
    let found = certified(&*engines()[0], [&full, &full], &x, &[0]);
    assert_eq!(found.certified, 1);
    let mut half = full.clone();
    let unused = Tensor::f32([1], vec![1.0]).unwrap();
    let unused = unused.cast(DataType::Float16).unwrap().to_proto("half");
    half.graph.as_mut().unwrap().initializer.push(unused);
    let found = certified(&*engines()[0], [&full, &half], &x, &[0]);
    assert_eq!(found.certified, 0);
}

#[test]
fn a_head_without_known_bounds_is_said() {
    let (first, _, x) = pair(&[6, 6, 3], "Relu", 0.0, 1);
    let plain = first.model();
    let mut joined = plain.clone();
    let nodes = &mut joined.graph.as_mut().unwrap().node;
    nodes.insert(2, NodeProto::new("Add", &["y0_Relu", "x"], &["sum"]));
    nodes[3].input[0] = "sum".to_owned();
    let mut strange = plain.clone();
    strange.graph.as_mut().unwrap().node[1].op_type = Some("Sin".to_owned());
    for (model, words) in [
        (joined, "joins several values"),
        (strange, "no known bound"),
    ] {
        let found = certified(&*engines()[0], [&plain, &model], &x, &[0]);
        let why = found.unavailable.unwrap();
        assert!(why.contains(words) && found.certified == 0, "{why}");
    }
}
