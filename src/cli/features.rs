//! `onnx-prune features`: what the trunk computes of a part of the samples.

use onnx_prune::{
    Result,
    pipeline::{self, FeaturesPartOptions, SourceOptions},
    report,
    shards::Shard,
};

use super::{
    Outcome,
    args::{FeaturesArgs, Global},
    checks, output,
    progress::Terminal,
};

pub(super) fn run(args: &FeaturesArgs, global: &Global) -> Result<Outcome> {
    args.data.check()?;
    if args.data.seed.is_some() {
        return Err(checks::no_effect(
            "--seed",
            "on features, which are those of all samples",
        ));
    }
    let default = SourceOptions::default();
    let options = FeaturesPartOptions {
        input: args.input.clone(),
        source: SourceOptions {
            data: args.data.data.clone(),
            overrides: args.data.preprocess.to_overrides(),
            on_bad_sample: args.data.on_bad_sample.unwrap_or(default.on_bad_sample),
            engine: args.engine.to_options(),
            batch: args.batch.unwrap_or_default(),
            ..default
        },
        shard: args.shard.unwrap_or(Shard::WHOLE),
        folder: args.output.clone(),
        replace: args.force,
    };
    let terminal = Terminal::new(global);
    let found = pipeline::features_part(&options, &terminal)?;
    drop(terminal);
    output::print(global, &found, || report::parted(&found))?;
    Ok(Outcome::Done)
}
