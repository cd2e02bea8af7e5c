//! Exporters with habits of their own.

use crate::support::{Bench, Engines, repository, run};

/// scikit-learn's converter makes a sequence of maps of the probabilities.
#[test]
fn outputs_that_are_no_tensors_are_no_hindrance() {
    let bench = Bench::new();
    let (model, out) = (
        repository("tests/data/scikit-learn.onnx"),
        bench.text("out.onnx"),
    );
    let pruned = run(Engines::Both, &[&*model, &*out, "--keep", "0.5", "--json"]);
    pruned.assert_done("prune");
    let json = pruned.json();
    let checks = json["verification"]["checks"].as_array().unwrap();
    let engines = checks.iter().map(|check| check["engine"].as_str().unwrap());
    assert_eq!(
        engines.collect::<Vec<_>>(),
        ["onnxruntime", "tract", "onnxruntime and tract"]
    );
    assert!(json["speed"]["ratio"].is_object(), "{}", json["speed"]);

    // Another program's model: nothing tells what was dropped.
    let copy = bench.text("copy.onnx");
    std::fs::copy(&model, &copy).unwrap();
    let line = ["verify", &*model, &*copy, "--engine", "ort", "--json"];
    let compared = run(Engines::Both, &line);
    compared.assert_done("verify");
    let json = compared.json();
    assert_eq!(
        json["outputs"],
        serde_json::json!(["output_label", "out_activations_result"])
    );
    assert_eq!(json["comparisons"][0]["max_abs"], 0.0);

    let line = [
        "bench",
        &*model,
        &*out,
        "--runtime",
        "ort",
        "--seconds",
        "0.1",
        "--json",
    ];
    run(Engines::Both, &line).assert_done("bench");
    let shown = run(Engines::Both, &["inspect", &*model, "--engine", "ort"]);
    shown.assert_done("inspect");
    assert!(!shown.stdout.contains("no times"), "{}", shown.stdout);
}
