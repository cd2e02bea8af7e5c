//! Reading weights that are stored outside the model file.
//!
//! A model names its data files itself, so a hostile model could name any file of the machine.
//! What is read must be a regular file without a second name, inside the folder of the model or
//! inside the real folder of the model, links followed: the Hugging Face cache keeps
//! `snapshots/<revision>/model.onnx` as a link into `blobs/`, where the data lies too. ONNX
//! Runtime follows the same two-fold rule.

use std::{
    collections::BTreeMap,
    fs::{File, Metadata},
    io,
    ops::Range,
    path::{Component, Path, PathBuf},
};

use bytes::Bytes;

use super::{
    check::at,
    layout::{is_external, layout},
    mapped,
    model::Limits,
    proto::{ModelProto, StringStringEntryProto},
    walk::{Held, stored},
};
use crate::error::{Error, Result, Site};

/// Two pieces of a file with at most this many bytes between them are read as one: exporters pad
/// to page size.
const SMALL_GAP: u64 = 64 * 1024;

/// Where the external data of a model came from.
#[derive(Debug, Default)]
pub(super) struct Sources {
    pub(super) files: Vec<PathBuf>,
    /// Size of these files.
    pub(super) bytes: u64,
}

/// The place of one tensor in a data file.
struct Piece<'t, 'm> {
    held: &'t mut Held<'m>,
    range: Range<u64>,
}

/// Reads the external data of all tensors into their `raw_data`, each file once.
pub(super) fn read(model: &Path, tensors: &mut [Held<'_>], limits: &Limits) -> Result<Sources> {
    let mut files: BTreeMap<PathBuf, Vec<Piece<'_, '_>>> = BTreeMap::new();
    let mut resolved: BTreeMap<String, PathBuf> = BTreeMap::new();
    for held in tensors.iter_mut().filter(|held| is_external(held.tensor)) {
        let (location, range) = reference(held)?;
        let path = match resolved.get(&location) {
            Some(path) => path.clone(),
            None => resolve(model, &location, &held.site)?,
        };
        resolved.insert(location, path.clone());
        files.entry(path).or_default().push(Piece { held, range });
    }
    let mut sources = Sources::default();
    let mut budget = limits.external_bytes;
    for (path, mut pieces) in files {
        sources.bytes += read_file(&path, &mut pieces, limits, &mut budget)?;
        sources.files.push(path);
    }
    Ok(sources)
}

/// The files that a model names and that may be read, as far as their names tell.
pub(super) fn locations(model: &mut ModelProto) -> impl Iterator<Item = String> {
    let tensors = stored(model).into_tensors().into_iter();
    let external = tensors.filter(|held| is_external(held.tensor));
    let named = external.filter_map(|held| {
        let entries = held.tensor.external_data.iter();
        let mut location = entries.filter(|entry| entry.key() == "location");
        location.next().map(|entry| entry.value().to_owned())
    });
    named.filter(|location| check_location(location).is_ok())
}

/// Reads `location`, `offset` and `length`, and compares the length with the tensor's shape.
fn reference(held: &Held<'_>) -> Result<(String, Range<u64>)> {
    let fail = |what: String| Error::Invalid {
        site: held.site.clone(),
        what,
    };
    let layout = layout(held.tensor).map_err(|error| at(error, &held.site))?;
    let needed = layout
        .bytes()
        .ok_or_else(|| fail(format!("{} values cannot be external", layout.dtype)))?;
    let needed = u64::try_from(needed).unwrap_or(u64::MAX);
    if !held.tensor.raw_data().is_empty() {
        return Err(fail("has external data and raw_data at once".to_owned()));
    }
    let (mut location, mut offset, mut length) = (None, 0, needed);
    for entry in &held.tensor.external_data {
        match entry.key() {
            "location" => location = Some(entry.value()),
            "offset" => offset = number(entry).map_err(fail)?,
            "length" => length = number(entry).map_err(fail)?,
            // A hash of the whole file, optional and in no agreed notation.
            "checksum" => {}
            key => return Err(fail(format!("has the unknown external data key {key:?}"))),
        }
    }
    let location = location.ok_or_else(|| fail("has external data without location".to_owned()))?;
    if length != needed {
        return Err(fail(format!(
            "has {length} bytes of external data, but {}{:?} needs {needed}",
            layout.dtype, layout.shape
        )));
    }
    let end = offset
        .checked_add(length)
        .ok_or_else(|| fail(format!("has the external data offset {offset}")))?;
    Ok((location.to_owned(), offset..end))
}

fn number(entry: &StringStringEntryProto) -> Result<u64, String> {
    let value = entry.value();
    value
        .parse()
        .map_err(|error| format!("has the external data {} {value:?}: {error}", entry.key()))
}

/// The file a location means, all links followed, when it may be read.
fn resolve(model: &Path, location: &str, site: &Site) -> Result<PathBuf> {
    let fail = |what: String| Error::Invalid {
        site: site.clone(),
        what: format!("external data location {location:?} {what}"),
    };
    check_location(location).map_err(|what| fail(what.to_owned()))?;
    let folder = match model.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let named = folder.join(location);
    let path = named
        .canonicalize()
        .map_err(|error| missing(&named, &error, site))?;
    let logical = folder.canonicalize().map_err(Error::io(folder))?;
    let real_model = model.canonicalize().map_err(Error::io(model))?;
    let real = real_model.parent().unwrap_or(&logical);
    if !path.starts_with(&logical) && !path.starts_with(real) {
        return Err(fail(format!(
            "leads to {}, outside the model's folder",
            path.display()
        )));
    }
    Ok(path)
}

/// Only plain names below the model's folder, as both Unix and Windows read them.
fn check_location(location: &str) -> Result<(), &'static str> {
    if location.is_empty() {
        return Err("is empty");
    }
    if location.contains(['\\', '\0']) {
        return Err("has a backslash or zero byte");
    }
    if location.as_bytes().get(1) == Some(&b':') {
        return Err("names a drive");
    }
    for component in Path::new(location).components() {
        match component {
            Component::Normal(_) | Component::CurDir => {}
            Component::ParentDir => return Err("goes up with `..`"),
            Component::RootDir | Component::Prefix(_) => return Err("is absolute"),
        }
    }
    Ok(())
}

/// Reads all pieces of one file and hands them to their tensors. Returns the file's size.
fn read_file(
    path: &Path,
    pieces: &mut [Piece<'_, '_>],
    limits: &Limits,
    budget: &mut u64,
) -> Result<u64> {
    let site = pieces.first().map(|piece| piece.held.site.clone());
    let site = site.unwrap_or_else(|| Site::value(""));
    let (mut file, metadata) = open(path, limits, &site)?;
    for piece in pieces.iter() {
        if piece.range.end > metadata.len() {
            return Err(Error::Format {
                path: path.to_owned(),
                what: format!(
                    "{} is stored here in bytes {} to {}, but the file has only {}",
                    piece.held.site,
                    piece.range.start,
                    piece.range.end,
                    metadata.len()
                ),
            });
        }
    }
    pieces.sort_by_key(|piece| (piece.range.start, piece.range.end));
    let spans = spans(pieces.iter().map(|piece| &piece.range));
    let mut rest = pieces;
    for span in spans {
        let length = span.end - span.start;
        *budget = budget.checked_sub(length).ok_or_else(|| Error::Format {
            path: path.to_owned(),
            what: format!(
                "the external data is larger than the limit of {} bytes",
                limits.external_bytes
            ),
        })?;
        let bytes = mapped::bytes(&mut file, metadata.len(), &span).map_err(Error::io(path))?;
        let inside = rest.partition_point(|piece| piece.range.start <= span.end);
        let (here, behind) = rest.split_at_mut(inside);
        for piece in here {
            fill(piece, &bytes, span.start).map_err(Error::io(path))?;
        }
        rest = behind;
    }
    Ok(metadata.len())
}

/// Opens a regular file, and makes sure that it is the one that was looked at.
fn open(path: &Path, limits: &Limits, site: &Site) -> Result<(File, Metadata)> {
    let fail = |what: &str| Error::Format {
        path: path.to_owned(),
        what: format!("external data of {site} {what}"),
    };
    // Asked before opening: opening a pipe would wait for a writer.
    let seen = path
        .symlink_metadata()
        .map_err(|error| missing(path, &error, site))?;
    if !seen.is_file() {
        return Err(fail("is not in a regular file"));
    }
    let file = File::open(path).map_err(|error| missing(path, &error, site))?;
    let metadata = file.metadata().map_err(Error::io(path))?;
    if !metadata.is_file() || !is_same_file(&seen, &metadata) {
        return Err(fail("was replaced while it was being opened"));
    }
    if !limits.hard_links && has_other_names(&metadata) {
        return Err(fail(
            "is in a file with a second hard link, which may lie outside the model's folder; \
             a copy of the file will do",
        ));
    }
    Ok((file, metadata))
}

#[cfg(unix)]
fn is_same_file(seen: &Metadata, opened: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (seen.dev(), seen.ino()) == (opened.dev(), opened.ino())
}

#[cfg(unix)]
fn has_other_names(metadata: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    metadata.nlink() > 1
}

#[cfg(not(unix))]
fn is_same_file(_seen: &Metadata, _opened: &Metadata) -> bool {
    true
}

#[cfg(not(unix))]
fn has_other_names(_metadata: &Metadata) -> bool {
    false
}

fn missing(path: &Path, error: &io::Error, site: &Site) -> Error {
    Error::Io {
        path: path.to_owned(),
        source: io::Error::new(error.kind(), format!("{error} (external data of {site})")),
    }
}

/// Merges sorted ranges that overlap or nearly touch, so that no byte is read twice.
fn spans<'r>(ranges: impl Iterator<Item = &'r Range<u64>>) -> Vec<Range<u64>> {
    let mut spans: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match spans.last_mut() {
            Some(last) if range.start <= last.end.saturating_add(SMALL_GAP) => {
                last.end = last.end.max(range.end);
            }
            _ => spans.push(range.clone()),
        }
    }
    spans
}

fn fill(piece: &mut Piece<'_, '_>, span: &Bytes, span_start: u64) -> io::Result<()> {
    let index = |at: u64| usize::try_from(at - span_start).map_err(io::Error::other);
    let range = index(piece.range.start)?..index(piece.range.end)?;
    let tensor = &mut piece.held.tensor;
    tensor.raw_data = Some(span.slice(range));
    tensor.external_data.clear();
    tensor.data_location = None;
    Ok(())
}

#[cfg(test)]
mod tests;
