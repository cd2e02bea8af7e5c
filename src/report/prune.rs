//! What pruning a model did.

use super::{
    numbers::{count, difference, grouped, share},
    table,
};
use crate::{
    eval::{Check, Scope, Verification},
    pipeline::PruneReport,
};

/// A short table, then what was proved and where.
pub fn pruned(report: &PruneReport) -> String {
    let mut blocks = vec![sizes(report)];
    if let Some(agreement) = &report.agreement {
        blocks.push(format!(
            "agreement: the same top class on {:.2} % of {} samples",
            agreement.share,
            count(agreement.samples)
        ));
    }
    blocks.push(match &report.verification {
        Some(verification) => proof(verification),
        None => "not verified (--no-verify)".to_owned(),
    });
    blocks.push(if report.passed {
        format!("wrote {}", report.output.path.display())
    } else {
        "the proof failed, so nothing was written".to_owned()
    });
    blocks.join("\n\n")
}

fn sizes(report: &PruneReport) -> String {
    let row = |name: &str, before: u64, after: u64| {
        vec![
            name.to_owned(),
            grouped(before),
            grouped(after),
            share(after, before),
        ]
    };
    let neurons = report.layers.iter().map(|layer| {
        vec![
            format!("neurons of {}", layer.name),
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
    if let Some(accuracy) = &report.accuracy {
        rows.push(vec![
            format!("accuracy on {} samples", count(accuracy.samples)),
            format!("{:.2} %", accuracy.before),
            format!("{:.2} %", accuracy.after),
            format!("{:+.2}", accuracy.after - accuracy.before),
        ]);
    }
    table::numbers(&["", "before", "after", ""], rows)
}

fn as_u64(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// One line per comparison, with the measured maximum and the tolerance.
pub(super) fn proof(verification: &Verification) -> String {
    let rows = verification.checks.iter().map(check).collect();
    let header = ["", "engine", "max difference", "allowed", ""];
    let mut text = table::words(&header, rows);
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
        eval::{Accuracy, Agreement, Comparison, Skipped},
        head::Ending,
        pipeline::{DataReport, FileReport, HeadReport, LayerReport},
        prune::Plan,
        sensitivity::{Criterion, Norm, Of, Scale, ScoreReport},
    };

    fn file(path: &str, bytes: u64, parameters: u64) -> FileReport {
        FileReport {
            path: path.into(),
            bytes,
            parameters,
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
            engine: EngineInfo {
                name: "tract",
                version: "0.23.9".to_owned(),
                provider: "cpu".to_owned(),
                library: None,
                threads: 2,
            },
            data: DataReport {
                path: None,
                description: "256 synthetic samples".to_owned(),
                fingerprint: None,
                preprocess: Preprocess::default(),
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
                kept: 941,
                recognised: "Flatten".to_owned(),
            }],
            keep: Plan { layers: vec![] },
            notes: vec![],
            verification: Some(Verification {
                passed,
                checks,
                skipped: vec![],
                samples: 16,
            }),
            accuracy: Some(Accuracy {
                samples: 400,
                before: 94.75,
                after: 91.0,
            }),
            agreement: Some(Agreement {
                samples: 400,
                share: 94.0,
            }),
            passed,
        }
    }

    #[test]
    fn a_proved_result_is_one_table_and_its_proof() {
        let report = report(vec![check("tract", 2.34e-7, Scope::Whole)]);
        insta::assert_snapshot!(pruned(&report), @r"
                                    before    after
        neurons of features          3,136      941  30.0 %
        parameters               1,634,570  169,916  10.4 %
        bytes                    6,541,227  696,089  10.6 %
        accuracy on 400 samples    94.75 %  91.00 %   -3.75

        agreement: the same top class on 94.00 % of 400 samples

        verified on 16 samples; differences relative to the largest output
                                                       engine  max difference  allowed
        original without the dropped neurons = pruned  tract   2.3e-7          1e-4     ok

        wrote small.onnx
        ");
    }

    #[test]
    fn a_failed_proof_says_where_and_that_nothing_was_written() {
        let mut report = report(vec![
            check("onnxruntime", 3.2e-2, Scope::Whole),
            check("tract", 0.0, Scope::Head),
        ]);
        report.accuracy = None;
        report.agreement = None;
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
