mod last;
mod slow;

use super::*;
use crate::{
    engine::testing::engines,
    features::testing::{Dense, Numbers, batch, opened},
    graph::extract,
    onnx::{DataType, Dim, GraphProto, NodeProto, Tensor, ValueInfoProto},
    prune::{Group, plan::LayerPlan, rewrite},
};

/// f32 sums in the engines, f32 weights.
const EXACT: f32 = 1e-5;

/// A model whose input is what enters its head.
struct Case {
    model: ModelProto,
    keep: Vec<Vec<usize>>,
    /// `[N, ..]`
    x: Tensor,
}

struct Outcome {
    repaired: Repaired,
    original: Vec<f32>,
    cut: Vec<f32>,
    after: Vec<f32>,
    head: ModelProto,
}

fn positions(from: usize, to: usize) -> Vec<usize> {
    (from..to).collect()
}

fn run(
    case: &Case,
    engine: &dyn Engine,
    how: Repair,
    fit: &[usize],
    check: &[usize],
) -> Result<Outcome> {
    let graph = Graph::new(&case.model)?;
    let mut sample = batch(case.x.shape(), 2, 0);
    sample.values = case.x.to_f32().into_owned();
    let (shapes, head) = opened(engine, &graph, &sample);
    let layers = head.layers.iter().zip(&case.keep);
    let plan = Plan {
        layers: layers
            .map(|(layer, keep)| LayerPlan {
                name: layer.name.clone(),
                width: layer.width(),
                keep: keep.clone(),
            })
            .collect(),
    };
    let groups: Vec<&Group> = head.layers.iter().map(|layer| &layer.group).collect();
    let pruned = rewrite::pruned(&graph, &shapes, &groups, &plan)?;
    let sinks = groups.iter().flat_map(|group| &group.sinks);
    let sinks = sinks.filter_map(|sink| graph.output(sink.at.node, 0));
    let sinks: Vec<&str> = sinks.map(|id| graph.name(id)).collect();
    let pruned = dense::with_biases(pruned, &sinks)?;
    let small = Graph::new(&pruned)?;
    let same = |id| small.value(graph.name(id)).unwrap();
    let features: Vec<_> = head.features.iter().map(|&id| same(id)).collect();
    let declared = Shapes::declared(&small);
    let head_model = extract(&small, &declared, &features, &[same(head.scores.value)])?;
    let features = FeatureSet::from_memory(vec!["x".to_owned()], vec![case.x.clone()], None)?;
    let request = Request {
        engine,
        graph: &graph,
        shapes: &shapes,
        head: &head,
        plan: &plan,
        head_model: &head_model,
        features: &features,
        fit,
        check,
        known: &Known::default(),
    };
    let mut seen = 0;
    let repaired = repair(request, how, &mut |count| {
        seen += count;
        Ok(())
    })?;
    let stopped = |layer: &LayerRepair| {
        let note = layer.note.as_deref().unwrap_or_default();
        note.contains("stays as cut") || note.contains("are not matched")
    };
    if !repaired.layers.iter().any(stopped) {
        assert_eq!(seen, samples(request, how)?, "progress counts what it says");
    }
    let mut changed = head_model.clone();
    dense::set_weights(&mut changed, &repaired.weights)?;
    let scores = |model: &ModelProto| -> Result<Vec<f32>> {
        let mut session = engine.load(model)?;
        Ok(session.run(&[("x", &case.x)])?[0].to_f32().into_owned())
    };
    Ok(Outcome {
        original: scores(&case.model)?,
        cut: scores(&head_model)?,
        after: scores(&changed)?,
        repaired,
        head: changed,
    })
}

fn furthest(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter()
        .zip(b)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max)
}

/// Rows of `width` numbers of which only the first `rank` are free; the others are combinations,
/// with an offset.
fn dependent(rows: usize, width: usize, rank: usize, seed: u64) -> Vec<f32> {
    let mut numbers = Numbers(seed);
    let mix = numbers.take(width * rank);
    let offset = numbers.take(width);
    let mut values = Vec::new();
    for _ in 0..rows {
        let free = numbers.take(rank);
        for column in 0..width {
            let mixed = free.iter().zip(&mix[column * rank..]).map(|(f, m)| f * m);
            let value = mixed.sum::<f32>() + offset[column];
            values.push(if column < rank { free[column] } else { value });
        }
    }
    values
}

/// `x` through one layer of each form: `nodes` make `y` with 4 outputs from `w` (and `b`).
fn one_layer(what: &'static str, x: &[usize], nodes: Vec<NodeProto>, w: &[usize]) -> Case {
    let mut graph = GraphProto::new(what);
    let mut dims = vec![Dim::Symbol("batch".to_owned())];
    dims.extend(x[1..].iter().copied().map(Dim::Fixed));
    graph.input = vec![ValueInfoProto::tensor("x", DataType::Float, &dims)];
    let dims = [Dim::Symbol("batch".to_owned()), Dim::Fixed(4)];
    graph.output = vec![ValueInfoProto::tensor("out", DataType::Float, &dims)];
    graph.node = nodes;
    let mut numbers = Numbers(7);
    for (name, shape) in [("w", w), ("b", &[4][..])] {
        let values = numbers.take(shape.iter().product());
        graph
            .initializer
            .push(Tensor::f32(shape, values).unwrap().to_proto(name));
    }
    let read: Vec<String> = graph
        .node
        .iter()
        .flat_map(|node| node.input.clone())
        .collect();
    graph
        .initializer
        .retain(|tensor| read.iter().any(|name| name == tensor.name()));
    let inside: usize = x[2..].iter().product();
    let values = dependent(x[0] * inside, 12, 5, 3);
    // Rows are positions: [N, P, 12] -> [N, 12, P].
    let mut turned = vec![0.0; values.len()];
    for (at, value) in values.iter().enumerate() {
        let (row, channel) = (at / 12, at % 12);
        turned[(row / inside * 12 + channel) * inside + row % inside] = *value;
    }
    Case {
        model: ModelProto::new(graph, 17),
        keep: vec![vec![0, 1, 2, 3, 4]],
        x: Tensor::f32(x, turned).unwrap(),
    }
}

fn forms() -> Vec<(&'static str, Case)> {
    let node = |op, inputs: &[&str], output| NodeProto::new(op, inputs, &[output]);
    let gemm = node("Gemm", &["x", "w", "b"], "out");
    let factors = gemm
        .clone()
        .with_float("alpha", 2.0)
        .with_float("beta", 0.5);
    let product = node("MatMul", &["x", "w"], "out");
    let sum = vec![
        node("MatMul", &["x", "w"], "y"),
        node("Add", &["y", "b"], "out"),
    ];
    let pixels = vec![
        node("Conv", &["x", "w"], "y"),
        node("GlobalAveragePool", &["y"], "p"),
        node("Flatten", &["p"], "out"),
    ];
    let window = vec![
        node("Conv", &["x", "w", "b"], "y"),
        node("Flatten", &["y"], "out"),
    ];
    let case = |what, x: &[usize], nodes, w: &[usize]| (what, one_layer(what, x, nodes, w));
    vec![
        case(
            "Gemm",
            &[60, 12],
            vec![gemm.with_int("transB", 1)],
            &[4, 12],
        ),
        case("Gemm with factors", &[60, 12], vec![factors], &[12, 4]),
        case("MatMul", &[60, 12], vec![product], &[12, 4]),
        case("MatMul and Add", &[60, 12], sum, &[12, 4]),
        case("Conv of pixels", &[60, 12, 2, 2], pixels, &[4, 12, 1, 1]),
        case("Conv of a window", &[60, 12, 2, 2], window, &[4, 12, 2, 2]),
    ]
}

#[test]
fn combinations_of_kept_neurons_are_given_back_whole() {
    for engine in engines() {
        for (what, case) in forms() {
            let what = format!("{what} in {}", engine.info());
            let done = run(
                &case,
                &*engine,
                Repair::LeastSquares,
                &positions(0, 40),
                &positions(40, 50),
            );
            let Outcome {
                repaired,
                original,
                cut,
                after,
                ..
            } = done.unwrap();
            let [layer] = &repaired.layers[..] else {
                panic!("{what}: {:?}", repaired.layers);
            };
            assert!(layer.applied, "{what}: {layer:?}");
            assert!(layer.error_before.unwrap() > 0.1, "{what}: {layer:?}");
            assert!(layer.error_after.unwrap() < 1e-5, "{what}: {layer:?}");
            // On all samples, ten of which nothing saw.
            assert!(furthest(&original, &cut) > 0.1, "{what}");
            assert!(
                furthest(&original, &after) < EXACT,
                "{what}: {}",
                furthest(&original, &after)
            );
        }
    }
}

#[test]
fn the_form_follows_from_rows_and_inputs() {
    let (_, case) = forms().swap_remove(0);
    let engine = &*engines()[0];
    for (fit, expected) in [
        (5, Form::Primal),
        (40, Form::Primal),
        (4, Form::Dual),
        (2, Form::Dual),
    ] {
        let done = run(
            &case,
            engine,
            Repair::LeastSquares,
            &positions(0, fit),
            &positions(40, 60),
        )
        .unwrap();
        let layer = &done.repaired.layers[0];
        assert_eq!((layer.form, layer.rows), (Some(expected), fit), "{layer:?}");
        let warned = layer
            .note
            .as_ref()
            .is_some_and(|note| note.contains("more samples"));
        assert_eq!(
            warned && layer.applied,
            layer.applied && fit < 5,
            "{layer:?}"
        );
    }
}

#[test]
fn a_repair_that_does_not_hold_on_other_samples_is_refused() {
    // What is dropped follows from what is kept in the samples that are fitted, and is its opposite
    // in those that check.
    let (_, mut case) = forms().swap_remove(0);
    let mut values = case.x.to_f32().into_owned();
    for row in values.chunks_mut(12).skip(30) {
        row[5..].iter_mut().for_each(|value| *value = -*value);
    }
    case.x = Tensor::f32([60, 12], values).unwrap();
    for how in [Repair::LeastSquares, Repair::Mean] {
        let done = run(
            &case,
            &*engines()[0],
            how,
            &positions(0, 30),
            &positions(30, 60),
        )
        .unwrap();
        let layer = &done.repaired.layers[0];
        assert!(
            !layer.applied && layer.error_after > layer.error_before,
            "{layer:?}"
        );
        assert!(
            layer.note.as_ref().unwrap().contains("the error grows"),
            "{layer:?}"
        );
        assert_eq!(done.repaired.weights, BTreeMap::new());
        assert_eq!(done.cut, done.after);
    }
}

#[test]
fn data_that_is_too_little_is_said_and_changes_nothing() {
    let (_, case) = forms().swap_remove(0);
    for (fit, check, words) in [
        (
            positions(0, 1),
            positions(1, 20),
            "1 samples are too few to fit",
        ),
        (
            positions(0, 0),
            positions(1, 20),
            "0 samples are too few to fit",
        ),
        (
            positions(0, 10),
            positions(10, 11),
            "1 samples are too few to check",
        ),
        (positions(0, 10), vec![], "0 samples are too few to check"),
    ] {
        let done = run(&case, &*engines()[0], Repair::LeastSquares, &fit, &check).unwrap();
        let layer = &done.repaired.layers[0];
        assert!(layer.note.as_ref().unwrap().contains(words), "{layer:?}");
        assert!(!layer.applied && done.repaired.weights.is_empty());
    }
}

#[test]
fn constant_features_leave_only_the_bias_to_repair() {
    let (_, mut case) = forms().swap_remove(0);
    let row = dependent(1, 12, 5, 3);
    case.x = Tensor::f32([60, 12], row.repeat(60)).unwrap();
    for rows in [3, 20] {
        let done = run(
            &case,
            &*engines()[0],
            Repair::LeastSquares,
            &positions(0, rows),
            &positions(20, 60),
        );
        let done = done.unwrap();
        let layer = &done.repaired.layers[0];
        assert_eq!(
            (layer.form, layer.applied),
            (Some(Form::Mean), true),
            "{layer:?}"
        );
        assert!(
            layer
                .note
                .as_ref()
                .unwrap()
                .contains("same for all samples"),
            "{layer:?}"
        );
        assert!(furthest(&done.original, &done.after) < EXACT, "{layer:?}");
    }
}

#[test]
fn a_value_that_is_no_number_names_the_layer() {
    let (_, mut case) = forms().swap_remove(0);
    let mut values = case.x.to_f32().into_owned();
    values[12 * 35] = f32::NAN;
    case.x = Tensor::f32([60, 12], values).unwrap();
    let done = run(
        &case,
        &*engines()[0],
        Repair::LeastSquares,
        &positions(0, 40),
        &positions(40, 60),
    );
    let error = done.err().map(|error| error.to_string()).unwrap();
    assert!(
        error.contains("NaN") && error.contains("\"features\""),
        "{error}"
    );
}

#[test]
fn primal_and_dual_give_the_same() {
    let (inputs, outputs, rows) = (20, 3, 30);
    let graph_dense = dense::Dense {
        kind: dense::Kind::Gemm,
        input: "x".to_owned(),
        value: "y".to_owned(),
        weight: "w".to_owned(),
        dtype: DataType::Float,
        shape: vec![outputs, inputs],
        input_axis: 1,
        output_axis: 0,
        bias: "b".to_owned(),
        bias_shape: vec![outputs],
        alpha: 1.0,
        beta: 1.0,
    };
    let wave = Wave {
        sites: vec![sites::Site {
            layer: "features".to_owned(),
            node: "y".to_owned(),
            dense: graph_dense,
            kept: None,
        }],
    };
    let mut x = dependent(rows + 12, inputs, 15, 4);
    // One dead input.
    x.chunks_mut(inputs).for_each(|row| row[3] = 0.1);
    let r = Numbers(8).take((rows + 12) * outputs);
    let mut tuning = Tuning::new(inputs, outputs);
    tuning.add(&x[rows * inputs..], &r[rows * outputs..]);
    let solve = |size| {
        let mut fit = Fit::new(inputs, outputs, size);
        fit.add(&x[..rows * inputs], &r[..rows * outputs]);
        fit.solve(&tuning, &wave, None).ok().unwrap()
    };
    let (primal, dual) = (solve(rows), solve(1));
    assert_eq!((primal.form, dual.form), (Form::Primal, Form::Dual));
    let (primal, dual) = (primal.of(0), dual.of(0));
    assert_eq!(primal.lambda, dual.lambda);
    let changes = primal.change.unwrap();
    for (a, b) in changes.iter().zip(dual.change.unwrap()) {
        assert!((a - b).abs() < 1e-9, "{a} {b}");
    }
    assert!(
        changes.row(3).iter().all(|value| *value == 0.0),
        "the dead input changes nothing"
    );
    for (a, b) in primal.shift.iter().zip(dual.shift) {
        assert!((a - b).abs() < 1e-9, "{a} {b}");
    }
}

#[test]
fn ways_are_read_by_name() {
    for (name, how) in Repair::ALL {
        assert_eq!(name.parse::<Repair>().unwrap(), how);
        assert_eq!(serde_json::to_value(how).unwrap(), name);
    }
    assert!(
        "ridge"
            .parse::<Repair>()
            .unwrap_err()
            .to_string()
            .contains("--repair")
    );
}
