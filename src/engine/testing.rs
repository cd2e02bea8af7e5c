//! Both engines, for tests: `testing::engines()` gives tract and ONNX Runtime, in this order.
//!
//! This is compiled into the library, hidden from its documentation, because the integration tests
//! in `tests/` and the unit tests need the same thing, and only a library can give it to both.
//! ONNX Runtime is fetched once into the build's own folder (`target/onnxruntime`); where that
//! fails, the test fails: what is not tested in both engines is not tested.

use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use super::runtime::install_into;
use super::select::ProviderChoice;
use super::{Engine, Precision, ort, tract};
use crate::onnx::{DataType, Dim, GraphProto, ModelProto, NodeProto, Tensor, ValueInfoProto};

/// Threads of the engines in tests, fixed so that sums are added up in the same order everywhere.
const THREADS: usize = 2;

/// tract and ONNX Runtime on the CPU.
///
/// # Panics
/// When ONNX Runtime can be neither found nor fetched.
#[expect(clippy::panic, reason = "this is the test's failure report")]
pub fn engines() -> Vec<Arc<dyn Engine>> {
    static ENGINES: OnceLock<Vec<Arc<dyn Engine>>> = OnceLock::new();
    let open = || {
        let library = ort_library();
        match ort(
            &library,
            ProviderChoice::Cpu,
            Precision::Fp32,
            Some(THREADS),
        ) {
            Ok(ort) => vec![tract(Some(THREADS)), ort],
            Err(error) => panic!("the tests need ONNX Runtime: {error}"),
        }
    };
    ENGINES.get_or_init(open).clone()
}

/// `sum' = sum + x`, and `twice = 2 sum'` for the caller: model, feedback and first state.
///
/// # Panics
/// Never: the shapes fit.
#[doc(hidden)]
#[expect(clippy::unwrap_used, reason = "for tests")]
pub fn counter() -> Counter {
    let port = |name| ValueInfoProto::tensor(name, DataType::Float, &[Dim::Fixed(2)]);
    let mut graph = GraphProto::new("counter");
    graph.input = ["sum", "x", "factor"].map(port).into();
    graph.output = ["next", "twice"].map(port).into();
    graph.node = vec![
        NodeProto::new("Add", &["sum", "x"], &["next"]),
        NodeProto::new("Mul", &["next", "factor"], &["twice"]),
    ];
    let held = |name: &str, value| {
        let tensor = Tensor::f32([2], vec![value; 2]).unwrap();
        (name.to_owned(), tensor)
    };
    (
        ModelProto::new(graph, 17),
        vec![("next".to_owned(), "sum".to_owned())],
        vec![held("sum", 0.0), held("factor", 2.0)],
    )
}

/// What [`counter`] gives.
pub type Counter = (ModelProto, Vec<(String, String)>, Vec<(String, Tensor)>);

/// The library that tests use: that of `ONNX_PRUNE_ORT_LIB`, else the pinned one, fetched if needed.
///
/// Tests that start the program give it this path in `ONNX_PRUNE_ORT_LIB`.
///
/// # Panics
/// When it can be neither found nor fetched.
#[expect(clippy::panic, reason = "this is the test's failure report")]
pub fn ort_library() -> PathBuf {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    let find = || match std::env::var_os("ONNX_PRUNE_ORT_LIB") {
        Some(named) if !named.is_empty() => PathBuf::from(named),
        _ => fetch().unwrap_or_else(|reason| panic!("the tests need ONNX Runtime: {reason}")),
    };
    LIBRARY.get_or_init(find).clone()
}

/// Test programs run side by side; the first to take the lock fetches, the others wait.
fn fetch() -> Result<PathBuf, String> {
    let folder = target_folder()?.join("onnxruntime");
    let lock = folder.join("lock");
    let locked = fs::create_dir_all(&folder)
        .and_then(|()| File::create(&lock))
        .and_then(|file| file.lock().map(|()| file));
    let file = locked.map_err(|error| format!("{}: {error}", lock.display()))?;
    let installed = install_into(&folder).map_err(|error| error.to_string())?;
    drop(file);
    Ok(installed.library)
}

/// Test programs are `target/<profile>/deps/<name>`.
fn target_folder() -> Result<PathBuf, String> {
    let executable = std::env::current_exe().map_err(|error| error.to_string())?;
    let folder = executable.ancestors().nth(3).map(PathBuf::from);
    folder.ok_or_else(|| format!("{} is no test program", executable.display()))
}
