//! NVIDIA's libraries: which ones are needed, where they are.
//!
//! Which ones is read from ONNX Runtime's own CUDA library, so that another version of CUDA needs
//! no change here. NVIDIA's wheels put them into `nvidia/<part>/lib`, and they find each other
//! there; so does [`Libraries::of`], beside the library and among the packages of its Python.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{OLDEST_DRIVERS, driver, load};
use crate::engine::ort::needed_libraries;

/// What ONNX Runtime loads by itself while it runs, and so does not list among what it needs.
const CUDNN: &str = "libcudnn.so.9";

/// What cuDNN and some operators load when they are first used: made findable where it is there.
const LATER: [&str; 3] = ["libnvrtc.so", "libnvJitLink.so", "libcufft.so"];

/// Begins of names, and the package on PyPI that brings the library, for CUDA `{}`.
const PACKAGES: [(&str, &str); 6] = [
    ("libcublas", "nvidia-cublas"),
    ("libcudart", "nvidia-cuda-runtime"),
    ("libcurand", "nvidia-curand"),
    ("libcufft", "nvidia-cufft"),
    ("libnvrtc", "nvidia-cuda-nvrtc"),
    ("libcudnn", "nvidia-cudnn-cu{}"),
];

/// One of NVIDIA's libraries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Library {
    /// Its file name.
    pub name: String,
    /// Where it lies; nothing where it is missing, or where the system's loader knows.
    pub path: Option<PathBuf>,
    /// The package on PyPI that brings it.
    pub package: Option<String>,
    /// Why it cannot be had.
    pub problem: Option<String>,
}

/// What one ONNX Runtime library needs.
#[derive(Debug, Default)]
pub(super) struct Libraries {
    pub(super) libraries: Vec<Library>,
    folders: Vec<PathBuf>,
}

impl Libraries {
    /// Reads the list and looks for everything on it.
    pub(super) fn of(library: &Path) -> Self {
        let folder = library.parent().unwrap_or(Path::new("."));
        let folders = folders(folder);
        let names = wanted(&folder.join("libonnxruntime_providers_cuda.so"));
        let cuda = cuda_version(&names);
        let libraries = names.into_iter().map(|name| {
            let path = find(&folders, &name);
            let problem = match path {
                Some(_) => None,
                None => load(&name).err(),
            };
            Library {
                package: package(&name, cuda),
                path,
                problem,
                name,
            }
        });
        Self {
            libraries: libraries.collect(),
            folders,
        }
    }

    /// Oldest driver that runs this CUDA.
    pub(super) fn oldest_driver(&self) -> Option<u32> {
        let names: Vec<String> = self.libraries.iter().map(|one| one.name.clone()).collect();
        let cuda = cuda_version(&names)?;
        let mut known = OLDEST_DRIVERS.iter();
        known
            .find(|(version, _)| *version == cuda)
            .map(|found| found.1)
    }

    /// Loads what lies in a folder that the system's loader does not know.
    pub(super) fn load(&self) -> Result<(), String> {
        let needed = self.libraries.iter().filter_map(|one| one.path.clone());
        for path in needed {
            self.load_with_needs(&path, 0)?;
        }
        // Missed only by operators that no classifier has: their own error is clear enough.
        let later = self.folders.iter().flat_map(|folder| files(folder));
        for path in later.filter(|path| is_one_of(path, &LATER)) {
            let _ = self.load_with_needs(&path, 0);
        }
        Ok(())
    }

    /// What a library itself needs comes first. `depth` ends a circle.
    fn load_with_needs(&self, path: &Path, depth: usize) -> Result<(), String> {
        const DEEPEST: usize = 8;
        let needs = needed_libraries(path).unwrap_or_default();
        for path in needs.iter().filter_map(|name| find(&self.folders, name)) {
            if depth < DEEPEST {
                self.load_with_needs(&path, depth + 1)?;
            }
        }
        load(path).map_err(|reason| match reason.contains(&*path.to_string_lossy()) {
            true => reason,
            false => format!("{}: {reason}", path.display()),
        })
    }
}

/// What the provider's library needs of NVIDIA; the driver's own library is another matter.
fn wanted(provider: &Path) -> Vec<String> {
    let mut names = needed_libraries(provider).unwrap_or_default();
    names.retain(|name| PACKAGES.iter().any(|(begin, _)| name.starts_with(begin)));
    names.retain(|name| name != driver::LIBRARY);
    if !names.is_empty() && !names.iter().any(|name| name.starts_with("libcudnn")) {
        names.push(CUDNN.to_owned());
    }
    names
}

/// 13 where `libcudart.so.13` is needed.
fn cuda_version(names: &[String]) -> Option<u32> {
    let mut versions = names
        .iter()
        .filter_map(|name| name.strip_prefix("libcudart.so."));
    versions.next()?.split('.').next()?.parse().ok()
}

fn package(name: &str, cuda: Option<u32>) -> Option<String> {
    let mut known = PACKAGES.iter();
    let (_, package) = known.find(|(begin, _)| name.starts_with(begin))?;
    let cuda = cuda.unwrap_or(13);
    // Packages for CUDA 13 and later have no number at the end, cuDNN's apart.
    let old = cuda < 13 && !package.contains("{}");
    let package = package.replace("{}", &cuda.to_string());
    Some(if old {
        format!("{package}-cu{cuda}")
    } else {
        package
    })
}

/// The library's own folder, then NVIDIA's beside it, then those of the Python it lies in:
/// `site-packages/onnxruntime/capi` has `site-packages/nvidia` two floors up.
fn folders(folder: &Path) -> Vec<PathBuf> {
    let above = folder.parent().and_then(Path::parent);
    let nvidia = [Some(folder), above]
        .into_iter()
        .flatten()
        .flat_map(|folder| sorted(&folder.join("nvidia")))
        .map(|part| part.join("lib"));
    std::iter::once(folder.to_path_buf())
        .chain(nvidia)
        .filter(|folder| folder.is_dir())
        .collect()
}

fn find(folders: &[PathBuf], name: &str) -> Option<PathBuf> {
    let mut paths = folders.iter().map(|folder| folder.join(name));
    paths.find(|path| path.is_file())
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = sorted(folder);
    files.retain(|path| path.is_file());
    files
}

/// Entries of a folder, in order, so that the same disk gives the same search.
fn sorted(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

fn is_one_of(path: &Path, begins: &[&str]) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    begins.iter().any(|begin| name.starts_with(begin))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make(root: &Path, files: &[&str]) {
        for file in files {
            let path = root.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
    }

    #[test]
    fn libraries_are_found_beside_and_among_the_packages() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        make(
            root,
            &[
                // as `runtime install --cuda` leaves it
                "ours/libonnxruntime.so.1.31.1",
                "ours/nvidia/cu13/lib/libcudart.so.13",
                "ours/nvidia/cudnn/lib/libcudnn.so.9",
                // as pip leaves it
                "venv/onnxruntime/capi/libonnxruntime.so.1.31.1",
                "venv/nvidia/cu13/lib/libcudart.so.13",
                "venv/nvidia/cudnn/include/libcudnn.so.9",
                // beside, as an archive of somebody's own may have it
                "flat/libonnxruntime.so",
                "flat/libcudart.so.13",
            ],
        );
        let cases = [
            (
                "ours",
                "libcudart.so.13",
                Some("ours/nvidia/cu13/lib/libcudart.so.13"),
            ),
            (
                "ours",
                "libcudnn.so.9",
                Some("ours/nvidia/cudnn/lib/libcudnn.so.9"),
            ),
            (
                "venv/onnxruntime/capi",
                "libcudart.so.13",
                Some("venv/nvidia/cu13/lib/libcudart.so.13"),
            ),
            // no folder called lib
            ("venv/onnxruntime/capi", "libcudnn.so.9", None),
            ("flat", "libcudart.so.13", Some("flat/libcudart.so.13")),
            ("flat", "libcudart.so.12", None),
        ];
        for (folder, name, expected) in cases {
            let found = find(&folders(&root.join(folder)), name);
            assert_eq!(
                found,
                expected.map(|path| root.join(path)),
                "{folder} {name}"
            );
        }
    }

    #[test]
    fn packages_follow_the_version_of_cuda() {
        let names = |version| vec![format!("libcudart.so.{version}")];
        assert_eq!(cuda_version(&names("13")), Some(13));
        assert_eq!(cuda_version(&names("11.0")), Some(11));
        assert_eq!(cuda_version(&[]), None);
        let cases = [
            ("libcublasLt.so.13", Some(13), Some("nvidia-cublas")),
            ("libcublas.so.12", Some(12), Some("nvidia-cublas-cu12")),
            ("libcudnn.so.9", Some(13), Some("nvidia-cudnn-cu13")),
            ("libcudnn.so.9", Some(12), Some("nvidia-cudnn-cu12")),
            ("libcudart.so.13", None, Some("nvidia-cuda-runtime")),
            ("libstdc++.so.6", Some(13), None),
        ];
        for (name, cuda, expected) in cases {
            assert_eq!(package(name, cuda).as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn a_library_for_the_cpu_needs_nothing() {
        let root = tempfile::tempdir().unwrap();
        make(
            root.path(),
            &["libonnxruntime.so", "nvidia/cu13/lib/libcudart.so.13"],
        );
        let found = Libraries::of(&root.path().join("libonnxruntime.so"));
        assert_eq!(found.libraries, []);
        assert_eq!(found.oldest_driver(), None);
    }
}
