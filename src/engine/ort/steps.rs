//! Steps in ONNX Runtime: the outputs of one run are the inputs of the next.
//!
//! On the CPU the values themselves are handed on, which costs nothing. On a device an `IoBinding`
//! tells ONNX Runtime to leave the state's outputs there. The tests run the binding on the CPU.

use std::collections::HashMap;
use std::sync::Arc;

use ::ort::memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType};
use ::ort::session::{IoBinding, SessionInputValue, SessionOutputs};
use ::ort::value::{DynTensorValueType, DynValue, ValueType};

use super::{
    NAME, Provider, failed,
    session::{self, Loaded},
    values,
};
use crate::engine::snapshot::{Inside, Snapshot, Value, inside, shared, zeros};
use crate::engine::steps::{Layout, Source, Steps};
use crate::error::Result;
use crate::onnx::{DataType, ModelProto, Tensor};

/// Wraps a loaded training graph.
pub(super) fn steps(
    loaded: Loaded,
    provider: Provider,
    model: &ModelProto,
    feedback: &[(String, String)],
    initial: Snapshot,
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

/// Where the state is.
type Device = (AllocationDevice<'static>, i32);

fn build(
    loaded: Loaded,
    device: Option<Device>,
    model: &ModelProto,
    feedback: &[(String, String)],
    initial: Snapshot,
) -> Result<OrtSteps> {
    let (layout, first) = Layout::new(NAME, model, feedback, initial)?;
    let places = (0..first.len()).zip(first);
    let held = taken(places, device.as_ref())?.into_iter();
    let held: Vec<Arc<Kept>> = held.map(|(_, value)| value).collect();
    let bound = device
        .map(|device| Bound::new(&loaded, device, held.len()))
        .transpose()
        .map_err(said)?;
    Ok(OrtSteps {
        loaded,
        layout,
        held,
        bound,
    })
}

struct OrtSteps {
    loaded: Loaded,
    layout: Layout,
    held: Vec<Arc<Kept>>,
    /// Nothing where the state is on the CPU.
    bound: Option<Bound>,
}

/// How a session is told to leave the state on a device.
struct Bound {
    binding: IoBinding,
    device: Device,
    there: MemoryInfo<'static>,
    here: MemoryInfo<'static>,
    /// Which held values are bound for good, since no step renews them.
    fixed: Vec<bool>,
}

impl Bound {
    fn new(loaded: &Loaded, device: Device, held: usize) -> ::ort::Result<Self> {
        let (kind, number) = device.clone();
        Ok(Self {
            binding: loaded.session.create_binding()?,
            there: MemoryInfo::new(kind, number, AllocatorType::Device, MemoryType::Default)?,
            here: MemoryInfo::default(),
            device,
            fixed: vec![false; held],
        })
    }

    /// Binds everything for the next step.
    fn bind(
        &mut self,
        layout: &Layout,
        held: &[Arc<Kept>],
        given: &[&Tensor],
    ) -> ::ort::Result<()> {
        for input in &layout.inputs {
            match input.source {
                Source::Held(at) if self.fixed[at] => {}
                Source::Held(at) => {
                    self.binding.bind_input(&input.name, &held[at].0)?;
                    self.fixed[at] = !layout.renews(at);
                }
                Source::Given(at) => {
                    // The binding outlives this step, so it gets a copy of its own.
                    let value = values::into_ort(given[at].clone())?;
                    self.binding.bind_input(&input.name, &value)?;
                }
            }
        }
        // Anew for each step: an output that stays bound is written where the last step's is, which
        // the state is read from, and snapshots as well.
        self.binding.clear_outputs();
        for output in &layout.outputs {
            let place = match output.renews {
                Some(_) => &self.there,
                None => &self.here,
            };
            self.binding.bind_output_to_device(&output.name, place)?;
        }
        Ok(())
    }
}

impl Steps for OrtSteps {
    fn step(&mut self, inputs: &[(&str, &Tensor)]) -> Result<Vec<Tensor>> {
        let given = self.layout.arrange(inputs)?;
        self.run(&given).map_err(said)
    }

    fn snapshot(&self) -> Snapshot {
        inside(self.layout.held(), &self.held)
    }

    fn hold(&mut self, values: Snapshot) -> Result<()> {
        let device = self.bound.as_ref().map(|bound| &bound.device);
        for (at, value) in taken(self.layout.placed(values)?, device)? {
            self.held[at] = value;
            if let Some(bound) = &mut self.bound {
                bound.fixed[at] = false;
            }
        }
        Ok(())
    }
}

impl OrtSteps {
    fn run(&mut self, given: &[&Tensor]) -> ::ort::Result<Vec<Tensor>> {
        let session::Loaded { session, quiet, .. } = &mut self.loaded;
        let mut outputs = match &mut self.bound {
            None => {
                let named = self.layout.inputs.iter().map(|input| {
                    let value = match input.source {
                        Source::Held(at) => SessionInputValue::from(&self.held[at].0),
                        Source::Given(at) => values::to_ort(given[at])?,
                    };
                    Ok((input.name.as_str(), value))
                });
                let named: Vec<_> = named.collect::<::ort::Result<_>>()?;
                session.run_with_options(named, &*quiet)?
            }
            Some(bound) => {
                bound.bind(&self.layout, &self.held, given)?;
                session.run_binding_with_options(&bound.binding, &*quiet)?
            }
        };
        renew(&self.layout, &mut self.held, &mut outputs)
    }
}

/// Copies the results out, then takes over the state: a result that cannot be read changes nothing.
fn renew(
    layout: &Layout,
    held: &mut [Arc<Kept>],
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
        held[at] = Arc::new(Kept(value));
    }
    Ok(results)
}

/// A value that is held; it is never changed.
struct Kept(DynValue);

impl Inside for Kept {
    fn dtype(&self) -> DataType {
        match self.0.dtype() {
            ValueType::Tensor { ty, .. } => values::data_type(*ty),
            _ => DataType::Undefined,
        }
    }

    fn shape(&self) -> Vec<usize> {
        match self.0.dtype() {
            ValueType::Tensor { shape, .. } => shape
                .iter()
                .map(|&size| usize::try_from(size).unwrap_or_default())
                .collect(),
            _ => Vec::new(),
        }
    }

    fn fetch(&self) -> Result<Tensor> {
        let fetch = || {
            let tensor = self.0.view().downcast::<DynTensorValueType>()?;
            match tensor.memory_info().is_cpu_accessible() {
                true => values::from_ort(&self.0),
                false => values::from_ort(&tensor.to(AllocationDevice::CPU, 0)?.into_dyn()),
            }
        };
        fetch().map_err(said)
    }
}

/// Values as they are held on the device. Zeros of one shape are one value: nobody writes to it.
fn taken(
    places: impl IntoIterator<Item = (usize, Value)>,
    device: Option<&Device>,
) -> Result<Vec<(usize, Arc<Kept>)>> {
    let mut empty: HashMap<Vec<usize>, Arc<Kept>> = HashMap::new();
    let placed = |tensor: Tensor| {
        let place = || {
            let value = values::into_ort(tensor)?;
            let Some((device, number)) = device.cloned() else {
                return Ok(value);
            };
            let tensor = value.downcast::<DynTensorValueType>()?;
            Ok(tensor.to(device, number)?.into_dyn())
        };
        let value = place().map_err(said)?;
        Ok(Arc::new(Kept(value)))
    };
    let taken = places.into_iter().map(|(at, value)| {
        let kept = match value {
            Value::Inside(value) => shared(NAME, value)?,
            Value::Given(tensor) => placed(Arc::unwrap_or_clone(tensor))?,
            Value::Zeros(shape) => match empty.get(&shape) {
                Some(kept) => kept.clone(),
                None => {
                    let kept = placed(zeros(&shape)?)?;
                    empty.entry(shape).or_insert(kept).clone()
                }
            },
        };
        Ok((at, kept))
    });
    taken.collect()
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
            let initial = initial.clone().into();
            let mut steps = build(session, device, &model, &feedback, initial).unwrap();
            let first = steps.snapshot();
            let mut kept = Vec::new();
            let sums: Vec<_> = (0..3)
                .map(|_| {
                    let sum = steps.step(&[("x", &one)]).unwrap();
                    kept.push(steps.snapshot());
                    sum
                })
                .collect();
            let before = steps.state().unwrap();
            // What stays on a device for good can be replaced nevertheless.
            let factor = Tensor::f32([2], vec![3.0; 2]).unwrap();
            let factor = vec![("factor".to_owned(), factor)];
            steps.hold(factor.into()).unwrap();
            let tripled = steps.step(&[("x", &one)]).unwrap();
            // Later steps write elsewhere.
            let kept: Vec<_> = kept.iter().map(|kept| kept.fetch().unwrap()).collect();
            steps.hold(first).unwrap();
            let again = steps.step(&[("x", &one)]).unwrap();
            found.push((sums, before, tripled, kept, again));
        }
        assert_eq!(found[0], found[1]);
        let (sums, before, tripled, kept, again) = &found[0];
        assert_eq!(*tripled[0].to_f32(), [12.0, 24.0]);
        assert_eq!(*kept[0][0].1.to_f32(), [1.0, 2.0]);
        assert_eq!((&kept[2], &sums[0]), (before, again));
    }
}
