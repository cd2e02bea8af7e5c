use super::*;

/// Makes empty files below a folder.
fn make(root: &Path, files: &[&str]) {
    for file in files {
        let path = root.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }
}

fn variables(root: &Path, pairs: &[(&'static str, &str)]) -> BTreeMap<&'static str, OsString> {
    let pairs = pairs.iter();
    pairs
        .map(|(name, path)| (*name, root.join(path).into_os_string()))
        .collect()
}

#[test]
fn places_are_searched_in_order() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    make(
        root,
        &[
            "app/bin/libonnxruntime.so.1.20.0",
            "app/bin/libonnxruntime_providers_shared.so",
            "app/lib/libonnxruntime.so",
            "app/lib/python3.12/site-packages/onnxruntime/capi/libonnxruntime.so.1.32.0",
            "venv/lib/python3.11/site-packages/onnxruntime/capi/libonnxruntime.so.1.30.0",
            "conda/lib/python3.10/site-packages/onnxruntime/capi/libonnxruntime.so.1.29.0",
            "conda/lib/pkgconfig/onnxruntime/capi/libonnxruntime.so.1.29.0",
            "home/runtime/onnxruntime-1.31.0/libonnxruntime.so.1.31.0",
            "home/runtime/onnxruntime-1.32.0/libonnxruntime.so.1.32.0",
            "home/runtime/.install-abc/LICENSE",
        ],
    );
    let around = Surroundings {
        variables: variables(
            root,
            &[
                ("ONNX_PRUNE_ORT_LIB", "own.so"),
                ("ORT_DYLIB_PATH", "shared.so"),
                ("VIRTUAL_ENV", "venv"),
                ("CONDA_PREFIX", "conda"),
                ("ONNX_PRUNE_HOME", "home"),
            ],
        ),
        executable: Some(root.join("app/bin/onnx-prune")),
        python: || None,
    };
    let flag = root.join("flag.so");
    let found: Vec<_> = search(&around, Some(&flag))
        .map(|found| {
            let path = found
                .path
                .strip_prefix(root)
                .unwrap()
                .to_string_lossy()
                .into_owned();
            (found.origin, path, found.named)
        })
        .collect();
    let capi = |prefix: &str, python: &str, version: &str| {
        format!("{prefix}/lib/{python}/site-packages/onnxruntime/capi/libonnxruntime.so.{version}")
    };
    let expected = [
        (Origin::Flag, "flag.so".to_owned(), true),
        (Origin::OwnVariable, "own.so".to_owned(), true),
        (Origin::SharedVariable, "shared.so".to_owned(), true),
        (
            Origin::Executable,
            "app/bin/libonnxruntime.so.1.20.0".to_owned(),
            false,
        ),
        (
            Origin::Executable,
            "app/bin/../lib/libonnxruntime.so".to_owned(),
            false,
        ),
        (
            Origin::ExecutablePython,
            capi("app", "python3.12", "1.32.0"),
            false,
        ),
        (
            Origin::VirtualEnv,
            capi("venv", "python3.11", "1.30.0"),
            false,
        ),
        (Origin::Conda, capi("conda", "python3.10", "1.29.0"), false),
        // newest first
        (
            Origin::DataFolder,
            "home/runtime/onnxruntime-1.32.0/libonnxruntime.so.1.32.0".to_owned(),
            false,
        ),
        (
            Origin::DataFolder,
            "home/runtime/onnxruntime-1.31.0/libonnxruntime.so.1.31.0".to_owned(),
            false,
        ),
    ];
    assert_eq!(found, expected);
}

#[test]
fn active_python_is_asked_and_nothing_is_found_twice() {
    let around = |python| Surroundings {
        variables: BTreeMap::new(),
        executable: None,
        python,
    };
    assert_eq!(search(&around(|| None), None).count(), 0);
    // The package of the environment that is also the active Python's.
    static ROOT: std::sync::OnceLock<tempfile::TempDir> = std::sync::OnceLock::new();
    let root = ROOT.get_or_init(|| tempfile::tempdir().unwrap()).path();
    let package = "lib/python3.11/site-packages/onnxruntime";
    make(root, &[&format!("{package}/capi/libonnxruntime.so.1.30.0")]);
    let python = || {
        Some(
            ROOT.get()?
                .path()
                .join("lib/python3.11/site-packages/onnxruntime"),
        )
    };
    let alone: Vec<_> = search(&around(python), None)
        .map(|found| found.origin)
        .collect();
    assert_eq!(alone, [Origin::ActivePython]);
    let mut both = around(python);
    both.variables = variables(root, &[("VIRTUAL_ENV", "")]);
    let both: Vec<_> = search(&both, None).map(|found| found.origin).collect();
    assert_eq!(both, [Origin::VirtualEnv]);
}

#[test]
fn names_of_the_runtime_are_told_from_its_providers() {
    let cases = [
        ("libonnxruntime.so", true),
        ("libonnxruntime.so.1.32.0", true),
        ("libonnxruntime.1.32.0.dylib", true),
        ("libonnxruntime.dylib", true),
        ("onnxruntime.dll", true),
        ("libonnxruntime_providers_shared.so", false),
        ("libonnxruntime_providers_cuda.so", false),
        ("onnxruntime_providers_shared.dll", false),
        ("libonnxruntime_extensions.so", false),
        // no bare name: from a package that wants to write elsewhere
        ("libonnxruntime.so./../../evil", false),
    ];
    for (name, expected) in &cases {
        assert_eq!(is_library_name(name), *expected, "{name}");
    }
}

#[test]
fn data_folder_follows_the_variables() {
    type Variables = &'static [(&'static str, &'static str)];
    let cases: [(Variables, Option<&str>); 5] = [
        (
            &[
                ("ONNX_PRUNE_HOME", "/o"),
                ("XDG_DATA_HOME", "/x"),
                ("HOME", "/h"),
            ],
            Some("/o/runtime"),
        ),
        (
            &[("XDG_DATA_HOME", "/x"), ("HOME", "/h")],
            Some("/x/onnx-prune/runtime"),
        ),
        (
            &[("HOME", "/h")],
            Some("/h/.local/share/onnx-prune/runtime"),
        ),
        // relative: ignored, as its standard says
        (
            &[("XDG_DATA_HOME", "x"), ("HOME", "/h")],
            Some("/h/.local/share/onnx-prune/runtime"),
        ),
        (&[], None),
    ];
    for (pairs, expected) in cases {
        let around = Surroundings {
            variables: pairs
                .iter()
                .map(|(name, path)| (*name, OsString::from(path)))
                .collect(),
            executable: None,
            python: || None,
        };
        if !cfg!(windows) {
            assert_eq!(
                around.data_folder(),
                expected.map(PathBuf::from),
                "{pairs:?}"
            );
        }
    }
}

#[test]
fn providers_are_those_whose_libraries_lie_beside() {
    let root = tempfile::tempdir().unwrap();
    let library = root.path().join("libonnxruntime.so");
    make(
        root.path(),
        &["libonnxruntime.so", "libonnxruntime_providers_shared.so"],
    );
    assert_eq!(providers(&library), ["cpu"]);
    assert!(!has_cuda(&library));
    make(root.path(), &["libonnxruntime_providers_cuda.so"]);
    assert_eq!(providers(&library), ["cpu", "cuda"]);
    assert!(has_cuda(&library));
}
