//! Peak memory, seen by a process of its own: what a process once held stays in its maximum.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde::{Deserialize, Serialize};

use crate::{
    engine::{EngineChoice, EngineInfo},
    error::{Error, Result},
    pipeline::{
        peak,
        setup::{self, Setup, SourceOptions},
        watch::Silent,
    },
};

/// Schema of [`PeakMemoryReport`].
const SCHEMA: &str = "onnx-prune/peak-memory/v1";

/// Which model is run, and in what.
#[derive(Clone, Debug)]
pub struct PeakMemoryOptions {
    /// The model.
    pub input: PathBuf,
    /// Engine and batch; data is not looked at.
    pub source: SourceOptions,
}

/// The largest resident set of this process.
#[derive(Clone, Debug, Serialize)]
pub struct PeakMemoryReport {
    /// Name and version of this layout.
    pub schema: &'static str,
    /// The model.
    pub input: PathBuf,
    /// What ran it.
    pub engine: EngineInfo,
    /// Samples per run.
    pub batch: usize,
    /// Bytes; nothing where the system does not tell.
    pub peak_bytes: Option<u64>,
}

/// Loads a model, runs it once on synthetic samples, and says how much memory this process has ever
/// held: the file, the runtime's copies, activations, and the program itself.
///
/// # Errors
/// Every [`Error`].
pub fn peak_memory(options: &PeakMemoryOptions) -> Result<PeakMemoryReport> {
    let model = setup::load(&options.input)?;
    let setup = Setup::new(&model, &options.source, &Silent)?;
    let batch = setup.batch_size()?;
    let indices: Vec<usize> = (0..batch).map(|row| row % setup.dataset.len()).collect();
    let samples = setup.input.samples(setup.dataset.read(&indices)?)?;
    let mut session = setup.engine().load(&model.proto)?;
    session.run(&[(&setup.input.name, &samples.input)])?;
    Ok(PeakMemoryReport {
        schema: SCHEMA,
        input: options.input.clone(),
        engine: setup.engine().info().clone(),
        batch,
        peak_bytes: peak::so_far(),
    })
}

/// Starts `program` to run a model once; nothing where the system does not tell.
pub(super) fn of_process(
    program: &Path,
    model: &Path,
    runtime: EngineChoice,
    info: &EngineInfo,
    batch: usize,
) -> Result<Option<u64>> {
    #[derive(Deserialize)]
    struct Found {
        peak_bytes: Option<u64>,
    }
    let mut command = Command::new(program);
    command.args(["peak-memory", "--json"]);
    command.arg("--engine").arg(match &info.library {
        Some(_) => "ort",
        None => "tract",
    });
    command.arg("--provider").arg(&info.provider);
    command.arg("--threads").arg(info.threads.to_string());
    command.arg("--batch").arg(batch.to_string());
    if let Some(library) = &info.library {
        command.arg("--ort-lib").arg(library);
    }
    let failed = |what: String| Error::Engine {
        engine: info.name,
        what: format!(
            "{}: no peak memory: {what} (runtime {runtime:?})",
            model.display()
        ),
    };
    let output = command
        .arg("--")
        .arg(model)
        .stdin(Stdio::null())
        .output()
        .map_err(Error::io(program))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(failed(text.trim().to_owned()));
    }
    let found: Found =
        serde_json::from_slice(&output.stdout).map_err(|error| failed(error.to_string()))?;
    Ok(found.peak_bytes)
}
