//! The forms of a cut that were timed, and what became of it.

use super::{
    bench::interval,
    numbers::{grouped, seconds},
    table,
};
use crate::pipeline::{FormName, FormReport, TimedForms};

/// What was compared, and what it means where a layer keeps its width; nothing where there was one form.
pub(super) fn form(report: &FormReport) -> Option<String> {
    let tables = report
        .timed
        .iter()
        .map(|timed| compared(timed, report.used));
    let mut blocks: Vec<String> = tables.collect();
    blocks.extend(verdict(report));
    (!blocks.is_empty()).then(|| blocks.join("\n\n"))
}

fn compared(timed: &TimedForms, used: FormName) -> String {
    let mut rows = vec![vec![
        "original".to_owned(),
        String::new(),
        seconds(timed.original),
        "1".to_owned(),
        String::new(),
        String::new(),
    ]];
    rows.extend(timed.forms.iter().map(|one| {
        let written = if one.form == used { "written" } else { "" };
        vec![
            one.form.to_string(),
            grouped(one.bytes),
            seconds(one.seconds),
            one.ratio
                .map_or_else(String::new, |ratio| format!("{:.3}", ratio.median)),
            one.ratio.map_or_else(String::new, interval),
            written.to_owned(),
        ]
    }));
    let header = ["form", "bytes", "time of a run", "ratio", "interval", ""];
    format!(
        "forms of the cut, batch {}, {}:\n{}",
        timed.batch,
        timed.engine,
        table::numbers(&header, rows)
    )
}

/// What the form costs, in words.
fn verdict(report: &FormReport) -> Option<String> {
    let names = report.same_width.join(" and ");
    let used = |timed: &TimedForms| {
        let mut forms = timed.forms.iter();
        forms.any(|one| one.form == report.used && one.ratio.is_some_and(|ratio| ratio.is_faster()))
    };
    let gains = report.timed.iter().any(used);
    match (names.as_str(), gains) {
        ("", true) => None,
        ("", false) if report.timed.is_empty() => None,
        ("", false) => Some("no form is measured to be faster than the original".to_owned()),
        (names, gains) => {
            let rest = match gains {
                true => "",
                false => "; nothing is gained in time",
            };
            Some(format!(
                "as wide as before: {names}; zeros stand for the neurons that are gone, since a selection in front would cost more than it saves{rest}"
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        engine::EngineInfo,
        eval::{Interval, Ratio},
        pipeline::TimedForm,
    };

    fn report(used: FormName, same_width: &[&str], ratios: [f64; 2]) -> FormReport {
        let ratio = |median: f64| Ratio {
            median,
            interval: Some(Interval {
                low: median - 0.01,
                high: median + 0.01,
                confidence: 0.96,
            }),
        };
        let timed = |form, bytes, median| TimedForm {
            form,
            bytes,
            seconds: 2e-5 * median,
            ratio: Some(ratio(median)),
        };
        FormReport {
            used,
            same_width: same_width.iter().map(|&name| name.to_owned()).collect(),
            timed: vec![TimedForms {
                engine: EngineInfo::example(),
                batch: 1,
                rounds: 60,
                sessions: 30,
                original: 2e-5,
                forms: vec![
                    timed(FormName::Smallest, 3_456, ratios[0]),
                    timed(FormName::SameWidth, 20_480, ratios[1]),
                ],
            }],
        }
    }

    #[test]
    fn forms_stand_beside_the_original_with_their_sizes() {
        let found = report(FormName::SameWidth, &["features"], [1.08, 1.0]);
        insta::assert_snapshot!(form(&found).unwrap(), @r"
        forms of the cut, batch 1, tract 0.23.9 on cpu, 2 threads:
        form         bytes  time of a run  ratio        interval
        original                  20.0 us      1
        smallest     3,456        21.6 us  1.080  1.070 to 1.090
        same-width  20,480        20.0 us  1.000  0.990 to 1.010  written

        as wide as before: features; zeros stand for the neurons that are gone, since a selection in front would cost more than it saves; nothing is gained in time
        ");
    }

    #[test]
    fn what_gains_nothing_is_said_to() {
        let cases = [
            (report(FormName::Smallest, &[], [0.9, 1.0]), None),
            (
                report(FormName::Smallest, &[], [1.0, 1.0]),
                Some("no form is measured to be faster"),
            ),
            (
                report(FormName::SameWidth, &["features"], [1.1, 1.0]),
                Some("nothing is gained in time"),
            ),
            (
                report(FormName::SameWidth, &["features"], [1.1, 0.8]),
                Some("as wide as before: features; zeros"),
            ),
        ];
        for (report, expected) in cases {
            let found = verdict(&report);
            match expected {
                None => assert_eq!(found, None),
                Some(words) => assert!(found.clone().unwrap().contains(words), "{found:?}"),
            }
        }
        let alone = FormReport {
            timed: Vec::new(),
            ..report(FormName::Smallest, &[], [1.0, 1.0])
        };
        assert_eq!(form(&alone), None);
    }
}
