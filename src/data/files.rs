//! Image files of their own: what folders and lists of images have in common.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use sha2::{Digest, Sha256};

use super::decode::Stream;
use super::images::Encoded;
use super::problem::Read;
use crate::error::{Error, Result};

/// Image files below one folder.
pub(super) struct ImageFiles {
    /// What names in messages leave out.
    pub(super) root: PathBuf,
    pub(super) files: Vec<PathBuf>,
}

impl ImageFiles {
    fn relative(&self, file: &Path) -> String {
        let inside = file.strip_prefix(&self.root).unwrap_or(file);
        let name = Path::new(file.file_name().unwrap_or_default());
        let shown = if inside.as_os_str().is_empty() {
            name
        } else {
            inside
        };
        shown.display().to_string()
    }
}

impl Encoded for ImageFiles {
    fn open(&self, index: usize) -> Read<Box<dyn Stream + '_>> {
        Ok(Box::new(File::open(&self.files[index])?))
    }

    fn name(&self, index: usize) -> String {
        self.relative(&self.files[index])
    }

    /// Names and sizes of all files: reading every byte of a large set would take longer than using it.
    fn digest(&self, hash: &mut Sha256) -> Result<()> {
        for path in &self.files {
            let name = self.relative(path).replace('\\', "/");
            hash.update((name.len() as u64).to_le_bytes());
            hash.update(name.as_bytes());
            // A file that is not there is a bad sample, and may be left out.
            let size = path.metadata().map_or(u64::MAX, |file| file.len());
            hash.update(size.to_le_bytes());
        }
        Ok(())
    }

    /// When each file was written: an image may be replaced by another one of the same size.
    fn digest_times(&self, hash: &mut Sha256) -> Result<()> {
        self.files
            .iter()
            .try_for_each(|path| written(path, hash).or_else(missing))
    }
}

/// Feeds when a file was written into `hash`.
pub(super) fn written(path: &Path, hash: &mut Sha256) -> Result<()> {
    let metadata = path.metadata().map_err(Error::io(path))?;
    let modified = metadata.modified().map_err(Error::io(path))?;
    let since = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
    hash.update(since.as_nanos().to_le_bytes());
    Ok(())
}

fn missing(error: Error) -> Result<()> {
    match error {
        Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => Ok(()),
        error => Err(error),
    }
}
