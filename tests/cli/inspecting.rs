//! Flags of `inspect`, and its bad input.

use onnx_prune::onnx::{DataType, Dim, ValueInfoProto};
use prost::Message;
use serde_json::{Value, json};

use crate::{
    flags::{
        Case,
        Expected::{Error, Json, Seen, Words},
    },
    support::{Bench, Engines, Run, classifier, run},
};

#[rustfmt::skip]
pub(crate) fn cases() -> Vec<Case> {
    let case = |flag, line, expected| Case { command: "inspect", flag, line, expected };
    vec![
        case("--keep", "@in.onnx --no-time --json --keep 0.25", Json("/gains/0/kept", json!([4, 2]))),
        case("--keep", "@in.onnx --no-time --json --keep 0.5,fc1=2", Json("/gains/0/kept", json!([8, 2]))),
        case("--keep", "@in.onnx --no-time --json", Json("/gains/0/kept", json!([8, 3]))),
        case("--keep", "@in.onnx --no-time --keep 1", Error("nothing to gain")),
        case("--keep", "@in.onnx --no-time --keep fc7=1", Error("no layer \"fc7\"")),
        case("--no-time", "@in.onnx --json --no-time", Json("/parts/0/seconds", Value::Null)),
        case("--no-time", "@in.onnx --json", Seen(|_, run| time(run).is_some_and(|time| time > 0.0))),
        case("--batch", "@in.onnx --json --batch 3", Json("/batch", json!(3))),
        case("--batch", "@in.onnx --batch 0", Error("must be at least 1")),
        case("--batch", "@in.onnx --no-time --batch 3", Error("--batch: has no effect with --no-time")),
        case("--diff", "@in.onnx @in.onnx --json --diff", Json("/same", json!(true))),
        case("--diff", "--diff @in.onnx @in.onnx --json", Words("/a/path", "in.onnx")),
        case("--diff", "@in.onnx --diff", Error("<OTHER>")),
        case("--diff", "@in.onnx @in.onnx", Error("--diff")),
        case("--diff", "--diff @in.onnx @in.onnx --keep 0.3", Error("--keep: has no effect with --diff")),
        case("--diff", "--diff @in.onnx @in.onnx --no-time", Error("--no-time: has no effect with --diff")),
        case("--diff", "--diff @in.onnx @in.onnx --threads 1", Error("--threads: has no effect with --diff")),
        case("--diff", "--diff @in.onnx @in.onnx --quiet", Error("--quiet: has no effect with --diff")),
    ]
}

/// Seconds of the head.
fn time(run: &Run) -> Option<f64> {
    run.json().pointer("/parts/0/seconds")?.as_f64()
}

#[test]
fn parts_add_up_and_a_cut_leaves_less() {
    let bench = Bench::new();
    let line = "inspect @in.onnx --no-time --keep 0.25 --json";
    let found = run(Engines::Tract, &bench.arguments(line));
    found.assert_done(line);
    let json = found.json();
    let place = |place: &str| json.pointer(place).cloned().unwrap_or_default();
    // 16 x 6 + 6 + 6 x 3 + 3, all of it head but the Flatten
    assert_eq!(place("/parts/0/parameters"), json!(123));
    assert_eq!(place("/parts/0/macs"), json!(16 * 6 + 6 * 3));
    assert_eq!(place("/parts/1/part"), json!("rest"));
    assert_eq!(place("/parts/2/parameters"), json!(123));
    // 4 features and 2 hidden neurons
    assert_eq!(place("/gains/0/parameters"), json!(4 * 2 + 2 + 2 * 3 + 3));
    assert_eq!(place("/gains/0/macs"), json!(4 * 2 + 2 * 3));
    assert_eq!(place("/worth"), json!(true));
    assert_eq!(
        place("/layers/1/made_by/0"),
        json!("node \"fc1\" (Gemm, opset 17)")
    );
}

#[test]
fn a_difference_is_shown_by_name() {
    let bench = Bench::new();
    let prune = "@in.onnx @out.onnx --keep 0.5 --criterion weight";
    run(Engines::Tract, &bench.arguments(prune)).assert_done(prune);
    let line = "inspect --diff @in.onnx @out.onnx --json";
    let found = run(Engines::Tract, &bench.arguments(line));
    found.assert_done(line);
    let json = found.json();
    let layers = json!([{"name": "fc1", "a": 6, "b": 3}, {"name": "features", "a": 16, "b": 8}]);
    assert_eq!(json["layers"], layers);
    assert_eq!(json["operators"]["Gather"], json!([0, 1]));
    let weights = json["weights"].as_array().unwrap();
    let w2 = json!({"name": "w2", "a": [6, 3], "b": [3, 3]});
    assert!(weights.contains(&w2), "{weights:?}");
    let text = run(
        Engines::Tract,
        &bench.arguments("inspect --diff @in.onnx @out.onnx"),
    );
    assert!(
        text.stdout.contains("neurons of features"),
        "{}",
        text.stdout
    );
}

#[test]
fn bad_input_is_refused() {
    let bench = Bench::new();
    bench.put("text.onnx", b"no model");
    let mut headless = classifier();
    headless.graph.as_mut().unwrap().node.truncate(2);
    headless.graph.as_mut().unwrap().node.remove(1);
    headless.graph.as_mut().unwrap().output[0].name = Some("flat".to_owned());
    bench.put("headless.onnx", &headless.encode_to_vec());
    let mut fixed = classifier();
    let dims = [Dim::Fixed(2), Dim::Fixed(1), Dim::Fixed(4), Dim::Fixed(4)];
    fixed.graph.as_mut().unwrap().input =
        vec![ValueInfoProto::tensor("images", DataType::Float, &dims)];
    bench.put("fixed.onnx", &fixed.encode_to_vec());
    let cases = [
        ("inspect", "<IN>"),
        ("inspect @missing.onnx", "missing.onnx"),
        ("inspect @text.onnx", "not an ONNX file"),
        ("inspect @headless.onnx", "found no classification head"),
        (
            "inspect @in.onnx --provider npu",
            "expected auto, cpu, cuda or cuda:<device>",
        ),
        (
            "inspect @fixed.onnx --batch 8",
            "takes batches of 2 samples only, not 8",
        ),
        ("inspect --diff @in.onnx @text.onnx", "not an ONNX file"),
    ];
    let before = bench.names();
    for (line, part) in cases {
        run(Engines::Tract, &bench.arguments(line)).assert_error(line, part);
        assert_eq!(bench.names(), before, "{line}");
    }
}
