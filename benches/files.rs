//! Reading and writing model files; run with `cargo bench --bench files`.

#![expect(clippy::unwrap_used, reason = "a benchmark")]

use std::{fs, path::Path};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use onnx_prune::onnx::{
    DataType, GraphProto, Limits, Model, ModelProto, Output, Overwrite, Storage, TensorProto, slice,
};

fn files(criterion: &mut Criterion) {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    for name in ["vgg.onnx", "resnet.onnx", "densenet.onnx"] {
        let path = models.join(name);
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Bytes(fs::metadata(&path).unwrap().len()));
        let load = || Model::load(&path, &Limits::default()).unwrap();
        group.bench_function("load", |bench| bench.iter(load));
        let model = load();
        let copy = folder.path().join(name);
        // The disk's own time, a sync per file included.
        group.bench_function("save", |bench| {
            bench.iter(|| {
                let mut output = Output::create(&copy, Some(&path), Overwrite::Replace).unwrap();
                output.write(&model.proto, model.storage()).unwrap();
                output.commit().unwrap()
            });
        });
        group.finish();
    }
}

/// A weight of 128 MB, as much of a file as all others are overhead: mapped, looked at in part, written whole or cut.
fn large(criterion: &mut Criterion) {
    const ROWS: usize = 4096;
    const COLUMNS: usize = 8192;
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = folder.path().join("large.onnx");
    let weight = TensorProto {
        name: Some("w".to_owned()),
        data_type: Some(DataType::Float.into()),
        dims: vec![ROWS as i64, COLUMNS as i64],
        raw_data: Some(vec![1; 4 * ROWS * COLUMNS].into()),
        ..TensorProto::default()
    };
    let mut graph = GraphProto::new("large");
    graph.initializer.push(weight);
    let save = |name: &str, model: &ModelProto| {
        let mut output =
            Output::create(&folder.path().join(name), None, Overwrite::Replace).unwrap();
        output.write(model, Storage::Inside).unwrap();
        output.commit().unwrap()
    };
    save("large.onnx", &ModelProto::new(graph, 17));
    let load = || Model::load(&path, &Limits::default()).unwrap();
    let mut group = criterion.benchmark_group("large");
    group.throughput(Throughput::Bytes(fs::metadata(&path).unwrap().len()));
    group.sample_size(10);
    group.bench_function("load", |bench| bench.iter(load));
    group.bench_function("load and save", |bench| {
        bench.iter(|| save("copy.onnx", &load().proto));
    });
    let axes = [ROWS, COLUMNS].map(|size| (0..size).step_by(3).collect::<Vec<_>>());
    let axes: Vec<_> = (0..).zip(axes).collect();
    group.bench_function("load and cut both axes", |bench| {
        bench.iter(|| {
            let model = load();
            slice::select_all(&model.proto.graph.as_ref().unwrap().initializer[0], &axes).unwrap()
        });
    });
    group.finish();
}

/// The dense layer that a flatten layer of 3136 features feeds, cut on either axis.
fn cuts(criterion: &mut Criterion) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/vgg.onnx");
    let model = Model::load(&path, &Limits::default()).unwrap();
    let graph = model.proto.graph.as_ref().unwrap();
    let matrices = graph
        .initializer
        .iter()
        .filter(|tensor| tensor.dims.len() == 2);
    let weight = matrices
        .max_by_key(|tensor| tensor.dims[0] * tensor.dims[1])
        .unwrap();
    let mut group = criterion.benchmark_group("select");
    for axis in 0..2 {
        let size = usize::try_from(weight.dims[axis]).unwrap();
        let keep: Vec<usize> = (0..size).step_by(3).collect();
        group.bench_function(format!("axis {axis}"), |bench| {
            bench.iter(|| slice::select(weight, axis, &keep).unwrap());
        });
    }
    group.finish();
}

criterion_group!(benches, files, large, cuts);
criterion_main!(benches);
