//! Steps in ONNX Runtime: the outputs of one run are the inputs of the next.
//!
//! On the CPU the values themselves are handed on, which costs nothing. On a device an `IoBinding`
//! tells ONNX Runtime to leave the state's outputs there. The binding is tested on the CPU; there
//! was no GPU to run it on.

use ::ort::memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType};
use ::ort::session::{IoBinding, Session as OrtSession, SessionInputValue, SessionOutputs};
use ::ort::value::{DynTensorValueType, DynValue};

use super::{
    NAME, Provider, failed,
    session::{self, Loaded},
    values,
};
use crate::engine::steps::{Layout, Source, Steps};
use crate::error::Result;
use crate::onnx::{ModelProto, Tensor};

/// Wraps a loaded training graph.
pub(super) fn steps(
    loaded: Loaded,
    provider: Provider,
    model: &ModelProto,
    feedback: &[(String, String)],
    initial: Vec<(String, Tensor)>,
) -> Result<Box<dyn Steps>> {
    let device = match provider {
        Provider::Cpu => None,
        Provider::Cuda(device) => Some((
            AllocationDevice::CUDA,
            i32::try_from(device).unwrap_or(i32::MAX),
        )),
    };
    build(loaded, device, model, feedback, initial).map(|steps| Box::new(steps) as Box<dyn Steps>)
}

fn build(
    loaded: Loaded,
    device: Option<(AllocationDevice, i32)>,
    model: &ModelProto,
    feedback: &[(String, String)],
    initial: Vec<(String, Tensor)>,
) -> Result<OrtSteps> {
    let (layout, first) = Layout::new(NAME, model, feedback, initial)?;
    let held = first.into_iter().map(values::into_ort);
    let held = held.collect::<::ort::Result<Vec<_>>>().map_err(said)?;
    let binding = match device {
        None => None,
        Some((device, number)) => {
            Some(bind_outputs(&loaded.session, &layout, device, number).map_err(said)?)
        }
    };
    Ok(OrtSteps {
        bound: vec![false; held.len()],
        loaded,
        layout,
        held,
        binding,
    })
}

/// State stays on the device; the other outputs come to the CPU.
fn bind_outputs(
    session: &OrtSession,
    layout: &Layout,
    device: AllocationDevice,
    number: i32,
) -> ::ort::Result<IoBinding> {
    let mut binding = session.create_binding()?;
    let there = MemoryInfo::new(device, number, AllocatorType::Device, MemoryType::Default)?;
    for output in &layout.outputs {
        match output.renews {
            Some(_) => binding.bind_output_to_device(&output.name, &there)?,
            None => binding.bind_output_to_device(&output.name, &MemoryInfo::default())?,
        }
    }
    Ok(binding)
}

struct OrtSteps {
    loaded: Loaded,
    layout: Layout,
    held: Vec<DynValue>,
    /// Where the state is on a device.
    binding: Option<IoBinding>,
    /// What is bound for good: it went to the device once, and no step renews it.
    bound: Vec<bool>,
}

impl Steps for OrtSteps {
    fn step(&mut self, inputs: &[(&str, &Tensor)]) -> Result<Vec<Tensor>> {
        let given = self.layout.arrange(inputs)?;
        self.run(&given).map_err(said)
    }

    fn state(&self) -> Result<Vec<(String, Tensor)>> {
        let named = self.layout.held().zip(&self.held);
        named
            .map(|(name, value)| Ok((name.to_owned(), self.fetch(value).map_err(said)?)))
            .collect()
    }

    fn set_state(&mut self, state: Vec<(String, Tensor)>) -> Result<()> {
        for (at, tensor) in self.layout.placed(state)? {
            self.held[at] = values::into_ort(tensor).map_err(said)?;
            self.bound[at] = false;
        }
        Ok(())
    }
}

impl OrtSteps {
    fn run(&mut self, given: &[&Tensor]) -> ::ort::Result<Vec<Tensor>> {
        let session::Loaded { session, quiet, .. } = &mut self.loaded;
        let mut outputs = match &mut self.binding {
            None => {
                let named = self.layout.inputs.iter().map(|input| {
                    let value = match input.source {
                        Source::Held(at) => SessionInputValue::from(&self.held[at]),
                        Source::Given(at) => values::to_ort(given[at])?,
                    };
                    Ok((input.name.as_str(), value))
                });
                let named: Vec<_> = named.collect::<::ort::Result<_>>()?;
                session.run_with_options(named, &*quiet)?
            }
            Some(binding) => {
                for input in &self.layout.inputs {
                    match input.source {
                        Source::Held(at) if self.bound[at] => {}
                        Source::Held(at) => {
                            binding.bind_input(&input.name, &self.held[at])?;
                            self.bound[at] = !self.layout.renews(at);
                        }
                        Source::Given(at) => {
                            // The binding outlives this step, so it gets a copy of its own.
                            let value = values::into_ort(given[at].clone())?;
                            binding.bind_input(&input.name, &value)?;
                        }
                    }
                }
                session.run_binding_with_options(binding, &*quiet)?
            }
        };
        renew(&self.layout, &mut self.held, &mut outputs)
    }

    fn fetch(&self, value: &DynValue) -> ::ort::Result<Tensor> {
        if self.binding.is_none() {
            return values::from_ort(value);
        }
        let tensor = value.view().downcast::<DynTensorValueType>()?;
        values::from_ort(&tensor.to(AllocationDevice::CPU, 0)?.into_dyn())
    }
}

/// Copies the results out, then takes over the state: a result that cannot be read changes nothing.
fn renew(
    layout: &Layout,
    held: &mut [DynValue],
    outputs: &mut SessionOutputs<'_>,
) -> ::ort::Result<Vec<Tensor>> {
    let mut results = Vec::new();
    let mut renewed = Vec::new();
    for output in &layout.outputs {
        let missing = || ::ort::Error::new(format!("output {:?} did not come", output.name));
        let value = outputs.remove(&output.name).ok_or_else(missing)?;
        match output.renews {
            Some(at) => renewed.push((at, value)),
            None => results.push(values::from_ort(&value)?),
        }
    }
    for (at, value) in renewed {
        held[at] = value;
    }
    Ok(results)
}

fn said(error: ::ort::Error) -> crate::error::Error {
    failed(error.to_string())
}

#[cfg(test)]
mod tests {
    use ::ort::session::Session;

    use super::*;
    use crate::engine::ort::{environment, session};
    use crate::engine::testing::{self, counter};

    #[test]
    fn a_binding_gives_what_plain_feedback_gives() {
        let loaded = environment::load(&testing::ort_library()).unwrap();
        let (model, feedback, initial) = counter();
        let one = Tensor::f32([2], vec![1.0, 2.0]).unwrap();
        let mut found = Vec::new();
        for device in [None, Some((AllocationDevice::CPU, 0))] {
            let builder = Session::builder(&loaded.environment).unwrap();
            let session = session::open(builder, &model).unwrap();
            let mut steps = build(session, device, &model, &feedback, initial.clone()).unwrap();
            let sums: Vec<_> = (0..3)
                .map(|_| steps.step(&[("x", &one)]).unwrap())
                .collect();
            let before = steps.state().unwrap();
            // What stays on a device for good can be replaced nevertheless.
            let factor = Tensor::f32([2], vec![3.0; 2]).unwrap();
            steps
                .set_state(vec![("factor".to_owned(), factor)])
                .unwrap();
            let tripled = steps.step(&[("x", &one)]).unwrap();
            found.push((sums, before, tripled));
        }
        assert_eq!(found[0], found[1]);
        assert_eq!(*found[1].2[0].to_f32(), [12.0, 24.0]);
    }
}
