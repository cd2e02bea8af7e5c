//! `--timings`: a run with a clock.

use clap::Args;
use onnx_prune::{
    Result,
    pipeline::{Clock, Timings, Watch},
    report,
};
use serde::Serialize;

use super::{args::Global, output, progress::Terminal};

#[derive(Clone, Copy, Debug, Default, Args)]
pub(super) struct TimingFlags {
    /// Print where time and memory went on stderr, and put it into the JSON document
    #[arg(long, help_heading = "Options")]
    timings: bool,
}

/// A report, and what the run took where that was asked for.
#[derive(Serialize)]
pub(super) struct Timed<T> {
    #[serde(flatten)]
    pub(super) report: T,
    #[serde(skip_serializing_if = "Option::is_none")]
    timings: Option<Timings>,
}

impl TimingFlags {
    /// Does the work, with its stages and notes on the terminal.
    pub(super) fn run<T>(
        self,
        global: &Global,
        work: impl FnOnce(&dyn Watch) -> Result<T>,
    ) -> Result<Timed<T>> {
        let terminal = Terminal::new(global);
        if !self.timings {
            let report = work(&terminal)?;
            return Ok(Timed {
                report,
                timings: None,
            });
        }
        let clock = Clock::new(&terminal);
        let report = work(&clock)?;
        let timings = Some(clock.finish());
        Ok(Timed { report, timings })
    }
}

impl<T: Serialize> Timed<T> {
    /// Prints the report as [`output::print`] does, and then the times.
    pub(super) fn print(&self, global: &Global, table: impl FnOnce(&T) -> String) -> Result<()> {
        output::print(global, self, || table(&self.report))?;
        if let Some(timings) = &self.timings {
            output::aside(&report::timed(timings));
        }
        Ok(())
    }
}
