//! Every flag, and the difference it makes.

use std::{fs, os::unix::fs::symlink};

use onnx_prune::{
    engine::{runtime::PINNED, testing},
    onnx::{Limits, Model},
};
use serde_json::{Value, json};

use crate::{
    inspecting, measuring, sharding, shell, studying,
    support::{Bench, Engines, Run, clean, command, finish, run},
    training,
};

/// One flag of one command.
pub(crate) struct Case {
    pub(crate) command: &'static str,
    pub(crate) flag: &'static str,
    /// What follows the command; `@name` is a file of the bench.
    pub(crate) line: &'static str,
    pub(crate) expected: Expected,
}

pub(crate) enum Expected {
    /// This place of the JSON document holds this value.
    Json(&'static str, Value),
    /// The document's text there holds these words.
    Words(&'static str, &'static str),
    /// Exit code 2 and a message with these words.
    Error(&'static str),
    /// Whatever else shows that the flag was heard.
    Seen(fn(&Bench, &Run) -> bool),
    /// The same where a clock decides between exit codes 0 and 1.
    Timed(fn(&Bench, &Run) -> bool),
}

use Expected::{Error, Json, Seen, Timed, Words};

const IN: &str = "@in.onnx @out.onnx --engine tract --json";

#[rustfmt::skip]
fn cases() -> Vec<Case> {
    let case = |command, flag, line, expected| Case { command, flag, line, expected };
    let mut cases = vec![
        // the main job
        case("", "--keep", "--keep 0.25", Json("/layers/0/kept", json!(4))),
        case("", "--keep", "--keep 2", Json("/layers/0/kept", json!(2))),
        case("", "--keep", "--keep features=0.5", Json("/layers/1/kept", json!(6))),
        case("", "--keep", "--keep 0.5,fc1=2", Json("/layers/1/kept", json!(2))),
        case("", "--keep", "--keep 0.5,fc1=1", Json("/layers/1/kept", json!(6))),
        case("", "--keep", "--keep 17,fc1=2", Error("17 neurons cannot stay in a layer of 16")),
        case("", "--keep", "--keep fc7=0.3", Error("no layer \"fc7\"; it has features, fc1")),
        case("", "--keep", "--keep 1", Error("nothing to prune")),
        case("", "--scope", "--scope global --keep 0.4", Seen(|_, run| kept(run) == [7, 2])),
        case("", "--scope", "--scope local --keep 0.4", Seen(|_, run| kept(run) == [7, 3])),
        case("", "--scope", "--scope both", Error("expected local or global")),
        case("", "--samples", "--data @data.npy --samples 8 --criterion weight", Json("/certificate/samples", json!(8))),
        case("", "--samples", "--data @data.npy --samples 8 --criterion weight --repair none", Error("--samples: has no effect")),
        case("", "--samples", "--data @images.idx --samples auto --classes from-data", Error("--samples: auto looks at scores before")),
        case("study", "--samples", "@in.onnx -o @s --data @data.npy --samples auto", Error("--samples: auto is not for a study")),
        case("finetune", "--samples", "@in.onnx @out.onnx --data @data.npy --teacher @in.onnx --epochs 1 --samples auto", Error("--samples: auto is not for training")),
        case("score", "--samples", "@in.onnx --data @data.npy --shard 1/2 -o @parts --samples auto", Error("--samples: auto is not for --shard")),
        case("", "--repair", "--data @data.npy --repair mean", Json("/repair/how", json!("mean"))),
        case("", "--repair", "--data @data.npy", Json("/repair/how", json!("reweighted"))),
        case("", "--repair", "--data @data.npy", Seen(|_, run| steps(run) > 0)),
        case("", "--repair", "--data @data.npy --repair least-squares", Seen(|_, run| steps(run) == 0)),
        case("", "--repair", "--keep 0.5", Json("/repair/how", json!("none"))),
        case("", "--repair", "--repair least-squares", Error("--repair: is solved on real samples; give some with --data")),
        case("", "--repair", "--data @data.npy --repair median", Error("none of none, mean, least-squares, reweighted")),
        case("", "--granularity", "--granularity channel", Error("there are no channels to choose among")),
        case("", "--granularity", "--granularity auto", Json("/granularity", json!("neuron"))),
        case("", "--granularity", "--granularity neuron", Json("/granularity", json!("neuron"))),
        case("", "--granularity", "@maps.onnx @out.onnx --json --keep 0.5 --granularity channel", Json("/trunk/removed/0/after", json!([2, 1, 1, 1]))),
        case("", "--align", "--keep 3 --align 8", Json("/layers/0/kept", json!(8))),
        case("", "--align", "--keep 3 --align 8", Json("/layers/0/requested", json!(3))),
        case("", "--align", "--keep 0.5,fc1=3 --align auto", Json("/align/tried/0/align", json!(1))),
        case("", "--align", "--data @data.npy --max-drop 100 --metric agreement --align auto", Json("/align/tried/1/align", json!(8))),
        case("", "--align", "--data @data.npy --max-drop 100 --metric agreement --align 8", Json("/layers/0/kept", json!(8))),
        case("", "--align", "--align 7", Error("none of 1, 8, 16, auto")),
        case("", "--granularity", "--granularity pixel", Error("none of neuron, channel, auto")),
        case("", "--trunk", "--trunk none", Json("/trunk", Value::Null)),
        case("", "--trunk", "--trunk exact", Json("/trunk/removed", json!([]))),
        case("", "--form", "--keep 0.25 --form fastest", Json("/form/timed/0/forms/1/form", json!("same-width"))),
        case("", "--form", "--keep 0.25 --form smallest", Json("/form", json!({"used": "smallest"}))),
        case("", "--form", "--form prettiest", Error("neither smallest nor fastest")),
        case("", "--require-faster", "--require-faster", Timed(written_if_faster)),
        case("", "--require-faster", "--require-faster --no-verify", Timed(written_if_faster)),
        case("", "--require-faster", "--no-verify", Json("/speed", Value::Null)),
        case("", "--trunk", "--trunk some", Error("neither exact nor none")),
        case("", "--baselines", "--data @data.npy --baselines", Json("/baselines/1/criterion", json!("weight"))),
        case("", "--baselines", "--baselines", Error("--baselines: is measured on real samples")),
        case("", "--max-drop", "--data @data.npy --max-drop 100 --metric agreement", Json("/search/keep", json!(0.01))),
        case("", "--max-drop", "--data @data.npy --max-drop 0.5", Error("--metric agreement needs none")),
        case("", "--max-drop", "--max-drop 0.5", Error("--max-drop: is measured on real samples")),
        case("", "--max-drop", "--max-drop 0.5 --keep 0.5", Error("cannot be used with")),
        case("", "--max-drop", "--max-drop -1", Error("must be from 0 to 100")),
        case("", "--metric", "--data @data.npy --max-drop 100 --metric agreement", Json("/search/limit/metric", json!("agreement"))),
        case("", "--metric", "--metric agreement", Error("--max-drop")),
        case("", "--max-bytes", "--max-bytes 1GB", Json("/search/keep", json!(0.9))),
        case("", "--max-bytes", "--max-bytes 5XB", Error("is no size; write 5000000, 5MB or 4.8MiB")),
        case("", "--force", "--force", Seen(|bench, _| bench.path("out.onnx").exists())),
        case("", "--no-verify", "--no-verify", Json("/verification", Value::Null)),
        case("", "--no-verify", "--no-verify", Seen(|bench, _| metadata(bench, "onnx_prune.verified").starts_with("no "))),
        case("", "--timings", "--timings", Json("/timings/stages/0/stage", json!("loading the model"))),
        case("", "--timings", "--samples 32 --timings", Seen(|_, run| stages_are_those_of_a_prune(run))),
        case("score", "--timings", "@in.onnx --criterion weight --timings --json", Json("/timings/stages/2/stage", json!("scoring"))),
        case("score", "--timings", "@in.onnx --timings --json", Words("/timings/stages/1/stage", "opening engine and data")),
        case("score", "--timings", "@in.onnx --timings --quiet", Seen(|_, run| run.stderr.contains("scoring") && run.stderr.contains("all"))),
        case("finetune", "--timings", "@in.onnx @out.onnx --json --epochs 1 --data @data.npy --teacher @in.onnx --timings", Seen(|_, run| run.stderr.contains("training") && run.stderr.contains("writing"))),
        case("", "--require-both", "--require-both", Error("--require-both: only tract is there")),
        case("finetune", "--classes", "@in.onnx @out.onnx --json --epochs 1 --data @images.idx --classes from-data", Json("/transfer/classes", json!(4))),
        case("finetune", "--classes", "@in.onnx @out.onnx --json --epochs 1 --data @data.npy --teacher @in.onnx --classes from-data", Error("has no labels")),
        case("", "--classes", "--data @images.idx --classes from-data", Json("/transfer/classes", json!(4))),
        case("", "--classes", "--data @images.idx --classes 4", Seen(|bench, _| outputs(bench) == 4)),
        case("", "--classes", "--data @images.idx --classes 3", Error("the label 3")),
        case("", "--classes", "--data @images.idx --classes 5", Error("none of class 4")),
        case("", "--classes", "--data @images.idx --classes 1", Error("at least two classes")),
        case("", "--classes", "--data @data.npy --classes from-data", Error("has no labels")),
        case("", "--classes", "--classes from-data", Error("--classes: is fitted to real samples")),
        case("", "--score-with", "--data @images.idx --classes 4 --score-with source", Json("/transfer/score_with", json!("source"))),
        case("", "--score-with", "--data @images.idx --classes 4 --score-with target", Json("/transfer/score_with", json!("target"))),
        case("", "--score-with", "--data @images.idx --score-with target", Error("--classes")),
        case("", "--test", "--data @data.npy --test @data.npy", Words("/data/test/path", "data.npy")),
        case("", "--test", "--test @data.npy", Error("--test: has no effect without --data")),
        // other commands' own
        case("score", "--output", "@in.onnx --output @s.json", Seen(|bench, _| scores(bench) == 16)),
        case("score", "--html", "@in.onnx --html @s.html --json", Seen(|bench, _| page(bench, "s.html").contains("Scores of neurons"))),
        case("score", "--html", "@in.onnx --html @in.onnx", Error("is the input")),
        case("score", "--html", "@in.onnx --html @data.npy", Error("exists; --force replaces it")),
        case("score", "--force", "@in.onnx --force", Error("--force: has no effect without --output or --html")),
        case("", "--report", "--report @r.html", Seen(|bench, _| page(bench, "r.html").contains("Pruned model"))),
        case("", "--report", "--report @r.json", Seen(|bench, run| page(bench, "r.json").trim() == run.stdout.trim())),
        case("", "--report", "--report @r.txt", Error("ends neither in .html nor in .json")),
        case("", "--report", "--data @data.npy --max-drop 100 --metric agreement --epochs 1 --report @r.html", Seen(|bench, _| page(bench, "r.html").matches("<figure").count() == 2)),
        case("score", "--force", "@in.onnx --output @data.npy --force", Seen(|bench, _| bench.path("data.npy").metadata().unwrap().len() > 1000)),
        case("score", "--force", "@in.onnx --output @data.npy", Error("exists; --force replaces it")),
        case("gradient", "--of", "@in.onnx @out.onnx --of logits --json", Seen(|bench, _| operators(bench) == 0)),
        case("gradient", "--of", "@in.onnx @out.onnx --of probabilities --json", Seen(|bench, _| operators(bench) > 0)),
        case("gradient", "--force", "@in.onnx @data.npy", Error("exists; --force replaces it")),
        case("gradient", "--force", "@in.onnx @data.npy --force --json", Json("/schema", json!("onnx-prune/gradient/v1"))),
        case("verify", "--require-both", "@in.onnx @in.onnx --require-both", Error("--require-both")),
        case("cache", "--cache", "--cache @. --json", Json("/entries", json!([]))),
        case("cache", "--cache", "--cache @nowhere", Error("nowhere")),
        case("cache clear", "--cache", "--cache @. --json", Json("/removed", json!(0))),
        case("cache clear", "--older-than", "--older-than 3 --cache @. --json", Json("/removed", json!(0))),
        case("cache clear", "--older-than", "--older-than -3", Error("invalid value '-3'")),
        case("runtime", "--ort-lib", "--ort-lib /nonexistent/a.so --json", Json("/candidates/0/origin", json!("flag"))),
        case("runtime check", "--ort-lib", "--ort-lib /nonexistent/a.so", Error("/nonexistent/a.so")),
        case("runtime check", "--provider", "--provider cuda", Error("`onnx-prune runtime install --cuda` fetches one")),
        case("runtime check", "--provider", "--provider gpu", Error("expected auto, cpu, cuda")),
        case("runtime install", "--ort-lib", "--ort-lib /nonexistent/a.so", Error("has no effect")),
        case("runtime install", "--cuda", "--cuda", Error("onnxruntime-gpu==")),
    ];
    for (command, files) in [("", IN), ("score", "@in.onnx --engine tract --json")] {
        cases.extend(SCORES.into_iter().map(|(flag, line, expected)| {
            case(command, flag, leak(format!("{files} {line}")), expected())
        }));
    }
    for (command, files) in [
        ("", "@in.onnx @out.onnx --json"),
        ("score", "@in.onnx --json"),
        ("features", "@in.onnx --output @parts --json"),
        ("verify", "@in.onnx @in.onnx --json"),
        ("bench", "@in.onnx --rounds 1 --json"),
        ("finetune", "@in.onnx @out.onnx --teacher @in.onnx --epochs 1 --json"),
        ("study", "@in.onnx -o @s --no-time --keeps 0.5 --criteria weight --json"),
    ] {
        let rows = DATA.into_iter().filter(|row| command != "features" || row.0 != "--seed");
        cases.extend(rows.map(|(flag, line, expected)| {
            case(command, flag, leak(format!("{files} {line}")), within(command, expected()))
        }));
    }
    for (command, files) in [
        ("", "@in.onnx @out.onnx --json"),
        ("score", "@in.onnx --json"),
        ("features", "@in.onnx --data @data.npy --output @parts --json"),
        ("gradient", "@in.onnx @out.onnx --json"),
        ("verify", "@in.onnx @in.onnx --json"),
        ("inspect", "@in.onnx --no-time --json"),
        ("finetune", "@in.onnx @out.onnx --data @data.npy --teacher @in.onnx --epochs 1 --json"),
        ("study", "@in.onnx -o @s --data @data.npy --no-time --keeps 0.5 --criteria weight --json"),
    ] {
        let info = ["", "score", "features", "inspect", "finetune"].contains(&command);
        cases.extend(ENGINE.into_iter().filter(|row| row.2 || info).map(|(flag, line, _, expected)| {
            case(command, flag, leak(format!("{files} {line}")), expected())
        }));
    }
    cases.extend(measuring::cases());
    cases.extend(inspecting::cases());
    cases.extend(sharding::cases());
    cases.extend(training::cases());
    cases.extend(studying::cases());
    for (command, files) in RUNS {
        cases.push(case(command, "--json", leak(format!("{files} --json")), Seen(|_, run| run.json().is_object())));
        cases.push(case(command, "--quiet", leak(format!("{files} --quiet")), Seen(|_, run| run.stderr.is_empty() && !run.stdout.is_empty())));
        cases.push(case(command, "--verbose", leak(format!("{files} --verbose")), Seen(|_, run| run.stderr.contains("done:"))));
    }
    cases.extend(shell::cases());
    for command in ["runtime", "runtime check", "runtime install", "cache", "cache clear"] {
        cases.push(case(command, "--quiet", "--quiet", Error("has no effect")));
        cases.push(case(command, "--verbose", "--verbose", Error("has no effect")));
    }
    // The main job's lines above say only what is special about them.
    for case in &mut cases {
        if case.command.is_empty() && !case.line.starts_with('@') {
            case.line = leak(format!("{IN} {}", case.line));
        }
    }
    cases
}

/// A study says what others say at the top for each of its models.
fn within(command: &str, expected: Expected) -> Expected {
    let model = |place: &str| leak(format!("/models/0{place}"));
    match (command, expected) {
        ("study", Json(place, value)) => Json(model(place), value),
        ("study", Words(place, words)) => Words(model(place), words),
        (_, expected) => expected,
    }
}

type Row = (&'static str, &'static str, fn() -> Expected);

/// Commands with notes and stages, as short as they can be typed.
const RUNS: [(&str, &str); 9] = [
    ("", "@in.onnx @out.onnx"),
    ("score", "@in.onnx"),
    ("features", "@in.onnx --data @data.npy --output @parts"),
    ("gradient", "@in.onnx @out.onnx"),
    (
        "finetune",
        "@in.onnx @out.onnx --data @data.npy --teacher @in.onnx --epochs 1",
    ),
    ("verify", "@in.onnx @in.onnx"),
    ("inspect", "@in.onnx"),
    (
        "study",
        "@in.onnx -o @s --data @data.npy --no-time --keeps 0.5 --criteria weight",
    ),
    ("bench", "@in.onnx --rounds 1"),
];

#[rustfmt::skip]
const SCORES: [Row; 40] = [
    ("--criterion", "--criterion weight", || Json("/score/criterion", json!("weight"))),
    ("--criterion", "--criterion best", || Error("none of lsa, weight")),
    ("--norm", "--norm 2", || Json("/score/norm", json!("2"))),
    ("--norm", "--norm max", || Json("/score/norm", json!("inf"))),
    ("--over-classes", "--over-classes 1", || Json("/score/over_classes", json!("1"))),
    ("--of", "--of logits", || Json("/score/of", json!("logits"))),
    ("--of", "--of probabilities", || Json("/score/of", json!("probabilities"))),
    ("--criterion", "--data @data.npy --criterion obs", || Json("/score/criterion", json!("obs"))),
    ("--criterion", "--data @data.npy --criterion curvature --of logits", || Json("/score/of", json!("logits"))),
    ("--criterion", "--data @data.npy --criterion curvature --norm 2", || Error("--norm: has no effect with --criterion curvature")),
    ("--criterion", "--data @data.npy --criterion obs --scale residual", || Error("--scale: has no effect with --criterion obs")),
    ("--scale", "--data @data.npy --scale residual", || Json("/score/scale", json!("residual"))),
    ("--scale", "--data @data.npy", || Json("/score/scale", json!("residual"))),
    ("--scale", "--data @data.npy --scale none", || Json("/score/scale", json!("none"))),
    ("--scale", "--scale auto", || Json("/score/scale", json!("none"))),
    ("--scale", "--scale std", || Json("/score/scale", json!("std"))),
    ("--samples", "--data @data.npy --samples 8", || Json("/score/samples", json!(8))),
    ("--samples", "--samples 0", || Error("must be at least 1")),
    ("--samples", "--data @data.npy --samples auto", || Json("/enough/samples", json!(24))),
    ("--samples", "--data @data.npy --samples auto --criterion obs", || Json("/enough/samples", json!(24))),
    ("--samples", "--samples auto", || Error("--samples: auto needs samples; give some with --data")),
    ("--samples", "--data @data.npy --samples auto --criterion weight", || Error("--samples: ")),
    ("--samples", "--samples 8 --criterion weight", || Error("--samples: has no effect with --criterion weight")),
    ("--seed", "--seed 7", || Json("/seed", json!(7))),
    ("--batch", "--data @data.npy --batch 7", || Json("/score/samples", json!(24))),
    ("--batch", "--data @data.npy --batch auto --criterion activation", || Seen(|_, run| run.stderr.contains("note: batches of"))),
    ("--batch", "--batch 0", || Error("must be at least 1")),
    ("--cache", "--data @data.npy --cache @kept", || Seen(|bench, _| bench.path("kept").is_dir())),
    ("--cache", "--data @data.npy --cache @in.onnx", || Error("in.onnx is no folder")),
    ("--cache", "--cache @kept", || Error("--cache: has no effect without --data")),
    ("--no-cache", "--data @data.npy --no-cache", || Seen(|_, run| !run.stderr.contains("note: features of"))),
    ("--no-cache", "--no-cache", || Error("--no-cache: has no effect without --data")),
    ("--row-tolerance", "--data @data.npy --row-tolerance 1e-5", || Words("/score/notes/0", "rows with p (1 - p) up to 1e-5")),
    ("--row-tolerance", "--row-tolerance 1e-5", || Error("--row-tolerance: has no effect with --of logits")),
    ("--row-tolerance", "--row-tolerance 1e-5 --criterion weight", || Error("--row-tolerance: has no effect with --criterion weight")),
    ("--row-tolerance", "--row-tolerance 0.5", || Error("must be a number between 0 and 0.25")),
    ("--probes", "--data @data.npy --norm 2 --probes 4", || Words("/score/notes/0", "4 random rows stand for the classes")),
    ("--probes", "--data @data.npy --probes 4", || Error("--probes: has no effect but with --norm 2")),
    ("--probes", "--norm 2 --probes 0", || Error("must be at least 1")),
    ("--scale", "--scale huge", || Error("none of auto, none, std, range, residual")),
];

#[rustfmt::skip]
const DATA: [Row; 18] = [
    ("--data", "--data @data.npy", || Words("/data/path", "data.npy")),
    ("--on-bad-sample", "--data @holes.idx --on-bad-sample skip", || Json("/data/skipped/count", json!(2))),
    ("--on-bad-sample", "--data @broken.idx --on-bad-sample error", || Error("30 of 30 samples cannot be used")),
    ("--on-bad-sample", "--on-bad-sample skip", || Error("has no effect without --data")),
    ("--on-bad-sample", "--data @data.npy --on-bad-sample drop", || Error("neither error nor skip")),
    ("--seed", "--data @data.npy --seed 7", || Words("/data/path", "data.npy")),
    ("--seed", "--seed x", || Error("invalid value 'x'")),
    ("--preprocess", "--data @data.npy --preprocess mnist", || Words("/data/preprocess/source", "preset mnist")),
    ("--preprocess", "--data @data.npy --preprocess imagenette", || Error("neither a file nor one of the presets")),
    ("--resize", "--data @data.npy --resize 5 --crop 4", || Json("/data/preprocess/resize", json!("5"))),
    ("--crop", "--data @data.npy --resize 5 --crop 4", || Json("/data/preprocess/crop", json!("4x4"))),
    ("--interpolation", "--data @data.npy --interpolation box", || Json("/data/preprocess/interpolation", json!("box"))),
    ("--rescale", "--data @data.npy --rescale 0.5", || Json("/data/preprocess/rescale", json!(0.5))),
    ("--mean", "--data @data.npy --mean -0.25", || Json("/data/preprocess/mean", json!([-0.25]))),
    ("--std", "--data @data.npy --std 0.25", || Json("/data/preprocess/std", json!([0.25]))),
    ("--std", "--data @data.npy --std 0", || Error("0 is not a positive number")),
    ("--layout", "--data @data.npy --layout nchw", || Json("/data/preprocess/layout", json!("nchw"))),
    ("--channels", "--data @data.npy --channels grey", || Json("/data/preprocess/channels", json!("grey"))),
];

/// The third column: whether the row also holds for commands that do not report their engine.
type EngineRow = (&'static str, &'static str, bool, fn() -> Expected);

#[rustfmt::skip]
const ENGINE: [EngineRow; 12] = [
    ("--engine", "--engine tract", false, || Json("/engine/name", json!("tract"))),
    ("--engine", "--engine ort", true, || Error("onnxruntime: no usable library found")),
    ("--engine", "--engine torch", true, || Error("expected auto, tract or ort")),
    ("--provider", "--provider cpu", false, || Json("/engine/provider", json!("cpu"))),
    ("--provider", "--provider cuda", true, || Error("onnxruntime: no usable library found")),
    ("--precision", "--provider cuda --precision tf32", true, || Error("onnxruntime: no usable library found; `onnx-prune runtime install --cuda`")),
    ("--precision", "--precision fp32", true, || Error("--precision: has no effect without --provider cuda")),
    ("--precision", "--provider cuda --precision fp16", true, || Error("expected fp32 or tf32")),
    ("--threads", "--threads 1", false, || Json("/engine/threads", json!(1))),
    ("--threads", "--threads 0", true, || Error("must be at least 1")),
    ("--ort-lib", "--ort-lib /nonexistent/libonnxruntime.so", true, || Error("/nonexistent/libonnxruntime.so")),
    ("--ort-lib", "--ort-lib /nonexistent/libonnxruntime.so", false, || Error("named by --ort-lib")),
];

/// The pairs of command and flag that have a case here.
pub(crate) fn tested() -> impl Iterator<Item = (String, String)> {
    let elsewhere = [
        ("runtime", "--json"),
        ("runtime check", "--json"),
        ("runtime install", "--json"),
        ("cache", "--json"),
        ("cache clear", "--json"),
    ];
    let elsewhere = elsewhere.into_iter().chain(sharding::TESTED_BY_HAND);
    let cases = cases().into_iter().map(|case| (case.command, case.flag));
    cases
        .chain(elsewhere)
        .map(|(command, flag)| (command.to_owned(), flag.to_owned()))
}

#[test]
fn every_flag_makes_its_difference() {
    let mut failures = Vec::new();
    for case in cases() {
        let bench = Bench::new();
        if case.flag == "--force" && case.command.is_empty() {
            bench.put("out.onnx", b"old");
        }
        let line = format!("{} {}", case.command, case.line);
        let found = run(Engines::Tract, &bench.arguments(&line));
        if !fits(&case, &bench, &found) {
            failures.push(format!("onnx-prune {line}\n{found:#?}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

fn fits(case: &Case, bench: &Bench, found: &Run) -> bool {
    if let Error(part) = &case.expected {
        return found.code == Some(2) && found.stdout.is_empty() && found.stderr.contains(part);
    }
    let may_fail = matches!(case.expected, Timed(_));
    if found.code != Some(0) && !(may_fail && found.code == Some(1)) {
        return false;
    }
    match &case.expected {
        Json(place, value) => found.json().pointer(place) == Some(value),
        Words(place, words) => {
            let json = found.json();
            let text = json.pointer(place).and_then(Value::as_str);
            text.is_some_and(|text| text.contains(words))
        }
        Error(_) => false,
        Seen(check) | Timed(check) => check(bench, found),
    }
}

/// Exit code, verdict and file go together, and the measurement is told in either case.
fn written_if_faster(bench: &Bench, run: &Run) -> bool {
    let json = run.json();
    let (faster, passed) = (&json["speed"]["faster"], &json["passed"]);
    let exists = bench.path("out.onnx").exists();
    let timed = json["speed"]["after"].as_f64() > Some(0.0);
    timed && faster == passed && *faster == json!(exists) && exists == (run.code == Some(0))
}

#[test]
fn an_existing_output_is_kept_without_force() {
    let bench = Bench::new();
    bench.put("out.onnx", b"old");
    let found = run(Engines::Tract, &bench.arguments(IN));
    found.assert_error(IN, "exists; --force replaces it");
    assert_eq!(fs::read(bench.path("out.onnx")).unwrap(), b"old");
}

#[test]
fn runtime_commands_speak_json() {
    let listed = run(Engines::Both, &["runtime", "--json"]);
    listed.assert_done("runtime");
    assert_eq!(
        listed.json().pointer("/candidates/0/chosen"),
        Some(&json!(true))
    );
    let checked = run(Engines::Both, &["runtime", "check", "--json"]);
    checked.assert_done("runtime check");
    assert_eq!(checked.json()["passed"], json!(true));
}

#[test]
fn runtime_install_keeps_what_is_there() {
    let home = Bench::new();
    let library = testing::ort_library();
    fs::create_dir(home.path("runtime")).unwrap();
    let place = home.path("runtime").join(format!("onnxruntime-{PINNED}"));
    symlink(library.parent().unwrap(), place).unwrap();
    let mut install = command(Engines::Tract);
    install.args(["runtime", "install", "--json"]);
    install.env("ONNX_PRUNE_HOME", home.path(""));
    let found = finish(&mut install);
    found.assert_done("runtime install");
    assert_eq!(found.json()["fetched"], json!(false));
}

#[test]
fn runtime_install_without_python_says_how_to_do_it_by_hand() {
    let home = Bench::new();
    let mut install = command(Engines::Tract);
    clean(&mut install, Engines::Tract);
    install.args(["runtime", "install"]);
    install.env("ONNX_PRUNE_HOME", home.path("home"));
    finish(&mut install).assert_error("runtime install", "by hand: `pip download");
}

/// Classes that the output's last axis declares.
fn outputs(bench: &Bench) -> usize {
    let model = Model::load(&bench.path("out.onnx"), &Limits::default()).unwrap();
    let output = &model.proto.graph.as_ref().unwrap().output[0];
    output.dims().unwrap()[1].fixed().unwrap()
}

fn page(bench: &Bench, name: &str) -> String {
    fs::read_to_string(bench.path(name)).unwrap()
}

fn kept(run: &Run) -> Vec<u64> {
    let json = run.json();
    let layers = json["layers"].as_array().unwrap().iter();
    layers
        .map(|layer| layer["kept"].as_u64().unwrap())
        .collect()
}

/// Steps that matched the class probabilities.
fn steps(run: &Run) -> u64 {
    let json = run.json();
    let layers = json["repair"]["layers"].as_array().unwrap().iter();
    layers
        .filter_map(|layer| layer["matching"]["steps"].as_u64())
        .sum()
}

/// All stages, in this order, and their times add up.
fn stages_are_those_of_a_prune(run: &Run) -> bool {
    let timings = &run.json()["timings"];
    let stages = timings["stages"].as_array().unwrap();
    let names: Vec<_> = stages.iter().map(|stage| stage["stage"].as_str()).collect();
    let expected = [
        "loading the model",
        "opening engine and data",
        "finding the head",
        "running the trunk and scoring",
        "planning",
        "rewriting",
        "shrinking the trunk",
        "verifying",
        "loading both models",
        "timing both models",
        "writing",
    ];
    let seconds = stages
        .iter()
        .map(|stage| stage["seconds"].as_f64().unwrap());
    let (sum, whole) = (seconds.sum::<f64>(), timings["seconds"].as_f64().unwrap());
    names == expected.map(Some) && (sum - whole).abs() < 1e-9
}

fn metadata(bench: &Bench, key: &str) -> String {
    let model = Model::load(&bench.path("out.onnx"), &Limits::default()).unwrap();
    model.proto.metadata(key).unwrap_or("(none)").to_owned()
}

/// Softmax and the like in the gradient graph.
fn operators(bench: &Bench) -> usize {
    let model = Model::load(&bench.path("out.onnx"), &Limits::default()).unwrap();
    let nodes = model.proto.graph.unwrap().node;
    nodes.iter().filter(|node| node.op() == "Softmax").count()
}

/// Number of scores of the first layer in the written file.
fn scores(bench: &Bench) -> usize {
    let text = fs::read_to_string(bench.path("s.json")).unwrap();
    let json: Value = serde_json::from_str(&text).unwrap();
    json["layers"][0]["values"].as_array().unwrap().len()
}

/// Lines are put together; the cases hold them for the whole test.
pub(crate) fn leak(line: String) -> &'static str {
    Box::leak(line.into_boxed_str())
}
