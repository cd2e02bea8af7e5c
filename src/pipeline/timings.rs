//! Where a run's time and memory went.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use serde::Serialize;

use super::{peak, watch::Watch};

/// Measures the stages of a run, and passes on what it hears.
///
/// Stages of one name count as one: a search cuts and repairs many times.
pub struct Clock<'w> {
    inner: &'w dyn Watch,
    state: Mutex<State>,
}

/// What the stages took, in the order in which they first began.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Timings {
    /// The stages; their seconds add up to the whole.
    pub stages: Vec<StageTime>,
    /// From the making of the clock to its end.
    pub seconds: f64,
    /// The largest of the stages' peaks.
    pub peak_bytes: Option<u64>,
}

/// What one stage took.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StageTime {
    /// What was done.
    pub stage: String,
    /// How often it began.
    pub times: usize,
    /// All of them together.
    pub seconds: f64,
    /// Largest resident set while it lasted, mapped pages included; nothing where the system does not tell.
    pub peak_bytes: Option<u64>,
}

struct State {
    stages: Vec<StageTime>,
    /// Which of them is under way.
    current: Option<usize>,
    begin: Instant,
}

impl<'w> Clock<'w> {
    /// Starts the clock. What happens before the first stage is counted to it.
    pub fn new(inner: &'w dyn Watch) -> Self {
        Self {
            inner,
            state: Mutex::new(State {
                stages: Vec::new(),
                current: None,
                begin: Instant::now(),
            }),
        }
    }

    /// Ends the last stage.
    pub fn finish(self) -> Timings {
        let mut state = self.lock();
        state.end();
        let stages = std::mem::take(&mut state.stages);
        Timings {
            seconds: stages.iter().map(|stage| stage.seconds).sum(),
            peak_bytes: stages.iter().filter_map(|stage| stage.peak_bytes).max(),
            stages,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn begin(&mut self, name: &str) {
        if self.current.is_some() {
            self.end();
        }
        let known = self.stages.iter().position(|stage| stage.stage == name);
        let at = known.unwrap_or_else(|| {
            self.stages.push(StageTime {
                stage: name.to_owned(),
                times: 0,
                seconds: 0.0,
                peak_bytes: None,
            });
            self.stages.len() - 1
        });
        self.stages[at].times += 1;
        self.current = Some(at);
    }

    /// Counts the time since the last end to the current stage.
    fn end(&mut self) {
        let now = Instant::now();
        if let Some(stage) = self.current.take().and_then(|at| self.stages.get_mut(at)) {
            stage.seconds += now.duration_since(self.begin).as_secs_f64();
            stage.peak_bytes = stage.peak_bytes.max(peak::so_far());
        }
        peak::forget();
        self.begin = now;
    }
}

impl Watch for Clock<'_> {
    fn stage(&self, name: &str, total: Option<u64>) {
        self.lock().begin(name);
        self.inner.stage(name, total);
    }

    fn step(&self, steps: u64) {
        self.inner.step(steps);
    }

    fn status(&self, text: &str) {
        self.inner.status(text);
    }

    fn note(&self, text: &str) {
        self.inner.note(text);
    }

    fn cancelled(&self) -> bool {
        self.inner.cancelled()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::Silent;

    #[test]
    fn stages_of_one_name_count_as_one_and_add_up_to_the_whole() {
        let clock = Clock::new(&Silent);
        for name in ["loading", "rewriting", "repairing", "rewriting"] {
            clock.stage(name, None);
        }
        let found = clock.finish();
        let stages = found.stages.iter();
        let seen: Vec<_> = stages.map(|s| (s.stage.as_str(), s.times)).collect();
        assert_eq!(seen, [("loading", 1), ("rewriting", 2), ("repairing", 1)]);
        let sum: f64 = found.stages.iter().map(|stage| stage.seconds).sum();
        assert_eq!(found.seconds, sum);
        assert!(found.stages.iter().all(|stage| stage.seconds >= 0.0));
    }

    #[test]
    fn a_run_without_stages_took_no_time() {
        let found = Clock::new(&Silent).finish();
        assert_eq!((found.stages, found.seconds), (vec![], 0.0));
    }
}
