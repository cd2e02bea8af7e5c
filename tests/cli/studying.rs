//! `study`: what it leaves, and that nothing runs twice.

use std::{
    fs,
    path::Path,
    process::Stdio,
    time::{Duration, SystemTime},
};

use serde_json::{Value, json};

use crate::{
    flags::{Case, Expected, leak},
    support::{Bench, Engines, Run, command, repository, run},
};

use Expected::{Error, Json, Seen};

#[rustfmt::skip]
pub(crate) fn cases() -> Vec<Case> {
    let case = |flag, line, expected| Case { command: "study", flag, line, expected };
    vec![
        case("--output", "@in.onnx -o @s --data @data.npy --no-time --json --criteria weight --keeps 0.5", Seen(|bench, _| bench.path("s/report.md").is_file())),
        case("--output", "@in.onnx -o @in.onnx --data @data.npy", Error("is no folder")),
        case("--output", "@in.onnx -o @. --data @data.npy", Error("holds other files")),
        case("--keeps", "@in.onnx -o @s --data @data.npy --no-time --json --criteria weight --keeps 0.25,0.5", Json("/keeps", json!([0.5, 0.25]))),
        case("--keeps", "@in.onnx -o @s --data @data.npy --keeps 1", Error("shares above 0 and below 1")),
        case("--keeps", "@in.onnx -o @s --data @data.npy --no-time --keeps 0.99 --criteria weight", Error("0.99 keeps every neuron")),
        case("--norms", "@in.onnx -o @s --data @data.npy --no-time --json --criteria lsa --keeps 0.5 --norms 3", Json("/models/0/choices/0/norm", json!("3"))),
        case("--norms", "@in.onnx -o @s --data @data.npy --criteria obs --norms 3", Error("--norms: has no effect with these --criteria")),
        case("--criteria", "@in.onnx -o @s --data @data.npy --no-time --json --criteria obs --keeps 0.5", Json("/models/0/choices/0/criterion", json!("obs"))),
        case("--criteria", "@in.onnx -o @s --data @data.npy --no-time --json --criteria all --keeps 0.5", Seen(|_, run| choices(run) == 16)),
        case("--criteria", "@in.onnx -o @s --data @data.npy --criteria best", Error("none of lsa, weight")),
        case("--scales", "@in.onnx -o @s --data @data.npy --no-time --json --criteria lsa --keeps 0.5 --scales none,residual", Seen(|_, run| choices(run) == 6)),
        case("--scales", "@in.onnx -o @s --data @data.npy --criteria obs --scales std", Error("--scales: has no effect")),
        case("--of", "@in.onnx -o @s --data @data.npy --no-time --json --criteria lsa --keeps 0.5 --of logits", Json("/models/0/choices/0/of", json!("logits"))),
        case("--of", "@in.onnx -o @s --data @data.npy --criteria obs --of logits", Error("--of: has no effect")),
        case("--repair", "@in.onnx -o @s --data @data.npy --no-time --json --criteria weight --norms 1 --keeps 0.5 --repair none,mean", Json("/models/0/cells/1/repair", json!("mean"))),
        case("--seeds", "@in.onnx -o @s --data @data.npy --no-time --json --criteria random --keeps 0.5 --seeds 2", Seen(|_, run| choices(run) == 2)),
        case("--seeds", "@in.onnx -o @s --data @data.npy --criteria obs --seeds 2", Error("--seeds: has no effect")),
        case("--max-drop", "@in.onnx -o @s --data @data.npy --no-time --json --criteria weight --keeps 0.5 --max-drop 100", Json("/max_drop", json!(100.0))),
        case("--export-best", "@in.onnx -o @s --data @data.npy --no-time --json --criteria weight --keeps 0.5 --max-drop 100 --export-best", Seen(|bench, run| run.json()["passed"] == json!(true) && bench.path("s/best/in.onnx").is_file())),
        case("--seconds", "@in.onnx -o @s --data @data.npy --json --criteria weight --keeps 0.5 --seconds 0.1", Seen(|bench, _| bench.path("s/times.csv").is_file())),
        case("--seconds", "@in.onnx -o @s --data @data.npy --seconds 1 --no-time", Error("cannot be used with")),
        case("--no-time", "@in.onnx -o @s --data @data.npy --json --criteria weight --keeps 0.5 --no-time", Seen(|bench, _| !bench.path("s/times.csv").exists())),
        case("--epochs", "@in.onnx -o @s --data @data.npy --no-time --json --criteria weight --norms 1 --keeps 0.5 --epochs 1", Json("/models/0/cells/0/epochs", json!(1))),
        case("--distill", "@in.onnx -o @s --data @data.npy --distill", Error("--distill: has no effect without --epochs")),
        case("--optimizer", trained("--optimizer sgd"), Json("/training/optimizer/name", json!("sgd"))),
        case("--learning-rate", trained("--learning-rate 0.5"), Json("/training/learning_rate", json!(0.5))),
        case("--warmup", trained("--warmup 0.5"), Json("/training/warmup", json!(0.5))),
        case("--train-batch", trained("--train-batch 7"), Json("/training/train_batch", json!(7))),
        case("--weight-decay", trained("--weight-decay 0.5"), Json("/training/weight_decay", json!(0.5))),
        case("--momentum", trained("--optimizer sgd --momentum 0.5"), Json("/training/optimizer/momentum", json!(0.5))),
        case("--label-smoothing", trained("--label-smoothing 0.1"), Json("/training/label_smoothing", json!(0.1))),
        case("--temperature", trained("--distill --temperature 3"), Json("/training/temperature", json!(3.0))),
        case("--distill", trained("--distill"), Json("/training/distill", json!(true))),
        case("--patience", trained("--patience 7"), Json("/training/patience", json!(7))),
        case("--log", "@in.onnx -o @s --data @data.npy --epochs 1 --log @log", Error("one file for all cells")),
        case("--checkpoint", "@in.onnx -o @s --data @data.npy --epochs 1 --checkpoint @kept", Error("one file for all cells")),
        case("--test", "@in.onnx -o @s --data @data.npy --test @data.npy --no-time --json --criteria weight --keeps 0.5", Json("/models/0/samples", json!(30))),
        case("--samples", "@in.onnx -o @s --data @data.npy --no-time --json --criteria obs --keeps 0.5 --samples 8", Json("/models/0/calibration_samples", json!(8))),
        case("--batch", "@in.onnx -o @s --data @data.npy --no-time --json --criteria obs --keeps 0.5 --batch 7", Json("/models/0/calibration_samples", json!(24))),
        case("--cache", "@in.onnx -o @s --data @data.npy --no-time --json --criteria obs --keeps 0.5 --cache @kept", Seen(|bench, _| bench.path("kept").is_dir())),
        case("--no-cache", "@in.onnx -o @s --data @data.npy --no-time --json --criteria obs --keeps 0.5 --no-cache", Seen(|_, run| !run.stderr.contains("note: features of"))),
        case("--data", "@in.onnx -o @s", Error("--data: is needed")),
    ]
}

/// A line that trains one cell.
fn trained(rest: &str) -> &'static str {
    leak(format!(
        "@in.onnx -o @s --data @data.npy --no-time --json --criteria obs --keeps 0.5 --epochs 1 {rest}"
    ))
}

fn choices(run: &Run) -> usize {
    run.json()["models"][0]["choices"].as_array().unwrap().len()
}

/// Files that must be the same whatever happened on the way.
const RESULTS: [&str; 2] = ["results.csv", "results.json"];

fn results(folder: &Path) -> Vec<String> {
    let read = |name: &&str| fs::read_to_string(folder.join(name)).unwrap();
    RESULTS.iter().map(read).collect()
}

/// Real models, a grid of 14 choices or draws, three levels.
fn real(folder: &Path, rest: &[&str]) -> Vec<String> {
    let models = ["models/resnet.onnx", "models/densenet.onnx"].map(repository);
    let data = repository("models/fashion-mnist.npz");
    let mut line = vec!["study".to_owned()];
    line.extend(models);
    let flags = ["--samples", "200", "--no-time", "--keeps", "0.5,0.2,0.1"];
    line.extend(flags.map(str::to_owned));
    line.extend(["--data".to_owned(), data, "-o".to_owned()]);
    line.push(folder.to_str().unwrap().to_owned());
    line.extend(rest.iter().map(|&word| word.to_owned()));
    line
}

#[test]
fn a_study_that_was_killed_ends_in_the_same_bytes() {
    let bench = Bench::new();
    let whole = bench.path("whole");
    run(Engines::Tract, &real(&whole, &[])).assert_done("whole");
    let expected = results(&whole);
    assert_eq!(expected[0].lines().count(), 1 + 2 * 11 * 3);

    // Killed again and again, each time a little later, until it comes to its end.
    let broken = bench.path("broken");
    let mut kills = 0;
    let mut patience = Duration::from_millis(150);
    loop {
        let mut child = command(Engines::Tract)
            .args(real(&broken, &[]))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(patience);
        if child
            .try_wait()
            .unwrap()
            .is_some_and(|status| status.success())
        {
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
        assert!(kills < 60, "the study never ends");
        patience += Duration::from_millis(kills * 40);
    }
    assert!(kills > 0, "the study was over before the first kill");
    assert_eq!(results(&broken), expected);
}

#[test]
fn a_study_that_is_repeated_runs_nothing_and_one_with_more_levels_only_these() {
    let bench = Bench::new();
    let folder = bench.path("study");
    let first = ["--criteria", "lsa,random", "--engine", "tract"];
    run(Engines::Tract, &real(&folder, &first)).assert_done("first");
    let made = |folder: &Path| -> Vec<(String, SystemTime)> {
        let parts = fs::read_dir(folder.join("parts")).unwrap();
        let parts = parts.map(|part| part.unwrap());
        let mut parts: Vec<_> = parts
            .map(|part| {
                let name = part.file_name().into_string().unwrap();
                (name, part.metadata().unwrap().modified().unwrap())
            })
            .collect();
        parts.sort();
        parts
    };
    let (before, expected) = (made(&folder), results(&folder));
    let again = run(Engines::Tract, &real(&folder, &first));
    assert!(
        again.stderr.contains("nothing is missing, so nothing ran"),
        "{}",
        again.stderr
    );
    assert_eq!(made(&folder), before);
    assert_eq!(results(&folder), expected);
    let more = ["--criteria", "lsa,random,obs", "--engine", "tract"];
    run(Engines::Tract, &real(&folder, &more)).assert_done("more");
    let after = made(&folder);
    assert!(
        before.iter().all(|part| after.contains(part)),
        "a part was made again"
    );
    assert_eq!(after.len(), before.len() + 2 * (1 + 3));
}

#[test]
fn results_do_not_depend_on_threads_or_batches() {
    let bench = Bench::new();
    let lines: [(&str, &[&str]); 3] = [
        ("one", &["--threads", "1", "--no-cache"]),
        ("two", &["--threads", "2", "--no-cache"]),
        ("odd", &["--threads", "2", "--batch", "37", "--no-cache"]),
    ];
    for engines in [Engines::Tract, Engines::Both] {
        let found = lines.map(|(name, flags)| {
            let folder = bench.path(&format!("{name}{engines:?}"));
            let mut flags = flags.to_vec();
            flags.extend(["--criteria", "lsa,obs", "--seed", "3"]);
            run(engines, &real(&folder, &flags)).assert_done(name);
            results(&folder).swap_remove(0)
        });
        assert_eq!(found[0], found[1], "threads, {engines:?}");
        assert_eq!(found[0], found[2], "batches, {engines:?}");
    }
}

#[test]
fn a_cell_is_what_prune_does_with_the_same_flags() {
    let bench = Bench::new();
    let (model, data) = (
        repository("models/resnet.onnx"),
        repository("models/fashion-mnist.npz"),
    );
    let flags = [
        "--data",
        &data,
        "--samples",
        "200",
        "--seed",
        "4",
        "--engine",
        "tract",
        "--json",
    ];
    let folder = bench.text("study");
    let study = [
        "study",
        &model,
        "-o",
        &folder,
        "--criteria",
        "lsa",
        "--norms",
        "2",
        "--keeps",
        "0.2,0.1",
        "--no-time",
    ];
    let study = run(Engines::Tract, &[&study[..], &flags].concat());
    let out = bench.text("out.onnx");
    let prune = [
        model.as_str(),
        &out,
        "--norm",
        "2",
        "--keep",
        "0.1",
        "--force",
    ];
    let prune = run(Engines::Tract, &[&prune[..], &flags].concat());
    let (study, prune) = (study.json(), prune.json());
    let cell = &study["models"][0]["cells"][1];
    let percent = |stage: usize| -> f64 {
        let right = cell["stages"][stage]["right"].as_array().unwrap();
        let right: u64 = right.iter().map(|count| count.as_u64().unwrap()).sum();
        100.0 * right as f64 / study["models"][0]["samples"].as_f64().unwrap()
    };
    let expected = |stage: &str| prune["accuracy"][stage].as_f64().unwrap();
    assert!((percent(0) - expected("cut")).abs() < 1e-9);
    assert!((percent(1) - expected("repaired")).abs() < 1e-9);
    assert_eq!(cell["kept"], json!([prune["layers"][0]["kept"]]));
    assert_eq!(cell["parameters"], prune["output"]["parameters"]);
}

#[test]
fn what_is_recommended_is_written_and_proved() {
    let bench = Bench::new();
    let folder = bench.path("study");
    let flags = [
        "--criteria",
        "lsa",
        "--norms",
        "inf",
        "--export-best",
        "--max-drop",
        "5",
        "--json",
    ];
    let found = run(Engines::Tract, &real(&folder, &flags));
    found.assert_done("export");
    for (at, name) in ["resnet", "densenet"].into_iter().enumerate() {
        let json = found.json();
        let best: &Value = &json["models"][at]["exported"];
        assert_eq!(best["passed"], json!(true), "{name}");
        let file = folder.join(best["path"].as_str().unwrap());
        assert_eq!(file, folder.join(format!("best/{name}.onnx")));
        let original = repository(&format!("models/{name}.onnx"));
        let proof = run(
            Engines::Tract,
            &["verify", &original, file.to_str().unwrap()],
        );
        proof.assert_done("verify");
    }
    let before = fs::metadata(folder.join("best/resnet.onnx"))
        .unwrap()
        .modified()
        .unwrap();
    run(Engines::Tract, &real(&folder, &flags)).assert_done("again");
    let after = fs::metadata(folder.join("best/resnet.onnx"))
        .unwrap()
        .modified()
        .unwrap();
    assert_eq!(before, after, "a repeated study writes nothing again");
}

#[test]
fn a_label_that_no_class_has_is_named() {
    let bench = Bench::new();
    let line = "study @in.onnx -o @study --data @images.idx --no-time";
    let found = run(Engines::Tract, &bench.arguments(line));
    found.assert_error(line, "label 3");
}
