//! Runs ONNX graphs: one pair of traits, two engines behind it.
//!
//! [`tract()`] is compiled in and always there; ONNX Runtime ([`ort()`]) is a shared library that
//! [`runtime`] looks for and loads by its full path, never lazily. [`open`] chooses between them
//! and says in words what it fell back to: an engine or provider that was asked for and cannot be
//! had is an error, not a slower run.
//!
//! An [`Engine`] loads a model; the [`Session`] it gives is used from one thread at a time. Shapes
//! may change from run to run (tract then compiles another plan). Both engines check names, types
//! and shapes of the inputs in the same place and with the same words.

pub mod cuda;
mod info;
mod inputs;
mod memory;
pub mod ort;
mod process;
pub mod runtime;
mod select;
mod snapshot;
mod steps;
#[doc(hidden)]
pub mod testing;
#[cfg(test)]
mod tests;
pub mod tract;
mod widen;

use crate::error::Result;
use crate::onnx::{DataType, Dim, ModelProto, Tensor};

pub use self::info::{EngineInfo, OnCpu, Precision};
pub use self::ort::ort;
pub use self::select::{EngineChoice, EngineOptions, ProviderChoice, Selected, open};
pub use self::snapshot::Snapshot;
pub use self::steps::Steps;
pub use self::tract::tract;
pub use self::widen::widened;

/// A runtime for ONNX graphs.
pub trait Engine: Send + Sync {
    /// What runs where.
    fn info(&self) -> &EngineInfo;

    /// Bytes that are free where it computes, where that can be asked.
    fn free_memory(&self) -> Option<u64> {
        memory::free()
    }

    /// The same engine with products of this precision, where it has a choice.
    fn with_precision(&self, precision: Precision) -> Option<Box<dyn Engine>> {
        let _ = precision;
        None
    }

    /// The same engine with one thread, for callers that run several sessions side by side; nothing
    /// where sessions share what they run on.
    fn with_one_thread(&self) -> Option<Box<dyn Engine>> {
        None
    }

    /// Prepares a model for running.
    ///
    /// ONNX Runtime refuses a model it cannot run here; tract compiles for concrete shapes and so
    /// reports at the first [`Session::run`].
    ///
    /// # Errors
    /// [`Error::Engine`](crate::Error::Engine) in the runtime's own words.
    fn load(&self, model: &ModelProto) -> Result<Box<dyn Session>>;

    /// Prepares a model whose outputs feed its own inputs, and keeps these in the engine.
    ///
    /// `feedback` pairs an output with the input that it is for the next step; `initial` gives the
    /// first value of each of these inputs, and of inputs that stay as they are. Types are the
    /// model's own: nothing is widened here (see [`widened`]).
    ///
    /// # Errors
    /// [`Error::Engine`](crate::Error::Engine) in the runtime's own words, or when a name is not
    /// the model's or a first value is missing.
    fn load_steps(
        &self,
        model: &ModelProto,
        feedback: &[(String, String)],
        initial: Snapshot,
    ) -> Result<Box<dyn Steps>>;
}

/// A loaded model.
pub trait Session: Send {
    /// What [`Session::run`] must be given, in the order of the model.
    fn inputs(&self) -> &[Port];

    /// What [`Session::run`] gives back, in this order: those of the model's outputs that are tensors.
    fn outputs(&self) -> &[Port];

    /// What the user should know about how this model is run, for example in another float type.
    fn note(&self) -> Option<&str> {
        None
    }

    /// Runs the model on named inputs, each exactly once, in any order.
    ///
    /// # Errors
    /// [`Error::Engine`](crate::Error::Engine) when an input is missing, unknown, of another type
    /// or shape than its port, or when the runtime fails.
    fn run(&mut self, inputs: &[(&str, &Tensor)]) -> Result<Vec<Tensor>>;
}

/// One input or output of a model, as the model declares it.
#[derive(Clone, Debug, PartialEq)]
pub struct Port {
    /// Name of the value.
    pub name: String,
    /// Element type; `Undefined` where the model does not say.
    pub dtype: DataType,
    /// Sizes of the axes; nothing where the model does not say even the rank.
    pub dims: Option<Vec<Dim>>,
}

/// The number of threads asked for, else one per core this process may use.
fn threads_or_default(threads: Option<usize>) -> usize {
    threads
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
        .max(1)
}
