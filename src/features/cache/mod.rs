//! Features that were computed before, in this run or an earlier one.
//!
//! On disk there is one folder per [`key::Key`], an [`entry::Entry`]; [`disk`] reads what is there,
//! computes what is missing and adds it. Without a folder, and where it cannot be used, [`memory`]
//! does the same for the time of the run.

mod disk;
mod entry;
mod key;
mod list;
mod lock;
mod manifest;
mod memory;
mod npy;
mod part;
mod sums;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod writer;

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use super::{
    Extraction, FeatureSet,
    extract::{Event, Listener},
};
use crate::error::{Error, Result};
use disk::Disk;
use key::Key;
pub use list::{CacheEntry, Cleared};
use memory::Memory;
pub use part::{MergedFeatures, is_part, merge_parts, write_part};

/// Names the folder in place of the user's cache folder.
const VARIABLE: &str = "ONNX_PRUNE_CACHE";

/// Where features are kept between runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CacheChoice {
    /// In `$ONNX_PRUNE_CACHE`, else in the user's own folder for such things; in memory where that
    /// is not possible.
    #[default]
    Default,
    /// In this folder; it is an error if it cannot be used.
    At(PathBuf),
    /// Nowhere; within a run they are held in memory.
    Off,
}

/// Features that were computed before, in this run or an earlier one.
#[derive(Debug)]
pub struct Cache {
    disk: Option<Disk>,
    state: Mutex<State>,
    sizes: Sizes,
}

#[derive(Debug, Default)]
struct State {
    /// What is held in memory alone.
    memory: BTreeMap<Key, Memory>,
    /// Of which it was said that they come from the disk.
    told: BTreeSet<Key>,
}

/// Bounds, which tests set lower.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    /// Bytes after which rows are made to last.
    block_bytes: u64,
    /// Most bytes of features that are computed into memory.
    most_in_memory: u64,
    /// Most bytes of an entry that are read into memory when it is opened; more are read as they are
    /// asked for.
    most_loaded: u64,
    /// Free bytes on the disk, in place of what the system says.
    free: Option<u64>,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            // A second or so of a slow disk.
            block_bytes: 64 << 20,
            most_in_memory: memory::MOST_BYTES,
            // 60,000 images with 3136 features each take 753 MB.
            most_loaded: 1 << 30,
            free: None,
        }
    }
}

impl Cache {
    /// Opens the cache. Nothing is made before there is something to keep.
    ///
    /// # Errors
    /// [`Error::Argument`] where the named folder is no folder.
    pub fn open(choice: &CacheChoice) -> Result<Self> {
        let disk = |root: &Path, asked| Disk {
            root: root.to_owned(),
            asked,
            sizes: Sizes::default(),
        };
        let disk = match choice {
            CacheChoice::Off => None,
            CacheChoice::Default => default_folder().map(|root| disk(&root, false)),
            CacheChoice::At(root) if root.exists() && !root.is_dir() => {
                return Err(Error::Argument {
                    name: "--cache",
                    what: format!("{} is no folder", root.display()),
                });
            }
            CacheChoice::At(root) => Some(disk(root, true)),
        };
        Ok(Self {
            disk,
            state: Mutex::default(),
            sizes: Sizes::default(),
        })
    }

    /// The folder of the entries, if there is to be one.
    pub fn folder(&self) -> Option<&Path> {
        self.disk.as_ref().map(|disk| disk.root.as_path())
    }

    /// What it holds, by key; nothing where there is no folder yet.
    ///
    /// # Errors
    /// [`Error::Io`] where the folder cannot be read.
    pub fn entries(&self) -> Result<Vec<CacheEntry>> {
        self.folder().map_or(Ok(Vec::new()), list::entries)
    }

    /// Removes all entries, or those that were not used for `days`. What another run is writing to,
    /// and folders that are no entries, stay.
    ///
    /// # Errors
    /// [`Error::Io`] where a folder cannot be read, or a file not be removed.
    pub fn clear(&self, days: Option<u64>) -> Result<Cleared> {
        let cleared = self.folder().map(|root| list::clear(root, days));
        cleared.unwrap_or_else(|| Ok(Cleared::default()))
    }

    pub(super) fn features(
        &self,
        extraction: Extraction<'_>,
        on: &mut Listener<'_>,
    ) -> Result<FeatureSet> {
        let key = Key::of(&extraction)?;
        // One extraction at a time; what others find done is read in a moment.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { memory, told } = &mut *state;
        if let Some(disk) = &self.disk
            && !memory.contains_key(&key)
        {
            let first = told.insert(key.clone());
            let found = disk.features(&key, extraction, &mut |event| match event {
                Event::Reused { .. } if !first => Ok(()),
                event => on(event),
            })?;
            if let Some(found) = found {
                return Ok(found);
            }
        }
        let most = self.sizes.most_in_memory;
        memory
            .entry(key)
            .or_default()
            .features(extraction, most, on)
    }
}

/// Where caches lie on this system, below the user's home.
fn default_folder() -> Option<PathBuf> {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
    if let Some(named) = set(VARIABLE) {
        return Some(named.into());
    }
    let home = || set("HOME").map(PathBuf::from);
    let base = if cfg!(windows) {
        set("LOCALAPPDATA").map(PathBuf::from)
    } else if cfg!(target_os = "macos") {
        home().map(|home| home.join("Library/Caches"))
    } else {
        let named = set("XDG_CACHE_HOME").map(PathBuf::from);
        // The specification has relative paths ignored.
        let named = named.filter(|path| path.is_absolute());
        named.or_else(|| home().map(|home| home.join(".cache")))
    };
    base.map(|base| base.join("onnx-prune").join("features"))
}
