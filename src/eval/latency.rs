//! How long models take, measured against each other so that drift cancels.
//!
//! A machine is never equally fast twice: it heats up, other work comes and goes. So models are not
//! timed one after the other but in rounds. In each round every model has two *slots*, in a random
//! order and then in the same order backwards (A C B B C A): all models are, on average, at the
//! same place in the round, and what gets slower or faster evenly cancels. A slot begins with one
//! run that is not timed, so that each model finds the caches as it would leave them by itself.
//!
//! ```text
//! slot  = median of its timed runs        time of a model in a round = mean of its two slots
//! ratio = median over the rounds of (time of the model / time of the first model)
//! ```
//!
//! The interval of the ratio is the exact one of a median ([`median_interval`]): it assumes that
//! rounds are independent, and no distribution. The median, percentile and deviation of a model are
//! those of all its timed runs. Times include handing inputs over and copying outputs out.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::statistics::{FEWEST, Interval, Summary, median, median_interval};
use crate::{
    data,
    engine::Session,
    error::{Error, Result},
    onnx::Tensor,
};

/// Warm-up goes on at least this long and for at least [`WARM_RUNS`]: after that, threads are
/// started, memory is mapped, and clocks have risen.
const WARM_UP: Duration = Duration::from_millis(100);
const WARM_RUNS: usize = 2;

/// Timed runs of a slot take at least this long together, so that a head of some microseconds is
/// not measured with the clock's own error.
const SLOT: Duration = Duration::from_millis(10);
const MOST_RUNS: usize = 100;

/// A first impression has slots and a warm-up of this part of those lengths.
const GLANCE: f64 = 0.2;

/// Most rounds within a time budget; the interval of the ratio narrows no further in practice.
const MOST_ROUNDS: usize = 200;

/// Tells the time; replaced in tests.
pub trait Clock {
    /// Time since some fixed moment.
    fn now(&self) -> Duration;
}

/// The clock of this machine.
#[derive(Clone, Copy, Debug)]
pub struct WallClock(Instant);

impl WallClock {
    /// A clock that begins now.
    pub fn start() -> Self {
        Self(Instant::now())
    }
}

impl Clock for WallClock {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

/// A loaded model, and what it is run on.
pub struct Subject<'a> {
    /// The model.
    pub session: &'a mut dyn Session,
    /// Its inputs, by name.
    pub inputs: Vec<(&'a str, &'a Tensor)>,
}

/// How much is measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Effort {
    /// So many rounds.
    Rounds(usize),
    /// As many rounds as fit, from 6 to 200.
    Time(Duration),
    /// The same with shorter slots and warm-up: a first impression, with a wider interval.
    Glance(Duration),
}

impl Effort {
    fn slot(self) -> Duration {
        SLOT.mul_f64(self.scale())
    }

    fn warm_up(self) -> Duration {
        WARM_UP.mul_f64(self.scale())
    }

    fn scale(self) -> f64 {
        match self {
            Self::Rounds(_) | Self::Time(_) => 1.0,
            Self::Glance(_) => GLANCE,
        }
    }
}

/// How a measurement is done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// How much is measured.
    pub effort: Effort,
    /// Seed of the order in each round.
    pub seed: u64,
}

/// The times of several models.
#[derive(Clone, Debug, PartialEq)]
pub struct Latencies {
    /// Rounds that were run.
    pub rounds: usize,
    /// One entry per model, in their order.
    pub models: Vec<Latency>,
}

/// The times of one model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Latency {
    /// All timed runs, in seconds.
    pub seconds: Summary,
    /// Its time divided by that of the first model; nothing for the first.
    pub ratio: Option<Ratio>,
}

/// A model's time divided by the first model's, round by round.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Ratio {
    /// The median over the rounds.
    pub median: f64,
    /// Where the median lies; nothing with fewer than 6 rounds.
    pub interval: Option<Interval>,
}

impl Ratio {
    /// Whether the whole interval lies below 1.
    pub fn is_faster(&self) -> bool {
        self.interval.is_some_and(|interval| interval.high < 1.0)
    }

    /// Whether the whole interval lies above 1.
    pub fn is_slower(&self) -> bool {
        self.interval.is_some_and(|interval| interval.low > 1.0)
    }
}

/// The place of the smallest ratio among those that are clearly below 1; nothing where none is.
pub fn clearly_fastest(ratios: impl Iterator<Item = Option<Ratio>>) -> Option<usize> {
    let faster = ratios.enumerate().filter_map(|(place, ratio)| {
        let ratio = ratio.filter(Ratio::is_faster)?;
        Some((place, ratio.median))
    });
    let best = faster.min_by(|(_, a), (_, b)| a.total_cmp(b));
    best.map(|(place, _)| place)
}

/// Measures models in interleaved rounds.
///
/// `step` is called after each round with the share that is done, in 0..=1; its error ends the
/// measurement.
///
/// # Errors
/// [`Error::Engine`] when a model fails; [`Error::Argument`] without models or rounds; what `step`
/// gives.
pub fn latency(
    subjects: &mut [Subject<'_>],
    schedule: &Schedule,
    clock: &dyn Clock,
    step: &mut dyn FnMut(f64) -> Result<()>,
) -> Result<Latencies> {
    if subjects.is_empty() || schedule.effort == Effort::Rounds(0) {
        return Err(Error::Argument {
            name: "--rounds",
            what: "there is nothing to measure".to_owned(),
        });
    }
    let mut models = Vec::new();
    for subject in subjects {
        let repeats = warm_up(subject, schedule.effort, clock)?;
        models.push(Measured {
            subject,
            repeats,
            runs: Vec::new(),
            rounds: Vec::new(),
        });
    }
    let begin = clock.now();
    for round in 0_u64.. {
        let mut order = data::shuffled(models.len(), schedule.seed.wrapping_add(round));
        order.extend_from_within(..);
        order[models.len()..].reverse();
        for &index in &order {
            models[index].slot(clock)?;
        }
        let done = progress(
            schedule.effort,
            round + 1,
            clock.now().saturating_sub(begin),
        );
        step(done.min(1.0))?;
        if done >= 1.0 {
            break;
        }
    }
    Ok(summed_up(&models))
}

/// Runs a model until it is warm, and says how many runs make a slot.
fn warm_up(subject: &mut Subject<'_>, effort: Effort, clock: &dyn Clock) -> Result<usize> {
    let begin = clock.now();
    let mut runs = Vec::new();
    while runs.len() < WARM_RUNS
        || (clock.now() - begin < effort.warm_up() && runs.len() < MOST_RUNS)
    {
        runs.push(timed(subject, clock)?);
    }
    let one = median(&runs).unwrap_or_default();
    // A clock that stood still gives infinity, which the cast takes to the largest number.
    let repeats = (effort.slot().as_secs_f64() / one).ceil() as usize;
    Ok(repeats.clamp(1, MOST_RUNS))
}

/// Seconds of one run.
fn timed(subject: &mut Subject<'_>, clock: &dyn Clock) -> Result<f64> {
    let begin = clock.now();
    let outputs = subject.session.run(&subject.inputs)?;
    let end = clock.now();
    drop(outputs);
    Ok(end.saturating_sub(begin).as_secs_f64())
}

/// The share of the work that is done after so many rounds in so much time.
fn progress(effort: Effort, rounds: u64, spent: Duration) -> f64 {
    match effort {
        Effort::Rounds(wanted) => rounds as f64 / wanted as f64,
        Effort::Time(budget) | Effort::Glance(budget) => {
            let rounds = rounds as usize;
            let another = spent.mul_f64((rounds + 1) as f64 / rounds as f64);
            if rounds >= FEWEST && (another > budget || rounds >= MOST_ROUNDS) {
                return 1.0;
            }
            let of_time = spent.as_secs_f64() / budget.as_secs_f64();
            of_time.max(rounds as f64 / MOST_ROUNDS as f64).min(0.99)
        }
    }
}

struct Measured<'s, 'a> {
    subject: &'s mut Subject<'a>,
    /// Timed runs of a slot.
    repeats: usize,
    /// Seconds of every timed run.
    runs: Vec<f64>,
    /// The median of every slot, two for each round.
    rounds: Vec<f64>,
}

impl Measured<'_, '_> {
    fn slot(&mut self, clock: &dyn Clock) -> Result<()> {
        self.subject.session.run(&self.subject.inputs)?;
        let first = self.runs.len();
        for _ in 0..self.repeats {
            self.runs.push(timed(self.subject, clock)?);
        }
        self.rounds.extend(median(&self.runs[first..]));
        Ok(())
    }

    /// Seconds of a run in each round.
    fn times(&self) -> impl Iterator<Item = f64> {
        self.rounds
            .chunks(2)
            .map(|pair| pair.iter().sum::<f64>() / pair.len() as f64)
    }
}

fn summed_up(models: &[Measured<'_, '_>]) -> Latencies {
    let first: Vec<f64> = models[0].times().collect();
    let one = |index: usize, model: &Measured<'_, '_>| {
        let ratios: Vec<f64> = model
            .times()
            .zip(&first)
            .map(|(time, first)| time / first)
            .collect();
        let ratio = median(&ratios).map(|median| Ratio {
            median,
            interval: median_interval(&ratios),
        });
        Some(Latency {
            seconds: Summary::of(&model.runs)?,
            ratio: ratio.filter(|_| index > 0),
        })
    };
    let models = models.iter().enumerate();
    Latencies {
        rounds: first.len(),
        models: models
            .filter_map(|(index, model)| one(index, model))
            .collect(),
    }
}

#[cfg(test)]
mod tests;
