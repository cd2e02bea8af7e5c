//! Which engine runs: what was asked for, else the best that is there, said aloud.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use super::ort::NAME as ORT;
use super::runtime::discover::{self, Found, Surroundings};
use super::{Engine, ort, tract};
use crate::error::{Error, Result};

/// Which runtime to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EngineChoice {
    /// ONNX Runtime where one is found, else tract.
    #[default]
    Auto,
    /// The embedded engine.
    Tract,
    /// ONNX Runtime, or an error.
    Ort,
}

/// Where ONNX Runtime computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProviderChoice {
    /// CUDA device 0 where it was seen to work, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The CUDA device of this number, or an error.
    Cuda(u32),
}

/// What the caller wants of [`open`].
#[derive(Clone, Debug, Default)]
pub struct EngineOptions {
    /// Which runtime.
    pub engine: EngineChoice,
    /// Where it computes.
    pub provider: ProviderChoice,
    /// Threads that compute; one per core by default.
    pub threads: Option<usize>,
    /// The ONNX Runtime library to use, instead of looking for one.
    pub ort_library: Option<PathBuf>,
}

/// The engine that [`open`] chose.
pub struct Selected {
    /// The engine itself.
    pub engine: Arc<dyn Engine>,
    /// What was fallen back to, or passed over, and why; to be shown to the user.
    pub note: Option<String>,
}

/// Opens the engine the options ask for.
///
/// # Errors
/// [`Error::Argument`] for options that contradict each other; [`Error::Engine`] when a library the
/// user named cannot be loaded, when ONNX Runtime or CUDA was asked for and cannot be had.
pub fn open(options: &EngineOptions) -> Result<Selected> {
    open_in(options, &Surroundings::of_this_process())
}

fn open_in(options: &EngineOptions, surroundings: &Surroundings) -> Result<Selected> {
    check(options)?;
    if options.engine == EngineChoice::Tract {
        return Ok(Selected {
            engine: tract(options.threads),
            note: None,
        });
    }
    let mut passed_over = Vec::new();
    for found in discover::search(surroundings, options.ort_library.as_deref()) {
        match open_library(options, &found) {
            Ok(mut selected) => {
                selected.note = joined(passed_over.into_iter().chain(selected.note).collect());
                return Ok(selected);
            }
            Err(error) if found.named => return Err(named(error, &found)),
            Err(error) => passed_over.push(format!("passed over {} ({error})", found.origin)),
        }
    }
    without_library(options, passed_over)
}

/// Options that ask for two things at once are refused rather than one of them ignored.
fn check(options: &EngineOptions) -> Result<()> {
    let tract = options.engine == EngineChoice::Tract;
    if let (true, ProviderChoice::Cuda(_)) = (tract, options.provider) {
        return Err(Error::Argument {
            name: "--provider",
            what: "tract computes on the CPU only; cuda needs --engine ort".to_owned(),
        });
    }
    if tract && options.ort_library.is_some() {
        return Err(Error::Argument {
            name: "--ort-lib",
            what: "no library is loaded with --engine tract".to_owned(),
        });
    }
    if options.threads == Some(0) {
        return Err(Error::Argument {
            name: "--threads",
            what: "at least one thread is needed".to_owned(),
        });
    }
    Ok(())
}

fn open_library(options: &EngineOptions, found: &Found) -> Result<Selected> {
    let open = |provider| ort(&found.path, provider, options.threads);
    let cuda = ProviderChoice::Cuda(0);
    let (engine, note) = match options.provider {
        // Only where the library brings CUDA is it worth saying that it does not work.
        ProviderChoice::Auto if discover::has_cuda(&found.path) => match open(cuda) {
            Ok(engine) => (engine, None),
            Err(error) => {
                let note = format!("running on the CPU, as cuda does not work here ({error})");
                (open(ProviderChoice::Cpu)?, Some(note))
            }
        },
        ProviderChoice::Cuda(_) if !discover::has_cuda(&found.path) => {
            return Err(Error::Engine {
                engine: ORT,
                what: format!(
                    "{}: is built for the CPU only; cuda needs the library of the package \
                     onnxruntime-gpu",
                    found.path.display()
                ),
            });
        }
        provider => (open(provider)?, None),
    };
    Ok(Selected { engine, note })
}

/// Adds to an error where the user named the library, which may be long ago in a shell profile.
fn named(error: Error, found: &Found) -> Error {
    match error {
        Error::Engine { engine, what } => Error::Engine {
            engine,
            what: format!("{what} (named by {})", found.origin),
        },
        other => other,
    }
}

fn without_library(options: &EngineOptions, mut notes: Vec<String>) -> Result<Selected> {
    let must =
        options.engine == EngineChoice::Ort || matches!(options.provider, ProviderChoice::Cuda(_));
    if must {
        notes.insert(
            0,
            "no usable library found; `onnx-prune runtime install` fetches one".to_owned(),
        );
        return Err(Error::Engine {
            engine: ORT,
            what: notes.join("; "),
        });
    }
    notes.push(
        "no ONNX Runtime found, so the embedded tract runs the model; `onnx-prune runtime install` \
         fetches the faster one"
            .to_owned(),
    );
    Ok(Selected {
        engine: tract(options.threads),
        note: joined(notes),
    })
}

fn joined(notes: Vec<String>) -> Option<String> {
    (!notes.is_empty()).then(|| notes.join("; "))
}

impl FromStr for EngineChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "tract" => Ok(Self::Tract),
            "ort" => Ok(Self::Ort),
            _ => Err("expected auto, tract or ort".to_owned()),
        }
    }
}

impl FromStr for ProviderChoice {
    type Err = String;

    /// `auto`, `cpu`, `cuda` (device 0) or `cuda:1`.
    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "auto" => Ok(Self::Auto),
            None if text == "cpu" => Ok(Self::Cpu),
            None if text == "cuda" => Ok(Self::Cuda(0)),
            Some(("cuda", device)) => device
                .parse()
                .map(Self::Cuda)
                .map_err(|_| format!("{device:?} is no device number")),
            _ => Err("expected auto, cpu, cuda or cuda:<device>".to_owned()),
        }
    }
}
