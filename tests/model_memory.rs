//! Reading and writing a model takes little more memory than its weights.
//!
//! The peak is that of the process, so this is the only test of its programme.

#![cfg(target_os = "linux")]

use std::fs;

use onnx_prune::onnx::{
    DataType, GraphProto, Limits, Model, ModelProto, Output, Overwrite, Storage, TensorProto,
};

const WEIGHT_BYTES: usize = 96 << 20;

/// The programme itself, the test harness and the buffers between them.
const REST_BYTES: usize = 24 << 20;

/// Largest memory the process has had so far, as the kernel counts it.
fn peak_bytes() -> usize {
    let status = fs::read_to_string("/proc/self/status").expect("Linux has /proc");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<usize>().ok());
    kib.expect("VmHWM is a number of kB") * 1024
}

#[test]
fn weights_are_in_memory_once() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("in.onnx");
    // Pages that were never written to are not in memory: only reading the file brings them there.
    let weight = TensorProto {
        name: Some("w".into()),
        data_type: Some(DataType::Float.into()),
        dims: vec![i64::try_from(WEIGHT_BYTES / 4).unwrap()],
        raw_data: Some(vec![0; WEIGHT_BYTES].into()),
        ..TensorProto::default()
    };
    let mut graph = GraphProto::new("g");
    graph.initializer.push(weight);
    let mut made = Output::create(&input, None, Overwrite::Refuse).unwrap();
    made.write(&ModelProto::new(graph, 17), Storage::Inside)
        .unwrap();
    made.commit().unwrap();
    assert!(peak_bytes() < REST_BYTES, "{}", peak_bytes());

    for (name, storage) in [("a.onnx", Storage::Inside), ("b.onnx", Storage::External)] {
        let model = Model::load(&input, &Limits::default()).unwrap();
        let path = folder.path().join(name);
        let mut output = Output::create(&path, Some(&input), Overwrite::Refuse).unwrap();
        output.write(&model.proto, storage).unwrap();
        output.commit().unwrap();
        let peak = peak_bytes();
        assert!(peak < WEIGHT_BYTES + REST_BYTES, "{name}: {peak}");
        assert!(peak > WEIGHT_BYTES, "{name}: the weights were not read");
    }
}
