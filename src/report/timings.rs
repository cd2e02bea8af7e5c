//! `--timings`.

use super::table;
use crate::{data::readable_bytes, pipeline::Timings};

/// One line per stage: time, its share of the whole, and memory.
pub fn timed(found: &Timings) -> String {
    let row = |name: &str, times: usize, seconds: f64, peak: Option<u64>| {
        let share = match found.seconds > 0.0 {
            true => format!("{:.1} %", 100.0 * seconds / found.seconds),
            false => "-".to_owned(),
        };
        let name = match times {
            0 | 1 => name.to_owned(),
            times => format!("{name}, {times} times"),
        };
        let peak = peak.map_or_else(|| "-".to_owned(), readable_bytes);
        vec![name, format!("{seconds:.3}"), share, peak]
    };
    let stages = found.stages.iter();
    let mut rows: Vec<_> = stages
        .map(|stage| row(&stage.stage, stage.times, stage.seconds, stage.peak_bytes))
        .collect();
    rows.push(row("all", 1, found.seconds, found.peak_bytes));
    table::numbers(&["", "seconds", "", "peak memory"], rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::StageTime;

    #[test]
    fn stages_stand_above_the_whole() {
        let stage = |name: &str, times, seconds, mebibytes: u64| StageTime {
            stage: name.to_owned(),
            times,
            seconds,
            peak_bytes: Some(mebibytes << 20),
        };
        let found = Timings {
            stages: vec![stage("loading", 1, 0.5, 20), stage("rewriting", 3, 1.5, 40)],
            seconds: 2.0,
            peak_bytes: Some(40 << 20),
        };
        insta::assert_snapshot!(timed(&found), @r"
                            seconds           peak memory
        loading               0.500   25.0 %     20.0 MiB
        rewriting, 3 times    1.500   75.0 %     40.0 MiB
        all                   2.000  100.0 %     40.0 MiB
        ");
    }
}
