//! The rows of one shard in a file, and files joined to an entry of the cache.

use std::{
    cell::RefCell,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::{
    Sizes,
    entry::{self, Entry, Found},
    key::Key,
    lock::Lock,
    manifest::Manifest,
    npy,
    writer::Writer as EntryWriter,
};
use crate::{
    error::{Error, Result, Site},
    features::{
        Extraction,
        extract::{Event, Listener, Run},
        layout::Layout,
    },
    shards::{
        Coverage, Dealt,
        file::{Array, Reader, Writer},
        parts,
    },
};

/// Raised whenever a part of the same name means something else.
const SCHEMA: &str = "onnx-prune/features-part/v1";

/// What the array of the labels is called.
const LABELS: &str = "labels";

/// Bytes of rows that are copied at a time, at least one row.
const CHUNK: u64 = 16 << 20;

/// A label that is not known, as its part is missing: -1 in `labels.npy`.
const NO_LABEL: usize = usize::MAX;

/// What a part belongs to.
#[derive(Serialize, Deserialize)]
struct Text {
    schema: String,
    tool: String,
    key: String,
    dealt: Dealt,
    /// Nothing where the part has no samples.
    entry: Option<Manifest>,
}

/// What was merged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MergedFeatures {
    /// The entry of the cache.
    pub folder: PathBuf,
    /// Samples whose features are there.
    pub samples: usize,
    /// Bytes of one sample's features.
    pub row_bytes: u64,
    /// How much of the data set that is, where parts are missing.
    pub coverage: Option<Coverage>,
}

/// Whether a file holds features of a shard, and not something else.
pub fn is_part(reader: &Reader) -> bool {
    let text: Option<serde_json::Value> = serde_json::from_str(reader.text()).ok();
    let schema = text.as_ref().and_then(|text| text.get("schema")?.as_str());
    schema.is_some_and(|schema| schema.starts_with("onnx-prune/features-part/"))
}

/// Runs the trunk over the samples of a shard, those that `extraction` wants, and writes their
/// features to `path`. False where they are there already.
///
/// # Errors
/// As [`crate::features::extract()`]; [`Error::Argument`] where the part of another run lies at
/// `path`, unless it is replaced.
pub fn write_part(
    extraction: Extraction<'_>,
    dealt: &Dealt,
    path: &Path,
    replace: bool,
    on: &mut Listener<'_>,
) -> Result<bool> {
    let key = Key::of(&extraction)?;
    let text = |entry| Text {
        schema: SCHEMA.to_owned(),
        tool: env!("CARGO_PKG_VERSION").to_owned(),
        key: key.as_str().to_owned(),
        dealt: dealt.clone(),
        entry,
    };
    if is_there(path, &text(None), replace, on)? {
        return Ok(false);
    }
    if extraction.indices.is_empty() {
        Writer::create(path, &to_json(&text(None)), &[])?.finish()?;
        return Ok(true);
    }
    let run = Run::new(extraction, on)?;
    on(Event::Begin(extraction.indices.len()))?;
    let labels = extraction.dataset.labels();
    let on = RefCell::new(on);
    let open = |layouts: Arc<[Layout]>| {
        let manifest = Manifest::new(&key, &extraction, &layouts).timeless();
        let arrays = arrays(&manifest, extraction.indices.len())?;
        let text = to_json(&text(Some(manifest)));
        Ok(Some(Writer::create(path, &text, &arrays)?))
    };
    let writer = run.over(extraction.indices, None, open, |writer, samples, rows| {
        let mut array = 0;
        for bytes in rows.iter().filter(|bytes| !bytes.is_empty()) {
            writer.append(array, bytes)?;
            array += 1;
        }
        if let Some(labels) = labels {
            let own = samples.iter().map(|&sample| labels[sample]);
            let bytes = own.flat_map(|label| (label as u64).to_le_bytes());
            writer.append(array, &bytes.collect::<Vec<_>>())?;
        }
        on.borrow_mut()(Event::Rows(samples.len()))
    })?;
    writer.map_or(Ok(()), Writer::finish)?;
    Ok(true)
}

/// Joins parts to the entry of a cache in the folder `root`, from which every later run with the
/// same model, data and engine reads.
///
/// # Errors
/// [`Error::Argument`] where parts are missing, twice there, or do not belong together;
/// [`Error::Format`] for one that is broken or of another schema; [`Error::Io`].
pub fn merge_parts(
    readers: Vec<Reader>,
    root: &Path,
    allow_missing: bool,
    on: &mut Listener<'_>,
) -> Result<MergedFeatures> {
    let mut found = Vec::with_capacity(readers.len());
    for reader in readers {
        found.push((Text::of(&reader)?, reader));
    }
    found.sort_by_key(|(text, _)| (text.dealt.own.start, text.dealt.own.end));
    belong_together(&found)?;
    let dealt = found
        .iter()
        .map(|(text, reader)| (reader.path(), &text.dealt));
    let coverage = parts::coverage(&dealt.collect::<Vec<_>>(), allow_missing)?;
    let known = found.iter().find_map(|(text, _)| text.entry.as_ref());
    let Some(manifest) = known.map(Manifest::renewed) else {
        return Err(refuse("the parts hold no samples".to_owned()));
    };
    let mut samples = 0;
    for (text, reader) in &mut found {
        reader.verify()?;
        samples += text.dealt.samples().len();
    }
    let labels = labels(&mut found, &manifest)?;
    let folder = root.join(manifest.key());
    fs::create_dir_all(root).map_err(Error::io(root))?;
    let lock = Lock::take(&folder, on)?;
    let entry = match Entry::find(&folder) {
        Found::Entry(entry) if entry.manifest.is_of_the_same(&manifest) => *entry,
        Found::Entry(_) | Found::Broken(_) | Found::Nothing => {
            entry::remove_files(&folder)?;
            Entry::create(&folder, &manifest, labels.as_deref())?;
            written(&folder)?
        }
    };
    let mut writer = EntryWriter::new(&entry, Sizes::default().block_bytes)?;
    on(Event::Begin(samples))?;
    for (text, reader) in &mut found {
        copy(&text.dealt, &manifest, reader, &mut writer, on)?;
    }
    writer.save()?;
    drop(lock);
    Ok(MergedFeatures {
        folder,
        samples,
        row_bytes: manifest.row_bytes(),
        coverage,
    })
}

/// Copies the rows of a part.
fn copy(
    dealt: &Dealt,
    manifest: &Manifest,
    reader: &mut Reader,
    writer: &mut EntryWriter,
    on: &mut Listener<'_>,
) -> Result<()> {
    let samples: Vec<usize> = dealt.samples().collect();
    let step = usize::try_from(CHUNK / manifest.row_bytes().max(1)).unwrap_or(usize::MAX);
    let mut done = 0;
    for chunk in samples.chunks(step.max(1)) {
        let mut rows = Vec::with_capacity(manifest.values.len());
        let mut array = 0;
        for value in &manifest.values {
            let row = value.layout.row_bytes();
            rows.push(match &value.file {
                None => Vec::new(),
                Some(_) => {
                    let start = (done * row) as u64;
                    let bytes = reader.read(array, start, chunk.len() * row)?;
                    array += 1;
                    bytes
                }
            });
        }
        writer.add(chunk, &rows)?;
        done += chunk.len();
        on(Event::Rows(chunk.len()))?;
    }
    Ok(())
}

/// The labels of the whole data set, where it has any.
fn labels(found: &mut [(Text, Reader)], manifest: &Manifest) -> Result<Option<Vec<usize>>> {
    if !manifest.labels {
        return Ok(None);
    }
    let mut labels = vec![NO_LABEL; manifest.samples];
    for (text, reader) in found {
        let samples = text.dealt.samples();
        let place = reader
            .arrays()
            .iter()
            .position(|array| array.name == LABELS);
        let Some(place) = place.filter(|_| !samples.is_empty()) else {
            continue;
        };
        let bytes = reader.read(place, 0, samples.len() * size_of::<u64>())?;
        let (chunks, _) = bytes.as_chunks();
        for (sample, &chunk) in samples.zip(chunks) {
            let label = usize::try_from(u64::from_le_bytes(chunk)).unwrap_or(NO_LABEL);
            labels[sample] = label;
        }
    }
    Ok(Some(labels))
}

fn belong_together(found: &[(Text, Reader)]) -> Result<()> {
    let Some((first, one)) = found.first() else {
        return Ok(());
    };
    for (text, reader) in found {
        if let Some(what) = text.differs(first) {
            return Err(refuse(format!(
                "{} does not belong with {}: it is of another {what}",
                reader.path().display(),
                one.path().display()
            )));
        }
    }
    Ok(())
}

impl Text {
    fn of(reader: &Reader) -> Result<Self> {
        let broken = |what: String| Error::Format {
            path: reader.path().to_owned(),
            what,
        };
        let text = serde_json::from_str(reader.text())
            .map_err(|error| broken(format!("holds no features: {error}")))?;
        let found: Self = parts::document(reader.path(), text, SCHEMA)?;
        let fits = found.dealt.is_sound()
            && match (&found.entry, found.dealt.samples()) {
                (None, samples) => samples.is_empty(),
                (Some(entry), samples) => {
                    entry.fault().is_none()
                        && entry.key() == found.key
                        && samples.end <= entry.samples
                        && arrays(entry, samples.len())? == reader.arrays()
                }
            };
        match fits {
            true => Ok(found),
            false => Err(broken("holds other rows than it says".to_owned())),
        }
    }

    /// In what it does not belong with another part.
    fn differs(&self, other: &Self) -> Option<&'static str> {
        if self.tool != other.tool {
            return Some("version of onnx-prune");
        }
        if self.key != other.key {
            return Some(
                "model, data set (image files count with their times), preprocessing or engine",
            );
        }
        if self.dealt.blocks != other.dealt.blocks {
            return Some("number of samples or batch size");
        }
        match (&self.entry, &other.entry) {
            (Some(one), Some(other)) if !one.is_of_the_same(other) => Some("shape of the features"),
            _ => None,
        }
    }
}

/// The arrays of a part with `count` samples.
fn arrays(manifest: &Manifest, count: usize) -> Result<Vec<Array>> {
    let mut arrays = Vec::new();
    for (at, value) in manifest.values.iter().enumerate() {
        let Some(row) = value.layout.row_shape() else {
            continue;
        };
        let dtype = value.layout.dtype();
        let name = &value.layout.name;
        if npy::description(dtype).is_none() {
            return Err(Error::Unsupported {
                site: Site::value(name),
                what: format!("features of type {dtype} cannot be written to a part"),
            });
        }
        arrays.push(Array {
            name: format!("{at}.{name}"),
            // `f32` is `F32` there.
            dtype: dtype.to_string().to_uppercase(),
            shape: std::iter::once(count).chain(row).collect(),
            bytes: (value.layout.row_bytes() as u64).saturating_mul(count as u64),
        });
    }
    if manifest.labels {
        arrays.push(Array {
            name: LABELS.to_owned(),
            dtype: "I64".to_owned(),
            shape: vec![count],
            bytes: 8 * count as u64,
        });
    }
    Ok(arrays)
}

/// Whether the part lies there, whole and of the same run.
fn is_there(path: &Path, wanted: &Text, replace: bool, on: &mut Listener<'_>) -> Result<bool> {
    if !path.exists() {
        return Ok(false);
    }
    let found = Reader::open(path).and_then(|mut reader| {
        let found = Text::of(&reader)?;
        reader.verify()?;
        Ok(found)
    });
    match found {
        Ok(found) => match wanted.differs(&found) {
            None if found.dealt.own == wanted.dealt.own => Ok(true),
            _ if replace => Ok(false),
            why => Err(Error::Argument {
                name: "--output",
                what: format!(
                    "{} is a part of another {}; --force replaces it",
                    path.display(),
                    why.unwrap_or("shard")
                ),
            }),
        },
        Err(Error::Format { what, .. }) => {
            on(Event::Note(&format!(
                "{} is made anew: it {what}",
                path.display()
            )))?;
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

fn written(folder: &Path) -> Result<Entry> {
    match Entry::find(folder) {
        Found::Entry(entry) => Ok(*entry),
        Found::Nothing | Found::Broken(_) => Err(Error::Format {
            path: folder.to_owned(),
            what: "the features written there cannot be read back".to_owned(),
        }),
    }
}

fn to_json(text: &Text) -> String {
    serde_json::to_string(text).expect("strings and numbers always serialize")
}

fn refuse(what: String) -> Error {
    Error::Argument { name: "DIR", what }
}
