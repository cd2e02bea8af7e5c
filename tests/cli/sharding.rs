//! Parts of a run: what they join to, and what is refused.

use std::{fs, path::Path};

use onnx_prune::onnx::{DataType, Limits, Model, ModelProto, NodeProto, Tensor};
use prost::Message;
use serde_json::{Value, json};

use crate::{
    flags::{
        Case,
        Expected::{Error, Json, Seen},
    },
    support::{Bench, Engines, Run, classifier, command, finish, npy, run},
};

/// Samples of the larger data set: 38,400 of them are scored, in ten blocks.
const MANY: usize = 48_000;

/// Flags of `merge`, whose differences are shown by the tests below.
pub(crate) const TESTED_BY_HAND: [(&str, &str); 3] = [
    ("merge", "--json"),
    ("merge", "--quiet"),
    ("merge", "--verbose"),
];

#[rustfmt::skip]
pub(crate) fn cases() -> Vec<Case> {
    let case = |command, flag, line, expected| Case { command, flag, line, expected };
    vec![
        case("score", "--shard", "@in.onnx --data @data.npy --output @parts --shard 1/2 --json", Json("/samples", json!(24))),
        case("score", "--shard", "@in.onnx --data @data.npy --output @parts --shard 0/2 --json", Json("/samples", json!(0))),
        case("score", "--shard", "@in.onnx --data @data.npy --output @parts --shard 2/2", Error("counted from 0 to 1")),
        case("score", "--shard", "@in.onnx --data @data.npy --output @parts --shard auto", Error("none is set")),
        case("score", "--shard", "@in.onnx --data @data.npy --shard 0/2", Error("--output")),
        case("score", "--shard", "@in.onnx --output @parts --shard 0/2", Error("--shard: deals real samples")),
        case("score", "--shard", "@in.onnx --data @data.npy --output @parts --shard 0/2 --criterion weight", Error("needs no samples to deal")),
        case("score", "--shard", "@in.onnx --data @data.npy --output @parts --shard 0/2 --no-cache", Error("--no-cache: has no effect with --shard")),
        case("score", "--html", "@in.onnx --data @data.npy --output @parts --shard 0/2 --html @s.html", Error("--html: has no effect with --shard")),
        case("features", "--output", "@in.onnx --data @data.npy --output @parts", Seen(|bench, _| bench.path("parts/part-00000-of-00001.safetensors").exists())),
        case("features", "--shard", "@in.onnx --data @data.npy --output @parts --shard 0/1 --json", Json("/samples", json!(30))),
        case("features", "--shard", "@in.onnx --data @data.npy --output @parts --shard 1/1", Error("counted from 0 to 0")),
        case("features", "--seed", "@in.onnx --data @data.npy --output @parts --seed 7", Error("--seed: has no effect on features")),
        case("features", "--data", "@in.onnx --output @parts", Error("--data: features of synthetic noise")),
        case("features", "--batch", "@in.onnx --data @data.npy --output @parts --batch 7 --json", Json("/samples", json!(30))),
        case("features", "--batch", "@in.onnx --data @data.npy --output @parts --batch 0", Error("must be at least 1")),
        case("features", "--force", "@in.onnx --data @data.npy --output @parts --force --json", Json("/found", json!(false))),
        case("merge", "--output", "@. --output @s.json", Error("holds no parts")),
        case("merge", "--output", "@nowhere --output @s.json", Error("nowhere")),
        case("merge", "--output", "@.", Error("--output")),
        case("merge", "--force", "@. --output @s.json --force", Error("holds no parts")),
        case("merge", "--allow-missing", "@. --output @s.json --allow-missing", Error("holds no parts")),
        case("", "--scores", "--scores @nowhere.json", Error("nowhere.json")),
        case("", "--scores", "--scores @data.npy", Error("data.npy")),
        case("", "--scores", "--scores @s.json --norm 2", Error("cannot be used with")),
        case("", "--scores", "--scores @s.json --granularity channel", Error("--granularity: the scores are those of neurons")),
        case("", "--scores", "--scores @s.json --data @images.idx --classes 4", Error("--classes: the scores are those of other classes")),
        case("", "--scores", "--scores @s.json --samples 8", Error("--samples: has no effect with --scores")),
    ]
}

/// A bench with more samples.
fn large() -> Bench {
    let bench = Bench::new();
    let pixels = (0..MANY * 16).map(|at| (at * at % 8191 % 251) as u8);
    let pixels: Vec<u8> = pixels.collect();
    bench.put("many.npy", &npy(&[MANY, 4, 4], &pixels));
    bench
}

fn done(bench: &Bench, line: &str) -> Run {
    let found = run(Engines::Tract, &bench.arguments(line));
    found.assert_done(line);
    found
}

/// All shards of a run, the last one first.
fn parts(bench: &Bench, folder: &str, count: usize, flags: &str) {
    for index in (0..count).rev() {
        let line = format!(
            "score @in.onnx --data @many.npy --engine tract --output @{folder} --shard {index}/{count} {flags}"
        );
        done(bench, &line);
    }
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

#[test]
fn merged_parts_are_what_one_process_finds() {
    let bench = large();
    let cases: [(&str, &[usize]); 9] = [
        ("", &[1, 3, 8]),
        ("--norm 2 --of logits", &[3]),
        ("--norm 7 --over-classes 1 --scale std", &[4]),
        ("--criterion taylor", &[3]),
        ("--criterion obs", &[3]),
        ("--criterion curvature", &[3]),
        ("--criterion apoz", &[3]),
        ("--criterion activation", &[3]),
        ("--criterion wifv", &[3]),
    ];
    for (at, (flags, counts)) in cases.into_iter().enumerate() {
        let alone = format!(
            "score @in.onnx --data @many.npy --engine tract --samples {MANY} --output @{at}.json {flags}"
        );
        done(&bench, &alone);
        let expected = text(&bench.path(&format!("{at}.json")));
        let report: Value = serde_json::from_str(&expected).unwrap();
        assert_eq!(report["score"]["samples"], json!(38_400), "{flags}");
        for &count in counts {
            let folder = format!("parts-{at}-{count}");
            parts(&bench, &folder, count, flags);
            let merged = format!("{folder}.json");
            let found = done(
                &bench,
                &format!("merge @{folder} --output @{merged} --json"),
            );
            assert!(
                text(&bench.path(&merged)) == expected,
                "{flags} in {count} shards"
            );
            assert_eq!(found.json(), report);
        }
    }
}

/// The classifier, with a head in f16: batches of such features are not put together.
fn in_f16() -> ModelProto {
    let mut model = classifier();
    let graph = model.graph.as_mut().unwrap();
    for tensor in &mut graph.initializer {
        let halves = Tensor::from_proto(tensor).unwrap();
        let halves = halves.cast(DataType::Float16).unwrap();
        *tensor = halves.to_proto(tensor.name());
    }
    let cast = |from: &str, to: &str, dtype: DataType| {
        let node = NodeProto::new("Cast", &[from], &[to]).with_name(to);
        node.with_int("to", i64::from(dtype as i32))
    };
    let last = graph.node.len() - 1;
    graph.node[0].input[0] = "halves".to_owned();
    graph.node[last].output[0] = "scores".to_owned();
    graph
        .node
        .insert(0, cast("images", "halves", DataType::Float16));
    graph.node.push(cast("scores", "logits", DataType::Float));
    model
}

#[test]
fn blocks_end_alike_where_batches_are_not_put_together() {
    let bench = large();
    bench.put("in.onnx", &in_f16().encode_to_vec());
    // A quarter of them is a multiple of the trunk's batch, and not of what would be scored together.
    let flags = "--data @many.npy --rescale 0.01 --engine ort --samples 9600";
    let done = |line: &str| run(Engines::Both, &bench.arguments(line)).assert_done(line);
    done(&format!("score @in.onnx {flags} --output @whole.json"));
    for index in 0..2 {
        done(&format!(
            "score @in.onnx {flags} --output @parts --shard {index}/2"
        ));
    }
    done("merge @parts --output @merged.json");
    assert!(text(&bench.path("merged.json")) == text(&bench.path("whole.json")));
}

#[test]
fn merge_refuses_parts_that_do_not_make_up_a_whole() {
    type Spoil = fn(&Bench);
    let one = |bench: &Bench| bench.path("parts/part-00001-of-00003.safetensors");
    let cases: [(&str, Spoil, &str); 9] = [
        (
            "a missing part",
            |bench| fs::remove_file(bench.path("parts/part-00001-of-00003.safetensors")).unwrap(),
            "blocks are missing (counted from 0: 3 to 5): run --shard 1/3 again, or leave them out with --allow-missing",
        ),
        (
            "a doubled part",
            |bench| parts(bench, "parts", 1, ""),
            "part-00000-of-00003.safetensors and ",
        ),
        (
            "another model",
            |bench| {
                let mut model = classifier();
                model.producer_name = Some("another".to_owned());
                bench.put("in.onnx", &model.encode_to_vec());
                again(bench, "");
            },
            "it is of another model (SHA-256)",
        ),
        (
            "other data",
            |bench| {
                let pixels = vec![7; MANY * 16];
                bench.put("many.npy", &npy(&[MANY, 4, 4], &pixels));
                again(bench, "");
            },
            "it is of another data (SHA-256)",
        ),
        (
            "another preprocessing",
            |bench| again(bench, "--rescale 0.5"),
            "it is of another preprocessing",
        ),
        (
            "other settings",
            |bench| again(bench, "--norm 2"),
            "it is of another settings",
        ),
        (
            "a newer schema",
            |bench| {
                let path = bench.path("parts/part-00001-of-00003.safetensors");
                let mut bytes = fs::read(&path).unwrap();
                let schema = b"onnx-prune/part/v";
                let at = bytes
                    .windows(schema.len())
                    .position(|part| part == schema)
                    .unwrap();
                bytes[at + schema.len()] = b'9';
                fs::write(&path, bytes).unwrap();
            },
            "is of schema \"onnx-prune/part/v9\"",
        ),
        (
            "a truncated part",
            |bench| {
                let path = bench.path("parts/part-00001-of-00003.safetensors");
                let bytes = fs::read(&path).unwrap();
                fs::write(&path, &bytes[..bytes.len() - 100]).unwrap();
            },
            "it was cut off",
        ),
        (
            "a flipped bit",
            |bench| {
                let path = bench.path("parts/part-00001-of-00003.safetensors");
                let mut bytes = fs::read(&path).unwrap();
                let last = bytes.len() - 100;
                bytes[last] ^= 1;
                fs::write(&path, bytes).unwrap();
            },
            "does not agree with its checksum",
        ),
    ];
    for (what, spoil, message) in cases {
        let bench = large();
        parts(&bench, "parts", 3, "");
        assert!(one(&bench).exists());
        spoil(&bench);
        let line = bench.arguments("merge @parts --output @s.json");
        run(Engines::Tract, &line).assert_error(what, message);
        assert!(!bench.path("s.json").exists(), "{what}");
    }
}

/// The second of three shards, made anew.
fn again(bench: &Bench, flags: &str) {
    let line = format!(
        "score @in.onnx --data @many.npy --engine tract --output @parts --shard 1/3 --force {flags}"
    );
    done(bench, &line);
}

#[test]
fn what_is_missing_can_be_left_out_and_is_said() {
    let bench = large();
    parts(&bench, "parts", 3, "");
    fs::remove_file(bench.path("parts/part-00001-of-00003.safetensors")).unwrap();
    let line = "merge @parts --output @s.json --allow-missing --quiet";
    let found = done(&bench, line);
    assert!(
        found
            .stdout
            .contains("not all: 26,112 of 38,400 samples, 7 of 10 blocks"),
        "{}",
        found.stdout
    );
    assert_eq!(found.stderr, "");
    let report: Value = serde_json::from_str(&text(&bench.path("s.json"))).unwrap();
    assert_eq!(
        report["coverage"],
        json!({"blocks": [7, 10], "samples": [26_112, 38_400]})
    );
    assert_eq!(report["score"]["samples"], json!(26_112));
    let line = bench.arguments(line);
    run(Engines::Tract, &line).assert_error("again", "exists; --force replaces it");
    let found = done(
        &bench,
        "merge @parts --output @s.json --allow-missing --force --verbose",
    );
    assert!(found.stderr.contains("done: merging"), "{}", found.stderr);
}

#[test]
fn a_part_that_is_there_is_made_once() {
    let bench = Bench::new();
    for command in ["score", "features"] {
        let folder = format!("{command}-parts");
        let line =
            format!("{command} @in.onnx --data @data.npy --output @{folder} --shard 0/1 --json");
        let part = bench.path(&format!("{folder}/part-00000-of-00001.safetensors"));
        assert_eq!(done(&bench, &line).json()["found"], json!(false));
        let (bytes, time) = (
            fs::read(&part).unwrap(),
            part.metadata().unwrap().modified().unwrap(),
        );
        assert_eq!(done(&bench, &line).json()["found"], json!(true));
        assert_eq!(part.metadata().unwrap().modified().unwrap(), time);
        // what is broken is made anew
        fs::write(&part, &bytes[..bytes.len() / 2]).unwrap();
        let found = done(&bench, &line);
        assert_eq!(found.json()["found"], json!(false));
        assert!(found.stderr.contains("is made anew"), "{}", found.stderr);
        assert!(fs::read(&part).unwrap() == bytes, "{command}");
        // what belongs to another run is not touched
        let other = format!("{line} --rescale 0.5");
        let refused = run(Engines::Tract, &bench.arguments(&other));
        refused.assert_error(&other, "--force replaces it");
        assert!(fs::read(&part).unwrap() == bytes, "{command}");
        done(&bench, &format!("{other} --force"));
        assert!(fs::read(&part).unwrap() != bytes, "{command}");
        assert_eq!(fs::read_dir(bench.path(&folder)).unwrap().count(), 1);
    }
}

#[test]
fn schedulers_deal_the_shards() {
    let bench = Bench::new();
    let schedulers: [(&str, &[(&str, &str)]); 3] = [
        (
            "auto",
            &[
                ("SLURM_ARRAY_TASK_ID", "4"),
                ("SLURM_ARRAY_TASK_MIN", "1"),
                ("SLURM_ARRAY_TASK_COUNT", "4"),
            ],
        ),
        ("auto/4", &[("JOB_COMPLETION_INDEX", "3")]),
        ("auto/4", &[("AWS_BATCH_JOB_ARRAY_INDEX", "3")]),
    ];
    for (shard, variables) in schedulers {
        let line =
            format!("score @in.onnx --data @data.npy --output @parts --json --shard {shard}");
        let mut command = command(Engines::Tract);
        command
            .args(bench.arguments(&line))
            .envs(variables.iter().copied());
        let found = finish(&mut command);
        found.assert_done(shard);
        assert_eq!(
            found.json()["shard"],
            json!({"index": 3, "count": 4}),
            "{variables:?}"
        );
    }
}

#[test]
fn scores_of_a_file_choose_what_they_would_have() {
    let bench = Bench::new();
    done(
        &bench,
        "score @in.onnx --data @data.npy --engine tract --samples 24 --output @s.json",
    );
    let kept = |flags: &str| {
        let line = format!(
            "@in.onnx @out.onnx --engine tract --data @data.npy --force --json --keep 0.5 {flags}"
        );
        done(&bench, &line).json()
    };
    let (own, from_file) = (kept("--samples 24"), kept("--scores @s.json"));
    assert_eq!(from_file["keep"], own["keep"]);
    assert_eq!(from_file["score"], own["score"]);
    let model = Model::load(&bench.path("out.onnx"), &Limits::default()).unwrap();
    assert!(
        model
            .proto
            .metadata("onnx_prune.method")
            .unwrap()
            .contains("\"samples\":24")
    );
    let other = "@maps.onnx @small.onnx --engine tract --scores @s.json";
    run(Engines::Tract, &bench.arguments(other)).assert_error(other, "--scores: ");
    // another ranking, by hand
    let mut report: Value = serde_json::from_str(&text(&bench.path("s.json"))).unwrap();
    for (layers, part) in [
        (json!([]), "does not hold a score for each neuron"),
        (
            json!([{"name": "features", "values": vec![1.0; 16], "ranking": vec![0; 16]}, {"name": "fc1", "values": vec![1.0; 6]}]),
            "in no order",
        ),
    ] {
        report["layers"] = layers;
        bench.put("s.json", report.to_string().as_bytes());
        let line = "@in.onnx @small.onnx --engine tract --scores @s.json";
        run(Engines::Tract, &bench.arguments(line)).assert_error(line, part);
    }
    report["schema"] = json!("onnx-prune/score/v9");
    bench.put("s.json", report.to_string().as_bytes());
    let line = "@in.onnx @small.onnx --engine tract --scores @s.json";
    run(Engines::Tract, &bench.arguments(line))
        .assert_error(line, "is of schema \"onnx-prune/score/v9\"");
}

#[test]
fn merged_features_are_a_cache() {
    let bench = large();
    let entry = |root: &str| {
        let mut entries = fs::read_dir(bench.path(root)).unwrap();
        entries.next().unwrap().unwrap().path()
    };
    for count in [1, 3] {
        for index in 0..count {
            let line = format!(
                "features @maps.onnx --data @many.npy --engine tract --output @f{count} --shard {index}/{count}"
            );
            done(&bench, &line);
        }
        let found = done(
            &bench,
            &format!("merge @f{count} --output @cache{count} --json"),
        );
        assert_eq!(found.json()["samples"], json!(MANY));
        assert_eq!(
            found.json()["folder"],
            json!(entry(&format!("cache{count}")))
        );
    }
    for name in ["present.npy", "0-flat.npy"] {
        let [one, three] =
            ["cache1", "cache3"].map(|root| fs::read(entry(root).join(name)).unwrap());
        assert!(one == three, "{name}");
    }
    let found = done(
        &bench,
        "score @maps.onnx --data @many.npy --engine tract --samples 500 --cache @cache3",
    );
    assert!(
        found.stderr.contains("features of 500 samples come from"),
        "{}",
        found.stderr
    );
    // once more changes nothing, and what is missing is said
    let before = fs::read(entry("cache3").join("0-flat.npy")).unwrap();
    fs::remove_file(bench.path("f3/part-00002-of-00003.safetensors")).unwrap();
    let line = "merge @f3 --output @cache3";
    run(Engines::Tract, &bench.arguments(line)).assert_error(line, "4 of 12 blocks are missing");
    let found = done(&bench, &format!("{line} --allow-missing"));
    assert!(
        found.stdout.contains("not all: 32,768 of 48,000 samples"),
        "{}",
        found.stdout
    );
    assert!(fs::read(entry("cache3").join("0-flat.npy")).unwrap() == before);
    let line = "merge @f3 --output @cache3 --allow-missing --force";
    run(Engines::Tract, &bench.arguments(line)).assert_error(line, "--force: has no effect");
}
