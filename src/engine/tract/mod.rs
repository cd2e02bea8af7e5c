//! The embedded engine: the `tract` crate, on the CPU.
//!
//! tract compiles for concrete input shapes. A [`Session`] keeps the model's messages (weights are
//! shared bytes, so that costs nothing) and compiles a plan when a set of input shapes is first
//! seen; see `plan`. tract can panic on models it does not expect: `guard` turns that into an
//! error without a word on stderr.

mod guard;
mod mend;
mod pack;
mod plan;
mod reason;
mod steps;
mod values;

use std::sync::Arc;

use tract_linalg::multithread::Executor;

use super::inputs::{arrange, input_ports, output_ports};
use super::{Engine, EngineInfo, Port, Session, Snapshot, Steps, threads_or_default, widen};
use crate::error::{Error, Result};
use crate::onnx::{DataType, ModelProto, Tensor};
use plan::{Facts, Plan};
use steps::TractSteps;

/// Name in messages and reports.
pub(super) const NAME: &str = "tract";

/// Version of the `tract-onnx` crate; `Cargo.toml` pins it exactly.
const VERSION: &str = "0.23.9";

/// Plans kept per session. A pass over data needs two: full batches and the shorter last one. Each
/// plan holds its own packed copy of the weights, so more would cost memory for nothing.
const PLANS: usize = 2;

/// Types that models are not run in: tract has no bf16, and its f16 kernels sum in f16 and are not
/// made for this CPU (a ResNet18 took 268 s instead of 0.3 s, and was wrong by 3 %).
const NARROW: [DataType; 2] = [DataType::Float16, DataType::Bfloat16];

/// The embedded engine on this many threads, by default one per core.
pub fn tract(threads: Option<usize>) -> Arc<dyn Engine> {
    let threads = threads_or_default(threads);
    let executor = match threads {
        1 => Executor::SingleThread,
        count => Executor::multithread_with_name(count, guard::WORKER),
    };
    Arc::new(Tract {
        info: EngineInfo {
            name: NAME,
            version: VERSION.to_owned(),
            provider: "cpu".to_owned(),
            library: None,
            threads,
            ..EngineInfo::default()
        },
        executor,
    })
}

struct Tract {
    info: EngineInfo,
    executor: Executor,
}

impl Tract {
    fn session(&self, model: &ModelProto) -> Box<dyn Session> {
        Box::new(TractSession {
            inputs: input_ports(model),
            outputs: output_ports(model),
            model: model.clone(),
            executor: self.executor.clone(),
            plans: Vec::new(),
        })
    }
}

impl Engine for Tract {
    fn info(&self) -> &EngineInfo {
        &self.info
    }

    fn with_one_thread(&self) -> Option<Box<dyn Engine>> {
        Some(Box::new(Self {
            info: EngineInfo {
                threads: 1,
                ..self.info.clone()
            },
            executor: Executor::SingleThread,
        }))
    }

    fn load(&self, model: &ModelProto) -> Result<Box<dyn Session>> {
        let wide = widen::load(NAME, model, &NARROW, |wide| Ok(self.session(wide)))?;
        Ok(wide.unwrap_or_else(|| self.session(model)))
    }

    fn load_steps(
        &self,
        model: &ModelProto,
        feedback: &[(String, String)],
        initial: Snapshot,
    ) -> Result<Box<dyn Steps>> {
        let steps = TractSteps::new(model, &self.executor, feedback, initial)?;
        Ok(Box::new(steps))
    }
}

struct TractSession {
    model: ModelProto,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    executor: Executor,
    /// Most recently used first.
    plans: Vec<Plan>,
}

impl Session for TractSession {
    fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    fn run(&mut self, inputs: &[(&str, &Tensor)]) -> Result<Vec<Tensor>> {
        let tensors = arrange(NAME, &self.inputs, inputs)?;
        let facts = tensors.iter();
        let facts = facts.map(|tensor| (tensor.dtype(), tensor.shape().to_vec()));
        let facts: Facts = facts.collect();
        let at = self.plans.iter().position(|plan| plan.fits(&facts));
        let plan = match at {
            Some(at) => self.plans.remove(at),
            None => {
                // Before compiling: the old plan's weights make room for the new one's.
                self.plans.truncate(PLANS - 1);
                let compile = || Plan::compile(&self.model, &self.inputs, &facts);
                guard::run(&self.executor, compile).map_err(failed)?
            }
        };
        let outputs =
            guard::run(&self.executor, || plan.run(&self.model, &tensors)).map_err(failed)?;
        self.plans.insert(0, plan);
        Ok(outputs)
    }
}

fn failed(what: String) -> Error {
    Error::Engine { engine: NAME, what }
}
