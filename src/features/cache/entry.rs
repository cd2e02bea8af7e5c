//! One folder of the cache: the features of one trunk on one data set.
//!
//! `manifest.json` says what they are. Each value has a `.npy` file `[N, ..]` with room for every
//! sample of the data set, in which rows that nobody has asked for are holes; `present.npy` says
//! which rows are there, `sums.npy` what their bytes add up to, and `labels.npy` holds the labels. A
//! row counts from the moment at which `present.npy` is replaced, after its bytes and its sum have
//! reached the disk. Rows never change, and a folder
//! that is made anew loses its manifest first and gets the new one last: whoever finds the same
//! manifest before and after has read nothing of another folder.

use std::{
    fs::{self, File},
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use super::{lock, manifest, manifest::Manifest, npy, sums};
use crate::error::{Error, Result};

const PRESENT: &str = "present.npy";
const LABELS: &str = "labels.npy";

/// An entry that was read.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) folder: PathBuf,
    pub(super) manifest: Manifest,
    /// 1 for every sample whose rows are there.
    pub(super) present: Vec<u8>,
    /// The sum over each row's bytes; of no meaning for rows that are not there.
    pub(super) sums: Vec<u64>,
    /// Per value with rows: its file, and where they begin.
    pub(super) files: Vec<Option<(PathBuf, File, u64)>>,
}

/// What lies in the place of an entry.
#[derive(Debug)]
pub(super) enum Found {
    /// Nothing, or what a run left that had hardly begun.
    Nothing,
    /// Something that is of no use, and why.
    Broken(String),
    Entry(Box<Entry>),
}

impl Entry {
    /// Reads what lies at `folder`.
    pub(super) fn find(folder: &Path) -> Found {
        if !folder.join(manifest::NAME).exists() {
            return Found::Nothing;
        }
        match Self::read(folder) {
            Ok(entry) => Found::Entry(Box::new(entry)),
            Err(why) => Found::Broken(why),
        }
    }

    fn read(folder: &Path) -> Result<Self, String> {
        let found = Manifest::read(folder)?;
        let samples = found.samples;
        let header = npy::header("|b1", &[samples]);
        let length = header.len();
        npy::open(&folder.join(PRESENT), &header, samples as u64)?;
        let present = fs::read(folder.join(PRESENT));
        let mut present = present.map_err(|error| format!("{PRESENT}: {error}"))?;
        if present.len() != length + samples || present[length..].iter().any(|&flag| flag > 1) {
            return Err(format!("{PRESENT} holds other than true and false"));
        }
        present.drain(..length);
        // Read after the list: a run that adds rows replaces the sums before it.
        let sums = sums::read(folder, samples)?;
        let files = found.values.iter().map(|value| {
            let (Some(name), Some((header, bytes))) = (&value.file, value.form(samples)) else {
                return Ok(None);
            };
            let path = folder.join(name);
            let file = npy::open(&path, &header, bytes)?;
            Ok(Some((path, file, header.len() as u64)))
        });
        let files = files.collect::<Result<Vec<_>, String>>()?;
        if Manifest::read(folder)? != found {
            return Err("it was made anew while it was read".to_owned());
        }
        Ok(Self {
            folder: folder.to_owned(),
            manifest: found,
            present,
            sums,
            files,
        })
    }

    /// Makes the files of an entry in a folder that is there, with no row present.
    pub(super) fn create(
        folder: &Path,
        manifest: &Manifest,
        labels: Option<&[usize]>,
    ) -> Result<()> {
        let samples = manifest.samples;
        for value in &manifest.values {
            if let (Some(name), Some((header, bytes))) = (&value.file, value.form(samples)) {
                let path = folder.join(name);
                npy::create_sparse(&path, &header, bytes).map_err(Error::io(&path))?;
            }
        }
        write_labels(folder, labels)?;
        sums::write(folder, &vec![0; samples])?;
        write_present(folder, &vec![0; samples])?;
        let path = folder.join(manifest::NAME);
        let beside = path.with_added_extension("new");
        fs::write(&beside, manifest.to_json())
            .and_then(|()| File::open(&beside)?.sync_all())
            .and_then(|()| fs::rename(&beside, &path))
            .map_err(Error::io(&path))
    }

    /// Whether `labels.npy` is as it should be.
    pub(super) fn has_labels(&self) -> bool {
        let samples = self.manifest.samples;
        let header = npy::header("<i8", &[samples]);
        let path = self.folder.join(LABELS);
        !self.manifest.labels || npy::open(&path, &header, 8 * samples as u64).is_ok()
    }

    /// Whether a sample's rows are there.
    pub(super) fn has(&self, sample: usize) -> bool {
        self.present.get(sample) == Some(&1)
    }

    /// Number of samples whose rows are there.
    pub(super) fn count(&self) -> usize {
        self.present.iter().filter(|&&flag| flag == 1).count()
    }
}

/// Writes `labels.npy`.
pub(super) fn write_labels(folder: &Path, labels: Option<&[usize]>) -> Result<()> {
    let Some(labels) = labels else {
        return Ok(());
    };
    let path = folder.join(LABELS);
    let header = npy::header("<i8", &[labels.len()]);
    let bytes: Vec<u8> = labels
        .iter()
        .flat_map(|&label| (label as u64).to_le_bytes())
        .collect();
    npy::replace(&path, &header, &bytes).map_err(Error::io(&path))
}

/// Replaces `present.npy`.
pub(super) fn write_present(folder: &Path, present: &[u8]) -> Result<()> {
    let path = folder.join(PRESENT);
    let header = npy::header("|b1", &[present.len()]);
    npy::replace(&path, &header, present).map_err(Error::io(&path))?;
    sync_folder(folder);
    Ok(())
}

/// Removes the files of an entry, the manifest first, but not the lock.
///
/// # Errors
/// [`Error::Argument`] where something lies in the folder that this program does not write: then
/// nothing is removed.
pub(super) fn remove_files(folder: &Path) -> Result<()> {
    let names = names(folder).map_err(Error::io(folder))?;
    if let Some(foreign) = names.iter().find(|name| !is_ours(name)) {
        return Err(Error::Argument {
            name: "--cache",
            what: format!(
                "{} holds {foreign:?}, which is not of the cache; nothing there is touched",
                folder.display()
            ),
        });
    }
    let first = names.iter().filter(|name| *name == manifest::NAME);
    let others = names
        .iter()
        .filter(|name| *name != manifest::NAME && *name != lock::NAME);
    for name in first.chain(others) {
        let path = folder.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(Error::io(path)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Whether this program gives a file of an entry that name.
fn is_ours(name: &str) -> bool {
    let plain = name.strip_suffix(".new").unwrap_or(name);
    [manifest::NAME, PRESENT, sums::NAME, LABELS, lock::NAME].contains(&plain)
        || manifest::is_value_file(plain)
}

/// Names of what lies in a folder, sorted.
fn names(folder: &Path) -> io::Result<Vec<String>> {
    let entries = fs::read_dir(folder)?;
    let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let mut names: Vec<String> = names.collect::<io::Result<_>>()?;
    names.sort();
    Ok(names)
}

/// Makes a rename last through a power cut, where the file system can.
fn sync_folder(folder: &Path) {
    if cfg!(unix) {
        let _ = File::open(folder).and_then(|folder| folder.sync_all());
    }
}
