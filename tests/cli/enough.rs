//! `--samples auto`: as many samples as it takes for others to choose the same neurons.

use serde_json::{Value, json};

use crate::support::{Bench, Engines, repository, run};

/// The report of `score` on a network and real images.
fn scored(flags: &str) -> Value {
    let (model, data) = (
        repository("models/vgg.onnx"),
        repository("models/fashion-mnist-train.npz"),
    );
    let line = format!("score {model} --data {data} --no-cache --json {flags}");
    let found = run(Engines::Both, &Bench::new().arguments(&line));
    found.assert_done(flags);
    found.json()
}

#[test]
fn a_maximum_takes_more_samples_than_a_mean() {
    let mean = scored("--samples auto --norm 1 --scale none");
    let maximum = scored("--samples auto --norm inf --scale none");
    let samples = |report: &Value| report["score"]["samples"].as_u64().unwrap();
    let overlap = |report: &Value| {
        let tried = report["enough"]["tried"].as_array().unwrap();
        tried.last().unwrap()["overlap"].as_f64().unwrap()
    };
    assert_eq!(mean["enough"]["stable"], json!(true), "{}", mean["enough"]);
    assert!(overlap(&mean) >= 0.95);
    assert!(
        samples(&mean) < samples(&maximum),
        "{} {}",
        mean["enough"],
        maximum["enough"]
    );

    // Apart from how their number was found, it is as if it had been given.
    let given = scored(&format!(
        "--samples {} --norm 1 --scale none",
        samples(&mean)
    ));
    assert_eq!(given["layers"], mean["layers"]);
    assert_eq!(given["score"], mean["score"]);
}

#[test]
fn where_there_are_too_few_samples_all_are_taken_and_it_is_said() {
    let bench = Bench::new();
    let line =
        "@in.onnx @out.onnx --engine tract --data @data.npy --samples auto --keep 0.25 --json";
    let found = run(Engines::Tract, &bench.arguments(line));
    found.assert_done(line);
    let enough = &found.json()["enough"];
    // Four of five samples are not held out.
    assert_eq!(enough["samples"], json!(24), "{enough}");
    let stable = enough["stable"] == json!(true);
    let told = found.stderr.contains("other samples would keep others");
    assert_eq!(told, !stable, "{enough} {}", found.stderr);
}
