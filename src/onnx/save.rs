//! Writing a model file: all of it or nothing.
//!
//! The files are made in a temporary folder inside the folder they are meant for, under their
//! final names, so that the model with its external data can be loaded and proved there before
//! anything moves. Moving is a rename, which cannot be seen half done.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use tempfile::{TempDir, TempPath};

use super::{detach, proto::ModelProto, stream::Stream};
use crate::{
    error::{Error, Result},
    remote::only_here,
};

/// Largest model file that protobuf readers, ONNX Runtime among them, accept.
const MAX_MODEL_BYTES: usize = 0x7fff_ffff;

/// What to do when the output file exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overwrite {
    /// Stop with an error.
    Refuse,
    /// Replace it, once the new one is complete.
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
    /// Where the model file goes, and where its data file would go.
    path: PathBuf,
    data_path: PathBuf,
    /// Where both are until they are moved.
    staged: PathBuf,
    staged_data: PathBuf,
    /// Holds both; gone when dropped.
    _folder: TempDir,
    overwrite: Overwrite,
    protected: Vec<PathBuf>,
    bytes: u64,
    external_bytes: u64,
}

impl Output {
    /// Checks that `path` can be written and is not `input`, before any long work.
    ///
    /// # Errors
    /// [`Error::Argument`] when `path` exists and may not be replaced, is no regular file, or is
    /// the input; [`Error::Io`] when its folder is missing or cannot be written.
    pub fn create(path: &Path, input: Option<&Path>, overwrite: Overwrite) -> Result<Self> {
        let name = file_name(path)?;
        only_here(path)?;
        let protected: Vec<PathBuf> = input.iter().filter_map(canonical).collect();
        check_protected(path, &protected)?;
        check_target(path, overwrite)?;
        let parent = parent(path);
        let folder = tempfile::Builder::new()
            .prefix(".onnx-prune-")
            .tempdir_in(parent)
            .map_err(Error::io(parent))?;
        let data_name = format!("{name}.data");
        Ok(Self {
            path: path.to_owned(),
            data_path: parent.join(&data_name),
            staged: folder.path().join(name),
            staged_data: folder.path().join(&data_name),
            _folder: folder,
            overwrite,
            protected,
            bytes: 0,
            external_bytes: 0,
        })
    }

    /// Makes it an error to replace one of these files, whatever [`Overwrite`] says: the input's
    /// external data, say.
    ///
    /// # Errors
    /// [`Error::Argument`] when the output is one of them.
    pub fn protect(mut self, files: &[PathBuf]) -> Result<Self> {
        self.protected.extend(files.iter().filter_map(canonical));
        check_protected(&self.path, &self.protected)?;
        Ok(self)
    }

    /// Writes the model to a temporary place in the output's folder.
    ///
    /// Above 2 GiB the weights go to external data whatever `storage` says.
    ///
    /// # Errors
    /// [`Error::Io`], for example when the disk is full; [`Error::Argument`] when an external data
    /// file is in the way; [`Error::Invalid`] when a weight does not fit its shape.
    pub fn write(&mut self, model: &ModelProto, storage: Storage) -> Result<()> {
        self.external_bytes = 0;
        if storage == Storage::Inside {
            let stream = Stream::new(model).map_err(Error::io(&self.path))?;
            if stream.len() <= MAX_MODEL_BYTES {
                return self.write_model(&stream);
            }
        }
        check_protected(&self.data_path, &self.protected)?;
        check_target(&self.data_path, self.overwrite)?;
        let mut detached = model.clone();
        self.external_bytes = self.write_data(&mut detached)?;
        let stream = Stream::new(&detached).map_err(Error::io(&self.path))?;
        if stream.len() > MAX_MODEL_BYTES {
            return Err(Error::Format {
                path: self.path.clone(),
                what: "the model is over 2 GiB even without its weights".to_owned(),
            });
        }
        self.write_model(&stream)
    }

    /// Where the complete model can be read before it is committed.
    pub fn path_for_reading(&self) -> &Path {
        &self.staged
    }

    /// Moves the model into place, its external data first.
    ///
    /// # Errors
    /// [`Error::Io`] or, when the output has come into being since, [`Error::Argument`]; the
    /// output is then as it was before.
    pub fn commit(self) -> Result<Written> {
        let backup = self.staged_data.with_added_extension("replaced");
        let with_data = self.external_bytes > 0;
        if with_data {
            if self.overwrite == Overwrite::Replace && self.data_path.exists() {
                fs::rename(&self.data_path, &backup).map_err(Error::io(&self.data_path))?;
            }
            self.place(&self.staged_data, &self.data_path)
                .inspect_err(|_| restore(&backup, &self.data_path))?;
        }
        self.place(&self.staged, &self.path).inspect_err(|_| {
            if with_data {
                // The error to report is the one that led here.
                let _ = fs::remove_file(&self.data_path);
                restore(&backup, &self.data_path);
            }
        })?;
        sync_folder(parent(&self.path));
        Ok(Written {
            path: self.path,
            bytes: self.bytes,
            external_bytes: self.external_bytes,
        })
    }

    fn write_model(&mut self, stream: &Stream) -> Result<()> {
        write_file(&self.staged, |to| stream.write_to(to)).map_err(Error::io(&self.path))?;
        self.bytes = u64::try_from(stream.len()).unwrap_or(u64::MAX);
        Ok(())
    }

    /// Moves the model's weights to the data file. Returns how many bytes it has.
    fn write_data(&self, model: &mut ModelProto) -> Result<u64> {
        let location = file_name(&self.data_path)?;
        let mut file = detach::DataFile::new(location);
        detach::detach(model, &mut file, MAX_MODEL_BYTES)?;
        if file.len() == 0 {
            return Ok(0);
        }
        write_file(&self.staged_data, |to| file.write_to(to))
            .map_err(Error::io(&self.data_path))?;
        Ok(file.len())
    }

    fn place(&self, from: &Path, to: &Path) -> Result<()> {
        match self.overwrite {
            Overwrite::Replace => keep_mode(to, from)
                .and_then(|()| fs::rename(from, to))
                .map_err(Error::io(to)),
            // Unlike a rename, this fails when the target exists.
            Overwrite::Refuse => TempPath::try_from_path(from)
                .and_then(|staged| Ok(staged.persist_noclobber(to)?))
                .map_err(|error| match error.kind() {
                    io::ErrorKind::AlreadyExists => exists(to),
                    _ => Error::io(to)(error),
                }),
        }
    }
}

fn refuse(what: String) -> Error {
    Error::Argument { name: "OUT", what }
}

fn exists(path: &Path) -> Error {
    refuse(format!("{} exists; --force replaces it", path.display()))
}

/// The last part of the path; a trailing separator means a folder, which is no output.
fn file_name(path: &Path) -> Result<&str> {
    let text = path.to_str();
    match (text, path.file_name().and_then(|name| name.to_str())) {
        (Some(text), Some(name)) if text.ends_with(name) => Ok(name),
        (None, _) => Err(refuse(format!("{} is not UTF-8", path.display()))),
        _ => Err(refuse(format!("{} is not a file name", path.display()))),
    }
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn canonical(path: impl AsRef<Path>) -> Option<PathBuf> {
    path.as_ref().canonicalize().ok()
}

fn check_protected(path: &Path, protected: &[PathBuf]) -> Result<()> {
    match canonical(path) {
        Some(real) if protected.contains(&real) => Err(refuse(format!(
            "{} is the input or part of it, which is never replaced",
            path.display()
        ))),
        _ => Ok(()),
    }
}

fn check_target(path: &Path, overwrite: Overwrite) -> Result<()> {
    // A dangling link is in the way too.
    if path.symlink_metadata().is_err() {
        return Ok(());
    }
    if path.metadata().is_ok_and(|metadata| !metadata.is_file()) {
        return Err(refuse(format!("{} is no regular file", path.display())));
    }
    match overwrite {
        Overwrite::Refuse => Err(exists(path)),
        Overwrite::Replace => Ok(()),
    }
}

fn write_file(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> io::Result<()> {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    write(&mut file)?;
    file.flush()?;
    file.get_ref().sync_all()
}

/// A file that is replaced keeps its permissions.
fn keep_mode(old: &Path, new: &Path) -> io::Result<()> {
    match old.metadata() {
        Ok(metadata) => fs::set_permissions(new, metadata.permissions()),
        Err(_) => Ok(()),
    }
}

/// Puts back what was moved away, where there was something.
fn restore(backup: &Path, path: &Path) {
    if backup.exists() {
        // The error to report is the one that led here.
        let _ = fs::rename(backup, path);
    }
}

/// Makes the rename last through a power cut. Some file systems cannot; the file is complete and
/// in place all the same.
fn sync_folder(folder: &Path) {
    if cfg!(unix) {
        let _ = File::open(folder).and_then(|folder| folder.sync_all());
    }
}

#[cfg(test)]
mod tests;
