//! `onnx-prune inspect`: what can be cut, and whether that is worth it.

use onnx_prune::{
    Result,
    pipeline::{self, BatchSize, DiffOptions, InspectOptions, SourceOptions},
    report,
};

use super::{
    Outcome,
    args::{Global, InspectArgs},
    output,
    progress::Terminal,
};

pub(super) fn run(args: &InspectArgs, global: &Global) -> Result<Outcome> {
    args.check()?;
    match &args.other {
        Some(other) => {
            global.refuse_progress("with --diff")?;
            let found = pipeline::diff(&DiffOptions {
                a: args.input.clone(),
                b: other.clone(),
            })?;
            output::print(global, &found, || report::compared(&found))?;
        }
        None => {
            let terminal = Terminal::new(global);
            let found = pipeline::inspect(&options_of(args), &terminal)?;
            drop(terminal);
            output::print(global, &found, || report::inspected(&found))?;
        }
    }
    Ok(Outcome::Done)
}

fn options_of(args: &InspectArgs) -> InspectOptions {
    let default = InspectOptions::new(&args.input);
    InspectOptions {
        keep: args.keep.clone().unwrap_or(default.keep),
        timing: !args.no_time,
        source: SourceOptions {
            engine: args.engine.to_options(),
            batch: args.batch.map_or(BatchSize::Usual, BatchSize::Of),
            ..default.source
        },
        input: default.input,
    }
}
