//! Rows of features, in memory or in files.

use std::{
    borrow::Cow,
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use super::layout::Layout;
use crate::error::{Error, Result};

/// Rows of every value of a head, one value after the other.
#[derive(Debug)]
pub(super) struct Rows {
    values: Vec<Value>,
}

#[derive(Debug)]
struct Value {
    row_bytes: usize,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Held(Vec<u8>),
    /// From this offset on.
    File {
        path: PathBuf,
        file: Mutex<File>,
        offset: u64,
    },
}

impl Rows {
    /// Rows in memory, per value.
    pub(super) fn held(layouts: &[Layout], values: Vec<Vec<u8>>) -> Self {
        let values = layouts.iter().zip(values).map(|(layout, bytes)| Value {
            row_bytes: layout.row_bytes(),
            place: Place::Held(bytes),
        });
        Self {
            values: values.collect(),
        }
    }

    /// Rows in files, per value the file and where its rows begin; nothing where a value has none.
    ///
    /// # Errors
    /// [`Error::Io`] when a file cannot be shared.
    pub(super) fn in_files(
        layouts: &[Layout],
        files: &[Option<(PathBuf, File, u64)>],
    ) -> Result<Self> {
        let values = layouts.iter().zip(files).map(|(layout, file)| {
            let place = match file {
                Some((path, file, offset)) => Place::File {
                    path: path.clone(),
                    file: Mutex::new(file.try_clone().map_err(Error::io(path))?),
                    offset: *offset,
                },
                None => Place::Held(Vec::new()),
            };
            Ok(Value {
                row_bytes: layout.row_bytes(),
                place,
            })
        });
        Ok(Self {
            values: values.collect::<Result<_>>()?,
        })
    }

    /// The given rows, in memory.
    ///
    /// # Errors
    /// As [`Rows::read`].
    pub(super) fn loaded(&self, layouts: &[Layout], rows: &[usize]) -> Result<Self> {
        let values = (0..self.values.len()).map(|value| {
            let mut bytes = Vec::with_capacity(self.values[value].row_bytes * rows.len());
            for run in rows.chunk_by(|one, next| one + 1 == *next) {
                bytes.extend_from_slice(&self.read(value, run[0], run.len())?);
            }
            Ok(bytes)
        });
        Ok(Self::held(layouts, values.collect::<Result<_>>()?))
    }

    /// The bytes of `count` rows from `row` on.
    ///
    /// # Errors
    /// [`Error::Io`] when the file cannot be read, or is shorter.
    pub(super) fn read(&self, value: usize, row: usize, count: usize) -> Result<Cow<'_, [u8]>> {
        let Value { row_bytes, place } = &self.values[value];
        let length = count * row_bytes;
        match place {
            Place::Held(bytes) => {
                let start = row * row_bytes;
                Ok(Cow::Borrowed(&bytes[start..start + length]))
            }
            Place::File { path, file, offset } => {
                let mut bytes = vec![0; length];
                let start = offset + row as u64 * *row_bytes as u64;
                // A poisoned lock only says that another reader stopped halfway; each read seeks anew.
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                let read = file.seek(SeekFrom::Start(start));
                let read = read.and_then(|_| file.read_exact(&mut bytes));
                read.map_err(Error::io(path))?;
                Ok(Cow::Owned(bytes))
            }
        }
    }
}
