//! Which of the forms that were timed is written.
//!
//! The smallest file, unless another form is clearly faster. A form that was added for speed must
//! not cost any: what may be slower than the original by more than [`HARMLESS`] gives way to the form
//! that keeps every width, which has no operator that the original has not.

use super::FormName;
use crate::eval::{Latencies, Ratio};

/// What a form may be slower than the original by, at the upper end of its interval.
const HARMLESS: f64 = 1.02;

/// Times of the forms in one engine, against each other.
pub(super) struct Times {
    /// Of each form to the original.
    to_original: Vec<Option<Ratio>>,
    /// Of each form to each other one: `to_each[a][b]` is a's time divided by b's.
    to_each: Vec<Vec<Option<Ratio>>>,
}

impl Times {
    /// Those of a measurement whose first model is the original.
    pub(super) fn of(found: &Latencies) -> Self {
        let forms = 1..found.models.len();
        let to_all = |one| forms.clone().map(|other| found.ratio(one, other)).collect();
        Self {
            to_original: forms.clone().map(|form| found.ratio(form, 0)).collect(),
            to_each: forms.clone().map(to_all).collect(),
        }
    }

    fn faster(&self, one: usize, other: usize) -> Option<f64> {
        let ratio = self.to_each[one][other]?;
        ratio.is_faster().then_some(ratio.median)
    }

    fn is_slower(&self, one: usize, other: usize) -> bool {
        self.to_each[one][other].is_some_and(|ratio| ratio.is_slower())
    }

    /// Whether a form is slower than the original, or may be by more than is harmless.
    fn may_be_slower(&self, form: usize) -> bool {
        self.to_original[form].is_some_and(|ratio| {
            let high = ratio.interval.map_or(f64::INFINITY, |found| found.high);
            ratio.is_slower() || (ratio.median > 1.0 && high > HARMLESS)
        })
    }

    fn median(&self, one: usize, other: usize) -> Option<f64> {
        Some(self.to_each[one][other]?.median)
    }
}

/// The place of the form to write among `names`, the first of which is the smallest; `times` are those
/// of the engine of the run, then of others that the result is for.
pub(super) fn choose(names: &[FormName], times: &[Times]) -> usize {
    let Some((own, others)) = times.split_first() else {
        return 0;
    };
    let faster = (1..names.len()).filter(|&form| others.iter().all(|one| !one.is_slower(form, 0)));
    let faster = faster.filter_map(|form| Some((form, own.faster(form, 0)?)));
    let best = faster.min_by(|(_, a), (_, b)| a.total_cmp(b));
    let best = best.map_or(0, |(form, _)| form);
    let wide = names.iter().position(|&name| name == FormName::SameWidth);
    let Some(wide) = wide.filter(|&wide| wide != best) else {
        return best;
    };
    let loses = |one: &Times| {
        one.may_be_slower(best) && one.median(wide, best).is_some_and(|ratio| ratio < 1.0)
    };
    match times.iter().any(loses) {
        true => wide,
        false => best,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::{CONFIDENCE, Interval};

    /// Times of one run of the original, the smallest form, the whole trunk and the same width, each
    /// known to within `width` of itself.
    fn times(seconds: [f64; 4], width: f64) -> Times {
        let ratio = |one: f64, other: f64| {
            let median = one / other;
            Some(Ratio {
                median,
                interval: Some(Interval {
                    low: median * (1.0 - width),
                    high: median * (1.0 + width),
                    confidence: CONFIDENCE,
                }),
            })
        };
        let forms = &seconds[1..];
        let to_all = |&one: &f64| forms.iter().map(|&other| ratio(one, other)).collect();
        Times {
            to_original: forms.iter().map(|&one| ratio(one, seconds[0])).collect(),
            to_each: forms.iter().map(to_all).collect(),
        }
    }

    #[test]
    fn the_smallest_form_is_written_unless_it_costs_time() {
        use FormName::{SameWidth, Smallest, WholeTrunk};
        struct Case {
            what: &'static str,
            seconds: &'static [[f64; 4]],
            width: f64,
            expected: FormName,
        }
        let case = |what, seconds, width, expected| Case {
            what,
            seconds,
            width,
            expected,
        };
        let cases = [
            case("all are alike", &[[1.0, 1.0, 1.0, 1.0]], 0.01, Smallest),
            case(
                "the smallest is faster",
                &[[1.0, 0.8, 0.9, 1.0]],
                0.01,
                Smallest,
            ),
            case(
                "another is clearly faster",
                &[[1.0, 0.9, 0.7, 1.0]],
                0.01,
                WholeTrunk,
            ),
            case(
                "another may be faster",
                &[[1.0, 0.9, 0.88, 1.0]],
                0.05,
                Smallest,
            ),
            case(
                "the selection costs",
                &[[1.0, 1.1, 1.1, 1.0]],
                0.01,
                SameWidth,
            ),
            case(
                "hidden neurons gain, the selection costs",
                &[[1.0, 0.9, 0.9, 0.8]],
                0.01,
                SameWidth,
            ),
            case(
                "the selection may cost",
                &[[1.0, 1.01, 1.01, 1.0]],
                0.03,
                SameWidth,
            ),
            case(
                "the selection costs next to nothing",
                &[[1.0, 1.004, 1.0, 1.0]],
                0.01,
                Smallest,
            ),
            case(
                "width is no remedy",
                &[[1.0, 1.1, 1.1, 1.12]],
                0.01,
                Smallest,
            ),
            case(
                "both engines gain",
                &[[1.0, 0.8, 0.9, 1.0], [1.0, 0.9, 0.9, 1.0]],
                0.01,
                Smallest,
            ),
            case(
                "the other engine loses",
                &[[1.0, 0.9, 0.95, 1.0], [1.0, 1.1, 1.1, 1.0]],
                0.01,
                SameWidth,
            ),
            case(
                "what is faster here is slower there",
                &[[1.0, 0.9, 0.7, 1.0], [1.0, 0.8, 0.95, 1.0]],
                0.01,
                Smallest,
            ),
        ];
        let names = [Smallest, WholeTrunk, SameWidth];
        for case in cases {
            let times: Vec<Times> = case
                .seconds
                .iter()
                .map(|&seconds| times(seconds, case.width))
                .collect();
            let found = names[choose(&names, &times)];
            assert_eq!(found, case.expected, "{}", case.what);
        }
        // Without a form that keeps the width, the fastest there is.
        let slower = times([1.0, 1.1, 1.1, 1.0], 0.01);
        assert_eq!(choose(&names[..2], &[slower]), 0);
    }
}
