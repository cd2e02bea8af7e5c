//! Models loaded in an engine, with what they are run on.

use std::time::Instant;

use crate::{
    engine::{Engine, Session},
    error::Result,
    eval::Subject,
    onnx::{ModelProto, Tensor},
};

/// A loaded model that has run once.
pub(super) struct Loaded {
    session: Box<dyn Session>,
    inputs: Vec<(String, Tensor)>,
    /// Seconds until the engine had the model ready.
    pub(super) load_seconds: f64,
    /// Seconds of the first run.
    pub(super) first_run_seconds: f64,
}

impl Loaded {
    pub(super) fn new(
        engine: &dyn Engine,
        model: &ModelProto,
        inputs: Vec<(String, Tensor)>,
    ) -> Result<Self> {
        let begin = Instant::now();
        let session = engine.load(model)?;
        let mut loaded = Self {
            session,
            inputs,
            load_seconds: begin.elapsed().as_secs_f64(),
            first_run_seconds: 0.0,
        };
        loaded.first_run_seconds = loaded.run_seconds()?;
        Ok(loaded)
    }

    /// Seconds of one more run.
    pub(super) fn run_seconds(&mut self) -> Result<f64> {
        let begin = Instant::now();
        self.session.run(&named(&self.inputs))?;
        Ok(begin.elapsed().as_secs_f64())
    }

    pub(super) fn subject(&mut self) -> Subject<'_> {
        Subject {
            session: &mut *self.session,
            inputs: named(&self.inputs),
        }
    }

    pub(super) fn note(&self) -> Option<String> {
        self.session.note().map(str::to_owned)
    }
}

fn named(inputs: &[(String, Tensor)]) -> Vec<(&str, &Tensor)> {
    let inputs = inputs.iter();
    inputs
        .map(|(name, tensor)| (name.as_str(), tensor))
        .collect()
}
