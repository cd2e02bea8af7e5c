//! `onnx-prune bench`: how long models take; and the process that sees the memory of one.

use onnx_prune::{
    Result,
    engine::EngineOptions,
    eval::Effort,
    pipeline::{self, BatchSize, BenchOptions, PeakMemoryOptions, SourceOptions},
    report,
};

use super::{
    Outcome,
    args::{BenchArgs, Global, PeakMemoryArgs, SampleFlags},
    options, output,
    progress::Terminal,
};

pub(super) fn run(args: &BenchArgs, global: &Global) -> Result<Outcome> {
    let options = options_of(args)?;
    let markdown = args.markdown.as_deref();
    let markdown = markdown
        .map(|path| output::File::create("--markdown", path, &args.models, args.force))
        .transpose()?;
    let terminal = Terminal::new(global);
    let found = pipeline::bench(&options, &terminal)?;
    drop(terminal);
    if let Some(markdown) = markdown {
        markdown.write(&report::benched_markdown(&found))?;
    }
    output::print(global, &found, || report::benched(&found))?;
    Ok(Outcome::Done)
}

fn options_of(args: &BenchArgs) -> Result<BenchOptions> {
    let (engine, default) = (&args.engine, BenchOptions::new(args.models.clone()));
    let source = options::source(&args.data, &SampleFlags::default(), &Default::default())?;
    let effort = args.rounds.map(Effort::Rounds);
    Ok(BenchOptions {
        head: args.head,
        runtimes: match engine.runtime.as_slice() {
            [] => default.runtimes,
            given => given.to_vec(),
        },
        threads: engine.threads.clone(),
        batches: args.batch.clone(),
        effort: effort
            .or(args.seconds.map(Effort::Time))
            .unwrap_or(default.effort),
        source: SourceOptions {
            engine: EngineOptions {
                provider: engine.provider.unwrap_or_default(),
                precision: engine.precision,
                ort_library: engine.ort_lib.clone(),
                ..EngineOptions::default()
            },
            ..source
        },
        // Without its own path there is no memory column, and nothing else is lost.
        program: std::env::current_exe().ok(),
        ..default
    })
}

/// Nothing is printed before the run is over: the terminal's own memory would be measured.
pub(super) fn peak_memory(args: &PeakMemoryArgs, global: &Global) -> Result<Outcome> {
    global.refuse_progress("with peak-memory")?;
    let options = PeakMemoryOptions {
        input: args.input.clone(),
        source: SourceOptions {
            engine: args.engine.to_options(),
            batch: args.batch.map_or(BatchSize::Usual, BatchSize::Of),
            ..SourceOptions::default()
        },
    };
    let found = pipeline::peak_memory(&options)?;
    output::print(global, &found, || match found.peak_bytes {
        Some(bytes) => format!("{bytes} bytes"),
        None => "not known on this system".to_owned(),
    })?;
    Ok(Outcome::Done)
}
