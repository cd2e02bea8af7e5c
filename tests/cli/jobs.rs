//! Whole jobs, as in the README, and how the program behaves in a pipe or when it is interrupted.

use std::{
    fs,
    io::Read,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use onnx_prune::onnx::{Limits, Model};
use prost::Message;
use serde_json::json;

use crate::support::{self, Bench, Engines, command, finish, repository, run};

/// The models that come with the repository, and layers that a cut leaves of them.
const MODELS: [(&str, &[u64]); 3] = [
    ("models/vgg.onnx", &[941, 154]),
    ("models/resnet.onnx", &[39]),
    ("models/densenet.onnx", &[40]),
];

#[test]
fn the_readme_s_command_prunes_on_the_embedded_engine() {
    let bench = Bench::new();
    let found = run(
        Engines::Tract,
        &[
            repository("models/vgg.onnx"),
            bench.text("small.onnx"),
            "--norm".to_owned(),
            "inf".to_owned(),
            "--keep".to_owned(),
            "0.3".to_owned(),
            "--data".to_owned(),
            repository("models/fashion-mnist-train.npz"),
        ],
    );
    found.assert_done("vgg");
    for part in [
        "neurons of features",
        "941",
        "repaired",
        "same class on 400",
        "verified on",
        "small.onnx",
    ] {
        assert!(
            found.stdout.contains(part),
            "no {part:?} in {}",
            found.stdout
        );
    }
    let bytes = |path: String| fs::metadata(path).unwrap().len();
    assert!(bytes(bench.text("small.onnx")) * 5 < bytes(repository("models/vgg.onnx")));
}

#[test]
fn the_models_are_proved_in_both_engines() {
    for (model, kept) in MODELS {
        let bench = Bench::new();
        let mut arguments = vec![repository(model), bench.text("out.onnx")];
        let data = repository("models/fashion-mnist-train.npz");
        let flags = [
            "--norm",
            "inf",
            "--keep",
            "0.3",
            "--require-both",
            "--json",
            "--data",
            &data,
        ];
        arguments.extend(flags.map(str::to_owned));
        let found = run(Engines::Both, &arguments);
        found.assert_done(model);
        let report = found.json();
        assert_eq!(report["passed"], json!(true), "{model}");
        let layers = report["layers"].as_array().unwrap().iter();
        let layers: Vec<u64> = layers
            .map(|layer| layer["kept"].as_u64().unwrap())
            .collect();
        assert_eq!(layers, kept, "{model}");
        let checks = report["verification"]["checks"].as_array().unwrap();
        assert_eq!(
            checks.len(),
            3,
            "{model}: two engines, and one against the other"
        );
        for check in checks {
            assert_eq!(check["scope"], json!("whole"), "{model}");
            assert!(
                check["max_rel"].as_f64().unwrap() <= 1e-4,
                "{model}: {check}"
            );
        }
    }
}

#[test]
fn the_output_says_how_it_was_made_and_what_was_not_cut_stays() {
    let bench = Bench::new();
    run(
        Engines::Tract,
        &bench.arguments("@in.onnx @out.onnx --keep 0.5 --data @data.npy --repair none"),
    )
    .assert_done("prune");
    let load = |name: &str| {
        Model::load(&bench.path(name), &Limits::default())
            .unwrap()
            .proto
    };
    let (before, after) = (load("in.onnx"), load("out.onnx"));
    for key in [
        "version",
        "method",
        "keep",
        "seed",
        "data",
        "engine",
        "verified",
        "preprocess",
    ] {
        let key = format!("onnx_prune.{key}");
        assert!(
            after.metadata(&key).is_some_and(|value| !value.is_empty()),
            "{key}"
        );
    }
    let (before, after) = (before.graph.unwrap(), after.graph.unwrap());
    assert_eq!(before.input, after.input);
    assert_eq!(before.output, after.output);
    let bias = |graph: &onnx_prune::onnx::GraphProto| {
        graph
            .initializer
            .iter()
            .find(|tensor| tensor.name() == "b2")
            .cloned()
    };
    assert_eq!(bias(&before), bias(&after));
    // The least squares of a default run change what is left, and say so.
    run(
        Engines::Tract,
        &bench.arguments("@in.onnx @repaired.onnx --keep 0.5 --data @data.npy"),
    )
    .assert_done("repair");
    let repaired = load("repaired.onnx");
    let changed = repaired.metadata("onnx_prune.weights").unwrap();
    assert!(changed.contains("b2"), "{changed}");
    assert_ne!(bias(&before), bias(repaired.graph.as_ref().unwrap()));
}

#[test]
fn the_same_run_gives_the_same_bytes() {
    let bench = Bench::new();
    for name in ["one.onnx", "two.onnx"] {
        let line = format!("@in.onnx @{name} --engine tract --data @data.npy --samples 9 --seed 3");
        run(Engines::Tract, &bench.arguments(&line)).assert_done(name);
    }
    let read = |name| fs::read(bench.path(name)).unwrap();
    assert_eq!(read("one.onnx"), read("two.onnx"));
}

#[test]
fn a_pruned_model_can_be_pruned_again() {
    let bench = Bench::new();
    for line in [
        "@in.onnx @out.onnx --keep 0.5 --data @data.npy",
        "@out.onnx @smaller.onnx --keep 0.5 --data @data.npy --json",
    ] {
        let found = run(Engines::Tract, &bench.arguments(line));
        found.assert_done(line);
    }
}

#[test]
fn verify_repeats_the_proof_and_tells_equal_from_different() {
    let bench = Bench::new();
    let prune = "@in.onnx @out.onnx --keep 0.5 --data @data.npy";
    run(Engines::Tract, &bench.arguments(prune)).assert_done("prune");
    let mut other = support::classifier();
    other.graph.as_mut().unwrap().node[2].op_type = Some("Tanh".to_owned());
    bench.put("other.onnx", &other.encode_to_vec());
    let narrow = "@out.onnx @narrow.onnx --keep features=2 --data @data.npy";
    run(Engines::Tract, &bench.arguments(narrow)).assert_done("prune again");
    struct Case {
        line: &'static str,
        code: i32,
        part: &'static str,
    }
    let cases = [
        Case {
            line: "verify @in.onnx",
            code: 0,
            part: "onnxruntime = tract",
        },
        // a pruned model and its original: the original without the dropped neurons
        Case {
            line: "verify @in.onnx @out.onnx --require-both",
            code: 0,
            part: "original without the dropped neurons = pruned",
        },
        Case {
            line: "verify @in.onnx @other.onnx",
            code: 1,
            part: "NOT equal",
        },
        // pruned from something else
        Case {
            line: "verify @other.onnx @out.onnx",
            code: 1,
            part: "NOT verified",
        },
    ];
    for Case { line, code, part } in cases {
        let found = run(Engines::Both, &bench.arguments(line));
        assert_eq!(found.code, Some(code), "{line}: {found:?}");
        assert!(found.stdout.contains(part), "{line}: {}", found.stdout);
    }
    let swapped = run(
        Engines::Both,
        &bench.arguments("verify @narrow.onnx @out.onnx"),
    );
    swapped.assert_error("the wrong way round", "does not fit A");
}

#[test]
fn a_model_with_other_classes_is_proved_again_and_pruned_again() {
    let bench = Bench::new();
    let again = |line: &str| {
        let found = run(Engines::Both, &bench.arguments(line));
        found.assert_done(line);
        let part = "original without the dropped neurons = pruned";
        assert!(found.stdout.contains(part), "{line}: {}", found.stdout);
    };
    for flags in ["", "--score-with source --repair none"] {
        let prune = format!(
            "@in.onnx @out.onnx --force --keep 0.5 --data @images.idx --classes from-data {flags}"
        );
        let found = run(Engines::Tract, &bench.arguments(&prune));
        found.assert_done(&prune);
        let part = "new last layer: 4 classes (before: 3) on 6 values";
        assert!(found.stdout.contains(part), "{}", found.stdout);
        again("verify @in.onnx @out.onnx");
    }
    let narrow = "@out.onnx @narrow.onnx --keep 0.5 --data @images.idx --repair none";
    run(Engines::Tract, &bench.arguments(narrow)).assert_done(narrow);
    again("verify @out.onnx @narrow.onnx");
}

#[test]
fn json_is_one_document_and_notes_go_to_stderr() {
    let bench = Bench::new();
    for line in [
        "@in.onnx @out.onnx --json",
        "score @in.onnx --json",
        "gradient @in.onnx @gradient.onnx --json",
        "verify @in.onnx @in.onnx --json",
        "runtime --json",
    ] {
        let found = run(Engines::Tract, &bench.arguments(line));
        found.assert_done(line);
        let schema = found.json()["schema"].as_str().unwrap_or("").to_owned();
        assert!(
            schema.starts_with("onnx-prune/") && schema.ends_with("/v1"),
            "{line}: {schema}"
        );
    }
    let found = run(
        Engines::Tract,
        &bench.arguments("score @in.onnx --samples 8"),
    );
    assert!(found.stderr.contains("note: no --data"), "{}", found.stderr);
}

#[test]
fn a_run_that_needs_no_samples_loads_no_runtime() {
    for (flags, engine) in [
        ("--no-verify --trunk none", "tract"),
        ("--no-verify --trunk none --criterion weight", "tract"),
        // One run shows the shapes of a trunk that declares none.
        ("--no-verify", "onnxruntime"),
        ("--no-verify --samples 8", "onnxruntime"),
        ("", "onnxruntime"),
    ] {
        let line = format!("@in.onnx @out.onnx --json {flags}");
        let found = run(Engines::Both, &Bench::new().arguments(&line));
        found.assert_done(&line);
        assert_eq!(found.json()["engine"]["name"], engine, "{line}");
    }
}

#[test]
fn no_colour_and_no_bars_where_nobody_looks() {
    let bench = Bench::new();
    let found = run(
        Engines::Tract,
        &bench.arguments("@in.onnx @out.onnx --verbose"),
    );
    for text in [&found.stdout, &found.stderr] {
        assert!(!text.contains('\u{1b}'), "{text:?}");
    }
}

#[test]
fn a_closed_pipe_is_no_failure() {
    let bench = Bench::new();
    let mut child = command(Engines::Tract)
        .args(bench.arguments("@in.onnx @out.onnx --json"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut errors = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut errors)
        .unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{errors}");
    assert!(bench.path("out.onnx").exists());
}

#[test]
fn a_full_stdout_is_an_error() {
    let bench = Bench::new();
    let full = fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let mut child = command(Engines::Tract);
    child.args(bench.arguments("score @in.onnx")).stdout(full);
    let found = finish_with_stdout(&mut child);
    // There may be room later.
    assert_eq!(found.0, Some(75), "{}", found.1);
    assert!(
        found.1.contains("error: stdout: No space left"),
        "{}",
        found.1
    );
}

fn finish_with_stdout(command: &mut Command) -> (Option<i32>, String) {
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut errors = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut errors)
        .unwrap();
    (child.wait().unwrap().code(), errors)
}

/// Longest wait for something that takes a moment.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn ctrl_c_leaves_nothing_behind() {
    let bench = Bench::new();
    let mut arguments = vec![repository("models/vgg.onnx"), bench.text("out.onnx")];
    let data = repository("models/fashion-mnist-train.npz");
    let flags = [
        "--engine",
        "tract",
        "--threads",
        "1",
        "--batch",
        "1",
        "--no-cache",
        "--data",
        &data,
    ];
    arguments.extend(flags.map(str::to_owned));
    let before = bench.names();
    let mut child = command(Engines::Tract)
        .args(&arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The folder for the output is there: the run has begun, and there is something to remove.
    let begin = Instant::now();
    while bench.names() == before {
        assert!(begin.elapsed() < PATIENCE, "the run did not begin");
        thread::sleep(Duration::from_millis(5));
    }
    let mut kill = Command::new("/bin/kill");
    kill.args(["-INT", &child.id().to_string()]);
    assert_eq!(finish(&mut kill).code, Some(0));
    let mut errors = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut errors)
        .unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{errors}");
    assert!(errors.ends_with("error: interrupted\n"), "{errors}");
    assert_eq!(bench.names(), before);
}
