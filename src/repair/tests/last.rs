//! The last layer, matched to the class probabilities.

use super::*;

/// Ten inputs in eight directions, 5 of which stay, and scores of which some decide.
fn decisive() -> Case {
    let net = Dense::random(&[10, 6, 4], "", 5);
    let mut case = Case {
        model: net.model(),
        keep: vec![vec![0, 2, 3, 5, 8], vec![1, 2, 4]],
        x: Tensor::f32([400, 10], dependent(400, 10, 8, 9)).unwrap(),
    };
    let weights: BTreeMap<String, TensorProto> = case
        .model
        .graph
        .iter()
        .flat_map(|graph| &graph.initializer)
        .filter(|tensor| tensor.name() == "w1")
        .map(|tensor| {
            let wide = Tensor::from_proto(tensor).unwrap();
            let values = wide.to_f32().iter().map(|weight| 8.0 * weight).collect();
            let wide = Tensor::f32(wide.shape().to_vec(), values).unwrap();
            ("w1".to_owned(), wide.to_proto("w1"))
        })
        .collect();
    dense::set_weights(&mut case.model, &weights).unwrap();
    case
}

fn softmax(row: &[f32]) -> Vec<f64> {
    let values: Vec<f64> = row.iter().map(|&logit| f64::from(logit).exp()).collect();
    let total: f64 = values.iter().sum();
    values.into_iter().map(|value| value / total).collect()
}

/// Mean divergence of the rows from `from` on, by the definition.
fn divergence(own: &[f32], other: &[f32], from: usize) -> f64 {
    let rows = own.chunks(4).zip(other.chunks(4)).skip(from);
    let count = rows.len() as f64;
    let each = rows.map(|(own, other)| {
        let pairs = softmax(own).into_iter().zip(softmax(other));
        pairs.map(|(p, q)| p * (p / q).ln()).sum::<f64>()
    });
    each.sum::<f64>() / count
}

#[test]
fn probabilities_come_nearer_on_samples_that_nothing_saw() {
    let case = decisive();
    let (fit, check) = (positions(0, 240), positions(240, 320));
    for engine in engines() {
        let least = run(&case, &*engine, Repair::LeastSquares, &fit, &check).unwrap();
        let done = run(&case, &*engine, Repair::Reweighted, &fit, &check).unwrap();
        let [first, last] = &done.repaired.layers[..] else {
            panic!("{:?}", done.repaired.layers);
        };
        assert_eq!(first.matching, None, "only the last layer makes logits");
        let found = last.matching.as_ref().unwrap();
        assert!(found.applied && found.steps > 0, "{found:?}");
        // The least squares in front of it are those of --repair least-squares.
        assert_eq!(done.repaired.weights["b0"], least.repaired.weights["b0"]);
        assert_eq!(last.error_after, least.repaired.layers[1].error_after);
        let before = divergence(&least.original, &least.after, 320);
        let after = divergence(&done.original, &done.after, 320);
        assert!(after < 0.9 * before, "{after} of {before}");
        // Every second of the samples that check tells the figures: here by the definition.
        let report: Vec<f32> = done
            .after
            .chunks(4)
            .skip(240)
            .step_by(2)
            .take(40)
            .flatten()
            .copied()
            .collect();
        let wanted: Vec<f32> = done
            .original
            .chunks(4)
            .skip(240)
            .step_by(2)
            .take(40)
            .flatten()
            .copied()
            .collect();
        let expected = divergence(&wanted, &report, 0);
        assert!(
            (found.divergence_after - expected).abs() < 1e-5,
            "{found:?}, {expected}"
        );
    }
}

#[test]
fn a_match_that_does_not_hold_on_other_samples_is_refused() {
    // Of the samples that check, those that tell the figures are of another kind.
    let (fit, check) = (positions(0, 240), positions(240, 320));
    let engine = &*engines()[0];
    let mut refused = 0;
    for factor in [-8.0, -3.0, -1.0, 0.0, 0.2, 4.0, 10.0] {
        let mut case = decisive();
        let mut values = case.x.to_f32().into_owned();
        for row in values.chunks_mut(10).skip(240).step_by(2) {
            row.iter_mut().for_each(|value| *value *= factor);
        }
        case.x = Tensor::f32([400, 10], values).unwrap();
        let done = run(&case, engine, Repair::Reweighted, &fit, &check).unwrap();
        let found = done.repaired.layers[1].matching.as_ref().unwrap();
        let holds = found.divergence_after < found.divergence_before;
        assert_eq!(found.applied, holds, "{found:?}");
        if !holds {
            refused += 1;
            let least = run(&case, engine, Repair::LeastSquares, &fit, &check).unwrap();
            assert_eq!(done.repaired.weights, least.repaired.weights);
        }
    }
    assert!(refused > 0, "nothing was refused");
}

#[test]
fn a_last_layer_that_reads_no_cut_layer_is_matched_all_the_same() {
    let mut case = decisive();
    case.keep[1] = positions(0, 6);
    let (fit, check) = (positions(0, 240), positions(240, 320));
    let done = run(&case, &*engines()[0], Repair::Reweighted, &fit, &check).unwrap();
    let last = done.repaired.layers.last().unwrap();
    assert_eq!((last.layer.as_str(), last.form), ("fc1", None), "{last:?}");
    let applied = last.matching.as_ref().unwrap().applied;
    assert_eq!(done.repaired.weights.contains_key("w1"), applied);
}

#[test]
fn what_cannot_be_matched_is_said() {
    let (fit, check) = (positions(0, 40), positions(40, 60));
    let pooled = forms().swap_remove(4).1;
    let done = run(&pooled, &*engines()[0], Repair::Reweighted, &fit, &check).unwrap();
    let layer = &done.repaired.layers[0];
    let note = layer.note.as_ref().unwrap();
    assert!(
        note.contains("are not matched: between it and the class scores stands"),
        "{note}"
    );
    assert!(
        note.contains("GlobalAveragePool") && layer.applied,
        "{layer:?}"
    );
    let mut constant = forms().swap_remove(0).1;
    let row = dependent(1, 12, 5, 3);
    constant.x = Tensor::f32([60, 12], row.repeat(60)).unwrap();
    let done = run(&constant, &*engines()[0], Repair::Reweighted, &fit, &check).unwrap();
    let note = done.repaired.layers[0].note.as_ref().unwrap();
    assert!(
        note.contains("not matched: its inputs are the same for all samples"),
        "{note}"
    );
}
