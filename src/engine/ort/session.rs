//! A model in ONNX Runtime.

use ::ort::session::builder::SessionBuilder;
use ::ort::session::{Session as OrtSession, SessionInputValue};
use ::ort::value::{Outlet, ValueType};
use prost::Message;

use super::{NAME, failed, values};
use crate::engine::inputs::{arrange, input_ports, output_ports};
use crate::engine::{Port, Session};
use crate::error::Result;
use crate::onnx::{DataType, Dim, GraphProto, ModelProto, NodeProto, Tensor, ValueInfoProto};

/// Operator set of the graph that tries a provider out: one that every library we accept knows.
const OPSET: i64 = 13;

/// Largest message ONNX Runtime's protobuf reader takes.
const MESSAGE_LIMIT: usize = i32::MAX as usize;

pub(super) fn load(mut builder: SessionBuilder, model: &ModelProto) -> Result<Box<dyn Session>> {
    if model.encoded_len() > MESSAGE_LIMIT {
        return Err(failed("models over 2 GiB are not supported yet".to_owned()));
    }
    let session = builder.commit_from_memory(&model.encode_to_vec());
    let session = session.map_err(|error| failed(error.to_string()))?;
    let mut outputs = output_ports(model);
    for (port, outlet) in outputs.iter_mut().zip(session.outputs()) {
        complete(port, outlet);
    }
    Ok(Box::new(OrtModel {
        inputs: input_ports(model),
        outputs,
        session,
    }))
}

/// ONNX Runtime infers the types of outputs for which the model gives none.
fn complete(port: &mut Port, outlet: &Outlet) {
    if let (DataType::Undefined, ValueType::Tensor { ty, .. }) = (port.dtype, outlet.dtype()) {
        port.dtype = values::data_type(*ty);
    }
}

struct OrtModel {
    session: OrtSession,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
}

impl Session for OrtModel {
    fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    fn run(&mut self, inputs: &[(&str, &Tensor)]) -> Result<Vec<Tensor>> {
        let tensors = arrange(NAME, &self.inputs, inputs)?;
        self.run_arranged(&tensors)
            .map_err(|error| failed(error.to_string()))
    }
}

impl OrtModel {
    fn run_arranged(&mut self, tensors: &[&Tensor]) -> ::ort::Result<Vec<Tensor>> {
        let named = self.inputs.iter().zip(tensors);
        let named: Vec<(&str, SessionInputValue<'_>)> = named
            .map(|(port, tensor)| Ok((port.name.as_str(), values::to_ort(tensor)?)))
            .collect::<::ort::Result<_>>()?;
        let outputs = self.session.run(named)?;
        outputs
            .values()
            .map(|value| values::from_ort(&value))
            .collect()
    }
}

/// `y = x * x` on one number, to see whether a provider runs at all.
pub(super) fn tiny_model() -> ModelProto {
    let mut graph = GraphProto::new("square");
    graph.input = vec![ValueInfoProto::tensor(
        "x",
        DataType::Float,
        &[Dim::Fixed(1)],
    )];
    graph.output = vec![ValueInfoProto::tensor(
        "y",
        DataType::Float,
        &[Dim::Fixed(1)],
    )];
    graph.node = vec![NodeProto::new("Mul", &["x", "x"], &["y"])];
    ModelProto::new(graph, OPSET)
}
