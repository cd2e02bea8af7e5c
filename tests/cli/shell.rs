//! Commands for other programs, and the demonstration.

use serde_json::json;

use crate::{
    flags::{Case, Expected},
    support::{Bench, Engines, run},
};

use Expected::{Error, Json, Seen};

#[rustfmt::skip]
pub(crate) fn cases() -> Vec<Case> {
    let case = |command, flag, line, expected| Case { command, flag, line, expected };
    vec![
        case("completions", "--json", "bash --json", Error("--json: has no effect with completions")),
        case("completions", "--quiet", "bash --quiet", Error("--quiet: has no effect with completions")),
        case("completions", "--verbose", "bash --verbose", Error("--verbose: has no effect with completions")),
        case("man", "--json", "--json", Error("--json: has no effect with man")),
        case("man", "--quiet", "--quiet", Error("--quiet: has no effect with man")),
        case("man", "--verbose", "--verbose", Error("--verbose: has no effect with man")),
        case("demo", "--json", "@new --json", Json("/passed", json!(true))),
        case("demo", "--force", "@new --force", Seen(|bench, _| bench.path("new/small.onnx").exists())),
        case("demo", "--quiet", "@new --quiet", Seen(|_, run| run.stderr.is_empty() && !run.stdout.is_empty())),
        case("demo", "--verbose", "@new --verbose", Seen(|_, run| run.stderr.contains("done:"))),
    ]
}

/// What is typed is what is completed.
#[test]
fn completions_know_commands_and_flags() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let found = run(Engines::Tract, &["completions", shell]);
        found.assert_done(shell);
        for word in ["runtime", "max-drop"] {
            assert!(found.stdout.contains(word), "{shell} lacks {word}");
        }
    }
    let found = run(Engines::Tract, &["completions", "cmd"]);
    found.assert_error("cmd", "invalid value 'cmd'");
}

#[test]
fn every_command_has_a_page() {
    let page = run(Engines::Tract, &["man"]);
    page.assert_done("man");
    assert!(page.stdout.starts_with(".ie"), "{}", page.stdout);
    for part in ["onnx\\-prune", "\\-\\-keep", "Exit codes"] {
        assert!(page.stdout.contains(part), "no {part:?}");
    }
    let bench = Bench::new();
    let found = run(Engines::Tract, &bench.arguments("man @."));
    found.assert_done("man DIR");
    let names = bench.names();
    for name in [
        "onnx-prune.1",
        "onnx-prune-score.1",
        "onnx-prune-runtime-install.1",
    ] {
        assert!(
            names.iter().any(|found| found == name),
            "no {name} in {names:?}"
        );
    }
    assert!(!names.iter().any(|name| name.contains("peak-memory")));
    run(Engines::Tract, &["man", "/nonexistent/pages"])
        .assert_error("man DIR", "/nonexistent/pages");
}

/// It needs nothing but the program, and shows what a repair is worth.
#[test]
fn the_demonstration_is_the_main_job() {
    let bench = Bench::new();
    let first = run(Engines::Tract, &bench.arguments("demo @new --json"));
    first.assert_done("demo");
    let json = first.json();
    assert_eq!(json["layers"][1]["width"], json!(48));
    let accuracy = |stage: &str| json["accuracy"][stage].as_f64().unwrap();
    assert!(accuracy("original") > 85.0 && accuracy("repaired") > accuracy("cut"));
    let line = first.stderr.lines().find(|line| line.contains("this is `"));
    let line = line.unwrap().split('`').nth(1).unwrap();
    let words: Vec<&str> = line
        .split_whitespace()
        .skip(1)
        .chain(["--force", "--json"])
        .collect();
    let again = run(Engines::Tract, &words);
    again.assert_done(line);
    assert_eq!(again.json()["layers"], json["layers"]);
    assert_eq!(again.json()["accuracy"], json["accuracy"]);
    // A second one finds its result there; a file of somebody else's is kept.
    let second = run(Engines::Tract, &bench.arguments("demo @new"));
    second.assert_error("demo", "--force replaces it");
    bench.put("new/demo.npz", b"mine");
    let third = run(Engines::Tract, &bench.arguments("demo @new"));
    third.assert_error("demo", "demo.npz exists; --force replaces it");
}
