//! Writing a model file: all of it or nothing.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
};

use prost::Message;
use tempfile::TempDir;

use super::proto::ModelProto;
use crate::error::{Error, Result};

/// What to do when the output file exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overwrite {
    /// Stop with an error.
    Refuse,
    /// Replace it, in one step, once the new file is complete.
    Replace,
}

/// Where weights are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// In the model file, as long as that stays under the 2 GiB that runtimes can read.
    Inside,
    /// In one file beside the model file, named like it with `.data` appended.
    External,
}

/// What [`Output::commit`] put in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The model file.
    pub path: PathBuf,
    /// Size of the model file.
    pub bytes: u64,
    /// Size of the external data file, 0 without one.
    pub external_bytes: u64,
}

/// A model file that is being written. Dropped without [`Output::commit`], it leaves nothing.
#[derive(Debug)]
pub struct Output {
    path: PathBuf,
    staged: PathBuf,
    folder: TempDir,
    overwrite: Overwrite,
    bytes: u64,
}

impl Output {
    /// Checks that `path` can be written and is not `input`, before any long work.
    ///
    /// # Errors
    /// [`Error::Argument`] when `path` exists and may not be replaced, or is the input;
    /// [`Error::Io`] when its folder is missing or cannot be written.
    pub fn create(path: &Path, input: Option<&Path>, overwrite: Overwrite) -> Result<Self> {
        let refuse = |what: String| Error::Argument { name: "OUT", what };
        let name = path
            .file_name()
            .ok_or_else(|| refuse(format!("{} is not a file name", path.display())))?;
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        if let Some(input) = input
            && let (Ok(input), Ok(output)) = (input.canonicalize(), path.canonicalize())
            && input == output
        {
            return Err(refuse(format!("{} is the input", path.display())));
        }
        if overwrite == Overwrite::Refuse && path.symlink_metadata().is_ok() {
            return Err(refuse(format!("{} exists", path.display())));
        }
        let folder = tempfile::Builder::new()
            .prefix(".onnx-prune-")
            .tempdir_in(parent)
            .map_err(Error::io(parent))?;
        Ok(Self {
            path: path.to_owned(),
            staged: folder.path().join(name),
            folder,
            overwrite,
            bytes: 0,
        })
    }

    /// Writes the model to a temporary place in the output's folder.
    ///
    /// # Errors
    /// [`Error::Io`], for example when the disk is full.
    pub fn write(&mut self, model: &ModelProto, _storage: Storage) -> Result<()> {
        let bytes = model.encode_to_vec();
        let mut file = File::create(&self.staged).map_err(Error::io(&self.path))?;
        file.write_all(&bytes)
            .and_then(|()| file.sync_all())
            .map_err(Error::io(&self.path))?;
        self.bytes = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        Ok(())
    }

    /// Where the complete model can be read before it is committed.
    pub fn path_for_reading(&self) -> &Path {
        &self.staged
    }

    /// Moves the model into place.
    ///
    /// # Errors
    /// [`Error::Io`]; then nothing has changed.
    pub fn commit(self) -> Result<Written> {
        if self.overwrite == Overwrite::Refuse && self.path.symlink_metadata().is_ok() {
            return Err(Error::Argument {
                name: "OUT",
                what: format!("{} exists", self.path.display()),
            });
        }
        fs::rename(&self.staged, &self.path).map_err(Error::io(&self.path))?;
        drop(self.folder);
        Ok(Written {
            path: self.path,
            bytes: self.bytes,
            external_bytes: 0,
        })
    }
}
