//! What a reader found wrong, before the path it happened at is known.

use std::{fmt::Write, io, path::Path};

use crate::error::Error;

/// At most this many bad files or samples are named in one message.
pub(super) const NAMED: usize = 10;

/// A failure that still lacks its path.
#[derive(Debug)]
pub(super) enum Problem {
    /// The operating system refused.
    Io(io::Error),
    /// The content is not what it should be.
    Content(String),
}

/// Shorthand of the readers.
pub(super) type Read<T> = Result<T, Problem>;

impl Problem {
    /// The error of the library, with the path it happened at.
    pub(super) fn at(self, path: &Path) -> Error {
        match self {
            Self::Io(source) if is_content(&source) => Error::Data {
                path: path.to_owned(),
                what: content_text(&source),
            },
            Self::Io(source) => Error::io(path)(source),
            Self::Content(what) => Error::Data {
                path: path.to_owned(),
                what,
            },
        }
    }

    /// The text alone, for a line in a list.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Io(source) if is_content(source) => content_text(source),
            Self::Io(source) => source.to_string(),
            Self::Content(what) => what.clone(),
        }
    }
}

/// Decompressors and `read_exact` report broken content as I/O errors of these kinds.
fn is_content(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput
    )
}

fn content_text(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        "is truncated: it ends before its data does".to_owned()
    } else {
        format!("cannot be unpacked: {error}")
    }
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<String> for Problem {
    fn from(what: String) -> Self {
        Self::Content(what)
    }
}

impl From<&str> for Problem {
    fn from(what: &str) -> Self {
        Self::Content(what.to_owned())
    }
}

/// `bad` of `total` `things` failed: the first ten with their reasons, and how many more there are.
pub(super) fn list_of_bad(things: &str, total: usize, bad: &[(String, Problem)]) -> String {
    let mut text = format!("{} of {total} {things} cannot be used:", bad.len());
    for (name, problem) in bad.iter().take(NAMED) {
        let _ = write!(text, "\n  {name}: {}", problem.text());
    }
    if bad.len() > NAMED {
        let _ = write!(text, "\n  and {} more", bad.len() - NAMED);
    }
    text
}

/// Bytes as `3.2 MiB`.
pub fn readable_bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["bytes", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut scaled = bytes as f64;
    while scaled >= 1024.0 && unit + 1 < UNITS.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{bytes} bytes")
    } else {
        format!("{scaled:.1} {}", UNITS[unit])
    }
}
