//! `onnx-prune score`: the neurons' scores, and nothing cut.

use std::path::PathBuf;

use onnx_prune::{
    Result,
    pipeline::{self, PartOptions, ScoreRunOptions},
    report,
    shards::Shard,
};

use super::{
    Outcome,
    args::{Global, ScoreArgs},
    options, output,
};

pub(super) fn run(args: &ScoreArgs, global: &Global) -> Result<Outcome> {
    args.check()?;
    let options = ScoreRunOptions {
        input: args.input.clone(),
        source: options::source(&args.data, &args.samples, &args.engine)?,
        score: args.score.to_options(&args.samples, false)?,
        of: args.score.of,
    };
    match args.shard {
        Some(shard) => part(args, options, shard, global),
        None => whole(args, &options, global),
    }
}

fn whole(args: &ScoreArgs, options: &ScoreRunOptions, global: &Global) -> Result<Outcome> {
    let inputs = std::slice::from_ref(&args.input);
    let create = |flag, path: &Option<PathBuf>| {
        let path = path.as_deref();
        let file = path.map(|path| output::File::create(flag, path, inputs, args.force));
        file.transpose()
    };
    let json = create("--output", &args.output)?;
    let page = create("--html", &args.html)?;
    let found = args
        .timings
        .run(global, |watch| pipeline::score(options, watch))?;
    if let Some(json) = json {
        json.write(&report::json(&found.report))?;
    }
    if let Some(page) = page {
        page.write(&report::scored_page(&found.report, &output::command()))?;
    }
    found.print(global, report::scored)?;
    Ok(Outcome::Done)
}

fn part(args: &ScoreArgs, run: ScoreRunOptions, shard: Shard, global: &Global) -> Result<Outcome> {
    let options = PartOptions {
        run,
        shard,
        // clap asks for it.
        folder: args.output.clone().unwrap_or_default(),
        replace: args.force,
    };
    let found = args
        .timings
        .run(global, |watch| pipeline::score_part(&options, watch))?;
    found.print(global, report::parted)?;
    Ok(Outcome::Done)
}
