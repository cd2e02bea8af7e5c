//! Whether the smaller model is the faster one, measured before it is put in place.
//!
//! Fewer neurons are less arithmetic, but a selection in front of them is one operator more, and
//! kernels like some widths better than others: only a measurement tells.

use std::time::Duration;

use serde::Serialize;

use super::{draft::Workshop, form::Form, proof::Verify, rounds, watch::Watch};
use crate::{
    engine::EngineInfo,
    error::Result,
    eval::{Effort, Ratio},
    onnx::ModelProto,
};

/// Time for a first impression: six rounds of a model of some milliseconds.
const GLANCE: Duration = Duration::from_millis(300);

/// Longest run of the original that is still timed unasked: the fewest rounds are about 50 runs.
const CHEAP: Duration = Duration::from_millis(200);

/// Time for a measurement that decides whether the output is written.
const REQUIRED: Duration = Duration::from_secs(3);

/// What is asked of the output's speed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Speed {
    /// It is measured where that is cheap and the result is proved anyway, and told.
    #[default]
    Told,
    /// It is measured, and an output that is not faster is not written.
    Required,
}

/// The output's time beside the original's.
#[derive(Clone, Debug, Serialize)]
pub struct SpeedReport {
    /// What ran them.
    pub engine: EngineInfo,
    /// Samples per run.
    pub batch: usize,
    /// Rounds that were run.
    pub rounds: usize,
    /// Sessions of each model that they were run in.
    pub sessions: usize,
    /// Median seconds of one run of the original.
    pub before: f64,
    /// The same of the output.
    pub after: f64,
    /// The output's time divided by the original's.
    pub ratio: Ratio,
    /// Whether the whole interval of the ratio lies below 1.
    pub faster: bool,
    /// Whether the whole interval of the ratio lies above 1.
    pub slower: bool,
    /// Whether the output is written only if it is faster.
    pub required: bool,
}

impl SpeedReport {
    /// Whether nothing stands in the way of writing the output.
    pub(super) fn allows_output(&self) -> bool {
        self.faster || !self.required
    }
}

impl Speed {
    /// Whether anything is to be measured, which takes an engine.
    pub(super) fn is_wanted(self, verify: Verify) -> bool {
        self == Self::Required || verify != Verify::Skip
    }
}

/// Measures `smaller`, which is of the wanted `form`, against the original; nothing where nobody asked
/// and it would take long.
///
/// # Errors
/// Those of loading and running the models.
pub(super) fn measure(
    workshop: &Workshop<'_>,
    smaller: &ModelProto,
    (wanted, form): (Speed, Form),
    watch: &dyn Watch,
) -> Result<Option<SpeedReport>> {
    let setup = workshop.setup;
    let required = wanted == Speed::Required;
    watch.stage("loading both models", None);
    let input = rounds::input(setup)?;
    let mut loaded = rounds::load(setup, &[setup.graph.model()], &input)?;
    let effort = match wanted {
        Speed::Required => Effort::Time(REQUIRED),
        Speed::Told => Effort::Glance(GLANCE),
    };
    if !required && loaded[0].run_seconds()? > CHEAP.as_secs_f64() {
        watch.note(
            "the result is not timed, since that would take long; `onnx-prune bench IN OUT` does",
        );
        return Ok(None);
    }
    loaded.extend(rounds::load(setup, &[smaller], &input)?);
    let how = (effort, setup.options.seed);
    let found = rounds::rounds(&mut loaded, how, "timing both models", watch)?;
    let [before, after] = found.models.as_slice() else {
        return Ok(None);
    };
    let Some(ratio) = after.ratio else {
        return Ok(None);
    };
    let report = SpeedReport {
        engine: setup.engine().info().clone(),
        batch: setup.input.fixed_batch().unwrap_or(1),
        rounds: found.rounds,
        sessions: found.sessions,
        before: before.seconds.median,
        after: after.seconds.median,
        ratio,
        faster: ratio.is_faster(),
        slower: ratio.is_slower(),
        required,
    };
    if report.slower && form == Form::Smallest {
        watch.note("the result is measured to be slower than the original; --form fastest looks for a form that is not");
    }
    Ok(Some(report))
}
