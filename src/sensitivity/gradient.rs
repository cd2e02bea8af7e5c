//! Cotangents at the sinks of all layers, for blocks of class rows.

use super::{
    Of, Request,
    cells::{LayerView, SinkCells, views},
    forward::{self, Source, check_finite},
    target::{Kind, Target},
};
use crate::{
    engine::Session,
    error::Result,
    features::FeatureBatch,
    grad,
    graph::{Graph, Shapes, Use, ValueId},
    head::Head,
    onnx::{Dim, Tensor},
};

/// Largest cotangent of a block, in bytes: K = 1000 classes and F = 25088 neurons in batches of 32
/// then go in blocks of 20 rows.
const BLOCK_BYTES: usize = 64 << 20;

/// The gradient of the class scores, loaded in an engine.
pub(super) struct HeadGradient {
    session: Box<dyn Session>,
    seed: String,
    features: Vec<String>,
    pub(super) layers: Vec<LayerView>,
    pub(super) classes: usize,
    /// Where each sink's value comes from; empty when they were not asked for.
    values: Vec<Source>,
    /// Numbers per sample of the largest cotangent row.
    widest: usize,
}

/// Rows of the Jacobian, at every sink.
pub(super) struct Rows {
    /// The class of the first row.
    pub(super) first: usize,
    /// Number of rows that are classes; further ones only fill up a block.
    pub(super) count: usize,
    /// Per layer, one set of cells per sink.
    pub(super) layers: SinkCells,
}

impl HeadGradient {
    /// Writes the gradient of `kind` and loads it; with `with_values`, the sinks' values come too.
    ///
    /// # Errors
    /// [`crate::Error::UnsupportedOperators`] with every operator of the head that has no rule.
    pub(super) fn new(request: Request<'_>, kind: Kind, with_values: bool) -> Result<Self> {
        let Request {
            graph,
            shapes,
            head,
            engine,
            ..
        } = request;
        let layers = views(graph, head);
        let target = Target::new(graph, shapes, head, kind)?;
        let extended = Graph::new(&target.model)?;
        let shapes = target.shapes(&extended, shapes, head);
        let of = extended.value(&target.name).unwrap_or(head.scores.logits);
        let sinks = || layers.iter().flat_map(|layer| &layer.sinks);
        let wrt: Vec<Use> = sinks().map(|sink| sink.sink.at).collect();
        let wanted: Vec<ValueId> = sinks().map(|sink| sink.sink.value).collect();
        let (computed, values) = if with_values {
            forward::sources(&head.features, &wanted)
        } else {
            (Vec::new(), Vec::new())
        };
        let differentiate = grad::Request {
            of,
            wrt: &wrt,
            stop: &head.features,
        };
        let mut gradient =
            grad::gradient_model(&extended, &shapes, differentiate, &head.features, &computed)?;
        free_seed(&mut gradient);
        let widest = sinks().map(|sink| row_size(&shapes, sink.sink.value, sink.width));
        Ok(Self {
            session: engine.load(&gradient.model)?,
            seed: gradient.seed,
            features: forward::names(request),
            classes: head.scores.classes,
            values,
            widest: widest.max().unwrap_or(1),
            layers,
        })
    }

    /// Gives the Jacobian to `take`, block by block, and the sinks' values with the first block.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] naming the first neuron where a number is not finite.
    pub(super) fn jacobian(
        &mut self,
        batch: &FeatureBatch,
        mut take: impl FnMut(Rows, Option<SinkCells>) -> Result<()>,
    ) -> Result<()> {
        let block = self.block(batch.rows);
        for first in (0..self.classes).step_by(block) {
            let count = block.min(self.classes - first);
            let mut seed = vec![0.0; block * self.classes];
            for row in 0..count {
                seed[row * self.classes + first + row] = 1.0;
            }
            let seed = Tensor::f32([block, 1, self.classes], seed)?;
            let (layers, values) = self.run(batch, &seed, first == 0)?;
            let rows = Rows {
                first,
                count,
                layers,
            };
            take(rows, values)?;
        }
        Ok(())
    }

    /// Runs once on a seed `[R, 1 or B, K]`.
    pub(super) fn run(
        &mut self,
        batch: &FeatureBatch,
        seed: &Tensor,
        with_values: bool,
    ) -> Result<(SinkCells, Option<SinkCells>)> {
        let given: Vec<&Tensor> = batch.values.iter().collect();
        let mut inputs = forward::inputs(self.session.as_ref(), &self.features, &given);
        inputs.push((&self.seed, seed));
        let mut outputs = self.session.run(&inputs)?;
        let sinks: usize = self.layers.iter().map(|layer| layer.sinks.len()).sum();
        let computed = outputs.split_off(sinks.min(outputs.len()));
        let mut cotangents = outputs.into_iter();
        let mut all = Vec::with_capacity(self.layers.len());
        for layer in &self.layers {
            let mut cells = Vec::with_capacity(layer.sinks.len());
            for (sink, cotangent) in layer.sinks.iter().zip(&mut cotangents) {
                let found = sink.cotangents(cotangent, batch.rows)?;
                check_finite(layer, &found, batch.samples, "derivative")?;
                cells.push(found);
            }
            all.push(cells);
        }
        let values = if with_values && !self.values.is_empty() {
            let picked = forward::picked(&self.values, &given, computed)?;
            Some(forward::arranged(&self.layers, picked, batch)?)
        } else {
            None
        };
        Ok((all, values))
    }

    /// Class rows per run: as many as [`BLOCK_BYTES`] allow, spread evenly over the runs.
    fn block(&self, rows: usize) -> usize {
        let bytes = rows * self.widest * size_of::<f32>();
        let most = (BLOCK_BYTES / bytes.max(1)).clamp(1, self.classes);
        self.classes.div_ceil(self.classes.div_ceil(most))
    }
}

/// The graph that computes the derivatives of the class scores at every reader of every layer, in
/// the order of the layers and their sinks, from the head's features and a seed of class rows.
///
/// # Errors
/// [`crate::Error::UnsupportedOperators`] with every operator of the head that has no rule.
pub fn gradient_model(
    graph: &Graph<'_>,
    shapes: &Shapes,
    head: &Head,
    of: Of,
) -> Result<grad::GradientModel> {
    let target = Target::new(graph, shapes, head, of.into())?;
    let extended = Graph::new(&target.model)?;
    let shapes = target.shapes(&extended, shapes, head);
    let sinks = head.layers.iter().flat_map(|layer| &layer.group.sinks);
    let wrt: Vec<Use> = sinks.map(|sink| sink.at).collect();
    let request = grad::Request {
        of: extended.value(&target.name).unwrap_or(head.scores.logits),
        wrt: &wrt,
        stop: &head.features,
    };
    let mut gradient = grad::gradient_model(&extended, &shapes, request, &head.features, &[])?;
    free_seed(&mut gradient);
    Ok(gradient)
}

/// Lets the seed differ from sample to sample: it is only ever broadcast.
fn free_seed(gradient: &mut grad::GradientModel) {
    let inputs = gradient
        .model
        .graph
        .iter_mut()
        .flat_map(|graph| &mut graph.input);
    for input in inputs.filter(|input| input.name() == gradient.seed) {
        if let Some(mut dims) = input.dims()
            && dims.len() == 3
        {
            dims[1] = Dim::Unknown;
            let dtype = input.elem_type().unwrap_or_default();
            *input = crate::onnx::ValueInfoProto::tensor(&gradient.seed, dtype, &dims);
        }
    }
}

/// Numbers of one sample of a value; the first axis, which is the batch, and sizes that are not
/// known count as one.
fn row_size(shapes: &Shapes, value: ValueId, width: usize) -> usize {
    let dims = shapes.dims(value).unwrap_or_default();
    let sizes = dims.iter().skip(1).map(|dim| dim.fixed().unwrap_or(1));
    sizes.product::<usize>().max(width)
}
