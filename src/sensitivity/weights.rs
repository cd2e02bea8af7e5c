//! The weights that a sink multiplies each neuron by, read in blocks: a layer of VGG16 has 411 MB.

use super::{Request, cells::SinkView};
use crate::{
    error::{Error, Result},
    onnx::{TensorProto, slice},
};

/// Values decoded at a time: few enough to stay in the cache, and to come from memory that was used before. Blocks of
/// 4 MB go back to the system each time, which took longer than adding them up.
const BLOCK: usize = 1 << 15;

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
    let inner: usize = shape[axis + 1..].iter().product();
    let (mut place, mut column, mut within) = (0, 0, 0);
    slice::each_block(tensor, BLOCK, |values| {
        for &value in values {
            take(place, column + within, f64::from(value) * factor);
            // Counted rather than divided: there may be a hundred million of them.
            within += 1;
            if within == inner {
                (place, within) = (place + 1, 0);
                if place == shape[axis] {
                    (place, column) = (0, column + inner);
                }
            }
        }
    })
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
