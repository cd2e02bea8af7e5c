//! The kinds of data that are read, and what a reader hands over. A new kind is one file and one line in [`READERS`].

use std::fs::File;
use std::io::{BufRead, BufReader, Read as _};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::array::{Dtype, Header};
use super::dataset::{DataLimits, DataOptions};
use super::decode::{Decoder, Turning};
use super::pixels::Pixels;
use super::problem::{Problem, Read};
use super::recipe::Recipe;
use super::rows::Rows;
use super::shape::{Form, ImageAxes};
use super::{cifar, folder, idx, list, npy, npz, parquet, shards, split, tensors, webdataset};
use crate::error::{Error, Result};

/// One kind of data.
pub(super) struct Reader {
    /// For messages: "an image folder".
    pub(super) kind: &'static str,
    /// Whether `#train` behind a path can mean a part of it.
    parts: bool,
    accepts: fn(&Path) -> bool,
    pub(super) open: fn(&Path, &DataOptions) -> Result<Opened>,
}

/// Asked in this order.
pub(super) const READERS: &[Reader] = &[
    Reader {
        kind: "a .npy array",
        parts: false,
        accepts: npy::accepts,
        open: npy::open,
    },
    Reader {
        kind: "an .npz archive",
        parts: false,
        accepts: npz::accepts,
        open: npz::open,
    },
    Reader {
        kind: "CIFAR-10 or CIFAR-100",
        parts: true,
        accepts: cifar::accepts,
        open: cifar::open,
    },
    Reader {
        kind: "a WebDataset .tar",
        parts: true,
        accepts: webdataset::accepts,
        open: webdataset::open,
    },
    Reader {
        kind: "a Parquet file of images",
        parts: true,
        accepts: parquet::accepts,
        open: parquet::open,
    },
    Reader {
        kind: "ONNX tensors (.pb)",
        parts: false,
        accepts: tensors::accepts,
        open: tensors::open,
    },
    Reader {
        kind: "an IDX file (plain or .gz)",
        parts: false,
        accepts: idx::accepts,
        open: idx::open,
    },
    Reader {
        kind: "a .csv or .tsv table of image files",
        parts: false,
        accepts: list::accepts,
        open: list::open,
    },
    Reader {
        kind: "a folder of images",
        parts: false,
        accepts: folder::accepts,
        open: folder::open,
    },
];

/// The reader for what lies at `path`; the content decides, not the name.
pub(super) fn find(path: &Path, part: Option<&str>) -> Result<&'static Reader> {
    if !path.exists() {
        // One of the files that braces mean, or the path itself.
        for file in shards::expand(path)? {
            file.metadata().map_err(Error::io(&file))?;
        }
    }
    let refuse = |what: String| Error::Data {
        path: path.to_owned(),
        what,
    };
    let found = READERS.iter().find(|reader| (reader.accepts)(path));
    let found = found.ok_or_else(|| {
        let kinds: Vec<&str> = READERS.iter().map(|reader| reader.kind).collect();
        refuse(format!(
            "is none of the kinds of data that can be read: {}",
            kinds.join(", ")
        ))
    })?;
    match part {
        Some(part) if !found.parts => Err(refuse(format!(
            "is {}, which has no parts such as {part:?}",
            found.kind
        ))),
        _ => Ok(found),
    }
}

/// What a reader found; positions count the chosen samples.
pub(super) struct Opened {
    pub(super) samples: Box<dyn Samples>,
    pub(super) recipe: Recipe,
    /// How many samples there are to choose from.
    pub(super) total: usize,
    /// Indices of the chosen ones, rising.
    pub(super) chosen: Vec<usize>,
    /// One per chosen sample.
    pub(super) labels: Option<Vec<usize>>,
    pub(super) class_names: Option<Vec<String>>,
    /// What is stored, in words: `uint8 [2000, 28, 28]`.
    pub(super) stored: String,
    /// How images are turned that come encoded.
    pub(super) turning: Turning,
    /// Anything else the user should know.
    pub(super) notes: Vec<String>,
}

impl Opened {
    /// What decodes its images.
    pub(super) fn decoder(&self, limits: DataLimits) -> Decoder {
        Decoder {
            limits,
            turning: self.turning,
        }
    }
}

/// Access to stored samples, from several threads at once.
pub(super) trait Samples: Send + Sync {
    /// Reads the sample at `position`; what is [`Sample::Encoded`] is decoded elsewhere.
    fn load(&self, position: usize) -> Read<Sample>;
    /// What messages call it: a file name, or `sample 17`.
    fn name(&self, position: usize) -> String;
    /// Feeds everything that identifies the whole data set into `hash`.
    fn digest(&self, hash: &mut Sha256) -> Result<()>;
    /// Feeds what else changes with the samples into `hash`, where `digest` leaves contents out.
    fn digest_times(&self, _hash: &mut Sha256) -> Result<()> {
        Ok(())
    }
}

/// A sample as it is stored.
#[derive(Debug)]
pub(super) enum Sample {
    /// The bytes of an image file.
    Encoded(Vec<u8>),
    /// Bytes that are an image.
    Pixels(Pixels),
    /// Numbers in the order of the array.
    Numbers(Vec<f32>),
}

impl Sample {
    /// The sample with its image decoded, if it is one that is not.
    pub(super) fn decoded(self, decoder: Decoder) -> Read<Self> {
        match self {
            Self::Encoded(file) => decoder.decode(&file).map(Self::Pixels),
            other => Ok(other),
        }
    }
}

/// Samples of an array file, with the files they came from.
pub(super) struct ArraySamples {
    rows: Rows,
    axes: Option<ImageAxes>,
    files: Vec<PathBuf>,
}

impl Samples for ArraySamples {
    fn load(&self, position: usize) -> Read<Sample> {
        let bytes = self.rows.bytes(position)?;
        let header = &self.rows.header;
        Ok(match self.axes {
            Some(axes) if header.dtype == Dtype::U8 => Sample::Pixels(interleaved(&bytes, axes)),
            _ => Sample::Numbers(header.to_f32(&bytes)),
        })
    }

    fn name(&self, position: usize) -> String {
        format!("sample {}", self.rows.index(position))
    }

    /// Sizes and SHA-256 of the files, without their names: a copy elsewhere is the same data.
    fn digest(&self, hash: &mut Sha256) -> Result<()> {
        for path in &self.files {
            let (size, content) = content_hash(path).map_err(Error::io(path))?;
            hash.update(size.to_le_bytes());
            hash.update(content);
        }
        Ok(())
    }
}

/// Length and SHA-256 of a file.
fn content_hash(path: &Path) -> std::io::Result<(u64, Vec<u8>)> {
    let mut reader = BufReader::with_capacity(1 << 18, File::open(path)?);
    let mut hash = Sha256::new();
    let mut length = 0;
    loop {
        let part = reader.fill_buf()?;
        if part.is_empty() {
            return Ok((length, hash.finalize().to_vec()));
        }
        hash.update(part);
        let read = part.len();
        length += read as u64;
        reader.consume(read);
    }
}

fn interleaved(bytes: &[u8], axes: ImageAxes) -> Pixels {
    let plane = axes.height * axes.width;
    let bytes = match axes.form {
        Form::Interleaved | Form::Plane => bytes.to_vec(),
        Form::Planar => (0..plane)
            .flat_map(|pixel| (0..axes.channels).map(move |channel| bytes[channel * plane + pixel]))
            .collect(),
    };
    Pixels {
        size: super::geometry::Size {
            height: axes.height,
            width: axes.width,
        },
        channels: axes.channels,
        bytes,
    }
}

/// A source of array bytes: where its labels are and how its rows are reached differ between the formats.
pub(super) struct ArraySource<'a> {
    pub(super) header: Header,
    /// All labels of the file, with what they are called in messages.
    pub(super) labels: Option<(String, Vec<usize>)>,
    pub(super) class_names: Option<Vec<String>>,
    /// For the fingerprint.
    pub(super) files: Vec<PathBuf>,
    pub(super) notes: Vec<String>,
    /// Fetches the chosen rows.
    pub(super) rows: Box<dyn FnOnce(Header, Vec<usize>) -> Read<Rows> + 'a>,
}

impl ArraySource<'_> {
    /// The common end of all array readers.
    pub(super) fn open(self, path: &Path, options: &DataOptions) -> Result<Opened> {
        self.finish(options).map_err(|problem| problem.at(path))
    }

    fn finish(self, options: &DataOptions) -> Read<Opened> {
        let total = self.header.samples();
        if total == 0 || self.header.sample_bytes == 0 {
            return Err(format!("holds no samples: {}", self.header.describe()).into());
        }
        if let Some((name, labels)) = &self.labels
            && labels.len() != total
        {
            return Err(format!("{name} has {} labels for {total} samples", labels.len()).into());
        }
        let recipe = Recipe::for_array(&self.header, options)?;
        let chosen = split::sample(total, options.samples, options.seed);
        let labels = self
            .labels
            .map(|(_, all)| chosen.iter().map(|&index| all[index]).collect());
        let stored = self.header.describe();
        let rows = (self.rows)(self.header, chosen.clone())?;
        Ok(Opened {
            samples: Box::new(ArraySamples {
                rows,
                axes: recipe.axes(),
                files: self.files,
            }),
            recipe,
            total,
            chosen,
            labels,
            class_names: self.class_names,
            turning: Turning::Ignored,
            stored,
            notes: self.notes,
        })
    }
}

/// Reads the first bytes of a file; shorter if the file is, empty if it cannot be read.
pub(super) fn magic<const N: usize>(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    if path.is_file()
        && let Ok(file) = File::open(path)
    {
        let _ = file.take(N as u64).read_to_end(&mut bytes);
    }
    bytes
}

/// Opens a file, with the path in the error.
pub(super) fn open_file(path: &Path) -> Result<(File, u64)> {
    let file = File::open(path).map_err(Error::io(path))?;
    let length = file.metadata().map_err(Error::io(path))?.len();
    Ok((file, length))
}

/// Turns a problem into the library's error at `path`.
pub(super) fn at(path: &Path) -> impl FnOnce(Problem) -> Error + '_ {
    move |problem| problem.at(path)
}

#[cfg(test)]
mod tests;
