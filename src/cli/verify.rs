//! `onnx-prune verify`: a proof without a change.

use onnx_prune::{
    Result,
    pipeline::{self, VerifyOptions},
    report,
};

use super::{
    Outcome,
    args::{Global, SampleFlags, VerifyArgs},
    options, output,
    progress::Terminal,
};

pub(super) fn run(args: &VerifyArgs, global: &Global) -> Result<Outcome> {
    let options = VerifyOptions {
        a: args.a.clone(),
        b: args.b.clone(),
        // The proof takes as many samples as it needs.
        source: options::source(&args.data, &SampleFlags::default(), &args.engine)?,
        require_both: args.require_both,
    };
    let terminal = Terminal::new(global);
    let found = pipeline::verify(&options, &terminal)?;
    drop(terminal);
    output::print(global, &found, || report::verified(&found))?;
    Ok(Outcome::of(found.passed))
}
