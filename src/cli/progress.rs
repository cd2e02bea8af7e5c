//! What a run says while it works: bars and notes, all on stderr.

use std::{
    io::{IsTerminal, Write},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anstyle::{AnsiColor, Style};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use onnx_prune::pipeline::Watch;

use super::{args::Global, interrupt};

/// How often a bar without steps shows that it is alive.
const TICK: Duration = Duration::from_millis(120);

/// Shows stages and notes on the terminal.
pub(super) struct Terminal {
    quiet: bool,
    verbose: bool,
    /// Bars only where someone looks: not in a file, not beside `--json`.
    bars: bool,
    stage: Mutex<Option<Stage>>,
}

struct Stage {
    name: String,
    begin: Instant,
    bar: ProgressBar,
}

impl Terminal {
    pub(super) fn new(global: &Global) -> Self {
        Self {
            quiet: global.quiet,
            verbose: global.verbose,
            bars: !global.quiet && !global.json && std::io::stderr().is_terminal(),
            stage: Mutex::new(None),
        }
    }

    fn current(&self) -> MutexGuard<'_, Option<Stage>> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A line above the bar, where there is one.
    fn say(&self, label: &str, colour: AnsiColor, text: &str) {
        let say = || line(label, colour, text);
        match &*self.current() {
            Some(stage) => stage.bar.suspend(say),
            None => say(),
        }
    }

    /// Ends the stage that is under way.
    fn finish(&self, current: &mut Option<Stage>) {
        let Some(stage) = current.take() else {
            return;
        };
        stage.bar.finish_and_clear();
        if self.verbose {
            let seconds = stage.begin.elapsed().as_secs_f64();
            line(
                "done",
                AnsiColor::Green,
                &format!("{} ({seconds:.1} s)", stage.name),
            );
        }
    }

    fn bar(&self, name: &str, total: Option<u64>) -> ProgressBar {
        let bar = match total {
            Some(total) => ProgressBar::new(total),
            None => ProgressBar::new_spinner(),
        };
        bar.set_draw_target(if self.bars {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        });
        let template = match total {
            Some(_) => "{msg} [{bar:30}] {pos}/{len} {eta}",
            None => "{spinner} {msg}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(name.to_owned());
        if self.bars {
            bar.enable_steady_tick(TICK);
        }
        bar
    }
}

impl Watch for Terminal {
    fn stage(&self, name: &str, total: Option<u64>) {
        let mut current = self.current();
        self.finish(&mut current);
        *current = Some(Stage {
            name: name.to_owned(),
            begin: Instant::now(),
            bar: self.bar(name, total),
        });
    }

    fn step(&self, n: u64) {
        if let Some(stage) = &*self.current() {
            stage.bar.inc(n);
        }
    }

    fn status(&self, text: &str) {
        if let Some(stage) = &*self.current() {
            stage.bar.set_message(format!("{}, {text}", stage.name));
        }
    }

    fn note(&self, text: &str) {
        if !self.quiet {
            self.say("note", AnsiColor::Yellow, text);
        }
    }

    fn detail(&self, text: &str) {
        if self.verbose {
            self.say("detail", AnsiColor::Blue, text);
        }
    }

    fn cancelled(&self) -> bool {
        interrupt::seen()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let mut current = self.current();
        self.finish(&mut current);
    }
}

fn line(label: &str, colour: AnsiColor, text: &str) {
    let style = Style::new().bold().fg_color(Some(colour.into()));
    // Nowhere to report that stderr is closed.
    let _ = writeln!(anstream::stderr(), "{style}{label}:{style:#} {text}");
}
