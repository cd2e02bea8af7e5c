//! When models get new sessions, and when a measurement has enough of them.
//!
//! A sitting is some rounds in the same sessions. The ratios of its rounds share what is peculiar to
//! these sessions, so a sitting is one value, the median of its rounds.

use std::time::Duration;

use super::Effort;
use crate::eval::statistics::{FEWEST, median};

/// Most sittings within a time budget; the interval of the ratio narrows no further in practice.
const MOST: usize = 200;

/// How rounds are dealt to sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sittings {
    /// Rounds of a sitting.
    rounds: usize,
    /// Whether there is more than one; otherwise each round is a value of its own.
    renewed: bool,
}

impl Default for Sittings {
    /// The same sessions in all rounds.
    fn default() -> Self {
        Self {
            rounds: 1,
            renewed: false,
        }
    }
}

impl Sittings {
    /// Where loading all models takes `load` seconds and a round `round`: as long as loading takes, so
    /// that at least half of the time is measured, or shorter for six sittings to fit.
    pub(super) fn new(effort: Effort, load: f64, round: f64) -> Self {
        let half = (load / round).ceil() as usize;
        let most = match effort {
            Effort::Rounds(all) => all / FEWEST,
            Effort::Time(budget) | Effort::Glance(budget) => {
                ((budget.as_secs_f64() / FEWEST as f64 - load) / round) as usize
            }
        };
        match most {
            0 => Self::default(),
            most => Self {
                rounds: half.clamp(1, most),
                renewed: true,
            },
        }
    }

    /// The number of the sitting that begins with this round, if one does.
    pub(super) fn begins_with(&self, round: usize) -> Option<usize> {
        (self.renewed && round.is_multiple_of(self.rounds)).then(|| round / self.rounds)
    }

    /// Sessions of each model after so many rounds.
    pub(super) fn sessions(&self, rounds: usize) -> usize {
        match self.renewed {
            true => rounds.div_ceil(self.rounds),
            false => 1,
        }
    }

    /// The share of the work that is done after so many rounds in so much time.
    pub(super) fn done(&self, effort: Effort, rounds: usize, spent: Duration) -> f64 {
        match effort {
            Effort::Rounds(wanted) => rounds as f64 / wanted as f64,
            Effort::Time(budget) | Effort::Glance(budget) => {
                let values = rounds / self.rounds;
                let is_whole = rounds.is_multiple_of(self.rounds);
                let another = spent.mul_f64((values + 1) as f64 / values.max(1) as f64);
                if is_whole && values >= FEWEST && (another > budget || values >= MOST) {
                    return 1.0;
                }
                let of_time = spent.as_secs_f64() / budget.as_secs_f64();
                of_time.max(values as f64 / MOST as f64).min(0.99)
            }
        }
    }

    /// Of the ratios of all rounds, one value for each sitting; with one sitting, those of the rounds.
    pub(super) fn medians(&self, ratios: &[f64]) -> Vec<f64> {
        ratios.chunks(self.rounds).filter_map(median).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_renewed_as_often_as_loading_allows() {
        struct Case {
            what: &'static str,
            effort: Effort,
            /// Seconds of loading, and of a round.
            load: f64,
            round: f64,
            /// Rounds of a sitting, where there are several.
            expected: Option<usize>,
        }
        let time = |seconds| Effort::Time(Duration::from_secs(seconds));
        let case = |what, effort, load, round, expected| Case {
            what,
            effort,
            load,
            round,
            expected,
        };
        let cases = [
            case("loading costs nothing", time(10), 0.0, 0.1, Some(1)),
            case(
                "a sitting is as long as loading",
                time(10),
                0.5,
                0.2,
                Some(3),
            ),
            case("six have to fit", time(6), 0.5, 0.2, Some(2)),
            case("six do not fit", time(6), 0.9, 0.2, None),
            case("loading alone takes longer", time(6), 1.5, 0.2, None),
            case("rounds are counted", Effort::Rounds(20), 0.5, 0.2, Some(3)),
            case("few rounds", Effort::Rounds(7), 0.5, 0.2, Some(1)),
            case(
                "fewer than have an interval",
                Effort::Rounds(5),
                0.0,
                0.2,
                None,
            ),
            case("a clock that stands still", time(10), 0.0, 0.0, Some(1)),
        ];
        for case in cases {
            let found = Sittings::new(case.effort, case.load, case.round);
            let rounds = found.renewed.then_some(found.rounds);
            assert_eq!(rounds, case.expected, "{}", case.what);
        }
    }

    #[test]
    fn a_sitting_is_one_value() {
        let ratios = [1.0, 3.0, 2.0, 5.0, 4.0, 6.0, 9.0];
        let renewed = Sittings {
            rounds: 3,
            renewed: true,
        };
        assert_eq!(renewed.medians(&ratios), [2.0, 5.0, 9.0]);
        assert_eq!(renewed.sessions(7), 3);
        let begun: Vec<Option<usize>> = (1..=6).map(|at| renewed.begins_with(at)).collect();
        assert_eq!(begun, [None, None, Some(1), None, None, Some(2)]);
        let one = Sittings::default();
        assert_eq!(one.medians(&ratios), ratios);
        assert_eq!((one.sessions(7), one.begins_with(3)), (1, None));
    }
}
