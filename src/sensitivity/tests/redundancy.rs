//! Criteria that know about redundancy: residual scaling, units, `obs`.

use super::*;

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
    let ranked = std::cell::RefCell::new(Vec::new());
    let request = Request {
        engine,
        graph: &graph,
        shapes: &shapes,
        head: &head,
        options,
        real_samples: true,
        on_ranked: &|done, total| {
            ranked.borrow_mut().push((done, total));
            Ok(())
        },
    };
    let batches = features(engine, &graph, (&shapes, &head), vec![data.clone()]);
    let found = score(request, batches.into_iter().map(Ok))?;
    if let (Some((0, total)), Some((last, _))) = (ranked.borrow().first(), ranked.borrow().last()) {
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
    let error = scored_for_real(engine, &net, &options("obs"), None, &data)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("--criterion: obs needs samples that differ"),
        "{error}"
    );
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
        let ranked = matches!(criterion.name(), "lsa" | "obs");
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
