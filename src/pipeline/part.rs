//! One shard's part of a scoring run, for [`super::merge`].

use std::{
    fs,
    ops::Range,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{
    parts::DataReport,
    score::{self, Origin, ScoreRunOptions, View},
    setup::{self, Setup},
    stream::Stream,
    watch::Watch,
};
use crate::{
    data::Preprocess,
    engine::EngineInfo,
    error::{Error, Result},
    features::joined,
    sensitivity::{self, Collected, Terms},
    shards::{Dealt, Shard, file::Reader, parts},
};

/// Schema of a part's manifest and of [`PartReport`]; raised whenever a part of the same name means
/// something else.
pub(super) const SCHEMA: &str = "onnx-prune/part/v1";

/// What a shard can be told.
#[derive(Clone, Debug)]
pub struct PartOptions {
    /// What is scored, on what; without a number of samples, on all that are not held out.
    pub run: ScoreRunOptions,
    /// Which part.
    pub shard: Shard,
    /// The folder of the parts; made where it is missing.
    pub folder: PathBuf,
    /// Whether a part of another run is replaced.
    pub replace: bool,
}

/// What a shard did.
#[derive(Clone, Debug, Serialize)]
pub struct PartReport {
    /// Name and version of this layout.
    pub schema: &'static str,
    /// The part.
    pub path: PathBuf,
    /// Which one.
    pub shard: Shard,
    /// Its first block, and the one behind its last.
    pub blocks: Range<usize>,
    /// Its samples.
    pub samples: usize,
    /// Size of the part.
    pub bytes: u64,
    /// Whether the part was there already, so that nothing had to be done.
    pub found: bool,
    /// What computed it.
    pub engine: EngineInfo,
    /// The whole data set.
    pub data: DataReport,
}

/// What a part belongs to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Manifest {
    pub(super) schema: String,
    /// Version of this program.
    pub(super) tool: String,
    pub(super) dealt: Dealt,
    pub(super) terms: Terms,
    pub(super) origin: Origin,
}

impl Manifest {
    /// Reads the manifest of a part.
    ///
    /// # Errors
    /// [`Error::Format`] where it is of another schema, or broken.
    pub(super) fn of(reader: &Reader) -> Result<Self> {
        let text = Collected::manifest(reader)?;
        let found: Self = parts::document(reader.path(), text, SCHEMA)?;
        if !found.dealt.is_sound() {
            return Err(Error::Format {
                path: reader.path().to_owned(),
                what: "has blocks that there are not".to_owned(),
            });
        }
        Ok(found)
    }

    /// In what it does not belong with another part, in words; nothing where it does.
    pub(super) fn differs(&self, other: &Self) -> Option<String> {
        let plain = |manifest: &Self| Preprocess {
            source: String::new(),
            ..manifest.origin.data.preprocess.clone()
        };
        let terms = |manifest: &Self| Terms {
            samples: 0,
            ..manifest.terms.clone()
        };
        let (ours, theirs) = (&self.origin, &other.origin);
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let pairs = [
            (
                "version of onnx-prune",
                self.tool.clone(),
                other.tool.clone(),
            ),
            ("model (SHA-256)", ours.model.clone(), theirs.model.clone()),
            (
                "data (SHA-256)",
                text(&ours.data.fingerprint),
                text(&theirs.data.fingerprint),
            ),
            (
                "choice of bad samples",
                json(&ours.data.skipped),
                json(&theirs.data.skipped),
            ),
            (
                "preprocessing",
                plain(self).to_json(),
                plain(other).to_json(),
            ),
            ("settings", json(&terms(self)), json(&terms(other))),
            ("seed", ours.seed.to_string(), theirs.seed.to_string()),
            (
                "number of samples or batch size",
                json(&self.dealt.blocks),
                json(&other.dealt.blocks),
            ),
        ];
        let mut pairs = pairs.into_iter();
        let (what, ours, theirs) = pairs.find(|(_, ours, theirs)| ours != theirs)?;
        Some(format!("another {what}: {ours} instead of {theirs}"))
    }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|error| error.to_string())
}

/// Adds up one shard of the samples and writes the part. A valid part of the same run that is there
/// already is all that is needed.
///
/// # Errors
/// [`Error::Argument`] for a criterion that needs no samples, and where the part of another run lies
/// in the way; every other [`Error`].
pub fn score_part(options: &PartOptions, watch: &dyn Watch) -> Result<PartReport> {
    let run = &options.run;
    let refuse = |name, what: &str| Error::Argument {
        name,
        what: what.to_owned(),
    };
    if run.source.data.is_none() {
        return Err(refuse(
            "--shard",
            "deals real samples; give some with --data",
        ));
    }
    if !run.score.criterion.needs_samples() {
        let what = format!("criterion {} needs no samples to deal", run.score.criterion);
        return Err(refuse("--shard", &what));
    }
    let model = setup::load(&run.input)?;
    let source = setup::SourceOptions {
        samples: run.source.samples.or(Some(usize::MAX)),
        ..run.source.clone()
    };
    let mut setup = Setup::new(&model, &source, watch)?;
    let head = setup.find_head(false, watch)?;
    let view = View::of(&setup, &head);
    let blocks = score::blocks(&setup, view)?;
    let mut score = score::settled(&setup, blocks, &run.score, run.of);
    score.seed = source.seed;
    let on_ranked = score::ranking(watch);
    let request = score::request(&setup, view, &score, &on_ranked);
    let norms = [(score.norm, score.class_norm())];

    let indices = &setup.shares.calibration;
    let dealt = Dealt::new(options.shard, blocks);
    let samples = dealt.samples();
    let manifest = Manifest {
        schema: SCHEMA.to_owned(),
        tool: env!("CARGO_PKG_VERSION").to_owned(),
        dealt: dealt.clone(),
        terms: Terms::new(request, &norms, samples.len() as u64),
        origin: Origin::new(run, &model, &setup, head.clone())?,
    };
    fs::create_dir_all(&options.folder).map_err(Error::io(&options.folder))?;
    let path = options.folder.join(parts::file_name(options.shard));
    let found = is_there(&path, &manifest, options.replace, watch)?;
    if !found {
        let stream = Stream::new(&setup, &head, &indices[samples.clone()], watch)?;
        let stream = joined(stream, blocks.batch());
        let first = (dealt.own.start, samples.start as u64);
        let collected = sensitivity::collect(request, &norms, first, stream)?;
        watch.stage("writing", None);
        collected.save(&path, &manifest)?;
    }
    PartReport::new(SCHEMA, path, dealt, found, &setup, watch)
}

impl PartReport {
    /// Of a part that is there.
    pub(super) fn new(
        schema: &'static str,
        path: PathBuf,
        dealt: Dealt,
        found: bool,
        setup: &Setup<'_>,
        watch: &dyn Watch,
    ) -> Result<Self> {
        Ok(Self {
            schema,
            bytes: fs::metadata(&path).map_err(Error::io(&path))?.len(),
            path,
            shard: dealt.shard,
            samples: dealt.samples().len(),
            blocks: dealt.own,
            found,
            engine: setup.engine_used(watch),
            data: DataReport::new(setup, &setup.dataset)?,
        })
    }
}

/// Whether the part lies there, whole and of the same run.
fn is_there(path: &Path, manifest: &Manifest, replace: bool, watch: &dyn Watch) -> Result<bool> {
    if !path.exists() {
        return Ok(false);
    }
    let found = Reader::open(path).and_then(|mut reader| {
        let found = Manifest::of(&reader)?;
        reader.verify()?;
        Ok(found)
    });
    match found {
        Ok(found) => match manifest.differs(&found) {
            None if manifest.dealt.own == found.dealt.own => {
                watch.note(&format!("{} is there already", path.display()));
                Ok(true)
            }
            _ if replace => Ok(false),
            why => Err(Error::Argument {
                name: "--output",
                what: format!(
                    "{} is a part of another run ({}); --force replaces it",
                    path.display(),
                    why.unwrap_or_else(|| "other blocks".to_owned())
                ),
            }),
        },
        Err(Error::Format { what, .. }) => {
            watch.note(&format!("{} is made anew: it {what}", path.display()));
            Ok(false)
        }
        Err(error) => Err(error),
    }
}
