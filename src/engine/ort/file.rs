//! A look at a library file before it is handed to the dynamic loader.
//!
//! The loader's words for a folder are obscure, and a file that was cut short (a full disk, a broken
//! download) does not give an error at all: the process dies of SIGBUS when it touches what is
//! missing.

use std::fs::File;
use std::io;
use std::path::Path;

use super::elf::needed_bytes;

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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::engine::ort::elf;
    use crate::engine::testing::ort_library;

    #[test]
    fn file_cut_anywhere_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("libonnxruntime.so");
        let whole = fs::read(ort_library()).unwrap();
        let elf = whole.starts_with(&elf::MAGIC);
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
}
