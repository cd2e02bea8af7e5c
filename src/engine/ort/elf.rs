//! The little of an ELF file that tells whether it is whole, and which libraries it needs.
//!
//! Layout: <https://refspecs.linuxfoundation.org/elf/gabi4+/ch5.pheader.html> and
//! <https://refspecs.linuxfoundation.org/elf/gabi4+/ch5.dynamic.html>. Only 64 bit, little endian;
//! other files are left to the loader.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// Begin of such a file: magic, then 2 for 64 bit, then 1 for little endian.
pub(super) const MAGIC: [u8; 6] = [0x7f, b'E', b'L', b'F', 2, 1];

/// Bytes of the file header, of one program header, and of one entry of the dynamic section.
const HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;
const DYNAMIC_ENTRY: usize = 16;

/// Types of program headers: mapped into memory; the dynamic section.
const PT_LOAD: u64 = 1;
const PT_DYNAMIC: u64 = 2;

/// Entries of the dynamic section: a library's name; where names are.
const DT_NEEDED: u64 = 1;
const DT_STRTAB: u64 = 5;

/// More than any real file has: a broken one must not make us read without end.
const MOST_ENTRIES: u64 = 1 << 16;
const LONGEST_NAME: u64 = 4096;

/// A part of the file that becomes a part of memory.
#[derive(Clone, Copy)]
struct Segment {
    kind: u64,
    offset: u64,
    address: u64,
    bytes: u64,
}

/// How long the file must be for all its parts to be mapped; 0 where we cannot tell.
pub(super) fn needed_bytes(file: &mut (impl Read + Seek)) -> io::Result<u64> {
    let loaded = segments(file)?.into_iter();
    let ends = loaded
        .filter(|segment| segment.kind == PT_LOAD)
        .map(|segment| segment.offset.saturating_add(segment.bytes));
    Ok(ends.max().unwrap_or(0))
}

/// Names of the libraries that the loader looks for when it loads this one, as they stand there;
/// none where we cannot tell.
pub(in crate::engine) fn needed_libraries(library: &Path) -> io::Result<Vec<String>> {
    let mut file = File::open(library)?;
    let segments = segments(&mut file)?;
    let Some(dynamic) = segments.iter().find(|segment| segment.kind == PT_DYNAMIC) else {
        return Ok(Vec::new());
    };
    let (mut names, mut table) = (Vec::new(), None);
    file.seek(SeekFrom::Start(dynamic.offset))?;
    for _ in 0..(dynamic.bytes / DYNAMIC_ENTRY as u64).min(MOST_ENTRIES) {
        let mut entry = [0; DYNAMIC_ENTRY];
        file.read_exact(&mut entry)?;
        match (number(&entry[..8]), number(&entry[8..])) {
            (0, _) => break,
            (DT_NEEDED, name) => names.push(name),
            (DT_STRTAB, address) => table = Some(address),
            _ => {}
        }
    }
    // The table is given by its place in memory.
    let table = table.and_then(|address| {
        let mut loaded = segments.iter().filter(|segment| segment.kind == PT_LOAD);
        let inside = loaded.find(|segment| {
            (segment.address..segment.address.saturating_add(segment.bytes)).contains(&address)
        })?;
        Some(inside.offset.saturating_add(address - inside.address))
    });
    let Some(table) = table else {
        return Ok(Vec::new());
    };
    let names = names.into_iter();
    names
        .map(|name| text(&mut file, table.saturating_add(name)))
        .collect()
}

/// A name that ends in a zero.
fn text(file: &mut File, at: u64) -> io::Result<String> {
    file.seek(SeekFrom::Start(at))?;
    let mut bytes = Vec::new();
    io::BufReader::new(file.take(LONGEST_NAME)).read_until_zero(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

trait ReadUntilZero {
    fn read_until_zero(self, into: &mut Vec<u8>) -> io::Result<()>;
}

impl<R: io::BufRead> ReadUntilZero for R {
    fn read_until_zero(mut self, into: &mut Vec<u8>) -> io::Result<()> {
        self.read_until(0, into)?;
        if into.last() == Some(&0) {
            into.pop();
        }
        Ok(())
    }
}

fn segments(file: &mut (impl Read + Seek)) -> io::Result<Vec<Segment>> {
    let mut magic = [0; MAGIC.len()];
    file.rewind()?;
    if file.read_exact(&mut magic).is_err() || magic != MAGIC {
        return Ok(Vec::new());
    }
    let mut header = [0; HEADER];
    file.rewind()?;
    file.read_exact(&mut header)?;
    let table = number(&header[0x20..0x28]);
    let (size, count) = (number(&header[0x36..0x38]), number(&header[0x38..0x3a]));
    let mut segments = Vec::new();
    for index in 0..count {
        file.seek(SeekFrom::Start(table.saturating_add(index * size)))?;
        let mut entry = [0; PROGRAM_HEADER];
        file.read_exact(&mut entry)?;
        segments.push(Segment {
            kind: number(&entry[..4]),
            offset: number(&entry[8..16]),
            address: number(&entry[16..24]),
            bytes: number(&entry[32..40]),
        });
    }
    Ok(segments)
}

fn number(little_endian: &[u8]) -> u64 {
    let digits = little_endian.iter().rev();
    digits.fold(0, |number, &byte| (number << 8) | u64::from(byte))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::engine::testing::ort_library;

    #[test]
    fn other_files_are_left_to_the_loader() {
        for bytes in [
            b"".as_slice(),
            b"\x7fELF",
            b"text, long enough to be a header",
            b"MZ",
        ] {
            assert_eq!(needed_bytes(&mut io::Cursor::new(bytes)).unwrap(), 0);
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("library.dll");
        fs::write(&path, "MZ").unwrap();
        assert_eq!(needed_libraries(&path).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn a_library_names_what_it_needs() {
        let needed = needed_libraries(&ort_library()).unwrap();
        let expected = ["libc.so.6", "libm.so.6"];
        let linux = cfg!(target_os = "linux");
        assert!(
            !linux || expected.iter().all(|name| needed.iter().any(|n| n == name)),
            "{needed:?}"
        );
    }

    #[test]
    fn broken_tables_are_errors_and_no_panic() {
        let whole = fs::read(ort_library()).unwrap();
        if !whole.starts_with(&MAGIC) {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("library.so");
        // The number and the place of program headers, overwritten.
        for (at, bytes) in [(0x38, [0xff; 2].as_slice()), (0x20, &[0xff; 8])] {
            let mut broken = whole[..65536].to_vec();
            broken[at..at + bytes.len()].copy_from_slice(bytes);
            fs::write(&path, broken).unwrap();
            let found = needed_libraries(&path);
            assert!(found.is_err(), "{found:?}");
        }
    }
}
