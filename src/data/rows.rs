//! The samples of one array file: which are chosen, where their bytes are, and reading one of them.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read as _, Seek, SeekFrom};
use std::sync::{Mutex, PoisonError};

use super::array::{Header, Order};
use super::problem::{Problem, Read, readable_bytes};

/// Chosen samples of an array.
#[derive(Debug)]
pub(super) struct Rows {
    pub(super) header: Header,
    chosen: Vec<usize>,
    place: Place,
}

#[derive(Debug)]
enum Place {
    /// The chosen samples, one after the other, as they are stored.
    Held(Vec<u8>),
    /// The whole array with the first axis varying fastest.
    Fortran(Vec<u8>),
    /// In the file, from this offset on; read when asked for.
    File(Mutex<File>, u64),
}

impl Rows {
    /// Leaves the samples in an uncompressed file, `offset` bytes in; Fortran order is read whole.
    pub(super) fn in_file(
        mut file: File,
        offset: u64,
        header: Header,
        chosen: Vec<usize>,
        held_bytes: u64,
    ) -> Read<Self> {
        let place = match header.order {
            Order::C => Place::File(Mutex::new(file), offset),
            Order::Fortran => {
                file.seek(SeekFrom::Start(offset))?;
                Place::Fortran(read_all(&mut file, &header, held_bytes)?)
            }
        };
        Ok(Self {
            header,
            chosen,
            place,
        })
    }

    /// Takes the chosen samples out of a stream that starts with the first sample, and reads the stream to its end.
    pub(super) fn from_stream(
        reader: &mut impl io::Read,
        header: Header,
        chosen: Vec<usize>,
        held_bytes: u64,
    ) -> Read<Self> {
        let place = match header.order {
            Order::C => Place::Held(pick(reader, &header, &chosen, held_bytes)?),
            Order::Fortran => Place::Fortran(read_all(reader, &header, held_bytes)?),
        };
        Ok(Self {
            header,
            chosen,
            place,
        })
    }

    /// The position in the array of the chosen sample `position`.
    pub(super) fn index(&self, position: usize) -> usize {
        self.chosen[position]
    }

    /// Stored bytes of the chosen sample `position`, last axis fastest.
    pub(super) fn bytes(&self, position: usize) -> Read<Cow<'_, [u8]>> {
        let length = self.header.sample_bytes;
        match &self.place {
            Place::Held(held) => Ok(Cow::Borrowed(
                &held[position * length..(position + 1) * length],
            )),
            Place::Fortran(whole) => Ok(Cow::Owned(gather(
                whole,
                &self.header,
                self.chosen[position],
            ))),
            Place::File(file, offset) => {
                let mut bytes = vec![0; length];
                let start = offset + self.chosen[position] as u64 * length as u64;
                // A poisoned lock only says that another reader stopped halfway; each read seeks anew.
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                file.seek(SeekFrom::Start(start))?;
                file.read_exact(&mut bytes)?;
                Ok(Cow::Owned(bytes))
            }
        }
    }
}

/// Refuses to hold more than the limit.
fn check_held(bytes: u64, limit: u64) -> Read<()> {
    if bytes <= limit {
        return Ok(());
    }
    Err(format!(
        "{} would have to be held in memory, the limit is {}; use fewer --samples, or an uncompressed .npy in C order, which is read bit by bit",
        readable_bytes(bytes),
        readable_bytes(limit)
    )
    .into())
}

/// All bytes of an array; memory grows with what is really there, not with what the header promises.
pub(super) fn read_all(reader: &mut impl io::Read, header: &Header, limit: u64) -> Read<Vec<u8>> {
    check_held(header.data_bytes, limit)?;
    let mut bytes = Vec::new();
    append(reader, header.data_bytes, &mut bytes)?;
    check_end(reader)?;
    Ok(bytes)
}

fn pick(
    reader: &mut impl io::Read,
    header: &Header,
    chosen: &[usize],
    limit: u64,
) -> Read<Vec<u8>> {
    let length = header.sample_bytes as u64;
    check_held(length.saturating_mul(chosen.len() as u64), limit)?;
    let mut held = Vec::new();
    let mut at = 0;
    for run in chosen.chunk_by(|&a, &b| b == a + 1) {
        skip(reader, (run[0] - at) as u64 * length)?;
        append(reader, run.len() as u64 * length, &mut held)?;
        at = run[0] + run.len();
    }
    skip(reader, (header.samples() - at) as u64 * length)?;
    check_end(reader)?;
    Ok(held)
}

fn append(reader: &mut impl io::Read, bytes: u64, to: &mut Vec<u8>) -> Read<()> {
    let read = reader.by_ref().take(bytes).read_to_end(to)?;
    expect_bytes(read as u64, bytes)
}

fn skip(reader: &mut impl io::Read, bytes: u64) -> Read<()> {
    let read = io::copy(&mut reader.by_ref().take(bytes), &mut io::sink())?;
    expect_bytes(read, bytes)
}

fn expect_bytes(read: u64, expected: u64) -> Read<()> {
    if read == expected {
        Ok(())
    } else {
        Err(Problem::Io(io::ErrorKind::UnexpectedEof.into()))
    }
}

/// Nothing may follow; reaching the end also makes the decompressors check their checksums.
fn check_end(reader: &mut impl io::Read) -> Read<()> {
    let mut beyond = [0];
    if reader.read(&mut beyond)? == 0 {
        Ok(())
    } else {
        Err("has more bytes than its header declares".into())
    }
}

/// One sample out of a Fortran-ordered array, in C order.
fn gather(whole: &[u8], header: &Header, sample: usize) -> Vec<u8> {
    let element = header.dtype.bytes();
    let dims = header.sample_dims();
    let mut strides = Vec::with_capacity(dims.len());
    let mut stride = header.samples();
    for dim in dims {
        strides.push(stride);
        stride *= dim;
    }
    let mut bytes = Vec::with_capacity(header.sample_bytes);
    let mut index = vec![0; dims.len()];
    for _ in 0..header.sample_bytes / element {
        let inner: usize = index
            .iter()
            .zip(&strides)
            .map(|(i, stride)| i * stride)
            .sum();
        let start = (sample + inner) * element;
        bytes.extend_from_slice(&whole[start..start + element]);
        for axis in (0..dims.len()).rev() {
            index[axis] += 1;
            if index[axis] < dims[axis] {
                break;
            }
            index[axis] = 0;
        }
    }
    bytes
}
