//! The weights that a sink multiplies each neuron by.

use super::{Request, cells::SinkView};
use crate::{
    error::{Error, Result},
    onnx::Tensor,
};

/// For each place of the sink's neuron axis, the absolute weights it is multiplied by.
///
/// # Errors
/// [`Error::Unsupported`] where the sink is no dense layer with constant weights.
pub(super) fn outgoing(request: Request<'_>, view: &SinkView) -> Result<Vec<Vec<f64>>> {
    let (graph, id) = (request.graph, view.sink.at.node);
    let node = graph.node(id);
    let unsupported = |what: &str| Error::Unsupported {
        site: graph.site(id),
        what: what.to_owned(),
    };
    let tensor = graph.constant_input(id, 1);
    let tensor = tensor.ok_or_else(|| unsupported("has weights that are computed"))?;
    let rank = tensor.shape().len();
    let axis = match node.op() {
        "Gemm" => usize::from(node.int("transB").unwrap_or(0) != 0),
        "MatMul" => rank.saturating_sub(2),
        "Conv" => 1,
        _ => return Err(unsupported("has no weights that a criterion could read")),
    };
    if tensor.shape().get(axis) != Some(&view.sink.map.len()) {
        return Err(unsupported("has weights for another number of neurons"));
    }
    let factor = match node.op() {
        "Gemm" => f64::from(node.float("alpha").unwrap_or(1.0)),
        _ => 1.0,
    };
    Ok(columns(&tensor, axis, factor.abs()))
}

/// Absolute values by index on one axis, times `factor`.
fn columns(tensor: &Tensor, axis: usize, factor: f64) -> Vec<Vec<f64>> {
    let shape = tensor.shape();
    let inner: usize = shape[axis + 1..].iter().product();
    let mut columns =
        vec![Vec::with_capacity(tensor.data().len() / shape[axis].max(1)); shape[axis]];
    for (index, value) in tensor.to_f32().iter().enumerate() {
        let place = index / inner.max(1) % shape[axis];
        columns[place].push(f64::from(value.abs()) * factor);
    }
    columns
}
