//! What pruning a model did.

use super::{
    finetune::epochs,
    form::form,
    left_out::left_out,
    numbers::{count, difference, grouped, share},
    repair::repair,
    speed::speed,
    table,
};
use crate::{
    eval::{Check, Scope, Verification},
    pipeline::{Figures, PruneReport, SearchReport, TransferReport, TrunkReport},
    prune::trunk::Stop,
    repair::Certificate,
};

/// A short table, then what was proved and where.
pub fn pruned(report: &PruneReport) -> String {
    let mut blocks = vec![sizes(report)];
    blocks.extend(left_out(&report.data));
    blocks.extend(report.transfer.as_ref().map(new_layer));
    blocks.extend(worth(report));
    blocks.extend(report.trunk.as_ref().and_then(trunk));
    blocks.extend(repair(&report.repair.layers));
    blocks.extend(report.training.as_ref().map(epochs));
    blocks.extend(report.search.as_ref().map(search));
    blocks.push(match &report.verification {
        Some(verification) => proof(verification),
        None => "not verified (--no-verify)".to_owned(),
    });
    blocks.extend(form(&report.form));
    blocks.extend(report.speed.as_ref().map(speed));
    blocks.push(ending(report));
    blocks.join("\n\n")
}

fn sizes(report: &PruneReport) -> String {
    table::numbers(&["", "before", "after", ""], size_rows(report))
}

/// Neurons, parameters and bytes, before and after.
pub(super) fn size_rows(report: &PruneReport) -> Vec<Vec<String>> {
    let row = |name: &str, before: u64, after: u64| {
        vec![
            name.to_owned(),
            grouped(before),
            grouped(after),
            share(after, before),
        ]
    };
    let neurons = report.layers.iter().map(|layer| {
        let asked = match layer.requested == layer.kept {
            true => String::new(),
            false => format!(" ({} asked for)", count(layer.requested)),
        };
        vec![
            format!("neurons of {}{asked}", layer.name),
            count(layer.width),
            count(layer.kept),
            share(as_u64(layer.kept), as_u64(layer.width)),
        ]
    });
    let (input, output) = (&report.input, &report.output);
    let mut rows: Vec<Vec<String>> = neurons.collect();
    rows.push(row("parameters", input.parameters, output.parameters));
    if report.passed {
        rows.push(row("bytes", input.bytes, output.bytes));
    }
    rows
}

/// What left the trunk, and what is in the way of more.
fn trunk(report: &TrunkReport) -> Option<String> {
    let mut lines = Vec::new();
    if !report.removed.is_empty() {
        let bytes: usize = report.removed.iter().map(|removal| removal.bytes).sum();
        lines.push(format!(
            "trunk: {} weights lost channels, {} bytes",
            count(report.removed.len()),
            count(bytes)
        ));
    }
    let stops = report.stops.iter();
    lines.extend(stops.map(|stop| {
        let Stop { value, why } = stop;
        format!("trunk: {value:?} keeps its width and is selected from, because {why}")
    }));
    (!lines.is_empty()).then(|| lines.join("\n"))
}

pub(super) fn ending(report: &PruneReport) -> String {
    let proved = report
        .verification
        .as_ref()
        .is_none_or(|found| found.passed);
    let met = report.search.as_ref().is_none_or(|found| found.met);
    match (report.passed, proved, met) {
        (true, ..) => format!("wrote {}", report.output.path.display()),
        (false, false, _) => "the proof failed, so nothing was written".to_owned(),
        (false, true, false) => "the budget is not met, so nothing was written".to_owned(),
        (false, true, true) => {
            "the result is not measured to be faster, so nothing was written".to_owned()
        }
    }
}

/// The last layer that everything else was held against.
pub(super) fn new_layer(transfer: &TransferReport) -> String {
    let layer = &transfer.layer;
    let mut text = format!(
        "new last layer: {} classes (before: {}) on {} values, fitted to {} samples",
        count(layer.classes),
        count(transfer.source_classes),
        count(layer.width),
        count(layer.samples),
    );
    if let Some(choice) = &layer.choice {
        text.push_str(&format!(
            "; without {} of them {:.2} % of these were right",
            count(choice.samples),
            choice.accuracy
        ));
    }
    text
}

/// What each stage is worth, the baselines below.
fn worth(report: &PruneReport) -> Option<String> {
    let (header, rows) = worth_rows(report)?;
    let mut text = table::numbers(&header, rows);
    if let Some(found) = &report.certificate {
        text.push_str(&format!("\n{}", certified(found)));
    }
    Some(text)
}

/// A header, and a row for each figure of the result and the baselines.
pub(super) fn worth_rows(report: &PruneReport) -> Option<(Vec<&'static str>, Vec<Vec<String>>)> {
    let shown = report.worth.accuracy.or(report.worth.agreement)?;
    let stages = [("cut", Some(shown.cut)), ("repaired", shown.repaired)];
    let stages: Vec<&str> = stages
        .iter()
        .filter(|(_, figure)| figure.is_some())
        .map(|(name, _)| *name)
        .collect();
    let mut header = vec!["on held-out samples", "original"];
    header.extend(&stages);
    let mut rows = Vec::new();
    let mut add = |name: &str, figures: Option<Figures>| {
        if let Some(figures) = figures {
            let all = [
                Some(figures.original),
                Some(figures.cut),
                figures.repaired,
                figures.tuned,
            ];
            let cells = all
                .into_iter()
                .flatten()
                .map(|figure| format!("{figure:.2} %"));
            rows.push([name.to_owned()].into_iter().chain(cells).collect());
        }
    };
    add(
        &format!("accuracy on {}", count(shown.samples)),
        report.worth.accuracy,
    );
    add(
        &format!("same class on {}", count(shown.samples)),
        report.worth.agreement,
    );
    for baseline in &report.baselines {
        let worth = &baseline.worth;
        let name = match worth.accuracy {
            Some(_) => format!("accuracy, chosen by {}", baseline.criterion),
            None => format!("same class, chosen by {}", baseline.criterion),
        };
        add(&name, worth.accuracy.or(worth.agreement));
    }
    Some((header, rows))
}

/// What is certain about the samples that the run was made on.
pub(super) fn certified(found: &Certificate) -> String {
    match &found.unavailable {
        Some(why) => format!("certificate: none, since {why}"),
        None => format!(
            "certificate: on {} of {} calibration samples the class provably cannot have changed",
            count(found.certified),
            count(found.samples)
        ),
    }
}

/// What the search looked at, and what it ended with.
fn search(report: &SearchReport) -> String {
    let rows = report.tried.iter().map(|tried| {
        let drop = tried.drop.zip(tried.error);
        vec![
            format!("{}", tried.keep),
            grouped(tried.bytes),
            drop.map_or_else(String::new, |(drop, error)| {
                format!("{drop:.2} ± {error:.2}")
            }),
            if tried.met { "within" } else { "over" }.to_owned(),
        ]
    });
    let header = ["keep", "bytes", "points lost", "budget"];
    let table = table::numbers(&header, rows.collect());
    let last = match (report.met, report.drop) {
        (true, Some(drop)) => format!(
            "keep {}: {drop:.2} points lost by the written file",
            report.keep
        ),
        (true, None) => format!("keep {} is within the budget", report.keep),
        (false, _) => format!(
            "no level is within the budget; keep {} comes nearest",
            report.keep
        ),
    };
    format!("{table}\n{last}")
}

fn as_u64(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// One line per comparison, with the measured maximum and the tolerance.
pub(super) fn proof(verification: &Verification) -> String {
    let mut text = table::words(&PROOF, proof_rows(verification));
    for check in &verification.checks {
        for remark in remarks(check) {
            text.push_str(&format!("\n{}: {remark}", check.engine));
        }
    }
    for skipped in &verification.skipped {
        text.push_str(&format!(
            "\n{}: nothing was compared there, since {}",
            skipped.engine, skipped.stopped_by
        ));
    }
    let verdict = if verification.passed {
        "verified"
    } else {
        "NOT verified"
    };
    format!(
        "{verdict} on {} samples; differences relative to the largest output\n{text}",
        count(verification.samples)
    )
}

/// Header of [`proof_rows`].
pub(super) const PROOF: [&str; 5] = ["", "engine", "max difference", "allowed", ""];

/// Each comparison.
pub(super) fn proof_rows(verification: &Verification) -> Vec<Vec<String>> {
    verification.checks.iter().map(check).collect()
}

fn check(check: &Check) -> Vec<String> {
    vec![
        check.what.clone(),
        check.engine.clone(),
        difference(check.comparison.max_rel),
        format!("{:.0e}", check.tolerance),
        if check.passed { "ok" } else { "FAILED" }.to_owned(),
    ]
}

fn remarks(check: &Check) -> Vec<String> {
    let mut remarks = Vec::new();
    if let (Scope::Head, Some(reason)) = (check.scope, &check.stopped_by) {
        remarks.push(format!("only the head ran there, since {reason}"));
    }
    if check.wrong_decisions > 0 {
        remarks.push(format!(
            "another class on {} samples whose scores are not tied",
            count(check.wrong_decisions)
        ));
    }
    remarks.extend(check.note.clone());
    remarks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        data::Preprocess,
        engine::EngineInfo,
        eval::{Comparison, Skipped},
        head::Ending,
        pipeline::{
            AlignReport, Baseline, DataReport, FileReport, FormName, FormReport, Granularity,
            HeadReport, LayerReport, Limit, Metric, RepairReport, Tried, Worth,
        },
        prune::Plan,
        repair::{Form, LayerRepair, Matching, Repair},
        sensitivity::{Criterion, Norm, Of, Scale, ScoreReport},
    };

    fn file(path: &str, bytes: u64, parameters: u64) -> FileReport {
        FileReport {
            path: path.into(),
            bytes,
            parameters,
        }
    }

    fn figures(original: f64, cut: f64, repaired: Option<f64>) -> Figures {
        Figures {
            samples: 400,
            original,
            cut,
            repaired,
            tuned: None,
            output: repaired.unwrap_or(cut),
        }
    }

    fn check(engine: &str, max_rel: f64, scope: Scope) -> Check {
        Check {
            what: "original without the dropped neurons = pruned".to_owned(),
            engine: engine.to_owned(),
            scope,
            note: None,
            stopped_by: (scope == Scope::Head).then(|| "GridSample is unknown to it".to_owned()),
            comparison: Comparison {
                max_abs: max_rel,
                max_rel,
            },
            tolerance: 1e-4,
            wrong_decisions: 0,
            passed: max_rel <= 1e-4,
        }
    }

    fn report(checks: Vec<Check>) -> PruneReport {
        let passed = checks.iter().all(|check| check.passed);
        PruneReport {
            schema: "onnx-prune/prune/v1",
            input: file("vgg.onnx", 6_541_227, 1_634_570),
            output: file("small.onnx", 696_089, 169_916),
            engine: EngineInfo::example(),
            data: DataReport {
                path: None,
                description: "256 synthetic samples".to_owned(),
                fingerprint: None,
                preprocess: Preprocess::default(),
                skipped: None,
                test: None,
            },
            score: ScoreReport {
                criterion: Criterion::default(),
                norm: Some(Norm::Inf),
                over_classes: Some(Norm::Inf),
                of: Some(Of::Probabilities),
                scale: Some(Scale::None),
                seed: None,
                samples: 1600,
                way: None,
                notes: vec![],
            },
            seed: 0,
            head: HeadReport {
                output: "logits".to_owned(),
                classes: 10,
                ending: Ending::Logits,
                features: vec!["flat".to_owned()],
            },
            layers: vec![LayerReport {
                name: "features".to_owned(),
                width: 3136,
                requested: 941,
                kept: 941,
                recognised: "Flatten".to_owned(),
            }],
            granularity: Granularity::Neuron,
            align: AlignReport {
                used: 1,
                tried: Vec::new(),
            },
            form: FormReport {
                used: FormName::Smallest,
                same_width: Vec::new(),
                timed: Vec::new(),
            },
            speed: None,
            keep: Plan { layers: vec![] },
            notes: vec![],
            verification: Some(Verification {
                passed,
                checks,
                skipped: vec![],
                samples: 16,
            }),
            transfer: None,
            repair: RepairReport {
                how: Repair::None,
                layers: vec![],
            },
            training: None,
            trunk: None,
            worth: Worth {
                accuracy: Some(figures(94.75, 91.0, None)),
                agreement: Some(figures(100.0, 94.0, None)),
            },
            certificate: None,
            baselines: vec![],
            search: None,
            enough: None,
            passed,
        }
    }

    #[test]
    fn a_proved_result_is_one_table_and_its_proof() {
        let report = report(vec![check("tract", 2.34e-7, Scope::Whole)]);
        insta::assert_snapshot!(pruned(&report), @r"
                                before    after
        neurons of features      3,136      941  30.0 %
        parameters           1,634,570  169,916  10.4 %
        bytes                6,541,227  696,089  10.6 %

        on held-out samples  original      cut
        accuracy on 400       94.75 %  91.00 %
        same class on 400    100.00 %  94.00 %

        verified on 16 samples; differences relative to the largest output
                                                       engine  max difference  allowed
        original without the dropped neurons = pruned  tract   2.3e-7          1e-4     ok

        wrote small.onnx
        ");
    }

    #[test]
    fn stages_baselines_repair_and_search_are_tables_of_their_own() {
        let mut report = report(vec![check("tract", 0.0, Scope::Whole)]);
        report.worth.accuracy = Some(figures(94.75, 91.0, Some(94.5)));
        report.worth.agreement = Some(figures(100.0, 94.0, Some(98.25)));
        report.certificate = Some(Certificate {
            samples: 1000,
            certified: 312,
            unavailable: None,
        });
        report.baselines = vec![Baseline {
            criterion: "random".parse().unwrap(),
            worth: Worth {
                accuracy: Some(figures(94.75, 40.0, Some(88.0))),
                agreement: None,
            },
        }];
        let repaired = LayerRepair {
            layer: "features".to_owned(),
            node: "fc1".to_owned(),
            form: Some(Form::Primal),
            lambda: Some(1e-2),
            rows: 900,
            inputs: 941,
            error_before: Some(0.75),
            error_after: Some(0.125),
            applied: true,
            matching: Some(Matching {
                steps: 42,
                rows: 900,
                divergence_before: 0.0625,
                divergence_after: 0.03125,
                applied: true,
            }),
            note: None,
        };
        let refused = LayerRepair {
            matching: Some(Matching {
                divergence_after: 0.125,
                applied: false,
                ..repaired.matching.clone().unwrap()
            }),
            node: "fc2".to_owned(),
            error_after: Some(0.8),
            applied: false,
            note: Some("the repair made it worse".to_owned()),
            ..repaired.clone()
        };
        report.repair = RepairReport {
            how: Repair::LeastSquares,
            layers: vec![repaired, refused],
        };
        let tried = |keep, bytes, drop, met| Tried {
            keep,
            bytes,
            drop: Some(drop),
            error: Some(0.2),
            met,
        };
        report.search = Some(SearchReport {
            limit: Limit {
                max_drop: Some(0.5),
                metric: Metric::Accuracy,
                max_bytes: None,
            },
            samples: 4000,
            tried: vec![
                tried(0.16, 400_000, 0.9, false),
                tried(0.35, 800_000, 0.1, true),
            ],
            keep: 0.35,
            drop: Some(0.25),
            met: true,
        });
        let text = pruned(&report);
        let blocks: Vec<&str> = text.split("\n\n").collect();
        insta::assert_snapshot!(blocks[1..4].join("\n\n"), @r"
        on held-out samples         original      cut  repaired
        accuracy on 400              94.75 %  91.00 %   94.50 %
        same class on 400           100.00 %  94.00 %   98.25 %
        accuracy, chosen by random   94.75 %  40.00 %   88.00 %
        certificate: on 312 of 1,000 calibration samples the class provably cannot have changed

        repair: error of     cut  repaired
        fc1               75.0 %    12.5 %     repaired
        fc2               75.0 %    80.0 %  left as cut
        fc1: class probabilities matched in 42 steps, divergence from the original's 0.0625 -> 0.0312 nats
        fc2: class probabilities left as they are: divergence from the original's 0.0625, 0.1250 after 42 steps
        fc2: the repair made it worse

        keep    bytes  points lost  budget
        0.16  400,000  0.90 ± 0.20    over
        0.35  800,000  0.10 ± 0.20  within
        keep 0.35: 0.25 points lost by the written file
        ");
        report.passed = false;
        report.search.as_mut().unwrap().met = false;
        let text = pruned(&report);
        assert!(text.contains("no level is within the budget; keep 0.35 comes nearest"));
        assert!(text.ends_with("the budget is not met, so nothing was written"));
    }

    #[test]
    fn a_failed_proof_says_where_and_that_nothing_was_written() {
        let mut report = report(vec![
            check("onnxruntime", 3.2e-2, Scope::Whole),
            check("tract", 0.0, Scope::Head),
        ]);
        report.worth = Worth::default();
        report.output.bytes = 0;
        let proof = report.verification.as_mut().unwrap();
        proof.skipped = vec![Skipped {
            engine: "another".to_owned(),
            stopped_by: "it has no Gemm".to_owned(),
        }];
        insta::assert_snapshot!(pruned(&report), @r"
                                before    after
        neurons of features      3,136      941  30.0 %
        parameters           1,634,570  169,916  10.4 %

        NOT verified on 16 samples; differences relative to the largest output
                                                       engine       max difference  allowed
        original without the dropped neurons = pruned  onnxruntime  3.2e-2          1e-4     FAILED
        original without the dropped neurons = pruned  tract        0               1e-4     ok
        tract: only the head ran there, since GridSample is unknown to it
        another: nothing was compared there, since it has no Gemm

        the proof failed, so nothing was written
        ");
    }

    #[test]
    fn an_unproved_result_says_so() {
        let mut report = report(vec![]);
        report.verification = None;
        assert!(pruned(&report).contains("not verified (--no-verify)"));
    }

    #[test]
    fn json_has_the_same_keys_as_the_fields() {
        let report = report(vec![check("tract", f64::NAN, Scope::Whole)]);
        let json: serde_json::Value = serde_json::from_str(&crate::report::json(&report)).unwrap();
        let place = |pointer: &str| json.pointer(pointer).unwrap().clone();
        assert_eq!(place("/schema"), "onnx-prune/prune/v1");
        assert_eq!(place("/layers/0/kept"), 941);
        assert_eq!(place("/score/norm"), "inf");
        assert!(place("/verification/checks/0/max_rel").is_null());
    }
}
