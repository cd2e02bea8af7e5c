//! A section of a model as a model of its own, and what enters it for given samples.

use super::setup::Setup;
use crate::{
    error::{Error, Result, Site},
    graph::{self, Shapes, ValueId},
    onnx::{ModelProto, Tensor},
};

/// What computes some values of a model from others.
pub(super) struct Section {
    /// The section itself.
    pub(super) model: ModelProto,
    /// The values it begins with, as far as it reads them.
    begin: Vec<ValueId>,
}

impl Section {
    /// Cuts out what computes `end` from `begin`, whose types `shapes` knows.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where a type is not known, or the section reads an input of the model
    /// that is not in `begin`.
    pub(super) fn new(
        setup: &Setup<'_>,
        shapes: &Shapes,
        begin: &[ValueId],
        end: &[ValueId],
    ) -> Result<Self> {
        let graph = &setup.graph;
        let model = graph::extract(graph, shapes, begin, end)?;
        let read = model.graph.iter().flat_map(|part| &part.input);
        let read = read.map(|port| {
            let id = graph.value(port.name()).filter(|id| begin.contains(id));
            id.ok_or_else(|| Error::Unsupported {
                site: Site::value(port.name()),
                what: "is read beside the features, so the head is no model by itself".to_owned(),
            })
        });
        let begin = read.collect::<Result<_>>()?;
        Ok(Self { model, begin })
    }

    /// What enters the section when the model's input is `input`, by name.
    ///
    /// # Errors
    /// [`Error::Engine`] when what comes before cannot be run.
    pub(super) fn feed(
        &self,
        setup: &Setup<'_>,
        shapes: &Shapes,
        input: Tensor,
    ) -> Result<Vec<(String, Tensor)>> {
        let graph = &setup.graph;
        let inputs = graph.inputs();
        let (given, computed): (Vec<ValueId>, Vec<ValueId>) =
            self.begin.iter().partition(|id| inputs.contains(id));
        let mut values = Vec::new();
        if !computed.is_empty() {
            let before = graph::extract(graph, shapes, &inputs, &computed)?;
            let mut session = setup.engine().load(&before)?;
            let found = session.run(&[(&setup.input.name, &input)])?;
            let names = computed.iter().map(|&id| graph.name(id).to_owned());
            values.extend(names.zip(found));
        }
        if !given.is_empty() {
            values.push((setup.input.name.clone(), input));
        }
        Ok(values)
    }
}
