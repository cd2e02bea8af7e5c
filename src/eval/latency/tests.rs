use std::{
    cell::RefCell,
    sync::{Arc, Mutex},
};

use super::*;
use crate::{engine::Port, eval::CONFIDENCE};

/// A machine whose time passes only while models run, and whose speed is `pace(seconds so far)`.
#[derive(Clone)]
struct Machine {
    now: Arc<Mutex<f64>>,
    pace: fn(f64) -> f64,
}

impl Machine {
    fn new(pace: fn(f64) -> f64) -> Self {
        Self {
            now: Arc::new(Mutex::new(0.0)),
            pace,
        }
    }

    fn model(&self, name: &'static str, seconds: f64) -> Fake {
        Fake {
            machine: self.clone(),
            name,
            seconds,
            log: Arc::default(),
            left: usize::MAX,
        }
    }
}

impl Clock for Machine {
    fn now(&self) -> Duration {
        Duration::from_secs_f64(*self.now.lock().unwrap())
    }
}

/// A model that takes `seconds` at pace 1.
struct Fake {
    machine: Machine,
    name: &'static str,
    seconds: f64,
    log: Arc<Mutex<String>>,
    /// Runs before it fails.
    left: usize,
}

impl Session for Fake {
    fn inputs(&self) -> &[Port] {
        &[]
    }

    fn outputs(&self) -> &[Port] {
        &[]
    }

    fn run(&mut self, _: &[(&str, &Tensor)]) -> Result<Vec<Tensor>> {
        if self.left == 0 {
            return Err(Error::Engine {
                engine: "fake",
                what: "worn out".to_owned(),
            });
        }
        self.left -= 1;
        let mut now = self.machine.now.lock().unwrap();
        *now += self.seconds * (self.machine.pace)(*now);
        self.log.lock().unwrap().push_str(self.name);
        Ok(Vec::new())
    }
}

fn measured(models: &mut [Fake], effort: Effort, seed: u64) -> Latencies {
    let machine = models[0].machine.clone();
    let schedule = Schedule { effort, seed };
    let mut subjects = subjects(models);
    latency(&mut subjects, &schedule, &machine, &mut |_| Ok(())).unwrap()
}

fn subjects(models: &mut [Fake]) -> Vec<Subject<'_>> {
    let subjects = models.iter_mut().map(|model| Subject {
        session: model,
        inputs: vec![],
    });
    subjects.collect()
}

/// Each model by itself, one after the other: what the rounds are there to avoid.
fn one_after_the_other(pace: fn(f64) -> f64, runs: usize) -> f64 {
    let machine = Machine::new(pace);
    let mut models = [machine.model("a", 0.1), machine.model("b", 0.05)];
    let mut medians = Vec::new();
    for mut subject in subjects(&mut models) {
        let times: Vec<f64> = (0..runs)
            .map(|_| timed(&mut subject, &machine).unwrap())
            .collect();
        medians.push(median(&times).unwrap());
    }
    medians[1] / medians[0]
}

#[test]
fn drift_cancels_and_a_known_ratio_is_recovered() {
    struct Case {
        what: &'static str,
        pace: fn(f64) -> f64,
        /// How wrong timing one model after the other is, at least.
        naive: f64,
        bound: f64,
    }
    let cases = [
        Case {
            what: "an even machine",
            pace: |_| 1.0,
            naive: 0.0,
            bound: 1e-9,
        },
        Case {
            what: "a machine that gets slower by 5 % a second",
            pace: |now| 1.0 + 0.05 * now,
            naive: 0.1,
            bound: 0.002,
        },
        Case {
            what: "one that gets faster",
            pace: |now| 1.0 / (1.0 + 0.1 * now),
            naive: 0.1,
            bound: 0.002,
        },
        Case {
            what: "one that falls to a lower clock after three seconds",
            pace: |now| if now < 3.0 { 1.0 } else { 1.7 },
            naive: 0.2,
            bound: 1e-9,
        },
        Case {
            what: "one that is disturbed now and then",
            pace: |now| if (now * 7.0).fract() < 0.03 { 9.0 } else { 1.0 },
            naive: 0.0,
            bound: 1e-9,
        },
    ];
    for case in cases {
        let machine = Machine::new(case.pace);
        let mut models = [machine.model("a", 0.1), machine.model("b", 0.05)];
        let found = measured(&mut models, Effort::Rounds(20), 1);
        let ratio = found.models[1].ratio.unwrap();
        let wrong = (ratio.median / 0.5 - 1.0).abs();
        assert!(wrong <= case.bound, "{}: {ratio:?}", case.what);
        let interval = ratio.interval.unwrap();
        let inside = interval.low <= ratio.median && ratio.median <= interval.high;
        assert!(inside, "{}: {ratio:?}", case.what);
        let naive = (one_after_the_other(case.pace, 60) / 0.5 - 1.0).abs();
        assert!(naive >= case.naive, "{}: {naive}", case.what);
    }
}

#[test]
fn the_first_model_has_no_ratio_and_all_have_their_own_times() {
    let machine = Machine::new(|_| 1.0);
    let mut models = [("a", 0.5), ("b", 0.25), ("c", 1.0)].map(|(name, t)| machine.model(name, t));
    let found = measured(&mut models, Effort::Rounds(3), 0);
    assert_eq!(found.rounds, 3);
    let ratios: Vec<Option<f64>> = found
        .models
        .iter()
        .map(|model| model.ratio.map(|ratio| ratio.median))
        .collect();
    assert_eq!(ratios, [None, Some(0.5), Some(2.0)]);
    for (model, seconds) in found.models.iter().zip([0.5, 0.25, 1.0]) {
        assert!((model.seconds.median - seconds).abs() < 1e-8);
        // two slots of one run in each round
        assert_eq!(model.seconds.runs, 6);
    }
    // three rounds are too few for an interval
    assert_eq!(found.models[1].ratio.unwrap().interval, None);
}

#[test]
fn rounds_are_palindromes_in_an_order_that_the_seed_decides() {
    let orders = |seed| {
        let machine = Machine::new(|_| 1.0);
        let log: Arc<Mutex<String>> = Arc::default();
        let mut models = ["a", "b", "c"].map(|name| Fake {
            log: log.clone(),
            ..machine.model(name, 1.0)
        });
        measured(&mut models, Effort::Rounds(6), seed);
        let runs = log.lock().unwrap().clone();
        // two runs of warm-up each; then two for each slot, the first of them not timed
        let slots: Vec<char> = runs.chars().skip(6).step_by(2).collect();
        let rounds = slots
            .chunks(6)
            .map(|round| round.iter().collect::<String>());
        rounds.collect::<Vec<String>>()
    };
    let found = orders(3);
    assert_eq!(found.len(), 6);
    for round in &found {
        let back: String = round.chars().rev().collect();
        assert_eq!(*round, back);
        let mut half: Vec<char> = round.chars().take(3).collect();
        half.sort_unstable();
        assert_eq!(half, ['a', 'b', 'c']);
    }
    assert!(found.iter().any(|round| *round != found[0]), "{found:?}");
    assert_eq!(found, orders(3));
    assert_ne!(found, orders(4));
}

#[test]
fn a_time_budget_is_kept_but_for_the_fewest_rounds() {
    // seconds of one run, budget, rounds
    let cases = [(1.0, 1.0, 6), (0.5, 40.0, 20), (1e-3, 1e6, 200)];
    for (seconds, budget, rounds) in cases {
        let machine = Machine::new(|_| 1.0);
        let mut models = [machine.model("a", seconds)];
        let effort = Effort::Time(Duration::from_secs_f64(budget));
        let found = measured(&mut models, effort, 0);
        // a round is four runs or, of short ones, more
        assert_eq!(found.rounds, rounds, "{seconds} s in {budget} s");
    }
}

#[test]
fn short_runs_are_repeated_within_a_slot() {
    let machine = Machine::new(|_| 1.0);
    let mut models = [machine.model("a", 0.002), machine.model("b", 1e-6)];
    let found = measured(&mut models, Effort::Rounds(2), 0);
    let runs: Vec<usize> = found
        .models
        .iter()
        .map(|model| model.seconds.runs)
        .collect();
    assert_eq!(runs, [2 * 2 * 5, 2 * 2 * MOST_RUNS]);
}

#[test]
fn errors_end_the_measurement() {
    let schedule = Schedule {
        effort: Effort::Rounds(9),
        seed: 0,
    };
    let machine = Machine::new(|_| 1.0);
    let mut models = [machine.model("a", 1.0)];
    models[0].left = 7;
    let steps = RefCell::new(Vec::new());
    let mut step = |done: f64| {
        steps.borrow_mut().push(done);
        Ok(())
    };
    let found = latency(&mut subjects(&mut models), &schedule, &machine, &mut step);
    assert!(matches!(found, Err(Error::Engine { .. })), "{found:?}");
    assert_eq!(*steps.borrow(), [1.0 / 9.0]);
    let stopped = || Error::Argument {
        name: "stop",
        what: String::new(),
    };
    models[0].left = usize::MAX;
    let found = latency(&mut subjects(&mut models), &schedule, &machine, &mut |_| {
        Err(stopped())
    });
    assert!(matches!(found, Err(Error::Argument { name: "stop", .. })));
    let nothing = latency(&mut [], &schedule, &machine, &mut |_| Ok(()));
    assert!(matches!(nothing, Err(Error::Argument { .. })));
}

#[test]
fn only_a_clearly_faster_model_is_the_fastest() {
    let ratio = |median: f64, high| {
        Some(Ratio {
            median,
            interval: Some(Interval {
                low: median - 0.01,
                high,
                confidence: CONFIDENCE,
            }),
        })
    };
    let no_interval = Some(Ratio {
        median: 0.5,
        interval: None,
    });
    let cases = [
        (vec![None], None),
        (vec![None, ratio(0.9, 1.01)], None),
        (vec![None, no_interval], None),
        (vec![None, ratio(0.9, 0.95), ratio(0.8, 0.9)], Some(2)),
        (vec![None, ratio(0.9, 0.95), ratio(0.8, 1.2)], Some(1)),
    ];
    for (ratios, expected) in cases {
        assert_eq!(
            clearly_fastest(ratios.clone().into_iter()),
            expected,
            "{ratios:?}"
        );
    }
}

#[test]
fn a_glance_takes_shorter_slots() {
    let machine = Machine::new(|_| 1.0);
    let runs = |effort| {
        let mut models = [machine.model("a", 0.001), machine.model("b", 0.001)];
        let found = measured(&mut models, effort, 0);
        found.models[0].seconds.runs / found.rounds
    };
    // two slots a round: of 2 ms and of 10 ms
    let budget = Duration::from_secs(1);
    assert_eq!(runs(Effort::Glance(budget)), 4);
    assert_eq!(runs(Effort::Time(budget)), 20);
}
