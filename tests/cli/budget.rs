//! Budgets: what cannot be met ends with exit code 1 and no output.

use serde_json::json;

use crate::support::{Bench, Engines, repository, run};

#[test]
fn a_budget_that_no_level_meets_ends_with_1_and_no_output() {
    let bench = Bench::new();
    let cases = [
        // Chosen at random and not repaired, some class changes at every level.
        vec!["--max-drop", "0", "--metric", "agreement"],
        vec!["--max-bytes", "1000"],
    ];
    for limit in cases {
        let mut arguments = vec![
            repository("models/resnet.onnx"),
            bench.text("small.onnx"),
            "--data".to_owned(),
            repository("models/fashion-mnist-train.npz"),
        ];
        let others = ["--criterion", "random", "--repair", "none", "--json"];
        arguments.extend(limit.iter().chain(&others).map(|&word| word.to_owned()));
        let found = run(Engines::Tract, &arguments);
        assert_eq!(found.code, Some(1), "{limit:?}: {}", found.stderr);
        let report = found.json();
        assert_eq!(report["passed"], json!(false), "{limit:?}");
        assert_eq!(report["search"]["met"], json!(false), "{limit:?}");
        assert!(!bench.path("small.onnx").exists(), "{limit:?}");
    }
}
