//! Kinds of data, as the program takes them.

use serde_json::json;

use crate::support::{Bench, Engines, repository, run};

/// Data of the repository for the small convolutional classifier, and words of its description.
const SETS: [(&str, &str); 5] = [
    ("tests/data/webdataset.tar", "4 images with labels"),
    (
        "tests/data/webdataset-{copy,again}.tar",
        "8 images with labels",
    ),
    ("tests/data/cifar-batch.pickle", "uint8 [2, 3, 32, 32]"),
    (
        "models/fashion-mnist.npz#test",
        "has no parts such as \"test\"",
    ),
    (
        "tests/data/make.py",
        "none of the kinds of data that can be read",
    ),
];

#[test]
fn kinds_of_data_are_recognised() {
    let bench = Bench::new();
    let web = std::fs::read(repository("tests/data/webdataset.tar")).unwrap();
    for name in [
        "webdataset.tar",
        "webdataset-copy.tar",
        "webdataset-again.tar",
    ] {
        bench.put(name, &web);
    }
    let batch = std::fs::read(repository("tests/data/cifar-batch.pickle")).unwrap();
    bench.put("cifar-batch.pickle", &batch);
    bench.put("test_batch", &batch);
    let model = bench.text("maps.onnx");
    for (data, words) in SETS {
        let name = data.rsplit('/').next().unwrap();
        let data = match name {
            _ if name.starts_with("webdataset") => bench.text(name),
            "cifar-batch.pickle" => bench.text("test_batch"),
            _ => repository(data),
        };
        let arguments = [
            "score", &model, "--data", &data, "--resize", "4", "--engine", "tract", "--json",
        ];
        let found = run(Engines::Tract, &arguments);
        match found.code {
            Some(0) => {
                let text = found.json()["data"]["description"].to_string();
                assert!(text.replace('\\', "").contains(words), "{data}: {text}");
            }
            _ => found.assert_error(&data, words),
        }
    }
}

#[test]
fn what_was_left_out_is_in_every_report() {
    let bench = Bench::new();
    let line = "--data @holes.idx --on-bad-sample skip --engine tract";
    for command in [
        "score @in.onnx",
        "@in.onnx @out.onnx",
        "verify @in.onnx @in.onnx",
        "bench @in.onnx --rounds 1 --runtime tract",
        "finetune @in.onnx @tuned.onnx --teacher @in.onnx --epochs 1",
    ] {
        let line = match command.starts_with("bench") {
            true => line.replace(" --engine tract", ""),
            false => line.to_owned(),
        };
        let found = run(
            Engines::Tract,
            &bench.arguments(&format!("{command} {line}")),
        );
        found.assert_done(command);
        for part in [
            "--data: 2 of 30 samples left out:\n  sample 3: holds NaN",
            "\n  sample 17: holds NaN",
        ] {
            assert!(found.stdout.contains(part), "{command}: {}", found.stdout);
        }
    }
    let line =
        "@in.onnx @other.onnx --data @data.npy --test @holes.idx --on-bad-sample skip --json";
    let found = run(Engines::Tract, &bench.arguments(line));
    found.assert_done(line);
    let skipped = &found.json()["data"]["test"]["skipped"];
    assert_eq!(skipped["count"], json!(2));
    assert_eq!(skipped["first"][1]["name"], json!("sample 17"));
    assert_eq!(found.json()["data"]["skipped"]["count"], json!(0));
}

#[test]
fn bad_samples_end_a_run_and_are_all_counted() {
    let bench = Bench::new();
    let line = "score @in.onnx --data @holes.idx --batch 4";
    let found = run(Engines::Tract, &bench.arguments(line));
    found.assert_error(line, "holes.idx: 2 of 30 samples cannot be used:");
    assert!(
        found.stderr.contains("\n  sample 17: holds NaN"),
        "{}",
        found.stderr
    );
}
