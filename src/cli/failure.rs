//! How errors look: `error:` with the message, `hint:` with what to do, and the exit code.

use std::{
    ffi::OsString,
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anstyle::{AnsiColor, Style};
use clap::CommandFactory;
use onnx_prune::Error;

use super::args::Cli;

/// Exit code of errors, as documented in `--help`.
const ERROR: u8 = 2;

/// Exit code of errors that may pass, as `EX_TEMPFAIL` of sysexits.h: a scheduler tries these again.
const PASSING: u8 = 75;

/// Exit code after Ctrl-C: 128 and the number of the signal, as shells have it.
const INTERRUPTED: u8 = 130;

/// Prints an error of the library. `input` is what was given as IN.
pub(super) fn report(error: &Error, input: Option<&Path>) -> ExitCode {
    line("error", AnsiColor::Red, &error.to_string());
    let typo = input.filter(|input| !input.exists()).and_then(meant);
    for hint in typo.into_iter().chain(error.hint()) {
        line("hint", AnsiColor::Cyan, &hint);
    }
    ExitCode::from(if error.may_pass() { PASSING } else { ERROR })
}

/// Prints what clap has to say: an error, or the help that was asked for.
pub(super) fn usage(error: &clap::Error, arguments: &[OsString]) -> ExitCode {
    // Nowhere to report that the terminal is gone.
    let _ = error.print();
    if !error.use_stderr() {
        return ExitCode::SUCCESS;
    }
    let first = arguments.get(1).map(PathBuf::from);
    let typo = first.filter(|first| !first.exists());
    if let Some(hint) = typo.as_deref().and_then(meant) {
        line("hint", AnsiColor::Cyan, &hint);
    }
    ExitCode::from(ERROR)
}

/// Says that the run was ended by Ctrl-C.
pub(super) fn interrupted() -> ExitCode {
    line("error", AnsiColor::Red, "interrupted");
    ExitCode::from(INTERRUPTED)
}

fn line(label: &str, colour: AnsiColor, text: &str) {
    let style = Style::new().bold().fg_color(Some(colour.into()));
    // Nowhere to report that stderr is closed.
    let _ = writeln!(anstream::stderr(), "{style}{label}:{style:#} {text}");
}

/// `onnx-prune scroe m.onnx` has the form of the main job; says which subcommand was meant.
fn meant(input: &Path) -> Option<String> {
    let word = input.to_str()?;
    let command = Cli::command();
    let shown = command
        .get_subcommands()
        .filter(|command| !command.is_hide_set());
    let names = shown.map(clap::Command::get_name);
    let (distance, name) = names.map(|name| (distance(word, name), name)).min()?;
    ((1..=2).contains(&distance) && distance < word.len().min(name.len()))
        .then(|| format!("did you mean the command `onnx-prune {name}`?"))
}

/// Letters to insert, remove, replace or swap with their neighbour.
fn distance(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=to.len()).collect()];
    for i in 1..=from.len() {
        let mut row = vec![i];
        for j in 1..=to.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(from[i - 1] != to[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[from.len()][to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_command_is_recognised_and_a_file_name_is_not() {
        let cases = [
            ("scroe", Some("score")),
            ("scor", Some("score")),
            ("gradiant", Some("gradient")),
            ("verfy", Some("verify")),
            ("runtimes", Some("runtime")),
            // not mistyped at all
            ("score", None),
            ("model.onnx", None),
            ("s", None),
            ("vgg", None),
            ("models/vgg.onnx", None),
        ];
        for (word, expected) in cases {
            let hint = meant(Path::new(word));
            let expected =
                expected.map(|name| format!("did you mean the command `onnx-prune {name}`?"));
            assert_eq!(hint, expected, "{word}");
        }
    }
}
