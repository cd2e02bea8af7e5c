//! The main job: `onnx-prune IN OUT`.

use onnx_prune::{
    Error, Result,
    pipeline::{self, Limit, PruneOptions, PruneReport, Speed, Verify},
    repair::Repair,
    report,
};

use super::{
    Outcome,
    args::{Global, PruneArgs},
    checks, options, output,
};

pub(super) fn run(args: &PruneArgs, global: &Global) -> Result<Outcome> {
    let options = options_of(args)?;
    let file = Report::create(args, &options)?;
    let found = args
        .timings
        .run(global, |watch| pipeline::prune(&options, watch))?;
    if let Some(file) = file {
        file.write(&found.report)?;
    }
    found.print(global, report::pruned)?;
    Ok(Outcome::of(found.report.passed))
}

/// The file of --report.
struct Report {
    file: output::File,
    is_page: bool,
}

impl Report {
    fn create(args: &PruneArgs, options: &PruneOptions) -> Result<Option<Self>> {
        let Some(path) = &args.report else {
            return Ok(None);
        };
        let refuse = |what: String| Error::Argument {
            name: "--report",
            what,
        };
        let is_page = match path.extension().and_then(|extension| extension.to_str()) {
            Some("html") => true,
            Some("json") => false,
            _ => {
                return Err(refuse(format!(
                    "{} ends neither in .html nor in .json",
                    path.display()
                )));
            }
        };
        if *path == options.output {
            return Err(refuse(format!("{} is the output", path.display())));
        }
        let inputs = std::slice::from_ref(&options.input);
        let file = output::File::create("--report", path, inputs, args.force)?;
        Ok(Some(Self { file, is_page }))
    }

    fn write(self, found: &PruneReport) -> Result<()> {
        self.file.write(&match self.is_page {
            true => report::pruned_page(found, &output::command()),
            false => report::json(found),
        })
    }
}

fn options_of(args: &PruneArgs) -> Result<PruneOptions> {
    let files = args.files.as_ref();
    let files = files.expect("clap requires IN and OUT where there is no subcommand");
    let mut options = PruneOptions::new(&files.input, &files.output);
    options.overwrite = options::overwrite(args.force);
    options.source = options::source(&args.data, &args.samples, &args.engine)?;
    checks::test(&args.test, &args.data)?;
    options.source.test = args.test.test.clone();
    let repairs = args.data.data.is_some() && args.repair.repair != Some(Repair::None);
    let solves = repairs || args.train.epochs.is_some() || args.transfer.classes.is_some();
    options.score = args.score.to_options(&args.samples, solves)?;
    options.scores = args.scores.clone();
    if args.scores.is_some() && args.samples.samples.is_some() && !solves {
        return Err(checks::no_effect(
            "--samples",
            "with --scores and nothing to solve",
        ));
    }
    options.of = args.score.of;
    options.verify = match (args.no_verify, args.require_both) {
        (true, _) => Verify::Skip,
        (false, true) => Verify::RequireBoth,
        (false, false) => Verify::Always,
    };
    if let Some(keep) = &args.keep {
        options.budget = keep.clone();
    }
    if let Some(scope) = args.scope {
        options.budget.scope = scope;
    }
    let limit = &args.limit;
    if limit.max_drop.is_some() || limit.max_bytes.is_some() {
        options.limit = Some(Limit {
            max_drop: limit.max_drop,
            metric: limit.metric.unwrap_or_default(),
            max_bytes: limit.max_bytes,
        });
    }
    options.granularity = args.trunk.granularity.unwrap_or_default();
    options.align = args.trunk.align.unwrap_or(options.align);
    options.trunk = args.trunk.trunk.unwrap_or_default();
    options.form = args.trunk.form.unwrap_or_default();
    options.speed = match args.trunk.require_faster {
        true => Speed::Required,
        false => Speed::Told,
    };
    options.transfer = args.transfer.to_options();
    options.training = args
        .train
        .if_any(options.source.seed, args.distill.distill)?;
    if args.label_share.is_some() {
        let training = options.training.as_mut();
        let training =
            training.ok_or_else(|| checks::no_effect("--label-share", "without --epochs"))?;
        training.label_share = args.label_share;
    }
    options.repair = args.repair.repair;
    options.baselines = args.repair.baselines;
    Ok(options)
}
