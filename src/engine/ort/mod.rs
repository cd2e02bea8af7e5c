//! ONNX Runtime, from a shared library loaded by its full path.
//!
//! A process holds one library and one environment for its whole life (`environment`). The
//! provider a caller asks for is the one that runs or there is an error: ONNX Runtime's own habit
//! of quietly using the CPU instead is turned off.

mod elf;
mod environment;
mod file;
mod placement;
mod session;
mod steps;
mod values;

use std::path::Path;
use std::sync::Arc;

use ::ort::ep::CUDA;
use ::ort::ep::cuda::ConvAlgorithmSearch;
use ::ort::session::Session as OrtSession;
use ::ort::session::builder::SessionBuilder;

use super::select::ProviderChoice;
use super::{
    Engine, EngineInfo, OnCpu, Precision, Session, Snapshot, Steps, cuda, memory,
    threads_or_default, widen,
};
use crate::error::{Error, Result};
use crate::onnx::{DataType, ModelProto, Tensor};
use environment::Loaded;

pub(super) use elf::needed_libraries;
pub(super) use environment::{loaded_library, minor_version, version};

/// Name in messages and reports.
pub(super) const NAME: &str = "onnxruntime";

/// Where ONNX Runtime computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Provider {
    Cpu,
    /// With the number of the device.
    Cuda(u32),
}

/// ONNX Runtime from this library, on the CPU or a CUDA device.
///
/// [`ProviderChoice::Auto`] means the CPU here; [`open`](super::open) tries CUDA as well. The
/// precision is that of a CUDA device.
///
/// # Errors
/// [`Error::Engine`] when the library cannot be loaded, is too old, another one is loaded already,
/// or the provider does not work on this machine.
pub fn ort(
    library: &Path,
    provider: ProviderChoice,
    precision: Precision,
    threads: Option<usize>,
) -> Result<Arc<dyn Engine>> {
    let provider = match provider {
        ProviderChoice::Auto | ProviderChoice::Cpu => Provider::Cpu,
        ProviderChoice::Cuda(device) => Provider::Cuda(device),
    };
    if let Provider::Cuda(_) = provider {
        cuda::prepare(library).map_err(failed)?;
    }
    let loaded = environment::load(library).map_err(failed)?;
    let engine = OnnxRuntime::new(loaded, provider, precision, threads);
    if let Provider::Cuda(_) = provider {
        engine.check_provider()?;
    }
    Ok(Arc::new(engine))
}

struct OnnxRuntime {
    info: EngineInfo,
    provider: Provider,
    loaded: Loaded,
}

impl OnnxRuntime {
    fn new(
        loaded: Loaded,
        provider: Provider,
        precision: Precision,
        threads: Option<usize>,
    ) -> Self {
        let info = EngineInfo {
            name: NAME,
            version: loaded.version.clone(),
            provider: match provider {
                Provider::Cpu => "cpu".to_owned(),
                Provider::Cuda(device) => format!("cuda:{device}"),
            },
            library: Some(loaded.library.clone()),
            threads: threads_or_default(threads),
            precision: match provider {
                Provider::Cpu => None,
                Provider::Cuda(_) => Some(precision),
            },
            on_cpu: OnCpu::default(),
        };
        Self {
            info,
            provider,
            loaded,
        }
    }

    /// Builds and runs a session on a tiny graph: `is_available` of ONNX Runtime says yes as soon
    /// as a library was built with a provider, whether or not the machine can run it.
    fn check_provider(&self) -> Result<()> {
        let mut session = self.load(&session::tiny_model())?;
        let one = Tensor::f32([1], vec![1.0])?;
        session.run(&[("x", &one)]).map(drop)
    }

    fn load_as_is(&self, model: &ModelProto) -> Result<Box<dyn Session>> {
        let builder = self.builder().map_err(|error| failed(error.to_string()))?;
        session::load(builder, model)
    }

    fn builder(&self) -> ::ort::Result<SessionBuilder> {
        let mut builder = OrtSession::builder(&self.loaded.environment)?
            .with_intra_threads(self.info.threads)?
            // Its threads would otherwise wait for the next run in a loop, on the cores that score.
            .with_config_entry("session.force_spinning_stop", "1")?
            // What ONNX Runtime has to say comes back as an error, not on our stderr.
            .with_log_level(::ort::logging::LogLevel::Fatal)?;
        if let Provider::Cuda(device) = self.provider {
            let cuda = CUDA::default()
                .with_device_id(i32::try_from(device).unwrap_or(i32::MAX))
                .with_tf32(self.info.precision == Some(Precision::Tf32))
                // The default times all algorithms anew for every layer and batch size: seconds.
                .with_conv_algorithm_search(ConvAlgorithmSearch::Heuristic);
            builder = builder
                // A plan of the memory of a run is one more piece as large as all of it.
                .with_memory_pattern(false)?
                .with_execution_providers([cuda.build().error_on_failure()])?
                .with_logger(placement::listener(self.info.on_cpu.clone()))?
                .with_log_level(::ort::logging::LogLevel::Verbose)?;
        }
        Ok(builder)
    }
}

impl Engine for OnnxRuntime {
    fn info(&self) -> &EngineInfo {
        &self.info
    }

    fn free_memory(&self) -> Option<u64> {
        match self.provider {
            Provider::Cpu => memory::free(),
            Provider::Cuda(device) => cuda::free_memory(device),
        }
    }

    fn with_precision(&self, precision: Precision) -> Option<Box<dyn Engine>> {
        self.info.precision?;
        Some(Box::new(Self {
            info: EngineInfo {
                precision: Some(precision),
                ..self.info.clone()
            },
            provider: self.provider,
            loaded: self.loaded.clone(),
        }))
    }

    fn with_one_thread(&self) -> Option<Box<dyn Engine>> {
        if self.provider != Provider::Cpu {
            return None;
        }
        Some(Box::new(Self {
            info: EngineInfo {
                threads: 1,
                ..self.info.clone()
            },
            provider: self.provider,
            loaded: self.loaded.clone(),
        }))
    }

    fn load(&self, model: &ModelProto) -> Result<Box<dyn Session>> {
        self.load_as_is(model).or_else(|error| {
            // The CPU has no kernels for most operators in bf16; CUDA has.
            let load = |wide: &ModelProto| self.load_as_is(wide);
            widen::load(NAME, model, &[DataType::Bfloat16], load)?.ok_or(error)
        })
    }

    fn load_steps(
        &self,
        model: &ModelProto,
        feedback: &[(String, String)],
        initial: Snapshot,
    ) -> Result<Box<dyn Steps>> {
        let builder = self.builder().map_err(|error| failed(error.to_string()))?;
        let loaded = session::open(builder, model)?;
        steps::steps(loaded, self.provider, model, feedback, initial)
    }
}

fn failed(what: String) -> Error {
    let what = what.trim().to_owned();
    match memory::is_too_little(&what) {
        true => Error::OutOfMemory {
            engine: NAME,
            what,
            fits: None,
        },
        false => Error::Engine { engine: NAME, what },
    }
}
