//! Features that later runs read from the disk.

use std::{fs, path::Path, process::Command};

use serde_json::json;

use crate::support::{Bench, Engines, SAMPLES, clean, finish, run};

const PRUNE: &str = "@in.onnx @out.onnx --engine tract --data @data.npy --force --cache @kept";

/// The folder of the only entry.
fn entry(bench: &Bench) -> std::path::PathBuf {
    let mut entries = fs::read_dir(bench.path("kept")).unwrap();
    entries.next().unwrap().unwrap().path()
}

#[test]
fn the_second_run_reads_what_the_first_computed_and_gives_the_same_file() {
    let bench = Bench::new();
    let first = run(Engines::Tract, &bench.arguments(PRUNE));
    first.assert_done("first");
    assert!(first.stderr.contains("go to "), "{}", first.stderr);
    let written = fs::read(bench.path("out.onnx")).unwrap();
    let second = run(Engines::Tract, &bench.arguments(PRUNE));
    second.assert_done("second");
    assert!(second.stderr.contains("come from "), "{}", second.stderr);
    assert!(!second.stderr.contains("go to "), "{}", second.stderr);
    assert!(written == fs::read(bench.path("out.onnx")).unwrap());
    // and so does one without a cache
    let line = PRUNE.replace("--cache @kept", "--no-cache");
    run(Engines::Tract, &bench.arguments(&line)).assert_done("without");
    assert!(written == fs::read(bench.path("out.onnx")).unwrap());
}

#[test]
fn entries_are_listed_and_cleared() {
    let bench = Bench::new();
    run(Engines::Tract, &bench.arguments(PRUNE)).assert_done("prune");
    let listed = run(
        Engines::Tract,
        &bench.arguments("cache --cache @kept --json"),
    );
    listed.assert_done("list");
    let entries = &listed.json()["entries"];
    assert_eq!(entries.as_array().unwrap().len(), 1);
    assert_eq!(entries[0]["total"], json!(SAMPLES));
    let model = entries[0]["model"].as_str().unwrap();
    assert!(model.ends_with("in.onnx"), "{model}");
    let table = run(Engines::Tract, &bench.arguments("cache --cache @kept"));
    table.assert_done("table");
    assert!(table.stdout.contains("data.npy"), "{}", table.stdout);
    for (days, removed) in [("--older-than 2", 0), ("", 1)] {
        let line = format!("cache clear --cache @kept --json {days}");
        let cleared = run(Engines::Tract, &bench.arguments(&line));
        cleared.assert_done(&line);
        assert_eq!(cleared.json()["removed"], json!(removed), "{line}");
    }
    assert_eq!(fs::read_dir(bench.path("kept")).unwrap().count(), 0);
}

#[test]
fn broken_entries_are_made_anew_and_foreign_files_left_alone() {
    type Break = fn(&Path);
    let cases: [(&str, Break, Result<&str, &str>); 3] = [
        (
            "a garbled manifest",
            |entry| fs::write(entry.join("manifest.json"), "{").unwrap(),
            Ok("is made anew: manifest.json"),
        ),
        (
            "a list cut short",
            |entry| fs::write(entry.join("present.npy"), "").unwrap(),
            Ok("is made anew: present.npy has 0 bytes"),
        ),
        (
            "another's file",
            |entry| {
                fs::remove_file(entry.join("manifest.json")).unwrap();
                fs::write(entry.join("thesis.txt"), "chapter 1").unwrap();
            },
            Err("holds \"thesis.txt\", which is not of the cache"),
        ),
    ];
    for (what, make, expected) in cases {
        let bench = Bench::new();
        run(Engines::Tract, &bench.arguments(PRUNE)).assert_done(what);
        make(&entry(&bench));
        let found = run(Engines::Tract, &bench.arguments(PRUNE));
        match expected {
            Ok(note) => {
                found.assert_done(what);
                assert!(found.stderr.contains(note), "{what}: {}", found.stderr);
            }
            Err(part) => {
                found.assert_error(what, part);
                assert!(entry(&bench).join("thesis.txt").exists());
            }
        }
    }
}

/// A limit on the size of files fails like a full disk.
#[test]
fn a_disk_that_fills_up_while_features_are_kept_is_said() {
    let bench = Bench::new();
    let limited = |line: &str| {
        let mut shell = Command::new("/bin/sh");
        clean(&mut shell, Engines::Tract);
        // Units of 512 bytes: the model fits, the features do not.
        shell.args(["-c", "trap '' XFSZ; ulimit -f 3; exec \"$0\" \"$@\""]);
        shell.arg(env!("CARGO_BIN_EXE_onnx-prune"));
        shell.args(bench.arguments(line));
        shell.env("ONNX_PRUNE_CACHE", bench.path("own"));
        finish(&mut shell)
    };
    let named = limited("score @in.onnx --data @data.npy --cache @kept");
    named.assert_error("named", "File too large");
    // The user's own cache is a help, not a condition.
    let own = limited("score @in.onnx --data @data.npy");
    own.assert_done("own");
    assert!(
        own.stderr.contains("kept in memory alone"),
        "{}",
        own.stderr
    );
    let free = run(
        Engines::Tract,
        &bench.arguments("score @in.onnx --data @data.npy --cache @kept"),
    );
    free.assert_done("with room again");
}
