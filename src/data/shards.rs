//! Data sets in several files: a folder of them, or a path with braces, `train-{0000..0009}.tar`.
//!
//! Files of a folder are taken in the order of their names. Where they belong to several parts (`train-0.tar`,
//! `test-0.tar`), one has to be named: `folder#train`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::folder::entries;
use crate::error::{Error, Result};

/// Most files of one data set, so that a mistyped range ends.
const MOST_SHARDS: usize = 100_000;
/// Parts that are usually kept in files of their own.
const PARTS: [&str; 8] = [
    "train",
    "training",
    "val",
    "valid",
    "validation",
    "dev",
    "test",
    "testing",
];

/// Path and part of `data#train`; a file or folder that is really called so has none.
pub(super) fn split_part(path: &Path) -> (PathBuf, Option<String>) {
    let text = path.to_str().unwrap_or_default();
    match text.rsplit_once('#') {
        Some((place, part)) if !path.exists() && !part.contains('/') => {
            (PathBuf::from(place), Some(part.to_owned()))
        }
        _ => (path.to_owned(), None),
    }
}

/// Whether a folder, or a path with braces, means files that `is_shard` knows by their names.
pub(super) fn any(path: &Path, is_shard: fn(&Path) -> bool) -> bool {
    match path.is_dir() {
        true => inside(path, is_shard).is_ok_and(|found| !found.is_empty()),
        false => expand(path).is_ok_and(|found| found.len() > 1 && is_shard(&found[0])),
    }
}

/// The files that `path` means: itself, those that braces name, or those of a folder that `is_shard` knows.
pub(super) fn find(
    path: &Path,
    part: Option<&str>,
    is_shard: fn(&Path) -> bool,
) -> Result<Vec<PathBuf>> {
    if path.is_dir() {
        return of_one_part(path, part, inside(path, is_shard)?);
    }
    match part {
        Some(part) => Err(Error::Data {
            path: path.to_owned(),
            what: format!("is no folder of parts such as {part:?}"),
        }),
        None if path.is_file() => Ok(vec![path.to_owned()]),
        None => expand(path),
    }
}

fn inside(folder: &Path, is_shard: fn(&Path) -> bool) -> Result<Vec<PathBuf>> {
    let files = entries(folder)?.into_iter().map(|entry| entry.path());
    Ok(files
        .filter(|file| is_shard(file) && file.is_file())
        .collect())
}

/// The files of one part, where there are several.
fn of_one_part(path: &Path, part: Option<&str>, shards: Vec<PathBuf>) -> Result<Vec<PathBuf>> {
    let there: BTreeSet<&str> = shards.iter().filter_map(|file| part_of(file)).collect();
    let list = || there.iter().copied().collect::<Vec<_>>().join(", ");
    let refuse = |what: String| {
        Err(Error::Data {
            path: path.to_owned(),
            what,
        })
    };
    match part {
        Some(part) if there.contains(part) => {
            let is_of = |file: &PathBuf| part_of(file) == Some(part);
            Ok(shards.into_iter().filter(is_of).collect())
        }
        Some(part) => refuse(format!("has no part {part:?}; it has: {}", list())),
        None if there.len() > 1 => refuse(format!(
            "holds the parts {}; name one, as in {}#{}",
            list(),
            path.display(),
            there.first().unwrap_or(&"train")
        )),
        None => Ok(shards),
    }
}

/// What the name of a file begins with, if it is the usual name of a part.
fn part_of(file: &Path) -> Option<&str> {
    let name = file.file_name()?.to_str()?;
    let word = name.split(['-', '_', '.']).next()?;
    PARTS.contains(&word).then_some(word)
}

/// Where braces stand, the paths they mean: `{a,b}` lists, `{00..12}` counts, as in a shell.
pub(super) fn expand(path: &Path) -> Result<Vec<PathBuf>> {
    let refuse = |what: &str| Error::Data {
        path: path.to_owned(),
        what: what.to_owned(),
    };
    let text = path.to_str();
    let mut open = vec![text.ok_or_else(|| refuse("is not UTF-8"))?.to_owned()];
    let mut done = vec![];
    while let Some(text) = open.pop() {
        let braces = text.find('{').and_then(|from| {
            let to = from + text[from..].find('}')?;
            Some((from, to))
        });
        let Some((from, to)) = braces else {
            done.push(PathBuf::from(text));
            continue;
        };
        let words = words(&text[from + 1..to]);
        let words = words.ok_or_else(|| refuse("has braces that are no list and no range"))?;
        if words.len() + open.len() + done.len() > MOST_SHARDS {
            return Err(refuse("means more than 100,000 files"));
        }
        // The last is taken first.
        let replaced = words.iter().rev();
        open.extend(replaced.map(|word| format!("{}{word}{}", &text[..from], &text[to + 1..])));
    }
    Ok(done)
}

fn words(inside: &str) -> Option<Vec<String>> {
    if let Some((first, last)) = inside.split_once("..") {
        let (from, to): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
        let many = to.checked_sub(from)? >= MOST_SHARDS as u64;
        // One more than is allowed, so that the caller refuses it.
        let to = if many {
            from.saturating_add(MOST_SHARDS as u64)
        } else {
            to
        };
        let width = if first.starts_with('0') {
            first.len()
        } else {
            0
        };
        return Some(
            (from..=to)
                .map(|number| format!("{number:0width$}"))
                .collect(),
        );
    }
    let words: Vec<String> = inside.split(',').map(str::to_owned).collect();
    (words.len() > 1).then_some(words)
}

/// `in 12 archives`, where there are several.
pub(super) fn shard_note(count: usize, what: &str) -> String {
    match count {
        1 => format!("in one {what}"),
        _ => format!("in {count} {what}s"),
    }
}

#[cfg(test)]
mod tests;
