use std::{
    cell::RefCell,
    sync::{Arc, Mutex},
};

use super::*;
use crate::eval::{CONFIDENCE, FEWEST};

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
            load: 0.0,
            luck: |_| 1.0,
            session: 0,
            sessions: Arc::default(),
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
    /// Seconds of loading.
    load: f64,
    /// How many times slower each session is for as long as it lives.
    luck: fn(usize) -> f64,
    /// The one it has.
    session: usize,
    /// Sessions of all models so far.
    sessions: Arc<Mutex<usize>>,
}

impl Subject for Fake {
    fn unload(&mut self) {}

    fn load(&mut self) -> Result<()> {
        *self.machine.now.lock().unwrap() += self.load;
        let mut sessions = self.sessions.lock().unwrap();
        *sessions += 1;
        self.seconds *= (self.luck)(*sessions) / (self.luck)(self.session);
        self.session = *sessions;
        Ok(())
    }

    fn load_seconds(&self) -> f64 {
        self.load
    }

    fn run(&mut self) -> Result<Vec<Tensor>> {
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
    latency(models, &schedule, &machine, &mut |_| Ok(())).unwrap()
}

/// Each model by itself, one after the other: what the rounds are there to avoid.
fn one_after_the_other(pace: fn(f64) -> f64, runs: usize) -> f64 {
    let machine = Machine::new(pace);
    let mut models = [machine.model("a", 0.1), machine.model("b", 0.05)];
    let mut medians = Vec::new();
    for subject in &mut models {
        let times: Vec<f64> = (0..runs)
            .map(|_| timed(subject, &machine).unwrap())
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
        measured(&mut models, Effort::Rounds(5), seed);
        let runs = log.lock().unwrap().clone();
        // two runs of warm-up each; then two for each slot, the first of them not timed
        let slots: Vec<char> = runs.chars().skip(6).step_by(2).collect();
        let rounds = slots
            .chunks(6)
            .map(|round| round.iter().collect::<String>());
        rounds.collect::<Vec<String>>()
    };
    let found = orders(3);
    assert_eq!(found.len(), 5);
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
    // seconds of one run, of loading, budget, rounds, sessions
    let cases = [
        (1.0, 0.0, 1.0, 6, 1),
        (1.0, 9.0, 54.0, 13, 1),
        (1.0, 2.0, 61.0, 8, 8),
        (0.5, 0.0, 40.0, 13, 13),
        (1e-3, 0.0, 1e6, 200, 200),
    ];
    for (seconds, load, budget, rounds, sessions) in cases {
        let machine = Machine::new(|_| 1.0);
        let mut models = [machine.model("a", seconds)];
        models[0].load = load;
        let effort = Effort::Time(Duration::from_secs_f64(budget));
        let found = measured(&mut models, effort, 0);
        // A round is four runs or, of short ones, more; two more warm a new session up.
        let expected = (rounds, sessions);
        let what = format!("{seconds} s, loaded in {load} s, in {budget} s");
        assert_eq!((found.rounds, found.sessions), expected, "{what}");
    }
}

#[test]
fn a_session_that_lies_badly_does_not_decide() {
    // Three sessions of eight are a fifth slower: the first pair happens to be one of each.
    let luck: fn(usize) -> f64 = |session| match (session * 5) % 8 {
        0..3 => 1.2,
        _ => 1.0,
    };
    let compared = |load: f64| {
        let machine = Machine::new(|_| 1.0);
        let sessions: Arc<Mutex<usize>> = Arc::default();
        let mut models = ["a", "b"].map(|name| Fake {
            load,
            luck,
            sessions: sessions.clone(),
            ..machine.model(name, 1e-3)
        });
        for model in &mut models {
            model.load().unwrap();
        }
        let effort = Effort::Time(Duration::from_secs(6));
        let found = measured(&mut models, effort, 0);
        (found.sessions, found.models[1].ratio.unwrap())
    };
    let (sessions, ratio) = compared(0.01);
    assert!(sessions >= FEWEST, "{sessions}");
    assert!(!ratio.is_faster() && !ratio.is_slower(), "{ratio:?}");
    // Where loading takes too long there is one pair, and its luck is taken for the models' speed.
    let (sessions, ratio) = compared(2.0);
    assert_eq!(sessions, 1);
    assert!(ratio.is_faster() || ratio.is_slower(), "{ratio:?}");
}

#[test]
fn every_second_sitting_loads_backwards() {
    for seed in 0..8 {
        for pair in 0..8 {
            let order = |sitting| order_of_loading(3, seed, sitting);
            let mut back = order(2 * pair + 1);
            back.reverse();
            assert_eq!(order(2 * pair), back);
        }
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
    let found = latency(&mut models, &schedule, &machine, &mut step);
    assert!(matches!(found, Err(Error::Engine { .. })), "{found:?}");
    assert_eq!(*steps.borrow(), [1.0 / 9.0]);
    let stopped = || Error::Argument {
        name: "stop",
        what: String::new(),
    };
    models[0].left = usize::MAX;
    let found = latency(&mut models, &schedule, &machine, &mut |_| Err(stopped()));
    assert!(matches!(found, Err(Error::Argument { name: "stop", .. })));
    let nothing = latency::<Fake>(&mut [], &schedule, &machine, &mut |_| Ok(()));
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
