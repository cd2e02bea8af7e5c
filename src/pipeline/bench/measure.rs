//! One measurement after the other: loads the models, runs them in rounds, looks at memory.

use std::path::Path;

use super::{BenchOptions, Measured, Measurement, memory};
use crate::{
    engine::{EngineChoice, Selected},
    error::Result,
    eval::Scope,
    onnx::{Model, Tensor},
    pipeline::{loaded::Loaded, rounds, section::Section, setup::Setup, watch::Watch},
};

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
        self.stage("loading whole models");
        let inputs = self.inputs()?;
        let mut loaded = Vec::new();
        for ((setup, model), input) in self.setups.iter().zip(models).zip(inputs) {
            let named = vec![(setup.input.name.clone(), input)];
            loaded.push(Loaded::new(&*self.selected.engine, &model.proto, named)?);
        }
        let mut measurement = self.measure(Scope::Whole, loaded)?;
        self.stage("looking at memory");
        for measured in &mut measurement.models {
            measured.peak_bytes = self.peak(&measured.path)?;
        }
        Ok(measurement)
    }

    pub(super) fn heads(&self, heads: &[Section]) -> Result<Measurement> {
        self.stage("loading heads");
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

    fn measure(&self, scope: Scope, mut loaded: Vec<Loaded<'_>>) -> Result<Measurement> {
        let what = match scope {
            Scope::Whole => "measuring whole models",
            Scope::Head => "measuring heads",
        };
        let how = (self.options.effort, self.options.source.seed);
        let found = rounds::rounds(&mut loaded, how, &self.staged(what), self.watch)?;
        let models = self.options.models.iter().zip(&loaded).zip(found.models);
        Ok(Measurement {
            scope,
            engine: self.selected.engine.info().clone(),
            batch: self.batch,
            rounds: found.rounds,
            sessions: found.sessions,
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

    fn stage(&self, what: &str) {
        self.watch.stage(&self.staged(what), None);
    }

    fn staged(&self, what: &str) -> String {
        let info = self.selected.engine.info();
        format!("{what}, batch {}, {info}", self.batch)
    }
}
