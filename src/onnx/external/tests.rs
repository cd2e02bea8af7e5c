use std::fs;

use prost::Message;

use super::*;
use crate::onnx::{
    GraphProto, Model, ModelProto, NodeProto, Storage, TensorProto,
    proto::tensor_proto::{DataLocation, DataType},
};

/// An f32[2] whose values are in another file.
fn tensor(name: &str, entries: &[(&str, &str)]) -> TensorProto {
    let entry = |&(key, value): &(&str, &str)| StringStringEntryProto {
        key: Some(key.to_owned()),
        value: Some(value.to_owned()),
    };
    TensorProto {
        name: Some(name.to_owned()),
        data_type: Some(DataType::Float.into()),
        dims: vec![2],
        data_location: Some(DataLocation::External.into()),
        external_data: entries.iter().map(entry).collect(),
        ..TensorProto::default()
    }
}

fn write_model(path: &Path, tensors: Vec<TensorProto>) {
    let mut graph = GraphProto::new("g");
    graph.initializer = tensors;
    fs::write(path, ModelProto::new(graph, 17).encode_to_vec()).unwrap();
}

/// A folder with `m.onnx` in it, whose tensor "w" has these entries, and `w.bin` of 16 bytes
/// counting up.
fn folder(entries: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write_model(&folder.path().join("m.onnx"), vec![tensor("w", entries)]);
    fs::write(folder.path().join("w.bin"), (0..16).collect::<Vec<u8>>()).unwrap();
    folder
}

fn load(folder: &Path) -> Result<Model> {
    Model::load(&folder.join("m.onnx"), &Limits::default())
}

fn raw(model: &Model, index: usize) -> Vec<u8> {
    let graph = model.proto.graph.as_ref().unwrap();
    graph.initializer[index].raw_data().to_vec()
}

#[test]
fn offsets_and_lengths_say_where_the_values_are() {
    struct Case {
        entries: &'static [(&'static str, &'static str)],
        /// The first of eight bytes, or the end of the message.
        expected: Result<u8, &'static str>,
    }
    let at = |entries, expected| Case { entries, expected };
    let cases = [
        at(&[("location", "w.bin")], Ok(0)),
        at(
            &[("location", "./w.bin"), ("offset", "8"), ("length", "8")],
            Ok(8),
        ),
        at(
            &[("location", "w.bin"), ("offset", "3"), ("checksum", "x")],
            Ok(3),
        ),
        // Short by one byte.
        at(
            &[("location", "w.bin"), ("offset", "9")],
            Err("w.bin: value \"w\" is stored here in bytes 9 to 17, but the file has only 16"),
        ),
        at(
            &[("location", "w.bin"), ("length", "7")],
            Err("has 7 bytes of external data, but f32[2] needs 8"),
        ),
        at(
            &[("location", "w.bin"), ("offset", "-1")],
            Err("has the external data offset \"-1\": invalid digit found in string"),
        ),
        at(
            &[("location", "w.bin"), ("offset", "18446744073709551615")],
            Err("has the external data offset 18446744073709551615"),
        ),
        at(
            &[("location", "w.bin"), ("prepacked_0", "x")],
            Err("has the unknown external data key \"prepacked_0\""),
        ),
        at(&[], Err("has external data without location")),
        at(
            &[("location", "none.bin")],
            Err("No such file or directory (os error 2) (external data of value \"w\")"),
        ),
    ];
    for case in cases {
        let folder = folder(case.entries);
        match (load(folder.path()), case.expected) {
            (Ok(model), Ok(first)) => {
                assert_eq!(raw(&model, 0), (first..first + 8).collect::<Vec<_>>());
                let file = folder.path().join("w.bin").canonicalize().unwrap();
                assert_eq!(model.external_files(), [file]);
                assert_eq!(model.storage(), Storage::External);
                let inside = fs::metadata(folder.path().join("m.onnx")).unwrap().len();
                assert_eq!(model.file_bytes(), inside + 16);
            }
            (Err(error), Err(expected)) => {
                let error = error.to_string();
                assert!(
                    error.ends_with(expected),
                    "{error:?} instead of {expected:?}"
                );
            }
            (seen, expected) => panic!("{:?}: {seen:?}, not {expected:?}", case.entries),
        }
    }
}

#[test]
fn locations_outside_the_folder_are_refused() {
    let cases = [
        ("", "is empty"),
        ("../w.bin", "goes up with `..`"),
        ("a/../../w.bin", "goes up with `..`"),
        ("/etc/hostname", "is absolute"),
        ("..\\w.bin", "has a backslash or zero byte"),
        ("w\0.bin", "has a backslash or zero byte"),
        ("C:w.bin", "names a drive"),
    ];
    for (location, expected) in cases {
        let folder = folder(&[("location", location)]);
        let error = load(folder.path()).unwrap_err();
        let expected = format!("value \"w\": external data location {location:?} {expected}");
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn a_folder_is_no_data_file() {
    let outer = folder(&[("location", "sub")]);
    fs::create_dir(outer.path().join("sub")).unwrap();
    let error = load(outer.path()).unwrap_err().to_string();
    assert!(error.ends_with("is not in a regular file"), "{error}");
}

#[test]
fn tensors_share_one_reading_of_a_file() {
    let folder = folder(&[]);
    let piece = |name, offset| tensor(name, &[("location", "w.bin"), ("offset", offset)]);
    let constant = NodeProto::new("Constant", &[], &["c"]).with_tensor("value", piece("c", "1"));
    let mut graph = GraphProto::new("g");
    graph.initializer = vec![piece("b", "8"), piece("a", "0"), piece("same", "0")];
    graph.node = vec![constant];
    let path = folder.path().join("m.onnx");
    fs::write(&path, ModelProto::new(graph, 17).encode_to_vec()).unwrap();
    let model = load(folder.path()).unwrap();
    assert_eq!(raw(&model, 0), (8..16).collect::<Vec<u8>>());
    assert_eq!(raw(&model, 1), (0..8).collect::<Vec<u8>>());
    let graph = model.proto.graph.as_ref().unwrap();
    let constant = graph.node[0].tensor("value").unwrap();
    assert_eq!(constant.raw_data().to_vec(), (1..9).collect::<Vec<u8>>());
    let (a, same) = (
        graph.initializer[1].raw_data(),
        graph.initializer[2].raw_data(),
    );
    assert_eq!(a.as_ptr(), same.as_ptr());
    // What was read is no longer said to be elsewhere.
    assert!(
        graph
            .initializer
            .iter()
            .all(|t| t.external_data.is_empty() && !is_external(t))
    );
}

#[test]
fn far_pieces_are_read_apart_and_within_the_limit() {
    let folder = folder(&[]);
    let far = 10 * SMALL_GAP;
    let file = File::create(folder.path().join("w.bin")).unwrap();
    file.set_len(far + 8).unwrap();
    let far = far.to_string();
    let piece = |offset| tensor("w", &[("location", "w.bin"), ("offset", offset)]);
    write_model(&folder.path().join("m.onnx"), vec![piece(&far), piece("0")]);
    assert!(load(folder.path()).is_ok());
    for (external_bytes, expected) in [(16, true), (15, false)] {
        let limits = Limits {
            external_bytes,
            ..Limits::default()
        };
        let model = Model::load(&folder.path().join("m.onnx"), &limits);
        assert_eq!(model.is_ok(), expected, "{external_bytes}: {model:?}");
    }
}

#[cfg(unix)]
mod links {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_out_of_the_folder_are_refused() {
        let outside = folder(&[]);
        for (from, to, location) in [
            // The file itself, and a folder above it.
            ("link.bin", outside.path().join("w.bin"), "link.bin"),
            ("sub", outside.path().to_owned(), "sub/w.bin"),
        ] {
            let folder = folder(&[("location", location)]);
            symlink(to, folder.path().join(from)).unwrap();
            let error = load(folder.path()).unwrap_err().to_string();
            assert!(error.ends_with("outside the model's folder"), "{error}");
        }
    }

    #[test]
    fn links_inside_the_folder_are_followed() {
        let folder = folder(&[("location", "link.bin")]);
        symlink("w.bin", folder.path().join("link.bin")).unwrap();
        assert!(load(folder.path()).is_ok());
    }

    /// `snapshots/<revision>/*` are links into `blobs/`.
    #[test]
    fn the_hugging_face_cache_can_be_read() {
        let cache = tempfile::tempdir().unwrap();
        let [blobs, snapshot] = ["blobs", "snapshots/abc"].map(|name| cache.path().join(name));
        fs::create_dir_all(&blobs).unwrap();
        fs::create_dir_all(&snapshot).unwrap();
        write_model(
            &blobs.join("1f"),
            vec![tensor("w", &[("location", "m.data")])],
        );
        fs::write(blobs.join("2e"), [0; 8]).unwrap();
        symlink("../../blobs/1f", snapshot.join("m.onnx")).unwrap();
        symlink("../../blobs/2e", snapshot.join("m.data")).unwrap();
        assert!(load(&snapshot).unwrap().has_external_data());
    }

    #[test]
    fn hard_links_are_refused_unless_allowed() {
        let folder = folder(&[("location", "second.bin")]);
        let path = folder.path();
        fs::hard_link(path.join("w.bin"), path.join("second.bin")).unwrap();
        let error = load(path).unwrap_err().to_string();
        assert!(error.contains("second hard link"), "{error}");
        let limits = Limits {
            hard_links: true,
            ..Limits::default()
        };
        assert!(Model::load(&path.join("m.onnx"), &limits).is_ok());
    }
}
