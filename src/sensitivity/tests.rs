//! Criteria against slow references in f64, in both engines.

mod redundancy;

use super::{Criterion, Norm, Of, Request, Scale, ScoreOptions, Scored, score, score_norms};
use crate::{
    data::Batch,
    engine::{Engine, testing::engines},
    features::testing::{Dense, batch, features, opened, part},
    graph::Graph,
    onnx::ModelProto,
};

/// Derivatives are computed in f32: single ones are off by a few 1e-7 of the largest.
const GRADIENT_RTOL: f64 = 1e-5;

const NORMS: [Norm; 5] = [
    Norm::P(1.0),
    Norm::P(2.0),
    Norm::P(3.5),
    Norm::P(200.0),
    Norm::Inf,
];

fn options(criterion: &str) -> ScoreOptions {
    ScoreOptions {
        criterion: criterion.parse().unwrap(),
        ..ScoreOptions::default()
    }
}

fn scored(
    engine: &dyn Engine,
    model: &ModelProto,
    options: &ScoreOptions,
    batches: Vec<Batch>,
) -> Scored {
    scored_norms(
        engine,
        model,
        options,
        &[(options.norm, options.class_norm())],
        batches,
    )
    .remove(0)
}

fn scored_norms(
    engine: &dyn Engine,
    model: &ModelProto,
    options: &ScoreOptions,
    norms: &[(Norm, Norm)],
    batches: Vec<Batch>,
) -> Vec<Scored> {
    let graph = Graph::new(model).unwrap();
    let (shapes, head) = opened(engine, &graph, &batches[0]);
    let request = Request {
        engine,
        graph: &graph,
        shapes: &shapes,
        head: &head,
        options,
        real_samples: false,
        on_ranked: &|_, _| Ok(()),
    };
    let features = features(engine, &graph, (&shapes, &head), batches);
    score_norms(request, norms, features.into_iter().map(Ok)).unwrap()
}

fn assert_close(found: &[f64], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().copied().fold(0.0, f64::max);
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        let error = (found - expected).abs();
        assert!(
            error <= tolerance * largest,
            "{what}: neuron {index}: {found} is not {expected}"
        );
    }
}

type Matrix = Vec<Vec<f64>>;

/// Inputs, hidden activations and scores of one sample, and the Jacobians at both layers.
struct Sample {
    x: Vec<f64>,
    hidden: Vec<f64>,
    probabilities: Vec<f64>,
    /// `[K][F]` for the features and the hidden layer.
    logits: [Matrix; 2],
}

/// A ReLU network of two dense layers, by its formulas.
fn by_formula(net: &Dense, x: &[f32]) -> Sample {
    let x: Vec<f64> = x.iter().map(|&value| f64::from(value)).collect();
    let matrix = |layer: usize| -> Matrix {
        let rows = net.weights[layer].0.chunks(net.widths[layer]);
        rows.map(|row| row.iter().map(|&w| f64::from(w)).collect())
            .collect()
    };
    let dense = |layer: usize, input: &[f64]| -> Vec<f64> {
        let rows = matrix(layer).into_iter().zip(&net.weights[layer].1);
        let dot = |row: Vec<f64>| row.iter().zip(input).map(|(w, x)| w * x).sum::<f64>();
        rows.map(|(row, &bias)| dot(row) + f64::from(bias))
            .collect()
    };
    let before = dense(0, &x);
    let hidden: Vec<f64> = before.iter().map(|z| z.max(0.0)).collect();
    let logits = dense(1, &hidden);
    let sum: f64 = logits.iter().map(|z| z.exp()).sum();
    let (first, second) = (matrix(0), matrix(1));
    let to_features = |row: &Vec<f64>| -> Vec<f64> {
        let path = |i: usize| {
            let active = (0..before.len()).filter(|&h| before[h] > 0.0);
            active.map(|h| row[h] * first[h][i]).sum()
        };
        (0..x.len()).map(path).collect()
    };
    Sample {
        probabilities: logits.iter().map(|z| z.exp() / sum).collect(),
        logits: [second.iter().map(to_features).collect(), second.clone()],
        x,
        hidden,
    }
}

impl Sample {
    /// Jacobian of the probabilities: `p_j (s_ji - sum_k p_k s_ki)`.
    fn softmax(&self, layer: usize) -> Matrix {
        let rows = &self.logits[layer];
        let p = &self.probabilities;
        let mean = |i: usize| -> f64 { p.iter().zip(rows).map(|(p, row)| p * row[i]).sum() };
        let scaled = |(p, row): (&f64, &Vec<f64>)| {
            let values = row.iter().enumerate();
            values.map(|(i, s)| p * (s - mean(i))).collect()
        };
        p.iter().zip(rows).map(scaled).collect()
    }

    fn value(&self, layer: usize) -> &[f64] {
        if layer == 0 { &self.x } else { &self.hidden }
    }
}

/// The definition: A over the samples, then the norm over the classes.
fn phi(jacobians: &[Matrix], (p, q): (Norm, Norm), neuron: usize) -> f64 {
    let over_samples = |class: usize| {
        let values = jacobians
            .iter()
            .map(|jacobian| jacobian[class][neuron].abs());
        let mean = match p {
            Norm::Inf => 1.0,
            Norm::P(p) => (jacobians.len() as f64).powf(-1.0 / p),
        };
        p.of(values) * mean
    };
    let classes: Vec<f64> = (0..jacobians[0].len()).map(over_samples).collect();
    q.of(classes)
}

fn references(net: &Dense, batch: &Batch) -> Vec<Sample> {
    let rows = batch.values.chunks(net.widths[0]);
    rows.map(|row| by_formula(net, row)).collect()
}

#[test]
fn lsa_of_a_two_layer_softmax_head_is_its_closed_form() {
    let net = Dense::random(&[7, 6, 4], "Softmax", 3);
    let data = batch(&[9, 7], 4, 5);
    let samples = references(&net, &data);
    let norms: Vec<(Norm, Norm)> = NORMS
        .iter()
        .flat_map(|&p| [(p, p), (p, Norm::P(1.0)), (p, Norm::P(2.0)), (p, Norm::Inf)])
        .collect();
    for engine in engines() {
        for of in [Of::Probabilities, Of::Logits] {
            let options = ScoreOptions {
                of,
                ..options("lsa")
            };
            let model = net.model();
            let found = scored_norms(&*engine, &model, &options, &norms, vec![data.clone()]);
            for (&pair, found) in norms.iter().zip(found) {
                assert_eq!(found.scores.layers[0].name, "features");
                for (layer, scores) in found.scores.layers.iter().enumerate() {
                    let jacobians = samples.iter().map(|sample| match of {
                        Of::Probabilities => sample.softmax(layer),
                        Of::Logits => sample.logits[layer].clone(),
                    });
                    let jacobians: Vec<Matrix> = jacobians.collect();
                    let neurons = 0..net.widths[layer];
                    let expected: Vec<f64> = neurons.map(|i| phi(&jacobians, pair, i)).collect();
                    let what = format!("{} {of:?} p, q {pair:?} {}", engine.info(), scores.name);
                    assert_close(&scores.values, &expected, GRADIENT_RTOL, &what);
                }
            }
        }
    }
}

#[test]
fn probabilities_are_those_of_the_softmax_whatever_the_file_ends_in() {
    let data = batch(&[5, 6], 3, 1);
    for engine in engines() {
        let of_ending = |ending| {
            let net = Dense::random(&[6, 5, 3], ending, 2);
            scored(&*engine, &net.model(), &options("lsa"), vec![data.clone()]).scores
        };
        let expected = of_ending("Softmax");
        for ending in ["", "LogSoftmax"] {
            for (found, expected) in of_ending(ending).layers.iter().zip(&expected.layers) {
                assert_close(&found.values, &expected.values, GRADIENT_RTOL, ending);
            }
        }
        // d sigmoid(z_j) = p_j (1 - p_j) W_ji, with one linear layer.
        let net = Dense::random(&[6, 3], "Sigmoid", 2);
        let found = scored(&*engine, &net.model(), &options("lsa"), vec![data.clone()]);
        let slope = |row: &[f32], j: usize| {
            let weights = &net.weights[0].0[j * 6..(j + 1) * 6];
            let dot: f64 = row.iter().zip(weights).map(|(x, w)| f64::from(x * w)).sum();
            let p = 1.0 / (1.0 + (-dot - f64::from(net.weights[0].1[j])).exp());
            p * (1.0 - p)
        };
        let jacobians: Vec<Matrix> = data
            .values
            .chunks(6)
            .map(|row| {
                let class = |j: usize| {
                    let weights = net.weights[0].0[j * 6..(j + 1) * 6].iter();
                    weights.map(|&w| slope(row, j) * f64::from(w)).collect()
                };
                (0..3).map(class).collect()
            })
            .collect();
        let expected: Vec<f64> = (0..6)
            .map(|i| phi(&jacobians, (Norm::Inf, Norm::Inf), i))
            .collect();
        assert_close(
            &found.scores.layers[0].values,
            &expected,
            GRADIENT_RTOL,
            "sigmoid",
        );
    }
}

#[test]
fn scores_do_not_depend_on_the_batch_size() {
    let mut net = Dense::random(&[8, 6, 5], "", 4);
    let data = batch(&[7, 8], 5, 6);
    let norms: Vec<(Norm, Norm)> = NORMS.iter().map(|&p| (p, p)).collect();
    for engine in engines() {
        for criterion in Criterion::all().filter(|criterion| criterion.name() != "random") {
            let options = options(criterion.name());
            let run = |net: &Dense, cuts: &[usize]| {
                let parts = cuts.windows(2).map(|pair| part(&data, pair[0], pair[1]));
                scored_norms(&*engine, &net.model(), &options, &norms, parts.collect())
            };
            net.batch = None;
            let whole = run(&net, &[0, 7]);
            let pieces = run(&net, &[0, 3, 6, 7]);
            // A fixed batch of 3, whose last one is filled up with two copies.
            net.batch = Some(3);
            let filled = run(&net, &[0, 3, 6, 7]);
            for found in [pieces, filled] {
                for (found, whole) in found.iter().zip(&whole) {
                    let layers = found.scores.layers.iter().zip(&whole.scores.layers);
                    for (found, whole) in layers {
                        assert_close(
                            &found.values,
                            &whole.values,
                            GRADIENT_RTOL,
                            criterion.name(),
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn scales_multiply_by_the_spread_of_each_neuron() {
    let net = Dense::random(&[7, 6, 4], "", 3);
    let data = batch(&[9, 7], 4, 5);
    let samples = references(&net, &data);
    for engine in engines() {
        for scale in [Scale::Std, Scale::Range] {
            let options = ScoreOptions {
                scale,
                norm: Norm::P(2.0),
                ..options("lsa")
            };
            let parts = vec![part(&data, 0, 5), part(&data, 5, 9)];
            let found = scored(&*engine, &net.model(), &options, parts);
            for (layer, scores) in found.scores.layers.iter().enumerate() {
                let jacobians: Vec<Matrix> = samples.iter().map(|s| s.softmax(layer)).collect();
                let expected = (0..net.widths[layer]).map(|i| {
                    let values: Vec<f64> = samples.iter().map(|s| s.value(layer)[i]).collect();
                    phi(&jacobians, (Norm::P(2.0), Norm::P(2.0)), i) * spread(&values, scale)
                });
                let expected: Vec<f64> = expected.collect();
                assert_close(&scores.values, &expected, GRADIENT_RTOL, &scores.name);
            }
        }
    }
}

fn spread(values: &[f64], scale: Scale) -> f64 {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let smallest = values.iter().copied().fold(f64::INFINITY, f64::min);
    match scale {
        Scale::Std => (values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count).sqrt(),
        _ => largest - smallest,
    }
}

/// Two features, two hidden neurons, two classes, two samples; everything fits in a head.
fn by_hand() -> (Dense, Batch) {
    let net = Dense {
        widths: vec![2, 2, 2],
        activation: "Relu",
        ending: "",
        batch: None,
        weights: vec![
            (vec![1., 0., 0., 2.], vec![0., 0.]),
            (vec![3., 1., -4., 2.], vec![0., 0.]),
        ],
    };
    // Hidden: [1, 0] and [3, 4].
    let data = Batch {
        shape: vec![2, 2],
        values: vec![1., -1., 3., 2.],
        labels: Some(vec![0, 1]),
    };
    (net, data)
}

#[test]
fn baselines_are_what_they_are_by_hand() {
    let (net, data) = by_hand();
    let l2 = [(Norm::Inf, Norm::P(2.0))];
    let cases = [
        ("weight", [[1.0, 2.0], [5.0, 5_f64.sqrt()]]),
        ("activation", [[2.0, 1.5], [2.0, 2.0]]),
        ("variance", [[1.0, 2.25], [1.0, 4.0]]),
        ("apoz", [[1.0, 1.0], [1.0, 0.5]]),
        ("wifv", [[1.0, 2.25 * 4.0], [25.0, 4.0 * 5.0]]),
    ];
    for engine in engines() {
        for (criterion, expected) in cases {
            let options = options(criterion);
            let found = scored_norms(&*engine, &net.model(), &options, &l2, vec![data.clone()]);
            for (layer, expected) in found[0].scores.layers.iter().zip(expected) {
                assert_close(&layer.values, &expected, 1e-6, criterion);
            }
        }
    }
}

#[test]
fn taylor_squares_the_change_of_the_loss() {
    let net = Dense::random(&[7, 6, 4], "Softmax", 3);
    let data = batch(&[9, 7], 4, 5);
    let samples = references(&net, &data);
    for engine in engines() {
        for labelled in [true, false] {
            let mut data = data.clone();
            let decisions = samples.iter().map(|sample| {
                let p = &sample.probabilities;
                (0..4).fold(0, |best, j| if p[j] > p[best] { j } else { best })
            });
            let labels = match data.labels.take() {
                Some(labels) if labelled => labels,
                _ => decisions.collect(),
            };
            data.labels = labelled.then(|| labels.clone());
            let found = scored(&*engine, &net.model(), &options("taylor"), vec![data]);
            assert_eq!(found.report.notes.is_empty(), labelled);
            for (layer, scores) in found.scores.layers.iter().enumerate() {
                // dL/dz_j = p_j - 1[j = label]
                let change = |(sample, &label): (&Sample, &usize), i: usize| -> f64 {
                    let rows = sample.logits[layer].iter().enumerate();
                    let slope: f64 = rows
                        .map(|(j, row)| {
                            row[i] * (sample.probabilities[j] - f64::from(u8::from(j == label)))
                        })
                        .sum();
                    (slope * sample.value(layer)[i]).powi(2)
                };
                let mean = |i: usize| {
                    let pairs = samples.iter().zip(&labels);
                    pairs.map(|pair| change(pair, i)).sum::<f64>() / 9.0
                };
                let expected: Vec<f64> = (0..net.widths[layer]).map(mean).collect();
                assert_close(&scores.values, &expected, GRADIENT_RTOL, &scores.name);
            }
        }
    }
}

#[test]
fn a_linear_head_on_logits_needs_no_data() {
    let net = Dense::random(&[6, 4], "Softmax", 8);
    let model = net.model();
    let data = batch(&[3, 6], 4, 1);
    for engine in engines() {
        let graph = Graph::new(&model).unwrap();
        let (shapes, head) = opened(&*engine, &graph, &data);
        let mut options = options("lsa");
        options.norm = Norm::P(2.0);
        options.of = Of::Logits;
        let request = Request {
            engine: &*engine,
            graph: &graph,
            shapes: &shapes,
            head: &head,
            options: &options,
            real_samples: false,
            on_ranked: &|_, _| Ok(()),
        };
        let found = score(request, []).unwrap();
        let column = |i: usize| {
            let weights = (0..4).map(|j| f64::from(net.weights[0].0[j * 6 + i]));
            weights.map(|w| w * w).sum::<f64>().sqrt()
        };
        let expected: Vec<f64> = (0..6).map(column).collect();
        assert_close(
            &found.scores.layers[0].values,
            &expected,
            1e-6,
            "columns of W",
        );
        assert_eq!((found.report.samples, found.report.notes.len()), (0, 1));
        let options = ScoreOptions::default();
        let request = Request {
            options: &options,
            ..request
        };
        assert!(
            score(request, [])
                .unwrap_err()
                .to_string()
                .contains("--data")
        );
    }
}

#[test]
fn random_scores_follow_the_seed() {
    let (net, data) = by_hand();
    let engine = &engines()[0];
    let run = |seed| {
        let options = ScoreOptions {
            seed,
            ..options("random")
        };
        scored(&**engine, &net.model(), &options, vec![data.clone()])
    };
    assert_eq!(run(1).scores, run(1).scores);
    assert_ne!(run(1).scores, run(2).scores);
    assert_eq!((run(1).report.seed, run(1).report.samples), (Some(1), 0));
}

#[test]
fn numbers_that_are_none_are_reported_with_their_neuron() {
    let mut net = Dense::random(&[5, 4, 3], "", 1);
    let data = batch(&[2, 5], 3, 1);
    net.weights[0].0[2] = f32::NAN;
    for engine in engines() {
        for criterion in [
            "lsa",
            "curvature",
            "activation",
            "variance",
            "apoz",
            "wifv",
            "taylor",
        ] {
            let model = net.model();
            let graph = Graph::new(&model).unwrap();
            let (shapes, head) = opened(&*engine, &graph, &data);
            let request = Request {
                engine: &*engine,
                graph: &graph,
                shapes: &shapes,
                head: &head,
                options: &options(criterion),
                real_samples: false,
                on_ranked: &|_, _| Ok(()),
            };
            let batches = features(&*engine, &graph, (&shapes, &head), vec![data.clone()]);
            let error = score(request, batches.into_iter().map(Ok))
                .unwrap_err()
                .to_string();
            let named = error.contains("neuron") && error.contains("NaN or infinite");
            assert!(named, "{criterion}: {error}");
        }
    }
}

#[test]
fn choices_that_would_be_ignored_are_refused() {
    let mut scaled = options("weight");
    scaled.scale = Scale::Std;
    let mut classes = options("variance");
    classes.over_classes = Some(Norm::Inf);
    for (options, flag) in [(scaled, "--scale"), (classes, "--over-classes")] {
        assert!(options.check().unwrap_err().to_string().contains(flag));
    }
    assert!(
        "lasso"
            .parse::<Criterion>()
            .unwrap_err()
            .to_string()
            .contains("lsa, weight")
    );
}

#[test]
fn reports_name_the_choices_that_were_used_and_no_others() {
    let (net, data) = by_hand();
    let engine = &engines()[0];
    let report = |criterion: &str| {
        let found = scored(
            &**engine,
            &net.model(),
            &options(criterion),
            vec![data.clone()],
        );
        serde_json::to_string(&found.report).unwrap()
    };
    let cases = [
        (
            "lsa",
            r#"{"criterion":"lsa","norm":"inf","over_classes":"inf","of":"probabilities","scale":"none","samples":2,"way":"from the weights, as the head is a chain of dense layers: features from those of like samples, fc1 in closed form","notes":[]}"#,
        ),
        (
            "weight",
            r#"{"criterion":"weight","over_classes":"inf","samples":0,"notes":[]}"#,
        ),
        (
            "variance",
            r#"{"criterion":"variance","samples":2,"notes":[]}"#,
        ),
        (
            "random",
            r#"{"criterion":"random","seed":0,"samples":0,"notes":[]}"#,
        ),
    ];
    for (criterion, expected) in cases {
        assert_eq!(report(criterion), expected);
    }
}
