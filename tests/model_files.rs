//! Model files as exporters write them come out of the program byte for byte as they went in.

#![expect(clippy::unwrap_used, reason = "a panic here is the failure report")]

use std::{
    env, fs,
    io::{BufReader, Read},
    path::{Path, PathBuf},
};

use onnx_prune::onnx::{Limits, Model, Output, Overwrite, Storage, Tensor};

/// The models of the repository and, where `ONNX_PRUNE_ZOO` names a folder of other models
/// (`models/zoo` says how to make one), those.
fn models() -> Vec<PathBuf> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    let folders = [
        Some(repository),
        env::var_os("ONNX_PRUNE_ZOO").map(Into::into),
    ];
    let files = folders.into_iter().flatten().flat_map(|folder| {
        let entries = fs::read_dir(&folder).unwrap();
        entries.map(|entry| entry.unwrap().path())
    });
    let mut models: Vec<PathBuf> = files
        .filter(|f| f.extension() == Some("onnx".as_ref()))
        .collect();
    models.sort();
    models
}

/// Writes the model to a new folder, reads it back, and compares.
fn round_trip(path: &Path) -> Result<&'static str, String> {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let copy = folder.path().join(path.file_name().unwrap());
    let model = Model::load(path, &Limits::default()).map_err(|e| e.to_string())?;
    let storage = model.storage();
    Output::create(&copy, Some(path), Overwrite::Refuse)
        .and_then(|mut output| {
            output.write(&model.proto, storage)?;
            output.commit()
        })
        .map_err(|e| e.to_string())?;
    if storage == Storage::Inside {
        return same_bytes(path, &copy)
            .then_some("same bytes")
            .ok_or_else(|| "bytes differ".to_owned());
    }
    // Weights may lie elsewhere in the data file, so the models are compared as read.
    let again = Model::load(&copy, &Limits::default()).map_err(|e| e.to_string())?;
    (again.proto == model.proto && again.has_external_data())
        .then_some("same model, external data")
        .ok_or_else(|| "models differ".to_owned())
}

fn same_bytes(a: &Path, b: &Path) -> bool {
    let open = |path| BufReader::with_capacity(1 << 20, fs::File::open(path).unwrap());
    let (mut a, mut b) = (open(a), open(b));
    let (mut from_a, mut from_b) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    loop {
        let read = a.read(&mut from_a).unwrap();
        if read == 0 {
            return b.read(&mut from_b).unwrap() == 0;
        }
        if b.read_exact(&mut from_b[..read]).is_err() || from_a[..read] != from_b[..read] {
            return false;
        }
    }
}

#[test]
fn models_are_written_back_as_they_were() {
    let models = models();
    assert!(models.len() >= 3, "{models:?}");
    let results: Vec<_> = models.iter().map(|path| (path, round_trip(path))).collect();
    for (path, result) in &results {
        println!("{}: {result:?}", path.display());
    }
    let bad: Vec<_> = results
        .iter()
        .filter(|(_, result)| result.is_err())
        .collect();
    assert!(bad.is_empty(), "{bad:#?}");
}

#[test]
fn every_initializer_of_the_models_decodes() {
    for path in models() {
        let model = Model::load(&path, &Limits::default()).unwrap();
        for proto in &model.proto.graph.as_ref().unwrap().initializer {
            if let Err(error) = Tensor::from_proto(proto) {
                panic!("{}: {error}", path.display());
            }
        }
    }
}
