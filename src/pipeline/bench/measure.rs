//! One measurement after the other: loads the models, runs them in rounds, looks at memory.

use std::path::Path;

use super::{BenchOptions, Measured, Measurement, memory};
use crate::{
    engine::{EngineChoice, Selected},
    error::Result,
    eval::{self, Schedule, Scope, WallClock},
    onnx::{Model, Tensor},
    pipeline::{
        loaded::Loaded,
        section::Section,
        setup::{self, Setup},
        watch::Watch,
    },
};

/// Steps of a measurement's progress.
const STEPS: u64 = 100;

/// One runtime, number of threads and batch.
pub(super) struct Bench<'b> {
    pub(super) options: &'b BenchOptions,
    pub(super) setups: &'b [Setup<'b>],
    pub(super) selected: &'b Selected,
    pub(super) runtime: EngineChoice,
    pub(super) batch: usize,
    pub(super) watch: &'b dyn Watch,
}

impl Bench<'_> {
    pub(super) fn whole(&self, models: &[Model]) -> Result<Measurement> {
        self.stage("loading whole models", None);
        let inputs = self.inputs()?;
        let mut loaded = Vec::new();
        for ((setup, model), input) in self.setups.iter().zip(models).zip(inputs) {
            let named = vec![(setup.input.name.clone(), input)];
            loaded.push(Loaded::new(&*self.selected.engine, &model.proto, named)?);
        }
        let mut measurement = self.measure(Scope::Whole, loaded)?;
        self.stage("looking at memory", None);
        for measured in &mut measurement.models {
            measured.peak_bytes = self.peak(&measured.path)?;
        }
        Ok(measurement)
    }

    pub(super) fn heads(&self, heads: &[Section]) -> Result<Measurement> {
        self.stage("loading heads", None);
        let inputs = self.inputs()?;
        let mut loaded = Vec::new();
        for ((setup, head), input) in self.setups.iter().zip(heads).zip(inputs) {
            let features = head.feed(setup, &setup.shapes, input)?;
            loaded.push(Loaded::new(&*self.selected.engine, &head.model, features)?);
        }
        self.measure(Scope::Head, loaded)
    }

    /// The same samples in the form that each model takes.
    fn inputs(&self) -> Result<Vec<Tensor>> {
        let dataset = &self.setups[0].dataset;
        let indices: Vec<usize> = (0..self.batch).map(|row| row % dataset.len()).collect();
        let batch = dataset.read(&indices)?;
        let setups = self.setups.iter();
        setups
            .map(|setup| Ok(setup.input.samples(batch.clone())?.input))
            .collect()
    }

    fn measure(&self, scope: Scope, mut loaded: Vec<Loaded>) -> Result<Measurement> {
        let what = match scope {
            Scope::Whole => "measuring whole models",
            Scope::Head => "measuring heads",
        };
        self.stage(what, Some(STEPS));
        let schedule = Schedule {
            effort: self.options.effort,
            seed: self.options.source.seed,
        };
        let mut shown = 0;
        let mut step = |done: f64| {
            let steps = (done * STEPS as f64) as u64;
            self.watch.step(steps.saturating_sub(shown));
            shown = steps.max(shown);
            match self.watch.cancelled() {
                true => Err(setup::cancelled()),
                false => Ok(()),
            }
        };
        let mut subjects: Vec<_> = loaded.iter_mut().map(Loaded::subject).collect();
        let found = eval::latency(&mut subjects, &schedule, &WallClock::start(), &mut step)?;
        let models = self.options.models.iter().zip(&loaded).zip(found.models);
        Ok(Measurement {
            scope,
            engine: self.selected.engine.info().clone(),
            batch: self.batch,
            rounds: found.rounds,
            models: models
                .map(|((path, loaded), latency)| Measured {
                    path: path.clone(),
                    load_seconds: loaded.load_seconds,
                    first_run_seconds: loaded.first_run_seconds,
                    peak_bytes: None,
                    note: loaded.note(),
                    latency,
                })
                .collect(),
        })
    }

    fn peak(&self, path: &Path) -> Result<Option<u64>> {
        let Some(program) = &self.options.program else {
            return Ok(None);
        };
        memory::of_process(
            program,
            path,
            self.runtime,
            self.selected.engine.info(),
            self.batch,
        )
    }

    fn stage(&self, what: &str, steps: Option<u64>) {
        let info = self.selected.engine.info();
        self.watch
            .stage(&format!("{what}, batch {}, {info}", self.batch), steps);
    }
}
