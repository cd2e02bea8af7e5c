//! Against a slow, obvious least squares in f64.

use super::*;

/// `(cov(x) + l d I)^-1 cov(x, r)` by Gauss-Jordan elimination, in f64.
fn slow_ridge(x: &[Vec<f64>], r: &[Vec<f64>], lambda: f64) -> (Vec<Vec<f64>>, Vec<f64>) {
    let (rows, inputs, outputs) = (x.len() as f64, x[0].len(), r[0].len());
    let mean = |values: &[Vec<f64>], column: usize| {
        values.iter().map(|row| row[column]).sum::<f64>() / rows
    };
    let x_mean: Vec<f64> = (0..inputs).map(|i| mean(x, i)).collect();
    let r_mean: Vec<f64> = (0..outputs).map(|j| mean(r, j)).collect();
    let mut system = vec![vec![0.0; inputs + outputs]; inputs];
    for (x, r) in x.iter().zip(r) {
        for i in 0..inputs {
            for j in 0..inputs {
                system[i][j] += (x[i] - x_mean[i]) * (x[j] - x_mean[j]) / rows;
            }
            for j in 0..outputs {
                system[i][inputs + j] += (x[i] - x_mean[i]) * (r[j] - r_mean[j]) / rows;
            }
        }
    }
    let spread = (0..inputs).map(|i| system[i][i]).sum::<f64>() / inputs as f64;
    (0..inputs).for_each(|i| system[i][i] += lambda * spread);
    for pivot in 0..inputs {
        let scale = system[pivot][pivot];
        system[pivot].iter_mut().for_each(|value| *value /= scale);
        let row = system[pivot].clone();
        for (other, target) in system.iter_mut().enumerate() {
            let factor = target[pivot];
            if other != pivot {
                target
                    .iter_mut()
                    .zip(&row)
                    .for_each(|(to, from)| *to -= factor * from);
            }
        }
    }
    let change: Vec<Vec<f64>> = system.iter().map(|row| row[inputs..].to_vec()).collect();
    let shift = (0..outputs).map(|j| {
        let moved: f64 = (0..inputs).map(|i| change[i][j] * x_mean[i]).sum();
        r_mean[j] - moved
    });
    let shift = shift.collect();
    (change, shift)
}

/// A dense layer in f64, `[out, in]` weights.
fn layer(x: &[f64], weight: &[Vec<f64>], bias: &[f64]) -> Vec<f64> {
    let rows = weight.iter().zip(bias);
    rows.map(|(row, bias)| bias + row.iter().zip(x).map(|(w, x)| w * x).sum::<f64>())
        .collect()
}

fn relu(values: Vec<f64>) -> Vec<f64> {
    values.into_iter().map(|value| value.max(0.0)).collect()
}

fn wide(values: &[f32], width: usize) -> Vec<Vec<f64>> {
    let rows = values.chunks(width);
    rows.map(|row| row.iter().map(|&value| f64::from(value)).collect())
        .collect()
}

fn initializer(model: &ModelProto, name: &str) -> Vec<f32> {
    let mut all = model.graph.iter().flat_map(|graph| &graph.initializer);
    let found = all.find(|tensor| tensor.name() == name).unwrap();
    Tensor::from_proto(found).unwrap().to_f32().into_owned()
}

fn two_layers() -> (Dense, Case) {
    let net = Dense::random(&[12, 8, 3], "", 5);
    let mut values = dependent(300, 12, 6, 9);
    let noise = Numbers(2).take(values.len());
    values
        .iter_mut()
        .zip(noise)
        .for_each(|(value, noise)| *value += 0.1 * noise);
    let case = Case {
        model: net.model(),
        keep: vec![vec![0, 2, 3, 5, 8, 11], vec![1, 2, 4, 7]],
        x: Tensor::f32([300, 12], values).unwrap(),
    };
    (net, case)
}

#[test]
fn each_layer_is_solved_on_what_the_repaired_one_before_it_delivers() {
    let (net, case) = two_layers();
    let (fit, check) = (positions(0, 200), positions(200, 260));
    for engine in engines() {
        let done = run(&case, &*engine, Repair::LeastSquares, &fit, &check).unwrap();
        let layers = &done.repaired.layers;
        assert!(layers.iter().all(|layer| layer.applied), "{layers:?}");
        let (x, w) = (case.x.to_f32(), &net.weights);
        let (x, first, second) = (wide(&x, 12), wide(&w[0].0, 12), wide(&w[1].0, 8));
        let bias: Vec<Vec<f64>> = w.iter().flat_map(|(_, b)| wide(b, b.len())).collect();
        let pick =
            |row: &Vec<f64>, keep: &[usize]| keep.iter().map(|&k| row[k]).collect::<Vec<_>>();
        let (seen, kept) = (&case.keep[0], &case.keep[1]);
        // The first layer, slowly: kept columns of kept rows.
        let hidden: Vec<Vec<f64>> = x.iter().map(|x| layer(x, &first, &bias[0])).collect();
        let mut weight: Vec<Vec<f64>> = kept.iter().map(|&k| pick(&first[k], seen)).collect();
        let mut shift = pick(&bias[0], kept);
        let solve = |x: &[Vec<f64>],
                     wanted: &[Vec<f64>],
                     weight: &mut [Vec<f64>],
                     bias: &mut [f64],
                     lambda: f64| {
            let pairs = x.iter().zip(wanted);
            let r: Vec<Vec<f64>> = pairs
                .map(|(x, wanted)| {
                    let made = layer(x, weight, bias);
                    wanted.iter().zip(made).map(|(w, m)| w - m).collect()
                })
                .collect();
            let (change, moved) = slow_ridge(&x[..200], &r[..200], lambda);
            for (output, row) in weight.iter_mut().enumerate() {
                row.iter_mut()
                    .zip(&change)
                    .for_each(|(to, from)| *to += from[output]);
            }
            bias.iter_mut()
                .zip(moved)
                .for_each(|(to, from)| *to += from);
        };
        let inputs: Vec<Vec<f64>> = x.iter().map(|x| pick(x, seen)).collect();
        let wanted: Vec<Vec<f64>> = hidden.iter().map(|row| pick(row, kept)).collect();
        solve(
            &inputs,
            &wanted,
            &mut weight,
            &mut shift,
            layers[0].lambda.unwrap(),
        );
        close(&initializer(&done.head, "w0"), &weight.concat());
        close(&initializer(&done.head, "b0"), &shift);
        // The second, on what the first now gives.
        let inputs: Vec<Vec<f64>> = inputs
            .iter()
            .map(|x| relu(layer(x, &weight, &shift)))
            .collect();
        let wanted: Vec<Vec<f64>> = hidden
            .into_iter()
            .map(|h| layer(&relu(h), &second, &bias[1]))
            .collect();
        let mut weight: Vec<Vec<f64>> = second.iter().map(|row| pick(row, kept)).collect();
        let mut shift = bias[1].clone();
        solve(
            &inputs,
            &wanted,
            &mut weight,
            &mut shift,
            layers[1].lambda.unwrap(),
        );
        close(&initializer(&done.head, "w1"), &weight.concat());
        close(&initializer(&done.head, "b1"), &shift);
        let unseen = 260 * 3..;
        let before = furthest(&done.original[unseen.clone()], &done.cut[unseen.clone()]);
        let after = furthest(&done.original[unseen.clone()], &done.after[unseen]);
        assert!(after < before / 2.0, "{before} {after}");
    }
}

fn close(found: &[f32], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        // Inputs of the second solve are f32, its ridge as small as 1e-8.
        assert!(
            (f64::from(*found) - expected).abs() < 1e-3,
            "{found} {expected}"
        );
    }
}

#[test]
fn the_mean_goes_into_the_bias() {
    let (net, case) = two_layers();
    let (fit, check) = (positions(0, 200), positions(200, 260));
    let engine = &*engines()[0];
    let done = run(&case, engine, Repair::Mean, &fit, &check).unwrap();
    let first = &done.repaired.layers[0];
    assert_eq!(
        (first.form, first.lambda),
        (Some(Form::Mean), None),
        "{first:?}"
    );
    let (x, w) = (case.x.to_f32(), wide(&net.weights[0].0, 12));
    let x = wide(&x[..200 * 12], 12);
    let dropped: Vec<usize> = (0..12).filter(|i| !case.keep[0].contains(i)).collect();
    let expected: Vec<f64> = case.keep[1]
        .iter()
        .map(|&k| {
            let missing = dropped
                .iter()
                .map(|&i| w[k][i] * x.iter().map(|x| x[i]).sum::<f64>() / 200.0);
            f64::from(net.weights[0].1[k]) + missing.sum::<f64>()
        })
        .collect();
    close(&initializer(&done.head, "b0"), &expected);
    assert!(first.error_after < first.error_before, "{first:?}");
}
