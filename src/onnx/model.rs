//! Loading a model file.

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use prost::Message;

use super::{
    check::check, external, mapped, proto::ModelProto, remote, save::Storage, sniff::looks_like,
    walk::stored, wire,
};
use crate::{
    error::{Error, Result},
    remote::{Fetched, is_remote},
};

/// Bounds that a model file must keep; each protects against a hostile or broken file.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Largest model file.
    pub model_bytes: u64,
    /// Most external data, over all files.
    pub external_bytes: u64,
    /// Most messages (nodes, attributes, tensors and so on): a few bytes each in the file, but
    /// hundreds in memory.
    pub messages: usize,
    /// Accept external data files that have another hard link, possibly outside the model's folder.
    pub hard_links: bool,
}

impl Default for Limits {
    fn default() -> Self {
        const GIB: u64 = 1 << 30;
        Self {
            model_bytes: 16 * GIB,
            external_bytes: 64 * GIB,
            messages: 4_000_000,
            hard_links: false,
        }
    }
}

/// A decoded model file.
#[derive(Clone, Debug)]
pub struct Model {
    /// The messages, weights as shared bytes.
    pub proto: ModelProto,
    path: Option<PathBuf>,
    external: Vec<PathBuf>,
    file_bytes: u64,
    /// Copies of what lies elsewhere.
    fetched: Option<Arc<Fetched>>,
}

impl Model {
    /// Wraps messages made in memory.
    pub fn from_proto(proto: ModelProto) -> Self {
        Self {
            proto,
            path: None,
            external: Vec::new(),
            file_bytes: 0,
            fetched: None,
        }
    }

    /// Reads a model with its external data, and checks it; an address is fetched first.
    ///
    /// # Errors
    /// [`Error::Io`] when a file cannot be read; [`Error::Format`] when it is no ONNX file, is cut
    /// short, or has fields that this program does not know and would drop on writing;
    /// [`Error::Invalid`] when a tensor's values do not fit its shape.
    pub fn load(path: &Path, limits: &Limits) -> Result<Self> {
        match is_remote(path) {
            true => remote::load(path, limits),
            false => Self::load_file(path, limits),
        }
    }

    /// The same of a file of this machine.
    pub(super) fn load_file(path: &Path, limits: &Limits) -> Result<Self> {
        let bytes = read(path, limits)?;
        let model_bytes = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let mut proto = decode(bytes, limits).map_err(|what| Error::Format {
            path: path.to_owned(),
            what,
        })?;
        let mut tensors = stored(&mut proto).into_tensors();
        let sources = external::read(path, &mut tensors, limits)?;
        check(path, &mut proto)?;
        Ok(Self {
            proto,
            path: Some(path.to_owned()),
            external: sources.files,
            file_bytes: model_bytes.saturating_add(sources.bytes),
            fetched: None,
        })
    }

    /// A file's messages alone, without external data.
    pub(super) fn messages(path: &Path, limits: &Limits) -> Result<ModelProto> {
        decode(read(path, limits)?, limits).map_err(|what| Error::Format {
            path: path.to_owned(),
            what,
        })
    }

    /// Calls the model by its address from now on; `fetched` stays as long as the model does.
    pub(super) fn came_from(&mut self, address: &Path, fetched: Arc<Fetched>) {
        self.path = Some(address.to_owned());
        self.fetched = Some(fetched);
    }

    /// The file or address the model came from.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Whether some weights came from other files than the model file.
    pub fn has_external_data(&self) -> bool {
        !self.external.is_empty()
    }

    /// The files the external data came from, without repeats.
    pub fn external_files(&self) -> &[PathBuf] {
        &self.external
    }

    /// How the weights were stored, to be passed on to [`super::Output::write`].
    pub fn storage(&self) -> Storage {
        if self.has_external_data() {
            Storage::External
        } else {
            Storage::Inside
        }
    }

    /// Size on disk, external files included; 0 for a model made in memory.
    pub fn file_bytes(&self) -> u64 {
        self.file_bytes
    }
}

fn read(path: &Path, limits: &Limits) -> Result<Bytes> {
    let format = |what: String| Error::Format {
        path: path.to_owned(),
        what,
    };
    // Asked before opening: opening a pipe without a writer would wait forever.
    let metadata = path.metadata().map_err(Error::io(path))?;
    if !metadata.is_file() {
        return Err(format("not a regular file".to_owned()));
    }
    let length = metadata.len();
    if length == 0 {
        return Err(format("the file is empty".to_owned()));
    }
    if length > limits.model_bytes {
        return Err(format(format!(
            "{length} bytes are more than the limit of {}",
            limits.model_bytes
        )));
    }
    let mut file = File::open(path).map_err(Error::io(path))?;
    mapped::bytes(&mut file, length, &(0..length)).map_err(Error::io(path))
}

fn decode(bytes: Bytes, limits: &Limits) -> Result<ModelProto, String> {
    let described = |problem: String| match looks_like(&bytes) {
        Some(kind) => format!("not an ONNX file: it looks like {kind}"),
        None if starts_like_onnx(&bytes) => problem,
        None => format!("not an ONNX file: {problem}"),
    };
    wire::scan(&bytes, limits.messages).map_err(|fault| described(fault.to_string()))?;
    ModelProto::decode(bytes.clone()).map_err(|error| described(error.to_string()))
}

/// Every exporter writes `ir_version` first: field 1, a small number.
fn starts_like_onnx(bytes: &[u8]) -> bool {
    matches!(bytes, [0x08, 1..0x40, ..])
}

#[cfg(test)]
mod tests;
