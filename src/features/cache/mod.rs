//! Features that were computed before.

mod memory;

use std::{
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use super::{Extraction, FeatureSet, extract::Listener};
use crate::error::Result;
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
    memory: Mutex<Memory>,
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
        memory.features(extraction, on)
    }
}
