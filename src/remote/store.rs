//! The object stores, and fetching from them in pieces.
//!
//! Large files come in pieces of [`PIECE`] bytes, so that memory is bounded and a lost connection costs one piece; each
//! is asked for again a few times. All pieces must be of the same version of the file.

use std::env;
use std::error::Error as _;
use std::fs::{self, File};
use std::io::{self, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::http::HttpBuilder;
use object_store::{
    ClientOptions, Error as StoreError, GetOptions, ObjectMeta, ObjectStore, ObjectStoreExt,
    RetryConfig, path::Path as Key,
};
use tokio::runtime::{Builder, Runtime};

use super::refused;
use crate::disk;
use crate::error::{Error, Result};

/// Bytes of one request.
const PIECE: u64 = 16 << 20;
/// Longest file that is taken in one piece from a server that knows no pieces.
const MOST_WHOLE: u64 = 1 << 30;
/// Requests at a time, where there are several files.
const AT_ONCE: usize = 8;
/// Times that a request is made again, and until when: long enough for a hiccup, short enough for somebody who waits.
const RETRIES: usize = 4;
const RETRY_FOR: Duration = Duration::from_secs(60);
const CONNECT_FOR: Duration = Duration::from_secs(10);
/// For one piece: 140 kB a second.
const REQUEST_FOR: Duration = Duration::from_secs(120);

/// Fetches every file into `folder`; returns what is left of the limit.
pub(super) fn fetch(
    files: &[(PathBuf, PathBuf)],
    folder: &Path,
    limit: u64,
    may_lack: bool,
) -> Result<u64> {
    let (next, left) = (AtomicUsize::new(0), AtomicU64::new(limit));
    let work = || -> Result<()> {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(Error::io("the network"))?;
        while let Some((address, name)) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            let one = One {
                address,
                folder,
                runtime: &runtime,
                left: &left,
            };
            match one.fetch(name) {
                Err(Failure::Missing(_)) if may_lack => {}
                Err(Failure::Missing(error) | Failure::Other(error)) => {
                    // The others have nothing left to do.
                    next.store(files.len(), Ordering::Relaxed);
                    return Err(error);
                }
                Ok(()) => {}
            }
        }
        Ok(())
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE.min(files.len()))
            .map(|_| scope.spawn(work))
            .collect();
        let ended = workers.into_iter().map(|worker| {
            let lost = || {
                Err(refused(
                    folder,
                    io::ErrorKind::Other,
                    "a fetching thread ended",
                ))
            };
            worker.join().unwrap_or_else(|_| lost())
        });
        ended
            .collect::<Vec<_>>()
            .into_iter()
            .collect::<Result<()>>()
    })?;
    Ok(left.into_inner())
}

enum Failure {
    /// There is no such file.
    Missing(Error),
    Other(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

/// One file on its way.
struct One<'a> {
    address: &'a Path,
    /// Where it goes.
    folder: &'a Path,
    runtime: &'a Runtime,
    left: &'a AtomicU64,
}

impl One<'_> {
    fn fetch(&self, name: &Path) -> Result<(), Failure> {
        let to = &self.folder.join(name);
        let (store, key) = open(self.address)?;
        let read = self.runtime.block_on(store.head(&key));
        let meta = read.map_err(|error| self.failure(error))?;
        self.reserve(meta.size)?;
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder).map_err(Error::io(folder))?;
        }
        let mut file = File::create(to).map_err(Error::io(to))?;
        let mut at = 0;
        while at < meta.size {
            let piece = at..meta.size.min(at + PIECE);
            let bytes = match self.piece(&*store, &key, &meta, piece) {
                Err(StoreError::NotSupported { .. }) if at == 0 => {
                    self.whole(&*store, &key, meta.size)?
                }
                piece => piece.map_err(|error| self.failure(error))?,
            };
            file.write_all(&bytes).map_err(Error::io(to))?;
            at += bytes.len() as u64;
        }
        // What is kept of earlier runs is found by when the data was written.
        file.set_modified(meta.last_modified.into())
            .map_err(Error::io(to))?;
        Ok(())
    }

    fn piece(
        &self,
        store: &dyn ObjectStore,
        key: &Key,
        meta: &ObjectMeta,
        piece: Range<u64>,
    ) -> Result<bytes::Bytes, StoreError> {
        let wanted = piece.end - piece.start;
        let options = GetOptions {
            range: Some(piece.into()),
            if_match: meta.e_tag.clone(),
            ..GetOptions::default()
        };
        let bytes = self.runtime.block_on(async {
            let found = store.get_opts(key, options).await?;
            found.bytes().await
        })?;
        match bytes.len() as u64 == wanted {
            true => Ok(bytes),
            false => Err(StoreError::Generic {
                store: "remote",
                source: "it ended before all of it had come".into(),
            }),
        }
    }

    /// For servers that answer a request for a piece with everything.
    fn whole(&self, store: &dyn ObjectStore, key: &Key, size: u64) -> Result<bytes::Bytes> {
        if size > MOST_WHOLE {
            let what = "the server sends files only whole, and this one is larger than 1.0 GiB; fetch it by hand";
            return Err(refused(self.address, io::ErrorKind::Unsupported, what));
        }
        let read = self.runtime.block_on(async {
            let found = store.get(key).await?;
            found.bytes().await
        });
        match read {
            Ok(bytes) if bytes.len() as u64 == size => Ok(bytes),
            Ok(_) => Err(refused(
                self.address,
                io::ErrorKind::UnexpectedEof,
                "it ended before all of it had come",
            )),
            Err(error) => Err(explained(self.address, error)),
        }
    }

    /// Takes a file's size off what may still be fetched, if the disk has room for it.
    fn reserve(&self, size: u64) -> Result<()> {
        let gib = |bytes: u64| bytes as f64 / (1_u64 << 30) as f64;
        let large = |what: String| {
            let what = format!("it has {:.1} GiB, and {what}", gib(size));
            Err(refused(self.address, io::ErrorKind::FileTooLarge, what))
        };
        let taken = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(size)
            });
        if let Err(left) = taken {
            let most = gib(super::MOST_BYTES);
            let in_all = if left < super::MOST_BYTES {
                " in all"
            } else {
                ""
            };
            return large(format!(
                "at most {most:.1} GiB are fetched{in_all}; fetch it by hand"
            ));
        }
        match disk::free(self.folder) {
            Some(free) if free < size => large(format!(
                "only {:.1} GiB are free in {}; TMPDIR names another folder",
                gib(free),
                self.folder.display()
            )),
            _ => Ok(()),
        }
    }

    fn failure(&self, error: StoreError) -> Failure {
        match error {
            StoreError::NotFound { .. } => Failure::Missing(explained(self.address, error)),
            _ => Failure::Other(explained(self.address, error)),
        }
    }
}

/// The store of an address, set up from the usual environment variables, and the key in it.
fn open(address: &Path) -> Result<(Box<dyn ObjectStore>, Key)> {
    let invalid = || refused(address, io::ErrorKind::InvalidInput, "this is no address");
    let text = address.to_str().ok_or_else(invalid)?;
    let (scheme, rest) = text.split_once("://").ok_or_else(invalid)?;
    let (host, key) = rest.split_once('/').ok_or_else(invalid)?;
    let key = Key::from_url_path(key).map_err(|error| explained(address, error.into()))?;
    let root = format!("{scheme}://{host}");
    let store: Result<Box<dyn ObjectStore>, StoreError> = match scheme {
        "s3" => AmazonS3Builder::from_env()
            .with_url(root)
            .with_retry(retries())
            .with_client_options(client(aws_allows_http()))
            .build()
            .map(|store| Box::new(store) as _),
        "gs" => GoogleCloudStorageBuilder::from_env()
            .with_url(root)
            .with_retry(retries())
            .with_client_options(client(false))
            .build()
            .map(|store| Box::new(store) as _),
        _ => HttpBuilder::new()
            .with_url(root)
            .with_retry(retries())
            .with_client_options(client(scheme == "http"))
            .build()
            .map(|store| Box::new(store) as _),
    };
    Ok((store.map_err(|error| explained(address, error))?, key))
}

fn client(allow_http: bool) -> ClientOptions {
    ClientOptions::new()
        .with_allow_http(allow_http)
        .with_connect_timeout(CONNECT_FOR)
        .with_timeout(REQUEST_FOR)
}

fn retries() -> RetryConfig {
    RetryConfig {
        max_retries: RETRIES,
        retry_timeout: RETRY_FOR,
        ..RetryConfig::default()
    }
}

/// Whoever names an endpoint without TLS means it.
fn aws_allows_http() -> bool {
    let named = |name: &str| env::var(name).unwrap_or_default();
    let endpoints = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"];
    endpoints
        .iter()
        .any(|name| named(name).starts_with("http://"))
        || matches!(&*named("AWS_ALLOW_HTTP"), "true" | "1")
}

/// The error in a few words, with what to do about it.
fn explained(address: &Path, error: StoreError) -> Error {
    let credentials = missing_credentials(address);
    let (kind, what) = match &error {
        StoreError::NotFound { .. } => (
            io::ErrorKind::NotFound,
            "there is no such file (404)".to_owned(),
        ),
        StoreError::PermissionDenied { .. } => (
            io::ErrorKind::PermissionDenied,
            format!("access is denied (403){credentials}"),
        ),
        StoreError::Unauthenticated { .. } => (
            io::ErrorKind::PermissionDenied,
            format!("it wants credentials (401){credentials}"),
        ),
        StoreError::Precondition { .. } => (
            io::ErrorKind::Other,
            "it was replaced while it was fetched; try again".to_owned(),
        ),
        error => (
            io::ErrorKind::Other,
            format!("{}{credentials}", causes(error)),
        ),
    };
    refused(address, kind, what)
}

/// The error and its causes in one line, each said once.
fn causes(error: &StoreError) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What to set, where the environment holds nothing to sign requests with.
fn missing_credentials(address: &Path) -> &'static str {
    let none = |names: &[&str]| names.iter().all(|name| env::var_os(name).is_none());
    let text = address.to_str().unwrap_or_default();
    let aws = [
        "AWS_ACCESS_KEY_ID",
        "AWS_SKIP_SIGNATURE",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    ];
    let google = [
        "GOOGLE_SERVICE_ACCOUNT",
        "GOOGLE_SERVICE_ACCOUNT_PATH",
        "GOOGLE_SERVICE_ACCOUNT_KEY",
        "GOOGLE_APPLICATION_CREDENTIALS",
        "GOOGLE_SKIP_SIGNATURE",
    ];
    match text {
        _ if text.starts_with("s3://") && none(&aws) => {
            "; no credentials are set: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (`aws configure export-credentials --format env` prints them), or AWS_SKIP_SIGNATURE=true for what is public"
        }
        _ if text.starts_with("gs://") && none(&google) => {
            "; no credentials are set: GOOGLE_APPLICATION_CREDENTIALS, or GOOGLE_SKIP_SIGNATURE=true for what is public"
        }
        _ => "",
    }
}
