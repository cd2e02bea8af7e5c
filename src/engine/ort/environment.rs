//! The one ONNX Runtime library and environment of this process.
//!
//! `ort` loads a library by itself, and panics when there is none, if any of its functions is used
//! too early. So nothing of `ort` is called before [`load`] has succeeded, except looking at a
//! library's version.

use std::error::Error as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ::ort::LoadDynamicError;
use ::ort::environment::Environment;

use super::file::check_file;

/// Oldest minor version (of 1.x) whose interface this build speaks: the `api-17` feature of `ort`.
const OLDEST_MINOR: u32 = ::ort::MINOR_VERSION;

/// A loaded library with its environment.
#[derive(Clone)]
pub(super) struct Loaded {
    pub(super) environment: Environment,
    pub(super) library: PathBuf,
    pub(super) version: String,
}

/// A lock rather than a `OnceLock`, so that a library that fails leaves the place free.
static LOADED: Mutex<Option<Loaded>> = Mutex::new(None);

/// Loads the library, or gives what is loaded when it is the same one.
pub(super) fn load(library: &Path) -> Result<Loaded, String> {
    check_file(library)?;
    let mut place = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(loaded) = place.as_ref() {
        return reuse(loaded, library);
    }
    // A relative path would be tried beside the executable first.
    let path =
        std::path::absolute(library).map_err(|error| format!("{}: {error}", library.display()))?;
    let environment = ::ort::init_from(&path)
        .map_err(|error| describe(&error))?
        .with_name("onnx-prune")
        .with_telemetry(false)
        .build()
        .map_err(|error| format!("{}: {error}", path.display()))?;
    environment.set_log_level(::ort::logging::LogLevel::Fatal);
    let loaded = Loaded {
        environment,
        version: version(&path).unwrap_or_else(|| format!("1.{OLDEST_MINOR} or newer")),
        library: path,
    };
    Ok(place.insert(loaded).clone())
}

/// The library this process uses, if it has loaded one.
pub(in crate::engine) fn loaded_library() -> Option<PathBuf> {
    let place = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    place.as_ref().map(|loaded| loaded.library.clone())
}

fn reuse(loaded: &Loaded, library: &Path) -> Result<Loaded, String> {
    let same = match (fs::canonicalize(library), fs::canonicalize(&loaded.library)) {
        (Ok(wanted), Ok(present)) => wanted == present,
        _ => false,
    };
    if same {
        Ok(loaded.clone())
    } else {
        Err(format!(
            "{}: a process can use one library, and this one has loaded {}",
            library.display(),
            loaded.library.display()
        ))
    }
}

/// The loader's reason: the outer message says no more than "dlopen failed".
fn describe(error: &LoadDynamicError) -> String {
    match error {
        LoadDynamicError::Dlopen { error, path } => {
            let cause = error
                .source()
                .map_or_else(|| error.to_string(), ToString::to_string);
            // The dynamic loader begins with the path most of the time, not always.
            if cause.starts_with(&*path.to_string_lossy()) {
                cause
            } else {
                format!("{}: {cause}", path.display())
            }
        }
        LoadDynamicError::MissingApi { path } => {
            format!("{}: is a library, but not ONNX Runtime", path.display())
        }
        LoadDynamicError::BadVersion { version_str, path } => format!(
            "{}: is ONNX Runtime {version_str}; 1.{OLDEST_MINOR} or newer is needed",
            path.display()
        ),
        LoadDynamicError::InvalidVersionString => error.to_string(),
    }
}

/// The minor version a library says it has, by loading and releasing it.
pub(in crate::engine) fn minor_version(library: &Path) -> Result<u32, String> {
    check_file(library)?;
    let path = std::path::absolute(library).map_err(|error| error.to_string())?;
    match ::ort::util::probe(&path) {
        Some(minor) if minor >= OLDEST_MINOR => Ok(minor),
        Some(minor) => Err(format!(
            "is ONNX Runtime 1.{minor}; 1.{OLDEST_MINOR} or newer is needed"
        )),
        None => Err("is not a loadable ONNX Runtime library".to_owned()),
    }
}

/// The library's version: the minor from the library itself, the patch from its file name.
pub(in crate::engine) fn version(library: &Path) -> Option<String> {
    let minor = minor_version(library).ok()?;
    let real = fs::canonicalize(library).ok()?;
    let from_name = version_in_name(&real.file_name()?.to_string_lossy());
    let begin = format!("1.{minor}.");
    Some(
        from_name
            .filter(|name| name.starts_with(&begin))
            .unwrap_or(format!("1.{minor}")),
    )
}

/// `libonnxruntime.so.1.32.0` and `libonnxruntime.1.32.0.dylib` carry it; Windows' file does not.
fn version_in_name(name: &str) -> Option<String> {
    let parts = name.split('.').filter(|part| part.parse::<u32>().is_ok());
    let parts: Vec<&str> = parts.collect();
    (parts.len() == 3).then(|| parts.join("."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::testing::ort_library;

    #[test]
    fn second_library_is_refused_and_the_first_is_reused() {
        let library = ort_library();
        let first = load(&library).unwrap();
        assert_eq!(load(&library).unwrap().library, first.library);
        let folder = tempfile::tempdir().unwrap();
        let copy = folder.path().join("libonnxruntime.so");
        fs::copy(&library, &copy).unwrap();
        let error = load(&copy).map(|_| ()).unwrap_err();
        assert!(error.contains("this one has loaded"), "{error}");
        assert!(error.contains(&*library.to_string_lossy()), "{error}");
    }

    #[test]
    fn version_is_the_librarys_own() {
        let library = ort_library();
        let minor = minor_version(&library).unwrap();
        let full = version(&library).unwrap();
        assert!(full.starts_with(&format!("1.{minor}")), "{full}");
        // A file name that lies gives way to what the library says.
        let folder = tempfile::tempdir().unwrap();
        let renamed = folder.path().join("libonnxruntime.so.1.99.7");
        fs::copy(&library, &renamed).unwrap();
        assert_eq!(version(&renamed), Some(format!("1.{minor}")));
    }

    #[test]
    fn file_names_give_versions() {
        let cases = [
            ("libonnxruntime.so.1.32.0", Some("1.32.0")),
            ("libonnxruntime.1.20.1.dylib", Some("1.20.1")),
            // two numbers are the interface's version, not the library's
            ("libonnxruntime.so.1", None),
            ("libonnxruntime.so", None),
            ("onnxruntime.dll", None),
        ];
        for (name, expected) in cases {
            assert_eq!(version_in_name(name).as_deref(), expected, "{name}");
        }
    }
}
