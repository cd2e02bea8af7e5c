//! Chains against the gradient graph in the engine, which knows nothing of them.

mod cases;
mod device;
mod zeros;

use super::{Structure, chain::Chain, has_worst_case, worst_case};
use crate::{
    algebra::MOST,
    data::Batch,
    engine::{Engine, testing::engines},
    features::testing::{Dense, batch, features, opened, part},
    graph::Graph,
    head::Head,
    onnx::{ModelProto, NodeProto, Tensor},
    sensitivity::{
        Norm, Of, Request, ScoreOptions, Scored, Slopes, cells::added, gradient::HeadGradient,
        power_sums::PowerSums, score, score_norms,
    },
};
use cases::{Case, cases};

/// Products in another order, and up to two thousand roundings one after the other.
const RTOL: f64 = 1e-5;

const P: [Norm; 4] = [Norm::P(1.0), Norm::P(2.0), Norm::P(7.5), Norm::Inf];

fn request<'r>(
    engine: &'r dyn Engine,
    graph: &'r Graph<'r>,
    (shapes, head): (&'r crate::graph::Shapes, &'r Head),
    options: &'r ScoreOptions,
) -> Request<'r> {
    Request {
        engine,
        graph,
        shapes,
        head,
        options,
        real_samples: false,
        on_ranked: &|_, _| Ok(()),
    }
}

/// The scores of all layers, norm by norm, in batches.
fn scored(
    engine: &dyn Engine,
    model: &ModelProto,
    (of, norms): (Of, &[(Norm, Norm)]),
    batches: Vec<Batch>,
) -> Vec<Scored> {
    let graph = Graph::new(model).unwrap();
    let (shapes, head) = opened(engine, &graph, &batches[0]);
    let options = ScoreOptions {
        of,
        ..ScoreOptions::default()
    };
    let request = request(engine, &graph, (&shapes, &head), &options);
    let features = features(engine, &graph, (&shapes, &head), batches);
    score_norms(request, norms, features.into_iter().map(Ok)).unwrap()
}

/// The same from the gradient graph.
fn by_gradient(
    engine: &dyn Engine,
    model: &ModelProto,
    (of, norms): (Of, &[(Norm, Norm)]),
    data: &Batch,
) -> Vec<Vec<Vec<f64>>> {
    let graph = Graph::new(model).unwrap();
    let (shapes, head) = opened(engine, &graph, data);
    let options = ScoreOptions::default();
    let request = request(engine, &graph, (&shapes, &head), &options);
    let mut gradient = HeadGradient::new(request, of.into(), false).unwrap();
    let classes = gradient.classes;
    let mut sums: Vec<Vec<PowerSums>> = head.layers.iter().map(|_| Vec::new()).collect();
    for batch in features(engine, &graph, (&shapes, &head), vec![data.clone()]) {
        gradient
            .jacobian(&batch, |rows, _| {
                for (sums, sinks) in sums.iter_mut().zip(rows.layers) {
                    let cells = added(sinks).unwrap();
                    if sums.is_empty() {
                        let new = norms.iter();
                        *sums = new
                            .map(|&norms| PowerSums::new(norms, classes, &cells).unwrap())
                            .collect();
                    }
                    for sums in sums {
                        sums.add(rows.first, rows.count, batch.samples, &cells);
                    }
                }
                Ok(())
            })
            .unwrap();
        for sums in sums.iter_mut().flatten() {
            sums.count(batch.samples);
        }
    }
    let pairs = 0..norms.len();
    pairs
        .map(|pair| sums.iter().map(|sums| sums[pair].scores(None)).collect())
        .collect()
}

#[test]
fn chains_score_as_their_gradient_graphs_do() {
    for engine in engines() {
        for (at, case) in cases().into_iter().enumerate() {
            assert_scores(&*engine, &case, at);
        }
    }
}

#[test]
fn narrower_vectors_score_the_same() {
    let engine = &engines()[0];
    for most in [8, 4] {
        // A pool of its own: others go on with the widest.
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2);
        let pool = pool.start_handler(move |_| MOST.set(most)).build().unwrap();
        pool.install(|| {
            for (at, case) in cases().into_iter().enumerate() {
                assert_scores(&**engine, &case, at);
            }
        });
    }
}

/// A case, in one batch and in two, against its gradient graph.
fn assert_scores(engine: &dyn Engine, case: &Case, at: usize) {
    let Case {
        widths, samples, ..
    } = *case;
    let what = case.name(engine);
    let model = case.model(at);
    let data = batch(&[samples, widths[0]], 2, at as u64);
    let wanted = (case.of, &*case.norms);
    let expected = by_gradient(engine, &model, wanted, &data);
    let halves = vec![
        part(&data, 0, samples / 2),
        part(&data, samples / 2, samples),
    ];
    for batches in [vec![data.clone()], halves] {
        let whole = batches.len() == 1;
        let found = scored(engine, &model, wanted, batches);
        let way = found[0].report.way.clone().unwrap_or_default();
        assert!(!whole || way.contains(case.way), "{what}: {way}");
        for ((norms, found), expected) in case.norms.iter().zip(found).zip(&expected) {
            let what = format!("{what}, p {} q {}", norms.0, norms.1);
            for (layer, expected) in found.scores.layers.iter().zip(expected) {
                assert_near(&format!("{what}, {}", layer.name), &layer.values, expected);
            }
        }
    }
}

/// Scores of a layer, against those of its gradient graph.
fn assert_near(what: &str, found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().copied().fold(0.0, f64::max);
    for (neuron, (found, expected)) in found.iter().zip(expected).enumerate() {
        let error = (found - expected).abs() / largest;
        assert!(error < RTOL, "{what} {neuron}: {found} is not {expected}");
    }
}

#[test]
fn the_same_samples_give_the_same_bits() {
    let engine = &engines()[0];
    let model = Dense::random(&[40, 30, 4], "Softmax", 3).model();
    let data = batch(&[50, 40], 2, 3);
    let norms = P.map(|p| (p, p));
    let together = scored(
        &**engine,
        &model,
        (Of::Probabilities, &norms),
        vec![data.clone()],
    );
    for (norms, together) in norms.into_iter().zip(&together) {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(1)
            .build()
            .unwrap();
        let alone = pool.install(|| {
            scored(
                &**engine,
                &model,
                (Of::Probabilities, &[norms]),
                vec![data.clone()],
            )
        });
        let squares = norms.0 == Norm::P(2.0);
        // Squares alone go another way.
        assert!(
            squares || alone[0].scores == together.scores,
            "p {}",
            norms.0
        );
    }
}

/// The options' scores of all layers, one after the other, and the notes.
fn scores_with(
    options: &ScoreOptions,
    model: &ModelProto,
    data: &Batch,
) -> (Vec<f64>, Vec<String>) {
    let engine = &engines()[0];
    let graph = Graph::new(model).unwrap();
    let (shapes, head) = opened(&**engine, &graph, data);
    let request = request(&**engine, &graph, (&shapes, &head), options);
    let features = features(&**engine, &graph, (&shapes, &head), vec![data.clone()]);
    let found = score(request, features.into_iter().map(Ok)).unwrap();
    let layers = found.scores.layers.into_iter();
    (
        layers.flat_map(|layer| layer.values).collect(),
        found.report.notes,
    )
}

#[test]
fn rows_and_probes_are_off_by_as_much_as_is_said() {
    struct Case {
        widths: &'static [usize],
        norm: Norm,
        row_tolerance: Option<f64>,
        probes: Option<usize>,
        /// Largest difference, relative to the largest score.
        within: (f64, f64),
    }
    let case = |widths, norm, row_tolerance, probes, within| Case {
        widths,
        norm,
        row_tolerance,
        probes,
        within,
    };
    let two = Norm::P(2.0);
    let cases = [
        // nothing is that small
        case(
            &[20, 12, 4][..],
            Norm::P(1.0),
            Some(1e-30),
            None,
            (0.0, 1e-6),
        ),
        // a row left out takes at most p (1 - p) off, times what logits change by
        case(&[20, 12, 4], Norm::P(1.0), Some(0.02), None, (1e-6, 0.2)),
        case(&[20, 12, 4], Norm::Inf, Some(0.02), None, (0.0, 0.2)),
        case(&[9, 5], Norm::P(1.0), Some(0.02), None, (1e-6, 0.2)),
        case(&[20, 12, 6, 4], two, Some(0.02), None, (0.0, 0.2)),
        // 64 samples and 16 rows: some 1 / sqrt(1024)
        case(&[20, 12, 4], two, None, Some(16), (1e-6, 0.2)),
        case(&[20, 12, 6, 4], two, None, Some(16), (1e-6, 0.2)),
        case(&[20, 12, 6, 4], two, Some(1e-30), Some(400), (1e-6, 0.05)),
    ];
    for (at, case) in cases.iter().enumerate() {
        let model = Dense::random(case.widths, "Softmax", at as u64).model();
        let data = batch(&[64, case.widths[0]], 2, at as u64);
        let exact = ScoreOptions {
            norm: case.norm,
            ..ScoreOptions::default()
        };
        let options = ScoreOptions {
            row_tolerance: case.row_tolerance,
            probes: case.probes,
            ..exact.clone()
        };
        let (exact, none) = scores_with(&exact, &model, &data);
        let (found, notes) = scores_with(&options, &model, &data);
        let pairs = exact.iter().zip(&found);
        let largest = exact.iter().copied().fold(0.0, f64::max);
        let error = pairs.fold(0.0, |worst, (exact, found)| {
            f64::max(worst, (exact - found).abs())
        });
        let (low, high) = case.within;
        assert!(none.is_empty() && notes.len() == 1);
        assert!(
            (low..=high).contains(&(error / largest)),
            "case {at}: {}",
            error / largest
        );
        assert!(
            notes[0].contains("on the first 64 samples alone"),
            "{}",
            notes[0]
        );
    }
}

#[test]
fn approximations_without_effect_are_refused() {
    struct Case {
        activation: &'static str,
        widths: &'static [usize],
        options: ScoreOptions,
        expected: &'static str,
    }
    let probes = ScoreOptions {
        norm: Norm::P(2.0),
        probes: Some(4),
        ..ScoreOptions::default()
    };
    let rows = ScoreOptions {
        row_tolerance: Some(1e-5),
        ..ScoreOptions::default()
    };
    let cases = [
        Case {
            activation: "Relu",
            widths: &[6, 3],
            options: probes.clone(),
            expected: "--probes: has no effect on a head of one dense layer",
        },
        Case {
            activation: "Softmax",
            widths: &[6, 5, 3],
            options: probes.clone(),
            expected: "--probes: has an effect on heads that are chains",
        },
        Case {
            activation: "Softmax",
            widths: &[6, 5, 3],
            options: rows.clone(),
            expected: "--row-tolerance: has an effect on heads that are chains",
        },
        Case {
            activation: "Relu",
            widths: &[6, 5, 3],
            options: ScoreOptions {
                of: Of::Logits,
                ..rows
            },
            expected: "--row-tolerance: has no effect with --of logits",
        },
        Case {
            activation: "Relu",
            widths: &[6, 5, 3],
            options: ScoreOptions {
                norm: Norm::Inf,
                ..probes
            },
            expected: "--probes: has no effect but with --norm 2",
        },
    ];
    let engine = &engines()[0];
    for case in cases {
        let mut net = Dense::random(case.widths, "", 1);
        net.activation = case.activation;
        let (model, data) = (net.model(), batch(&[4, 6], 2, 1));
        let graph = Graph::new(&model).unwrap();
        let (shapes, head) = opened(&**engine, &graph, &data);
        let request = request(&**engine, &graph, (&shapes, &head), &case.options);
        let features = features(&**engine, &graph, (&shapes, &head), vec![data]);
        let error = score(request, features.into_iter().map(Ok))
            .unwrap_err()
            .to_string();
        assert!(error.contains(case.expected), "{error}");
    }
}

#[test]
fn the_worst_case_bounds_every_sample() {
    for widths in [&[9, 5][..], &[20, 12, 4], &[20, 12, 6, 4]] {
        let model = Dense::random(widths, "Softmax", 5).model();
        let graph = Graph::new(&model).unwrap();
        let data = batch(&[50, widths[0]], 2, 5);
        let (_, head) = opened(&*engines()[0], &graph, &data);
        assert!(has_worst_case(&graph, &head));
        for norm in P {
            let options = ScoreOptions {
                norm,
                of: Of::Logits,
                ..ScoreOptions::default()
            };
            let worst = ScoreOptions {
                slopes: Slopes::Worst,
                ..options.clone()
            };
            let (found, _) = scores_with(&options, &model, &data);
            let (bound, notes) = scores_with(&worst, &model, &data);
            assert!(notes[0].contains("no data was needed"));
            for (found, bound) in found.iter().zip(&bound) {
                assert!(
                    *found <= bound * (1.0 + 1e-6),
                    "{widths:?} p {norm}: {found}, {bound}"
                );
                // The last layer's derivatives are the same for all samples.
                assert!(widths.len() > 2 || *found > bound * (1.0 - 1e-6));
            }
        }
    }
}

#[test]
fn bounds_from_weights_that_are_no_numbers_are_refused() {
    for (layer, norm) in [(0, Norm::Inf), (1, Norm::Inf), (1, Norm::P(2.0))] {
        let mut net = Dense::random(&[6, 5, 3], "Softmax", 1);
        net.weights[layer].0[2] = f32::NAN;
        let model = net.model();
        let graph = Graph::new(&model).unwrap();
        let engine = &engines()[0];
        let (_, head) = opened(&**engine, &graph, &batch(&[2, 6], 2, 1));
        let error = worst_case(&graph, &head, &[(norm, norm)])
            .unwrap_err()
            .to_string();
        assert!(error.contains("is NaN or infinite"), "{error}");
    }
}

/// A head with other operators between its two dense layers.
fn between(nodes: &[NodeProto], constants: &[(&str, Tensor)]) -> ModelProto {
    let mut model = Dense::random(&[6, 5, 3], "", 1).model();
    let graph = model.graph.as_mut().unwrap();
    let at = graph
        .node
        .iter()
        .position(|node| node.op() == "Relu")
        .unwrap();
    let output = graph.node[at].output[0].clone();
    let mut nodes = nodes.to_vec();
    nodes.last_mut().unwrap().output = vec![output];
    graph.node.splice(at..=at, nodes);
    for (name, tensor) in constants {
        graph.initializer.push(tensor.to_proto(*name));
    }
    model
}

#[test]
fn activations_in_several_operators_are_bends_and_mixing_ones_are_not() {
    let one = |op: &str| NodeProto::new(op, &["y0"], &["z"]);
    let three = Tensor::f32([1], vec![3.0]).unwrap();
    let cases: [(Vec<NodeProto>, Option<&str>); 5] = [
        // x · clip(x + 3, 0, 6), as exporters write it
        (
            vec![
                NodeProto::new("Add", &["y0", "three"], &["a"]),
                NodeProto::new("Clip", &["a"], &["b"]),
                NodeProto::new("Mul", &["y0", "b"], &["z"]),
            ],
            None,
        ),
        (vec![one("Identity")], None),
        (vec![one("Softmax")], Some("mixes neurons")),
        (
            vec![
                one("Relu"),
                NodeProto::new("Softmax", &["y0"], &["c"]),
                NodeProto::new("Add", &["z", "c"], &["d"]),
            ],
            Some("mixes neurons"),
        ),
        (
            vec![NodeProto::new("Add", &["y0", "x5"], &["d"])],
            Some("reads other values too"),
        ),
    ];
    let engine = &engines()[0];
    for (nodes, expected) in cases {
        let mut model = between(&nodes, &[("three", three.clone())]);
        let graph = model.graph.as_mut().unwrap();
        // The first five of the six features.
        let limits = [("zero", 0), ("five", 5), ("one", 1)];
        for (name, value) in limits {
            graph
                .initializer
                .push(Tensor::i64([1], vec![value]).unwrap().to_proto(name));
        }
        graph.node.insert(
            0,
            NodeProto::new("Slice", &["x", "zero", "five", "one"], &["x5"]),
        );
        let graph = Graph::new(&model).unwrap();
        let (shapes, head) = opened(&**engine, &graph, &batch(&[2, 6], 2, 1));
        let found = Chain::find(&graph, Some(&shapes), &head).map(|chain| chain.links.len());
        match expected {
            None => assert_eq!(found, Ok(2), "{nodes:?}"),
            Some(why) => assert!(
                found.as_ref().is_err_and(|found| found.contains(why)),
                "{found:?}"
            ),
        }
        let options = ScoreOptions::default();
        let request = request(&**engine, &graph, (&shapes, &head), &options);
        let structure = Structure::new(request, Of::Logits.into(), &[(Norm::Inf, Norm::Inf)], true);
        assert_eq!(structure.unwrap().is_ok(), expected.is_none());
    }
}
