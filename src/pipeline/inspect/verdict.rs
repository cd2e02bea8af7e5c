//! Whether pruning is worth the trouble.
//!
//! The rule: it is, when the deepest cut makes the file smaller, or the model faster, by 5 % or
//! more. Faster means measured: the interval of the ratio lies below 0.95. Without timing, fewer
//! multiply-accumulates stand for it, and the verdict says "at best", for less time is gained than
//! arithmetic.

use super::{Gain, Part, PartName, Reach};

/// Least gain that is worth having: pruning costs accuracy, and time to make up for it, while less
/// than this is within what another release of a runtime changes.
const LEAST: f64 = 0.05;

/// Whether it is worth it, and one or two sentences that say why.
pub(super) fn verdict(parts: &[Part], gain: &Gain, budget: &str) -> (bool, String) {
    let whole = part(parts, PartName::Whole);
    let head = part(parts, PartName::Head);
    let smaller = lost(gain.bytes, whole.bytes);
    let less_work = lost(gain.macs, whole.macs);
    let (faster, speed) = match gain.ratio {
        Some(ratio) => {
            let sure = ratio
                .interval
                .map_or(ratio.median, |interval| interval.high);
            let text = match sure < 1.0 {
                true => format!(" and each run {} shorter", percent(1.0 - ratio.median)),
                false => " and the model no faster, as far as can be measured".to_owned(),
            };
            (sure < 1.0 - LEAST, text)
        }
        None => (
            less_work >= LEAST,
            format!(", with {} less arithmetic at best", percent(less_work)),
        ),
    };
    let worth = smaller >= LEAST || faster;
    let with_trunk = match gain.reach {
        Reach::Trunk => ", with channels of the trunk,",
        Reach::Head => "",
    };
    let gained = format!(
        "keeping {budget}{with_trunk} makes the file {} smaller{speed}",
        percent(smaller)
    );
    let text = match worth {
        true => format!("worth trying: {gained}"),
        false => format!(
            "not worth it: the head holds {} of the parameters and {} of the multiply-accumulates, \
             so cutting it gains nothing worth having; {gained}",
            percent(share(head.parameters, whole.parameters)),
            percent(share(head.macs, whole.macs)),
        ),
    };
    (worth, text)
}

fn part(parts: &[Part], name: PartName) -> &Part {
    let found = parts.iter().find(|part| part.part == name);
    found.expect("head and whole model are always among the parts")
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

fn lost(after: u64, before: u64) -> f64 {
    share(before.saturating_sub(after), before)
}

/// `63 %`, `8.4 %`, `0.09 %`: two digits of the small ones.
fn percent(share: f64) -> String {
    let percent = 100.0 * share;
    let decimals = match percent {
        percent if percent >= 9.95 => 0,
        percent if percent >= 1.0 => 1,
        percent if percent >= 0.01 || percent == 0.0 => 2,
        _ => return "less than 0.01 %".to_owned(),
    };
    format!("{percent:.decimals$} %")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::{Interval, Ratio};

    fn parts(head: u64, whole: u64) -> Vec<Part> {
        let part = |part, size| Part {
            part,
            nodes: 1,
            parameters: size,
            bytes: 4 * size,
            macs: size,
            seconds: None,
        };
        vec![part(PartName::Head, head), part(PartName::Whole, whole)]
    }

    fn gain(after: u64, ratio: Option<(f64, f64)>) -> Gain {
        Gain {
            reach: Reach::Head,
            kept: vec![],
            parameters: after,
            bytes: 4 * after,
            macs: after,
            ratio: ratio.map(|(median, high)| Ratio {
                median,
                interval: Some(Interval {
                    low: median - 0.01,
                    high,
                    confidence: 0.96,
                }),
            }),
            removed: vec![],
        }
    }

    #[test]
    fn verdicts_follow_the_rule() {
        struct Case {
            what: &'static str,
            gain: Gain,
            worth: bool,
            says: &'static str,
        }
        let cases = [
            Case {
                what: "half of a head of 0.09 %",
                gain: gain(99_955, None),
                worth: false,
                says: "holds 0.09 % of the parameters",
            },
            Case {
                what: "a smaller file, no faster",
                gain: gain(50_000, Some((0.99, 1.01))),
                worth: true,
                says: "50 % smaller and the model no faster",
            },
            Case {
                what: "as large, but faster",
                gain: gain(99_000, Some((0.9, 0.94))),
                worth: true,
                says: "1.0 % smaller and each run 10 % shorter",
            },
            Case {
                what: "faster, but not for sure",
                gain: gain(99_000, Some((0.95, 1.02))),
                worth: false,
                says: "the model no faster, as far as can be measured",
            },
            Case {
                what: "faster for sure, but not by much",
                gain: gain(99_000, Some((0.97, 0.98))),
                worth: false,
                says: "gains nothing worth having; keeping 0.5 makes the file 1.0 % smaller and each \
                       run 3.0 % shorter",
            },
            Case {
                what: "less arithmetic, not measured",
                gain: gain(94_000, None),
                worth: true,
                says: "6.0 % smaller, with 6.0 % less arithmetic at best",
            },
        ];
        for case in cases {
            let (worth, text) = verdict(&parts(90, 100_000), &case.gain, "0.5");
            assert_eq!(worth, case.worth, "{}: {text}", case.what);
            assert!(text.contains(case.says), "{}: {text}", case.what);
        }
        assert_eq!(percent(3e-5), "less than 0.01 %");
    }
}
