//! One run at a time writes to an entry.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    path::Path,
    thread,
    time::{Duration, SystemTime},
};

use crate::{
    error::{Error, Result},
    features::extract::{Event, Listener},
};

/// Its name in the folder of an entry; the time at which it was changed is when the entry was last
/// used.
pub(super) const NAME: &str = "lock";

/// How often a lock that another run holds is tried, and Ctrl-C looked for.
const RETRY: Duration = Duration::from_millis(50);

/// Held as long as it lives; the system frees it when the process ends, however it ends.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Makes the folder where it is missing, and waits for runs that write to it.
    ///
    /// # Errors
    /// [`Error::Io`] where the folder cannot be made or written, or its file system has no locks;
    /// whatever `on` gives while this waits.
    pub(super) fn take(folder: &Path, on: &mut Listener<'_>) -> Result<Self> {
        let mut said = false;
        loop {
            fs::create_dir_all(folder).map_err(Error::io(folder))?;
            if let Some(lock) = Self::try_take(folder)? {
                return Ok(lock);
            }
            if !said {
                on(Event::Note(
                    "waiting for another run that computes the same features",
                ))?;
                said = true;
            }
            // Hears whether the run is to end.
            on(Event::Rows(0))?;
            thread::sleep(RETRY);
        }
    }

    /// Takes the lock of a folder that is there, unless another run holds it.
    ///
    /// # Errors
    /// As [`Lock::take`].
    pub(super) fn try_take(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(NAME);
        let file = open(&path).map_err(Error::io(&path))?;
        match file.try_lock() {
            // Another run may have cleared the folder, with this file in it.
            Ok(()) if is_at(&file, &path) => {
                mark_used(&file);
                Ok(Some(Self { _file: file }))
            }
            Ok(()) | Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(Error::io(&path)(error)),
        }
    }
}

/// Notes that an entry was used; it does no harm where that is not possible.
pub(super) fn touch(folder: &Path) {
    if let Ok(file) = open(&folder.join(NAME)) {
        mark_used(&file);
    }
}

fn open(path: &Path) -> std::io::Result<File> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
}

fn mark_used(file: &File) {
    // Only the list of entries shows it.
    let _ = file.set_modified(SystemTime::now());
}

#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (file.metadata(), path.metadata()) {
        (Ok(ours), Ok(there)) => (ours.dev(), ours.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

/// Elsewhere an open file cannot be removed.
#[cfg(not(unix))]
fn is_at(_file: &File, path: &Path) -> bool {
    path.exists()
}
