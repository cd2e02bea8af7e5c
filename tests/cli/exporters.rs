//! Exporters with habits of their own.

use onnx_prune::onnx::{NodeProto, proto::type_proto};
use prost::Message;

use crate::support::{Bench, Engines, classifier, repository, run};

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
    let said = &compared.stderr;
    assert!(
        said.contains("[\"output_probability\"] are no tensors"),
        "{said}"
    );

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

#[test]
fn nothing_to_compare_is_no_agreement() {
    let bench = Bench::new();
    let mut model = classifier();
    let graph = model.graph.as_mut().unwrap();
    let scores = graph.output[0].name().to_owned();
    graph.node.push(NodeProto::new(
        "SequenceConstruct",
        &[&*scores],
        &["sequence"],
    ));
    graph.output[0].name = Some("sequence".to_owned());
    let kind = type_proto::Value::SequenceType(Box::default());
    graph.output[0].r#type.as_mut().unwrap().value = Some(kind);
    bench.put("sequence.onnx", &model.encode_to_vec());
    let path = bench.text("sequence.onnx");
    run(Engines::Both, &["verify", &path, &path])
        .assert_error("verify", "is a tensor: there is nothing to compare");
}
