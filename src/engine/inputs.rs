//! What a model declares at its border, and whether given tensors fit it.

use std::collections::BTreeSet;

use super::Port;
use crate::error::{Error, Result};
use crate::onnx::{DataType, Dim, GraphProto, ModelProto, Tensor, ValueInfoProto};

/// The inputs a run must bring: the declared ones that no initializer gives.
pub(super) fn input_ports(model: &ModelProto) -> Vec<Port> {
    let Some(graph) = &model.graph else {
        return Vec::new();
    };
    let given = initializer_names(graph);
    let needed = graph
        .input
        .iter()
        .filter(|info| !given.contains(info.name()));
    needed.map(port).collect()
}

/// The declared outputs.
pub(super) fn output_ports(model: &ModelProto) -> Vec<Port> {
    let graph = model.graph.iter();
    graph.flat_map(|graph| &graph.output).map(port).collect()
}

fn initializer_names(graph: &GraphProto) -> BTreeSet<&str> {
    let dense = graph.initializer.iter().map(|tensor| tensor.name());
    let sparse = graph.sparse_initializer.iter();
    dense
        .chain(sparse.filter_map(|tensor| Some(tensor.values.as_ref()?.name())))
        .collect()
}

fn port(info: &ValueInfoProto) -> Port {
    Port {
        name: info.name().to_owned(),
        dtype: info.elem_type().unwrap_or(DataType::Undefined),
        dims: info.dims(),
    }
}

/// Puts the inputs in the order of the ports, after checking that each fits.
pub(super) fn arrange<'t>(
    engine: &'static str,
    ports: &[Port],
    inputs: &[(&str, &'t Tensor)],
) -> Result<Vec<&'t Tensor>> {
    let fail = |what: String| Error::Engine { engine, what };
    if let Some((name, _)) = inputs
        .iter()
        .find(|(name, _)| !ports.iter().any(|port| port.name == *name))
    {
        let names: Vec<&str> = ports.iter().map(|port| port.name.as_str()).collect();
        return Err(fail(format!(
            "the model has no input {name:?}; its inputs are {names:?}"
        )));
    }
    let mut arranged = Vec::with_capacity(ports.len());
    for port in ports {
        let mut given = inputs.iter().filter(|(name, _)| *name == port.name);
        let (_, tensor) = given
            .next()
            .ok_or_else(|| fail(format!("input {:?} is not given", port.name)))?;
        if given.next().is_some() {
            return Err(fail(format!("input {:?} is given twice", port.name)));
        }
        check(engine, port, tensor.dtype(), tensor.shape())?;
        arranged.push(*tensor);
    }
    Ok(arranged)
}

/// Whether a value of this type and shape may be given to a port.
pub(super) fn check(
    engine: &'static str,
    port: &Port,
    dtype: DataType,
    shape: &[usize],
) -> Result<()> {
    if fits(port, dtype, shape) {
        return Ok(());
    }
    Err(Error::Engine {
        engine,
        what: format!(
            "input {:?} should be {}, but is {}",
            port.name,
            describe(port.dtype, port.dims.as_deref()),
            describe(dtype, Some(&fixed(shape))),
        ),
    })
}

fn fits(port: &Port, dtype: DataType, shape: &[usize]) -> bool {
    let same_type = port.dtype == DataType::Undefined || port.dtype == dtype;
    let same_shape = port.dims.as_ref().is_none_or(|dims| {
        dims.len() == shape.len()
            && dims.iter().zip(shape).all(|(dim, size)| match dim {
                Dim::Fixed(expected) => expected == size,
                Dim::Symbol(_) | Dim::Unknown => true,
            })
    });
    same_type && same_shape
}

fn fixed(shape: &[usize]) -> Vec<Dim> {
    shape.iter().copied().map(Dim::Fixed).collect()
}

/// `f32 [N, 3, 224, 224]`
fn describe(dtype: DataType, dims: Option<&[Dim]>) -> String {
    let Some(dims) = dims else {
        return format!("{dtype} of any shape");
    };
    let dims: Vec<String> = dims.iter().map(ToString::to_string).collect();
    format!("{dtype} [{}]", dims.join(", "))
}
