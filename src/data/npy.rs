//! numpy's `.npy`: a magic number, a Python dictionary as text, raw elements.
//!
//! Format: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>. The sizes a header declares are
//! compared with the file before anything is allocated. Arrays of objects are pickles, programs to be
//! run, and are refused.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::array::{Dtype, Endian, Header, Order};
use super::dataset::DataOptions;
use super::problem::Read;
use super::readers::{ArraySource, Opened, at, magic, open_file};
use super::rows::{Rows, read_all};
use crate::error::Result;

const MAGIC: &[u8] = b"\x93NUMPY";
/// numpy itself refuses to parse headers above 10,000 bytes.
const MAX_HEADER_BYTES: usize = 1 << 16;

pub(super) fn accepts(path: &Path) -> bool {
    magic::<6>(path) == MAGIC
        || (path.is_file() && path.extension().is_some_and(|end| end == "npy"))
}

pub(super) fn open(path: &Path, options: &DataOptions) -> Result<Opened> {
    let (file, header, offset) = open_array(path)?;
    let held = options.limits.held_bytes;
    let mut files = vec![path.to_owned()];
    let mut labels = None;
    if let Some(beside) = labels_beside(path) {
        let name = beside
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        labels = Some((name, read_labels(&beside, held)?));
        files.push(beside);
    }
    let notes = match &labels {
        Some((name, _)) => vec![format!("labels from {name}")],
        None => vec!["no labels: there is no labels.npy beside it".to_owned()],
    };
    ArraySource {
        header,
        labels,
        class_names: None,
        files,
        notes,
        rows: Box::new(move |header, chosen| Rows::in_file(file, offset, header, chosen, held)),
    }
    .open(path, options)
}

/// Opens a file, reads its header and compares it with the file's length; the last value is where the elements start.
fn open_array(path: &Path) -> Result<(File, Header, u64)> {
    let (mut file, length) = open_file(path)?;
    let parsed = read_header(&mut file).and_then(|(header, offset)| {
        header.check_length(length.saturating_sub(offset))?;
        Ok((header, offset))
    });
    let (header, offset) = parsed.map_err(at(path))?;
    Ok((file, header, offset))
}

fn read_labels(path: &Path, held: u64) -> Result<Vec<usize>> {
    let (mut file, header, _) = open_array(path)?;
    labels(&mut file, &header, held).map_err(at(path))
}

/// Labels from a stream behind its header: `[N]` or `[N, 1]`.
pub(super) fn labels(reader: &mut impl io::Read, header: &Header, held: u64) -> Read<Vec<usize>> {
    if header.sample_dims().iter().any(|&dim| dim != 1) {
        return Err(format!(
            "labels are {}, expected one number per sample",
            header.describe()
        )
        .into());
    }
    let bytes = read_all(reader, header, held)?;
    header.to_labels(&bytes)
}

/// `images.npy` goes with `labels.npy`, `train-images.npy` with `train-labels.npy`, `x_test.npy` with `y_test.npy`.
fn labels_beside(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?;
    let swaps = [
        ("images", "labels"),
        ("Images", "Labels"),
        ("x_", "y_"),
        ("X_", "y_"),
        ("X_", "Y_"),
        ("_x.", "_y."),
        ("_X.", "_y."),
    ];
    let mut names: Vec<String> = swaps
        .iter()
        .filter(|(from, _)| name.contains(from))
        .map(|(from, to)| name.replacen(from, to, 1))
        .collect();
    names.push("labels.npy".to_owned());
    let beside = names.iter().map(|other| path.with_file_name(other));
    beside
        .filter(|other| other != path)
        .find(|other| other.is_file())
}

/// Reads magic number and header; returns it with the number of bytes read.
pub(super) fn read_header(reader: &mut impl io::Read) -> Read<(Header, u64)> {
    let mut start = [0; 8];
    reader.read_exact(&mut start)?;
    if &start[..6] != MAGIC {
        return Err("does not start like a .npy array".into());
    }
    let (length, prefix) = match start[6] {
        1 => {
            let mut bytes = [0; 2];
            reader.read_exact(&mut bytes)?;
            (usize::from(u16::from_le_bytes(bytes)), 10)
        }
        2 | 3 => {
            let mut bytes = [0; 4];
            reader.read_exact(&mut bytes)?;
            (u32::from_le_bytes(bytes) as usize, 12)
        }
        version => return Err(format!("has .npy version {version}, known are 1 to 3").into()),
    };
    if length > MAX_HEADER_BYTES {
        return Err(
            format!("has a header of {length} bytes, the limit is {MAX_HEADER_BYTES}").into(),
        );
    }
    let mut header = vec![0; length];
    reader.read_exact(&mut header)?;
    let text = String::from_utf8_lossy(&header);
    let header = Cursor { rest: &text }.header()?;
    Ok((header, (prefix + length) as u64))
}

/// A reader of the one kind of Python literal that headers are.
struct Cursor<'a> {
    rest: &'a str,
}

impl Cursor<'_> {
    fn header(&mut self) -> Read<Header> {
        let (mut dtype, mut order, mut dims) = (None, None, None);
        self.expect('{')?;
        while !self.take('}') {
            match self.string()? {
                "descr" => {
                    self.expect(':')?;
                    if self.rest.trim_start().starts_with('[') {
                        return Err("is an array of records, expected plain numbers".into());
                    }
                    dtype = Some(element(self.string()?)?);
                }
                "fortran_order" => {
                    self.expect(':')?;
                    order = Some(if self.boolean()? {
                        Order::Fortran
                    } else {
                        Order::C
                    });
                }
                "shape" => {
                    self.expect(':')?;
                    dims = Some(self.tuple()?);
                }
                other => return Err(format!("has an unknown key {other:?} in its header").into()),
            }
            self.take(',');
        }
        let (Some((dtype, endian)), Some(order), Some(dims)) = (dtype, order, dims) else {
            return Err("lacks descr, fortran_order or shape in its header".into());
        };
        Header::new(dtype, endian, order, dims)
    }

    fn take(&mut self, character: char) -> bool {
        let rest = self.rest.trim_start();
        let found = rest.strip_prefix(character);
        self.rest = found.unwrap_or(rest);
        found.is_some()
    }

    fn expect(&mut self, character: char) -> Read<()> {
        if self.take(character) {
            return Ok(());
        }
        let near: String = self.rest.chars().take(20).collect();
        Err(format!("has a broken header: expected {character:?} before {near:?}").into())
    }
}

impl<'a> Cursor<'a> {
    fn string(&mut self) -> Read<&'a str> {
        let quote = if self.take('\'') {
            '\''
        } else {
            self.expect('"')?;
            '"'
        };
        let Some((text, rest)) = self.rest.split_once(quote) else {
            return Err("has a broken header: a string without end".into());
        };
        self.rest = rest;
        Ok(text)
    }

    fn boolean(&mut self) -> Read<bool> {
        self.rest = self.rest.trim_start();
        for (word, value) in [("True", true), ("False", false)] {
            if let Some(rest) = self.rest.strip_prefix(word) {
                self.rest = rest;
                return Ok(value);
            }
        }
        Err("has a broken header: fortran_order is neither True nor False".into())
    }

    fn tuple(&mut self) -> Read<Vec<usize>> {
        let mut dims = vec![];
        self.expect('(')?;
        while !self.take(')') {
            let end = self
                .rest
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(self.rest.len());
            let (digits, rest) = self.rest.split_at(end);
            let dim = digits.parse();
            dims.push(
                dim.map_err(|_| format!("has a broken header: a size {digits:?} in its shape"))?,
            );
            self.rest = rest;
            // Python 2 wrote long integers.
            self.take('L');
            if !self.take(',') {
                self.expect(')')?;
                break;
            }
        }
        Ok(dims)
    }
}

/// `<f4` and its like.
fn element(descr: &str) -> Read<(Dtype, Endian)> {
    let (endian, code) = match descr.split_at_checked(1) {
        Some(("<" | "|" | "=", code)) => (Endian::Little, code),
        Some((">", code)) => (Endian::Big, code),
        _ => (Endian::Little, descr),
    };
    let dtype = match code {
        "b1" => Dtype::Bool,
        "u1" => Dtype::U8,
        "i1" => Dtype::I8,
        "u2" => Dtype::U16,
        "i2" => Dtype::I16,
        "u4" => Dtype::U32,
        "i4" => Dtype::I32,
        "u8" => Dtype::U64,
        "i8" => Dtype::I64,
        "f2" => Dtype::F16,
        "f4" => Dtype::F32,
        "f8" => Dtype::F64,
        code if code.starts_with('O') => {
            return Err("is an array of Python objects, which only running its pickled code could read; save plain numbers".into());
        }
        _ => return Err(format!("has elements of type {descr:?}, expected plain numbers").into()),
    };
    Ok((dtype, endian))
}

#[cfg(test)]
mod tests;
