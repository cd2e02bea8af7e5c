//! A folder of parts: what they are called, and whether they are all there.

use std::{
    fs,
    ops::Range,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{Blocks, Shard};
use crate::error::{Error, Result};

const PREFIX: &str = "part-";
const SUFFIX: &str = ".safetensors";

/// Most blocks, and shards, that an error names.
const NAMED: usize = 5;

/// Which blocks a part holds, of which.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dealt {
    /// Which part it is.
    pub shard: Shard,
    /// How all samples were dealt.
    pub blocks: Blocks,
    /// The blocks of this part.
    pub own: Range<usize>,
}

/// How much of what was dealt is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coverage {
    /// Blocks that are there, and all.
    pub blocks: [usize; 2],
    /// Samples that are there, and all.
    pub samples: [usize; 2],
}

/// What the text of the file at `path` holds, which has to be of this schema.
///
/// # Errors
/// [`Error::Format`] where it is of another schema, or broken.
pub fn document<D: DeserializeOwned>(path: &Path, text: Value, schema: &str) -> Result<D> {
    let broken = |what: String| Error::Format {
        path: path.to_owned(),
        what,
    };
    match text.get("schema").and_then(Value::as_str) {
        Some(found) if found == schema => {}
        Some(found) => {
            return Err(broken(format!(
                "is of schema {found:?}; onnx-prune {} reads {schema:?}: use the version that wrote it",
                env!("CARGO_PKG_VERSION")
            )));
        }
        None => return Err(broken(format!("names no schema, where {schema:?} is read"))),
    }
    let found = serde_json::from_value(text);
    found.map_err(|error| broken(format!("is broken: {error}")))
}

impl Dealt {
    /// The blocks of a shard.
    pub fn new(shard: Shard, blocks: Blocks) -> Self {
        Self {
            shard,
            blocks,
            own: blocks.of_shard(shard),
        }
    }

    /// The samples of the part, by their place among all.
    pub fn samples(&self) -> Range<usize> {
        self.blocks.samples_of(self.own.clone())
    }

    /// Whether the blocks are such as there are.
    pub fn is_sound(&self) -> bool {
        self.blocks.is_sound()
            && self.own.start <= self.own.end
            && self.own.end <= self.blocks.count()
    }
}

/// The file of a shard: names sort in the order of the samples.
pub fn file_name(shard: Shard) -> String {
    format!(
        "{PREFIX}{:05}-of-{:05}{SUFFIX}",
        shard.index(),
        shard.count()
    )
}

/// The parts in a folder, by name.
///
/// # Errors
/// [`Error::Argument`] where there are none; [`Error::Io`].
pub fn in_folder(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::io(folder))? {
        let path = entry.map_err(Error::io(folder))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with(PREFIX) && name.ends_with(SUFFIX) {
            found.push(path);
        }
    }
    found.sort();
    if found.is_empty() {
        return Err(refuse(format!(
            "{} holds no parts ({PREFIX}*{SUFFIX}); `score --shard` and `features --shard` write them",
            folder.display()
        )));
    }
    Ok(found)
}

/// Whether parts that belong together, sorted by [`Dealt::own`], make up a whole: nothing where they
/// do, and how much there is where some may be missing.
///
/// # Errors
/// [`Error::Argument`] for a block that is there twice, and for missing ones unless `allow_missing`.
pub fn coverage(parts: &[(&Path, &Dealt)], allow_missing: bool) -> Result<Option<Coverage>> {
    let Some((_, first)) = parts.first() else {
        return Ok(None);
    };
    let parts = parts.iter().filter(|(_, dealt)| !dealt.own.is_empty());
    let parts: Vec<_> = parts.copied().collect();
    for pair in parts.windows(2) {
        let [(one, before), (other, behind)] = [pair[0], pair[1]];
        if before.own.end > behind.own.start {
            return Err(refuse(format!(
                "{} and {} both hold block {}; remove one of them",
                one.display(),
                other.display(),
                behind.own.start
            )));
        }
    }
    let blocks = first.blocks;
    let missing = missing(&parts, blocks.count());
    let count: usize = missing.iter().map(ExactSizeIterator::len).sum();
    if count == 0 {
        return Ok(None);
    }
    if !allow_missing {
        let there = parts.iter().map(|(_, dealt)| dealt.shard);
        let shards = absent(first.shard.count(), &there.collect::<Vec<_>>());
        return Err(refuse(format!(
            "{count} of {} blocks are missing (counted from 0: {}){shards}, or leave them out with --allow-missing",
            blocks.count(),
            named(&missing)
        )));
    }
    let samples = missing
        .into_iter()
        .map(|range| blocks.samples_of(range).len());
    let samples: usize = samples.sum();
    Ok(Some(Coverage {
        blocks: [blocks.count() - count, blocks.count()],
        samples: [blocks.samples() - samples, blocks.samples()],
    }))
}

/// Blocks that no part holds.
fn missing(parts: &[(&Path, &Dealt)], count: usize) -> Vec<Range<usize>> {
    let starts = parts
        .iter()
        .map(|(_, dealt)| dealt.own.start)
        .chain([count]);
    let ends = [0]
        .into_iter()
        .chain(parts.iter().map(|(_, dealt)| dealt.own.end));
    let gaps = ends.zip(starts).map(|(end, start)| end..start);
    gaps.filter(|gap| !gap.is_empty()).collect()
}

fn named(missing: &[Range<usize>]) -> String {
    let ranges = missing.iter().take(NAMED).map(|range| match range.len() {
        1 => range.start.to_string(),
        _ => format!("{} to {}", range.start, range.end - 1),
    });
    let more = (missing.len() > NAMED).then(|| "...".to_owned());
    ranges.chain(more).collect::<Vec<_>>().join(", ")
}

/// The shards that would fill the gaps, where all parts are of the same number of them.
fn absent(count: usize, there: &[Shard]) -> String {
    if there.iter().any(|shard| shard.count() != count) {
        return String::new();
    }
    let absent = (0..count).filter(|&index| there.iter().all(|shard| shard.index() != index));
    let absent = absent
        .take(NAMED)
        .map(|index| format!("--shard {index}/{count}"));
    format!(": run {} again", absent.collect::<Vec<_>>().join(", "))
}

fn refuse(what: String) -> Error {
    Error::Argument { name: "DIR", what }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parts of five blocks of 1,024 samples, the last one shorter.
    fn found(
        parts: &[(usize, usize, Range<usize>)],
        allow_missing: bool,
    ) -> Result<Option<Coverage>> {
        let parts = parts.iter().map(|(index, count, own)| Dealt {
            shard: Shard::new(*index, *count).unwrap(),
            blocks: Blocks::new(4099, 32),
            own: own.clone(),
        });
        let parts: Vec<(PathBuf, Dealt)> = parts
            .map(|dealt| (file_name(dealt.shard).into(), dealt))
            .collect();
        let parts: Vec<(&Path, &Dealt)> = parts
            .iter()
            .map(|(path, dealt)| (path.as_path(), dealt))
            .collect();
        coverage(&parts, allow_missing)
    }

    #[test]
    fn gaps_and_doubles_are_found() {
        type Parts<'p> = &'p [(usize, usize, Range<usize>)];
        let cases: [(Parts<'_>, &str); 6] = [
            (&[(0, 1, 0..5)], ""),
            (&[(0, 2, 0..2), (1, 2, 2..5)], ""),
            // a shard without blocks is neither in the way nor missing
            (&[(0, 6, 0..0), (1, 6, 0..5)], ""),
            (
                &[(0, 3, 0..1), (2, 3, 3..5)],
                "2 of 5 blocks are missing (counted from 0: 1 to 2): run --shard 1/3 again",
            ),
            (
                &[(1, 2, 2..4)],
                "3 of 5 blocks are missing (counted from 0: 0 to 1, 4): run --shard 0/2 again",
            ),
            (
                &[(0, 2, 0..3), (1, 3, 2..5)],
                "part-00000-of-00002.safetensors and part-00001-of-00003.safetensors both hold block 2",
            ),
        ];
        for (parts, expected) in cases {
            match found(parts, false) {
                Ok(whole) => assert_eq!((whole, expected), (None, "")),
                Err(error) => {
                    let text = error.to_string();
                    assert!(!expected.is_empty() && text.contains(expected), "{text}");
                }
            }
        }
        let some = found(&[(0, 2, 0..2)], true).unwrap().unwrap();
        assert_eq!((some.blocks, some.samples), ([2, 5], [2048, 4099]));
        assert_eq!(found(&[(0, 1, 0..5)], true).unwrap(), None);
    }
}
