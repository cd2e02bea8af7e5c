//! `onnx-prune score`: the neurons' scores, and nothing cut.

use onnx_prune::{
    Result,
    pipeline::{self, ScoreRunOptions},
    report,
};

use super::{
    Outcome,
    args::{Global, ScoreArgs},
    options, output,
    progress::Terminal,
};

pub(super) fn run(args: &ScoreArgs, global: &Global) -> Result<Outcome> {
    args.check()?;
    let options = ScoreRunOptions {
        input: args.input.clone(),
        source: options::source(&args.data, &args.samples, &args.engine)?,
        score: args.score.to_options(&args.samples, false)?,
        of: args.score.of,
    };
    let file = args.output.as_deref();
    let file = file.map(|path| {
        output::File::create(
            "--output",
            path,
            std::slice::from_ref(&args.input),
            args.force,
        )
    });
    let file = file.transpose()?;
    let terminal = Terminal::new(global);
    let found = pipeline::score(&options, &terminal)?;
    drop(terminal);
    if let Some(file) = file {
        file.write(&report::json(&found))?;
    }
    output::print(global, &found, || report::scored(&found))?;
    Ok(Outcome::Done)
}
