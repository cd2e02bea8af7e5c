//! From samples to features.

use super::Samples;
use crate::{
    engine::{Engine, Session},
    error::{Error, Result, Site},
    graph::{self, Graph, Shapes, ValueId},
    head::Head,
    onnx::{ModelProto, Tensor},
};

/// What enters the head for one batch of samples.
#[derive(Clone, Debug, PartialEq)]
pub struct FeatureBatch {
    /// The features, in the order of [`Head::features`].
    pub values: Vec<Tensor>,
    /// How many samples the features hold.
    pub rows: usize,
    /// How many of these, the leading ones, are real; the others fill up a fixed batch.
    pub samples: usize,
    /// Class of each real sample, where known.
    pub labels: Option<Vec<usize>>,
}

/// Computes the features of a head.
pub struct Trunk {
    input: String,
    session: Option<Box<dyn Session>>,
    sources: Vec<Source>,
}

/// Where a feature comes from.
#[derive(Clone, Copy, Debug)]
enum Source {
    /// The model's own input.
    Input,
    /// An output of the session.
    Output(usize),
}

impl Trunk {
    /// Prepares the part of the model in front of the features.
    ///
    /// # Errors
    /// [`Error::Engine`] when the engine cannot load it; [`Error::Unsupported`] where the element
    /// type of a feature is not known (see [`super::probe`]).
    pub fn new(
        engine: &dyn Engine,
        graph: &Graph<'_>,
        shapes: &Shapes,
        head: &Head,
    ) -> Result<Self> {
        let computed = computed(graph, head);
        let place = |id: &ValueId| computed.iter().position(|other| other == id);
        let sources = head.features.iter();
        let sources = sources.map(|id| place(id).map_or(Source::Input, Source::Output));
        let session = model(graph, shapes, head)?;
        let session = session.map(|model| engine.load(&model)).transpose()?;
        Ok(Self {
            input: super::ModelInput::of(graph)?.name,
            session,
            sources: sources.collect(),
        })
    }

    /// What the engine says of how it runs the trunk, for example in another float type.
    pub fn note(&self) -> Option<&str> {
        self.session.as_ref().and_then(|session| session.note())
    }

    /// Runs the trunk on one batch.
    ///
    /// # Errors
    /// [`Error::Engine`] when the engine fails; [`Error::Invalid`] where a feature is NaN or
    /// infinite.
    pub fn run(&mut self, samples: Samples) -> Result<FeatureBatch> {
        let Samples {
            input,
            count,
            labels,
        } = samples;
        let mut outputs = match &mut self.session {
            Some(session) => {
                let outputs = session.run(&[(&self.input, &input)])?;
                outputs.into_iter().map(Some).collect()
            }
            None => Vec::new(),
        };
        let missing = || Error::Invalid {
            site: Site::value(&self.input),
            what: "the runtime gave fewer values than it was asked for".to_owned(),
        };
        let values = self.sources.iter().map(|source| match *source {
            Source::Input => Ok(input.clone()),
            Source::Output(index) => {
                let output = outputs.get_mut(index).and_then(Option::take);
                output.ok_or_else(missing)
            }
        });
        Ok(FeatureBatch {
            values: values.collect::<Result<_>>()?,
            rows: input.shape()[0],
            samples: count,
            labels,
        })
    }

    /// Runs the trunk over batches, one at a time, as they are asked for.
    pub fn features<'t, I>(
        &'t mut self,
        batches: I,
    ) -> impl Iterator<Item = Result<FeatureBatch>> + use<'t, I>
    where
        I: IntoIterator<Item = Result<Samples>>,
        I::IntoIter: 't,
    {
        let batches = batches.into_iter();
        batches.map(|samples| self.run(samples?))
    }
}

/// The part of the model in front of the features; nothing where all of them are its inputs.
pub(super) fn model(graph: &Graph<'_>, shapes: &Shapes, head: &Head) -> Result<Option<ModelProto>> {
    let computed = computed(graph, head);
    if computed.is_empty() {
        return Ok(None);
    }
    graph::extract(graph, shapes, &graph.inputs(), &computed).map(Some)
}

/// The features that are no inputs of the model.
fn computed(graph: &Graph<'_>, head: &Head) -> Vec<ValueId> {
    let inputs = graph.inputs();
    let features = head.features.iter().copied();
    features.filter(|id| !inputs.contains(id)).collect()
}
