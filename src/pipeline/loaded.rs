//! Models loaded in an engine, with what they are run on.

use std::time::Instant;

use crate::{
    engine::{Engine, Session},
    error::Result,
    eval::Subject,
    onnx::{ModelProto, Tensor},
};

/// A loaded model that has run once.
pub(super) struct Loaded<'m> {
    engine: &'m dyn Engine,
    model: &'m ModelProto,
    session: Option<Box<dyn Session>>,
    inputs: Vec<(String, Tensor)>,
    /// Seconds until the engine had the model ready for the first time.
    pub(super) load_seconds: f64,
    /// Seconds of the first run.
    pub(super) first_run_seconds: f64,
}

impl<'m> Loaded<'m> {
    pub(super) fn new(
        engine: &'m dyn Engine,
        model: &'m ModelProto,
        inputs: Vec<(String, Tensor)>,
    ) -> Result<Self> {
        let begin = Instant::now();
        let session = engine.load(model)?;
        let mut loaded = Self {
            engine,
            model,
            session: Some(session),
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
        self.run()?;
        Ok(begin.elapsed().as_secs_f64())
    }

    pub(super) fn note(&self) -> Option<String> {
        self.session.as_ref()?.note().map(str::to_owned)
    }
}

impl Subject for Loaded<'_> {
    fn run(&mut self) -> Result<Vec<Tensor>> {
        let session = match &mut self.session {
            Some(session) => session,
            none => none.insert(self.engine.load(self.model)?),
        };
        let inputs = self.inputs.iter();
        let inputs: Vec<(&str, &Tensor)> = inputs
            .map(|(name, tensor)| (name.as_str(), tensor))
            .collect();
        session.run(&inputs)
    }

    fn unload(&mut self) {
        self.session = None;
    }

    fn load(&mut self) -> Result<()> {
        self.unload();
        self.run().map(drop)
    }

    fn load_seconds(&self) -> f64 {
        self.load_seconds + self.first_run_seconds
    }
}
