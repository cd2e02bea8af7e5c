//! Steps in tract: the output tensors of one run are the inputs of the next, shared and not copied.

use std::sync::Arc;

use tract_linalg::multithread::Executor;
use tract_onnx::prelude::{IntoArcTensor, TValue, TVec, Tensor as TractTensor};

use super::plan::{Facts, Plan};
use super::{NAME, failed, guard, values};
use crate::engine::inputs::input_ports;
use crate::engine::snapshot::{Inside, Snapshot, Value, inside, shared, zeros};
use crate::engine::steps::{Layout, Source, Steps};
use crate::error::Result;
use crate::onnx::{DataType, ModelProto, Tensor};

pub(super) struct TractSteps {
    model: ModelProto,
    executor: Executor,
    layout: Layout,
    held: Vec<Arc<Kept>>,
    /// For the shapes of the last step.
    plan: Option<Plan>,
}

impl TractSteps {
    pub(super) fn new(
        model: &ModelProto,
        executor: &Executor,
        feedback: &[(String, String)],
        initial: Snapshot,
    ) -> Result<Self> {
        let (layout, first) = Layout::new(NAME, model, feedback, initial)?;
        let held = first.into_iter().map(kept).collect::<Result<_>>()?;
        Ok(Self {
            model: model.clone(),
            executor: executor.clone(),
            layout,
            held,
            plan: None,
        })
    }

    /// The plan for inputs of these types and shapes.
    fn plan(&mut self, given: &[&Tensor]) -> Result<Plan> {
        let facts = self.layout.inputs.iter().map(|input| match input.source {
            Source::Given(at) => Ok((given[at].dtype(), given[at].shape().to_vec())),
            Source::Held(at) => {
                let held = &self.held[at];
                Ok((held.dtype, held.tensor.shape().to_vec()))
            }
        });
        let facts: Facts = facts.collect::<Result<_, String>>().map_err(failed)?;
        match self.plan.take().filter(|plan| plan.fits(&facts)) {
            Some(plan) => Ok(plan),
            None => {
                let ports = input_ports(&self.model);
                let compile = || Plan::compile(&self.model, &ports, &facts);
                guard::run(&self.executor, compile).map_err(failed)
            }
        }
    }

    fn run(&self, plan: &Plan, given: &[&Tensor]) -> Result<Vec<Arc<TractTensor>>, String> {
        let inputs = self.layout.inputs.iter().map(|input| match input.source {
            Source::Held(at) => Ok(TValue::from_const(self.held[at].tensor.clone())),
            Source::Given(at) => values::to_tract(given[at]).map(TValue::from),
        });
        let inputs: TVec<TValue> = inputs.collect::<Result<_, String>>()?;
        let outputs = plan.values(&self.model, inputs)?;
        Ok(outputs
            .into_iter()
            .map(IntoArcTensor::into_arc_tensor)
            .collect())
    }
}

impl Steps for TractSteps {
    fn step(&mut self, inputs: &[(&str, &Tensor)]) -> Result<Vec<Tensor>> {
        let given = self.layout.arrange(inputs)?;
        let plan = self.plan(&given)?;
        let outputs = guard::run(&self.executor, || self.run(&plan, &given)).map_err(failed)?;
        let mut results = Vec::new();
        let mut renewed = Vec::new();
        for (output, value) in self.layout.outputs.iter().zip(outputs) {
            match output.renews {
                Some(at) => renewed.push((at, Kept::new(value)?)),
                None => results.push(values::from_tract(&value).map_err(failed)?),
            }
        }
        for (at, value) in renewed {
            self.held[at] = value;
        }
        self.plan = Some(plan);
        Ok(results)
    }

    fn snapshot(&self) -> Snapshot {
        inside(self.layout.held(), &self.held)
    }

    fn hold(&mut self, values: Snapshot) -> Result<()> {
        for (at, value) in self.layout.placed(values)? {
            self.held[at] = kept(value)?;
        }
        Ok(())
    }
}

/// A value that is held; it is never changed.
struct Kept {
    dtype: DataType,
    tensor: Arc<TractTensor>,
}

impl Kept {
    fn new(tensor: Arc<TractTensor>) -> Result<Arc<Self>> {
        let dtype = values::data_type(tensor.datum_type()).map_err(failed)?;
        Ok(Arc::new(Self { dtype, tensor }))
    }
}

impl Inside for Kept {
    fn dtype(&self) -> DataType {
        self.dtype
    }

    fn shape(&self) -> Vec<usize> {
        self.tensor.shape().to_vec()
    }

    fn fetch(&self) -> Result<Tensor> {
        values::from_tract(&self.tensor).map_err(failed)
    }
}

fn kept(value: Value) -> Result<Arc<Kept>> {
    let tensor = match value {
        Value::Inside(value) => return shared(NAME, value),
        Value::Given(given) => values::to_tract(&given),
        Value::Zeros(shape) => values::to_tract(&zeros(&shape)?),
    };
    Kept::new(tensor.map_err(failed)?.into_arc_tensor())
}
