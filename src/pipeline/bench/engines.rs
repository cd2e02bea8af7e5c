//! Which engines measure, and which one prepares.

use crate::{
    engine::{self, EngineChoice, EngineOptions, Selected},
    error::{Error, Result},
    features::CacheChoice,
    pipeline::{
        bench::BenchOptions,
        setup::{BatchSize, SourceOptions},
        watch::Watch,
    },
};

/// Every runtime with every number of threads.
pub(super) fn open(
    options: &BenchOptions,
    watch: &dyn Watch,
) -> Result<Vec<(Selected, EngineChoice)>> {
    no_repeats("--runtime", &options.runtimes)?;
    no_repeats("--threads", &options.threads)?;
    no_repeats("--batch", &options.batches)?;
    let threads: Vec<Option<usize>> = match options.threads.as_slice() {
        [] => vec![None],
        given => given.iter().copied().map(Some).collect(),
    };
    let mut engines = Vec::new();
    for &runtime in &options.runtimes {
        for &threads in &threads {
            let selected = engine::open(&engine_options(options, runtime, threads))?;
            if let (Some(note), true) =
                (&selected.note, threads == options.threads.first().copied())
            {
                watch.note(note);
            }
            engines.push((selected, runtime));
        }
    }
    Ok(engines)
}

fn engine_options(
    options: &BenchOptions,
    runtime: EngineChoice,
    threads: Option<usize>,
) -> EngineOptions {
    let given = options.source.engine.clone();
    let alone = options.runtimes.len() == 1;
    EngineOptions {
        engine: runtime,
        threads,
        // A library is for the other runtime of the list, if there is one.
        ort_library: given
            .ort_library
            .filter(|_| alone || runtime != EngineChoice::Tract),
        provider: given.provider,
        precision: given.precision,
    }
}

fn no_repeats<T: PartialEq>(name: &'static str, values: &[T]) -> Result<()> {
    let repeated = |(index, value)| values[..index].contains(value);
    match values.iter().enumerate().any(repeated) {
        true => Err(Error::Argument {
            name,
            what: "has the same value twice".to_owned(),
        }),
        false => Ok(()),
    }
}

/// For the first model, which reads the data, and for the others, which get the same samples.
///
/// Heads are found, and features computed, by ONNX Runtime where it is among the runtimes.
pub(super) fn sources(options: &BenchOptions) -> [SourceOptions; 2] {
    let runtimes = options.runtimes.iter().copied();
    let runtime = runtimes.max_by_key(|&runtime| runtime != EngineChoice::Tract);
    let runtime = runtime.unwrap_or_default();
    let first = SourceOptions {
        engine: engine_options(options, runtime, options.threads.first().copied()),
        batch: BatchSize::Usual,
        cache: CacheChoice::Off,
        ..options.source.clone()
    };
    let others = SourceOptions {
        data: None,
        overrides: Default::default(),
        ..first.clone()
    };
    [first, others]
}
