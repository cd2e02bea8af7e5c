//! Features of an extraction by way of an entry on disk.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    Sizes,
    entry::{self, Entry, Found},
    key::Key,
    lock::{self, Lock},
    manifest::Manifest,
    sums,
    writer::Writer,
};
use crate::{
    data::readable_bytes,
    disk,
    error::{Error, Result},
    features::{
        Extraction, FeatureSet,
        extract::{Event, Listener, Run},
        layout::Layout,
        rows::Rows,
        set::Place,
    },
};

/// The cache's folder, and what may go wrong with it.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    pub(super) root: PathBuf,
    /// Whether the user named the folder: then it is an error if it cannot be used.
    pub(super) asked: bool,
    pub(super) sizes: Sizes,
}

/// Where the wanted samples stand with an entry.
struct Wanted<'e> {
    extraction: Extraction<'e>,
    folder: PathBuf,
    missing: Vec<usize>,
}

impl Disk {
    /// The features of the wanted samples; nothing where the cache cannot be used and need not be.
    pub(super) fn features(
        &self,
        key: &Key,
        extraction: Extraction<'_>,
        on: &mut Listener<'_>,
    ) -> Result<Option<FeatureSet>> {
        let folder = self.root.join(key.as_str());
        if let (Found::Entry(entry), 0) = find(&folder, &extraction)?
            && entry.has_labels()
            && missing(&entry, extraction.indices).is_empty()
        {
            lock::touch(&folder);
            say_found(&entry, extraction.indices.len(), on)?;
            return self.set(&extraction, &entry).map(Some);
        }
        let lock = match Lock::take(&folder, on) {
            Ok(lock) => lock,
            // Waiting for the lock was interrupted.
            Err(error) if self.asked || !is_io_at(&error, &self.root) => return Err(error),
            Err(error) => {
                on(Event::Note(&format!(
                    "features are kept in memory alone, since the cache cannot be used: {error}"
                )))?;
                return Ok(None);
            }
        };
        let entry = self.ready(&folder, &extraction, on)?;
        let found = self.complete(key, &extraction, folder, entry, on);
        drop(lock);
        found
    }

    /// The entry as it is, mended or removed where it is broken.
    fn ready(
        &self,
        folder: &Path,
        extraction: &Extraction<'_>,
        on: &mut Listener<'_>,
    ) -> Result<Option<Entry>> {
        let (found, changed) = find(folder, extraction)?;
        if changed > 0 {
            on(Event::Note(&format!(
                "{}: {changed} rows have changed since they were written, and are computed again",
                folder.display()
            )))?;
        }
        let found = match found {
            Found::Entry(entry) => Some(*entry),
            Found::Nothing => None,
            Found::Broken(why) => {
                on(Event::Note(&format!(
                    "{} is made anew: {why}",
                    folder.display()
                )))?;
                None
            }
        };
        match &found {
            None => entry::remove_files(folder)?,
            Some(entry) if !entry.has_labels() => {
                on(Event::Note(&format!(
                    "{}: labels.npy is written again",
                    folder.display()
                )))?;
                entry::write_labels(folder, extraction.dataset.labels())?;
            }
            Some(_) => {}
        }
        Ok(found)
    }

    /// Computes what is missing; nothing where there is no room for it.
    fn complete(
        &self,
        key: &Key,
        extraction: &Extraction<'_>,
        folder: PathBuf,
        entry: Option<Entry>,
        on: &mut Listener<'_>,
    ) -> Result<Option<FeatureSet>> {
        let missing = match &entry {
            Some(entry) => missing(entry, extraction.indices),
            None => {
                let wanted: BTreeSet<usize> = extraction.indices.iter().copied().collect();
                wanted.into_iter().collect()
            }
        };
        if let Some(entry) = &entry {
            say_found(entry, extraction.indices.len() - missing.len(), on)?;
            if missing.is_empty() {
                return self.set(extraction, entry).map(Some);
            }
        }
        let wanted = Wanted {
            extraction: *extraction,
            folder,
            missing,
        };
        let run = Run::new(*extraction, on)?;
        on(Event::Begin(wanted.missing.len()))?;
        let layouts = entry.as_ref().map(|entry| entry.manifest.layouts().into());
        // Both the opening and the rows are heard of.
        let on = RefCell::new(on);
        let writer = run.over(
            &wanted.missing,
            layouts,
            |layouts| {
                self.open(
                    key,
                    &wanted,
                    &layouts,
                    entry.as_ref(),
                    &mut **on.borrow_mut(),
                )
            },
            |writer: &mut Writer, samples, rows| {
                writer.add(samples, &rows)?;
                on.borrow_mut()(Event::Rows(samples.len()))
            },
        )?;
        let Some(mut writer) = writer else {
            return Ok(None);
        };
        writer.save()?;
        drop(writer);
        self.set(extraction, &written(&wanted.folder)?).map(Some)
    }

    /// Says how much is to come, and makes the entry if there is room for it; nothing if not.
    fn open(
        &self,
        key: &Key,
        wanted: &Wanted<'_>,
        layouts: &[Layout],
        entry: Option<&Entry>,
        on: &mut Listener<'_>,
    ) -> Result<Option<Writer>> {
        let Wanted {
            folder, missing, ..
        } = wanted;
        let row: u64 = layouts.iter().map(|layout| layout.row_bytes() as u64).sum();
        let size = readable_bytes(row.saturating_mul(missing.len() as u64));
        let features = format!("features of {} samples, {size},", missing.len());
        let why_not = match self.room_for(layouts, wanted) {
            Ok(()) => match self.writer(key, wanted, layouts, entry) {
                Ok(writer) => {
                    on(Event::Note(&format!(
                        "{features} go to {}",
                        folder.display()
                    )))?;
                    return Ok(Some(writer));
                }
                Err(error) if self.asked => return Err(error),
                Err(error) => error.to_string(),
            },
            Err(why) => why,
        };
        on(Event::Note(&format!(
            "{features} are kept in memory alone: {why_not}"
        )))?;
        Ok(None)
    }

    fn writer(
        &self,
        key: &Key,
        wanted: &Wanted<'_>,
        layouts: &[Layout],
        entry: Option<&Entry>,
    ) -> Result<Writer> {
        if let Some(entry) = entry {
            return Writer::new(entry, self.sizes.block_bytes);
        }
        let Wanted {
            extraction, folder, ..
        } = wanted;
        let manifest = Manifest::new(key, extraction, layouts);
        let labels = extraction.dataset.labels();
        let made = Entry::create(folder, &manifest, labels);
        // What a half-made entry takes may be what others lack.
        made.inspect_err(|_| drop(entry::remove_files(folder)))?;
        Writer::new(&written(folder)?, self.sizes.block_bytes)
    }

    /// Whether the file system has room for the missing rows, each of which may begin and end in the
    /// middle of a block; never more than all rows of the data set take.
    fn room_for(&self, layouts: &[Layout], wanted: &Wanted<'_>) -> Result<(), String> {
        /// Usual size of a block.
        const BLOCK: u64 = 4096;
        let Wanted {
            extraction,
            folder,
            missing,
        } = wanted;
        let runs = missing.chunk_by(|one, next| one + 1 == *next).count() as u64;
        let samples = extraction.dataset.len() as u64;
        let rows = |layout: &Layout| {
            let row = layout.row_bytes() as u64;
            let exact = row.saturating_mul(missing.len() as u64);
            let scattered = exact.saturating_add(2 * BLOCK * runs);
            scattered.min(row.saturating_mul(samples).saturating_add(2 * BLOCK))
        };
        let needed: u64 = layouts.iter().map(rows).fold(0, u64::saturating_add);
        match self.sizes.free.or_else(|| disk::free(folder)) {
            Some(free) if free < needed => Err(format!(
                "up to {} are needed in {}, and {} are free",
                readable_bytes(needed),
                self.root.display(),
                readable_bytes(free)
            )),
            _ => Ok(()),
        }
    }

    /// The wanted rows of an entry.
    fn set(&self, extraction: &Extraction<'_>, entry: &Entry) -> Result<FeatureSet> {
        let Extraction {
            indices,
            dataset,
            input,
            ..
        } = *extraction;
        let layouts: Arc<[Layout]> = entry.manifest.layouts().into();
        let rows = Rows::in_files(&layouts, &entry.files)?;
        let bytes = entry
            .manifest
            .row_bytes()
            .saturating_mul(indices.len() as u64);
        let (rows, places): (Rows, Vec<usize>) = match bytes <= self.sizes.most_loaded {
            true => (
                rows.loaded(&layouts, indices)?,
                (0..indices.len()).collect(),
            ),
            false => (rows, indices.to_vec()),
        };
        let places = places.into_iter().map(|row| Place { part: 0, row });
        let labels = dataset.labels();
        Ok(FeatureSet::new(
            layouts,
            vec![Arc::new(rows)],
            places.collect(),
            labels.map(|labels| indices.iter().map(|&index| labels[index]).collect()),
            input.fixed_batch(),
        ))
    }
}

fn say_found(entry: &Entry, count: usize, on: &mut Listener<'_>) -> Result<()> {
    if count == 0 {
        return Ok(());
    }
    on(Event::Reused {
        samples: count,
        folder: &entry.folder,
    })
}

/// What lies in the place of an entry, seen with an extraction's eyes, and how many of the rows it
/// wants are not what was written: these do not count as present.
fn find(folder: &Path, extraction: &Extraction<'_>) -> Result<(Found, usize)> {
    let mut entry = match Entry::find(folder) {
        Found::Entry(entry) if entry.manifest.fits(extraction) => entry,
        Found::Entry(_) => {
            let why = "its manifest describes other features".to_owned();
            return Ok((Found::Broken(why), 0));
        }
        found => return Ok((found, 0)),
    };
    let layouts = entry.manifest.layouts();
    let rows = Rows::in_files(&layouts, &entry.files)?;
    let wanted: BTreeSet<usize> = extraction.indices.iter().copied().collect();
    let wanted = wanted.into_iter().filter(|&index| entry.has(index));
    let wanted: Vec<usize> = wanted.collect();
    let changed = sums::changed(&rows, &layouts, &wanted, &entry.sums)?;
    for &row in &changed {
        entry.present[row] = 0;
    }
    Ok((Found::Entry(entry), changed.len()))
}

/// An entry that must be there.
fn written(folder: &Path) -> Result<Entry> {
    let why = match Entry::find(folder) {
        Found::Entry(entry) => return Ok(*entry),
        Found::Nothing => "it is gone".to_owned(),
        Found::Broken(why) => why,
    };
    Err(Error::Format {
        path: folder.to_owned(),
        what: format!("the features written there cannot be read back: {why}"),
    })
}

/// Wanted samples whose rows are not there, sorted.
fn missing(entry: &Entry, indices: &[usize]) -> Vec<usize> {
    let wanted: BTreeSet<usize> = indices.iter().copied().collect();
    let wanted = wanted.into_iter();
    wanted.filter(|&index| !entry.has(index)).collect()
}

fn is_io_at(error: &Error, root: &Path) -> bool {
    matches!(error, Error::Io { path, .. } if path.starts_with(root))
}
