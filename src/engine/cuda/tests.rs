use super::*;
use crate::engine::{EngineChoice, EngineOptions, ProviderChoice};

fn library(name: &str, package: &str, missing: bool) -> Library {
    Library {
        name: name.to_owned(),
        path: None,
        package: Some(package.to_owned()),
        problem: missing.then(|| "cannot open shared object file".to_owned()),
    }
}

fn needs(missing: bool) -> Libraries {
    let mut found = Libraries::default();
    found.libraries = vec![
        library("libcudart.so.13", "nvidia-cuda-runtime", false),
        library("libcublas.so.13", "nvidia-cublas", missing),
        library("libcudnn.so.9", "nvidia-cudnn-cu13", missing),
    ];
    found
}

fn driver(version: Option<&str>, problem: Option<&str>) -> Driver {
    Driver {
        version: version.map(str::to_owned),
        problem: problem.map(str::to_owned),
        devices: Vec::new(),
    }
}

#[test]
fn everything_that_is_missing_is_named_at_once() {
    let no_driver = driver(None, Some("libcuda.so.1: cannot open shared object file"));
    let both = problem(&no_driver, &needs(true)).unwrap();
    for part in [
        "no NVIDIA driver (libcuda.so.1: cannot open",
        "--gpus all",
        "libcublas.so.13 (of nvidia-cublas), libcudnn.so.9 (of nvidia-cudnn-cu13)",
        "onnx-prune runtime install --cuda",
    ] {
        assert!(both.contains(part), "no {part:?} in {both}");
    }
    assert!(!both.contains("libcudart"), "{both}");
    let driver_alone = problem(&no_driver, &needs(false)).unwrap();
    assert!(!driver_alone.contains("missing"), "{driver_alone}");
}

#[test]
fn a_driver_must_be_new_enough() {
    let cases = [
        (
            Some("535.104.12"),
            Some("535.104.12 is too old for this CUDA: 580"),
        ),
        (Some("580.65.06"), None),
        (Some("600.1"), None),
        // nobody says
        (None, None),
    ];
    for (version, expected) in cases {
        let found = problem(&driver(version, None), &needs(false));
        match expected {
            Some(part) => assert!(
                found.as_ref().is_some_and(|text| text.contains(part)),
                "{found:?}"
            ),
            None => assert_eq!(found, None),
        }
    }
}

#[test]
fn a_library_that_cannot_be_loaded_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("libcudart.so.13");
    std::fs::write(&path, "no library").unwrap();
    let found = Libraries::default();
    assert!(found.load().is_ok());
    let error = load(&path).unwrap_err();
    assert!(error.contains("libcudart.so.13"), "{error}");
}

/// A shared library of nothing but a list of what it needs.
fn elf(needed: &[&str]) -> Vec<u8> {
    const DYNAMIC: u64 = 64 + 2 * 56;
    let mut names = vec![0];
    let mut entries: Vec<(u64, u64)> = Vec::new();
    for name in needed {
        entries.push((1, names.len() as u64));
        names.extend(name.bytes().chain([0]));
    }
    let table = DYNAMIC + (entries.len() as u64 + 2) * 16;
    // In memory everything lies a page further on than in the file.
    entries.extend([(5, table + 4096), (0, 0)]);
    let end = table + names.len() as u64;
    let mut header = vec![0; 64];
    header[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1]);
    header[0x20..0x28].copy_from_slice(&64_u64.to_le_bytes());
    header[0x36..0x3a].copy_from_slice(&[56, 0, 2, 0]);
    let segment = |kind: u32, offset: u64, bytes: u64| {
        let numbers = [offset, offset + 4096, 0, bytes, bytes, 0];
        let numbers = numbers.into_iter().flat_map(u64::to_le_bytes);
        let kind = u64::from(kind).to_le_bytes();
        kind.into_iter().chain(numbers).collect::<Vec<u8>>()
    };
    let entries = entries.into_iter().flat_map(|(tag, value)| {
        let bytes = [tag.to_le_bytes(), value.to_le_bytes()];
        bytes.into_iter().flatten()
    });
    let parts = [segment(1, 0, end), segment(2, DYNAMIC, table - DYNAMIC)];
    header
        .into_iter()
        .chain(parts.into_iter().flatten())
        .chain(entries)
        .chain(names)
        .collect()
}

/// A library for CUDA of which a part is missing: told within a moment, before anything is loaded.
#[test]
fn what_the_provider_needs_is_read_from_it() {
    let root = tempfile::tempdir().unwrap();
    let library = root.path().join("libonnxruntime.so");
    let provider = root.path().join("libonnxruntime_providers_cuda.so");
    let lib = root.path().join("nvidia/cu13/lib");
    std::fs::create_dir_all(&lib).unwrap();
    std::fs::write(&library, "never loaded").unwrap();
    let needed = [
        "libcudart.so.13",
        "libcublas.so.13",
        "libcuda.so.1",
        "libc.so.6",
    ];
    std::fs::write(&provider, elf(&needed)).unwrap();
    std::fs::write(lib.join("libcudart.so.13"), "").unwrap();
    let found = Cuda::look(Some(&library));
    let names: Vec<&str> = found
        .libraries
        .iter()
        .map(|one| one.name.as_str())
        .collect();
    assert_eq!(
        names,
        ["libcudart.so.13", "libcublas.so.13", "libcudnn.so.9"]
    );
    assert_eq!(found.libraries[0].path, Some(lib.join("libcudart.so.13")));
    let options = EngineOptions {
        engine: EngineChoice::Ort,
        provider: ProviderChoice::Cuda(0),
        ort_library: Some(library),
        ..EngineOptions::default()
    };
    let error = crate::engine::open(&options).map(|_| ()).unwrap_err();
    let text = error.to_string();
    // On a machine with CUDA the system's own may be found.
    for name in [
        "libcublas.so.13 (of nvidia-cublas)",
        "libcudnn.so.9 (of nvidia-cudnn-cu13)",
    ] {
        let bare = name.split(' ').next().unwrap();
        assert!(text.contains(name) || load(bare).is_ok(), "{text}");
    }
    assert!(
        has_driver() || text.contains("no NVIDIA driver (libcuda.so.1"),
        "{text}"
    );
}
