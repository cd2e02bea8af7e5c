//! The one type the rest of the crate sees: samples to read in batches.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::bad::{self, OnBadSample, Skipped};
use super::batches::Batches;
use super::decode::{Decoder, Turning};
use super::fetch;
use super::geometry::Size;
use super::noise::{self, Look, Noise};
use super::preprocess::Preprocess;
use super::problem::{Problem, Read};
use super::readers::{self, Opened};
use super::recipe::Recipe;
use super::shape::{InputShape, product};
use super::shards;
use crate::error::{Error, Result};
use crate::remote::{Fetched, is_remote};

/// How to read a data set.
#[derive(Clone, Debug)]
pub struct DataOptions {
    /// At most this many samples, chosen at random; `None`: all.
    pub samples: Option<usize>,
    /// Decides which samples are chosen, and what synthetic ones look like.
    pub seed: u64,
    /// What is done to each sample.
    pub preprocess: Preprocess,
    /// What the model takes.
    pub input: InputShape,
    /// Name of the model's input, by which an `.npz` may call its samples.
    pub input_name: String,
    /// Which part of a data set that has several: `train`, `test`.
    pub part: Option<String>,
    /// What becomes of samples that cannot be used.
    pub on_bad_sample: OnBadSample,
    /// Bounds on what a file may make this program allocate.
    pub limits: DataLimits,
}

impl DataOptions {
    /// All samples, seed 0, [`Preprocess::default`], default limits.
    pub fn new(input: InputShape, input_name: impl Into<String>) -> Self {
        Self {
            samples: None,
            seed: 0,
            preprocess: Preprocess::default(),
            input,
            input_name: input_name.into(),
            part: None,
            on_bad_sample: OnBadSample::default(),
            limits: DataLimits::default(),
        }
    }
}

impl DataOptions {
    /// Refuses settings that would otherwise be ignored.
    fn check(&self) -> Result<()> {
        self.preprocess.check()?;
        let asked = self.preprocess.layout;
        let read = match self.input {
            InputShape::Image { layout, .. } => Some(layout),
            InputShape::Plain(_) => None,
        };
        if asked.is_none() || asked == read {
            return Ok(());
        }
        Err(Error::Argument {
            name: "--layout",
            what: format!("does not go with the model's input {}", self.input),
        })
    }
}

/// Bounds on what a file may make this program allocate or unpack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataLimits {
    /// Bytes of one array held in memory (chosen samples of a compressed file, a Fortran-ordered array, labels).
    pub held_bytes: u64,
    /// Bytes one member of an archive, or one gzip file, may unpack to.
    pub inflated_bytes: u64,
    /// Pixels of one image.
    pub image_pixels: u64,
}

impl Default for DataLimits {
    /// 4 GiB held, 64 GiB unpacked, and 178,956,970 pixels: above that Pillow warns of a decompression bomb in twice
    /// the size, and it is 512 MiB of RGB.
    fn default() -> Self {
        Self {
            held_bytes: 4 << 30,
            inflated_bytes: 64 << 30,
            image_pixels: 178_956_970,
        }
    }
}

/// Samples ready to be fed to the model.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// `[N, C, H, W]`, `[N, H, W, C]`, `[N, F]`, ... as the model's input declares.
    pub shape: Vec<usize>,
    /// Row-major values, all of them finite.
    pub values: Vec<f32>,
    /// Class of each sample, where known; not compared with the model's number of classes.
    pub labels: Option<Vec<usize>>,
}

impl Batch {
    /// Number of samples.
    pub fn len(&self) -> usize {
        self.shape[0]
    }

    /// Whether there is no sample in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The chosen samples of an image folder, array file or noise source. Clones share everything.
#[derive(Clone)]
pub struct Dataset {
    inner: Arc<Inner>,
}

struct Inner {
    // Dropped in this order: what reads goes before what it reads.
    opened: Opened,
    source: Source,
    part: Option<String>,
    seed: u64,
    decoder: Decoder,
    fingerprint: OnceLock<String>,
}

/// Where a data set came from.
struct Source {
    /// What it is called.
    path: PathBuf,
    kind: &'static str,
    skipped: Option<Skipped>,
    /// Keeps the copies of what lies elsewhere.
    _fetched: Option<Arc<Fetched>>,
}

impl Dataset {
    /// Opens what lies at `path` and chooses the samples; `#` behind a path names a part of it, `data#train`, and an
    /// address is fetched first. Headers are checked, of image folders every chosen file's; pixels are decoded when they
    /// are read.
    ///
    /// `Error::Data` names what is wrong with the data: a shape that does not fit the model's input, a truncated file,
    /// up to ten files of a folder that are no images. With [`OnBadSample::Skip`] every chosen sample is decoded once, and
    /// what cannot be used is as if it had never been there.
    pub fn open(path: &Path, options: &DataOptions) -> Result<Self> {
        if options.samples == Some(0) {
            return Err(Error::Argument {
                name: "--samples",
                what: "must be at least 1".to_owned(),
            });
        }
        options.check()?;
        let (place, part) = shards::split_part(path);
        let mut options = options.clone();
        options.part = part.or(options.part);
        if !is_remote(&place) {
            return Self::open_at(path, &place, &options, None);
        }
        let (fetched, copy) = fetch::fetch(&place)?;
        let fetched = Arc::new(fetched);
        Self::open_at(path, &copy, &options, Some(Arc::clone(&fetched)))
            .map_err(|error| fetched.readdressed(error, &place))
    }

    /// Opens what lies at `place`; `path` is what it is called.
    fn open_at(
        path: &Path,
        place: &Path,
        options: &DataOptions,
        fetched: Option<Arc<Fetched>>,
    ) -> Result<Self> {
        let reader = readers::find(place, options.part.as_deref())?;
        let opened = (reader.open)(place, options)?;
        let (opened, skipped) = match options.on_bad_sample {
            OnBadSample::Error => (opened, None),
            OnBadSample::Skip => {
                let (kept, skipped) = bad::leave_out(path, opened, options)?;
                (kept, Some(skipped))
            }
        };
        let source = Source {
            path: path.to_owned(),
            kind: reader.kind,
            skipped,
            _fetched: fetched,
        };
        Ok(Self::new(source, options, opened))
    }

    /// Synthetic samples in the shape of the model's input, `options.samples` of them or 256.
    pub fn synthetic(options: &DataOptions) -> Result<Self> {
        options.check()?;
        let path = Path::new("synthetic noise");
        let total = options.samples.unwrap_or(noise::DEFAULT_SAMPLES).max(1);
        let (recipe, look) = synthetic_recipe(options).map_err(|problem| problem.at(path))?;
        let opened = Opened {
            samples: Box::new(Noise {
                look,
                seed: options.seed,
            }),
            recipe,
            total,
            chosen: (0..total).collect(),
            labels: None,
            class_names: None,
            turning: Turning::Ignored,
            stored: format!("{total} synthetic samples"),
            notes: vec![],
        };
        let source = Source {
            path: path.to_owned(),
            kind: "synthetic noise",
            skipped: None,
            _fetched: None,
        };
        Ok(Self::new(source, options, opened))
    }

    fn new(source: Source, options: &DataOptions, opened: Opened) -> Self {
        Self {
            inner: Arc::new(Inner {
                source,
                part: options.part.clone(),
                seed: options.seed,
                decoder: opened.decoder(options.limits),
                opened,
                fingerprint: OnceLock::new(),
            }),
        }
    }

    /// Number of chosen samples; at least 1.
    pub fn len(&self) -> usize {
        self.inner.opened.chosen.len()
    }

    /// Always `false`: an empty data set is an error when it is opened.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where the samples come from.
    pub fn path(&self) -> &Path {
        &self.inner.source.path
    }

    /// Class of each chosen sample, where known.
    pub fn labels(&self) -> Option<&[usize]> {
        self.inner.opened.labels.as_deref()
    }

    /// What was left out, where bad samples are skipped.
    pub fn skipped(&self) -> Option<&Skipped> {
        self.inner.source.skipped.as_ref()
    }

    /// Names of the classes, where the data set has them.
    pub fn class_names(&self) -> Option<&[String]> {
        self.inner.opened.class_names.as_deref()
    }

    /// Shape of one sample in a batch: [`Batch::shape`] without its first axis.
    pub fn sample_shape(&self) -> &[usize] {
        self.inner.opened.recipe.shape()
    }

    /// SHA-256 over the whole data set, not only the chosen samples: contents of array files, names and sizes of images,
    /// the part that was named. Computed when first asked for.
    pub fn fingerprint(&self) -> Result<String> {
        if let Some(known) = self.inner.fingerprint.get() {
            return Ok(known.clone());
        }
        let mut hash = Sha256::new();
        self.inner.opened.samples.digest(&mut hash)?;
        if let Some(part) = &self.inner.part {
            hash.update(part);
        }
        let text = hexadecimal(hash);
        Ok(self.inner.fingerprint.get_or_init(|| text).clone())
    }

    /// A hash that changes whenever a sample may have changed: the fingerprint, when image files were
    /// written, and which samples were chosen. For what is kept on this machine; a copy of the data
    /// set has another one.
    pub fn state(&self) -> Result<String> {
        let opened = &self.inner.opened;
        let mut hash = Sha256::new();
        hash.update(self.fingerprint()?);
        opened.samples.digest_times(&mut hash)?;
        for &index in &opened.chosen {
            hash.update((index as u64).to_le_bytes());
        }
        Ok(hexadecimal(hash))
    }

    /// What is read and what is done to it, for the user.
    pub fn describe(&self) -> String {
        let Opened {
            recipe,
            total,
            stored,
            notes,
            ..
        } = &self.inner.opened;
        let chosen = match self.len() {
            len if len == *total => format!("all {len} samples"),
            len => format!("{len} of {total} samples (seed {})", self.inner.seed),
        };
        let mut parts = vec![format!(
            "{chosen} of {}, {}: {stored} as {:?}",
            self.inner.source.path.display(),
            self.inner.source.kind,
            recipe.shape()
        )];
        parts.push(recipe.note.clone());
        parts.extend(notes.iter().cloned());
        parts.join("; ")
    }

    /// Reads samples by position (`0..len`), in the order given, decoding in parallel.
    ///
    /// `Error::Data` lists the first ten samples that cannot be used, of this batch and of all others, and counts the
    /// rest.
    pub fn read(&self, indices: &[usize]) -> Result<Batch> {
        self.read_by(indices, |values, row| {
            let rows = values.par_chunks_exact_mut(row).zip(indices);
            rows.map(|(out, &index)| self.read_one(index, out))
                .collect()
        })
    }

    /// The same in this thread alone, for callers that are several themselves.
    pub(crate) fn read_alone(&self, indices: &[usize]) -> Result<Batch> {
        self.read_by(indices, |values, row| {
            let rows = values.chunks_exact_mut(row).zip(indices);
            rows.map(|(out, &index)| self.read_one(index, out))
                .collect()
        })
    }

    fn read_one(&self, index: usize, out: &mut [f32]) -> Read<()> {
        let Opened {
            samples, recipe, ..
        } = &self.inner.opened;
        let sample = samples.load(index)?.decoded(self.inner.decoder)?;
        recipe.write(sample, out)
    }

    /// A batch whose rows of so many values each are filled by `fill`.
    fn read_by(
        &self,
        indices: &[usize],
        fill: impl FnOnce(&mut [f32], usize) -> Vec<Read<()>>,
    ) -> Result<Batch> {
        let Opened { recipe, labels, .. } = &self.inner.opened;
        if let Some(bad) = indices.iter().find(|&&index| index >= self.len()) {
            return self.refuse(format!("has no sample {bad}, only {}", self.len()));
        }
        let shape: Vec<usize> = std::iter::once(indices.len())
            .chain(recipe.shape().iter().copied())
            .collect();
        let (Some(row), Some(all)) = (product(recipe.shape()), product(&shape)) else {
            return self.refuse(format!(
                "makes batches of shape {shape:?}, more than any memory"
            ));
        };
        let mut values = vec![0.0; all];
        let outcomes = fill(&mut values, row);
        let bad: Vec<(usize, Problem)> = outcomes
            .into_iter()
            .zip(indices)
            .filter_map(|(outcome, &index)| Some((index, outcome.err()?)))
            .collect();
        if !bad.is_empty() {
            return self.refuse(bad::describe(
                &self.inner.opened,
                self.inner.decoder,
                bad,
                indices.len(),
            ));
        }
        let labels = labels
            .as_ref()
            .map(|labels| indices.iter().map(|&index| labels[index]).collect());
        Ok(Batch {
            shape,
            values,
            labels,
        })
    }

    /// The samples at `indices` in batches of `batch` (the last may be smaller), one of them read ahead in a thread.
    pub fn batches(&self, indices: &[usize], batch: usize) -> Batches {
        Batches::new(self.clone(), indices, batch)
    }

    fn refuse<T>(&self, what: String) -> Result<T> {
        Err(Error::Data {
            path: self.inner.source.path.clone(),
            what,
        })
    }
}

fn hexadecimal(hash: Sha256) -> String {
    let bytes = hash.finalize();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn synthetic_recipe(options: &DataOptions) -> Result<(Recipe, Look), Problem> {
    match &options.input {
        InputShape::Image { height, width, .. } => {
            let crop = options.preprocess.crop;
            let size = Size {
                height: height.or(crop.map(|crop| crop.height)).unwrap_or(224),
                width: width.or(crop.map(|crop| crop.width)).unwrap_or(224),
            };
            let mut plain = options.clone();
            plain.preprocess.resize = None;
            plain.preprocess.crop = None;
            let recipe = Recipe::for_images(size, &plain)?;
            let channels = recipe.channels().unwrap_or(3);
            let look = Look::Image { size, channels };
            Ok((recipe, look))
        }
        InputShape::Plain(dims) => {
            let shape: Vec<usize> = dims.iter().map(|dim| dim.unwrap_or(1)).collect();
            let len = product(&shape).ok_or_else(|| format!("cannot be as large as {shape:?}"))?;
            Ok((Recipe::plain(shape), Look::Vector { len }))
        }
    }
}

#[cfg(test)]
mod tests;
