//! The features of a data set, computed by many machines and joined to one cache.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::{
    merge::MergeOptions,
    part::PartReport,
    setup::{self, Setup, SourceOptions},
    watch::Watch,
};
use crate::{
    error::{Error, Result},
    features::{self, CacheChoice},
    shards::{Blocks, Coverage, Dealt, Shard, file::Reader, parts},
};

/// Schema of the [`PartReport`] of features.
const PART_SCHEMA: &str = "onnx-prune/features-part/v1";

/// Schema of [`MergedReport`].
const SCHEMA: &str = "onnx-prune/merged-features/v1";

/// What a shard of features can be told.
#[derive(Clone, Debug)]
pub struct FeaturesPartOptions {
    /// The model.
    pub input: PathBuf,
    /// Data and engine; all samples are taken, and nothing is cached.
    pub source: SourceOptions,
    /// Which part.
    pub shard: Shard,
    /// The folder of the parts; made where it is missing.
    pub folder: PathBuf,
    /// Whether a part of another run is replaced.
    pub replace: bool,
}

/// Features that were merged.
#[derive(Clone, Debug, Serialize)]
pub struct MergedReport {
    /// Name and version of this layout.
    pub schema: &'static str,
    /// The entry of the cache.
    pub folder: PathBuf,
    /// Samples whose features are there.
    pub samples: usize,
    /// Bytes of all of them.
    pub bytes: u64,
    /// How much of the data set that is, where parts are missing.
    pub coverage: Option<Coverage>,
}

/// What parts hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartKind {
    /// Sums that scores are made from.
    Scores,
    /// Features of samples.
    Features,
}

/// What the parts in a folder hold, as the first of them has it.
///
/// # Errors
/// [`Error::Argument`] where there are none; [`Error::Format`] where it is none.
pub fn part_kind(folder: &Path) -> Result<PartKind> {
    let first = parts::in_folder(folder)?.into_iter().next();
    let reader = Reader::open(&first.unwrap_or_default())?;
    Ok(match features::is_part(&reader) {
        true => PartKind::Features,
        false => PartKind::Scores,
    })
}

/// Runs the trunk over one shard of the samples and writes the part. A valid part of the same run
/// that is there already is all that is needed.
///
/// # Errors
/// [`Error::Argument`] where the part of another run lies in the way; every other [`Error`].
pub fn features_part(options: &FeaturesPartOptions, watch: &dyn Watch) -> Result<PartReport> {
    let source = SourceOptions {
        cache: CacheChoice::Off,
        ..options.source.clone()
    };
    if source.data.is_none() {
        return Err(Error::Argument {
            name: "--data",
            what: "features of synthetic noise are of no use; name real samples".to_owned(),
        });
    }
    let model = setup::load(&options.input)?;
    let mut setup = Setup::new(&model, &source, watch)?;
    let head = setup.find_head(false, watch)?;
    let blocks = Blocks::new(setup.dataset.len(), setup.batch_size()?);
    let dealt = Dealt::new(options.shard, blocks);
    let indices: Vec<usize> = dealt.samples().collect();
    let extraction = setup.extraction(&head, &setup.dataset, &indices)?;
    fs::create_dir_all(&options.folder).map_err(Error::io(&options.folder))?;
    let path = options.folder.join(parts::file_name(options.shard));
    let on = &mut |event: features::Event<'_>| setup::tell(watch, "running the trunk", event);
    let written = features::write_part(extraction, &dealt, &path, options.replace, on);
    let written = written.map_err(|error| setup.with_fitting(error, extraction.batch))?;
    if !written {
        watch.note(&format!("{} is there already", path.display()));
    }
    PartReport::new(PART_SCHEMA, path, dealt, !written, &setup, watch)
}

/// Joins the parts in a folder to the cache in the folder `root`.
///
/// # Errors
/// As [`features::merge_parts`].
pub fn merge_features(
    options: &MergeOptions,
    root: &Path,
    watch: &dyn Watch,
) -> Result<MergedReport> {
    let paths = parts::in_folder(&options.folder)?;
    let readers = paths.iter().map(|path| Reader::open(path));
    let readers = readers.collect::<Result<_>>()?;
    let on = &mut |event: features::Event<'_>| setup::tell(watch, "merging", event);
    let found = features::merge_parts(readers, root, options.allow_missing, on)?;
    Ok(MergedReport {
        schema: SCHEMA,
        bytes: found.row_bytes.saturating_mul(found.samples as u64),
        folder: found.folder,
        samples: found.samples,
        coverage: found.coverage,
    })
}
