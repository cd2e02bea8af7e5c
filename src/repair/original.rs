//! The original head: what every site should make, computed once per batch.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use super::{
    Request,
    kernels::Kernels,
    sites::Wave,
    streams::{leading_to, run},
};
use crate::{
    engine::Session,
    error::Result,
    graph,
    onnx::{ModelProto, Tensor},
};

/// Numbers that are held, 512 MiB of them; batches beyond that are computed again.
const MOST_HELD: usize = 1 << 27;

/// What the original made of batches so far, for all repairs of one head in one engine; and what was
/// made for many of them beforehand.
#[derive(Debug, Default)]
pub struct Known {
    held: Mutex<Held>,
    pub(super) kernels: OnceLock<Kernels>,
}

#[derive(Debug, Default)]
struct Held {
    /// By the names of the values and the positions of the batch.
    made: BTreeMap<Key, Arc<[Tensor]>>,
    numbers: usize,
}

type Key = (Vec<String>, Vec<usize>);

impl Known {
    fn get(&self, key: &Key) -> Option<Arc<[Tensor]>> {
        self.held().made.get(key).cloned()
    }

    fn keep(&self, key: Key, made: &Arc<[Tensor]>) {
        let numbers: usize = made.iter().map(|tensor| tensor.data().len()).sum();
        let mut held = self.held();
        if held.numbers + numbers <= MOST_HELD && !held.made.contains_key(&key) {
            held.numbers += numbers;
            held.made.insert(key, Arc::clone(made));
        }
    }

    /// Whoever panicked left it whole.
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The original head.
pub(super) struct Original<'a> {
    request: Request<'a>,
    /// What leads to the sites of all waves.
    model: ModelProto,
    /// The same, loaded when a batch is not known.
    session: Option<Box<dyn Session>>,
    /// Names of the values that the sites of all waves make.
    values: Vec<String>,
}

impl<'a> Original<'a> {
    /// Of the sites of all waves.
    ///
    /// # Errors
    /// Those of cutting the head out.
    pub(super) fn new<'w>(
        request: Request<'a>,
        waves: impl Iterator<Item = &'w Wave>,
    ) -> Result<Self> {
        let sites = waves.flat_map(|wave| &wave.sites);
        let mut values: Vec<String> = sites.map(|site| site.dense.value.clone()).collect();
        values.sort();
        values.dedup();
        let names: Vec<&str> = values.iter().map(String::as_str).collect();
        let Request {
            graph,
            shapes,
            head,
            ..
        } = request;
        let whole = graph::extract(graph, shapes, &head.features, &[head.scores.value])?;
        Ok(Self {
            model: leading_to(&whole, &names)?,
            session: None,
            request,
            values,
        })
    }

    /// Where a value is among those of [`Original::values`].
    pub(super) fn place(&self, value: &str) -> Option<usize> {
        self.values.iter().position(|name| name == value)
    }

    /// All values for the batch of the samples at `positions`.
    ///
    /// # Errors
    /// [`crate::Error::Engine`] when the engine cannot run the head.
    pub(super) fn values(&mut self, positions: &[usize]) -> Result<Arc<[Tensor]>> {
        let Request {
            engine,
            features,
            known,
            ..
        } = self.request;
        let key = (self.values.clone(), positions.to_vec());
        if let Some(made) = known.get(&key) {
            return Ok(made);
        }
        let session = match &mut self.session {
            Some(session) => session,
            none => none.insert(engine.load(&self.model)?),
        };
        let batch = features.read(positions)?;
        let made: Arc<[Tensor]> = run(session.as_mut(), features.names(), &batch)?.into();
        known.keep(key, &made);
        Ok(made)
    }
}
