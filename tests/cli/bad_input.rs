//! What is wrong with models, data, flags and targets: a clear error, exit code 2, and no file.

use std::{fs, process::Command};

use onnx_prune::onnx::{ModelProto, NodeProto, TensorProto};
use prost::Message;

use crate::support::{Bench, Engines, Run, classifier, clean, finish, npy, run};

/// A broken model, and words of the message it must lead to.
struct BrokenModel {
    what: &'static str,
    make: fn(&Bench) -> Vec<u8>,
    part: &'static str,
}

const MODELS: [BrokenModel; 18] = [
    BrokenModel {
        what: "truncated",
        make: |_| cut(classifier().encode_to_vec(), 2),
        part: "bad.onnx: ",
    },
    BrokenModel {
        what: "truncated at the last byte",
        make: |_| {
            let mut bytes = classifier().encode_to_vec();
            bytes.pop();
            bytes
        },
        part: "bad.onnx: ",
    },
    BrokenModel {
        what: "empty",
        make: |_| Vec::new(),
        part: "the file is empty",
    },
    BrokenModel {
        what: "text",
        make: |_| b"import torch\nprint('hello')\n".to_vec(),
        part: "not an ONNX file",
    },
    BrokenModel {
        what: "another kind of file",
        make: |_| b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR".to_vec(),
        part: "not an ONNX file",
    },
    BrokenModel {
        what: "unknown opset",
        make: |_| edited(|model| model.opset_import[0].version = Some(9999)),
        part: "9999",
    },
    BrokenModel {
        what: "no opset",
        make: |_| edited(|model| model.opset_import.clear()),
        part: "opset",
    },
    BrokenModel {
        what: "no graph",
        make: |_| edited(|model| model.graph = None),
        part: "graph",
    },
    BrokenModel {
        what: "cyclic",
        make: |_| edited(|model| nodes(model)[0].input[0] = "r".to_owned()),
        part: "cycl",
    },
    BrokenModel {
        what: "weights shorter than their shape",
        make: |_| edited(|model| weight(model).raw_data = Some(vec![0; 8].into())),
        part: "w1",
    },
    BrokenModel {
        what: "negative dims",
        make: |_| edited(|model| weight(model).dims = vec![-16, -6]),
        part: "w1",
    },
    BrokenModel {
        what: "overflowing dims",
        make: |_| edited(|model| weight(model).dims = vec![i64::MAX, i64::MAX]),
        part: "w1",
    },
    BrokenModel {
        what: "NaN weights",
        make: |_| {
            edited(|model| weight(model).raw_data = Some(f32::NAN.to_le_bytes().repeat(96).into()))
        },
        part: "NaN",
    },
    BrokenModel {
        what: "external data above the model's folder",
        make: |bench| {
            bench.put("outside.data", &[0; 384]);
            external("../outside.data", 384)
        },
        part: "..",
    },
    BrokenModel {
        what: "external data at an absolute path",
        make: |bench| {
            let path = bench.put("absolute.data", &[0; 384]);
            external(&path, 384)
        },
        part: "absolute",
    },
    BrokenModel {
        what: "external data that is not there",
        make: |_| external("missing.data", 384),
        part: "missing.data",
    },
    BrokenModel {
        what: "external data that is too short",
        make: |bench| {
            bench.put("short.data", &[0; 100]);
            external("short.data", 384)
        },
        part: "short.data",
    },
    BrokenModel {
        what: "no classifier",
        make: |_| {
            edited(|model| *nodes(model) = vec![NodeProto::new("Relu", &["images"], &["logits"])])
        },
        part: "no classification head",
    },
];

#[test]
fn broken_models_are_refused() {
    for case in MODELS {
        for form in [
            "@bad.onnx @out.onnx",
            "score @bad.onnx --output @out.onnx",
            "gradient @bad.onnx @out.onnx",
        ] {
            // These look at weights and gradients of their own accord, not at numbers.
            if case.what == "NaN weights" && form.starts_with("gradient") {
                continue;
            }
            let bench = Bench::new();
            let bytes = (case.make)(&bench);
            bench.put("bad.onnx", &bytes);
            let what = format!("{}: onnx-prune {form}", case.what);
            refused(&bench, &what, form, case.part);
        }
    }
}

#[test]
fn bad_data_is_refused() {
    type Make = fn(&Bench);
    let cases: [(&str, Make, &str); 8] = [
        ("not there", |_| {}, "data: "),
        (
            "an empty folder",
            |bench| fs::create_dir(bench.path("data")).unwrap(),
            "data: ",
        ),
        (
            "an image that is none",
            |bench| {
                fs::create_dir(bench.path("data")).unwrap();
                bench.put("data/broken.png", b"\x89PNG\r\n\x1a\nbroken");
            },
            "broken.png",
        ),
        (
            "an image cut short",
            |bench| {
                fs::create_dir(bench.path("data")).unwrap();
                let file = bench.path("data/short.png");
                image::GrayImage::new(64, 64).save(&file).unwrap();
                let bytes = fs::read(&file).unwrap();
                fs::write(&file, cut(bytes, 2)).unwrap();
            },
            "short.png",
        ),
        (
            "another shape",
            |bench| drop(bench.put("data", &npy(&[5, 3], &[0; 15]))),
            "shape",
        ),
        (
            "another number of channels",
            |bench| drop(bench.put("data", &npy(&[5, 4, 4, 7], &[0; 560]))),
            "shape",
        ),
        (
            "shorter than its header says",
            |bench| drop(bench.put("data", &npy(&[5, 4, 4], &[0; 30]))),
            "data: ",
        ),
        (
            "larger than any memory",
            |bench| drop(bench.put("data", &npy(&[1 << 40, 4, 4], &[0; 30]))),
            "data: ",
        ),
    ];
    for (what, make, part) in cases {
        let bench = Bench::new();
        make(&bench);
        refused(&bench, what, "@in.onnx @out.onnx --data @data", part);
    }
}

#[test]
fn bad_values_are_refused() {
    let cases = [
        ("--keep 0", "not above 0"),
        ("--keep 1.5", "no whole number"),
        ("--keep -0.3", "not above 0"),
        ("--keep nan", "--keep"),
        ("--norm 0.5", "neither a number from 1 on nor inf"),
        ("--norm -2", "neither a number from 1 on nor inf"),
        ("--norm nan", "neither a number from 1 on nor inf"),
        ("--over-classes 0.5", "neither a number from 1 on nor inf"),
        ("--seed -1", "invalid value '-1'"),
        ("--samples -1", "invalid value '-1'"),
        ("--threads -1", "invalid value '-1'"),
        (
            "--data @data.npy --std -0.5",
            "-0.5 is not a positive number",
        ),
        (
            "--data @data.npy --rescale -1",
            "-1 is not a positive number",
        ),
        ("--data @data.npy --mean 0.5,x", "invalid value 'x'"),
        ("--data @data.npy --resize 0", "--resize"),
        ("--data @data.npy --crop 0x4", "--crop"),
    ];
    for (flags, part) in cases {
        let bench = Bench::new();
        refused(&bench, flags, &format!("@in.onnx @out.onnx {flags}"), part);
    }
}

/// Cases that stop root as well, who may write where no one else may.
#[test]
fn targets_that_cannot_be_written_are_refused() {
    let cases = [
        (
            "a folder that is not there",
            "@in.onnx @nowhere/out.onnx",
            "nowhere",
        ),
        (
            "a file in place of the folder",
            "@in.onnx @data.npy/out.onnx",
            "data.npy",
        ),
        (
            "a folder in place of the file",
            "@in.onnx @folder --force",
            "no regular file",
        ),
        (
            "a file system that takes no files",
            "@in.onnx /proc/out.onnx",
            "/proc",
        ),
        ("the input", "@in.onnx @in.onnx --force", "is the input"),
        (
            "the input by another way",
            "@in.onnx @folder/../in.onnx --force",
            "is the input",
        ),
        ("no file name", "@in.onnx @folder/", "is not a file name"),
        (
            "scores: not there",
            "score @in.onnx --output @nowhere/s.json",
            "nowhere",
        ),
        (
            "scores: the input",
            "score @in.onnx --output @in.onnx --force",
            "is the input",
        ),
        (
            "gradient: not there",
            "gradient @in.onnx @nowhere/out.onnx",
            "nowhere",
        ),
    ];
    for (what, line, part) in cases {
        let bench = Bench::new();
        fs::create_dir(bench.path("folder")).unwrap();
        let model = fs::read(bench.path("in.onnx")).unwrap();
        refused(&bench, what, line, part);
        assert_eq!(fs::read(bench.path("in.onnx")).unwrap(), model, "{what}");
    }
}

/// A limit on the size of files, with its signal ignored, fails like a full disk: in `write`.
#[test]
fn a_disk_that_fills_up_leaves_nothing() {
    for line in [
        "@in.onnx @out.onnx",
        "score @in.onnx --output @out.onnx",
        "gradient @in.onnx @out.onnx",
    ] {
        let bench = Bench::new();
        let before = bench.names();
        let mut shell = Command::new("/bin/sh");
        clean(&mut shell, Engines::Tract);
        shell.args(["-c", "trap '' XFSZ; ulimit -f 0; exec \"$0\" \"$@\""]);
        shell.arg(env!("CARGO_BIN_EXE_onnx-prune"));
        shell.args(bench.arguments(line));
        let found = finish(&mut shell);
        found.assert_error(line, "out.onnx: File too large");
        assert_eq!(bench.names(), before, "{line}");
    }
}

/// Runs, and looks whether anything is left.
fn refused(bench: &Bench, what: &str, line: &str, part: &str) -> Run {
    let before = bench.names();
    let found = run(Engines::Tract, &bench.arguments(line));
    found.assert_error(what, part);
    assert_eq!(bench.names(), before, "{what}");
    found
}

fn cut(mut bytes: Vec<u8>, part: usize) -> Vec<u8> {
    bytes.truncate(bytes.len() / part);
    bytes
}

fn edited(edit: fn(&mut ModelProto)) -> Vec<u8> {
    let mut model = classifier();
    edit(&mut model);
    model.encode_to_vec()
}

fn nodes(model: &mut ModelProto) -> &mut Vec<NodeProto> {
    &mut model.graph.as_mut().unwrap().node
}

/// The first layer's weights, `w1`, 384 bytes.
fn weight(model: &mut ModelProto) -> &mut TensorProto {
    &mut model.graph.as_mut().unwrap().initializer[0]
}

/// The classifier with its first weights in another file.
fn external(location: &str, length: usize) -> Vec<u8> {
    use onnx_prune::onnx::proto::{StringStringEntryProto, tensor_proto::DataLocation};
    let entry = |key: &str, value: String| StringStringEntryProto {
        key: Some(key.to_owned()),
        value: Some(value),
    };
    let mut model = classifier();
    let tensor = weight(&mut model);
    tensor.raw_data = None;
    tensor.set_data_location(DataLocation::External);
    tensor.external_data = vec![
        entry("location", location.to_owned()),
        entry("offset", "0".to_owned()),
        entry("length", length.to_string()),
    ];
    model.encode_to_vec()
}
