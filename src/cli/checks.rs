//! No flag is accepted and ignored: what would have no effect is an error that says so.

use clap::{ArgMatches, CommandFactory, error::ErrorKind, parser::ValueSource};
use onnx_prune::{Error, Result};

use super::{
    args::{
        Cli, DataFlags, Global, InspectArgs, PreprocessFlags, SampleFlags, ScoreArgs, ScoreFlags,
        TestFlag,
    },
    values::SampleCount,
};

/// Flags that every command has; they may stand in front of a subcommand.
const GLOBAL: [&str; 3] = ["json", "quiet", "verbose"];

/// Flags and files of the main job in front of a subcommand would be dropped.
pub(super) fn nothing_before_the_subcommand(matches: &ArgMatches) -> Result<(), clap::Error> {
    let Some(subcommand) = matches.subcommand_name() else {
        return Ok(());
    };
    let mut command = Cli::command();
    let stray = command.get_arguments().find(|argument| {
        let id = argument.get_id().as_str();
        let given = matches.value_source(id) == Some(ValueSource::CommandLine);
        given && !GLOBAL.contains(&id)
    });
    let Some(stray) = stray else {
        return Ok(());
    };
    let what = match stray.get_long() {
        Some(long) => format!(
            "--{long} stands before `{subcommand}` and would have no effect; put flags of `{subcommand}` behind it"
        ),
        None => format!(
            "`{subcommand}` behind a file name is a command; for a file of that name write ./{subcommand}"
        ),
    };
    Err(command.error(ErrorKind::ArgumentConflict, what))
}

impl Global {
    /// What is done in a moment has neither progress nor notes.
    pub(super) fn refuse_progress(&self, when: &str) -> Result<()> {
        let flags = [("--quiet", self.quiet), ("--verbose", self.verbose)];
        match flags.into_iter().find(|(_, given)| *given) {
            Some((name, _)) => Err(no_effect(name, when)),
            None => Ok(()),
        }
    }

    /// What prints a text for another program has no report, either.
    pub(super) fn refuse_report(&self, when: &str) -> Result<()> {
        match self.json {
            true => Err(no_effect("--json", when)),
            false => self.refuse_progress(when),
        }
    }
}

impl DataFlags {
    /// Without data there is nothing to preprocess, and no sample is bad.
    pub(super) fn check(&self) -> Result<()> {
        let mut given = self.preprocess.given();
        given.extend(self.on_bad_sample.map(|_| "--on-bad-sample"));
        match (self.data.is_none(), given.first()) {
            (true, Some(&name)) => Err(no_effect(name, "without --data")),
            _ => Ok(()),
        }
    }
}

impl SampleFlags {
    /// Features of noise are not worth keeping, and never are.
    pub(super) fn check(&self, data: &DataFlags) -> Result<()> {
        match (data.data.is_none(), self.about_the_cache()) {
            (true, Some(name)) => Err(no_effect(name, "without --data")),
            _ => Ok(()),
        }
    }

    /// Only where neurons are chosen is it known how many samples that takes.
    pub(super) fn refuse_auto(&self, what: &str) -> Result<()> {
        match self.samples {
            Some(SampleCount::Auto) => Err(Error::Argument {
                name: "--samples",
                what: format!("auto is not for {what}; give a number"),
            }),
            _ => Ok(()),
        }
    }

    /// The flag about the cache that was given.
    fn about_the_cache(&self) -> Option<&'static str> {
        let flags = [
            ("--cache", self.cache.is_some()),
            ("--no-cache", self.no_cache),
        ];
        let mut given = flags.into_iter().filter(|(_, given)| *given);
        given.next().map(|(name, _)| name)
    }
}

impl ScoreArgs {
    /// Criteria that look at weights alone run nothing.
    pub(super) fn check(&self) -> Result<()> {
        let criterion = self.score.criterion.unwrap_or_default();
        if self.force && self.output.is_none() && self.html.is_none() {
            return Err(no_effect("--force", "without --output or --html"));
        }
        if self.shard.is_some() {
            self.samples
                .refuse_auto("--shard, which sees a part of them")?;
        }
        if self.shard.is_some() && self.html.is_some() {
            return Err(no_effect(
                "--html",
                "with --shard, which leaves sums, no scores",
            ));
        }
        match self.samples.about_the_cache() {
            Some(name) if !criterion.needs_samples() => {
                Err(no_effect(name, &format!("with --criterion {criterion}")))
            }
            Some(name) if self.shard.is_some() => Err(no_effect(
                name,
                "with --shard, which reads what the trunk computes once and keeps none of it",
            )),
            _ => Ok(()),
        }
    }
}

/// Figures need samples to score on as well.
pub(super) fn test(flag: &TestFlag, data: &DataFlags) -> Result<()> {
    match (&flag.test, &data.data) {
        (Some(_), None) => Err(no_effect("--test", "without --data")),
        _ => Ok(()),
    }
}

impl PreprocessFlags {
    fn given(&self) -> Vec<&'static str> {
        let flags = [
            ("--preprocess", self.preprocess.is_some()),
            ("--resize", self.resize.is_some()),
            ("--crop", self.crop.is_some()),
            ("--interpolation", self.interpolation.is_some()),
            ("--rescale", self.rescale.is_some()),
            ("--mean", self.mean.is_some()),
            ("--std", self.std.is_some()),
            ("--layout", self.layout.is_some()),
            ("--channels", self.channels.is_some()),
        ];
        let given = flags.into_iter().filter(|(_, given)| *given);
        given.map(|(name, _)| name).collect()
    }
}

impl ScoreFlags {
    /// Each criterion looks at some of the flags only; `solves` where samples serve something else,
    /// too.
    pub(super) fn check(&self, samples: &SampleFlags, solves: bool) -> Result<()> {
        let criterion = self.criterion.unwrap_or_default();
        let norm_used = match self.over_classes {
            Some(_) => criterion.uses_sample_norm(),
            None => criterion.uses_norm(),
        };
        let flags = [
            ("--norm", self.norm.is_some(), norm_used),
            (
                "--over-classes",
                self.over_classes.is_some(),
                criterion.uses_classes(),
            ),
            ("--of", self.of.is_some(), criterion.uses_of()),
            ("--scale", self.scale.is_some(), criterion.uses_scale()),
            (
                "--samples",
                samples.samples.is_some(),
                criterion.needs_samples() || solves,
            ),
        ];
        match flags.into_iter().find(|(_, given, used)| *given && !used) {
            Some((name, ..)) => Err(no_effect(name, &format!("with --criterion {criterion}"))),
            None => Ok(()),
        }
    }
}

impl InspectArgs {
    /// A comparison of two models runs nothing, and without timing there is no batch.
    pub(super) fn check(&self) -> Result<()> {
        let engine = &self.engine;
        let flags = [
            ("--keep", self.keep.is_some()),
            ("--no-time", self.no_time),
            ("--batch", self.batch.is_some()),
            ("--engine", engine.engine.is_some()),
            ("--provider", engine.provider.is_some()),
            ("--precision", engine.precision.is_some()),
            ("--threads", engine.threads.is_some()),
            ("--ort-lib", engine.ort_lib.is_some()),
        ];
        match flags.into_iter().find(|(_, given)| self.diff && *given) {
            Some((name, _)) => Err(no_effect(name, "with --diff")),
            None if self.no_time && self.batch.is_some() => {
                Err(no_effect("--batch", "with --no-time"))
            }
            None => Ok(()),
        }
    }
}

pub(super) fn no_effect(name: &'static str, when: &str) -> Error {
    Error::Argument {
        name,
        what: format!("has no effect {when}"),
    }
}
