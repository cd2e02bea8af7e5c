//! `onnx-prune merge`: what many machines found becomes what one would have found.

use onnx_prune::{
    Result,
    pipeline::{self, MergeOptions, PartKind},
    report,
};

use super::{
    Outcome,
    args::{Global, MergeArgs},
    checks, output,
    progress::Terminal,
};

pub(super) fn run(args: &MergeArgs, global: &Global) -> Result<Outcome> {
    let options = MergeOptions {
        folder: args.folder.clone(),
        allow_missing: args.allow_missing,
    };
    match pipeline::part_kind(&args.folder)? {
        PartKind::Scores => scores(args, &options, global),
        PartKind::Features => features(args, &options, global),
    }
}

fn scores(args: &MergeArgs, options: &MergeOptions, global: &Global) -> Result<Outcome> {
    let file = output::File::create("--output", &args.output, &[], args.force)?;
    let terminal = Terminal::new(global);
    let found = pipeline::merge_scores(options, &terminal)?;
    drop(terminal);
    file.write(&report::json(&found))?;
    output::print(global, &found, || report::scored(&found))?;
    Ok(Outcome::Done)
}

fn features(args: &MergeArgs, options: &MergeOptions, global: &Global) -> Result<Outcome> {
    if args.force {
        return Err(checks::no_effect(
            "--force",
            "on features, which are added to what is there",
        ));
    }
    let terminal = Terminal::new(global);
    let found = pipeline::merge_features(options, &args.output, &terminal)?;
    drop(terminal);
    output::print(global, &found, || report::merged_features(&found))?;
    Ok(Outcome::Done)
}
