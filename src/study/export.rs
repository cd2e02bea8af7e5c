//! The recommended models, made by `prune` and proved like any output.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{StudyOptions, choice::Wanted, model::trained};
use crate::{
    error::{Error, Result},
    onnx::Overwrite,
    pipeline::{self, PruneOptions, Watch},
    prune::{Budget, Keep},
    repair::Repair,
};

/// Folder of the models within that of the study.
const FOLDER: &str = "best";

/// A recommended model that was written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Exported {
    /// Its file, within the folder of the study.
    pub path: PathBuf,
    /// Size of the file.
    pub bytes: u64,
    /// Whether it was proved; there is no file otherwise.
    pub passed: bool,
}

/// Writes one cell's model.
pub(super) fn export(
    options: &StudyOptions,
    (input, name): (&Path, &str),
    wanted: &Wanted,
    (keep, repair): (f64, Repair),
    watch: &dyn Watch,
) -> Result<Exported> {
    let folder = options.output.join(FOLDER);
    fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
    let path = Path::new(FOLDER).join(format!("{}.onnx", name.replace(['/', '\\'], "-")));
    let mut prune = PruneOptions::new(input, options.output.join(&path));
    prune.overwrite = Overwrite::Replace;
    prune.source = options.source.clone();
    prune.score = wanted.options();
    prune.of = options.of.filter(|_| wanted.criterion.uses_of());
    prune.budget = Budget::uniform(Keep::Share(keep));
    prune.repair = Some(repair);
    prune.training = trained(options, wanted);
    let found = pipeline::prune(&prune, watch)?;
    Ok(Exported {
        path,
        bytes: found.output.bytes,
        passed: found.passed,
    })
}
