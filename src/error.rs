//! What can go wrong, sorted by what the user can do about it.
//!
//! A failed verification or an unreachable budget is a *result* (exit code 1) and lives with the
//! pipeline; everything here ends a run with exit code 2 and leaves no output file.

use std::{fmt, io, path::PathBuf};

/// Shorthand used throughout the crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Every error of the library, one variant per remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused to read or write `path`.
    #[error("{}: {source}", path.display())]
    Io {
        /// File or folder the operation was about.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The file is not what it should be: truncated, not ONNX, a broken container.
    #[error("{}: {what}", path.display())]
    Format {
        /// File that could not be understood.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The model breaks the ONNX rules at this node or tensor.
    #[error("{site}: {what}")]
    Invalid {
        /// Where in the model.
        site: Site,
        /// Which rule is broken, with the values seen.
        what: String,
    },
    /// The model is fine, but this tool cannot do what is asked there.
    #[error("{site}: {what}")]
    Unsupported {
        /// Where in the model.
        site: Site,
        /// What is not supported.
        what: String,
    },
    /// Operators of the head without a gradient rule, all of them at once.
    #[error("no gradient rule for {}", list(.0))]
    UnsupportedOperators(Vec<Site>),
    /// No classification head was found, or nothing in it can be cut.
    #[error("found no classification head to prune{}", tried_lines(tried))]
    NoHead {
        /// One line per thing that was tried and why it failed.
        tried: Vec<String>,
    },
    /// A data set or one of its samples cannot be used.
    #[error("{}: {what}", path.display())]
    Data {
        /// File, folder or archive member.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A command-line flag or option has a value that cannot be used.
    #[error("{name}: {what}")]
    Argument {
        /// The flag as the user types it, for example `--keep`.
        name: &'static str,
        /// What is wrong with its value.
        what: String,
    },
    /// A runtime could not be loaded, could not load a model, or failed while running it.
    #[error("{engine}: {what}")]
    Engine {
        /// `tract` or `onnxruntime`.
        engine: &'static str,
        /// The runtime's own words, with the cause chain.
        what: String,
    },
    /// A runtime found too little memory, on the device where it computes on one.
    #[error("{engine}: too little memory: {what}")]
    OutOfMemory {
        /// `tract` or `onnxruntime`.
        engine: &'static str,
        /// The runtime's own words.
        what: String,
        /// Samples per run that would fit, where that is known.
        fits: Option<usize>,
    },
}

/// An input or output error of the device, which has no kind of its own; the same on all systems that
/// have one.
const EIO: i32 = 5;

impl Error {
    /// Wraps an I/O error with the path it happened on.
    pub fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }

    /// Whether the same run may go well later, or on another machine: the disk was full, the network
    /// did not answer. All other errors stay what they are.
    pub fn may_pass(&self) -> bool {
        use io::ErrorKind as Kind;
        let Self::Io { source, .. } = self else {
            return false;
        };
        matches!(
            source.kind(),
            Kind::TimedOut
                | Kind::WouldBlock
                | Kind::ConnectionRefused
                | Kind::ConnectionReset
                | Kind::ConnectionAborted
                | Kind::NotConnected
                | Kind::HostUnreachable
                | Kind::NetworkUnreachable
                | Kind::NetworkDown
                | Kind::StaleNetworkFileHandle
                | Kind::ResourceBusy
                | Kind::StorageFull
                | Kind::QuotaExceeded
                | Kind::OutOfMemory
        ) || source.raw_os_error() == Some(EIO)
    }

    /// What the user can do next, where the message itself does not already say it.
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::UnsupportedOperators(_) => {
                "--criterion weight needs no gradient; or report the operator so that it gets a rule"
            }
            Self::Unsupported { .. } => {
                "the rest of the model is fine; see docs/architecture.md for what can be cut"
            }
            Self::NoHead { .. } => {
                "the model must end in Gemm, MatMul or Conv layers that give class scores"
            }
            Self::Invalid { .. } => {
                "check the file with the exporter that wrote it, or export it again"
            }
            Self::OutOfMemory { fits, .. } => {
                return Some(match fits {
                    Some(fits) => format!("--batch {fits} would fit into what is free now"),
                    None => "fewer samples at once take less: a smaller --batch or --train-batch"
                        .to_owned(),
                });
            }
            _ => return None,
        };
        Some(text.to_owned())
    }
}

/// A place in a model, printed as `node "/layer1/conv1" (Conv, opset 13)`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Site {
    /// Name of the node, or of the tensor when `op_type` is empty.
    pub node: String,
    /// Operator, with its domain when that is not `ai.onnx`; empty for a tensor or value.
    pub op_type: String,
    /// Version of the operator set the node belongs to.
    pub opset: i64,
}

impl Site {
    /// The site of an initializer, input or other named value.
    pub fn value(name: impl Into<String>) -> Self {
        Self {
            node: name.into(),
            op_type: String::new(),
            opset: 0,
        }
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.op_type.is_empty() {
            write!(f, "value {:?}", self.node)
        } else {
            write!(
                f,
                "node {:?} ({}, opset {})",
                self.node, self.op_type, self.opset
            )
        }
    }
}

fn list(sites: &[Site]) -> String {
    let names: Vec<String> = sites.iter().map(Site::to_string).collect();
    names.join(", ")
}

fn tried_lines(tried: &[String]) -> String {
    tried.iter().map(|line| format!("\n  {line}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_is_told_from_what_stays() {
        let io = |kind: io::ErrorKind| Error::io("x")(kind.into());
        let cases = [
            (io(io::ErrorKind::StorageFull), true),
            (io(io::ErrorKind::TimedOut), true),
            (Error::io("x")(io::Error::from_raw_os_error(EIO)), true),
            (io(io::ErrorKind::NotFound), false),
            (io(io::ErrorKind::PermissionDenied), false),
            (Error::NoHead { tried: Vec::new() }, false),
        ];
        for (error, expected) in cases {
            assert_eq!(error.may_pass(), expected, "{error}");
        }
    }
}
