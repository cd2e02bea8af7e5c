//! Loading a model file.

use std::path::{Path, PathBuf};

use super::proto::ModelProto;

/// Bounds that a model file must keep; each protects against a hostile or broken file.
#[derive(Clone, Debug, Default)]
pub struct Limits {}

/// A decoded model file.
#[derive(Clone, Debug)]
pub struct Model {
    /// The messages, weights as shared bytes.
    pub proto: ModelProto,
    path: Option<PathBuf>,
}

impl Model {
    /// Wraps messages made in memory.
    pub fn from_proto(proto: ModelProto) -> Self {
        Self { proto, path: None }
    }

    /// The file the model came from.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }
}
