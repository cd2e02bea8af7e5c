//! Running the program, and the small models and data sets it is run on.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

use onnx_prune::{
    engine::testing,
    onnx::{DataType, Dim, GraphProto, ModelProto, NodeProto, Tensor, ValueInfoProto},
};
use prost::Message;
use serde_json::Value;
use tempfile::TempDir;

/// Which engines the program finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Engines {
    /// tract alone: nothing else is looked for in places that depend on the machine.
    Tract,
    /// tract, and the ONNX Runtime that all tests use.
    Both,
}

/// What a run left behind.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    /// stdout as the one JSON document it must be.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}: {:?}\n{}", self.stdout, self.stderr))
    }

    /// A clean error: exit code 2, a message that holds `part`, nothing on stdout, no panic.
    pub(crate) fn assert_error(&self, what: &str, part: &str) {
        assert_eq!(self.code, Some(2), "{what}: {self:?}");
        assert_eq!(self.stdout, "", "{what}");
        let errors = self
            .stderr
            .lines()
            .filter(|line| line.starts_with("error: "));
        assert_eq!(errors.count(), 1, "{what}: {}", self.stderr);
        assert!(
            self.stderr.contains(part),
            "{what}: no {part:?} in {}",
            self.stderr
        );
        for word in ["panicked", "RUST_BACKTRACE", "src/"] {
            assert!(!self.stderr.contains(word), "{what}: {}", self.stderr);
        }
    }

    /// Everything done.
    pub(crate) fn assert_done(&self, what: &str) {
        assert_eq!(self.code, Some(0), "{what}: {}", self.stderr);
    }
}

/// The program, with an environment that does not depend on the machine.
pub(crate) fn command(engines: Engines) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_onnx-prune"));
    clean(&mut command, engines);
    command
}

/// Takes away what would make the program find engines by itself.
pub(crate) fn clean(command: &mut Command, engines: Engines) {
    for name in [
        "ORT_DYLIB_PATH",
        "VIRTUAL_ENV",
        "CONDA_PREFIX",
        "RUST_BACKTRACE",
    ] {
        command.env_remove(name);
    }
    // Without a PATH there is no Python to ask for its packages.
    command.env("PATH", "/nonexistent");
    command.env("ONNX_PRUNE_HOME", "/nonexistent");
    command.env("ONNX_PRUNE_CACHE", feature_cache());
    match engines {
        Engines::Tract => command.env_remove("ONNX_PRUNE_ORT_LIB"),
        Engines::Both => command.env("ONNX_PRUNE_ORT_LIB", testing::ort_library()),
    };
    command.stdin(Stdio::null());
}

/// Where all tests keep their features: never the cache of whoever runs them. Emptied once.
fn feature_cache() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("feature-cache");
        // Not there the first time.
        let _ = fs::remove_dir_all(&folder);
        folder
    })
}

/// Runs the program to its end.
pub(crate) fn run<S: AsRef<str>>(engines: Engines, arguments: &[S]) -> Run {
    let mut command = command(engines);
    command.args(arguments.iter().map(AsRef::as_ref));
    finish(&mut command)
}

/// Runs a prepared command to its end.
pub(crate) fn finish(command: &mut Command) -> Run {
    let output = command.output().unwrap();
    Run {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A file of the repository.
pub(crate) fn repository(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    root.join(path).to_str().unwrap().to_owned()
}

/// A folder with a small classifier, `in.onnx`, one with a convolution, `maps.onnx`, and samples for
/// both: `data.npy`, with labels of four classes `images.idx`, with two unusable ones `holes.idx`, and with
/// no usable one `broken.idx`.
pub(crate) struct Bench {
    folder: TempDir,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let bench = Self {
            folder: TempDir::new().unwrap(),
        };
        fs::write(bench.path("in.onnx"), classifier().encode_to_vec()).unwrap();
        fs::write(bench.path("maps.onnx"), on_maps().encode_to_vec()).unwrap();
        let pixels: Vec<u8> = (0..SAMPLES * 16).map(|i| (i * 37 % 251) as u8).collect();
        fs::write(bench.path("data.npy"), npy(&[SAMPLES, 4, 4], &pixels)).unwrap();
        let labels: Vec<u8> = (0..SAMPLES).map(|i| (i % 4) as u8).collect();
        bench.put("images.idx", &idx(&[SAMPLES, 4, 4], &pixels));
        bench.put("labels.idx", &idx(&[SAMPLES], &labels));
        bench.put("holes.idx", &with_holes(|at| at == 50 || at == 272));
        bench.put("broken.idx", &with_holes(|at| at % 16 == 0));
        bench
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// Writes a file and gives its path.
    pub(crate) fn put(&self, name: &str, bytes: &[u8]) -> String {
        fs::write(self.path(name), bytes).unwrap();
        self.text(name)
    }

    /// `@name` becomes the path of that file in the folder.
    pub(crate) fn arguments(&self, line: &str) -> Vec<String> {
        let words = line.split_whitespace();
        words
            .map(|word| match word.strip_prefix('@') {
                Some(name) => self.text(name),
                None => word.to_owned(),
            })
            .collect()
    }

    /// Names of all files and folders, hidden ones too.
    pub(crate) fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

/// Samples in `data.npy`.
pub(crate) const SAMPLES: usize = 30;

/// `images [N, 1, 4, 4]`, flattened to 16 features, a hidden layer of 6, 3 classes.
pub(crate) fn classifier() -> ModelProto {
    let batch = || Dim::Symbol("batch".to_owned());
    let image = [batch(), Dim::Fixed(1), Dim::Fixed(4), Dim::Fixed(4)];
    let mut graph = GraphProto::new("classifier");
    graph.input = vec![ValueInfoProto::tensor("images", DataType::Float, &image)];
    let scores = [batch(), Dim::Fixed(3)];
    graph.output = vec![ValueInfoProto::tensor("logits", DataType::Float, &scores)];
    graph.node = vec![
        NodeProto::new("Flatten", &["images"], &["flat"]).with_name("flatten"),
        NodeProto::new("Gemm", &["flat", "w1", "b1"], &["h"]).with_name("fc1"),
        NodeProto::new("Relu", &["h"], &["r"]).with_name("relu"),
        NodeProto::new("Gemm", &["r", "w2", "b2"], &["logits"]).with_name("fc2"),
    ];
    graph.initializer = vec![
        weight("w1", &[16, 6]),
        weight("b1", &[6]),
        weight("w2", &[6, 3]),
        weight("b2", &[3]),
    ];
    ModelProto::new(graph, 17)
}

/// `images [N, 1, 4, 4]`, 4 channels of 16 positions, 64 features, 3 classes.
fn on_maps() -> ModelProto {
    let mut model = classifier();
    let graph = model.graph.as_mut().unwrap();
    graph.node = vec![
        NodeProto::new("Conv", &["images", "w0"], &["c"]).with_name("conv"),
        NodeProto::new("Relu", &["c"], &["r"]).with_name("relu"),
        NodeProto::new("Flatten", &["r"], &["flat"]).with_name("flatten"),
        NodeProto::new("Gemm", &["flat", "w1"], &["logits"]).with_name("fc"),
    ];
    graph.initializer = vec![weight("w0", &[4, 1, 1, 1]), weight("w1", &[64, 3])];
    model
}

/// Distinct numbers of both signs.
fn weight(name: &str, shape: &[usize]) -> onnx_prune::onnx::TensorProto {
    let len = shape.iter().product::<usize>();
    let values = (0..len).map(|i| ((i * 7919 % 97) as f32 - 40.0) / 50.0);
    Tensor::f32(shape, values.collect()).unwrap().to_proto(name)
}

/// An IDX file of bytes.
pub(crate) fn idx(shape: &[usize], values: &[u8]) -> Vec<u8> {
    let sizes = shape.iter().flat_map(|&size| (size as u32).to_be_bytes());
    let start = [0, 0, 8, shape.len() as u8];
    start
        .into_iter()
        .chain(sizes)
        .chain(values.iter().copied())
        .collect()
}

/// An IDX file of numbers, but for those at some places, which are none.
fn with_holes(is_hole: fn(usize) -> bool) -> Vec<u8> {
    let value = |at: usize| match is_hole(at) {
        true => f32::NAN,
        false => (at * 37 % 251) as f32 / 251.0,
    };
    let values: Vec<u8> = (0..SAMPLES * 16)
        .flat_map(|at| value(at).to_be_bytes())
        .collect();
    let mut file = idx(&[SAMPLES, 4, 4], &values);
    file[2] = 0x0d;
    file
}

/// A .npy file of bytes.
pub(crate) fn npy(shape: &[usize], values: &[u8]) -> Vec<u8> {
    let sizes: Vec<String> = shape.iter().map(|size| format!("{size},")).collect();
    let mut header = format!(
        "{{'descr': '|u1', 'fortran_order': False, 'shape': ({}), }}",
        sizes.join(" ")
    );
    // The magic, version and length take 10 bytes; all of it is a multiple of 64.
    while (header.len() + 11) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let length = u16::try_from(header.len()).unwrap().to_le_bytes();
    let parts: [&[u8]; 4] = [b"\x93NUMPY\x01\x00", &length, header.as_bytes(), values];
    parts.concat()
}
