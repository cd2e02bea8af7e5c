//! One compiled plan: a model for one set of input shapes.

use std::sync::Arc;

use prost::Message;
use tract_onnx::pb;
use tract_onnx::prelude::{
    Framework, InferenceFact, InferenceModel, InferenceModelExt, IntoRunnable, TVec, TractResult,
    TypedModel, TypedRunnableModel,
};

use super::mend::mend;
use super::pack::pack_weights;
use super::reason::Reasons;
use super::values;
use crate::engine::Port;
use crate::onnx::{DataType, ModelProto, Tensor};

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
        let reasons = Reasons::new(model);
        let parsed = parse(model, ports, inputs)?;
        let runnable = optimise(&parsed)
            .and_then(IntoRunnable::into_runnable)
            .map_err(|error| reasons.explain(&error))?;
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
    pub(super) fn run(
        &self,
        model: &ModelProto,
        inputs: &[&Tensor],
    ) -> Result<Vec<Tensor>, String> {
        let inputs: TVec<_> = inputs
            .iter()
            .map(|tensor| values::to_tract(tensor).map(Into::into))
            .collect::<Result<_, String>>()?;
        let outputs = self.runnable.run(inputs);
        let outputs = outputs.map_err(|error| Reasons::new(model).explain(&error))?;
        outputs
            .iter()
            .map(|value| values::from_tract(value))
            .collect()
    }
}

/// The model in tract's terms, with the types and shapes of the inputs at hand.
fn parse(model: &ModelProto, ports: &[Port], inputs: &[&Tensor]) -> Result<InferenceModel, String> {
    let reasons = Reasons::new(model);
    let proto = translate(model).map_err(|error| error.to_string())?;
    let mut parsed = tract_onnx::onnx()
        .with_ignore_value_info(true)
        .with_ignore_output_shapes(true)
        .with_ignore_output_types(true)
        .model_for_proto_model(&proto)
        .map_err(|error| reasons.explain(&error))?;
    let outlets = parsed.input_outlets().map(<[_]>::to_vec);
    let outlets = outlets.map_err(|error| reasons.explain(&error))?;
    for (at, outlet) in outlets.iter().enumerate() {
        let name = &parsed.node(outlet.node).name;
        let given = ports
            .iter()
            .zip(inputs)
            .find(|(port, _)| port.name == *name);
        let (_, tensor) = given.ok_or_else(|| format!("no input {name:?} is given"))?;
        let dtype = values::datum_type(tensor.dtype())?;
        let fact = InferenceFact::dt_shape(dtype, tensor.shape());
        let set = parsed.set_input_fact(at, fact);
        set.map_err(|error| reasons.explain(&error))?;
    }
    Ok(parsed)
}

fn translate(model: &ModelProto) -> Result<pb::ModelProto, prost::DecodeError> {
    let mut model = model.clone();
    let opset = model.opset("").unwrap_or(0);
    if let Some(graph) = &mut model.graph {
        mend(graph, opset);
    }
    pb::ModelProto::decode(model.encode_to_vec().as_slice())
}

/// Optimises in full, or, where tract's simplification goes wrong, without it: slower, but it runs.
/// (LeViT: "Pulling Downsample over Reshape / Invalid axis" in 0.23.9.)
fn optimise(parsed: &InferenceModel) -> TractResult<TypedModel> {
    let typed = parsed.clone().into_typed()?;
    let plain = typed.clone();
    let optimised = typed.into_optimized().or_else(|error| {
        let mut plain = plain;
        // The first error is the one that tells: the second follows from what was left undone.
        plain.optimize().map_err(|_| error)?;
        Ok(plain)
    });
    optimised.and_then(|mut model| {
        pack_weights(&mut model)?;
        Ok(model)
    })
}
