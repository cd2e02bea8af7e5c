//! One compiled plan: a model for one set of input shapes.
//!
//! Exporters leave shape notes in the file (`value_info`, symbolic batch sizes, output shapes) that
//! contradict the concrete shapes tract is given, and then it refuses the model: dropping the notes
//! and declaring the shapes at hand mends that. Nothing else of the model changes.

use std::sync::Arc;

use prost::Message;
use tract_onnx::pb;
use tract_onnx::prelude::{
    Framework, InferenceFact, InferenceModelExt, IntoRunnable, TVec, TractError, TypedRunnableModel,
};

use super::values;
use crate::engine::Port;
use crate::onnx::proto::{AttributeProto, type_proto};
use crate::onnx::{DataType, GraphProto, ModelProto, Tensor};

/// A model compiled for these input types and shapes.
pub(super) struct Plan {
    facts: Vec<(DataType, Vec<usize>)>,
    runnable: Arc<TypedRunnableModel>,
}

impl Plan {
    /// Compiles for the shapes of `inputs`, which are in the order of `ports`.
    pub(super) fn compile(
        model: &ModelProto,
        ports: &[Port],
        inputs: &[&Tensor],
    ) -> Result<Self, String> {
        let proto = translate(model).map_err(|error| error.to_string())?;
        let mut onnx = tract_onnx::onnx()
            .with_ignore_value_info(true)
            .with_ignore_output_shapes(true)
            .with_ignore_output_types(true)
            .model_for_proto_model(&proto)
            .map_err(reason)?;
        drop(proto);
        for (at, outlet) in onnx
            .input_outlets()
            .map_err(reason)?
            .to_vec()
            .iter()
            .enumerate()
        {
            let name = onnx.node(outlet.node).name.clone();
            let given = ports.iter().zip(inputs).find(|(port, _)| port.name == name);
            let (_, tensor) = given.ok_or_else(|| format!("input {name:?} is not known"))?;
            onnx.set_input_fact(at, fact(tensor)?).map_err(reason)?;
        }
        let runnable = onnx
            .into_optimized()
            .and_then(IntoRunnable::into_runnable)
            .map_err(reason)?;
        let facts = inputs
            .iter()
            .map(|tensor| (tensor.dtype(), tensor.shape().to_vec()));
        Ok(Self {
            facts: facts.collect(),
            runnable,
        })
    }

    /// Whether the plan was compiled for these types and shapes.
    pub(super) fn fits(&self, inputs: &[&Tensor]) -> bool {
        let mut pairs = self.facts.iter().zip(inputs);
        pairs.all(|((dtype, shape), tensor)| *dtype == tensor.dtype() && shape == tensor.shape())
    }

    /// Runs on inputs of the compiled shapes.
    pub(super) fn run(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, String> {
        let inputs: TVec<_> = inputs
            .iter()
            .map(|tensor| values::to_tract(tensor).map(Into::into))
            .collect::<Result<_, String>>()?;
        let outputs = self.runnable.run(inputs).map_err(reason)?;
        outputs
            .iter()
            .map(|value| values::from_tract(value))
            .collect()
    }
}

/// The model in tract's own message types, without shape notes.
fn translate(model: &ModelProto) -> Result<pb::ModelProto, prost::DecodeError> {
    let mut model = model.clone();
    if let Some(graph) = &mut model.graph {
        forget_shapes(graph);
    }
    pb::ModelProto::decode(model.encode_to_vec().as_slice())
}

fn forget_shapes(graph: &mut GraphProto) {
    graph.value_info.clear();
    for info in graph.input.iter_mut().chain(&mut graph.output) {
        if let Some(type_proto::Value::TensorType(tensor)) =
            info.r#type.as_mut().and_then(|kind| kind.value.as_mut())
        {
            tensor.shape = None;
        }
    }
    let attributes = graph.node.iter_mut().flat_map(|node| &mut node.attribute);
    attributes.flat_map(subgraphs).for_each(forget_shapes);
}

fn subgraphs(attribute: &mut AttributeProto) -> impl Iterator<Item = &mut GraphProto> {
    attribute.g.iter_mut().chain(&mut attribute.graphs)
}

fn fact(tensor: &Tensor) -> Result<InferenceFact, String> {
    let dtype = values::datum_type(tensor.dtype())?;
    Ok(InferenceFact::dt_shape(dtype, tensor.shape()))
}

/// The two useful lines of tract's cause chain: the outermost that names a node, and the cause.
fn reason(error: TractError) -> String {
    let lines: Vec<String> = error.chain().map(ToString::to_string).collect();
    lines.join(" / ")
}
