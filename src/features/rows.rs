//! Rows of features, in memory or in files.

use std::{
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
    #[expect(dead_code, reason = "for the cache on disk")]
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

    /// Copies the bytes of the rows from `row` on, as many as `out` takes.
    ///
    /// # Errors
    /// [`Error::Io`] when the file cannot be read, or is shorter.
    pub(super) fn read(&self, value: usize, row: usize, out: &mut [u8]) -> Result<()> {
        let Value { row_bytes, place } = &self.values[value];
        match place {
            Place::Held(bytes) => {
                let start = row * row_bytes;
                out.copy_from_slice(&bytes[start..start + out.len()]);
                Ok(())
            }
            Place::File { path, file, offset } => {
                let start = offset + row as u64 * *row_bytes as u64;
                // A poisoned lock only says that another reader stopped halfway; each read seeks anew.
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                let read = file.seek(SeekFrom::Start(start));
                let read = read.and_then(|_| file.read_exact(out));
                read.map_err(Error::io(path))
            }
        }
    }
}
