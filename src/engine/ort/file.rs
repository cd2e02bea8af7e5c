//! A look at a library file before it is handed to the dynamic loader.
//!
//! The loader's words for a folder are obscure, and a file that was cut short (a full disk, a broken
//! download) does not give an error at all: the process dies of SIGBUS when it touches what is
//! missing.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// Begin of an ELF file: magic, then 2 for 64 bit, then 1 for little endian. Other files are left
/// to the loader.
const ELF: [u8; 6] = [0x7f, b'E', b'L', b'F', 2, 1];

/// Bytes of the file header, and of one program header.
const HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;

/// Type of a program header whose bytes are mapped into memory.
const PT_LOAD: u64 = 1;

/// Checks that the path is a file, and that an ELF file is as long as it says.
pub(super) fn check_file(library: &Path) -> Result<(), String> {
    let text = |error: io::Error| format!("{}: {error}", library.display());
    let mut file = File::open(library).map_err(text)?;
    let metadata = file.metadata().map_err(text)?;
    if metadata.is_dir() {
        return Err(format!(
            "{}: is a folder; name the library file in it",
            library.display()
        ));
    }
    match needed_bytes(&mut file) {
        Ok(needed) if needed > metadata.len() => Err(format!(
            "{}: is cut short: {} of at least {needed} bytes",
            library.display(),
            metadata.len()
        )),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Err(format!("{}: is cut short", library.display()))
        }
        Err(error) => Err(text(error)),
    }
}

/// How long the file must be for all its parts to be mapped; 0 where we cannot tell.
/// Layout: <https://refspecs.linuxfoundation.org/elf/gabi4+/ch5.pheader.html>.
fn needed_bytes(file: &mut (impl Read + Seek)) -> io::Result<u64> {
    let mut magic = [0; ELF.len()];
    if file.read_exact(&mut magic).is_err() || magic != ELF {
        return Ok(0);
    }
    let mut header = [0; HEADER];
    file.rewind()?;
    file.read_exact(&mut header)?;
    let table = number(&header[0x20..0x28]);
    let (size, count) = (number(&header[0x36..0x38]), number(&header[0x38..0x3a]));
    let mut needed = 0;
    for index in 0..count {
        file.seek(SeekFrom::Start(table.saturating_add(index * size)))?;
        let mut segment = [0; PROGRAM_HEADER];
        file.read_exact(&mut segment)?;
        if number(&segment[..4]) == PT_LOAD {
            let (offset, bytes) = (number(&segment[8..16]), number(&segment[32..40]));
            needed = needed.max(offset.saturating_add(bytes));
        }
    }
    Ok(needed)
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
    fn file_cut_anywhere_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("libonnxruntime.so");
        let whole = fs::read(ort_library()).unwrap();
        let elf = whole.starts_with(&ELF);
        // in the header, in the program headers, in the contents, and not at all
        for (length, complete) in [
            (10, false),
            (100, false),
            (whole.len() / 2, false),
            (whole.len(), true),
        ] {
            fs::write(&path, &whole[..length]).unwrap();
            let result = check_file(&path);
            assert_eq!(result.is_ok(), complete || !elf, "{length}: {result:?}");
            if let Err(text) = result {
                assert!(text.contains("is cut short"), "{text}");
            }
        }
    }

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
    }
}
