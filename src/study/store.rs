//! Finished parts on disk: one JSON file each, which appears whole or not at all.

use std::{
    fs,
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};
use tempfile::NamedTempFile;

use crate::error::{Error, Result};

/// Folder of the parts within that of the study.
const PARTS: &str = "parts";

/// The parts of a study.
#[derive(Debug)]
pub(super) struct Store {
    folder: PathBuf,
}

impl Store {
    /// Opens the folder of a study, or makes it.
    ///
    /// # Errors
    /// [`Error::Argument`] for a folder with other things in it; [`Error::Io`].
    pub(super) fn open(study: &Path) -> Result<Self> {
        let refuse = |what: &str| Error::Argument {
            name: "--output",
            what: format!("{} {what}", study.display()),
        };
        let folder = study.join(PARTS);
        if study.exists() && !study.is_dir() {
            return Err(refuse("is no folder"));
        }
        let is_foreign = || -> Result<bool> {
            let mut entries = fs::read_dir(study).map_err(Error::io(study))?;
            Ok(entries.next().is_some())
        };
        if study.is_dir() && !folder.is_dir() && is_foreign()? {
            return Err(refuse("holds other files; name an empty or a new folder"));
        }
        fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
        Ok(Self { folder })
    }

    /// A part, where it is there and can be read; one that cannot is made again.
    pub(super) fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        let path = self.path(name);
        match fs::read(&path) {
            Ok(text) => Ok(serde_json::from_slice(&text).ok()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io(path)(error)),
        }
    }

    /// Whether a part is there.
    pub(super) fn has<T: DeserializeOwned>(&self, name: &str) -> Result<bool> {
        self.read::<T>(name).map(|part| part.is_some())
    }

    /// Keeps a part.
    pub(super) fn write(&self, name: &str, part: &impl Serialize) -> Result<()> {
        let path = self.path(name);
        let text = serde_json::to_string(part);
        let text = text.expect("parts hold strings, numbers and lists of these");
        let mut file = NamedTempFile::new_in(&self.folder).map_err(Error::io(&self.folder))?;
        let written = file.write_all(text.as_bytes());
        written.map_err(Error::io(&path))?;
        let placed = file.persist(&path);
        placed.map_err(|error| Error::io(&path)(error.error))?;
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.json"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_back_and_broken_ones_count_as_missing() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("new/study")).unwrap();
        assert_eq!(store.read::<Vec<u32>>("cell-1").unwrap(), None);
        store.write("cell-1", &vec![1, 2]).unwrap();
        assert_eq!(store.read("cell-1").unwrap(), Some(vec![1, 2]));
        fs::write(store.path("cell-1"), "[1, 2").unwrap();
        assert!(!store.has::<Vec<u32>>("cell-1").unwrap());
        store.write("cell-1", &vec![3]).unwrap();
        assert_eq!(store.read("cell-1").unwrap(), Some(vec![3]));
    }

    #[test]
    fn a_folder_of_something_else_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Store::open(folder.path()).is_ok(), "empty");
        assert!(Store::open(folder.path()).is_ok(), "a study's own");
        let other = tempfile::tempdir().unwrap();
        fs::write(other.path().join("letter.txt"), "dear").unwrap();
        let refused = Store::open(other.path()).unwrap_err().to_string();
        assert!(refused.contains("holds other files"), "{refused}");
        let file = other.path().join("letter.txt");
        assert!(
            Store::open(&file)
                .unwrap_err()
                .to_string()
                .contains("is no folder")
        );
    }
}
