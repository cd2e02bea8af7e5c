//! Preprocessing that the model's authors wrote down: Hugging Face and timm configuration files.

use std::path::{Path, PathBuf};

use super::preprocess::Preprocess;
use crate::error::{Error, Result};

pub(super) fn read(path: &Path) -> Result<Preprocess> {
    Err(Error::Data {
        path: path.to_owned(),
        what: "configuration files are not read yet".to_owned(),
    })
}

pub(super) fn beside(model: &Path) -> Result<Option<Preprocess>> {
    let _folders: Vec<PathBuf> = model.parent().map(Path::to_owned).into_iter().collect();
    Ok(None)
}
