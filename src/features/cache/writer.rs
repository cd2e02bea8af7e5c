//! Rows on their way to the files of an entry.

use std::{
    fs::{File, OpenOptions},
    io::{self, Seek, SeekFrom, Write},
    path::PathBuf,
    time::{Duration, Instant},
};

use super::{
    entry::{Entry, write_present},
    sums::{self, Sum},
};
use crate::error::{Error, Result};

/// Rows are made to last at least this often: what an interrupted run loses at most.
const MOST_TIME: Duration = Duration::from_secs(10);

/// Takes rows, and makes them last block by block. What was taken is saved when it is dropped.
#[derive(Debug)]
pub(super) struct Writer {
    folder: PathBuf,
    present: Vec<u8>,
    sums: Vec<u64>,
    values: Vec<Option<ValueFile>>,
    /// Bytes after which a block ends.
    block_bytes: u64,
    unsaved: Vec<usize>,
    unsaved_bytes: u64,
    saved: Instant,
    /// After a write that failed nothing can be said of what is on the disk.
    failed: bool,
}

#[derive(Debug)]
struct ValueFile {
    path: PathBuf,
    file: File,
    offset: u64,
    row_bytes: usize,
}

impl Writer {
    /// Opens the files of an entry for writing.
    ///
    /// # Errors
    /// [`Error::Io`] where that is not possible.
    pub(super) fn new(entry: &Entry, block_bytes: u64) -> Result<Self> {
        let layouts = entry.manifest.values.iter().map(|value| &value.layout);
        let values = entry.files.iter().zip(layouts).map(|(file, layout)| {
            let Some((path, _, offset)) = file else {
                return Ok(None);
            };
            let file = OpenOptions::new().write(true).open(path);
            Ok(Some(ValueFile {
                path: path.clone(),
                file: file.map_err(Error::io(path))?,
                offset: *offset,
                row_bytes: layout.row_bytes(),
            }))
        });
        Ok(Self {
            folder: entry.folder.clone(),
            present: entry.present.clone(),
            sums: entry.sums.clone(),
            values: values.collect::<Result<_>>()?,
            block_bytes,
            unsaved: Vec::new(),
            unsaved_bytes: 0,
            saved: Instant::now(),
            failed: false,
        })
    }

    /// Takes the rows of `samples`, per value; ends the block where it is large or old enough.
    ///
    /// # Errors
    /// [`Error::Io`] where they cannot be written, with the way out; what was saved stays.
    pub(super) fn add(&mut self, samples: &[usize], rows: &[Vec<u8>]) -> Result<()> {
        let written = self.values.iter_mut().zip(rows);
        let mut written = written.map(|(value, rows)| match value {
            Some(value) => value.write(samples, rows).map_err(full(&value.path)),
            None => Ok(()),
        });
        if let Some(error) = written.find_map(Result::err) {
            self.failed = true;
            return Err(error);
        }
        self.sum(samples, rows);
        self.unsaved.extend(samples);
        self.unsaved_bytes += rows.iter().map(|rows| rows.len() as u64).sum::<u64>();
        if self.unsaved_bytes >= self.block_bytes || self.saved.elapsed() >= MOST_TIME {
            return self.save();
        }
        Ok(())
    }

    fn sum(&mut self, samples: &[usize], rows: &[Vec<u8>]) {
        for (at, &sample) in samples.iter().enumerate() {
            let mut sum = Sum::new();
            for (value, rows) in self.values.iter().zip(rows) {
                if let Some(value) = value {
                    sum.add(&rows[at * value.row_bytes..(at + 1) * value.row_bytes]);
                }
            }
            self.sums[sample] = sum.value();
        }
    }

    /// Ends the block: its rows are on the disk, then they count.
    ///
    /// # Errors
    /// As [`Writer::add`].
    pub(super) fn save(&mut self) -> Result<()> {
        if self.failed || self.unsaved.is_empty() {
            return Ok(());
        }
        // Stays so unless all goes well: a second sync after a failed one reports nothing.
        self.failed = true;
        for value in self.values.iter().flatten() {
            value.file.sync_data().map_err(full(&value.path))?;
        }
        for sample in self.unsaved.drain(..) {
            self.present[sample] = 1;
        }
        sums::write(&self.folder, &self.sums).map_err(with_way_out)?;
        write_present(&self.folder, &self.present).map_err(with_way_out)?;
        self.failed = false;
        self.unsaved_bytes = 0;
        self.saved = Instant::now();
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // An error is under way already, or would have been met before.
        let _ = self.save();
    }
}

impl ValueFile {
    /// Samples that follow one another are written at once.
    fn write(&mut self, samples: &[usize], rows: &[u8]) -> io::Result<()> {
        let mut at = 0;
        for run in samples.chunk_by(|one, next| one + 1 == *next) {
            let bytes = run.len() * self.row_bytes;
            let start = self.offset + run[0] as u64 * self.row_bytes as u64;
            self.file.seek(SeekFrom::Start(start))?;
            self.file.write_all(&rows[at..at + bytes])?;
            at += bytes;
        }
        Ok(())
    }
}

fn full(path: &std::path::Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |error| with_way_out(Error::io(path)(error))
}

/// Says what can be done where the disk is full, say.
fn with_way_out(error: Error) -> Error {
    match error {
        Error::Io { path, source } => {
            let what = format!(
                "{source}; rows that were saved stay, and the same run takes up there: make room, use \
                 --cache with a folder elsewhere, or --no-cache"
            );
            Error::Io {
                path,
                source: io::Error::new(source.kind(), what),
            }
        }
        other => other,
    }
}
