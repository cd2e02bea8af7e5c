//! IDX, the format of MNIST and its relatives, plain or gzipped.
//!
//! Two zero bytes, an element type, the number of axes, each axis as a big-endian u32, elements. The images file is
//! given; its labels lie beside it under the usual name (`train-images-idx3-ubyte.gz` and
//! `train-labels-idx1-ubyte.gz`). A folder that holds exactly one such pair is taken too.

use std::fs::File;
use std::io::{self, BufReader, Read as _};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;

use super::array::{Dtype, Endian, Header, Order};
use super::dataset::DataOptions;
use super::npy::labels as read_labels;
use super::problem::{Read, readable_bytes};
use super::readers::{ArraySource, Opened, at, magic, open_file};
use super::rows::Rows;
use crate::error::{Error, Result};

const GZIP: &[u8] = b"\x1f\x8b";

pub(super) fn accepts(path: &Path) -> bool {
    if path.is_dir() {
        return !images_in(path).is_empty();
    }
    let start = magic::<4>(path);
    matches!(start[..], [0, 0, 8 | 9 | 11..=14, 1..=8])
        || start.starts_with(GZIP)
        || is_named_idx(path)
}

fn is_named_idx(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.is_file()
        && ["idx3-ubyte", "idx4-ubyte", ".idx"]
            .iter()
            .any(|part| name.contains(part))
}

/// Files of a folder that are named like IDX images, sorted.
fn images_in(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = folder.read_dir() else {
        return vec![];
    };
    let mut found: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| is_named_idx(path) && labels_name(path).is_some())
        .collect();
    found.sort();
    found
}

pub(super) fn open(path: &Path, options: &DataOptions) -> Result<Opened> {
    let images = if path.is_dir() {
        the_only_one(path)?
    } else {
        path.to_owned()
    };
    let limits = options.limits;
    let (header, mut stream) = open_array(&images, limits.inflated_bytes)?;
    let mut files = vec![images.clone()];
    let mut labels = None;
    if let Some(beside) = labels_beside(&images) {
        let (header, mut stream) = open_array(&beside, limits.inflated_bytes)?;
        let all = read_labels(&mut stream, &header, limits.held_bytes).map_err(at(&beside))?;
        labels = Some((name_of(&beside), all));
        files.push(beside);
    }
    let notes = match &labels {
        Some((name, _)) => vec![format!("labels from {name}")],
        None => vec!["no labels: there is no labels file beside it".to_owned()],
    };
    ArraySource {
        header,
        labels,
        class_names: None,
        files,
        notes,
        rows: Box::new(move |header, chosen| match stream {
            Stream::Plain(file, offset) => {
                Rows::in_file(file, offset, header, chosen, limits.held_bytes)
            }
            Stream::Gzip(ref mut reader) => {
                Rows::from_stream(reader, header, chosen, limits.held_bytes)
            }
        }),
    }
    .open(&images, options)
}

fn the_only_one(folder: &Path) -> Result<PathBuf> {
    let mut found = images_in(folder);
    if found.len() == 1 {
        return Ok(found.remove(0));
    }
    let names: Vec<String> = found.iter().map(|path| name_of(path)).collect();
    Err(Error::Data {
        path: folder.to_owned(),
        what: format!(
            "holds {} IDX image files, name one of them: {}",
            found.len(),
            names.join(", ")
        ),
    })
}

fn name_of(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// Elements behind the header.
enum Stream {
    Plain(File, u64),
    Gzip(Box<io::Take<MultiGzDecoder<BufReader<File>>>>),
}

impl io::Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(file, _) => file.read(buffer),
            Self::Gzip(reader) => reader.read(buffer),
        }
    }
}

/// Opens a file and reads its header. A plain file's length must be what the header declares; a gzipped one is bounded
/// by that and one byte more, so that a longer one shows.
fn open_array(path: &Path, inflated_bytes: u64) -> Result<(Header, Stream)> {
    let (mut file, length) = open_file(path)?;
    if !magic::<2>(path).starts_with(GZIP) {
        let header = read_header(&mut file).and_then(|(header, offset)| {
            header.check_length(length.saturating_sub(offset))?;
            Ok((header, Stream::Plain(file, offset)))
        });
        return header.map_err(at(path));
    }
    let mut reader = MultiGzDecoder::new(BufReader::new(file)).take(1 << 10);
    let header = read_header(&mut reader).and_then(|(header, _)| {
        if header.data_bytes > inflated_bytes {
            let (declared, limit) = (
                readable_bytes(header.data_bytes),
                readable_bytes(inflated_bytes),
            );
            return Err(format!("inflates to {declared}, the limit is {limit}").into());
        }
        Ok(header)
    });
    let header = header.map_err(at(path))?;
    reader.set_limit(header.data_bytes + 1);
    Ok((header, Stream::Gzip(Box::new(reader))))
}

/// Reads type, axes and sizes; returns them with the number of bytes read.
fn read_header(reader: &mut impl io::Read) -> Read<(Header, u64)> {
    let mut start = [0; 4];
    reader.read_exact(&mut start)?;
    let [0, 0, code, axes] = start else {
        return Err("does not start like an IDX file".into());
    };
    let dtype = match code {
        0x08 => Dtype::U8,
        0x09 => Dtype::I8,
        0x0b => Dtype::I16,
        0x0c => Dtype::I32,
        0x0d => Dtype::F32,
        0x0e => Dtype::F64,
        _ => return Err(format!("has elements of the unknown IDX type {code:#04x}").into()),
    };
    let mut dims = vec![];
    for _ in 0..axes {
        let mut size = [0; 4];
        reader.read_exact(&mut size)?;
        dims.push(u32::from_be_bytes(size) as usize);
    }
    let offset = 4 + 4 * u64::from(axes);
    Ok((Header::new(dtype, Endian::Big, Order::C, dims)?, offset))
}

/// The name of the labels that go with an images file, plain or with `.gz` as the images are.
fn labels_name(images: &Path) -> Option<String> {
    let name = images.file_name()?.to_str()?;
    name.contains("images").then(|| {
        let swapped = name.replacen("images", "labels", 1);
        swapped.replace("idx3", "idx1").replace("idx4", "idx1")
    })
}

fn labels_beside(images: &Path) -> Option<PathBuf> {
    let name = labels_name(images)?;
    let other = match name.strip_suffix(".gz") {
        Some(plain) => plain.to_owned(),
        None => format!("{name}.gz"),
    };
    [name, other]
        .iter()
        .map(|name| images.with_file_name(name))
        .find(|path| path.is_file())
}

#[cfg(test)]
mod tests;
