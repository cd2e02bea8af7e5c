//! Encoded images, wherever their bytes lie: the common end of folders, lists, archives and tables.
//!
//! A reader says which images there are, where each begins, and of which class it is; choosing among them, looking into
//! headers and decoding is done here.

use std::collections::BTreeSet;
use std::path::Path;

use rayon::prelude::*;
use sha2::Sha256;

use super::bad::OnBadSample;
use super::dataset::DataOptions;
use super::decode::{Decoder, Stream, Turning};
use super::geometry::Size;
use super::problem::{Problem, Read, list_of_bad};
use super::readers::{Opened, Sample, Samples};
use super::recipe::Recipe;
use super::split;
use crate::error::{Error, Result};

/// Where encoded images lie; indices count all of them, chosen or not.
pub(super) trait Encoded: Send + Sync {
    /// The bytes of one image; several threads ask at once.
    fn open(&self, index: usize) -> Read<Box<dyn Stream + '_>>;
    /// What messages call it.
    fn name(&self, index: usize) -> String;
    /// See [`Samples::digest`].
    fn digest(&self, hash: &mut Sha256) -> Result<()>;
    /// See [`Samples::digest_times`].
    fn digest_times(&self, hash: &mut Sha256) -> Result<()>;
}

/// Which images are looked into when a data set is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Headers {
    /// All chosen ones, so that what is no image shows before a long run starts.
    All,
    /// The first, where looking into one means unpacking what lies around it.
    #[cfg_attr(
        not(feature = "parquet"),
        expect(dead_code, reason = "of tables in Parquet files")
    )]
    First,
}

/// Classes of images.
#[derive(Debug, Default)]
pub(super) struct Classes {
    /// One per image.
    pub(super) labels: Option<Vec<usize>>,
    pub(super) names: Option<Vec<String>>,
}

/// What a reader of encoded images found.
pub(super) struct ImageSource {
    pub(super) encoded: Box<dyn Encoded>,
    /// Number of images.
    pub(super) total: usize,
    pub(super) classes: Classes,
    /// What is stored, in words.
    pub(super) stored: String,
    pub(super) notes: Vec<String>,
    pub(super) turning: Turning,
    pub(super) headers: Headers,
}

impl ImageSource {
    /// The common end of all readers of encoded images; `total` is not 0.
    pub(super) fn open(self, path: &Path, options: &DataOptions) -> Result<Opened> {
        let chosen = split::sample(self.total, options.samples, options.seed);
        let decoder = Decoder {
            limits: options.limits,
            turning: self.turning,
        };
        let images = Images {
            encoded: self.encoded,
            chosen: chosen.clone(),
            decoder,
        };
        let first = images
            .first_size(options.on_bad_sample, self.headers)
            .map_err(|what| Error::Data {
                path: path.to_owned(),
                what,
            })?;
        let recipe = Recipe::for_images(first, options).map_err(|problem| problem.at(path))?;
        let labels = self.classes.labels;
        Ok(Opened {
            recipe,
            total: self.total,
            labels: labels.map(|all| chosen.iter().map(|&index| all[index]).collect()),
            chosen,
            class_names: self.classes.names,
            stored: self.stored,
            turning: self.turning,
            notes: self.notes,
            samples: Box::new(images),
        })
    }
}

struct Images {
    encoded: Box<dyn Encoded>,
    chosen: Vec<usize>,
    decoder: Decoder,
}

impl Images {
    /// Size of the first usable image; the error lists the ones that are no images.
    fn first_size(&self, on_bad: OnBadSample, headers: Headers) -> Result<Size, String> {
        let size = |position: usize| {
            let mut stream = self.encoded.open(self.chosen[position])?;
            self.decoder.size(&mut *stream)
        };
        let count = self.chosen.len();
        let seen: Vec<Read<Size>> = match (on_bad, headers) {
            (OnBadSample::Error, Headers::All) => (0..count).into_par_iter().map(size).collect(),
            (OnBadSample::Error, Headers::First) => vec![size(0)],
            (OnBadSample::Skip, _) => {
                if let Some(first) = (0..count).find_map(|position| size(position).ok()) {
                    return Ok(first);
                }
                (0..count).map(size).collect()
            }
        };
        let (mut first, mut bad) = (None, vec![]);
        for (position, size) in seen.into_iter().enumerate() {
            match size {
                Ok(size) => first = first.or(Some(size)),
                Err(problem) => bad.push((self.name(position), problem)),
            }
        }
        match first {
            Some(size) if bad.is_empty() => Ok(size),
            _ => Err(list_of_bad("images", count, &bad)),
        }
    }
}

impl Samples for Images {
    fn load(&self, position: usize) -> Read<Sample> {
        let mut stream = self.encoded.open(self.chosen[position])?;
        self.decoder.read(&mut *stream).map(Sample::Encoded)
    }

    fn name(&self, position: usize) -> String {
        self.encoded.name(self.chosen[position])
    }

    fn digest(&self, hash: &mut Sha256) -> Result<()> {
        self.encoded.digest(hash)
    }

    fn digest_times(&self, hash: &mut Sha256) -> Result<()> {
        self.encoded.digest_times(hash)
    }
}

/// Labels as they are written: numbers where all are numbers, names where none is. No labels are no classes.
pub(super) fn classes_of(labels: &[impl AsRef<str>]) -> Read<Classes> {
    let labels = || labels.iter().map(AsRef::as_ref);
    let numbers: Read<Vec<usize>> = labels().map(class_number).collect();
    let is_number = |text: &str| text.parse::<f64>().is_ok_and(f64::is_finite);
    match numbers {
        Ok(numbers) if numbers.is_empty() => Ok(Classes::default()),
        Ok(numbers) => Ok(Classes {
            labels: Some(numbers),
            names: None,
        }),
        // A negative or broken number among numbers is no name.
        Err(problem) if labels().any(is_number) => Err(problem),
        Err(_) => Ok(by_name(labels())),
    }
}

/// Classes by name: sorted, each once, and the number of each image's class.
fn by_name<'n>(names: impl Iterator<Item = &'n str> + Clone) -> Classes {
    let classes: BTreeSet<&str> = names.clone().collect();
    let classes: Vec<&str> = classes.into_iter().collect();
    let number = |name| classes.binary_search(&name).unwrap_or_default();
    Classes {
        labels: Some(names.map(number).collect()),
        names: Some(classes.into_iter().map(str::to_owned).collect()),
    }
}

/// A class number as it is written in a file.
fn class_number(text: &str) -> Read<usize> {
    text.trim()
        .parse()
        .map_err(|_| Problem::Content(format!("has the label {text:?}, expected a class number")))
}
