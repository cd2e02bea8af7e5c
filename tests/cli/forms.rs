//! Budgets in bytes, widths, forms and speed of whole models.

use std::fs;

use serde_json::{Value, json};

use crate::support::{Bench, Engines, Run, repository, run};

/// Prunes a model of the repository by its weights alone, into `out.onnx`.
fn prune(bench: &Bench, model: &str, flags: &str) -> Run {
    let model = repository(model);
    let line = format!("{model} @out.onnx --criterion weight --json {flags}");
    run(Engines::Tract, &bench.arguments(&line))
}

#[test]
fn a_budget_in_bytes_holds_for_the_file_with_all_that_is_written_into_it() {
    struct Case {
        flags: &'static str,
        limit: u64,
        /// Exit code.
        code: i32,
    }
    let case = |flags, limit, code| Case { flags, limit, code };
    let cases = [
        case("--no-verify", 300_000, 0),
        case("--no-verify --align 16", 300_000, 0),
        // the kept neurons, listed, and 4 kB for the rest are part of it
        case("--no-verify", 120_000, 0),
        case("--no-verify", 90_000, 1),
    ];
    for case in cases {
        let bench = Bench::new();
        let flags = format!("{} --max-bytes {}", case.flags, case.limit);
        let found = prune(&bench, "models/vgg.onnx", &flags);
        assert_eq!(found.code, Some(case.code), "{flags}: {}", found.stderr);
        let file = fs::metadata(bench.path("out.onnx"));
        match case.code {
            0 => assert!(file.unwrap().len() <= case.limit, "{flags}"),
            _ => assert!(file.is_err(), "{flags}"),
        }
    }
}

#[test]
fn what_is_cut_does_not_depend_on_whether_it_is_proved() {
    // TorchScript's exports declare no shapes: they have to be looked at in a run, with or without proof.
    for (model, granularity) in [
        ("vgg", "channel"),
        ("resnet", "neuron"),
        ("densenet", "neuron"),
    ] {
        let bench = Bench::new();
        let cut = |flags: &str| {
            let flags = format!("--keep 0.3 --granularity {granularity} --force {flags}");
            let found = prune(&bench, &format!("models/{model}.onnx"), &flags);
            found.assert_done(&flags);
            let json = found.json();
            [json["keep"].clone(), json["trunk"].clone()]
        };
        let proved = cut("");
        assert_ne!(proved[1]["removed"], json!([]), "{model}");
        assert_eq!(cut("--no-verify"), proved, "{model}");
    }
}

#[test]
fn a_trunk_that_is_not_looked_at_is_told_of() {
    let bench = Bench::new();
    // 49 neurons a channel, picked one by one
    let found = prune(&bench, "models/vgg.onnx", "--keep 0.3 --no-verify");
    found.assert_done("--no-verify");
    assert!(found.stderr.contains("the trunk was not looked at"));
}

#[test]
fn a_selection_is_announced_where_one_is_left() {
    // By whole channels all that is dropped leaves the last convolution; single neurons stay in it.
    for (flags, left) in [("--granularity channel", false), ("", true)] {
        let bench = Bench::new();
        let line = format!(
            "{} @out.onnx --criterion weight --keep 0.3 {flags}",
            repository("models/vgg.onnx")
        );
        let found = run(Engines::Tract, &bench.arguments(&line));
        found.assert_done(&line);
        let said = format!("{}{}", found.stderr, found.stdout);
        assert_eq!(said.contains("is selected from"), left, "{said}");
        assert!(said.contains("the cut of the head ends at"), "{said}");
    }
}

#[test]
fn a_search_times_widths_at_its_level_and_says_so() {
    let bench = Bench::new();
    let found = prune(
        &bench,
        "models/resnet.onnx",
        "--no-verify --max-bytes 1MB --align auto",
    );
    found.assert_done("align auto");
    let json = found.json();
    let aligns: Vec<&Value> = json["align"]["tried"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tried| &tried["align"])
        .collect();
    let kept = json["layers"][0]["kept"].as_u64().unwrap();
    let used = json["align"]["used"].as_u64().unwrap();
    assert_eq!(*aligns[0], json!(1));
    assert!(aligns.len() > 1 && kept.is_multiple_of(used), "{json}");
    assert!(fs::metadata(bench.path("out.onnx")).unwrap().len() <= 1_000_000);
}

#[test]
fn forms_are_timed_and_the_one_used_is_proved() {
    let bench = Bench::new();
    let found = prune(&bench, "models/resnet.onnx", "--keep 0.3 --form fastest");
    found.assert_done("form fastest");
    let json = found.json();
    let timed = json["form"]["timed"][0]["forms"].as_array().unwrap();
    let names: Vec<&Value> = timed.iter().map(|timed| &timed["form"]).collect();
    // Its last block projects, so all that is dropped goes and no selection is left to order.
    assert_eq!(names, ["smallest", "whole-trunk", "same-width"]);
    assert!(names.contains(&&json["form"]["used"]), "{json}");
    assert_eq!(json["verification"]["passed"], json!(true));
    // Whatever was measured, every layer is as the budget has it: there is only one.
    assert_eq!(json["layers"][0]["kept"], json!(39));
}

#[test]
fn whatever_form_is_written_its_time_is_told_and_its_proof_can_be_repeated() {
    // A chain on the model's input: without a selection only by keeping the width of the features.
    for flags in ["", "--data @data.npy", "--trunk none"] {
        let bench = Bench::new();
        let line = format!("@in.onnx @out.onnx --keep 0.25 --form fastest --json {flags}");
        let found = run(Engines::Tract, &bench.arguments(&line));
        found.assert_done(&line);
        let json = found.json();
        let form = &json["form"];
        let forms = form["timed"][0]["forms"].as_array().unwrap();
        let names: Vec<&Value> = forms.iter().map(|timed| &timed["form"]).collect();
        assert_eq!(names, ["smallest", "same-width"], "{flags}");
        let is_wide = form["used"] == json!("same-width");
        let expected = if is_wide {
            json!(["features"])
        } else {
            Value::Null
        };
        assert_eq!(form["same_width"], expected, "{flags}");
        // Either way the same neurons are gone.
        assert_eq!(json["layers"][0]["kept"], json!(4), "{flags}");
        let used = forms.iter().find(|timed| timed["form"] == form["used"]);
        assert_eq!(json["speed"]["ratio"], used.unwrap()["ratio"], "{flags}");
        let verify = run(
            Engines::Tract,
            &bench.arguments("verify @in.onnx @out.onnx"),
        );
        verify.assert_done(&format!("verify after {flags}, {}", form["used"]));
    }
}

#[test]
fn a_model_that_has_to_be_faster_is_written_if_it_is() {
    let bench = Bench::new();
    // Far fewer features: about half of the time, whatever else runs.
    let found = prune(&bench, "models/vgg.onnx", "--keep 0.05 --require-faster");
    let json = found.json();
    let faster = json["speed"]["faster"] == json!(true);
    assert_eq!(found.code, Some(i32::from(!faster)), "{json}");
    assert_eq!(bench.path("out.onnx").exists(), faster);
    let text = run(
        Engines::Tract,
        &bench.arguments(&format!(
            "{} @again.onnx --criterion weight --keep 0.05 --require-faster",
            repository("models/vgg.onnx")
        )),
    );
    let ending = match text.code {
        Some(0) => "wrote ",
        _ => "the result is not measured to be faster, so nothing was written",
    };
    assert!(text.stdout.contains("time of a run, batch 1, tract"));
    assert!(text.stdout.contains(ending), "{}", text.stdout);
}
