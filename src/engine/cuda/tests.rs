use super::*;

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
