//! Samples that cannot be used: all of them found at once, and refused or left out.
//!
//! What is left out is decided before anything else looks at the samples, by decoding each of them once: which
//! sample plays which role then depends on the data set alone, and no run breaks off in the middle.

use std::path::Path;
use std::str::FromStr;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use super::dataset::DataOptions;
use super::decode::Decoder;
use super::problem::{NAMED, Problem, Read, list_of_bad};
use super::readers::{Opened, Sample, Samples};
use super::shape::product;
use crate::error::{Error, Result};

/// Data sets of up to this many samples are searched whole once one sample turned out bad: seconds for small images,
/// and the user can mend them all at once.
const MOST_SEARCHED: usize = 20_000;

/// What becomes of samples that cannot be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnBadSample {
    /// They end the run; the message lists the first ten.
    #[default]
    Error,
    /// They are left out and counted. Every sample is decoded once beforehand.
    Skip,
}

impl FromStr for OnBadSample {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "error" => Ok(Self::Error),
            "skip" => Ok(Self::Skip),
            _ => Err(Error::Argument {
                name: "--on-bad-sample",
                what: format!("{text:?} is neither error nor skip"),
            }),
        }
    }
}

/// Samples that were left out.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Skipped {
    /// How many.
    pub count: usize,
    /// Of how many.
    pub of: usize,
    /// The first ten.
    pub first: Vec<BadSample>,
}

/// A sample that cannot be used.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BadSample {
    /// What messages call it: a file name, or `sample 17`.
    pub name: String,
    /// What is wrong with it.
    pub why: String,
}

impl Skipped {
    /// Few words and a line for each of the first ten; nothing where nothing was left out.
    pub fn describe(&self) -> Option<String> {
        let first = self.first.iter();
        let lines: Vec<String> = first
            .map(|bad| format!("\n  {}: {}", bad.name, bad.why))
            .collect();
        let more = match self.count - self.first.len() {
            0 => String::new(),
            more => format!("\n  and {more} more"),
        };
        (self.count > 0).then(|| {
            format!(
                "{} of {} samples left out:{}{more}",
                self.count,
                self.of,
                lines.concat()
            )
        })
    }
}

/// Leaves out what cannot be used, and says what that was. `Error::Data` if nothing is left.
pub(super) fn leave_out(
    path: &Path,
    mut opened: Opened,
    options: &DataOptions,
) -> Result<(Opened, Skipped)> {
    let bad = find(&opened, opened.decoder(options.limits));
    let of = opened.chosen.len();
    if bad.len() == of {
        return Err(Error::Data {
            path: path.to_owned(),
            what: list_of_bad("samples", of, &named(&opened, bad)),
        });
    }
    let first = bad.iter().take(NAMED).map(|(position, problem)| BadSample {
        name: opened.samples.name(*position),
        why: problem.text(),
    });
    let skipped = Skipped {
        count: bad.len(),
        of,
        first: first.collect(),
    };
    if bad.is_empty() {
        return Ok((opened, skipped));
    }
    let is_bad = |position: &usize| bad.binary_search_by_key(position, |(at, _)| *at).is_ok();
    let positions: Vec<usize> = (0..of).filter(|position| !is_bad(position)).collect();
    let pick = |all: &[usize]| positions.iter().map(|&position| all[position]).collect();
    opened
        .notes
        .push(format!("{} bad samples left out", bad.len()));
    let kept = Opened {
        total: opened.total - bad.len(),
        chosen: pick(&opened.chosen),
        labels: opened.labels.as_deref().map(pick),
        samples: Box::new(Kept {
            samples: opened.samples,
            positions,
        }),
        ..opened
    };
    Ok((kept, skipped))
}

/// The message about the bad samples of a batch, and about all others where looking for them does not take long.
pub(super) fn describe(
    opened: &Opened,
    decoder: Decoder,
    bad: Vec<(usize, Problem)>,
    batch: usize,
) -> String {
    let all = opened.chosen.len();
    if all > MOST_SEARCHED {
        return list_of_bad("samples of this batch", batch, &named(opened, bad));
    }
    let found = find(opened, decoder);
    list_of_bad(
        "samples",
        all,
        &named(opened, if found.is_empty() { bad } else { found }),
    )
}

/// Positions of the samples that cannot be used, rising.
fn find(opened: &Opened, decoder: Decoder) -> Vec<(usize, Problem)> {
    let Opened {
        samples, recipe, ..
    } = opened;
    let Some(row) = product(recipe.shape()) else {
        return vec![];
    };
    let positions = (0..opened.chosen.len()).into_par_iter();
    positions
        .map_init(
            || vec![0.0; row],
            |out, position| {
                let loaded = samples
                    .load(position)
                    .and_then(|read| read.decoded(decoder));
                let written = loaded.and_then(|sample| recipe.write(sample, out));
                Some((position, written.err()?))
            },
        )
        .flatten_iter()
        .collect()
}

fn named(opened: &Opened, bad: Vec<(usize, Problem)>) -> Vec<(String, Problem)> {
    bad.into_iter()
        .map(|(position, problem)| (opened.samples.name(position), problem))
        .collect()
}

/// Some of a data set's samples.
struct Kept {
    samples: Box<dyn Samples>,
    positions: Vec<usize>,
}

impl Samples for Kept {
    fn load(&self, position: usize) -> Read<Sample> {
        self.samples.load(self.positions[position])
    }

    fn name(&self, position: usize) -> String {
        self.samples.name(self.positions[position])
    }

    fn digest(&self, hash: &mut Sha256) -> Result<()> {
        self.samples.digest(hash)
    }

    fn digest_times(&self, hash: &mut Sha256) -> Result<()> {
        self.samples.digest_times(hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::fixtures::{folder, options, png};
    use crate::data::{DataOptions, Dataset};

    /// A folder of 24 images of two classes; every fourth breaks off behind its header.
    fn damaged() -> tempfile::TempDir {
        let files: Vec<(String, Vec<u8>)> = (0..24_u8)
            .map(|i| {
                let mut file = png(3, 2, [i, 0, 0]);
                file.truncate(if i % 4 == 0 { 45 } else { file.len() });
                (format!("{}/{i:02}.png", i % 2), file)
            })
            .collect();
        let files: Vec<(&str, Vec<u8>)> = files
            .iter()
            .map(|(name, file)| (name.as_str(), file.clone()))
            .collect();
        folder(&files)
    }

    fn skipping() -> DataOptions {
        DataOptions {
            on_bad_sample: OnBadSample::Skip,
            ..options(&[3, 2, 3])
        }
    }

    #[test]
    fn what_is_left_does_not_depend_on_threads() {
        let folder = damaged();
        let open = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            let pool = pool.build().unwrap();
            pool.install(|| {
                let data = Dataset::open(folder.path(), &skipping()).unwrap();
                let batch = data.read(&(0..data.len()).collect::<Vec<_>>()).unwrap();
                let names: Vec<String> = data
                    .skipped()
                    .unwrap()
                    .first
                    .iter()
                    .map(|b| b.name.clone())
                    .collect();
                (
                    batch.values,
                    data.labels().unwrap().to_vec(),
                    names,
                    data.state().unwrap(),
                )
            })
        };
        let (values, labels, names, state) = open(1);
        assert_eq!(
            names,
            [
                "0/00.png", "0/04.png", "0/08.png", "0/12.png", "0/16.png", "0/20.png"
            ]
        );
        assert_eq!(labels, [[0; 6].as_slice(), &[1; 12]].concat());
        let reds: Vec<f32> = values.iter().step_by(18).map(|v| v * 255.0).collect();
        assert_eq!(reds[..7], [2.0, 6.0, 10.0, 14.0, 18.0, 22.0, 1.0]);
        for threads in [2, 5] {
            let again = open(threads);
            assert_eq!(
                again,
                (values.clone(), labels.clone(), names.clone(), state.clone())
            );
        }
    }

    #[test]
    fn one_bad_batch_tells_of_all_bad_samples() {
        let folder = damaged();
        let data = Dataset::open(folder.path(), &options(&[3, 2, 3])).unwrap();
        let error = data.read(&[0, 1]).unwrap_err().to_string();
        for part in ["6 of 24 samples cannot be used", "0/20.png: is truncated"] {
            assert!(error.contains(part), "{error}");
        }
        assert!(data.read(&[1, 3]).is_ok());
    }

    #[test]
    fn nothing_left_is_an_error() {
        let broken = png(2, 2, [1, 2, 3])[..45].to_vec();
        let folder = folder(&[("a.png", broken.clone()), ("b.png", broken)]);
        let error = Dataset::open(folder.path(), &skipping())
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains("2 of 2 samples cannot be used"), "{error}");
    }

    #[test]
    fn a_data_set_without_bad_samples_is_left_alone() {
        let folder = folder(&[("a.png", png(3, 2, [1, 2, 3]))]);
        let data = Dataset::open(folder.path(), &skipping()).unwrap();
        let plain = Dataset::open(folder.path(), &options(&[3, 2, 3])).unwrap();
        assert_eq!(data.skipped().map(|found| found.count), Some(0));
        assert_eq!(data.skipped().and_then(Skipped::describe), None);
        assert_eq!(data.state().unwrap(), plain.state().unwrap());
    }
}
