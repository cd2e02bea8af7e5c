//! Loading ONNX Runtime, in a process of its own: a process can load one library only once, so this
//! file has one test, which tries the bad ones first.

use std::fs;
use std::path::{Path, PathBuf};

use onnx_prune::Error;
use onnx_prune::engine::{EngineChoice, EngineOptions, open, runtime, testing};

fn options(library: &Path) -> EngineOptions {
    EngineOptions {
        ort_library: Some(library.to_path_buf()),
        ..EngineOptions::default()
    }
}

/// A library of this system that is no ONNX Runtime.
fn other_library() -> Option<PathBuf> {
    let triplet = format!("{}-linux-gnu", std::env::consts::ARCH);
    let folders = ["/lib", "/usr/lib", "/lib64", "/usr/lib64"].map(PathBuf::from);
    let folders = folders
        .into_iter()
        .flat_map(|folder| [folder.join(&triplet), folder]);
    let mut files = folders.map(|folder| folder.join("libm.so.6"));
    files.find(|path| path.is_file())
}

// Too old a library is not tried: no version before 1.17 has a wheel for the Pythons of today.
#[test]
fn named_library_is_used_or_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let good = testing::ort_library();
    fs::write(file("libonnxruntime.so"), "this is no library ".repeat(100)).unwrap();
    fs::write(
        file("libonnxruntime.so.1"),
        &fs::read(&good).unwrap()[..4096],
    )
    .unwrap();
    let mut cases = vec![
        // nothing there
        (file("missing.so"), "No such file"),
        // a folder, even one that holds a library
        (
            good.parent().unwrap().to_path_buf(),
            "is a folder; name the library file in it",
        ),
        // not ELF
        (file("libonnxruntime.so"), "invalid ELF header"),
        // ELF, cut short
        (file("libonnxruntime.so.1"), "is cut short"),
    ];
    cases.extend(other_library().map(|path| (path, "is a library, but not ONNX Runtime")));
    for (path, expected) in &cases {
        let Err(Error::Engine { engine, what }) = open(&options(path)).map(|_| ()) else {
            panic!("{} was taken", path.display());
        };
        assert_eq!(engine, "onnxruntime");
        assert!(
            what.contains(expected) || cfg!(not(target_os = "linux")),
            "{what}"
        );
        assert!(what.starts_with(&*path.to_string_lossy()), "{what}");
        assert!(what.ends_with("(named by --ort-lib)"), "{what}");
        let listed = runtime::candidates(Some(path));
        assert_eq!(listed[0].path, *path);
        assert!(
            listed[0].problem.is_some() && listed.iter().all(|other| !other.chosen),
            "{listed:?}"
        );
    }

    // None of these stands in the way of a good one.
    let mut wanted = options(&good);
    wanted.engine = EngineChoice::Ort;
    wanted.threads = Some(1);
    let selected = open(&wanted).unwrap();
    let info = selected.engine.info();
    assert_eq!(
        (info.name, info.provider.as_str(), info.threads),
        ("onnxruntime", "cpu", 1)
    );
    assert_eq!(info.library.as_deref(), Some(good.as_path()));
    let listed = runtime::candidates(Some(&good));
    let chosen: Vec<_> = listed.iter().filter(|candidate| candidate.chosen).collect();
    assert_eq!(chosen.len(), 1, "{listed:?}");
    assert_eq!(chosen[0].version.as_deref(), Some(info.version.as_str()));
}
