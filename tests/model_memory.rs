//! Reading and writing a model takes little more memory than the weights that are looked at.
//!
//! The peak is that of the process, so this is the only test of its programme.

#![cfg(target_os = "linux")]

mod process;

use process::status_bytes;

use onnx_prune::onnx::{
    DataType, GraphProto, Limits, Model, ModelProto, Output, Overwrite, Storage, TensorProto, slice,
};

/// Above what is mapped rather than read.
const WEIGHT_BYTES: usize = 96 << 20;

/// Of the weight, a matrix of f32.
const COLUMNS: usize = 1024;

/// The programme itself, the test harness and the buffers between them.
const REST_BYTES: usize = 24 << 20;

fn model(weight: TensorProto) -> ModelProto {
    let mut graph = GraphProto::new("g");
    graph.initializer.push(weight);
    ModelProto::new(graph, 17)
}

#[test]
fn weights_are_in_memory_once_and_only_if_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("in.onnx");
    // Pages that were never written to are not in memory: only reading the file brings them there.
    let weight = TensorProto {
        name: Some("w".into()),
        data_type: Some(DataType::Float.into()),
        dims: vec![
            i64::try_from(WEIGHT_BYTES / 4 / COLUMNS).unwrap(),
            i64::try_from(COLUMNS).unwrap(),
        ],
        raw_data: Some(vec![0; WEIGHT_BYTES].into()),
        ..TensorProto::default()
    };
    let mut made = Output::create(&input, None, Overwrite::Refuse).unwrap();
    made.write(&model(weight), Storage::Inside).unwrap();
    made.commit().unwrap();
    assert!(
        status_bytes("VmHWM") < REST_BYTES,
        "{}",
        status_bytes("VmHWM")
    );

    let write = |name: &str, model: &ModelProto, storage| {
        let path = folder.path().join(name);
        let mut output = Output::create(&path, None, Overwrite::Refuse).unwrap();
        output.write(model, storage).unwrap();
        output.commit().unwrap();
    };
    // Kept: a tenth of the weight, of which the pages between are not touched.
    let keep: Vec<usize> = (0..WEIGHT_BYTES / 40 / COLUMNS).collect();
    for (name, storage) in [("a.onnx", Storage::Inside), ("b.onnx", Storage::External)] {
        let mut whole = Model::load(&input, &Limits::default()).unwrap();
        let weight = whole.proto.graph.as_mut().unwrap().initializer.remove(0);
        let part = slice::select(&weight, 0, &keep).unwrap();
        write(name, &model(part), storage);
    }
    let peak = status_bytes("VmHWM");
    assert!(peak < WEIGHT_BYTES / 5 + 2 * REST_BYTES, "cut: {peak}");

    for (name, storage) in [("c.onnx", Storage::Inside), ("d.onnx", Storage::External)] {
        let whole = Model::load(&input, &Limits::default()).unwrap();
        write(name, &whole.proto, storage);
        let (peak, own) = (status_bytes("VmHWM"), status_bytes("RssAnon"));
        assert!(peak < WEIGHT_BYTES + 2 * REST_BYTES, "{name}: {peak}");
        assert!(own < REST_BYTES, "{name}: {own} bytes are a copy");
    }
}
