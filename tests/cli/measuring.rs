//! Flags of `bench` and of the process it starts, and their bad input.

use std::fs;

use onnx_prune::onnx::{DataType, Dim, ModelProto};
use prost::Message;
use serde_json::{Value, json};

use crate::{
    flags::{
        Case,
        Expected::{Error, Json, Seen},
    },
    support::{Bench, Engines, Run, classifier, run},
};

#[rustfmt::skip]
pub(crate) fn cases() -> Vec<Case> {
    let bench = |flag, line, expected| Case { command: "bench", flag, line, expected };
    let peak = |flag, line, expected| Case { command: "peak-memory", flag, line, expected };
    vec![
        bench("--head", "@in.onnx --rounds 1 --json --head", Json("/measurements/1/scope", json!("head"))),
        bench("--head", "@in.onnx --rounds 1 --json", Seen(|_, run| places(run, "/scope") == [json!("whole")])),
        bench("--batch", "@in.onnx --rounds 1 --json --batch 1,3", Seen(|_, run| places(run, "/batch") == [json!(1), json!(3)])),
        bench("--batch", "@in.onnx --batch 2,2", Error("--batch: has the same value twice")),
        bench("--batch", "@in.onnx --batch 0", Error("must be at least 1")),
        bench("--rounds", "@in.onnx @in.onnx --json --rounds 6", Seen(|_, run| ratio(run, "interval/low").is_some_and(|low| low > 0.0))),
        bench("--rounds", "@in.onnx --json --rounds 3", Json("/measurements/0/rounds", json!(3))),
        bench("--rounds", "@in.onnx --rounds 0", Error("must be at least 1")),
        bench("--rounds", "@in.onnx --rounds 3 --seconds 1", Error("cannot be used with")),
        bench("--seconds", "@in.onnx --json --seconds 0.01", Seen(|_, run| places(run, "/rounds")[0].as_u64() >= Some(6))),
        bench("--seconds", "@in.onnx --seconds 0", Error("must be above 0")),
        bench("--seconds", "@in.onnx --seconds -1", Error("negative")),
        bench("--markdown", "@in.onnx --rounds 1 --json --markdown @b.md", Seen(|bench, _| text(bench, "b.md").contains("|---|---:|"))),
        bench("--markdown", "@in.onnx --rounds 1 --markdown @in.onnx", Error("is the input")),
        bench("--markdown", "@in.onnx @data.npy --markdown @data.npy --force", Error("is the input")),
        bench("--force", "@in.onnx --rounds 1 --markdown @data.npy", Error("--markdown: ")),
        bench("--force", "@in.onnx --rounds 1 --json --markdown @data.npy --force", Seen(|bench, _| text(bench, "data.npy").contains("MAD"))),
        bench("--runtime", "@in.onnx --rounds 1 --json --runtime tract", Json("/measurements/0/engine/name", json!("tract"))),
        bench("--runtime", "@in.onnx --runtime tract,ort", Error("onnxruntime: no usable library found")),
        bench("--runtime", "@in.onnx --runtime tract,tract", Error("--runtime: has the same value twice")),
        bench("--runtime", "@in.onnx --runtime torch", Error("expected auto, tract or ort")),
        bench("--provider", "@in.onnx --rounds 1 --json --provider cpu", Json("/measurements/0/engine/provider", json!("cpu"))),
        bench("--precision", "@in.onnx --precision tf32", Error("--precision: has no effect without --provider cuda")),
        bench("--precision", "@in.onnx --provider cuda --precision tf32", Error("onnxruntime: no usable library found")),
        bench("--provider", "@in.onnx --provider npu", Error("expected auto, cpu, cuda or cuda:<device>")),
        bench("--provider", "@in.onnx --provider cuda", Error("onnxruntime: no usable library found")),
        bench("--threads", "@in.onnx --rounds 1 --json --threads 1,2", Seen(|_, run| places(run, "/engine/threads") == [json!(1), json!(2)])),
        bench("--threads", "@in.onnx --threads 0", Error("must be at least 1")),
        bench("--ort-lib", "@in.onnx --ort-lib /nonexistent/libonnxruntime.so", Error("named by --ort-lib")),
        bench("--ort-lib", "@in.onnx --runtime tract --ort-lib a.so", Error("--ort-lib: ")),
        bench("--seed", "@in.onnx --rounds 1 --json --seed 7", Json("/seed", json!(7))),
        peak("--batch", "@in.onnx --json --batch 3", Json("/batch", json!(3))),
        peak("--engine", "@in.onnx --json --engine tract", Json("/engine/name", json!("tract"))),
        peak("--precision", "@in.onnx --precision tf32", Error("--precision: has no effect without --provider cuda")),
        peak("--provider", "@in.onnx --json --provider cpu", Json("/engine/provider", json!("cpu"))),
        peak("--threads", "@in.onnx --json --threads 1", Json("/engine/threads", json!(1))),
        peak("--ort-lib", "@in.onnx --ort-lib /nonexistent/a.so", Error("named by --ort-lib")),
        peak("--json", "@in.onnx --json", Seen(|_, run| run.json()["peak_bytes"].as_u64() > Some(1 << 20))),
        peak("--quiet", "@in.onnx --quiet", Error("--quiet: has no effect")),
        peak("--verbose", "@in.onnx --verbose", Error("--verbose: has no effect")),
    ]
}

/// This part of every measurement.
fn places(run: &Run, place: &str) -> Vec<Value> {
    let json = run.json();
    let found = json["measurements"].as_array().unwrap().iter();
    found
        .map(|found| found.pointer(place).unwrap().clone())
        .collect()
}

/// A part of the ratio of the second model.
fn ratio(run: &Run, part: &str) -> Option<f64> {
    let json = run.json();
    json.pointer(&format!("/measurements/0/models/1/ratio/{part}"))?
        .as_f64()
}

fn text(bench: &Bench, name: &str) -> String {
    fs::read_to_string(bench.path(name)).unwrap()
}

/// Writes the small classifier with another input.
fn put(bench: &Bench, name: &str, change: fn(&mut ModelProto)) {
    let mut model = classifier();
    change(&mut model);
    bench.put(name, &model.encode_to_vec());
}

#[test]
fn bad_models_are_refused_before_anything_is_measured() {
    use onnx_prune::onnx::ValueInfoProto;
    fn input(model: &mut ModelProto, dtype: DataType, dims: &[Dim]) {
        let graph = model.graph.as_mut().unwrap();
        graph.input = vec![ValueInfoProto::tensor("images", dtype, dims)];
    }
    let bench = Bench::new();
    put(&bench, "wide.onnx", |model| {
        let dims = [Dim::Unknown, Dim::Fixed(1), Dim::Fixed(2), Dim::Fixed(8)];
        input(model, DataType::Float, &dims);
    });
    put(&bench, "fixed.onnx", |model| {
        let dims = [Dim::Fixed(2), Dim::Fixed(1), Dim::Fixed(4), Dim::Fixed(4)];
        input(model, DataType::Float, &dims);
    });
    put(&bench, "double.onnx", |model| {
        let dims = [Dim::Unknown, Dim::Fixed(1), Dim::Fixed(4), Dim::Fixed(4)];
        input(model, DataType::Double, &dims);
    });
    put(&bench, "two.onnx", |model| {
        let graph = model.graph.as_mut().unwrap();
        let second = ValueInfoProto::tensor("more", DataType::Float, &[Dim::Fixed(1)]);
        graph.input.push(second);
    });
    put(&bench, "headless.onnx", |model| {
        let graph = model.graph.as_mut().unwrap();
        graph.node.truncate(1);
        graph.output = vec![ValueInfoProto::tensor(
            "flat",
            DataType::Float,
            &[Dim::Unknown, Dim::Fixed(16)],
        )];
    });
    bench.put("text.onnx", b"no model");
    let cases = [
        ("bench", "MODEL"),
        ("bench @missing.onnx", "missing.onnx"),
        ("bench @text.onnx", "not an ONNX file"),
        (
            "bench @in.onnx @wide.onnx",
            "only models of the same input can be compared",
        ),
        ("bench @in.onnx @double.onnx", "takes f64"),
        (
            "bench @in.onnx @two.onnx",
            "the model has [\"images\", \"more\"]",
        ),
        (
            "bench @fixed.onnx --batch 8",
            "takes batches of 2 only, not 8",
        ),
        (
            "bench @in.onnx @fixed.onnx",
            "takes batches of 2 only, not 1",
        ),
        ("bench @headless.onnx --head", "no classification head"),
        (
            "bench @in.onnx --data @data.npy --mean x",
            "invalid value 'x'",
        ),
        (
            "bench @in.onnx --mean 0.5",
            "--mean: has no effect without --data",
        ),
        ("peak-memory @text.onnx", "not an ONNX file"),
    ];
    let before = bench.names();
    for (line, part) in cases {
        run(Engines::Tract, &bench.arguments(line)).assert_error(line, part);
        assert_eq!(bench.names(), before, "{line}");
    }
}

#[test]
fn a_batch_that_the_model_insists_on_is_the_default() {
    let bench = Bench::new();
    put(&bench, "fixed.onnx", |model| {
        let dims = [Dim::Fixed(2), Dim::Fixed(1), Dim::Fixed(4), Dim::Fixed(4)];
        let graph = model.graph.as_mut().unwrap();
        let port = onnx_prune::onnx::ValueInfoProto::tensor("images", DataType::Float, &dims);
        graph.input = vec![port];
    });
    let line = "bench @fixed.onnx --rounds 1 --json";
    let found = run(Engines::Tract, &bench.arguments(line));
    found.assert_done(line);
    assert_eq!(places(&found, "/batch"), [json!(2)]);
}

#[test]
fn a_pruned_model_is_compared_with_its_original_in_both_engines() {
    let bench = Bench::new();
    let prune = "@in.onnx @out.onnx --keep 0.25 --criterion weight";
    run(Engines::Both, &bench.arguments(prune)).assert_done(prune);
    let line = "bench @in.onnx @out.onnx --head --runtime ort,tract --rounds 6 --json";
    let found = run(Engines::Both, &bench.arguments(line));
    found.assert_done(line);
    let engines = places(&found, "/engine/name");
    assert_eq!(engines, ["onnxruntime", "onnxruntime", "tract", "tract"]);
    let json = found.json();
    for measurement in json["measurements"].as_array().unwrap() {
        let models = measurement["models"].as_array().unwrap();
        assert_eq!(models[0]["ratio"], Value::Null);
        let ratio = &models[1]["ratio"];
        let [low, middle, high] = ["/interval/low", "/median", "/interval/high"]
            .map(|place| ratio.pointer(place).and_then(Value::as_f64).unwrap());
        assert!(0.0 < low && low <= middle && middle <= high, "{ratio}");
        assert_eq!(models[1]["seconds"]["runs"].as_u64().unwrap() % 12, 0);
    }
    // one table per measurement, and the line that explains the ratio
    let line = line.replace(" --json", "");
    let table = run(Engines::Both, &bench.arguments(&line)).stdout;
    assert_eq!(table.matches("heads alone, batch 1").count(), 2, "{table}");
    assert!(
        table.contains("to those of in.onnx; median over rounds, then over sessions"),
        "{table}"
    );
}
