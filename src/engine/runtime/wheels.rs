//! What is fetched: packages of the Python package index, pinned, and the files we keep of them.
//!
//! Sizes were read from the packages for Linux on x86-64; those for other systems are smaller.

use std::path::{Component, Path, PathBuf};

use super::discover::is_library_name;

/// The version that is fetched; other versions are used where they are found.
pub const PINNED: &str = "1.32.0";

/// The same with CUDA, which is released later.
pub const PINNED_CUDA: &str = "1.31.1";

/// Which build of ONNX Runtime.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Build {
    /// For the CPU.
    #[default]
    Cpu,
    /// For CUDA, with the libraries of NVIDIA that it needs.
    Cuda,
}

/// One package, of which one wheel is fetched.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wheel {
    pub(super) package: &'static str,
    pub(super) version: &'static str,
    /// Bytes of the wheel.
    pub(super) download: u64,
    /// Bytes of the files that are kept.
    pub(super) kept: u64,
}

const CPU: [Wheel; 1] = [wheel("onnxruntime", PINNED, 19, 30)];

/// What `onnxruntime-gpu[cuda,cudnn]` asks for, and what that asks for in turn.
const CUDA: [Wheel; 8] = [
    wheel("onnxruntime-gpu", PINNED_CUDA, 256, 314),
    wheel("nvidia-cuda-runtime", "13.5.37", 3, 1),
    wheel("nvidia-cublas", "13.10.0.20", 445, 609),
    wheel("nvidia-cudnn-cu13", "9.28.1.4", 517, 941),
    wheel("nvidia-curand", "10.4.5.25", 78, 105),
    wheel("nvidia-cufft", "12.5.0.14", 166, 237),
    wheel("nvidia-nvjitlink", "13.5.37", 47, 118),
    wheel("nvidia-cuda-nvrtc", "13.5.37", 59, 149),
];

const MEGABYTE: u64 = 1_000_000;

const fn wheel(package: &'static str, version: &'static str, download: u64, kept: u64) -> Wheel {
    Wheel {
        package,
        version,
        download: download * MEGABYTE,
        kept: kept * MEGABYTE,
    }
}

impl Build {
    /// What is fetched, the runtime itself first.
    pub(super) fn wheels(self) -> &'static [Wheel] {
        match self {
            Self::Cpu => &CPU,
            Self::Cuda => &CUDA,
        }
    }

    /// The version of the runtime.
    pub(super) fn version(self) -> &'static str {
        self.wheels()[0].version
    }

    /// Name of the folder it goes into. Of several folders the search takes the last name first, and
    /// the build with CUDA runs on the CPU as well.
    pub(super) fn folder(self) -> String {
        let runtime = &self.wheels()[0];
        format!("{}-{}", runtime.package, runtime.version)
    }

    /// Bytes on the disk while it is fetched: what is kept, and one wheel at a time.
    pub(super) fn room(self) -> u64 {
        let wheels = self.wheels();
        let largest = wheels.iter().map(|wheel| wheel.download).max();
        self.kept() + largest.unwrap_or(0)
    }

    /// Bytes that are downloaded.
    pub(super) fn download(self) -> u64 {
        self.wheels().iter().map(|wheel| wheel.download).sum()
    }

    /// Bytes on the disk afterwards.
    pub(super) fn kept(self) -> u64 {
        self.wheels().iter().map(|wheel| wheel.kept).sum()
    }
}

/// What a wheel of ONNX Runtime holds besides the library that has to go with it.
const LICENCES: [&str; 2] = ["LICENSE", "ThirdPartyNotices.txt"];

/// Libraries that the runtime loads from beside itself.
const PROVIDERS: [&str; 2] = [
    "libonnxruntime_providers_shared.so",
    "libonnxruntime_providers_cuda.so",
];

/// Libraries of NVIDIA's packages that nothing here loads.
const UNUSED: [&str; 2] = ["libnvblas.", "libcufftw."];

/// Where a wheel's entry goes, if we keep it.
///
/// The runtime's files lie side by side. NVIDIA's stay in their folders, since they find each other
/// by these; their licence is named after the package.
pub(super) fn place(entry: &str) -> Option<PathBuf> {
    let path = Path::new(entry);
    let mut parts = path.components();
    if !parts.all(|part| matches!(part, Component::Normal(_))) || entry.contains('\\') {
        return None;
    }
    let parts: Vec<&str> = entry.split('/').collect();
    match parts.as_slice() {
        ["onnxruntime", name] if LICENCES.contains(name) => Some(PathBuf::from(name)),
        ["onnxruntime", "capi", name] if is_library_name(name) || PROVIDERS.contains(name) => {
            Some(PathBuf::from(name))
        }
        ["nvidia", _, "lib", name] if is_nvidias(name) => Some(path.to_path_buf()),
        [info, "licenses", "License.txt"] if info.starts_with("nvidia_") => {
            let package = info.strip_suffix(".dist-info")?;
            Some(PathBuf::from(format!("LICENSE.{package}")))
        }
        _ => None,
    }
}

fn is_nvidias(name: &str) -> bool {
    let library = name.starts_with("lib") && name.contains(".so");
    library && !UNUSED.iter().any(|begin| name.starts_with(begin))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_needed_is_kept_and_nothing_leaves_the_folder() {
        let cases = [
            ("onnxruntime/LICENSE", Some("LICENSE")),
            (
                "onnxruntime/ThirdPartyNotices.txt",
                Some("ThirdPartyNotices.txt"),
            ),
            ("onnxruntime/__init__.py", None),
            (
                "onnxruntime/capi/libonnxruntime.so.1.32.0",
                Some("libonnxruntime.so.1.32.0"),
            ),
            (
                "onnxruntime/capi/libonnxruntime_providers_cuda.so",
                Some("libonnxruntime_providers_cuda.so"),
            ),
            (
                "onnxruntime/capi/libonnxruntime_providers_tensorrt.so",
                None,
            ),
            ("onnxruntime/capi/onnxruntime_pybind11_state.so", None),
            ("onnxruntime/capi/sub/libonnxruntime.so", None),
            ("onnxruntime/capi/../../libonnxruntime.so", None),
            ("../onnxruntime/capi/libonnxruntime.so", None),
            ("/onnxruntime/capi/libonnxruntime.so", None),
            (
                "nvidia/cu13/lib/libcublas.so.13",
                Some("nvidia/cu13/lib/libcublas.so.13"),
            ),
            ("nvidia/cu13/lib/libnvblas.so.13", None),
            ("nvidia/cu13/include/cublas.h", None),
            ("nvidia/../lib/libcublas.so.13", None),
            (
                "nvidia_cublas-13.10.0.20.dist-info/licenses/License.txt",
                Some("LICENSE.nvidia_cublas-13.10.0.20"),
            ),
            ("other-1.0.dist-info/licenses/License.txt", None),
        ];
        for (entry, expected) in cases {
            assert_eq!(place(entry), expected.map(PathBuf::from), "{entry}");
        }
    }

    #[test]
    fn one_wheel_at_a_time_needs_room_beside_what_is_kept() {
        for build in [Build::Cpu, Build::Cuda] {
            assert!(build.room() > build.kept() && build.room() <= build.kept() + build.download());
        }
        assert_eq!(
            Build::Cuda.folder(),
            format!("onnxruntime-gpu-{PINNED_CUDA}")
        );
    }
}
