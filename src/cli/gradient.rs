//! `onnx-prune gradient`: the graph of the derivatives, for other programs to run.

use onnx_prune::{
    Result,
    pipeline::{self, GradientOptions},
    report,
};

use super::{
    Outcome,
    args::{DataFlags, Global, GradientArgs, SampleFlags},
    options, output,
    progress::Terminal,
};

pub(super) fn run(args: &GradientArgs, global: &Global) -> Result<Outcome> {
    let options = GradientOptions {
        input: args.input.clone(),
        output: args.output.clone(),
        overwrite: options::overwrite(args.force),
        // Shapes do not depend on the samples, so there are no flags about them.
        source: options::source(&DataFlags::default(), &SampleFlags::default(), &args.engine)?,
        of: args.of.unwrap_or_default(),
    };
    let terminal = Terminal::new(global);
    let found = pipeline::gradient(&options, &terminal)?;
    drop(terminal);
    output::print(global, &found, || report::differentiated(&found))?;
    Ok(Outcome::Done)
}
