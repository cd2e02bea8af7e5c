//! Loaded models measured against each other, with the progress of it.

use std::time::Duration;

use super::{
    loaded::Loaded,
    setup::{self, Setup},
    watch::Watch,
};
use crate::{
    engine::Engine,
    error::Result,
    eval::{self, Effort, Latencies, Latency, Schedule, WallClock},
    onnx::{ModelProto, Tensor},
};

/// Steps of the progress.
const STEPS: u64 = 100;

/// Measures models in the same rounds; `what` is the stage that is shown.
///
/// # Errors
/// Those of running the models.
pub(super) fn rounds(
    loaded: &mut [Loaded<'_>],
    (effort, seed): (Effort, u64),
    what: &str,
    watch: &dyn Watch,
) -> Result<Latencies> {
    watch.stage(what, Some(STEPS));
    let mut shown = 0;
    let mut step = |done: f64| {
        let steps = (done * STEPS as f64) as u64;
        watch.step(steps.saturating_sub(shown));
        shown = steps.max(shown);
        setup::still_wanted(watch)
    };
    let schedule = Schedule { effort, seed };
    eval::latency(loaded, &schedule, &WallClock::start(), &mut step)
}

/// Loads versions of one model in the run's engine, all to be run on the same samples.
///
/// # Errors
/// Those of loading, and of the first run.
pub(super) fn load<'m>(
    setup: &'m Setup<'_>,
    models: &[&'m ModelProto],
    input: &Tensor,
) -> Result<Vec<Loaded<'m>>> {
    load_in(setup.engine(), setup, models, input)
}

/// [`load`], in another engine.
///
/// # Errors
/// Those of [`load`].
pub(super) fn load_in<'m>(
    engine: &'m dyn Engine,
    setup: &Setup<'_>,
    models: &[&'m ModelProto],
    input: &Tensor,
) -> Result<Vec<Loaded<'m>>> {
    let models = models.iter().map(|model| {
        let named = vec![(setup.input.name.clone(), input.clone())];
        Loaded::new(engine, model, named)
    });
    models.collect()
}

/// Times versions of one model, in the run's engine, on the first samples; the first version is what
/// the others are compared with.
///
/// # Errors
/// Those of loading and running the models.
pub(super) fn compare(
    setup: &Setup<'_>,
    models: &[&ModelProto],
    time: Duration,
    what: &str,
    watch: &dyn Watch,
) -> Result<Vec<Latency>> {
    let mut loaded = load(setup, models, &input(setup)?)?;
    let how = (Effort::Time(time), setup.options.seed);
    Ok(rounds(&mut loaded, how, what, watch)?.models)
}

/// The first samples of the data, as many as the model takes in one run: one, or its fixed number.
///
/// # Errors
/// Those of reading them.
pub(super) fn input(setup: &Setup<'_>) -> Result<Tensor> {
    batch(setup, setup.input.fixed_batch().unwrap_or(1))
}

/// The first samples of the data, over again where there are fewer.
///
/// # Errors
/// Those of reading them.
pub(super) fn batch(setup: &Setup<'_>, count: usize) -> Result<Tensor> {
    let indices: Vec<usize> = (0..count).map(|row| row % setup.dataset.len()).collect();
    Ok(setup.input.samples(setup.dataset.read(&indices)?)?.input)
}
