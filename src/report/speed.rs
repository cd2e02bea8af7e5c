//! The time of the output beside the original's.

use super::numbers::seconds;
use crate::{eval::Ratio, pipeline::SpeedReport};

/// How long one run takes, before and after.
pub(super) fn speed(report: &SpeedReport) -> String {
    let verdict = match (report.faster, report.slower) {
        (true, _) => "faster",
        (_, true) => "slower",
        _ => "no difference that can be told from chance",
    };
    let Ratio { median, interval } = report.ratio;
    let interval = interval.map_or_else(String::new, |found| {
        format!(" ({:.3} to {:.3})", found.low, found.high)
    });
    format!(
        "time of a run, batch {}, {}: {} before, {} after, ratio {median:.3}{interval}: {verdict}",
        report.batch,
        report.engine,
        seconds(report.before),
        seconds(report.after),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{engine::EngineInfo, eval::Interval};

    #[test]
    fn a_line_says_what_can_be_told_from_chance() {
        let report = |low: f64, median, high: f64| SpeedReport {
            engine: EngineInfo::example(),
            batch: 1,
            rounds: 20,
            sessions: 10,
            before: 0.002,
            after: 0.002 * median,
            ratio: Ratio {
                median,
                interval: Some(Interval {
                    low,
                    high,
                    confidence: 0.96,
                }),
            },
            faster: high < 1.0,
            slower: low > 1.0,
            required: false,
        };
        insta::assert_snapshot!(speed(&report(0.49, 0.5, 0.52)), @"time of a run, batch 1, tract 0.23.9 on cpu, 2 threads: 2.00 ms before, 1.00 ms after, ratio 0.500 (0.490 to 0.520): faster");
        let cases = [
            (report(0.99, 1.01, 1.03), "told from chance"),
            (report(1.01, 1.02, 1.03), ": slower"),
        ];
        for (report, words) in cases {
            assert!(speed(&report).ends_with(words), "{}", speed(&report));
        }
    }
}
