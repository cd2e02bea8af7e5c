//! numpy's `.npz`: a zip of `.npy` members.
//!
//! Only the member with the samples and the one with the labels are inflated, as a stream, and never to disk. What a
//! member may inflate to is bounded by what the zip directory declares, what its `.npy` header declares, and a limit.

use std::fs::File;
use std::io::{self, BufReader, Read as _};
use std::path::Path;

use zip::ZipArchive;
use zip::result::ZipError;

use super::array::Header;
use super::dataset::{DataLimits, DataOptions};
use super::npy;
use super::problem::{Problem, Read, readable_bytes};
use super::readers::{ArraySource, Opened, at, magic, open_file};
use super::rows::Rows;
use crate::error::Result;

/// Names of the samples, tried after the model's input name.
const IMAGES: [&str; 4] = ["images", "x", "data", "x_test"];
/// Names of the labels.
const LABELS: [&str; 6] = ["labels", "label", "y", "targets", "target", "y_test"];

pub(super) fn accepts(path: &Path) -> bool {
    magic::<4>(path) == b"PK\x03\x04"
        || (path.is_file() && path.extension().is_some_and(|end| end == "npz"))
}

pub(super) fn open(path: &Path, options: &DataOptions) -> Result<Opened> {
    let (file, _) = open_file(path)?;
    let source = prepare(file, options).map_err(at(path))?;
    ArraySource {
        files: vec![path.to_owned()],
        ..source
    }
    .open(path, options)
}

fn prepare(file: File, options: &DataOptions) -> Read<ArraySource<'static>> {
    let limits = options.limits;
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(zip_problem)?;
    let keys = keys(&archive)?;
    let images = find_images(&keys, &options.input_name)?;
    let label_key = LABELS
        .iter()
        .find(|name| keys.iter().any(|key| key == *name));
    let label_key = label_key.filter(|name| **name != images);
    let labels = match label_key {
        Some(&name) => {
            let read = member(&mut archive, name, limits, |mut reader, header| {
                npy::labels(&mut reader, &header, limits.held_bytes)
            })?;
            Some((name.to_owned(), read))
        }
        None => None,
    };
    let header = member(&mut archive, &images, limits, |_, header| Ok(header))?;
    let notes = match label_key {
        Some(name) => vec![format!("samples from {images:?}, labels from {name:?}")],
        None => vec![format!("samples from {images:?}, no labels")],
    };
    Ok(ArraySource {
        header,
        labels,
        class_names: None,
        files: vec![],
        notes,
        rows: Box::new(move |_, chosen| {
            member(&mut archive, &images, limits, |mut reader, header| {
                Rows::from_stream(&mut reader, header, chosen, limits.held_bytes)
            })
        }),
    })
}

/// Member names without `.npy`, in the archive's order.
fn keys<R: io::Read + io::Seek>(archive: &ZipArchive<R>) -> Read<Vec<String>> {
    let mut keys = vec![];
    for name in archive.file_names() {
        let name = name.map_err(zip_problem)?;
        keys.push(name.strip_suffix(".npy").unwrap_or(&name).to_owned());
    }
    Ok(keys)
}

/// The model's input name, then the usual names, then the only array that is not labels.
fn find_images(keys: &[String], input_name: &str) -> Read<String> {
    let named = std::iter::once(input_name).chain(IMAGES);
    for name in named {
        if keys.iter().any(|key| key == name) {
            return Ok(name.to_owned());
        }
    }
    let mut rest = keys.iter().filter(|key| !LABELS.contains(&key.as_str()));
    match (rest.next(), rest.next()) {
        (Some(only), None) => Ok(only.clone()),
        _ => Err(format!("holds {keys:?}; expected the samples under {input_name:?} or \"images\", labels under \"labels\"").into()),
    }
}

/// Inflates one member up to what `read` takes from it.
fn member<R: io::Read + io::Seek, T>(
    archive: &mut ZipArchive<R>,
    key: &str,
    limits: DataLimits,
    read: impl FnOnce(&mut dyn io::Read, Header) -> Read<T>,
) -> Read<T> {
    let name = [format!("{key}.npy"), key.to_owned()]
        .into_iter()
        .find(|name| archive.index_for_name(name).is_some())
        .ok_or_else(|| format!("has no member {key:?}"))?;
    let file = archive.by_name(&name).map_err(zip_problem)?;
    let declared = file.size();
    if declared > limits.inflated_bytes {
        return Err(format!(
            "{name} inflates to {}, the limit is {}",
            readable_bytes(declared),
            readable_bytes(limits.inflated_bytes)
        )
        .into());
    }
    // One byte more than declared, so that a member that is longer shows.
    let mut bounded = BufReader::new(file.take(declared.saturating_add(1)));
    let in_member = |problem: Problem| Problem::Content(format!("{name}: {}", problem.text()));
    let (header, offset) = npy::read_header(&mut bounded).map_err(in_member)?;
    header
        .check_length(declared.saturating_sub(offset))
        .map_err(in_member)?;
    read(&mut bounded, header).map_err(in_member)
}

fn zip_problem(error: ZipError) -> Problem {
    match error {
        ZipError::Io(source) => Problem::Io(source),
        ZipError::FileNotFound => Problem::Content("lacks a member it lists".to_owned()),
        error => Problem::Content(format!("is not a readable zip archive: {error}")),
    }
}

#[cfg(test)]
mod tests;
