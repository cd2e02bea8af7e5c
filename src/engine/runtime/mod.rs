//! Finding and fetching the ONNX Runtime library: what `onnx-prune runtime` shows and does.

pub(super) mod discover;
mod install;
mod python;
mod wheels;

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::cuda::Cuda;
use super::ort::{loaded_library, minor_version, version};
use discover::{Found, Surroundings};

pub use discover::Origin;
pub use install::{Installed, install, install_into};
pub use wheels::{Build, PINNED, PINNED_CUDA};

/// One ONNX Runtime library that was found, or that the user named.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Candidate {
    /// The library file.
    pub path: PathBuf,
    /// Why it was looked for there.
    pub origin: Origin,
    /// Its version, where it could be loaded.
    pub version: Option<String>,
    /// Why it cannot be used.
    pub problem: Option<String>,
    /// Providers whose libraries are there; whether one works is seen only by running it.
    pub providers: Vec<String>,
    /// Whether [`open`](super::open) takes this one.
    pub chosen: bool,
}

/// Every library, in the order in which [`open`](super::open) tries them.
///
/// `named` is the library of `--ort-lib`. A library that the user named is never passed over: when
/// it is bad, nothing is chosen.
pub fn candidates(named: Option<&Path>) -> Vec<Candidate> {
    candidates_in(&Surroundings::of_this_process(), named)
}

fn candidates_in(surroundings: &Surroundings, named: Option<&Path>) -> Vec<Candidate> {
    let loaded = loaded_library();
    let mut decided = false;
    let mut all = Vec::new();
    for found in discover::search(surroundings, named) {
        let mut candidate = examine(&found);
        candidate.chosen = !decided
            && match &loaded {
                Some(loaded) => discover::same_file(loaded, &found.path),
                None => candidate.problem.is_none(),
            };
        decided |= candidate.chosen || (found.named && loaded.is_none());
        all.push(candidate);
    }
    all
}

/// What CUDA needs, and what of it is there: for the first usable library that brings it, else the
/// driver alone. Nothing where there is neither.
pub fn cuda(candidates: &[Candidate]) -> Option<Cuda> {
    let mut with_cuda = candidates.iter().filter(|candidate| {
        let mut providers = candidate.providers.iter();
        candidate.problem.is_none() && providers.any(|name| name == "cuda")
    });
    let library = with_cuda.next().map(|candidate| candidate.path.as_path());
    let found = Cuda::look(library);
    (library.is_some() || found.driver.problem.is_none()).then_some(found)
}

fn examine(found: &Found) -> Candidate {
    let problem = minor_version(&found.path).err();
    Candidate {
        path: found.path.clone(),
        origin: found.origin,
        version: version(&found.path),
        providers: if problem.is_none() {
            discover::providers(&found.path)
        } else {
            Vec::new()
        },
        problem,
        chosen: false,
    }
}
