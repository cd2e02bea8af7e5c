//! ONNX tensors in files of their own: the `test_data_set_N/input_0.pb` that the ONNX model zoo keeps beside a model.
//!
//! One file, a `test_data_set_N` folder, or the folder they lie in; each tensor is a batch, and all batches together are
//! the samples. The `output_0.pb` beside them holds class scores, not labels, and is not read.

use std::path::{Path, PathBuf};

use prost::Message;

use super::array::{Dtype, Endian, Header, Order};
use super::dataset::DataOptions;
use super::folder::entries;
use super::problem::{Problem, Read, readable_bytes};
use super::readers::{ArraySource, Opened, at, open_file};
use super::rows::Rows;
use super::shape::product;
use crate::error::{Error, Result};

/// The tensor of a set that feeds the model's first input.
const INPUT: &str = "input_0.pb";
const SETS: &str = "test_data_set_";
/// Longest file; as much again is needed to decode it.
const MOST_BYTES: u64 = 1 << 30;

/// The fields of ONNX's `TensorProto` that hold numbers
/// (<https://github.com/onnx/onnx/blob/main/onnx/onnx.proto>); this module knows nothing of models.
#[derive(Clone, PartialEq, Message)]
struct TensorFile {
    #[prost(int64, repeated, tag = "1")]
    dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    data_type: i32,
    #[prost(float, repeated, tag = "4")]
    float_data: Vec<f32>,
    #[prost(int32, repeated, tag = "5")]
    int32_data: Vec<i32>,
    #[prost(int64, repeated, tag = "7")]
    int64_data: Vec<i64>,
    #[prost(bytes = "bytes", tag = "9")]
    raw_data: bytes::Bytes,
    #[prost(double, repeated, tag = "10")]
    double_data: Vec<f64>,
    #[prost(uint64, repeated, tag = "11")]
    uint64_data: Vec<u64>,
    /// 1 where the numbers lie in another file.
    #[prost(int32, tag = "14")]
    data_location: i32,
}

pub(super) fn accepts(path: &Path) -> bool {
    match path.is_dir() {
        true => !inputs(path).is_empty(),
        false => path.is_file() && path.extension().is_some_and(|end| end == "pb"),
    }
}

/// The tensors of a folder in the order of their sets.
fn inputs(folder: &Path) -> Vec<PathBuf> {
    let own = folder.join(INPUT);
    if own.is_file() {
        return vec![own];
    }
    let number = |path: &PathBuf| {
        let name = path.file_name()?.to_str()?;
        name.strip_prefix(SETS)?.parse::<u64>().ok()
    };
    let inside = entries(folder).unwrap_or_default().into_iter();
    let mut sets: Vec<(u64, PathBuf)> = inside
        .map(|entry| entry.path())
        .filter_map(|path| Some((number(&path)?, path.join(INPUT))))
        .filter(|(_, file)| file.is_file())
        .collect();
    sets.sort();
    sets.into_iter().map(|(_, file)| file).collect()
}

pub(super) fn open(path: &Path, options: &DataOptions) -> Result<Opened> {
    let files = match path.is_dir() {
        true => inputs(path),
        false => vec![path.to_owned()],
    };
    let limit = options.limits.held_bytes;
    let mut all: Option<Tensor> = None;
    for file in &files {
        let next = read(file)?;
        all = Some(match all {
            None => next,
            Some(before) => before.followed_by(next, limit).map_err(at(file))?,
        });
    }
    let Some(Tensor { dtype, dims, bytes }) = all else {
        return Err(Error::Data {
            path: path.to_owned(),
            what: format!("holds no {INPUT}"),
        });
    };
    let header = Header::new(dtype, Endian::Little, Order::C, dims).map_err(at(path))?;
    header.check_length(bytes.len() as u64).map_err(at(path))?;
    let notes = match files.len() {
        1 => vec![],
        count => vec![format!("of {count} files")],
    };
    ArraySource {
        header,
        labels: None,
        class_names: None,
        files,
        notes,
        rows: Box::new(move |header, chosen| {
            Rows::from_stream(&mut bytes.as_slice(), header, chosen, limit)
        }),
    }
    .open(path, options)
}

fn read(path: &Path) -> Result<Tensor> {
    let (_, length) = open_file(path)?;
    if length > MOST_BYTES {
        let (length, limit) = (readable_bytes(length), readable_bytes(MOST_BYTES));
        let what = format!("is {length} long, the limit is {limit}");
        return Err(Problem::Content(what).at(path));
    }
    let bytes = std::fs::read(path).map_err(Error::io(path))?;
    let file = TensorFile::decode(bytes.as_slice());
    let file = file.map_err(|error| format!("is no ONNX tensor: {error}"));
    file.map_err(Problem::from)
        .and_then(Tensor::of)
        .map_err(at(path))
}

/// A batch, little-endian.
struct Tensor {
    dtype: Dtype,
    dims: Vec<usize>,
    bytes: Vec<u8>,
}

impl Tensor {
    fn of(file: TensorFile) -> Read<Self> {
        let dims: Option<Vec<usize>> = file.dims.iter().map(|&dim| dim.try_into().ok()).collect();
        let dims = dims.ok_or_else(|| format!("declares the shape {:?}", file.dims))?;
        if file.data_location != 0 {
            return Err("keeps its numbers in another file".into());
        }
        let dtype = element(file.data_type)?;
        let bytes = match file.raw_data.is_empty() {
            false => file.raw_data.to_vec(),
            true => typed(&file, dtype),
        };
        let declared = product(&dims).and_then(|count| count.checked_mul(dtype.bytes()));
        if declared != Some(bytes.len()) {
            return Err(format!(
                "declares {} {dims:?}, but holds {}",
                dtype.name(),
                readable_bytes(bytes.len() as u64)
            )
            .into());
        }
        Ok(Self { dtype, dims, bytes })
    }

    /// Both batches in one.
    fn followed_by(mut self, next: Self, limit: u64) -> Read<Self> {
        let alike = self.dtype == next.dtype && self.dims.get(1..) == next.dims.get(1..);
        let samples = self.dims.first_mut().zip(next.dims.first());
        let (true, Some((samples, &more))) = (alike, samples) else {
            return Err(format!(
                "holds {} {:?}, the files before it {} {:?}",
                next.dtype.name(),
                next.dims,
                self.dtype.name(),
                self.dims
            )
            .into());
        };
        *samples += more;
        self.bytes.extend(next.bytes);
        match self.bytes.len() as u64 <= limit {
            true => Ok(self),
            false => Err(format!(
                "makes the set larger than {}, which is the limit of what is held in memory",
                readable_bytes(limit)
            )
            .into()),
        }
    }
}

/// `TensorProto.DataType`.
fn element(code: i32) -> Read<Dtype> {
    Ok(match code {
        1 => Dtype::F32,
        2 => Dtype::U8,
        3 => Dtype::I8,
        4 => Dtype::U16,
        5 => Dtype::I16,
        6 => Dtype::I32,
        7 => Dtype::I64,
        9 => Dtype::Bool,
        10 => Dtype::F16,
        11 => Dtype::F64,
        12 => Dtype::U32,
        13 => Dtype::U64,
        _ => {
            return Err(
                format!("has elements of the ONNX type {code}, expected plain numbers").into(),
            );
        }
    })
}

/// The bytes of numbers that are kept in the field of their type; small integers share one.
fn typed(file: &TensorFile, dtype: Dtype) -> Vec<u8> {
    let small = |width: usize| {
        let words = file.int32_data.iter().map(|value| value.to_le_bytes());
        words
            .flat_map(|word| word.into_iter().take(width))
            .collect()
    };
    match dtype {
        Dtype::F32 => file
            .float_data
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect(),
        Dtype::F64 => file
            .double_data
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect(),
        Dtype::I64 => file
            .int64_data
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect(),
        Dtype::U64 => file
            .uint64_data
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect(),
        Dtype::U32 => {
            let words = file.uint64_data.iter().map(|value| value.to_le_bytes());
            words.flat_map(|word| word.into_iter().take(4)).collect()
        }
        Dtype::Bool | Dtype::U8 | Dtype::I8 => small(1),
        Dtype::U16 | Dtype::I16 | Dtype::F16 => small(2),
        Dtype::I32 => small(4),
    }
}

#[cfg(test)]
mod tests;
