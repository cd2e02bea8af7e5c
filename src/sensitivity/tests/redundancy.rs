//! Criteria that know about redundancy: residual scaling, units, `obs`.

use ndarray::Array2;

use super::*;
use crate::{algebra::Cholesky, sensitivity::redundancy::RIDGE};

/// Scores as with real samples; a neuron's unit as `units` says it, for every layer.
fn scored_for_real(
    engine: &dyn Engine,
    net: &Dense,
    options: &ScoreOptions,
    units: Option<&[usize]>,
    data: &Batch,
) -> crate::Result<Scored> {
    let model = net.model();
    let graph = Graph::new(&model).unwrap();
    let (shapes, mut head) = opened(engine, &graph, data);
    for layer in &mut head.layers {
        layer.units = units.map(|units| units[..layer.width()].into());
    }
    let ranked = std::sync::Mutex::new(Vec::new());
    let request = Request {
        engine,
        graph: &graph,
        shapes: &shapes,
        head: &head,
        options,
        real_samples: true,
        on_ranked: &|done, total| {
            ranked.lock().unwrap().push((done, total));
            Ok(())
        },
    };
    let batches = features(engine, &graph, (&shapes, &head), vec![data.clone()]);
    let found = score(request, batches.into_iter().map(Ok))?;
    let ranked = ranked.into_inner().unwrap();
    if let (Some((0, total)), Some((last, _))) = (ranked.first(), ranked.last()) {
        assert_eq!(total, last);
    }
    Ok(found)
}

#[test]
fn residual_is_what_auto_means_with_real_samples_and_drops_a_copy() {
    let mut net = Dense::random(&[6, 3], "", 3);
    // The features 1 and 4 are the same, and count most.
    let scales = [1.0, 3.0, 0.9, 1.1, 3.1, 1.2];
    let rows = [1.0, -1.0, 0.5].iter();
    net.weights[0].0 = rows
        .flat_map(|row| scales.map(|scale| row * scale))
        .collect();
    let mut data = batch(&[40, 6], 3, 5);
    for row in data.values.chunks_mut(6) {
        row[4] = row[1];
    }
    for engine in engines() {
        let found = scored_for_real(&*engine, &net, &options("lsa"), None, &data).unwrap();
        assert_eq!(found.report.scale, Some(Scale::Residual));
        let layer = &found.scores.layers[0];
        let mut all = layer.ranking.clone();
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2, 3, 4, 5]);
        assert_eq!((layer.ranking[0], layer.ranking[5]), (4, 1), "{layer:?}");
        let plain = ScoreOptions {
            scale: Scale::None,
            ..options("lsa")
        };
        let plain = scored_for_real(&*engine, &net, &plain, None, &data).unwrap();
        assert_eq!(
            (plain.report.scale, plain.scores.layers[0].ranking.len()),
            (Some(Scale::None), 0)
        );
    }
}

#[test]
fn residual_of_one_sample_is_refused_when_asked_for_and_said_otherwise() {
    let net = Dense::random(&[6, 5, 3], "", 3);
    let data = batch(&[1, 6], 3, 5);
    let engine = &*engines()[0];
    let auto = scored_for_real(engine, &net, &options("lsa"), None, &data).unwrap();
    assert_eq!(auto.report.scale, Some(Scale::None));
    assert!(
        auto.report.notes[0].contains("--scale none"),
        "{:?}",
        auto.report.notes
    );
    let asked = ScoreOptions {
        scale: Scale::Residual,
        ..options("lsa")
    };
    let error = scored_for_real(engine, &net, &asked, None, &data)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("--scale: residual needs samples that differ"),
        "{error}"
    );
    for criterion in ["obs", "curvature"] {
        let error = scored_for_real(engine, &net, &options(criterion), None, &data)
            .unwrap_err()
            .to_string();
        let expected = format!("--criterion: {criterion} needs samples that differ");
        assert!(error.contains(&expected), "{error}");
    }
}

#[test]
fn units_have_one_score_and_one_place() {
    let net = Dense::random(&[6, 6, 3], "", 3);
    let data = batch(&[40, 6], 3, 5);
    let units = [0, 1, 2, 0, 1, 2];
    let engine = &*engines()[0];
    for criterion in Criterion::all() {
        let found = scored_for_real(
            engine,
            &net,
            &options(criterion.name()),
            Some(&units),
            &data,
        );
        let found = found.unwrap().scores;
        let ranked = matches!(criterion.name(), "lsa" | "obs" | "curvature");
        for layer in found.layers {
            assert_eq!(layer.units, units);
            assert_eq!(layer.values[..3], layer.values[3..], "{criterion}");
            assert_eq!(
                layer.ranking.len(),
                if ranked { 6 } else { 0 },
                "{criterion}"
            );
            let whole = layer.ranked_units();
            assert!(
                whole.iter().all(|unit| unit[0] + 3 == unit[1]),
                "{criterion}"
            );
        }
    }
    // The q-norm over the neurons' own.
    let one_by_one = scored_for_real(engine, &net, &options("weight"), None, &data).unwrap();
    let together = scored_for_real(engine, &net, &options("weight"), Some(&units), &data).unwrap();
    let (own, unit) = (
        &one_by_one.scores.layers[0].values,
        &together.scores.layers[0].values,
    );
    assert_eq!(unit[0], own[0].max(own[3]));
}

/// With one linear layer, what obs pays is the error of the best refit of the logits: for the
/// first neuron that goes, ||w||^2 times what the others cannot reproduce of it.
#[test]
fn obs_reads_the_weights_with_their_signs() {
    // Two features that move together, with weights that nearly cancel, are cheap together.
    let mut net = Dense::random(&[4, 2], "", 3);
    net.weights[0].0 = vec![5.0, -5.0, 1.0, 0.5, 5.0, -5.0, 0.5, 1.0];
    let mut data = batch(&[200, 4], 2, 5);
    for row in data.values.chunks_mut(4) {
        row[1] = row[0] + 0.01 * row[1];
    }
    for engine in engines() {
        let found = scored_for_real(&*engine, &net, &options("obs"), None, &data).unwrap();
        let last = &found.scores.layers[0].ranking[2..];
        assert!(last.contains(&0) && last.contains(&1), "{found:?}");
        assert_eq!(found.report.scale, None);
    }
}

/// Derivatives of all samples and classes, and values of all samples, at a layer; they change as neurons go.
struct Followed {
    /// `[N·K][F]`.
    derivatives: Matrix,
    /// Ridged, `[F, F]`.
    covariance: Array2<f64>,
    left: Vec<usize>,
    samples: f64,
}

impl Followed {
    fn new(samples: &[Sample], layer: usize) -> Self {
        let (count, width) = (samples.len() as f64, samples[0].value(layer).len());
        let mean = |i: usize| samples.iter().map(|s| s.value(layer)[i]).sum::<f64>() / count;
        let mut covariance = Array2::from_shape_fn((width, width), |(i, j)| {
            let (a, b) = (mean(i), mean(j));
            let terms = samples
                .iter()
                .map(|s| (s.value(layer)[i] - a) * (s.value(layer)[j] - b));
            terms.sum::<f64>() / count
        });
        let ridge = RIDGE * covariance.diag().sum() / width as f64;
        covariance.diag_mut().map_inplace(|value| *value += ridge);
        Self {
            derivatives: samples.iter().flat_map(|s| s.softmax(layer)).collect(),
            covariance,
            left: (0..width).collect(),
            samples: count,
        }
    }

    /// How the others reproduce `neuron` best, and the variance that is left of it.
    fn reproduced(&self, neuron: usize) -> (Vec<(usize, f64)>, f64) {
        let others = self.left.iter().copied().filter(|&other| other != neuron);
        let others: Vec<usize> = others.collect();
        let pick = |rows: &[usize], columns: &[usize]| {
            Array2::from_shape_fn((rows.len(), columns.len()), |(a, b)| {
                self.covariance[[rows[a], columns[b]]]
            })
        };
        let across = pick(&others, &[neuron]);
        let shares = Cholesky::of(pick(&others, &others)).unwrap().solve(&across);
        let explained: f64 = shares.iter().zip(&across).map(|(a, b)| a * b).sum();
        let rest = self.covariance[[neuron, neuron]] - explained;
        (others.into_iter().zip(shares).collect(), rest)
    }

    fn cost(&self, neuron: usize) -> f64 {
        let squares = self.derivatives.iter().map(|row| row[neuron].powi(2));
        squares.sum::<f64>() / self.samples * self.reproduced(neuron).1
    }

    /// Takes the cheapest away; the others' derivatives are those of the network in which they take over.
    fn step(&mut self) -> (usize, f64) {
        let costs = self.left.iter().map(|&neuron| (neuron, self.cost(neuron)));
        let (gone, cost) = costs.min_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
        for (other, share) in self.reproduced(gone).0 {
            for row in &mut self.derivatives {
                row[other] += share * row[gone];
            }
        }
        self.left.retain(|&neuron| neuron != gone);
        (gone, cost)
    }
}

#[test]
fn curvature_follows_the_neurons_that_take_over() {
    let mut net = Dense::random(&[7, 6, 3], "Softmax", 3);
    // So that every hidden neuron is above 0 for some samples.
    net.weights[0].1.fill(0.5);
    let mut data = batch(&[60, 7], 3, 5);
    for row in data.values.chunks_mut(7) {
        // So that who goes first changes what the others are worth.
        row[3] = row[0] - 0.5 * row[1] + 0.3 * row[3];
        row[5] = row[2] + 0.4 * row[5];
    }
    let samples = references(&net, &data);
    for engine in engines() {
        let found = scored_for_real(&*engine, &net, &options("curvature"), None, &data).unwrap();
        assert_eq!(found.report.of, Some(Of::Probabilities));
        assert_eq!((found.report.scale, found.report.norm), (None, None));
        for (layer, scores) in found.scores.layers.iter().enumerate() {
            let mut followed = Followed::new(&samples, layer);
            let gone = (0..scores.values.len()).map(|_| followed.step());
            let gone: Vec<(usize, f64)> = gone.collect();
            let ranking: Vec<usize> = gone.iter().rev().map(|(neuron, _)| *neuron).collect();
            assert_eq!(
                scores.ranking,
                ranking,
                "{}: {}",
                engine.info(),
                scores.name
            );
            let mut dearest = 0.0_f64;
            for (neuron, cost) in gone {
                dearest = dearest.max(cost);
                let error = (scores.values[neuron] - dearest).abs();
                assert!(error <= GRADIENT_RTOL * dearest, "{neuron}: {scores:?}");
            }
        }
    }
}
