//! `onnx-prune study`: a grid of cuts, its tables and its page.

use onnx_prune::{
    Error, Result, report,
    sensitivity::Criterion,
    study::{self, StudyOptions, StudyReport},
};

use super::{
    Outcome,
    args::{CriteriaWord, Global, StudyArgs},
    checks, options, output,
    progress::Terminal,
};

pub(super) fn run(args: &StudyArgs, global: &Global) -> Result<Outcome> {
    let options = options_of(args)?;
    let terminal = Terminal::new(global);
    let found = study::study(&options, &terminal)?;
    drop(terminal);
    write(&options, &found, &output::command())?;
    output::print(global, &found, || report::studied(&found))?;
    Ok(Outcome::of(found.passed))
}

fn options_of(args: &StudyArgs) -> Result<StudyOptions> {
    checks::test(&args.test, &args.data)?;
    args.samples
        .refuse_auto("a study, whose cells share their samples")?;
    let source = options::source(&args.data, &args.samples, &args.engine)?;
    let data = source.data.clone().ok_or_else(|| Error::Argument {
        name: "--data",
        what: "is needed: a study is measured on real samples".to_owned(),
    })?;
    let mut options = StudyOptions::new(args.models.clone(), data, args.output.clone());
    options.source = source;
    options.source.test = args.test.test.clone();
    let grid = &args.grid;
    if !grid.criteria.is_empty() {
        options.criteria = criteria(&grid.criteria);
    }
    args.check(&options.criteria)?;
    if !grid.keeps.is_empty() {
        options.keeps = grid.keeps.clone();
    }
    if !grid.norms.is_empty() {
        options.norms = grid.norms.clone();
    }
    if !grid.scales.is_empty() {
        options.scales = grid.scales.clone();
    }
    options.of = grid.of;
    options.repairs = grid.repair.clone();
    options.seeds = grid.seeds.unwrap_or(options.seeds);
    options.training = args
        .train
        .if_any(options.source.seed, args.distill.distill)?;
    options.max_drop = args.best.max_drop.unwrap_or(options.max_drop);
    options.export_best = args.best.export_best;
    options.timed = match args.best.no_time {
        true => None,
        false => args.best.seconds.or(options.timed),
    };
    Ok(options)
}

fn criteria(words: &[CriteriaWord]) -> Vec<Criterion> {
    let mut all = Vec::new();
    for word in words {
        match word {
            CriteriaWord::All => all.extend(Criterion::all()),
            CriteriaWord::One(criterion) => all.push(*criterion),
        }
    }
    all
}

impl StudyArgs {
    /// Flags that no criterion of the grid looks at, and files that all cells would share.
    fn check(&self, criteria: &[Criterion]) -> Result<()> {
        let grid = &self.grid;
        let any = |uses: fn(Criterion) -> bool| criteria.iter().any(|&one| uses(one));
        let flags = [
            ("--norms", !grid.norms.is_empty(), any(Criterion::uses_norm)),
            (
                "--scales",
                !grid.scales.is_empty(),
                any(Criterion::uses_scale),
            ),
            ("--of", grid.of.is_some(), any(Criterion::uses_of)),
            ("--seeds", grid.seeds.is_some(), any(Criterion::uses_seed)),
        ];
        if let Some((name, ..)) = flags.into_iter().find(|(_, given, used)| *given && !used) {
            return Err(checks::no_effect(name, "with these --criteria"));
        }
        let files = [
            ("--log", self.train.log.is_some()),
            ("--checkpoint", self.train.checkpoint.is_some()),
        ];
        match files.into_iter().find(|(_, given)| *given) {
            Some((name, _)) => Err(Error::Argument {
                name,
                what: "would be one file for all cells; a study keeps its own account in DIR"
                    .to_owned(),
            }),
            None => Ok(()),
        }
    }
}

/// The files that a study leaves besides its parts.
fn write(options: &StudyOptions, found: &StudyReport, command: &str) -> Result<()> {
    let mut files = vec![
        ("results.csv".to_owned(), report::studied_csv(found)),
        ("results.json".to_owned(), report::json(found)),
        ("report.md".to_owned(), report::studied_markdown(found)),
        (
            "report.html".to_owned(),
            report::studied_page(found, command),
        ),
    ];
    files.extend(report::studied_plots(found));
    if options.timed.is_some() {
        files.push(("times.csv".to_owned(), report::times_csv(found)));
    }
    for (name, text) in files {
        let path = options.output.join(name);
        output::File::create("--output", &path, &options.models, true)?.write(text.trim_end())?;
    }
    Ok(())
}
