//! What the cache holds, and clearing it.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::Serialize;

use super::{
    entry::{self, Entry, Found},
    lock::{self, Lock},
};
use crate::{
    disk,
    error::{Error, Result},
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Letters of a key.
const KEY_LENGTH: usize = 64;

/// One folder of the cache.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CacheEntry {
    /// Name of the folder: a hash of all that the features depend on.
    pub key: String,
    /// The model's file when the entry was made.
    pub model: Option<PathBuf>,
    /// The data set.
    pub data: Option<PathBuf>,
    /// What computed the features.
    pub engine: Option<String>,
    /// Samples whose features are there.
    pub present: usize,
    /// Samples of the data set.
    pub total: usize,
    /// What it takes on the disk.
    pub bytes: u64,
    /// When it was last used, in seconds since 1970.
    pub used: u64,
    /// What is wrong with it; it is made anew when it is wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// What clearing did.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Cleared {
    /// Entries that were removed.
    pub removed: usize,
    /// What they took on the disk.
    pub bytes: u64,
    /// Folders that stay though they were meant, and why.
    pub kept: Vec<String>,
}

/// The entries below `root`, by key.
pub(super) fn entries(root: &Path) -> Result<Vec<CacheEntry>> {
    let folders = folders(root)?;
    folders.iter().map(|folder| describe(folder)).collect()
}

/// Removes entries that were not used for `days`, or all.
pub(super) fn clear(root: &Path, days: Option<u64>) -> Result<Cleared> {
    let mut cleared = Cleared::default();
    for folder in folders(root)? {
        let found = describe(&folder)?;
        let used = UNIX_EPOCH + Duration::from_secs(found.used);
        let idle = SystemTime::now().duration_since(used).unwrap_or_default();
        let least = days.map(|days| DAY.saturating_mul(u32::try_from(days).unwrap_or(u32::MAX)));
        if least.is_some_and(|least| idle < least) {
            continue;
        }
        match remove(&folder) {
            Ok(None) => {
                cleared.removed += 1;
                cleared.bytes += found.bytes;
            }
            Ok(Some(why)) => cleared.kept.push(format!("{}: {why}", folder.display())),
            Err(Error::Argument { what, .. }) => cleared.kept.push(what),
            Err(error) => return Err(error),
        }
    }
    Ok(cleared)
}

/// Removes an entry; says why where it does not.
fn remove(folder: &Path) -> Result<Option<String>> {
    let Some(lock) = Lock::try_take(folder)? else {
        return Ok(Some("another run is using it".to_owned()));
    };
    entry::remove_files(folder)?;
    let path = folder.join(lock::NAME);
    // Elsewhere an open file cannot be removed; where another run waits for the lock, it looks
    // whether the file is still there.
    let lock = if cfg!(unix) {
        Some(lock)
    } else {
        drop(lock);
        None
    };
    fs::remove_file(&path).map_err(Error::io(&path))?;
    drop(lock);
    match fs::remove_dir(folder) {
        // Another run has begun to fill it again.
        Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => Ok(None),
        removed => removed.map(|()| None).map_err(Error::io(folder)),
    }
}

fn describe(folder: &Path) -> Result<CacheEntry> {
    let (mut bytes, mut used) = (0, SystemTime::UNIX_EPOCH);
    for file in fs::read_dir(folder).map_err(Error::io(folder))? {
        // Another run may be replacing it.
        let Ok(metadata) = file.and_then(|file| file.metadata()) else {
            continue;
        };
        bytes += disk::taken(&metadata);
        used = used.max(metadata.modified().unwrap_or(UNIX_EPOCH));
    }
    let name = folder.file_name().unwrap_or_default();
    let mut found = CacheEntry {
        key: name.to_string_lossy().into_owned(),
        model: None,
        data: None,
        engine: None,
        present: 0,
        total: 0,
        bytes,
        used: used
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs(),
        problem: None,
    };
    match Entry::find(folder) {
        Found::Entry(entry) => {
            found.present = entry.count();
            found.total = entry.manifest.samples;
            found.model = entry.manifest.model;
            found.data = Some(entry.manifest.data);
            found.engine = Some(entry.manifest.engine);
        }
        Found::Nothing => found.problem = Some("it was never finished".to_owned()),
        Found::Broken(why) => found.problem = Some(why),
    }
    Ok(found)
}

/// Folders whose names are keys, sorted.
fn folders(root: &Path) -> Result<Vec<PathBuf>> {
    let read = match fs::read_dir(root) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        read => read.map_err(Error::io(root))?,
    };
    let mut folders = Vec::new();
    for entry in read {
        let path = entry.map_err(Error::io(root))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_key = name.len() == KEY_LENGTH && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        if is_key && path.is_dir() {
            folders.push(path);
        }
    }
    folders.sort();
    Ok(folders)
}
