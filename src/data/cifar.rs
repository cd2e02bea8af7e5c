//! CIFAR-10 and CIFAR-100 as they are published: the binary and the Python version, as `.tar.gz`, as a folder, or one
//! file of it.
//!
//! A binary record is one label (CIFAR-100: a coarse and a fine one; the fine one is taken) and 3 x 32 x 32 bytes. The
//! Python version keeps the same bytes in pickles, which are read as data. Both have a training and a test part.
//! Formats: <https://www.cs.toronto.edu/~kriz/cifar.html>.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::archive::{self, Packing};
use super::array::{Dtype, Endian, Header, Order};
use super::dataset::DataOptions;
use super::pickle::{Id, Pickle, Value};
use super::problem::{Problem, Read, readable_bytes};
use super::readers::{ArraySource, Opened, at, magic};
use super::rows::Rows;
use crate::error::{Error, Result};

/// Bytes of one image: three planes of 32 x 32.
const IMAGE: usize = 3 * 32 * 32;
/// Longest file: the training part of CIFAR-100 has 155 MB.
const MOST_BYTES: u64 = 1 << 28;
/// Longest archive, unpacked: all of CIFAR-10 has 186 MB.
const MOST_UNPACKED: u64 = 1 << 30;

/// One way of publishing.
struct Edition {
    name: &'static str,
    /// Files of the training part, in order.
    train: &'static [&'static str],
    test: &'static [&'static str],
    names: &'static str,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Bytes of labels in front of each image.
    Binary { labels: usize },
    /// Keys of the labels, and of the names in the file of names.
    Python {
        labels: &'static str,
        names: &'static str,
    },
}

const EDITIONS: [Edition; 4] = [
    Edition {
        name: "CIFAR-10, binary",
        train: &[
            "data_batch_1.bin",
            "data_batch_2.bin",
            "data_batch_3.bin",
            "data_batch_4.bin",
            "data_batch_5.bin",
        ],
        test: &["test_batch.bin"],
        names: "batches.meta.txt",
        kind: Kind::Binary { labels: 1 },
    },
    Edition {
        name: "CIFAR-100, binary",
        train: &["train.bin"],
        test: &["test.bin"],
        names: "fine_label_names.txt",
        kind: Kind::Binary { labels: 2 },
    },
    Edition {
        name: "CIFAR-10, Python",
        train: &[
            "data_batch_1",
            "data_batch_2",
            "data_batch_3",
            "data_batch_4",
            "data_batch_5",
        ],
        test: &["test_batch"],
        names: "batches.meta",
        kind: Kind::Python {
            labels: "labels",
            names: "label_names",
        },
    },
    Edition {
        name: "CIFAR-100, Python",
        train: &["train"],
        test: &["test"],
        names: "meta",
        kind: Kind::Python {
            labels: "fine_labels",
            names: "fine_label_names",
        },
    },
];

impl Edition {
    fn has(&self, name: &str) -> bool {
        self.train.contains(&name) || self.test.contains(&name)
    }
}

pub(super) fn accepts(path: &Path) -> bool {
    if path.is_dir() {
        return EDITIONS.iter().any(|edition| is_folder_of(path, edition));
    }
    is_archive(path) || single(path).is_some()
}

/// Files of one part and the names are enough; a folder with a file "train" may be anything.
fn is_folder_of(path: &Path, edition: &Edition) -> bool {
    let there = |name: &&str| path.join(name).is_file();
    there(&edition.names) && (edition.train.iter().all(there) || edition.test.iter().all(there))
}

/// Every archive has one folder, named after the data set.
fn is_archive(path: &Path) -> bool {
    if archive::packing(path).is_none() {
        return false;
    }
    let block = archive::first_block(path);
    let name = block.strip_prefix(b"./").unwrap_or(&block);
    name.starts_with(b"cifar-10")
}

/// A file named like one of an edition, that begins as such a file must.
fn single(path: &Path) -> Option<&'static Edition> {
    let name = path.file_name()?.to_str()?;
    let edition = EDITIONS.iter().find(|edition| edition.has(name))?;
    let fits = match edition.kind {
        Kind::Binary { labels } => {
            let length = path.metadata().ok()?.len();
            length > 0 && length.is_multiple_of((IMAGE + labels) as u64)
        }
        Kind::Python { .. } => magic::<2>(path).starts_with(&[0x80]),
    };
    fits.then_some(edition)
}

pub(super) fn open(path: &Path, options: &DataOptions) -> Result<Opened> {
    let found = Found::at(path)?;
    let (part, given) = match (options.part.as_deref(), found.single) {
        (None, true) => (None, ""),
        (Some(part), true) => return Err(no_part(path, part, "is one file of a part")),
        (None | Some("train"), false) => (Some(found.edition.train), "the training part"),
        (Some("test"), false) => (Some(found.edition.test), "the test part"),
        (Some(part), false) => return Err(no_part(path, part, "has the parts train and test")),
    };
    let mut notes = vec![];
    if options.part.is_none() && !found.single {
        notes.push(format!("{given}; add #test to the path for the other"));
    }
    let set = Set::read(found, part).map_err(at(path))?;
    let dims = vec![set.labels.len(), 3, 32, 32];
    let header = Header::new(Dtype::U8, Endian::Little, Order::C, dims).map_err(at(path))?;
    let (images, limit) = (set.images, options.limits.held_bytes);
    ArraySource {
        header,
        labels: Some((set.name.to_owned(), set.labels)),
        class_names: set.names,
        files: set.files,
        notes,
        rows: Box::new(move |header, chosen| {
            Rows::from_stream(&mut images.as_slice(), header, chosen, limit)
        }),
    }
    .open(path, options)
}

fn no_part(path: &Path, part: &str, what: &str) -> Error {
    Error::Data {
        path: path.to_owned(),
        what: format!("{what}, not {part:?}"),
    }
}

/// What lies at a path: files of one edition.
struct Found {
    edition: &'static Edition,
    single: bool,
    /// Where the bytes are.
    origin: Vec<PathBuf>,
    contents: BTreeMap<String, Vec<u8>>,
}

impl Found {
    fn at(path: &Path) -> Result<Self> {
        let refuse = |what: &str| Error::Data {
            path: path.to_owned(),
            what: what.to_owned(),
        };
        if let Some(packing) = archive::packing(path) {
            let contents = unpacked(path, packing).map_err(at(path))?;
            let edition = EDITIONS
                .iter()
                .find(|edition| contents.keys().any(|name| edition.has(name)));
            return Ok(Self {
                edition: edition.ok_or_else(|| refuse("holds no batches of CIFAR"))?,
                single: false,
                origin: vec![path.to_owned()],
                contents,
            });
        }
        let edition = match path.is_dir() {
            true => EDITIONS.iter().find(|edition| is_folder_of(path, edition)),
            false => single(path),
        };
        let edition = edition.ok_or_else(|| refuse("holds no batches of CIFAR"))?;
        let (folder, batches) = match path.is_dir() {
            true => (path, [edition.train, edition.test].concat()),
            false => {
                let name = path.file_name().and_then(|name| name.to_str());
                (
                    path.parent().unwrap_or(Path::new("")),
                    name.into_iter().collect(),
                )
            }
        };
        let (mut contents, mut origin) = (BTreeMap::new(), vec![]);
        for name in batches.into_iter().chain([edition.names]) {
            let file = folder.join(name);
            if file.is_file() {
                contents.insert(name.to_owned(), whole(&file)?);
                origin.push(file);
            }
        }
        Ok(Self {
            edition,
            single: !path.is_dir(),
            origin,
            contents,
        })
    }
}

/// The files of an archive that some edition knows, by their names without folders.
fn unpacked(path: &Path, packing: Packing) -> Read<BTreeMap<String, Vec<u8>>> {
    let mut contents = BTreeMap::new();
    archive::walk(path, packing, MOST_UNPACKED, |member, bytes| {
        let name = member.name.rsplit('/').next().unwrap_or_default();
        let known = |edition: &Edition| edition.has(name) || edition.names == name;
        if !EDITIONS.iter().any(known) {
            return Ok(());
        }
        let content = bounded(bytes, member.size, name)?;
        match contents.insert(name.to_owned(), content) {
            None => Ok(()),
            Some(_) => Err(format!("holds {name} twice").into()),
        }
    })?;
    Ok(contents)
}

fn whole(path: &Path) -> Result<Vec<u8>> {
    let file = File::open(path).map_err(Error::io(path))?;
    let length = file.metadata().map_err(Error::io(path))?.len();
    bounded(&mut &file, length, "it").map_err(at(path))
}

fn bounded(reader: &mut dyn io::Read, declared: u64, name: &str) -> Read<Vec<u8>> {
    if declared > MOST_BYTES {
        return Err(format!(
            "{name} has {}, the limit is {}",
            readable_bytes(declared),
            readable_bytes(MOST_BYTES)
        )
        .into());
    }
    let mut bytes = vec![];
    reader.take(declared).read_to_end(&mut bytes)?;
    match bytes.len() as u64 == declared {
        true => Ok(bytes),
        false => Err(Problem::Io(io::ErrorKind::UnexpectedEof.into())),
    }
}

/// All images of a part.
struct Set {
    name: &'static str,
    images: Vec<u8>,
    labels: Vec<usize>,
    names: Option<Vec<String>>,
    files: Vec<PathBuf>,
}

impl Set {
    /// `part` lists the files to read; without it all of what was found.
    fn read(found: Found, part: Option<&[&str]>) -> Read<Self> {
        let Found {
            edition,
            origin,
            mut contents,
            ..
        } = found;
        let names = contents.remove(edition.names);
        let names = names.map(|file| class_names(edition, &file)).transpose()?;
        let wanted: Vec<String> = match part {
            Some(part) => part.iter().map(|&name| name.to_owned()).collect(),
            None => contents.keys().cloned().collect(),
        };
        let mut set = Self {
            name: edition.name,
            images: vec![],
            labels: vec![],
            names,
            files: origin,
        };
        for name in wanted {
            let file = contents.remove(&name);
            let file = file.ok_or_else(|| format!("lacks {name} of {}", edition.name))?;
            set.add(edition, &file)
                .map_err(|problem| format!("{name}: {}", problem.text()))?;
        }
        Ok(set)
    }

    fn add(&mut self, edition: &Edition, file: &[u8]) -> Read<()> {
        match edition.kind {
            Kind::Binary { labels } => self.add_records(file, labels),
            Kind::Python { labels, .. } => self.add_pickle(&Pickle::read(file)?, labels),
        }
    }

    fn add_records(&mut self, file: &[u8], labels: usize) -> Read<()> {
        let record = IMAGE + labels;
        if file.is_empty() || !file.len().is_multiple_of(record) {
            return Err(format!(
                "has {} bytes, no multiple of the {record} of a record",
                file.len()
            )
            .into());
        }
        for record in file.chunks_exact(record) {
            let (label, image) = record.split_at(labels);
            self.labels.push(usize::from(label[labels - 1]));
            self.images.extend_from_slice(image);
        }
        Ok(())
    }

    fn add_pickle(&mut self, pickle: &Pickle<'_>, key: &str) -> Read<()> {
        let root = pickle.root();
        let lacks = |key: &str| format!("is a pickle without {key:?}");
        let labels = pickle.entry(root, key).ok_or_else(|| lacks(key))?;
        let images = pickle.entry(root, "data").ok_or_else(|| lacks("data"))?;
        let Value::List(labels) = labels else {
            return Err(format!("has {key:?} that is no list").into());
        };
        let images = rows(pickle, images, labels.len())?;
        for &label in labels {
            match pickle.value(label) {
                Value::Int(label @ 0..) => self.labels.push(*label as usize),
                other => return Err(format!("has the label {other:?}").into()),
            }
        }
        self.images.extend_from_slice(images);
        Ok(())
    }
}

/// The bytes of a numpy array `uint8 [count, 3072]`.
fn rows<'p>(pickle: &Pickle<'p>, array: &Value, count: usize) -> Read<&'p [u8]> {
    let unexpected = || {
        Problem::Content(format!(
            "keeps its images in something else than an array uint8 [{count}, {IMAGE}]"
        ))
    };
    let Value::Called {
        function,
        state: Some(state),
        ..
    } = array
    else {
        return Err(unexpected());
    };
    let is_array = pickle.global(*function).is_some_and(|(module, name)| {
        matches!(module, "numpy.core.multiarray" | "numpy._core.multiarray")
            && name == "_reconstruct"
    });
    // Version of the state, shape, element type, whether the first axis varies fastest, bytes.
    let Value::Tuple(state) = pickle.value(*state) else {
        return Err(unexpected());
    };
    let &[_, shape, dtype, fortran, bytes] = state.as_slice() else {
        return Err(unexpected());
    };
    let sizes = [count, IMAGE].map(|size| Value::Int(size as i64));
    let shaped = matches!(pickle.value(shape), Value::Tuple(ids)
        if ids.iter().map(|&id| pickle.value(id)).eq(&sizes));
    let in_rows = matches!(pickle.value(fortran), Value::Bool(false) | Value::Int(0));
    if !(is_array && shaped && in_rows && is_uint8(pickle, dtype)) {
        return Err(unexpected());
    }
    let bytes = pickle.bytes(bytes).ok_or_else(unexpected)?;
    match Some(bytes.len()) == count.checked_mul(IMAGE) {
        true => Ok(bytes),
        false => Err(unexpected()),
    }
}

fn is_uint8(pickle: &Pickle<'_>, dtype: Id) -> bool {
    let Value::Called {
        function,
        arguments,
        ..
    } = pickle.value(dtype)
    else {
        return false;
    };
    let Value::Tuple(arguments) = pickle.value(*arguments) else {
        return false;
    };
    let code = arguments.first().and_then(|&code| pickle.bytes(code));
    pickle.global(*function) == Some(("numpy", "dtype")) && matches!(code, Some(b"u1" | b"|u1"))
}

/// Names in the order of their numbers.
fn class_names(edition: &Edition, file: &[u8]) -> Read<Vec<String>> {
    let Kind::Python { names, .. } = edition.kind else {
        let text = String::from_utf8_lossy(file);
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        return Ok(lines.map(str::to_owned).collect());
    };
    let pickle = Pickle::read(file)?;
    let Some(Value::List(ids)) = pickle.entry(pickle.root(), names) else {
        return Err(format!("{} has no {names:?}", edition.names).into());
    };
    let text = |&id: &Id| {
        let bytes = pickle.bytes(id).unwrap_or_default();
        String::from_utf8_lossy(bytes).into_owned()
    };
    Ok(ids.iter().map(text).collect())
}

#[cfg(test)]
mod tests;
