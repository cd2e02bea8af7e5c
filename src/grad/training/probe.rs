//! Shapes of all values of a head, as a run shows them.

use crate::{
    engine::Engine,
    error::{Error, Result},
    graph::{self, Graph, Shapes, TensorType, ValueId},
    onnx::{Dim, Tensor},
};

/// Completes what the head declares by what runs on `batches` show: sizes that differ between the
/// runs become unknown. Give two batches of different size, or one where the size is fixed.
///
/// # Errors
/// [`Error::Engine`] when the engine cannot run the head; [`Error::Argument`] without a batch.
pub fn probe(
    engine: &dyn Engine,
    head: &Graph<'_>,
    batches: &[Vec<(&str, &Tensor)>],
) -> Result<Shapes> {
    let mut shapes = Shapes::declared(head);
    let made = |id: &ValueId| head.producer(*id).is_some() && head.constant(*id).is_none();
    let values: Vec<ValueId> = head.values().filter(made).collect();
    let mut session = engine.load(&graph::with_outputs(head, &shapes, &values))?;
    let runs = batches.iter().map(|batch| session.run(batch));
    let runs: Vec<Vec<Tensor>> = runs.collect::<Result<_>>()?;
    let Some((first, others)) = runs.split_first() else {
        return Err(Error::Argument {
            name: "batches",
            what: "a probe needs at least one".to_owned(),
        });
    };
    for (at, (&id, tensor)) in values.iter().zip(first).enumerate() {
        let same = |axis: usize, size: usize| {
            let mut sizes = others.iter().map(|run| run[at].shape().get(axis).copied());
            sizes.all(|other| other == Some(size))
        };
        let dims = tensor.shape().iter().enumerate();
        let dims = dims.map(|(axis, &size)| match same(axis, size) {
            true => Dim::Fixed(size),
            false => Dim::Unknown,
        });
        let found = TensorType {
            dtype: tensor.dtype(),
            dims: dims.collect(),
        };
        shapes.learn(id, found);
    }
    Ok(shapes)
}
