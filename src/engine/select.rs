//! Which engine runs: what was asked for, else the best that is there, said aloud.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use super::ort::NAME as ORT;
use super::runtime::discover::{self, Found, Surroundings};
use super::{Engine, Precision, cuda, ort, tract};
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
    /// How exact products are on a CUDA device, which must be asked for then; fp32 by default.
    pub precision: Option<Precision>,
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
    let (mut passed_over, mut has_cuda) = (Vec::new(), false);
    for found in candidates(options, surroundings) {
        match open_library(options, &found) {
            Ok(mut selected) => {
                selected.note = joined(passed_over.into_iter().chain(selected.note).collect());
                return Ok(selected);
            }
            Err(error) if found.named => return Err(named(error, &found)),
            Err(error) => {
                has_cuda |= discover::has_cuda(&found.path);
                passed_over.push(format!("passed over {} ({error})", found.origin));
            }
        }
    }
    without_library(options, passed_over, has_cuda)
}

/// The libraries in the order in which they are tried: as they are found; but where there is a GPU
/// and nobody named a library, one that is ready for CUDA comes first.
fn candidates<'s>(
    options: &EngineOptions,
    surroundings: &'s Surroundings,
) -> Box<dyn Iterator<Item = Found> + 's> {
    let found = discover::search(surroundings, options.ort_library.as_deref());
    if options.provider != ProviderChoice::Auto || !cuda::has_driver() {
        return Box::new(found);
    }
    let mut all: Vec<Found> = found.collect();
    let is_ready = |found: &Found| {
        discover::has_cuda(&found.path) && cuda::Cuda::look(Some(&found.path)).problem.is_none()
    };
    if !all.iter().any(|found| found.named)
        && let Some(ready) = all.iter().position(is_ready)
    {
        all[..=ready].rotate_right(1);
    }
    Box::new(all.into_iter())
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
    if options.precision.is_some() && !matches!(options.provider, ProviderChoice::Cuda(_)) {
        return Err(Error::Argument {
            name: "--precision",
            what: "has no effect without --provider cuda".to_owned(),
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
    let precision = options.precision.unwrap_or_default();
    let open = |provider| ort(&found.path, provider, precision, options.threads);
    let has_cuda = discover::has_cuda(&found.path);
    let (engine, note) = match options.provider {
        // Only where the library brings CUDA is it worth saying whether it works.
        ProviderChoice::Auto if has_cuda => match open(ProviderChoice::Cuda(0)) {
            Ok(engine) => {
                let note =
                    "running on cuda:0, which was found; --provider cpu would not".to_owned();
                (engine, Some(note))
            }
            Err(error) => {
                let note = format!("running on the CPU, as cuda does not work here ({error})");
                (open(ProviderChoice::Cpu)?, Some(note))
            }
        },
        ProviderChoice::Cuda(_) if !has_cuda => {
            return Err(Error::Engine {
                engine: ORT,
                what: format!(
                    "{}: is built for the CPU only; `onnx-prune runtime install --cuda` fetches \
                     the build of the package onnxruntime-gpu",
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

fn without_library(
    options: &EngineOptions,
    mut notes: Vec<String>,
    has_cuda: bool,
) -> Result<Selected> {
    let must =
        options.engine == EngineChoice::Ort || matches!(options.provider, ProviderChoice::Cuda(_));
    if must {
        let install = match options.provider {
            ProviderChoice::Cuda(_) => "runtime install --cuda",
            ProviderChoice::Auto | ProviderChoice::Cpu => "runtime install",
        };
        let problem = match has_cuda {
            // It is there, and what it lacks is said next.
            true => "cuda cannot be had".to_owned(),
            false => format!("no usable library found; `onnx-prune {install}` fetches one"),
        };
        notes.insert(0, problem);
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::ffi::OsString;
    use std::path::Path;

    use super::*;
    use crate::engine::testing::ort_library;

    /// No executable, no Python, only these variables.
    fn surroundings(variables: &[(&'static str, &Path)]) -> Surroundings {
        let pairs = variables
            .iter()
            .map(|(name, path)| (*name, OsString::from(path)));
        Surroundings {
            variables: pairs.collect::<BTreeMap<_, _>>(),
            executable: None,
            python: || None,
        }
    }

    fn options(engine: EngineChoice, provider: ProviderChoice) -> EngineOptions {
        EngineOptions {
            engine,
            provider,
            ..EngineOptions::default()
        }
    }

    #[test]
    fn contradictions_are_refused() {
        let tract = |provider| options(EngineChoice::Tract, provider);
        let cases = [
            // the embedded engine has no CUDA
            (tract(ProviderChoice::Cuda(0)), "--provider"),
            // a precision that the CPU does not have, or may turn out not to
            (
                EngineOptions {
                    precision: Some(Precision::Fp32),
                    ..options(EngineChoice::Auto, ProviderChoice::Cpu)
                },
                "--precision",
            ),
            (
                EngineOptions {
                    precision: Some(Precision::Tf32),
                    ..options(EngineChoice::Ort, ProviderChoice::Auto)
                },
                "--precision",
            ),
            // a library that nobody would load
            (
                EngineOptions {
                    ort_library: Some(PathBuf::from("x.so")),
                    ..tract(ProviderChoice::Cpu)
                },
                "--ort-lib",
            ),
            // no threads
            (
                EngineOptions {
                    threads: Some(0),
                    ..EngineOptions::default()
                },
                "--threads",
            ),
        ];
        for (options, expected) in cases {
            match open(&options).map(|_| ()) {
                Err(Error::Argument { name, .. }) => assert_eq!(name, expected),
                other => panic!("{options:?} gave {other:?}"),
            }
        }
    }

    #[test]
    fn without_a_library_tract_runs_and_says_so() {
        let auto = open_in(&EngineOptions::default(), &surroundings(&[])).unwrap();
        assert_eq!(auto.engine.info().name, "tract");
        assert!(auto.note.unwrap().contains("onnx-prune runtime install"));
        let asked = options(EngineChoice::Tract, ProviderChoice::Auto);
        let asked = open_in(&asked, &surroundings(&[])).unwrap();
        assert_eq!((asked.engine.info().name, asked.note), ("tract", None));
    }

    #[test]
    fn what_was_asked_for_is_had_or_an_error() {
        let cases = [
            options(EngineChoice::Ort, ProviderChoice::Auto),
            options(EngineChoice::Auto, ProviderChoice::Cuda(0)),
        ];
        for options in cases {
            let error = open_in(&options, &surroundings(&[]))
                .map(|_| ())
                .unwrap_err();
            assert!(
                error.to_string().contains("no usable library found"),
                "{error}"
            );
        }
    }

    #[test]
    fn cuda_of_a_cpu_library_names_the_package() {
        let library = ort_library();
        let around = surroundings(&[("ONNX_PRUNE_ORT_LIB", &library)]);
        let options = options(EngineChoice::Auto, ProviderChoice::Cuda(0));
        let error = open_in(&options, &around)
            .map(|_| ())
            .unwrap_err()
            .to_string();
        assert!(error.contains("onnxruntime-gpu"), "{error}");
    }

    #[test]
    fn bad_variable_is_an_error_and_named() {
        let good = ort_library();
        let bad = Path::new("/nowhere/libonnxruntime.so");
        for name in ["ONNX_PRUNE_ORT_LIB", "ORT_DYLIB_PATH"] {
            let around = surroundings(&[(name, bad)]);
            let error = open_in(&EngineOptions::default(), &around)
                .map(|_| ())
                .unwrap_err();
            assert!(
                error.to_string().ends_with(&format!("(named by {name})")),
                "{error}"
            );
        }
        // The flag and our own variable come before the shared one, which is then not looked at.
        let around = surroundings(&[("ONNX_PRUNE_ORT_LIB", &good), ("ORT_DYLIB_PATH", bad)]);
        let selected = open_in(&EngineOptions::default(), &around).unwrap();
        assert_eq!(
            selected.engine.info().library.as_deref(),
            Some(good.as_path())
        );
        assert_eq!(selected.note, None);
        let around = surroundings(&[("ONNX_PRUNE_ORT_LIB", bad)]);
        let options = EngineOptions {
            ort_library: Some(good),
            ..EngineOptions::default()
        };
        assert!(open_in(&options, &around).is_ok());
    }

    #[test]
    fn broken_library_nobody_named_is_passed_over_aloud() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("runtime/onnxruntime-9.9.9");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("libonnxruntime.so"), "broken").unwrap();
        let around = surroundings(&[("ONNX_PRUNE_HOME", home.path())]);
        let selected = open_in(&EngineOptions::default(), &around).unwrap();
        assert_eq!(selected.engine.info().name, "tract");
        let note = selected.note.unwrap();
        assert!(note.starts_with("passed over the data folder ("), "{note}");
    }

    #[test]
    fn choices_are_read_from_text() {
        let engines = [
            ("auto", Some(EngineChoice::Auto)),
            ("tract", Some(EngineChoice::Tract)),
            ("ort", Some(EngineChoice::Ort)),
            ("torch", None),
        ];
        for (text, expected) in engines {
            assert_eq!(text.parse().ok(), expected, "{text}");
        }
        let providers = [
            ("auto", Some(ProviderChoice::Auto)),
            ("cpu", Some(ProviderChoice::Cpu)),
            ("cuda", Some(ProviderChoice::Cuda(0))),
            ("cuda:3", Some(ProviderChoice::Cuda(3))),
            ("cuda:", None),
            ("cuda:-1", None),
            ("cpu:0", None),
            ("gpu", None),
        ];
        for (text, expected) in providers {
            assert_eq!(text.parse().ok(), expected, "{text}");
        }
    }
}
