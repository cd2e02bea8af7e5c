//! `onnx-prune finetune`: the head trained, and nothing cut.

use onnx_prune::{
    Result,
    pipeline::{self, FinetuneOptions, ScoreWith, TransferOptions},
    report,
};

use super::{Outcome, args::Global, checks, options, train::FinetuneArgs};

pub(super) fn run(args: &FinetuneArgs, global: &Global) -> Result<Outcome> {
    checks::test(&args.test, &args.data)?;
    args.samples.refuse_auto("training")?;
    let mut source = options::source(&args.data, &args.samples, &args.engine)?;
    source.test = args.test.test.clone();
    let options = FinetuneOptions {
        input: args.input.clone(),
        output: args.output.clone(),
        overwrite: options::overwrite(args.force),
        training: args
            .train
            .to_training(source.seed, args.teacher.is_some())?,
        source,
        teacher: args.teacher.clone(),
        transfer: args.classes.map(|classes| TransferOptions {
            classes,
            score_with: ScoreWith::Target,
        }),
    };
    let found = args
        .timings
        .run(global, |watch| pipeline::finetune(&options, watch))?;
    found.print(global, report::finetuned)?;
    Ok(Outcome::of(found.report.passed))
}
