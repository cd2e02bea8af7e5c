//! Files of named arrays with a text: the safetensors format, so that other programs read them too.
//!
//! ```text
//! u64 length of the header | header, JSON | arrays, little-endian, one behind the other
//! ```
//!
//! The last array, `checksum`, is the SHA-256 of the header and of each array's own SHA-256. Format:
//! <https://github.com/huggingface/safetensors#format>. A file appears whole or not at all.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use crate::error::{Error, Result};

/// Where the text is among the strings of the header.
const TEXT: &str = "onnx_prune";

const METADATA: &str = "__metadata__";

const CHECKSUM: &str = "checksum";

/// Largest header, as other readers have it.
const MOST_HEADER: u64 = 100_000_000;

/// Bytes that are hashed at a time.
const CHUNK: usize = 1 << 20;

/// One array of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Array {
    /// What it is called.
    pub name: String,
    /// Type of its elements, in the format's words: `F64`, `U64`, `F32`, ...
    pub dtype: String,
    /// Its axes.
    pub shape: Vec<usize>,
    /// Its length.
    pub bytes: u64,
}

/// An entry of the header.
#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: [u64; 2],
}

/// A file on its way.
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    temporary: NamedTempFile,
    header: Vec<u8>,
    regions: Vec<Region>,
}

#[derive(Debug)]
struct Region {
    next: u64,
    end: u64,
    hash: Sha256,
}

/// A file that is there.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    file: File,
    header: Vec<u8>,
    text: String,
    arrays: Vec<Array>,
    /// Where each array begins, and where the checksum does.
    offsets: Vec<u64>,
}

impl Writer {
    /// Begins a file that will lie at `path`, in a folder that is there.
    ///
    /// # Errors
    /// [`Error::Io`] where the folder cannot be written to, or has no room.
    pub fn create(path: &Path, text: &str, arrays: &[Array]) -> Result<Self> {
        let parent = path.parent().filter(|parent| *parent != Path::new(""));
        let parent = parent.unwrap_or(Path::new("."));
        let mut temporary = tempfile::Builder::new()
            .prefix(".onnx-prune-")
            .tempfile_in(parent)
            .map_err(Error::io(parent))?;
        let (header, offsets) = header(text, arrays);
        let regions = offsets.windows(2).map(|pair| Region {
            next: pair[0],
            end: pair[1],
            hash: Sha256::new(),
        });
        let regions = regions.collect();
        let written = temporary.write_all(&header);
        written.map_err(Error::io(path))?;
        Ok(Self {
            path: path.to_owned(),
            temporary,
            header,
            regions,
        })
    }

    /// Appends to an array; arrays may be filled side by side.
    ///
    /// # Errors
    /// [`Error::Io`] where that is not possible.
    ///
    /// # Panics
    /// When there is no such array, or it gets more than its length.
    pub fn append(&mut self, array: usize, bytes: &[u8]) -> Result<()> {
        let region = &mut self.regions[array];
        let end = region.next + bytes.len() as u64;
        assert!(end <= region.end, "no more than the array holds");
        let file = self.temporary.as_file_mut();
        let written = file.seek(SeekFrom::Start(region.next));
        let written = written.and_then(|_| file.write_all(bytes));
        written.map_err(Error::io(&self.path))?;
        region.hash.update(bytes);
        region.next = end;
        Ok(())
    }

    /// Moves the file into place, once it is on the disk.
    ///
    /// # Errors
    /// [`Error::Io`] where that is not possible; there is no file then, or the one that was.
    ///
    /// # Panics
    /// When an array is not full.
    pub fn finish(mut self) -> Result<()> {
        let full = self.regions.iter().all(|region| region.next == region.end);
        assert!(full, "every array got all of its bytes");
        let hashes = self.regions.drain(..).map(|region| region.hash);
        let checksum = checksum(&self.header, hashes);
        let file = self.temporary.as_file_mut();
        let written = file.seek(SeekFrom::End(0));
        let written = written.and_then(|_| file.write_all(&checksum));
        let written = written.and_then(|()| file.sync_all());
        written.map_err(Error::io(&self.path))?;
        let placed = self.temporary.persist(&self.path);
        placed.map_err(|error| Error::io(&self.path)(error.error))?;
        Ok(())
    }
}

impl Reader {
    /// Opens a file and reads its header; [`Reader::verify`] reads the rest.
    ///
    /// # Errors
    /// [`Error::Format`] where it is no such file, or shorter or longer than it says; [`Error::Io`].
    pub fn open(path: &Path) -> Result<Self> {
        let broken = |what: String| Error::Format {
            path: path.to_owned(),
            what,
        };
        let mut file = File::open(path).map_err(Error::io(path))?;
        let length = file.metadata().map_err(Error::io(path))?.len();
        let mut size = [0; 8];
        file.read_exact(&mut size).map_err(too_short(path))?;
        let size = u64::from_le_bytes(size);
        if size > MOST_HEADER || size.saturating_add(8) > length {
            return Err(broken(format!(
                "is no part: a header of {size} bytes in a file of {length}"
            )));
        }
        let mut json = vec![0; usize::try_from(size).unwrap_or_default()];
        file.read_exact(&mut json).map_err(too_short(path))?;
        let start = size + 8;
        let Parsed {
            text,
            arrays,
            offsets,
        } = parsed(&json, start).map_err(|what| broken(format!("is no part: {what}")))?;
        let expected = offsets.last().map_or(start, |last| last + 32);
        if length != expected {
            return Err(broken(format!(
                "has {length} bytes instead of {expected}: it was cut off, or written to"
            )));
        }
        Ok(Self {
            path: path.to_owned(),
            file,
            header: [&size.to_le_bytes()[..], &json].concat(),
            text,
            arrays,
            offsets,
        })
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The text that came with the arrays.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The arrays, but for the checksum.
    pub fn arrays(&self) -> &[Array] {
        &self.arrays
    }

    /// Reads a range of an array's bytes.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn read(&mut self, array: usize, start: u64, bytes: usize) -> Result<Vec<u8>> {
        let mut found = vec![0; bytes];
        let sought = self.file.seek(SeekFrom::Start(self.offsets[array] + start));
        let read = sought.and_then(|_| self.file.read_exact(&mut found));
        read.map_err(Error::io(&self.path))?;
        Ok(found)
    }

    /// Reads the whole file and compares it with its checksum.
    ///
    /// # Errors
    /// [`Error::Format`] where it is not as it was written; [`Error::Io`].
    pub fn verify(&mut self) -> Result<()> {
        let io = |error| Error::io(&self.path)(error);
        let mut hashes = Vec::with_capacity(self.arrays.len());
        let mut chunk = vec![0; CHUNK];
        let first = self.offsets[0];
        self.file.seek(SeekFrom::Start(first)).map_err(io)?;
        for array in &self.arrays {
            let mut hash = Sha256::new();
            let mut left = array.bytes;
            while left > 0 {
                let step = usize::try_from(left).map_or(CHUNK, |left| left.min(CHUNK));
                self.file.read_exact(&mut chunk[..step]).map_err(io)?;
                hash.update(&chunk[..step]);
                left -= step as u64;
            }
            hashes.push(hash);
        }
        let mut stored = [0; 32];
        self.file.read_exact(&mut stored).map_err(io)?;
        if checksum(&self.header, hashes) != stored {
            return Err(Error::Format {
                path: self.path.clone(),
                what: "does not agree with its checksum: it was damaged".to_owned(),
            });
        }
        Ok(())
    }
}

fn too_short(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |error| match error.kind() {
        io::ErrorKind::UnexpectedEof => Error::Format {
            path,
            what: "is no part: it is too short".to_owned(),
        },
        _ => Error::io(path)(error),
    }
}

/// Length and JSON, and where each array and the checksum begin.
fn header(text: &str, arrays: &[Array]) -> (Vec<u8>, Vec<u64>) {
    let mut at = 0;
    let mut offsets = vec![0];
    let mut entries = serde_json::Map::new();
    let metadata = BTreeMap::from([(TEXT, text)]);
    let json = |value| serde_json::to_value(value).unwrap_or_default();
    entries.insert(METADATA.to_owned(), serde_json::json!(metadata));
    let checksum = Array {
        name: CHECKSUM.to_owned(),
        dtype: "U8".to_owned(),
        shape: vec![32],
        bytes: 32,
    };
    for array in arrays.iter().chain([&checksum]) {
        let entry = Entry {
            dtype: array.dtype.clone(),
            shape: array.shape.clone(),
            data_offsets: [at, at + array.bytes],
        };
        at += array.bytes;
        offsets.push(at);
        entries.insert(array.name.clone(), json(entry));
    }
    offsets.pop();
    let mut json = serde_json::Value::Object(entries).to_string().into_bytes();
    // Arrays begin at a multiple of their elements' size.
    json.resize(json.len().next_multiple_of(8), b' ');
    let start = json.len() as u64 + 8;
    offsets.iter_mut().for_each(|offset| *offset += start);
    let length = (json.len() as u64).to_le_bytes();
    ([&length[..], &json].concat(), offsets)
}

struct Parsed {
    text: String,
    arrays: Vec<Array>,
    offsets: Vec<u64>,
}

/// The error says in words what is wrong.
fn parsed(json: &[u8], start: u64) -> Result<Parsed, String> {
    let mut entries: BTreeMap<String, serde_json::Value> =
        serde_json::from_slice(json).map_err(|error| format!("its header is no JSON: {error}"))?;
    let metadata = entries.remove(METADATA).unwrap_or_default();
    let text = metadata.get(TEXT).and_then(|text| text.as_str());
    let text = text.ok_or("onnx-prune did not write it")?.to_owned();
    let mut arrays = Vec::with_capacity(entries.len());
    for (name, entry) in entries {
        let Entry {
            dtype,
            shape,
            data_offsets: [from, to],
        } = serde_json::from_value(entry).map_err(|error| format!("array {name:?}: {error}"))?;
        let bytes = to.checked_sub(from).ok_or("an array of negative size")?;
        arrays.push((
            from,
            Array {
                name,
                dtype,
                shape,
                bytes,
            },
        ));
    }
    // An empty array begins where the next one does.
    arrays.sort_by(|(a, one), (b, other)| {
        (a, one.bytes, &one.name).cmp(&(b, other.bytes, &other.name))
    });
    let mut at = 0_u64;
    let mut offsets = Vec::with_capacity(arrays.len());
    for (from, array) in &arrays {
        if *from != at {
            return Err(format!(
                "array {:?} is not behind the one before",
                array.name
            ));
        }
        offsets.push(start.checked_add(at).ok_or("arrays larger than any file")?);
        at = at
            .checked_add(array.bytes)
            .ok_or("arrays larger than any file")?;
    }
    let mut arrays: Vec<Array> = arrays.into_iter().map(|(_, array)| array).collect();
    match arrays.pop() {
        Some(last) if last.name == CHECKSUM && last.bytes == 32 => {}
        _ => return Err("it has no checksum".to_owned()),
    }
    let names: BTreeSet<&str> = arrays.iter().map(|array| array.name.as_str()).collect();
    if names.len() != arrays.len() {
        return Err("two arrays have one name".to_owned());
    }
    Ok(Parsed {
        text,
        arrays,
        offsets,
    })
}

fn checksum(header: &[u8], arrays: impl IntoIterator<Item = Sha256>) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(header);
    for array in arrays {
        hash.update(array.finalize());
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn array(name: &str, values: usize) -> Array {
        Array {
            name: name.to_owned(),
            dtype: "F64".to_owned(),
            shape: vec![values],
            bytes: 8 * values as u64,
        }
    }

    fn written(folder: &Path) -> PathBuf {
        let path = folder.join("a.safetensors");
        let arrays = [array("b", 2), array("none", 0), array("a", 3)];
        let mut writer = Writer::create(&path, "{\"x\": 1}", &arrays).unwrap();
        writer.append(2, &[1; 8]).unwrap();
        writer.append(0, &[2; 16]).unwrap();
        writer.append(2, &[3; 16]).unwrap();
        assert!(!path.exists(), "not before it is whole");
        writer.finish().unwrap();
        path
    }

    #[test]
    fn what_was_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = written(folder.path());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        let mut reader = Reader::open(&path).unwrap();
        reader.verify().unwrap();
        assert_eq!(reader.text(), "{\"x\": 1}");
        let names: Vec<&str> = reader.arrays().iter().map(|a| a.name.as_str()).collect();
        assert_eq!(names, ["b", "none", "a"]);
        assert_eq!(reader.read(0, 0, 16).unwrap(), [2; 16]);
        assert_eq!(reader.read(2, 8, 16).unwrap(), [3; 16]);
        let bytes = fs::read(&path).unwrap();
        assert_eq!(u64::from_le_bytes(bytes[..8].try_into().unwrap()) % 8, 0);
    }

    #[test]
    fn whatever_happens_to_a_file_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let whole = fs::read(written(folder.path())).unwrap();
        let path = folder.path().join("b.safetensors");
        let seen = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            Reader::open(&path).and_then(|mut reader| reader.verify())
        };
        seen(&whole).unwrap();
        for length in [0, 4, 8, 20, whole.len() - 33, whole.len() - 1] {
            assert!(matches!(seen(&whole[..length]), Err(Error::Format { .. })));
        }
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            assert!(
                matches!(seen(&bytes), Err(Error::Format { .. })),
                "byte {at}"
            );
        }
        assert!(seen(&[&whole[..], &[0]].concat()).is_err());
    }
}
