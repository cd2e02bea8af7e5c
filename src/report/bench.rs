//! How long models took.

use std::path::Path;

use super::{
    left_out::left_out,
    numbers::{megabytes, seconds},
    table,
};
use crate::{
    eval::{Ratio, Scope},
    pipeline::{BenchReport, Measured, Measurement},
};

/// One table for each runtime, number of threads, batch and scope.
pub fn benched(report: &BenchReport) -> String {
    let columns = Columns::of(report);
    let blocks = report.measurements.iter().map(|found| {
        let header = columns.header(found);
        let header: Vec<&str> = header.iter().map(String::as_str).collect();
        let rows = columns.rows(report, found);
        format!("{}\n{}", title(found), table::numbers(&header, rows))
    });
    let mut blocks: Vec<String> = blocks.collect();
    blocks.extend(footnotes(report));
    blocks.extend(left_out(&report.data));
    blocks.join("\n\n")
}

/// The same tables in Markdown.
pub fn benched_markdown(report: &BenchReport) -> String {
    let columns = Columns::of(report);
    let blocks = report.measurements.iter().map(|found| {
        let rows = columns.rows(report, found);
        let table = table::markdown(&columns.header(found), rows);
        format!("{}\n\n{table}", title(found))
    });
    let mut blocks: Vec<String> = blocks.collect();
    blocks.extend(footnotes(report));
    blocks.join("\n\n")
}

fn title(found: &Measurement) -> String {
    let what = match found.scope {
        Scope::Whole => "whole models",
        Scope::Head => "heads alone",
    };
    let sessions = match found.sessions {
        1 => "1 session".to_owned(),
        several => format!("{several} sessions"),
    };
    format!(
        "{what}, batch {}, {}, {} rounds in {sessions}",
        found.batch, found.engine, found.rounds
    )
}

fn footnotes(report: &BenchReport) -> Vec<String> {
    let mut notes = report.notes.clone();
    if report.models.len() > 1 {
        notes.insert(
            0,
            format!(
                "ratio: of the times in the same round, to those of {}; median over rounds, then over sessions",
                names(report)[0]
            ),
        );
    }
    notes
}

/// Which columns a report fills.
struct Columns {
    memory: bool,
    ratio: bool,
    interval: Option<f64>,
}

impl Columns {
    fn of(report: &BenchReport) -> Self {
        let models = || report.measurements.iter().flat_map(|found| &found.models);
        let intervals = models().filter_map(|model| model.latency.ratio?.interval);
        Self {
            memory: models().any(|model| model.peak_bytes.is_some()),
            ratio: report.models.len() > 1,
            interval: intervals
                .map(|interval| interval.confidence)
                .reduce(f64::min),
        }
    }

    fn header(&self, found: &Measurement) -> Vec<String> {
        let mut names = vec!["model"];
        if found.scope == Scope::Whole {
            names.push("file");
        }
        names.push("load");
        if self.memory && found.scope == Scope::Whole {
            names.push("peak memory");
        }
        names.extend(["median", "p95", "MAD"]);
        if self.ratio {
            names.push("ratio");
        }
        let mut header: Vec<String> = names.into_iter().map(str::to_owned).collect();
        if let Some(confidence) = self.interval {
            header.push(format!("{:.0} % interval", (100.0 * confidence).floor()));
        }
        header
    }

    fn rows(&self, report: &BenchReport, found: &Measurement) -> Vec<Vec<String>> {
        let models = found.models.iter().zip(&report.models).zip(names(report));
        models
            .map(|((model, file), name)| self.row(found, model, file.bytes, name))
            .collect()
    }

    fn row(&self, found: &Measurement, model: &Measured, bytes: u64, name: String) -> Vec<String> {
        let mut row = vec![name];
        if found.scope == Scope::Whole {
            row.push(megabytes(bytes));
        }
        row.push(seconds(model.load_seconds + model.first_run_seconds));
        if self.memory && found.scope == Scope::Whole {
            row.push(model.peak_bytes.map_or_else(|| "-".to_owned(), megabytes));
        }
        let times = &model.latency.seconds;
        row.extend([times.median, times.p95, times.mad].map(seconds));
        let ratio = model.latency.ratio;
        if self.ratio {
            row.push(ratio.map_or_else(|| "1".to_owned(), |ratio| factor(ratio.median)));
        }
        if self.interval.is_some() {
            row.push(ratio.map_or_else(String::new, interval));
        }
        row
    }
}

pub(super) fn interval(ratio: Ratio) -> String {
    match ratio.interval {
        Some(found) => format!("{} to {}", factor(found.low), factor(found.high)),
        None => "-".to_owned(),
    }
}

fn factor(value: f64) -> String {
    format!("{value:.3}")
}

/// File names, or whole paths where file names repeat.
fn names(report: &BenchReport) -> Vec<String> {
    let short = |path: &Path| {
        path.file_name()
            .map(|name| name.to_string_lossy().into_owned())
    };
    let names: Vec<Option<String>> = report.models.iter().map(|file| short(&file.path)).collect();
    let repeated = |name: &Option<String>| names.iter().filter(|other| *other == name).count() > 1;
    let models = report.models.iter().zip(&names);
    models
        .map(|(file, name)| match name {
            Some(text) if !repeated(name) => text.clone(),
            _ => file.path.display().to_string(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        data::Preprocess,
        engine::EngineInfo,
        eval::{Interval, Latency, Summary},
        pipeline::{DataReport, FileReport},
    };

    fn measured(path: &str, median: f64, ratio: Option<Ratio>, peak: Option<u64>) -> Measured {
        Measured {
            path: path.into(),
            load_seconds: 0.1,
            first_run_seconds: 0.15,
            peak_bytes: peak,
            note: None,
            latency: Latency {
                seconds: Summary {
                    runs: 20,
                    min: median * 0.9,
                    median,
                    p95: median * 1.5,
                    mad: median * 0.02,
                },
                ratio,
            },
        }
    }

    fn measurement(scope: Scope, models: Vec<Measured>) -> Measurement {
        Measurement {
            scope,
            engine: EngineInfo::example(),
            batch: 1,
            rounds: 10,
            sessions: 5,
            models,
        }
    }

    fn report(measurements: Vec<Measurement>) -> BenchReport {
        let models = measurements[0].models.iter().map(|model| FileReport {
            path: model.path.clone(),
            bytes: 553_416_318,
            parameters: 138_357_544,
        });
        BenchReport {
            schema: "onnx-prune/bench/v1",
            models: models.collect(),
            data: DataReport {
                path: None,
                description: "synthetic".to_owned(),
                fingerprint: None,
                skipped: None,
                test: None,
                preprocess: Preprocess::default(),
            },
            seed: 0,
            measurements,
            notes: vec![],
        }
    }

    fn ratio(interval: bool) -> Option<Ratio> {
        Some(Ratio {
            median: 0.125,
            interval: interval.then_some(Interval {
                low: 0.12,
                high: 0.1304,
                confidence: 0.9785,
            }),
        })
    }

    #[test]
    fn models_are_compared_with_the_first() {
        let whole = vec![
            measured("a/vgg.onnx", 0.161, None, Some(2_600_000_000)),
            measured("a/small.onnx", 0.0201, ratio(true), None),
        ];
        let heads = vec![
            measured("a/vgg.onnx", 0.012, None, None),
            measured("a/small.onnx", 0.0015, ratio(true), None),
        ];
        let report = report(vec![
            measurement(Scope::Whole, whole),
            measurement(Scope::Head, heads),
        ]);
        insta::assert_snapshot!(benched(&report), @r"
        whole models, batch 1, tract 0.23.9 on cpu, 2 threads, 10 rounds in 5 sessions
        model           file    load  peak memory   median      p95      MAD  ratio   97 % interval
        vgg.onnx    553.4 MB  250 ms    2600.0 MB   161 ms   242 ms  3.22 ms      1
        small.onnx  553.4 MB  250 ms            -  20.1 ms  30.1 ms   402 us  0.125  0.120 to 0.130

        heads alone, batch 1, tract 0.23.9 on cpu, 2 threads, 10 rounds in 5 sessions
        model         load   median      p95      MAD  ratio   97 % interval
        vgg.onnx    250 ms  12.0 ms  18.0 ms   240 us      1
        small.onnx  250 ms  1.50 ms  2.25 ms  30.0 us  0.125  0.120 to 0.130

        ratio: of the times in the same round, to those of vgg.onnx; median over rounds, then over sessions
        ");
        insta::assert_snapshot!(benched_markdown(&report), @r"
        whole models, batch 1, tract 0.23.9 on cpu, 2 threads, 10 rounds in 5 sessions

        | model | file | load | peak memory | median | p95 | MAD | ratio | 97 % interval |
        |---|---:|---:|---:|---:|---:|---:|---:|---:|
        | vgg.onnx | 553.4 MB | 250 ms | 2600.0 MB | 161 ms | 242 ms | 3.22 ms | 1 |  |
        | small.onnx | 553.4 MB | 250 ms | - | 20.1 ms | 30.1 ms | 402 us | 0.125 | 0.120 to 0.130 |

        heads alone, batch 1, tract 0.23.9 on cpu, 2 threads, 10 rounds in 5 sessions

        | model | load | median | p95 | MAD | ratio | 97 % interval |
        |---|---:|---:|---:|---:|---:|---:|
        | vgg.onnx | 250 ms | 12.0 ms | 18.0 ms | 240 us | 1 |  |
        | small.onnx | 250 ms | 1.50 ms | 2.25 ms | 30.0 us | 0.125 | 0.120 to 0.130 |

        ratio: of the times in the same round, to those of vgg.onnx; median over rounds, then over sessions
        ");
    }

    #[test]
    fn one_model_has_no_ratio_and_few_rounds_no_interval() {
        let alone = report(vec![measurement(
            Scope::Whole,
            vec![measured("vgg.onnx", 0.161, None, None)],
        )]);
        insta::assert_snapshot!(benched(&alone), @r"
        whole models, batch 1, tract 0.23.9 on cpu, 2 threads, 10 rounds in 5 sessions
        model         file    load  median     p95      MAD
        vgg.onnx  553.4 MB  250 ms  161 ms  242 ms  3.22 ms
        ");
        let models = vec![
            measured("a/m.onnx", 0.161, None, None),
            measured("b/m.onnx", 0.0201, ratio(false), None),
        ];
        let few = report(vec![measurement(Scope::Whole, models)]);
        insta::assert_snapshot!(benched(&few), @r"
        whole models, batch 1, tract 0.23.9 on cpu, 2 threads, 10 rounds in 5 sessions
        model         file    load   median      p95      MAD  ratio
        a/m.onnx  553.4 MB  250 ms   161 ms   242 ms  3.22 ms      1
        b/m.onnx  553.4 MB  250 ms  20.1 ms  30.1 ms   402 us  0.125

        ratio: of the times in the same round, to those of a/m.onnx; median over rounds, then over sessions
        ");
    }
}
