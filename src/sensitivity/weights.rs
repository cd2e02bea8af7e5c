//! The weights that a sink multiplies each neuron by, read in blocks: a layer of VGG16 has 411 MB.

use super::{Request, cells::SinkView};
use crate::{
    error::{Error, Result},
    onnx::{Tensor, TensorProto, slice},
};

/// Values decoded at a time.
const BLOCK: usize = 1 << 20;

/// Weights of one sink, with the axis that counts the neurons.
struct Outgoing<'a> {
    tensor: &'a TensorProto,
    axis: usize,
    factor: f64,
}

/// Gives every weight of a sink to `take`, with its place on the sink's neuron axis and its place
/// among the weights that share that one, which counts up to [`columns`].
///
/// # Errors
/// [`Error::Unsupported`] where the sink is no dense layer with constant weights.
pub(super) fn outgoing(
    request: Request<'_>,
    view: &SinkView,
    mut take: impl FnMut(usize, usize, f64),
) -> Result<()> {
    let Outgoing {
        tensor,
        axis,
        factor,
    } = find(request, view)?;
    let sizes = tensor.dims.iter().map(|&size| usize::try_from(size));
    let shape: Vec<usize> = sizes.map(Result::unwrap_or_default).collect();
    let row: usize = shape[1..].iter().product();
    let inner: usize = shape[axis + 1..].iter().product();
    let rows: Vec<usize> = (0..shape[0]).collect();
    for block in rows.chunks((BLOCK / row.max(1)).max(1)) {
        let part = Tensor::from_proto(&slice::select(tensor, 0, block)?)?;
        let before = block.first().map_or(0, |first| first * row);
        for (index, value) in part.to_f32().iter().enumerate() {
            let (outer, within) = (
                (before + index) / inner.max(1),
                (before + index) % inner.max(1),
            );
            let column = outer / shape[axis] * inner + within;
            take(outer % shape[axis], column, f64::from(*value) * factor);
        }
    }
    Ok(())
}

/// Weights of each place on the sink's neuron axis.
///
/// # Errors
/// As [`outgoing`].
pub(super) fn columns(request: Request<'_>, view: &SinkView) -> Result<usize> {
    let Outgoing { tensor, axis, .. } = find(request, view)?;
    let others = tensor.dims.iter().enumerate().filter(|(at, _)| *at != axis);
    let sizes = others.map(|(_, &size)| usize::try_from(size).unwrap_or_default());
    Ok(sizes.product())
}

fn find<'a>(request: Request<'a>, view: &SinkView) -> Result<Outgoing<'a>> {
    let (graph, id) = (request.graph, view.sink.at.node);
    let node = graph.node(id);
    let unsupported = |what: &str| Error::Unsupported {
        site: graph.site(id),
        what: what.to_owned(),
    };
    let weight = graph.input(id, 1).and_then(|value| graph.constant(value));
    let tensor = weight.ok_or_else(|| unsupported("has weights that are computed"))?;
    let axis = match node.op() {
        "Gemm" => usize::from(node.int("transB").unwrap_or(0) != 0),
        "MatMul" => tensor.dims.len().saturating_sub(2),
        "Conv" => 1,
        _ => return Err(unsupported("has no weights that a criterion could read")),
    };
    let width = tensor.dims.get(axis).map(|&size| usize::try_from(size));
    if width != Some(Ok(view.sink.map.len())) {
        return Err(unsupported("has weights for another number of neurons"));
    }
    let alpha = match node.op() {
        "Gemm" => f64::from(node.float("alpha").unwrap_or(1.0)),
        _ => 1.0,
    };
    Ok(Outgoing {
        tensor,
        axis,
        factor: alpha,
    })
}
