//! What a run leaves: one table or one JSON document on stdout, or a JSON file.

use std::{
    io::{self, ErrorKind, Write},
    path::{Path, PathBuf},
};

use onnx_prune::{Error, Result};
use serde::Serialize;
use tempfile::NamedTempFile;

use super::args::Global;

/// Prints `document` with `--json`, else `table`.
pub(super) fn print<T: Serialize>(
    global: &Global,
    document: &T,
    table: impl FnOnce() -> String,
) -> Result<()> {
    let text = if global.json {
        onnx_prune::report::json(document)
    } else {
        table()
    };
    write(&text)
}

fn write(text: &str) -> Result<()> {
    let mut stdout = anstream::stdout().lock();
    let written = writeln!(stdout, "{}", text.trim_end()).and_then(|()| stdout.flush());
    done(written)
}

/// Prints a text for another program, as it is.
pub(super) fn bytes(text: &[u8]) -> Result<()> {
    let mut stdout = io::stdout().lock();
    done(stdout.write_all(text).and_then(|()| stdout.flush()))
}

/// A reader that has seen enough (`| head`) is no failure.
fn done(written: io::Result<()>) -> Result<()> {
    match written {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(closed),
    }
}

/// How this run can be repeated, as it is typed.
pub(super) fn command() -> String {
    let plain = |word: &str| {
        !word.is_empty()
            && word
                .chars()
                .all(|letter| letter.is_alphanumeric() || "-_./,=:+@%".contains(letter))
    };
    let words = std::env::args_os().skip(1).map(|word| {
        let word = word.to_string_lossy().into_owned();
        match plain(&word) {
            true => word,
            false => format!("'{}'", word.replace('\'', "'\\''")),
        }
    });
    let words: Vec<String> = words.collect();
    format!("onnx-prune {}", words.join(" "))
}

/// Prints on stderr; that it is closed can be told nowhere.
pub(super) fn aside(text: &str) {
    let _ = writeln!(anstream::stderr(), "\n{text}");
}

/// A text file that appears whole or not at all.
pub(super) struct File {
    path: PathBuf,
    temporary: NamedTempFile,
    overwrite: bool,
}

impl File {
    /// Checks that `path`, given with `flag`, can be written and is none of `inputs`, before any
    /// long work.
    pub(super) fn create(
        flag: &'static str,
        path: &Path,
        inputs: &[PathBuf],
        overwrite: bool,
    ) -> Result<Self> {
        onnx_prune::remote::only_here(path)?;
        let refuse = |what: String| Error::Argument { name: flag, what };
        if inputs.iter().any(|input| same_file(path, input)) {
            return Err(refuse(format!("{} is the input", path.display())));
        }
        if path.exists() && !(overwrite && path.is_file()) {
            let remedy = if path.is_file() {
                "; --force replaces it"
            } else {
                " and is no file"
            };
            return Err(refuse(format!("{} exists{remedy}", path.display())));
        }
        let parent = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new("."));
        Ok(Self {
            path: path.to_owned(),
            temporary: temporary(parent).map_err(Error::io(parent))?,
            overwrite,
        })
    }

    /// Writes the text and moves the file into place.
    pub(super) fn write(mut self, text: &str) -> Result<()> {
        let file = self.temporary.as_file_mut();
        let written = writeln!(file, "{text}").and_then(|()| file.sync_all());
        written.map_err(Error::io(&self.path))?;
        let placed = if self.overwrite {
            self.temporary.persist(&self.path)
        } else {
            self.temporary.persist_noclobber(&self.path)
        };
        placed.map_err(|error| Error::io(&self.path)(error.error))?;
        Ok(())
    }
}

/// A file for this folder, which others may read as they may any new file.
fn temporary(folder: &Path) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder)
}

fn same_file(one: &Path, other: &Path) -> bool {
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}

fn closed(source: io::Error) -> Error {
    Error::Io {
        path: PathBuf::from("stdout"),
        source,
    }
}
