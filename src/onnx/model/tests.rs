use std::fs;

use proptest::prelude::*;

use super::*;
use crate::onnx::{GraphProto, NodeProto, walk::tests::model_with_tensors_everywhere};

/// Loads a file with this content.
fn load(bytes: &[u8]) -> Result<Model> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.onnx");
    fs::write(&path, bytes).unwrap();
    Model::load(&path, &Limits::default())
}

#[test]
fn load_reads_what_was_encoded() {
    let proto = model_with_tensors_everywhere();
    let bytes = proto.encode_to_vec();
    let model = load(&bytes).unwrap();
    assert_eq!(model.proto, proto);
    assert_eq!(model.proto.encode_to_vec(), bytes);
    assert_eq!(model.file_bytes(), u64::try_from(bytes.len()).unwrap());
    assert_eq!(model.storage(), Storage::Inside);
}

#[test]
fn weights_share_the_bytes_of_the_file() {
    let model = load(&model_with_tensors_everywhere().encode_to_vec()).unwrap();
    let graph = model.proto.graph.unwrap();
    // One allocation: the name of the graph is a copy, the weights are not.
    let raw = graph.initializer[0].raw_data.clone().unwrap();
    assert!(!raw.is_unique());
}

#[test]
fn what_is_no_onnx_file_is_named() {
    let onnx = model_with_tensors_everywhere().encode_to_vec();
    let mut cut = onnx.clone();
    cut.truncate(onnx.len() / 3);
    let mut newer = onnx.clone();
    newer.extend([0x98, 6, 1]);
    // A name that is not UTF-8.
    let latin1 = [0x08, 8, 0x12, 2, b'a', 0xfc];
    let cases: [(&[u8], &str); 9] = [
        (b"", "the file is empty"),
        (b"hello, world\n", "not an ONNX file: it looks like text"),
        (
            b"PK\x03\x04....",
            "not an ONNX file: it looks like a zip archive",
        ),
        (&[0; 100], "not an ONNX file: it looks like zeros only"),
        (&[0xfe; 100], "not an ONNX file: "),
        (&cut, "truncated: a field of ModelProto at byte "),
        (&newer, "field 99 of ModelProto at byte "),
        (
            &latin1,
            "failed to decode Protobuf message: ModelProto.producer_name",
        ),
        // Two bytes that are a model, as far as protobuf goes.
        (&[0x08, 8], "the model has no graph"),
    ];
    for (bytes, expected) in cases {
        let error = load(bytes).unwrap_err();
        let Error::Format { what, .. } = &error else {
            panic!("{error:?}");
        };
        assert!(
            what.starts_with(expected),
            "{what:?} instead of {expected:?}"
        );
    }
}

#[test]
fn what_is_no_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let error = |path: &Path, limits: &Limits| Model::load(path, limits).unwrap_err();
    let limits = Limits::default();
    let missing = error(&folder.path().join("none.onnx"), &limits);
    assert!(matches!(missing, Error::Io { .. }), "{missing:?}");
    let directory = error(folder.path(), &limits).to_string();
    assert!(directory.ends_with("not a regular file"), "{directory}");
    let path = folder.path().join("m.onnx");
    fs::write(&path, model_with_tensors_everywhere().encode_to_vec()).unwrap();
    let small = Limits {
        model_bytes: 10,
        ..Limits::default()
    };
    assert!(
        error(&path, &small)
            .to_string()
            .ends_with("more than the limit of 10")
    );
    let few = Limits {
        messages: 10,
        ..Limits::default()
    };
    assert!(
        error(&path, &few)
            .to_string()
            .ends_with("more than 10 messages, the limit")
    );
}

#[test]
fn every_truncation_is_an_error_or_a_smaller_model() {
    let bytes = model_with_tensors_everywhere().encode_to_vec();
    for length in 0..bytes.len() {
        // A cut between two fields of the model leaves a model; the graph comes early.
        if let Ok(model) = load(&bytes[..length]) {
            assert!(model.proto.encoded_len() == length);
        }
    }
}

/// Whatever the bytes, decoding and checking end.
fn decode_and_check(bytes: Vec<u8>) {
    if let Ok(mut proto) = decode(bytes.into(), &Limits::default()) {
        let _ = check(Path::new("m"), &mut proto);
        for held in stored(&mut proto).into_tensors() {
            let _ = crate::onnx::Tensor::from_proto(held.tensor);
            let _ = crate::onnx::slice::select(held.tensor, 0, &[0]);
        }
        let _ = proto.graph.as_ref().map(crate::onnx::text::print);
    }
}

proptest! {
    #[test]
    fn flipped_bytes_never_panic(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = model_with_tensors_everywhere().encode_to_vec();
        for (index, value) in flips {
            let index = index.index(bytes.len());
            bytes[index] = value;
        }
        decode_and_check(bytes.clone());
        bytes.truncate(cut.index(bytes.len()));
        decode_and_check(bytes);
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        decode_and_check(bytes);
    }

    #[test]
    fn nodes_read_back_as_they_were_built(op in "[A-Za-z]{1,8}", int in any::<i64>(), ints in any::<Vec<i64>>()) {
        let node = NodeProto::new(&op, &["x"], &["y"]).with_int("a", int).with_ints("b", &ints);
        let mut graph = GraphProto::new("g");
        graph.node.push(node);
        let proto = ModelProto::new(graph, 17);
        prop_assert_eq!(decode(proto.encode_to_vec().into(), &Limits::default()), Ok(proto));
    }
}
