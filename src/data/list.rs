//! A table of image files: CSV or TSV with a path and, if there are labels, a label in each row.
//!
//! Paths are relative to the table, and do not leave its folder. Labels that are all whole numbers are class numbers;
//! any others are names of classes, numbered in the order of the alphabet. A first row of words that name the columns
//! is taken for a header.

use std::fs::File;
use std::path::{Component, Path, PathBuf};

use csv::{ReaderBuilder, StringRecord};

use super::dataset::DataOptions;
use super::decode::Turning;
use super::files::ImageFiles;
use super::folder::is_image;
use super::images::{Classes, Headers, ImageSource, classes_of};
use super::problem::{Problem, Read, readable_bytes};
use super::readers::{Opened, at, open_file};
use crate::error::Result;

/// Names of the column with the paths.
const PATHS: [&str; 8] = [
    "path",
    "file",
    "filename",
    "file_name",
    "filepath",
    "image",
    "image_path",
    "img",
];
/// Names of the column with the labels.
const LABELS: [&str; 7] = [
    "label", "class", "target", "y", "category", "label_id", "class_id",
];
/// Longest table: ten million rows of a hundred bytes.
const MOST_BYTES: u64 = 1 << 30;

pub(super) fn accepts(path: &Path) -> bool {
    path.is_file() && separator(path).is_some()
}

/// What parts the columns; nothing for files that are named otherwise.
fn separator(path: &Path) -> Option<u8> {
    let ending = path.extension()?.to_str()?.to_ascii_lowercase();
    match ending.as_str() {
        "csv" => Some(b','),
        "tsv" => Some(b'\t'),
        _ => None,
    }
}

pub(super) fn open(path: &Path, options: &DataOptions) -> Result<Opened> {
    let (file, length) = open_file(path)?;
    let table = Table::read(file, length, separator(path).unwrap_or(b',')).map_err(at(path))?;
    let folder = path.parent().unwrap_or(Path::new("")).to_owned();
    let total = table.paths.len();
    let classes = classes_of(&table.labels).map_err(at(path))?;
    let stored = match &classes {
        Classes {
            names: Some(names), ..
        } => format!("{total} images of {} classes", names.len()),
        Classes {
            labels: Some(_), ..
        } => format!("{total} images with class numbers"),
        _ => format!("{total} images without labels"),
    };
    ImageSource {
        encoded: Box::new(ImageFiles {
            files: table.paths.iter().map(|file| folder.join(file)).collect(),
            root: folder,
        }),
        total,
        classes,
        stored,
        notes: table.notes,
        turning: Turning::Ignored,
        headers: Headers::All,
    }
    .open(path, options)
}

/// The paths of a table, each once.
pub(super) fn paths(path: &Path) -> Result<Vec<PathBuf>> {
    let (file, length) = open_file(path)?;
    let table = Table::read(file, length, separator(path).unwrap_or(b','));
    let mut paths = table.map_err(at(path))?.paths;
    paths.sort();
    paths.dedup();
    Ok(paths)
}

struct Table {
    paths: Vec<PathBuf>,
    /// One per path, or none at all.
    labels: Vec<String>,
    notes: Vec<String>,
}

impl Table {
    fn read(file: File, length: u64, separator: u8) -> Read<Self> {
        if length > MOST_BYTES {
            return Err(format!(
                "is {} long, the limit is {}",
                readable_bytes(length),
                readable_bytes(MOST_BYTES)
            )
            .into());
        }
        let mut reader = ReaderBuilder::new()
            .delimiter(separator)
            .has_headers(false)
            .flexible(true)
            .from_reader(file);
        let mut rows = reader.records();
        let first = match rows.next() {
            Some(row) => row.map_err(csv_problem)?,
            None => return Err("is empty, expected rows of path and label".into()),
        };
        let (columns, header) = Columns::of(&first)?;
        let mut table = Self {
            paths: vec![],
            labels: vec![],
            notes: vec![],
        };
        if header {
            table.notes.push("the first row is a header".to_owned());
        } else {
            table.add(&first, columns, 1)?;
        }
        for (row, number) in rows.zip(2..) {
            table.add(&row.map_err(csv_problem)?, columns, number)?;
        }
        match table.paths.is_empty() {
            true => Err("has a header and no rows".into()),
            false => Ok(table),
        }
    }

    fn add(&mut self, row: &StringRecord, columns: Columns, number: usize) -> Read<()> {
        let cell = |column: usize| match row.get(column).map(str::trim) {
            Some(text) if !text.is_empty() => Ok(text),
            _ => Err(Problem::Content(format!(
                "row {number} has nothing in column {}",
                column + 1
            ))),
        };
        let path = cell(columns.path)?;
        let inside = |problem: Problem| format!("row {number}: {}", problem.text());
        self.paths.push(relative(path).map_err(inside)?);
        if let Some(label) = columns.label {
            self.labels.push(cell(label)?.to_owned());
        }
        Ok(())
    }
}

/// Where the cells are in each row.
#[derive(Clone, Copy, Debug)]
struct Columns {
    path: usize,
    label: Option<usize>,
}

impl Columns {
    /// From the first row, and whether that is a header.
    fn of(first: &StringRecord) -> Read<(Self, bool)> {
        let find = |names: &[&str]| {
            first.iter().position(|cell| {
                let cell = cell.trim_matches(['\u{feff}', ' ']).to_ascii_lowercase();
                names.contains(&cell.as_str())
            })
        };
        if let Some(path) = find(&PATHS) {
            let label = find(&LABELS);
            return Ok((Self { path, label }, true));
        }
        match first.len() {
            1 | 2 if is_image(Path::new(first[0].trim())) => {
                let label = (first.len() == 2).then_some(1);
                Ok((Self { path: 0, label }, false))
            }
            _ => Err(format!(
                "does not tell which column holds the paths: expected rows of path and label, or a header with \"path\" and \"label\", got {:?}",
                first.iter().collect::<Vec<_>>()
            )
            .into()),
        }
    }
}

/// A path below the table's folder.
fn relative(text: &str) -> Read<PathBuf> {
    let path = Path::new(text);
    let part = |part| match part {
        Component::Normal(name) => Some(Path::new(name)),
        Component::CurDir => Some(Path::new("")),
        _ => None,
    };
    let parts: Option<PathBuf> = path.components().map(part).collect();
    parts.ok_or_else(|| format!("{text:?} leaves the folder of the table").into())
}

fn csv_problem(error: csv::Error) -> Problem {
    match error.into_kind() {
        csv::ErrorKind::Io(source) => Problem::Io(source),
        csv::ErrorKind::Utf8 { pos, .. } => {
            let row = pos.map_or(0, |place| place.record() + 1);
            Problem::Content(format!("row {row} is not UTF-8"))
        }
        _ => Problem::Content("is no table that can be read".to_owned()),
    }
}

#[cfg(test)]
mod tests;
