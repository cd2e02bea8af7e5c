//! Scores are a property of the model and the samples: not of batches, threads or the engine.

use serde_json::Value;

use crate::support::{Bench, Engines, repository, run};

/// Differences of scores, relative to the largest of the layer: f32 products in another order. Seen:
/// 4e-6.
const RELATIVE: f64 = 1e-4;

/// Scores of each layer.
fn scores(model: &str, rest: &[&str]) -> Vec<Vec<f64>> {
    let (model, data) = (repository(model), repository("models/fashion-mnist.npz"));
    let line = [
        "score",
        &model,
        "--data",
        &data,
        "--samples",
        "120",
        "--no-cache",
        "--json",
    ];
    let found = run(Engines::Both, &[&line[..], rest].concat());
    found.assert_done(&rest.join(" "));
    let json = found.json();
    let layers = json["layers"].as_array().unwrap().iter();
    let values = |layer: &Value| -> Vec<f64> {
        let values = layer["values"].as_array().unwrap().iter();
        values.map(|value| value.as_f64().unwrap()).collect()
    };
    layers.map(values).collect()
}

#[test]
fn scores_do_not_depend_on_batch_threads_or_engine() {
    let models = [
        "models/resnet.onnx",
        "models/densenet.onnx",
        "models/vgg.onnx",
    ];
    let ways: [&[&str]; 4] = [
        &["--engine", "ort", "--threads", "1"],
        &["--engine", "ort", "--batch", "37"],
        &["--engine", "tract", "--threads", "2"],
        &["--engine", "tract", "--batch", "7", "--threads", "1"],
    ];
    let choices: [&[&str]; 4] = [
        &["--norm", "1", "--scale", "none"],
        &["--norm", "2", "--scale", "std"],
        &["--norm", "inf", "--scale", "none", "--of", "logits"],
        &["--criterion", "taylor"],
    ];
    for model in models {
        for choice in choices {
            let found = ways.map(|way| scores(model, &[way, choice].concat()));
            for (way, other) in ways.iter().zip(&found).skip(1) {
                for (layer, (one, other)) in found[0].iter().zip(other).enumerate() {
                    let largest = one.iter().copied().fold(0.0, f64::max);
                    let differences = one
                        .iter()
                        .zip(other)
                        .map(|(one, other)| (one - other).abs());
                    let difference = differences.fold(0.0, f64::max) / largest;
                    assert!(
                        difference < RELATIVE,
                        "{model}, layer {layer}, {choice:?}, {way:?}: {difference:e}"
                    );
                }
            }
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let bench = Bench::new();
    let (model, data) = (
        repository("models/resnet.onnx"),
        repository("models/fashion-mnist.npz"),
    );
    let made = |name: &str, rest: &[&str]| {
        let file = bench.text(name);
        let line = ["score", &model, "--data", &data, "-o", &file];
        run(Engines::Both, &[&line[..], rest].concat()).assert_done(name);
        std::fs::read(bench.path(name)).unwrap()
    };
    for choice in [
        &["--criterion", "random"][..],
        &["--scale", "residual", "--samples", "120"],
    ] {
        let seeded = |name: &str, seed: &str| made(name, &[choice, &["--seed", seed]].concat());
        let label = choice.join("");
        let (one, again) = (
            seeded(&format!("a{label}"), "5"),
            seeded(&format!("b{label}"), "5"),
        );
        assert_eq!(one, again, "{choice:?}");
        assert_ne!(one, seeded(&format!("c{label}"), "6"), "{choice:?}");
    }
}
