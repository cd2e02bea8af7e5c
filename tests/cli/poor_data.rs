//! Data that say little: each a stated fallback or one clear error, never a broken file.

use crate::support::{Bench, Engines, SAMPLES, idx, npy, run};

/// What a run on these samples does: says all of this and ends well, or refuses with that.
enum Outcome {
    Says(&'static [&'static str]),
    Refuses(&'static str),
}

use Outcome::{Refuses, Says};

struct Case {
    what: &'static str,
    flags: &'static str,
    outcome: Outcome,
}

#[rustfmt::skip]
const CASES: [Case; 11] = [
    Case { what: "one sample", flags: "--data @one.npy", outcome: Says(&[
        "the scores are those of --scale none", "samples are too few to fit",
    ]) },
    Case { what: "one sample, trained", flags: "--data @one.npy --epochs 1", outcome: Says(&[
        "without validation samples the last epoch is taken",
    ]) },
    Case { what: "one sample, residual", flags: "--data @one.npy --scale residual", outcome:
        Refuses("--scale: residual needs samples that differ") },
    Case { what: "one sample, curvature", flags: "--data @one.npy --criterion curvature", outcome:
        Refuses("--criterion: curvature needs samples that differ") },
    Case { what: "all alike", flags: "--data @alike.npy", outcome: Says(&[
        "the scores are those of --scale none", "only the bias is repaired",
    ]) },
    Case { what: "all alike, trained", flags: "--data @alike.npy --epochs 1", outcome: Says(&["trained on"]) },
    Case { what: "no labels", flags: "--data @data.npy --max-drop 1", outcome:
        Refuses("--max-drop: counts accuracy, but the samples have no labels") },
    Case { what: "no labels for a new last layer", flags: "--data @data.npy --classes from-data", outcome:
        Refuses("has no labels") },
    Case { what: "a label out of range", flags: "--data @images.idx --epochs 1", outcome:
        Refuses("is not below the model's 3 classes") },
    Case { what: "a class without samples", flags: "--data @lonely/images.idx --epochs 1", outcome: Says(&[
        "no training sample is of class 1",
    ]) },
    Case { what: "a class without samples, new last layer", flags: "--data @lonely/images.idx --classes 3", outcome:
        Refuses("there is none of class 1, of which nothing can be learnt") },
];

#[test]
fn samples_that_say_little_are_a_stated_fallback_or_an_error() {
    let bench = Bench::new();
    bench.put("one.npy", &npy(&[1, 4, 4], &[7; 16]));
    bench.put("alike.npy", &npy(&[SAMPLES, 4, 4], &[7; SAMPLES * 16]));
    let pixels: Vec<u8> = (0..SAMPLES * 16).map(|i| (i * 37 % 251) as u8).collect();
    let labels: Vec<u8> = (0..SAMPLES)
        .map(|i| if i % 2 == 0 { 0 } else { 2 })
        .collect();
    std::fs::create_dir(bench.path("lonely")).unwrap();
    bench.put("lonely/images.idx", &idx(&[SAMPLES, 4, 4], &pixels));
    bench.put("lonely/labels.idx", &idx(&[SAMPLES], &labels));
    for Case {
        what,
        flags,
        outcome,
    } in CASES
    {
        let line = format!("@in.onnx @out.onnx --force {flags}");
        let found = run(Engines::Tract, &bench.arguments(&line));
        match outcome {
            Says(parts) => {
                found.assert_done(what);
                let said = format!("{}{}", found.stdout, found.stderr);
                for part in parts {
                    assert!(said.contains(part), "{what}: no {part:?} in {said}");
                }
                assert!(bench.path("out.onnx").exists(), "{what}");
                std::fs::remove_file(bench.path("out.onnx")).unwrap();
            }
            Refuses(part) => {
                found.assert_error(what, part);
                assert!(!bench.path("out.onnx").exists(), "{what}");
            }
        }
    }
}
