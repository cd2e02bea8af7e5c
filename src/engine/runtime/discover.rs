//! Where an ONNX Runtime library may be.
//!
//! Looking at a library runs its code, so only places that the user or the installer chose are
//! searched: never the current folder, never the whole library path of the system.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::python;

/// Why a library was looked for somewhere, in the order of the search.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// The flag `--ort-lib`.
    Flag,
    /// The variable `ONNX_PRUNE_ORT_LIB`.
    OwnVariable,
    /// The variable `ORT_DYLIB_PATH`, which other programs read as well.
    SharedVariable,
    /// Beside this executable, or in `../lib`.
    Executable,
    /// The Python environment this executable was installed into.
    ExecutablePython,
    /// The active virtual environment, `VIRTUAL_ENV`.
    VirtualEnv,
    /// The active conda environment, `CONDA_PREFIX`.
    Conda,
    /// The packages of the `python3` that a shell would run.
    ActivePython,
    /// Our own data folder, filled by `onnx-prune runtime install`.
    DataFolder,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Flag => "--ort-lib",
            Self::OwnVariable => "ONNX_PRUNE_ORT_LIB",
            Self::SharedVariable => "ORT_DYLIB_PATH",
            Self::Executable => "beside the executable",
            Self::ExecutablePython => "the executable's Python environment",
            Self::VirtualEnv => "VIRTUAL_ENV",
            Self::Conda => "CONDA_PREFIX",
            Self::ActivePython => "the active Python",
            Self::DataFolder => "the data folder",
        })
    }
}

/// A library file to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::engine) struct Found {
    pub(in crate::engine) path: PathBuf,
    pub(in crate::engine) origin: Origin,
    /// Named by the user, file by file: it is used or an error, and may not exist.
    pub(in crate::engine) named: bool,
}

/// What the search depends on, apart from the file system.
pub(in crate::engine) struct Surroundings {
    pub(in crate::engine) variables: BTreeMap<&'static str, OsString>,
    pub(in crate::engine) executable: Option<PathBuf>,
    /// Asks the active Python for its `onnxruntime` package; slow, so asked last but one.
    pub(in crate::engine) python: fn() -> Option<PathBuf>,
}

/// The variables the search reads.
const VARIABLES: [&str; 9] = [
    "ONNX_PRUNE_ORT_LIB",
    "ORT_DYLIB_PATH",
    "VIRTUAL_ENV",
    "CONDA_PREFIX",
    "ONNX_PRUNE_HOME",
    "XDG_DATA_HOME",
    "HOME",
    "LOCALAPPDATA",
    "USERPROFILE",
];

impl Surroundings {
    pub(in crate::engine) fn of_this_process() -> Self {
        let set = VARIABLES
            .into_iter()
            .filter_map(|name| Some((name, env::var_os(name)?)));
        Self {
            // An empty variable is an unset one, as everywhere in ONNX Runtime's own tools.
            variables: set.filter(|(_, value)| !value.is_empty()).collect(),
            executable: env::current_exe().ok(),
            python: python::onnxruntime_package,
        }
    }

    fn path(&self, variable: &str) -> Option<PathBuf> {
        self.variables.get(variable).map(PathBuf::from)
    }

    /// The folder that `onnx-prune runtime install` fills.
    pub(in crate::engine) fn data_folder(&self) -> Option<PathBuf> {
        let home = self.path("ONNX_PRUNE_HOME").or_else(|| {
            let data = if cfg!(windows) {
                self.path("LOCALAPPDATA")
            } else {
                let local = || Some(self.path("HOME")?.join(".local/share"));
                // The standard says to ignore a relative path.
                let given = self.path("XDG_DATA_HOME").filter(|path| path.is_absolute());
                given.or_else(local)
            };
            Some(data?.join("onnx-prune"))
        })?;
        Some(home.join("runtime"))
    }
}

/// The libraries to try, best first; lazily, since asking Python takes a while.
pub(in crate::engine) fn search<'s>(
    surroundings: &'s Surroundings,
    flag: Option<&Path>,
) -> impl Iterator<Item = Found> + use<'s> {
    let named = [
        (Origin::Flag, flag.map(Path::to_path_buf)),
        (Origin::OwnVariable, surroundings.path("ONNX_PRUNE_ORT_LIB")),
        (Origin::SharedVariable, surroundings.path("ORT_DYLIB_PATH")),
    ];
    let named = named.into_iter().filter_map(|(origin, path)| {
        Some(Found {
            path: path?,
            origin,
            named: true,
        })
    });
    let mut seen = Vec::new();
    named
        .chain(PLACES.iter().flat_map(move |(origin, folders)| {
            let folders = folders(surroundings).into_iter();
            folders.flat_map(libraries_in).map(move |path| Found {
                path,
                origin: *origin,
                named: false,
            })
        }))
        .filter(move |found| {
            let real = fs::canonicalize(&found.path).unwrap_or_else(|_| found.path.clone());
            let new = found.named || !seen.contains(&real);
            seen.push(real);
            new
        })
}

type Folders = fn(&Surroundings) -> Vec<PathBuf>;

/// Where to look when nothing is named, in this order.
const PLACES: &[(Origin, Folders)] = &[
    (Origin::Executable, |around| {
        let Some(folder) = around.executable.as_deref().and_then(Path::parent) else {
            return Vec::new();
        };
        vec![folder.to_path_buf(), folder.join("../lib")]
    }),
    (Origin::ExecutablePython, |around| {
        let bin = around.executable.as_deref().and_then(Path::parent);
        packages_of(bin.and_then(Path::parent).map(Path::to_path_buf))
    }),
    (Origin::VirtualEnv, |around| {
        packages_of(around.path("VIRTUAL_ENV"))
    }),
    (Origin::Conda, |around| {
        packages_of(around.path("CONDA_PREFIX"))
    }),
    (Origin::ActivePython, |around| {
        (around.python)()
            .map(|package| package.join("capi"))
            .into_iter()
            .collect()
    }),
    (Origin::DataFolder, |around| {
        let Some(folder) = around.data_folder() else {
            return Vec::new();
        };
        let mut versions = sub_folders(&folder);
        versions.reverse();
        versions
    }),
];

/// `onnxruntime/capi` of every Python below an environment's prefix.
fn packages_of(prefix: Option<PathBuf>) -> Vec<PathBuf> {
    let Some(prefix) = prefix else {
        return Vec::new();
    };
    let pythons = ["lib", "lib64"].into_iter().flat_map(|lib| {
        let folders = sub_folders(&prefix.join(lib)).into_iter();
        folders.filter(|folder| file_name(folder).starts_with("python3"))
    });
    let windows = prefix.join("Lib");
    // Debian keeps what its own pip installs for everybody under another name.
    pythons
        .chain([windows])
        .flat_map(|python| ["site-packages", "dist-packages"].map(|name| python.join(name)))
        .map(|packages| packages.join("onnxruntime/capi"))
        .collect()
}

/// Sorted, so that the same disk gives the same search.
fn sub_folders(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect();
    folders.sort();
    folders
}

/// The ONNX Runtime libraries of a folder, newest name first.
fn libraries_in(folder: PathBuf) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| path.is_file() && is_library_name(&file_name(path)))
        .collect();
    files.sort();
    files.reverse();
    files
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// Whether a file of this name is the runtime itself, on any system, and no provider's library.
pub(super) fn is_library_name(name: &str) -> bool {
    let linux = name == "libonnxruntime.so" || name.starts_with("libonnxruntime.so.");
    let mac = name.starts_with("libonnxruntime.") && name.ends_with(".dylib");
    let windows = name == "onnxruntime.dll";
    let bare = !name.contains(['/', '\\']);
    bare && !name.contains("providers") && (linux || mac || windows)
}

/// The providers whose libraries lie beside this one.
pub(super) fn providers(library: &Path) -> Vec<String> {
    let mut providers = vec!["cpu".to_owned()];
    let beside = library
        .parent()
        .and_then(|folder| fs::read_dir(folder).ok());
    let names = beside.into_iter().flatten().flatten();
    let names: Vec<String> = names.map(|entry| file_name(&entry.path())).collect();
    for provider in ["cuda", "tensorrt"] {
        let marker = format!("onnxruntime_providers_{provider}");
        if names.iter().any(|name| name.contains(&marker)) {
            providers.push(provider.to_owned());
        }
    }
    providers
}

/// Whether the library brings CUDA.
pub(in crate::engine) fn has_cuda(library: &Path) -> bool {
    providers(library).iter().any(|provider| provider == "cuda")
}

/// Whether two paths lead to the same file.
pub(super) fn same_file(one: &Path, other: &Path) -> bool {
    match (fs::canonicalize(one), fs::canonicalize(other)) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
