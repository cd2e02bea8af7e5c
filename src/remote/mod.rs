//! Files at `s3://`, `gs://`, `http://` and `https://` addresses, fetched into a temporary folder before they are read.
//!
//! Only a build with the feature `remote` can; any other says so. What was fetched lies under its own name, so that
//! whatever looks at names finds them, and goes with the [`Fetched`] that holds it.

#[cfg(feature = "remote")]
mod store;

use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::error::{Error, Result};

/// Most bytes of one data set or model; what is larger is better fetched once, by hand.
pub const MOST_BYTES: u64 = 64 << 30;

const SCHEMES: [&str; 4] = ["s3://", "gs://", "http://", "https://"];

/// Whether a path is an address.
pub fn is_remote(path: &Path) -> bool {
    let text = path.to_str().unwrap_or_default();
    SCHEMES.iter().any(|scheme| text.starts_with(scheme))
}

/// Refuses to write to an address.
pub fn only_here(path: &Path) -> Result<()> {
    match is_remote(path) {
        true => Err(refused(
            path,
            io::ErrorKind::Unsupported,
            "only files of this machine are written",
        )),
        false => Ok(()),
    }
}

/// The address of what lies beside `address`: its last part replaced by `name`.
pub fn beside(address: &Path, name: &str) -> PathBuf {
    let text = address.to_str().unwrap_or_default();
    let folder = text.rfind('/').map_or("", |slash| &text[..=slash]);
    PathBuf::from(format!("{folder}{name}"))
}

/// Files that were fetched; they are removed when this is dropped.
#[derive(Debug)]
pub struct Fetched {
    folder: TempDir,
    left: u64,
}

impl Fetched {
    /// Nothing yet.
    pub fn new() -> Result<Self> {
        let folder = TempDir::with_prefix("onnx-prune-");
        Ok(Self {
            folder: folder.map_err(Error::io(std::env::temp_dir()))?,
            left: MOST_BYTES,
        })
    }

    /// Where the files lie.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Fetches the files at `addresses` into the folder, each under the name beside it: a relative path that does not
    /// leave the folder.
    ///
    /// [`Error::Io`] names the address, and says what to do where it is not there, access is denied, credentials are
    /// missing, or it is larger than what is left of [`MOST_BYTES`].
    pub fn fetch(&mut self, files: &[(PathBuf, PathBuf)]) -> Result<()> {
        self.fetch_from(files, false)
    }

    /// The same, but what is not there is left out.
    pub fn fetch_what_is_there(&mut self, files: &[(PathBuf, PathBuf)]) -> Result<()> {
        self.fetch_from(files, true)
    }

    #[cfg(feature = "remote")]
    fn fetch_from(&mut self, files: &[(PathBuf, PathBuf)], may_lack: bool) -> Result<()> {
        self.left = store::fetch(files, self.folder.path(), self.left, may_lack)?;
        Ok(())
    }

    #[cfg(not(feature = "remote"))]
    fn fetch_from(&mut self, files: &[(PathBuf, PathBuf)], _may_lack: bool) -> Result<()> {
        let _ = self.left;
        match files.first() {
            None => Ok(()),
            Some((address, _)) => Err(refused(
                address,
                io::ErrorKind::Unsupported,
                "this build cannot read from there; fetch it, or build with `cargo install onnx-prune --features remote`",
            )),
        }
    }

    /// An error that names the file in the folder, as one that names its address.
    pub fn readdressed(&self, error: Error, address: &Path) -> Error {
        let addressed = |path: PathBuf| match path.strip_prefix(self.folder()) {
            Ok(name) => beside(address, &name.to_string_lossy()),
            Err(_) => path,
        };
        match error {
            Error::Io { path, source } => Error::Io {
                path: addressed(path),
                source,
            },
            Error::Data { path, what } => Error::Data {
                path: addressed(path),
                what,
            },
            Error::Format { path, what } => Error::Format {
                path: addressed(path),
                what,
            },
            other => other,
        }
    }
}

/// The name of the file at an address.
pub fn file_name(address: &Path) -> Result<PathBuf> {
    let name = address.file_name().map(PathBuf::from);
    let text = address.to_str().unwrap_or_default();
    if text.contains('?') {
        let what = "an address with a query cannot be read; fetch the file by hand";
        return Err(refused(address, io::ErrorKind::InvalidInput, what));
    }
    let parts = text.split("://").nth(1).unwrap_or_default();
    match name {
        Some(name) if parts.trim_end_matches('/').contains('/') && !text.ends_with('/') => Ok(name),
        _ => {
            let what = "the address names no file";
            Err(refused(address, io::ErrorKind::InvalidInput, what))
        }
    }
}

fn refused(address: &Path, kind: io::ErrorKind, what: impl Into<String>) -> Error {
    Error::Io {
        path: address.to_owned(),
        source: io::Error::new(kind, what.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_from_paths() {
        for remote in ["s3://b/k", "gs://b/k", "http://h/k", "https://h/k.onnx"] {
            assert!(is_remote(Path::new(remote)), "{remote}");
        }
        for local in ["a/b", "/s3/b", "s3:/b", "ftp://h/k", "C:\\a", "file:///a"] {
            assert!(!is_remote(Path::new(local)), "{local}");
        }
        let csv = Path::new("s3://b/d/t.csv");
        assert_eq!(beside(csv, "a/1.png"), Path::new("s3://b/d/a/1.png"));
    }

    #[test]
    fn an_address_names_a_file() {
        assert_eq!(
            file_name(Path::new("s3://b/d/t.csv")).unwrap(),
            Path::new("t.csv")
        );
        for (address, part) in [
            ("s3://b", "names no file"),
            ("s3://b/", "names no file"),
            ("s3://b/d/", "names no file"),
            ("http://h/a?b=c", "query"),
        ] {
            let error = file_name(Path::new(address)).unwrap_err().to_string();
            assert!(error.contains(part), "{address}: {error}");
        }
    }

    #[test]
    fn errors_name_the_address_not_the_copy() {
        let fetched = Fetched::new().unwrap();
        let copy = fetched.folder().join("t.npz");
        let error = Error::Data {
            path: copy,
            what: "is empty".to_owned(),
        };
        let address = Path::new("s3://b/d/t.npz");
        let shown = fetched.readdressed(error, address).to_string();
        assert_eq!(shown, "s3://b/d/t.npz: is empty");
    }

    #[cfg(not(feature = "remote"))]
    #[test]
    fn a_build_without_the_feature_says_how_to_get_it() {
        let mut fetched = Fetched::new().unwrap();
        let error = fetched
            .fetch(&[("s3://b/k".into(), "k".into())])
            .unwrap_err();
        assert!(
            error.to_string().starts_with("s3://b/k: this build cannot"),
            "{error}"
        );
        assert!(error.to_string().contains("--features remote"), "{error}");
    }
}
