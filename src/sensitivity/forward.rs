//! The values that the sinks read.

use std::borrow::Cow;

use super::{
    Request,
    cells::{Cells, LayerView, SinkCells, views},
};
use crate::{
    engine::Session,
    error::{Error, Result, Site},
    features::FeatureBatch,
    graph::{self, ValueId},
    onnx::Tensor,
};

/// Computes values of the head from the features.
pub(super) struct Forward {
    session: Option<Box<dyn Session>>,
    /// Names of the features, and of the value that is given with them.
    given: Vec<String>,
    wanted: Vec<Source>,
}

/// Where a wanted value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// It is a feature itself, or another value that is given.
    Given(usize),
    /// An output of the session.
    Output(usize),
}

impl Forward {
    /// Prepares the part of the head that computes `wanted`.
    ///
    /// # Errors
    /// [`Error::Engine`] when the engine cannot load it.
    pub(super) fn new(request: Request<'_>, wanted: &[ValueId]) -> Result<Self> {
        Self::from(request, &request.head.features, wanted)
    }

    /// As [`Forward::new`], for batches that come with the value `made`, behind the features.
    ///
    /// # Errors
    /// As [`Forward::new`].
    pub(super) fn behind(request: Request<'_>, made: ValueId, wanted: &[ValueId]) -> Result<Self> {
        let given = request.head.features.iter().copied().chain([made]);
        Self::from(request, &given.collect::<Vec<_>>(), wanted)
    }

    fn from(request: Request<'_>, given: &[ValueId], wanted: &[ValueId]) -> Result<Self> {
        let Request {
            graph,
            shapes,
            engine,
            ..
        } = request;
        let (computed, sources) = sources(given, wanted);
        let session = if computed.is_empty() {
            None
        } else {
            let model = graph::extract(graph, shapes, given, &computed)?;
            Some(engine.load(&model)?)
        };
        let given = given.iter().map(|&id| graph.name(id).to_owned());
        Ok(Self {
            session,
            given: given.collect(),
            wanted: sources,
        })
    }

    /// The wanted values for one batch.
    pub(super) fn run<'b>(&mut self, batch: &'b FeatureBatch) -> Result<Vec<Cow<'b, Tensor>>> {
        let given: Vec<&Tensor> = batch.values.iter().collect();
        self.run_given(&given)
    }

    /// As [`Forward::run`], of the features and the value that comes with them.
    pub(super) fn run_given<'g>(&mut self, given: &[&'g Tensor]) -> Result<Vec<Cow<'g, Tensor>>> {
        let outputs = match &mut self.session {
            Some(session) => {
                let inputs = inputs(session.as_ref(), &self.given, given);
                session.run(&inputs)?
            }
            None => Vec::new(),
        };
        picked(&self.wanted, given, outputs)
    }
}

/// The sinks' values of all layers, arranged.
pub(super) struct SinkValues {
    forward: Forward,
    pub(super) layers: Vec<LayerView>,
}

impl SinkValues {
    pub(super) fn new(request: Request<'_>) -> Result<Self> {
        let layers = views(request.graph, request.head);
        let sinks = layers.iter().flat_map(|layer| &layer.sinks);
        let wanted: Vec<ValueId> = sinks.map(|sink| sink.sink.value).collect();
        Ok(Self {
            forward: Forward::new(request, &wanted)?,
            layers,
        })
    }

    /// One set of cells per sink of each layer.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the first neuron whose value is no number.
    pub(super) fn run(&mut self, batch: &FeatureBatch) -> Result<SinkCells> {
        let values = self.forward.run(batch)?;
        arranged(&self.layers, values, batch)
    }
}

/// Arranges values, one per sink, layer by layer.
pub(super) fn arranged(
    layers: &[LayerView],
    values: Vec<Cow<'_, Tensor>>,
    batch: &FeatureBatch,
) -> Result<SinkCells> {
    let mut values = values.into_iter();
    let mut all = Vec::with_capacity(layers.len());
    for layer in layers {
        let mut cells = Vec::with_capacity(layer.sinks.len());
        for (sink, value) in layer.sinks.iter().zip(&mut values) {
            let found = sink.values(value.into_owned(), batch.rows)?;
            check_finite(layer, &found, batch.samples, "value")?;
            cells.push(found);
        }
        all.push(cells);
    }
    Ok(all)
}

/// Which of `wanted` must be computed, each once, and where each then comes from.
pub(super) fn sources(given: &[ValueId], wanted: &[ValueId]) -> (Vec<ValueId>, Vec<Source>) {
    let mut computed: Vec<ValueId> = Vec::new();
    let sources = wanted.iter().map(|id| {
        if let Some(place) = given.iter().position(|given| given == id) {
            return Source::Given(place);
        }
        let known = computed.iter().position(|other| other == id);
        Source::Output(known.unwrap_or_else(|| {
            computed.push(*id);
            computed.len() - 1
        }))
    });
    let sources = sources.collect();
    (computed, sources)
}

/// The wanted values themselves; `outputs` are those of the computed values.
pub(super) fn picked<'g>(
    wanted: &[Source],
    given: &[&'g Tensor],
    outputs: Vec<Tensor>,
) -> Result<Vec<Cow<'g, Tensor>>> {
    let mut outputs: Vec<Option<Tensor>> = outputs.into_iter().map(Some).collect();
    let sources = wanted.iter().enumerate();
    let values = sources.map(|(at, source)| match *source {
        Source::Given(place) => given.get(place).map(|&value| Cow::Borrowed(value)),
        Source::Output(place) if wanted[at + 1..].contains(source) => {
            outputs.get(place).cloned().flatten().map(Cow::Owned)
        }
        Source::Output(place) => outputs.get_mut(place)?.take().map(Cow::Owned),
    });
    let values: Option<Vec<Cow<'_, Tensor>>> = values.collect();
    values.ok_or_else(|| Error::Invalid {
        site: Site::value("features"),
        what: "the runtime gave fewer values than it was asked for".to_owned(),
    })
}

/// Names of the features, in the order of a batch.
pub(super) fn names(request: Request<'_>) -> Vec<String> {
    let features = request.head.features.iter();
    features
        .map(|&id| request.graph.name(id).to_owned())
        .collect()
}

/// Those of the given values that a session asks for.
pub(super) fn inputs<'g>(
    session: &dyn Session,
    names: &'g [String],
    given: &[&'g Tensor],
) -> Vec<(&'g str, &'g Tensor)> {
    let ports = session.inputs().iter();
    let known = ports.filter_map(|port| {
        let place = names.iter().position(|name| *name == port.name)?;
        Some((names[place].as_str(), *given.get(place)?))
    });
    known.collect()
}

/// Refuses cells with NaN or infinite numbers.
pub(super) fn check_finite(
    layer: &LayerView,
    cells: &Cells,
    samples: usize,
    of: &str,
) -> Result<()> {
    let Some((neuron, sample)) = cells.non_finite(samples) else {
        return Ok(());
    };
    Err(not_finite(
        layer,
        neuron,
        &format!(" for sample {sample} of a batch"),
        of,
    ))
}

/// Says that a number of a neuron is NaN or infinite, and where.
pub(super) fn not_finite(layer: &LayerView, neuron: usize, place: &str, of: &str) -> Error {
    let value = layer.sinks.first().map_or("", |sink| sink.value.as_str());
    Error::Invalid {
        site: Site::value(value),
        what: format!(
            "the {of} of neuron {neuron} of layer {:?} is NaN or infinite{place}; the weights or the data hold such numbers, or very large ones",
            layer.name
        ),
    }
}
