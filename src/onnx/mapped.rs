//! Bytes of a file without reading them: large weights are the kernel's cached pages, and only those looked at.
//!
//! One of two places with `unsafe`. A mapping is sound as long as the file stays as it is: nobody can promise that of a file.
//! What follows if another program changes it meanwhile:
//! - Cut short: touching a page behind the new end ends this process by SIGBUS. Nothing is left in place of the
//!   output, which is renamed when it is complete; its temporary folder stays.
//! - Written to: values change under way, as they would while a file is read. No length or index is taken from
//!   the bytes twice and trusted the second time: messages are decoded once, and every access to the bytes is checked.
//!
//! Programs that replace a model write a new file and rename it, as this one does; the mapping then keeps the old one.
//! ONNX Runtime, safetensors and llama.cpp map weights on the same terms. Files below [`MAPPED_BYTES`] are read: it
//! takes no longer, and nothing can happen to them.

#![expect(
    unsafe_code,
    reason = "mapping a file; see the head of this file for why it is sound enough"
)]

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    ops::Range,
};

use bytes::Bytes;
use memmap2::MmapOptions;

/// Smallest range that is mapped: reading 32 MiB takes some 15 ms.
pub(super) const MAPPED_BYTES: u64 = 32 << 20;

/// The bytes of a range of a file, which is as long as `length` says it is. Large ranges are mapped where the file
/// system can do it, others read.
///
/// # Errors
/// When the file cannot be read, or ends before the range does.
pub(super) fn bytes(file: &mut File, length: u64, range: &Range<u64>) -> io::Result<Bytes> {
    if range.end > length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if range.end - range.start >= MAPPED_BYTES
        && let Ok(mapped) = mapped(file, range)
    {
        return Ok(mapped);
    }
    read(file, range)
}

fn mapped(file: &File, range: &Range<u64>) -> io::Result<Bytes> {
    let length = usize::try_from(range.end - range.start).map_err(io::Error::other)?;
    let mut options = MmapOptions::new();
    options.offset(range.start).len(length);
    // SAFETY: see the head of this file.
    let mapped = unsafe { options.map(file) }?;
    Ok(Bytes::from_owner(mapped))
}

fn read(file: &mut File, range: &Range<u64>) -> io::Result<Bytes> {
    let length = usize::try_from(range.end - range.start).map_err(io::Error::other)?;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(length)?;
    file.seek(SeekFrom::Start(range.start))?;
    file.take(range.end - range.start).read_to_end(&mut bytes)?;
    if bytes.len() != length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(bytes.into())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn mapped_and_read_ranges_hold_the_same_bytes() {
        let mut file = tempfile::tempfile().unwrap();
        let block: Vec<u8> = (0..=250).collect();
        let length = MAPPED_BYTES + 1000;
        let mut written = 0;
        while written < length {
            file.write_all(&block).unwrap();
            written += 251;
        }
        // No offset is a multiple of the page, and the second range is too small to be mapped.
        for range in [
            3..3 + MAPPED_BYTES,
            MAPPED_BYTES - 500..MAPPED_BYTES,
            0..written,
            7..7,
        ] {
            let found = bytes(&mut file, written, &range).unwrap();
            let length = u64::try_from(found.len()).unwrap();
            assert_eq!(length, range.end - range.start);
            assert!(
                (range.start..)
                    .zip(&found)
                    .all(|(at, &byte)| u64::from(byte) == at % 251)
            );
        }
    }

    #[test]
    fn ranges_behind_the_end_are_refused() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[1; 100]).unwrap();
        for (length, range) in [(100, 90..101), (100, 0..MAPPED_BYTES), (200, 90..110)] {
            let error = bytes(&mut file, length, &range).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{range:?}");
        }
    }
}
