//! Parts of a run, joined to what one process would have found.

use std::path::{Path, PathBuf};

use super::{
    part::Manifest,
    score::{self, ScoreReport},
    setup,
    watch::Watch,
};
use crate::{
    error::{Error, Result},
    sensitivity::{self, Collected, Terms},
    shards::{Dealt, file::Reader, parts},
};

/// What a merge can be told.
#[derive(Clone, Debug)]
pub struct MergeOptions {
    /// The folder of the parts.
    pub folder: PathBuf,
    /// Whether some may be missing; the report says how much then.
    pub allow_missing: bool,
}

struct Part {
    reader: Reader,
    manifest: Manifest,
}

/// The scores that one process finds on all samples, bit for bit.
///
/// Parts are read one after the other, so that no more than their joined sums is held.
///
/// # Errors
/// [`Error::Argument`] where parts are missing, twice there, or do not belong together;
/// [`Error::Format`] for one that is broken or of another schema; those of ranking.
pub fn merge_scores(options: &MergeOptions, watch: &dyn Watch) -> Result<ScoreReport> {
    let mut parts = Vec::new();
    for path in parts::in_folder(&options.folder)? {
        let reader = Reader::open(&path)?;
        let manifest = Manifest::of(&reader)?;
        parts.push(Part { reader, manifest });
    }
    parts.sort_by_key(|part| {
        let own = &part.manifest.dealt.own;
        (own.start, own.end)
    });
    belong_together(&parts)?;
    let dealt = parts
        .iter()
        .map(|part| (part.reader.path(), &part.manifest.dealt));
    let dealt: Vec<(&Path, &Dealt)> = dealt.collect();
    let coverage = parts::coverage(&dealt, options.allow_missing)?;
    let mut parts = parts.into_iter();
    let Some(first) = parts.next() else {
        return Err(refuse("there are no parts".to_owned()));
    };
    let Manifest { terms, origin, .. } = first.manifest.clone();
    watch.stage("merging", Some(parts.len() as u64 + 1));
    let mut collected = Collected::default();
    for Part { mut reader, .. } in std::iter::once(first).chain(parts) {
        reader.verify()?;
        collected.join(&mut reader, &terms)?;
        setup::still_wanted(watch)?;
        watch.step(1);
    }
    let terms = Terms {
        samples: collected.samples(),
        ..terms
    };
    let mut scored = sensitivity::conclude(&terms, collected, &score::ranking(watch))?;
    let scored = scored
        .pop()
        .ok_or_else(|| refuse("there are no scores".to_owned()))?;
    if let Some(way) = &scored.report.way {
        watch.detail(&format!("derivatives {way}"));
    }
    scored.report.notes.iter().for_each(|note| watch.note(note));
    Ok(origin.report(scored, coverage))
}

fn refuse(what: String) -> Error {
    Error::Argument { name: "DIR", what }
}

fn belong_together(parts: &[Part]) -> Result<()> {
    let Some(first) = parts.first() else {
        return Ok(());
    };
    for part in parts {
        if let Some(why) = part.manifest.differs(&first.manifest) {
            return Err(refuse(format!(
                "{} does not belong with {}: it is of {why}",
                part.reader.path().display(),
                first.reader.path().display()
            )));
        }
    }
    Ok(())
}
