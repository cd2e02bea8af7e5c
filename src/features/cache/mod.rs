//! Features that were computed before.

mod key;
mod memory;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use super::{Extraction, FeatureSet, extract::Listener};
use crate::error::Result;
use key::Key;
use memory::Memory;

/// Where features are kept between runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CacheChoice {
    /// In the user's own folder for such things.
    #[default]
    Default,
    /// In this folder.
    At(PathBuf),
    /// Nowhere; within a run they are held in memory.
    Off,
}

/// Features that were computed before, in this run or an earlier one.
#[derive(Debug, Default)]
pub struct Cache {
    memory: Mutex<BTreeMap<Key, Memory>>,
}

impl Cache {
    /// Opens the cache; nothing is created before there is something to keep.
    ///
    /// # Errors
    /// None yet.
    pub fn open(_choice: &CacheChoice) -> Result<Self> {
        Ok(Self::default())
    }

    pub(super) fn features(
        &self,
        extraction: Extraction<'_>,
        on: &mut Listener<'_>,
    ) -> Result<FeatureSet> {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let key = Key::of(&extraction)?;
        memory.entry(key).or_default().features(extraction, on)
    }
}
