//! Pages in a real browser: nothing leaves them, nothing in them runs but their own script, and what
//! is drawn is in the tables.
//!
//! Needs Chromium, Node and `npm install --prefix target/browser playwright-core`; `.ci/run` sees to
//! all three and runs this.

#![expect(
    clippy::unwrap_used,
    reason = "a panic is the failure report of a test"
)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use onnx_prune::{
    engine::EngineChoice,
    features::CacheChoice,
    pipeline::{self, PruneOptions, ScoreRunOptions, Silent, SourceOptions},
    report,
    study::{self, StudyOptions},
};
use serde_json::Value;

/// Names that would do something if they were anything but text.
const HOSTILE: [&str; 10] = [
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(2)>",
    "\" onload=\"alert(3)",
    "' onclick='alert(4)",
    "<style>body{display:none}</style>",
    "&lt;b&gt;",
    "javascript:alert(5)",
    "<svg><animate onbegin=alert(6)>",
    "]]><!--",
    "Größe 靴 \u{202e}",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn source() -> SourceOptions {
    let mut source = SourceOptions {
        data: Some(root().join("models/fashion-mnist.npz")),
        samples: Some(100),
        cache: CacheChoice::Off,
        ..SourceOptions::default()
    };
    source.engine.engine = EngineChoice::Tract;
    source
}

/// Opens a page; what a reader would meet.
fn opened(name: &str, page: &str) -> Value {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join("pages")
        .join(name);
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join("page.html");
    fs::write(&file, page).unwrap();
    let found = Command::new("node")
        .arg(root().join("tests/browser/check.mjs"))
        .args([&file, &folder])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&found.stderr);
    assert!(found.status.success(), "{name}: {text}");
    serde_json::from_slice(&found.stdout).unwrap()
}

/// Holds for every page.
fn assert_sound(name: &str, found: &Value) {
    let none = Value::Array(Vec::new());
    for what in ["requests", "errors", "wide"] {
        assert_eq!(found[what], none, "{name}: {what}");
    }
    assert_eq!(found["dialogs"], 0, "{name}");
    assert_eq!(found["foreign"], 0, "{name}");
    let plots = found["plots"].as_array().unwrap();
    assert!(!plots.is_empty(), "{name} has no plot");
    for plot in plots {
        assert_eq!(
            plot["points"], plot["numbers"],
            "{name}: {}",
            plot["caption"]
        );
        assert_ne!(plot["points"], 0, "{name}: {}", plot["caption"]);
    }
    let said = |text: &Value| text.as_str().unwrap().to_owned();
    assert!(
        !said(&found["hover"]).is_empty(),
        "{name}: nothing under the pointer"
    );
    let keys = found["keys"].as_array().unwrap();
    assert!(
        !said(&keys[0]).is_empty() && keys[0] != keys[1],
        "{name}: {keys:?}"
    );
    assert_eq!(found["hidden"], true, "{name}: Escape");
}

#[test]
#[ignore = "needs Chromium and Node; .ci/run fetches what is missing and runs it"]
fn a_study_s_page_is_whole_and_hostile_names_are_text() {
    let folder = tempfile::tempdir().unwrap();
    let models = ["vgg", "resnet"].map(|name| root().join(format!("models/{name}.onnx")));
    let data = root().join("models/fashion-mnist.npz");
    let output: PathBuf = folder.path().join("study");
    let mut options = StudyOptions::new(models.to_vec(), data, output);
    options.source = source();
    options.keeps = vec![0.5, 0.1];
    options.timed = Some(std::time::Duration::from_millis(50));
    let mut found = study::study(&options, &Silent).unwrap();
    for model in &mut found.models {
        model.class_names = Some(HOSTILE.map(str::to_owned).to_vec());
        model.notes = HOSTILE.map(str::to_owned).to_vec();
        model.name = format!("{} {}", model.name, HOSTILE[0]);
    }
    let page = report::studied_page(&found, HOSTILE[1]);
    let seen = opened("study", &page);
    assert_sound("study", &seen);
    assert_eq!(seen["code"].as_str().unwrap(), HOSTILE[1]);
    assert_eq!(seen["legend"], 1);
    let headings: Vec<&str> = seen["headings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|text| text.as_str().unwrap())
        .collect();
    for name in &HOSTILE[..9] {
        let shown = headings.iter().filter(|heading| *heading == name).count();
        assert_eq!(shown, found.models.len(), "{name}");
    }
    // One point per cell, and one of the original, in the plot of sizes.
    let cells = found.models[0].cells.len() as u64;
    let plots = seen["plots"].as_array().unwrap().iter();
    let mut sizes = plots.filter(|plot| plot["caption"].as_str().unwrap().contains("against size"));
    assert_eq!(sizes.next().unwrap()["points"], cells + 1);
}

#[test]
#[ignore = "needs Chromium and Node; .ci/run fetches what is missing and runs it"]
fn pages_of_single_runs_are_whole() {
    let input = root().join("models/vgg.onnx");
    let scored = pipeline::score(
        &ScoreRunOptions {
            input: input.clone(),
            source: source(),
            score: onnx_prune::sensitivity::ScoreOptions::default(),
            of: None,
        },
        &Silent,
    );
    let page = report::scored_page(&scored.unwrap(), HOSTILE[0]);
    assert_sound("score", &opened("score", &page));

    let folder = tempfile::tempdir().unwrap();
    let mut options = PruneOptions::new(input, folder.path().join("out.onnx"));
    options.source = source();
    options.limit = Some(pipeline::Limit {
        max_drop: Some(50.0),
        metric: pipeline::Metric::Accuracy,
        max_bytes: None,
    });
    let pruned = pipeline::prune(&options, &Silent).unwrap();
    let page = report::pruned_page(&pruned, HOSTILE[2]);
    assert_sound("prune", &opened("prune", &page));
}
