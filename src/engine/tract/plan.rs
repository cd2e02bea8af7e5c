//! One compiled plan: a model for one set of input shapes.

use std::sync::Arc;

use prost::Message;
use tract_onnx::pb;
use tract_onnx::prelude::{
    Framework, InferenceFact, InferenceModel, InferenceModelExt, IntoRunnable, TValue, TVec,
    TractError, TypedModel, TypedRunnableModel,
};

use super::mend::mend;
use super::pack::pack_weights;
use super::reason::Reasons;
use super::values;
use crate::engine::Port;
use crate::onnx::{DataType, ModelProto, Tensor};

/// Types and shapes of the inputs, in the order of the model's ports.
pub(super) type Facts = Vec<(DataType, Vec<usize>)>;

/// A model compiled for these input types and shapes.
pub(super) struct Plan {
    facts: Facts,
    runnable: Arc<TypedRunnableModel>,
}

impl Plan {
    /// Compiles for inputs of these types and shapes.
    pub(super) fn compile(
        model: &ModelProto,
        ports: &[Port],
        facts: &Facts,
    ) -> Result<Self, String> {
        let parsed = || parse(model, ports, facts);
        let reason = |error: TractError| Reasons::new(model).explain(&error);
        let mut optimised = match parsed()?.into_optimized() {
            Ok(optimised) => optimised,
            Err(error) => optimise_plainly(parsed()?).ok_or_else(|| reason(error))?,
        };
        pack_weights(&mut optimised).map_err(reason)?;
        let runnable = optimised.into_runnable().map_err(reason)?;
        Ok(Self {
            facts: facts.clone(),
            runnable,
        })
    }

    /// Whether the plan was compiled for these types and shapes.
    pub(super) fn fits(&self, facts: &Facts) -> bool {
        self.facts == *facts
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
        let outputs = self.values(model, inputs)?;
        outputs
            .iter()
            .map(|value| values::from_tract(value))
            .collect()
    }

    /// Runs on tract's own tensors.
    pub(super) fn values(
        &self,
        model: &ModelProto,
        inputs: TVec<TValue>,
    ) -> Result<TVec<TValue>, String> {
        let outputs = self.runnable.run(inputs);
        outputs.map_err(|error| Reasons::new(model).explain(&error))
    }
}

/// The model in tract's terms, with the types and shapes of the inputs at hand.
fn parse(model: &ModelProto, ports: &[Port], facts: &Facts) -> Result<InferenceModel, String> {
    let reasons = Reasons::new(model);
    let proto = translate(model).map_err(|error| error.to_string())?;
    let mut parsed = tract_onnx::onnx()
        .with_ignore_value_info(true)
        .with_ignore_output_shapes(true)
        .with_ignore_output_types(true)
        .model_for_proto_model(&proto)
        .map_err(|error| reasons.explain(&error))?;
    drop(proto);
    let outlets = parsed.input_outlets().map(<[_]>::to_vec);
    let outlets = outlets.map_err(|error| reasons.explain(&error))?;
    for (at, outlet) in outlets.iter().enumerate() {
        let name = &parsed.node(outlet.node).name;
        let given = ports.iter().zip(facts).find(|(port, _)| port.name == *name);
        let (_, (dtype, shape)) = given.ok_or_else(|| format!("no input {name:?} is given"))?;
        let fact = InferenceFact::dt_shape(values::datum_type(*dtype)?, shape);
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

/// Optimises without the simplification before it, for models on which that goes wrong: slower, but
/// it runs. (LeViT: "Pulling Downsample over Reshape / Invalid axis" in 0.23.9.) The model is parsed
/// again for it: keeping the first one would keep a second copy of the weights for every model.
fn optimise_plainly(parsed: InferenceModel) -> Option<TypedModel> {
    // Only the first error tells anything: this one would follow from what was left undone.
    let mut typed = parsed.into_typed().ok()?;
    typed.optimize().ok()?;
    Some(typed)
}
