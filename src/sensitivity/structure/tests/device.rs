//! The graph for devices, on the CPU, against the gradient graph.

use super::{
    assert_near, by_gradient,
    cases::{Case, cases},
    request,
};
use crate::{
    data::Batch,
    engine::{Engine, Snapshot, Steps, testing::engines},
    error::{Error, Result},
    features::testing::{Dense, batch, features, opened, part},
    graph::Graph,
    onnx::{ModelProto, Tensor},
    sensitivity::{Norm, Of, ScoreOptions, structure::OnDevice},
};

/// The scores of all layers, norm by norm, with so many samples in a step.
fn scored(
    engine: &dyn Engine,
    model: &ModelProto,
    (of, norms): (Of, &[(Norm, Norm)]),
    batches: Vec<Batch>,
    (split, step): (bool, usize),
) -> Vec<Vec<Vec<f64>>> {
    let graph = Graph::new(model).unwrap();
    let (shapes, head) = opened(engine, &graph, &batches[0]);
    let options = ScoreOptions::default();
    let request = request(engine, &graph, (&shapes, &head), &options);
    let found = OnDevice::with_parts(request, of.into(), norms, (false, split));
    let mut device = found.unwrap().unwrap();
    device.samples = step;
    let mut sums = device.sums(norms).unwrap();
    for batch in features(engine, &graph, (&shapes, &head), batches) {
        let mut parts: Vec<_> = sums.iter_mut().map(|sums| &mut **sums).collect();
        device.add(&batch, &mut parts).unwrap();
        let sums = sums.iter_mut().flatten();
        sums.for_each(|sums| sums.count(batch.samples));
    }
    let mut parts: Vec<_> = sums.iter_mut().map(|sums| &mut **sums).collect();
    device.flush(&mut parts).unwrap();
    let pairs = 0..norms.len();
    pairs
        .map(|pair| sums.iter().map(|sums| sums[pair].scores(None)).collect())
        .collect()
}

#[test]
fn the_graph_for_devices_scores_as_gradient_graphs_do() {
    const PLAIN: [Norm; 4] = [Norm::P(1.0), Norm::P(2.0), Norm::P(3.5), Norm::Inf];
    for engine in engines() {
        for (at, case) in cases().into_iter().enumerate() {
            let Case {
                widths, samples, ..
            } = case;
            let norms = match case.norms.as_slice() {
                [only] => vec![*only],
                _ => PLAIN.map(|p| (p, p)).to_vec(),
            };
            let what = case.name(&*engine);
            let model = case.model(at);
            let data = batch(&[samples, widths[0]], 2, at as u64);
            let wanted = (case.of, &*norms);
            let expected = by_gradient(&*engine, &model, wanted, &data);
            let parts = vec![part(&data, 0, 5), part(&data, 5, samples)];
            for (batches, how) in [(vec![data.clone()], (false, samples)), (parts, (true, 7))] {
                let found = scored(&*engine, &model, wanted, batches, how);
                for ((norms, found), expected) in norms.iter().zip(found).zip(&expected) {
                    for (layer, (found, expected)) in found.iter().zip(expected).enumerate() {
                        let what = format!("{what}, p {}, layer {layer}, {how:?}", norms.0);
                        assert_near(&what, found, expected);
                    }
                }
            }
        }
    }
}

/// A maximum alone, and squares whose scale differs by far from batch to batch.
#[test]
fn small_derivatives_are_not_lost() {
    let engine = &engines()[0];
    for norm in [Norm::Inf, Norm::P(2.0)] {
        let norms = [(norm, norm)];
        let net = Dense::random(&[20, 9, 4], "Sigmoid", 5);
        let model = net.model();
        let near = batch(&[6, 20], 2, 7);
        // Far out, Sigmoid is flat: squares of these derivatives are below what f32 holds.
        let mut far = near.clone();
        far.values.iter_mut().for_each(|value| *value *= 40.0);
        for batches in [
            vec![far.clone()],
            vec![far.clone(), near.clone(), far.clone()],
        ] {
            let wanted = (Of::Probabilities, &norms[..]);
            let mut expected = Vec::new();
            for batch in &batches {
                expected.push(by_gradient(&**engine, &model, wanted, batch));
            }
            let found = scored(&**engine, &model, wanted, batches, (true, 4));
            for (layer, found) in found[0].iter().enumerate() {
                let parts = expected.iter().map(|parts| &parts[0][layer]);
                let joined: Vec<f64> = (0..found.len())
                    .map(|neuron| {
                        let values: Vec<f64> = parts.clone().map(|part| part[neuron]).collect();
                        let mean = match norm {
                            Norm::Inf => 1.0,
                            Norm::P(p) => (values.len() as f64).powf(1.0 / p),
                        };
                        norm.of(values) / mean
                    })
                    .collect();
                assert!(joined.iter().any(|&value| value > 0.0), "{layer}");
                assert_near(&format!("p {norm}, layer {layer}"), found, &joined);
            }
        }
    }
}

/// Steps that have no room for more than some samples.
struct Small {
    inner: Box<dyn Steps>,
    most: usize,
}

impl Steps for Small {
    fn step(&mut self, inputs: &[(&str, &Tensor)]) -> Result<Vec<Tensor>> {
        let factors = inputs.iter().find(|(name, _)| *name == "factors").unwrap();
        if factors.1.shape()[1] > self.most {
            return Err(Error::OutOfMemory {
                engine: "small",
                what: "no room".to_owned(),
                fits: None,
            });
        }
        self.inner.step(inputs)
    }

    fn snapshot(&self) -> Snapshot {
        self.inner.snapshot()
    }

    fn hold(&mut self, values: Snapshot) -> Result<()> {
        self.inner.hold(values)
    }
}

#[test]
fn a_step_without_room_is_made_smaller() {
    let engine = &*engines()[0];
    let model = Dense::random(&[20, 9, 4], "Softmax", 5).model();
    let data = batch(&[11, 20], 2, 7);
    let norms = [(Norm::P(2.0), Norm::P(2.0))];
    let graph = Graph::new(&model).unwrap();
    let (shapes, head) = opened(engine, &graph, &data);
    let options = ScoreOptions::default();
    let request = request(engine, &graph, (&shapes, &head), &options);
    let mut found = Vec::new();
    for most in [11, 3, 0] {
        let device = OnDevice::with_parts(request, Of::Probabilities.into(), &norms, (false, true));
        let mut device = device.unwrap().unwrap();
        let inner = std::mem::replace(&mut device.steps, Box::new(Nothing));
        device.steps = Box::new(Small { inner, most });
        let mut sums = device.sums(&norms).unwrap();
        let mut parts: Vec<_> = sums.iter_mut().map(|sums| &mut **sums).collect();
        let features = features(engine, &graph, (&shapes, &head), vec![data.clone()]);
        let added = features.iter().try_for_each(|batch| {
            device.add(batch, &mut parts)?;
            device.flush(&mut parts)
        });
        if most == 0 {
            // Not for ever.
            assert!(matches!(added, Err(Error::OutOfMemory { .. })));
            continue;
        }
        added.unwrap();
        let scores: Vec<Vec<f64>> = sums.iter().map(|sums| sums[0].scores(None)).collect();
        found.push(scores);
    }
    for (layer, (small, whole)) in found[1].iter().zip(&found[0]).enumerate() {
        assert_near(&format!("layer {layer}"), small, whole);
    }
}

struct Nothing;

impl Steps for Nothing {
    fn step(&mut self, _: &[(&str, &Tensor)]) -> Result<Vec<Tensor>> {
        Ok(Vec::new())
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot::default()
    }

    fn hold(&mut self, _: Snapshot) -> Result<()> {
        Ok(())
    }
}

#[test]
fn what_is_not_for_devices_is_refused_with_the_reason() {
    let engine = &engines()[0];
    let model = Dense::random(&[20, 9, 4], "Softmax", 5).model();
    let data = batch(&[6, 20], 2, 7);
    let graph = Graph::new(&model).unwrap();
    let (shapes, head) = opened(&**engine, &graph, &data);
    let (one, two) = (Norm::P(1.0), Norm::P(2.0));
    let cases = [
        ((one, two), None, "of their own over the classes"),
        ((Norm::P(7.5), Norm::P(7.5)), None, "powers above 6"),
        ((two, two), Some(8), "derivatives are exact"),
    ];
    for (norms, probes, expected) in cases {
        let options = ScoreOptions {
            probes,
            ..ScoreOptions::default()
        };
        let request = request(&**engine, &graph, (&shapes, &head), &options);
        let kind = Of::Probabilities.into();
        let found = OnDevice::new(request, kind, &[norms], false).unwrap();
        let why = found.err().unwrap_or_default();
        assert!(why.contains(expected), "{why}");
    }
}
