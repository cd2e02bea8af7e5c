//! How long models take, measured against each other so that drift cancels.
//!
//! A machine is never equally fast twice: it heats up, other work comes and goes. So models are not
//! timed one after the other but in rounds. In each round every model has two *slots*, in a random
//! order and then in the same order backwards (A C B B C A): all models are, on average, at the
//! same place in the round, and what gets slower or faster evenly cancels. A slot begins with one
//! run that is not timed, so that each model finds the caches as it would leave them by itself.
//!
//! ```text
//! slot    = median of its timed runs      time of a model in a round = mean of its two slots
//! sitting = rounds in the same sessions   ratio of a round = time of the model / of the first model
//! ratio   = median over the sittings of (median over the rounds of the sitting)
//! ```
//!
//! Nor is a session ever equally fast twice: where its weights and threads happen to lie makes a
//! small model up to a fifth faster or slower, for as long as the session lives. Rounds in one pair
//! of sessions would repeat that error and call it certain. So every sitting begins with new sessions
//! of all models, loaded in a random order, and in the next sitting in the same order backwards.
//!
//! The interval of the ratio is the exact one of a median ([`median_interval`]): it assumes that
//! sittings are independent, and no distribution. Where models take too long to load for six
//! sittings, there is one, and its rounds take their place ([`Sittings`]). The median, percentile
//! and deviation of a model are those of all its timed runs. Times include handing inputs over and
//! copying outputs out.

mod sittings;

use std::time::{Duration, Instant};

use serde::Serialize;

use self::sittings::Sittings;
use super::statistics::{Interval, Summary, median, median_interval};
use crate::{
    data,
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

/// A new session in the same process is warmed up for this part of a slot: threads have to start and
/// memory to be mapped again, but the clocks have risen.
const WARM_AGAIN: f64 = 0.5;

/// A first impression has slots and a warm-up of this part of those lengths.
const GLANCE: f64 = 0.2;

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

/// A model that can be run, in one session after the other.
pub trait Subject {
    /// Runs it once.
    ///
    /// # Errors
    /// Those of the engine.
    fn run(&mut self) -> Result<Vec<Tensor>>;

    /// Gives up its session.
    fn unload(&mut self);

    /// Has a new session, which has run once.
    ///
    /// # Errors
    /// Those of the engine.
    fn load(&mut self) -> Result<()>;

    /// Seconds that loading took.
    fn load_seconds(&self) -> f64;
}

/// How much is measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Effort {
    /// So many rounds.
    Rounds(usize),
    /// As many rounds as fit, at least 6; at most 200 sittings.
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
    /// Sessions of each model that they were run in; with one, where it lies may show in the ratio.
    pub sessions: usize,
    /// One entry per model, in their order.
    pub models: Vec<Latency>,
    /// Seconds of a run of each model, round by round.
    times: Vec<Vec<f64>>,
    sittings: Sittings,
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
    /// The median over the sittings, or over the rounds of the only one.
    pub median: f64,
    /// Where the median lies; nothing with fewer than 6 of these.
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
pub fn latency<S: Subject>(
    subjects: &mut [S],
    schedule: &Schedule,
    clock: &dyn Clock,
    step: &mut dyn FnMut(f64) -> Result<()>,
) -> Result<Latencies> {
    let Schedule { effort, seed } = *schedule;
    if subjects.is_empty() || effort == Effort::Rounds(0) {
        return Err(Error::Argument {
            name: "--rounds",
            what: "there is nothing to measure".to_owned(),
        });
    }
    let mut models = Vec::new();
    for subject in subjects {
        let one = warm_up(subject, effort.warm_up(), clock)?;
        models.push(Measured::new(subject, one, effort));
    }
    let load = models.iter().map(|model| model.subject.load_seconds());
    let load = load.sum();
    let begin = clock.now();
    let mut sittings = None;
    for round in 0_usize.. {
        for index in there_and_back(models.len(), seed.wrapping_add(round as u64)) {
            models[index].slot(clock)?;
        }
        let spent = clock.now().saturating_sub(begin);
        let sittings: &Sittings =
            sittings.get_or_insert_with(|| Sittings::new(effort, load, spent.as_secs_f64()));
        let done = sittings.done(effort, round + 1, spent);
        step(done.min(1.0))?;
        if done >= 1.0 {
            break;
        }
        if let Some(sitting) = sittings.begins_with(round + 1) {
            let order = order_of_loading(models.len(), seed, sitting);
            renew(
                &mut models,
                &order,
                effort.slot().mul_f64(WARM_AGAIN),
                clock,
            )?;
        }
    }
    Ok(Latencies::new(&models, sittings.unwrap_or_default()))
}

/// All places in a random order, and the same backwards.
fn there_and_back(count: usize, seed: u64) -> Vec<usize> {
    let mut order = data::shuffled(count, seed);
    order.extend_from_within(..);
    order[count..].reverse();
    order
}

/// A random order, in the sitting after it the same backwards: what is loaded first may always lie
/// in the better place.
fn order_of_loading(count: usize, seed: u64, sitting: usize) -> Vec<usize> {
    let mut order = data::shuffled(count, !seed.wrapping_add(sitting as u64 / 2));
    if sitting % 2 == 1 {
        order.reverse();
    }
    order
}

/// New sessions for all models, none of which is there while others are loaded.
fn renew<S: Subject>(
    models: &mut [Measured<'_, S>],
    order: &[usize],
    warm_for: Duration,
    clock: &dyn Clock,
) -> Result<()> {
    models.iter_mut().for_each(|model| model.subject.unload());
    for &index in order {
        models[index].subject.load()?;
    }
    for &index in order {
        warm_up(models[index].subject, warm_for, clock)?;
    }
    Ok(())
}

/// Runs a model until it is warm, and says how many seconds a run takes.
fn warm_up<S: Subject>(subject: &mut S, length: Duration, clock: &dyn Clock) -> Result<f64> {
    let begin = clock.now();
    let mut runs = Vec::new();
    while runs.len() < WARM_RUNS || (clock.now() - begin < length && runs.len() < MOST_RUNS) {
        runs.push(timed(subject, clock)?);
    }
    Ok(median(&runs).unwrap_or_default())
}

/// Seconds of one run.
fn timed<S: Subject>(subject: &mut S, clock: &dyn Clock) -> Result<f64> {
    let begin = clock.now();
    let outputs = subject.run()?;
    let end = clock.now();
    drop(outputs);
    Ok(end.saturating_sub(begin).as_secs_f64())
}

struct Measured<'s, S> {
    subject: &'s mut S,
    /// Timed runs of a slot.
    repeats: usize,
    /// Seconds of every timed run.
    runs: Vec<f64>,
    /// The median of every slot, two for each round.
    rounds: Vec<f64>,
}

impl<'s, S: Subject> Measured<'s, S> {
    /// A model of which one run takes so many seconds.
    fn new(subject: &'s mut S, one: f64, effort: Effort) -> Self {
        // A clock that stood still gives infinity, which the cast takes to the largest number.
        let repeats = (effort.slot().as_secs_f64() / one).ceil() as usize;
        Self {
            subject,
            repeats: repeats.clamp(1, MOST_RUNS),
            runs: Vec::new(),
            rounds: Vec::new(),
        }
    }

    fn slot(&mut self, clock: &dyn Clock) -> Result<()> {
        self.subject.run()?;
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

impl Latencies {
    fn new<S: Subject>(models: &[Measured<'_, S>], sittings: Sittings) -> Self {
        let mut found = Self {
            rounds: models[0].times().count(),
            sessions: 0,
            models: Vec::new(),
            times: models.iter().map(|model| model.times().collect()).collect(),
            sittings,
        };
        found.sessions = sittings.sessions(found.rounds);
        let one = |(index, model): (usize, &Measured<'_, S>)| {
            let ratio = found.ratio(index, 0).filter(|_| index > 0);
            let seconds = Summary::of(&model.runs)?;
            Some(Latency { seconds, ratio })
        };
        found.models = models.iter().enumerate().filter_map(one).collect();
        found
    }

    /// The time of one model divided by that of another.
    pub fn ratio(&self, model: usize, base: usize) -> Option<Ratio> {
        let times = self.times.get(model)?.iter().zip(self.times.get(base)?);
        let ratios: Vec<f64> = times.map(|(time, base)| time / base).collect();
        let ratios = self.sittings.medians(&ratios);
        Some(Ratio {
            median: median(&ratios)?,
            interval: median_interval(&ratios),
        })
    }
}

#[cfg(test)]
mod tests;
