//! The sizes of all values that cost something, and what they cost.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    error::Result,
    graph::{self, Graph, Macs, Shapes, TensorType, ValueId},
    onnx::{Dim, ModelProto, Tensor},
    pipeline::{setup::Setup, watch::Watch},
};

/// What one run costs.
pub(super) struct Costs {
    /// Sizes by name, in a run of `batch` samples.
    sizes: BTreeMap<String, Vec<u64>>,
    batch: u64,
    /// Of the whole model, in a run of `batch` samples.
    pub(super) macs: Macs,
    /// Types of everything that was looked at.
    pub(super) shapes: Shapes,
    /// Why something is not counted.
    pub(super) note: Option<String>,
}

impl Costs {
    /// Counts from declared sizes, else from those of one run, which also tells the types of
    /// `wanted`.
    pub(super) fn of(setup: &Setup<'_>, wanted: &[ValueId], watch: &dyn Watch) -> Result<Self> {
        let batch = setup.input.fixed_batch().unwrap_or(1);
        let mut costs = Self {
            sizes: declared(setup, batch),
            batch: batch as u64,
            macs: Macs::default(),
            shapes: setup.shapes.clone(),
            note: None,
        };
        let graph = &setup.graph;
        costs.macs = costs.count(graph);
        let untyped = wanted
            .iter()
            .filter(|&&id| setup.shapes.tensor(id).is_none());
        let missing: BTreeSet<ValueId> = costs
            .missing(graph)
            .into_iter()
            .chain(untyped.copied())
            .collect();
        if missing.is_empty() {
            return Ok(costs);
        }
        watch.stage("looking at sizes", None);
        let missing: Vec<ValueId> = missing.into_iter().collect();
        match run(setup, &missing, batch) {
            Ok(found) => costs.learn(setup, &missing, &found),
            Err(error) => costs.note = Some(format!("not all is counted: {error}")),
        }
        costs.macs = costs.count(graph);
        Ok(costs)
    }

    /// Values whose sizes the count would need.
    fn missing(&self, graph: &Graph<'_>) -> Vec<ValueId> {
        let mut values = Vec::new();
        for &node in &self.macs.unknown {
            let inputs = 0..graph.node(node).input.len();
            values.extend(inputs.filter_map(|at| graph.input(node, at)));
            values.extend(graph.output(node, 0));
        }
        let known =
            |id: ValueId| graph.constant(id).is_some() || self.sizes.contains_key(graph.name(id));
        values.retain(|&id| !known(id));
        values
    }

    fn learn(&mut self, setup: &Setup<'_>, values: &[ValueId], found: &[Tensor]) {
        let free = setup.input.fixed_batch().is_none();
        for (&id, tensor) in values.iter().zip(found) {
            let shape = tensor.shape();
            let sizes = shape.iter().map(|&size| size as u64).collect();
            self.sizes.insert(setup.graph.name(id).to_owned(), sizes);
            // The first axis may be the batch; only the type is needed of what a section reads.
            let dims = shape.iter().enumerate().map(|(axis, &size)| match axis {
                0 if free => Dim::Unknown,
                _ => Dim::Fixed(size),
            });
            let dims = dims.collect();
            let dtype = tensor.dtype();
            if self.shapes.tensor(id).is_none() {
                self.shapes.learn(id, TensorType { dtype, dims });
            }
        }
    }

    fn count(&self, graph: &Graph<'_>) -> Macs {
        Macs::of(graph, &|name| self.sizes.get(name).cloned())
    }

    /// Per sample, of some nodes.
    pub(super) fn of_nodes(&self, nodes: &BTreeSet<graph::NodeId>) -> u64 {
        let counted = self.macs.nodes.iter();
        let inside = counted.filter(|(node, _)| nodes.contains(node));
        inside.map(|(_, count)| count).sum::<u64>() / self.batch
    }

    /// Per sample, of the whole model.
    pub(super) fn total(&self) -> u64 {
        self.macs.total() / self.batch
    }

    /// Per sample, of a model that was cut out of this one.
    pub(super) fn of_cut(&self, model: &ModelProto) -> Result<u64> {
        Ok(self.count(&Graph::new(model)?).total() / self.batch)
    }
}

/// Sizes that the file declares, where the only symbol in them is that of the batch.
fn declared(setup: &Setup<'_>, batch: usize) -> BTreeMap<String, Vec<u64>> {
    let symbol = setup.input.dims.first();
    let size = |dim: &Dim| match dim {
        Dim::Fixed(size) => Some(*size as u64),
        Dim::Symbol(_) if Some(dim) == symbol => Some(batch as u64),
        Dim::Symbol(_) | Dim::Unknown => None,
    };
    let graph = &setup.graph;
    let known = graph.values().filter_map(|id| {
        let sizes = setup.shapes.dims(id)?.iter().map(size);
        Some((graph.name(id).to_owned(), sizes.collect::<Option<_>>()?))
    });
    known.collect()
}

fn run(setup: &Setup<'_>, values: &[ValueId], batch: usize) -> Result<Vec<Tensor>> {
    let sample = setup.dataset.read(&vec![0; batch])?;
    let sample = setup.input.samples(sample)?;
    let model = graph::with_outputs(&setup.graph, &setup.shapes, values);
    let mut session = setup.engine().load(&model)?;
    session.run(&[(&setup.input.name, &sample.input)])
}
