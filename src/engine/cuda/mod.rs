//! What CUDA needs besides ONNX Runtime: a driver and NVIDIA's libraries.
//!
//! ONNX Runtime's own words for something missing name one library at a time, and its loader looks
//! in the system's places only. So everything is looked for beforehand: what is missing is told by
//! name, all at once and within a second, and what was found beside the library (in the layout of
//! NVIDIA's wheels) is loaded by its full path.
//!
//! Nothing here uses a device; whether one works is seen by running a graph on it.

mod driver;
mod libraries;

use std::error::Error as _;
use std::ffi::OsStr;
use std::path::Path;

use serde::Serialize;

pub(super) use driver::free_memory;
pub use driver::{Device, Driver};
pub use libraries::Library;

use libraries::Libraries;

/// What installs what is missing, where that is a library.
const FETCH: &str = "`onnx-prune runtime install --cuda` fetches them";

/// Oldest driver for each version of CUDA (its first number):
/// <https://docs.nvidia.com/cuda/cuda-toolkit-release-notes/>, table 2.
const OLDEST_DRIVERS: [(u32, u32); 3] = [(11, 450), (12, 525), (13, 580)];

/// What CUDA would need on this machine for one ONNX Runtime library, and what of it is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cuda {
    /// The driver.
    pub driver: Driver,
    /// NVIDIA's libraries that ONNX Runtime needs; none where the library is built for the CPU.
    pub libraries: Vec<Library>,
    /// Why CUDA cannot work; nothing where nothing is known to be missing.
    pub problem: Option<String>,
}

impl Cuda {
    /// Looks for what `library`, an ONNX Runtime, needs; for the driver alone without one.
    pub fn look(library: Option<&Path>) -> Self {
        let driver = Driver::look();
        let found = library.map(Libraries::of).unwrap_or_default();
        let problem = problem(&driver, &found);
        Self {
            problem,
            driver,
            libraries: found.libraries,
        }
    }
}

/// Whether there is a driver to speak of.
pub(super) fn has_driver() -> bool {
    load(driver::LIBRARY).is_ok()
}

/// Makes this process ready for the CUDA provider of `library`.
///
/// The error says everything that is missing.
pub(super) fn prepare(library: &Path) -> Result<(), String> {
    let found = Libraries::of(library);
    match problem(&Driver::look(), &found) {
        Some(problem) => Err(problem),
        None => found.load(),
    }
}

fn problem(driver: &Driver, found: &Libraries) -> Option<String> {
    let mut problems = Vec::new();
    if let Some(problem) = &driver.problem {
        problems.push(format!(
            "no NVIDIA driver ({problem}): install the one of your system; a container needs \
             the host's, passed in by `--gpus all`"
        ));
    } else if let (Some(version), Some(needed)) = (driver.major(), found.oldest_driver())
        && version < needed
    {
        problems.push(format!(
            "the NVIDIA driver {} is too old for this CUDA: {needed} or newer is needed",
            driver.version.as_deref().unwrap_or_default()
        ));
    }
    let missing = found.libraries.iter();
    let missing: Vec<String> = missing
        .filter(|library| library.problem.is_some())
        .map(|library| match &library.package {
            Some(package) => format!("{} (of {package})", library.name),
            None => library.name.clone(),
        })
        .collect();
    if !missing.is_empty() {
        problems.push(format!(
            "CUDA libraries are missing: {}; {FETCH}",
            missing.join(", ")
        ));
    }
    (!problems.is_empty()).then(|| problems.join("; "))
}

/// Loads a library, by its full path or by its bare name where the system's loader looks, and keeps
/// it loaded.
fn load(library: impl AsRef<OsStr>) -> Result<(), String> {
    ::ort::util::preload_dylib(library.as_ref()).map_err(|error| {
        error
            .source()
            .map_or_else(|| error.to_string(), ToString::to_string)
    })
}

#[cfg(test)]
mod tests;
