//! How long models take on this machine, against each other: whole, and their heads alone.

mod engines;
mod heads;
mod measure;
mod memory;

use std::{path::PathBuf, time::Duration};

use serde::Serialize;

use self::measure::Bench;
pub use self::memory::{PeakMemoryOptions, PeakMemoryReport, peak_memory};
use super::{
    parts::{DataReport, FileReport},
    setup::{self, Setup, SourceOptions},
    watch::{Quiet, Watch},
};
use crate::{
    engine::{EngineChoice, EngineInfo},
    error::{Error, Result},
    eval::{self, Effort, Latency, Scope},
    onnx::Model,
};

/// Schema of [`BenchReport`].
const SCHEMA: &str = "onnx-prune/bench/v1";

/// Time for each runtime, number of threads and batch: vgg16 against a pruned vgg16 gets through
/// six rounds on two cores.
const BUDGET: Duration = Duration::from_secs(10);

/// What a measurement can be told.
#[derive(Clone, Debug)]
pub struct BenchOptions {
    /// The models; the first is what the others are compared with.
    pub models: Vec<PathBuf>,
    /// Whether the heads are measured alone, too.
    pub head: bool,
    /// Runtimes to measure in, one after the other.
    pub runtimes: Vec<EngineChoice>,
    /// Numbers of threads; one per core where there are none.
    pub threads: Vec<usize>,
    /// Samples per run; the first model's fixed number, else 1, where there are none.
    pub batches: Vec<usize>,
    /// How much is measured, for each runtime, number of threads and batch.
    pub effort: Effort,
    /// Data, seed, provider and library; its runtime, threads and batch are not looked at.
    pub source: SourceOptions,
    /// The program `onnx-prune`, started once per model to see its peak memory; that is not
    /// measured without it.
    pub program: Option<PathBuf>,
}

impl BenchOptions {
    /// Measures whole models for ten seconds, in the best runtime there is.
    pub fn new(models: Vec<PathBuf>) -> Self {
        Self {
            models,
            head: false,
            runtimes: vec![EngineChoice::Auto],
            threads: Vec::new(),
            batches: Vec::new(),
            effort: Effort::Time(BUDGET),
            source: SourceOptions::default(),
            program: None,
        }
    }
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct BenchReport {
    /// Name and version of this layout.
    pub schema: &'static str,
    /// The models.
    pub models: Vec<FileReport>,
    /// The samples they were run on.
    pub data: DataReport,
    /// Seed of the samples and of the order of the runs.
    pub seed: u64,
    /// One entry for each runtime, number of threads, batch, and scope.
    pub measurements: Vec<Measurement>,
    /// What the reader should know.
    pub notes: Vec<String>,
}

/// Models measured in the same rounds.
#[derive(Clone, Debug, Serialize)]
pub struct Measurement {
    /// Whole models, or their heads alone.
    pub scope: Scope,
    /// What computed.
    pub engine: EngineInfo,
    /// Samples per run.
    pub batch: usize,
    /// Rounds that were run.
    pub rounds: usize,
    /// Sessions of each model that they were run in.
    pub sessions: usize,
    /// One entry per model, in their order.
    pub models: Vec<Measured>,
}

/// One model of a measurement.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// The model's file.
    pub path: PathBuf,
    /// Seconds until the runtime had the model ready, once; the file was read before.
    pub load_seconds: f64,
    /// Seconds of the very first run, in which tract compiles.
    pub first_run_seconds: f64,
    /// Largest resident set of a process that loads the whole model and runs it once.
    pub peak_bytes: Option<u64>,
    /// What the runtime says of how it runs the model.
    pub note: Option<String>,
    /// Its times.
    #[serde(flatten)]
    pub latency: Latency,
}

/// Measures models against each other.
///
/// # Errors
/// [`Error::Argument`] when the models take different inputs, a batch is not the one a model
/// insists on, or something is given twice; [`Error::Engine`] when a runtime cannot be had or
/// cannot run a model; [`Error::NoHead`] where a head is wanted and there is none.
pub fn bench(options: &BenchOptions, watch: &dyn Watch) -> Result<BenchReport> {
    if options.models.is_empty() || options.runtimes.is_empty() {
        return Err(Error::Argument {
            name: "MODEL",
            what: "there is nothing to measure".to_owned(),
        });
    }
    let engines = engines::open(options, watch)?;
    let models = options.models.iter().map(|path| setup::load(path));
    let models: Vec<Model> = models.collect::<Result<_>>()?;
    let sources = engines::sources(options);
    let mut setups = Vec::new();
    for (index, model) in models.iter().enumerate() {
        let source = &sources[usize::from(index > 0)];
        setups.push(Setup::new(model, source, &Quiet(watch))?);
    }
    check_inputs(&setups, &options.models)?;
    let batches = batches(&setups, options)?;
    let heads = match options.head {
        true => Some(heads::find(&mut setups, watch)?),
        false => None,
    };
    let mut measurements = Vec::new();
    for (selected, runtime) in &engines {
        for &batch in &batches {
            let bench = Bench {
                options,
                setups: &setups,
                selected,
                runtime: *runtime,
                batch,
                watch,
            };
            measurements.push(bench.whole(&models)?);
            if let Some(heads) = &heads {
                measurements.push(bench.heads(heads)?);
            }
        }
    }
    let first = &setups[0];
    Ok(BenchReport {
        schema: SCHEMA,
        models: models.iter().map(FileReport::from).collect(),
        data: DataReport::new(first, &first.dataset)?,
        seed: options.source.seed,
        notes: notes(&measurements, options),
        measurements,
    })
}

/// Models that are compared are fed the same samples.
fn check_inputs(setups: &[Setup<'_>], paths: &[PathBuf]) -> Result<()> {
    let first = &setups[0].input;
    for (setup, path) in setups.iter().zip(paths).skip(1) {
        let input = &setup.input;
        let fits =
            first.dtype == input.dtype
                && first.dims.len() == input.dims.len()
                && first.dims.iter().zip(&input.dims).skip(1).all(|(a, b)| {
                    a.fixed().is_none() || b.fixed().is_none() || a.fixed() == b.fixed()
                });
        if !fits {
            let show = |input: &crate::features::ModelInput| {
                let dims: Vec<String> = input.dims.iter().map(ToString::to_string).collect();
                format!("{} [{}]", input.dtype, dims.join(", "))
            };
            return Err(Error::Argument {
                name: "MODEL",
                what: format!(
                    "{} takes {}, but {} takes {}: only models of the same input can be compared",
                    path.display(),
                    show(input),
                    paths[0].display(),
                    show(first),
                ),
            });
        }
    }
    Ok(())
}

/// The batches that were asked for, after checking that all models take them.
fn batches(setups: &[Setup<'_>], options: &BenchOptions) -> Result<Vec<usize>> {
    let own = setups[0].input.fixed_batch().unwrap_or(1);
    let batches = match options.batches.as_slice() {
        [] => vec![own],
        given => given.to_vec(),
    };
    for (setup, path) in setups.iter().zip(&options.models) {
        let Some(fixed) = setup.input.fixed_batch() else {
            continue;
        };
        if let Some(other) = batches.iter().find(|&&batch| batch != fixed) {
            return Err(Error::Argument {
                name: "--batch",
                what: format!(
                    "{} takes batches of {fixed} only, not {other}",
                    path.display()
                ),
            });
        }
    }
    Ok(batches)
}

fn notes(measurements: &[Measurement], options: &BenchOptions) -> Vec<String> {
    let mut notes = Vec::new();
    let whole = || {
        measurements
            .iter()
            .filter(|found| found.scope == Scope::Whole)
    };
    let models = || whole().flat_map(|found| &found.models);
    if options.program.is_some() && models().any(|model| model.peak_bytes.is_none()) {
        notes.push("peak memory is only known on Linux".to_owned());
    }
    if measurements.iter().any(|found| found.rounds < eval::FEWEST) && options.models.len() > 1 {
        notes.push(format!(
            "no interval of the ratio: that takes {} rounds or more",
            eval::FEWEST
        ));
    }
    let compares = options.models.len() > 1;
    if compares && measurements.iter().any(|found| found.sessions == 1) {
        notes.push(
            "one session of each model, since loading takes long: where it lies may show in the ratio; more --seconds allow for several"
                .to_owned(),
        );
    }
    for model in models() {
        if let Some(note) = &model.note {
            let note = format!("{}: {note}", model.path.display());
            if !notes.contains(&note) {
                notes.push(note);
            }
        }
    }
    notes
}
