//! What makes a neuron worth keeping: one small file per criterion, one line in [`CRITERIA`].
//!
//! Larger scores stay. A criterion is given the batches of features one by one and says in the end
//! what each neuron of each layer is worth.

mod activation;
mod apoz;
mod curvature;
mod lsa;
mod obs;
mod random;
mod taylor;
mod variance;
mod weight;
mod wifv;

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{
    Norm, Request, Scale,
    redundancy::{OnRanked, Worth},
    sums::{Layers, Taken, Way},
    terms::Terms,
};
use crate::{
    error::{Error, Result},
    features::FeatureBatch,
};

/// All criteria; the first is the default.
static CRITERIA: [&Entry; 10] = [
    &lsa::ENTRY,
    &weight::ENTRY,
    &activation::ENTRY,
    &variance::ENTRY,
    &apoz::ENTRY,
    &taylor::ENTRY,
    &wifv::ENTRY,
    &obs::ENTRY,
    &curvature::ENTRY,
    &random::ENTRY,
];

/// One line of the table.
pub(super) struct Entry {
    /// The name used by `--criterion`.
    pub(super) name: &'static str,
    /// What it computes, for `--help`.
    pub(super) about: &'static str,
    /// Which choices it looks at.
    pub(super) uses: Uses,
    /// Prepares it.
    pub(super) build: Build,
    /// Turns what was added up into scores, without the model.
    pub(super) conclude: Conclude,
}

type Build = fn(Request<'_>, &[(Norm, Norm)]) -> Result<Box<dyn Measure>>;

/// The last argument hears how a ranking gets on.
type Conclude = fn(&Terms, Layers, &mut OnRanked<'_>) -> Result<Outcome>;

/// What a criterion looks at besides the model.
#[derive(Clone, Copy, Debug)]
pub(super) struct Uses {
    pub(super) samples: bool,
    pub(super) norm: bool,
    pub(super) classes: bool,
    pub(super) of: bool,
    pub(super) scale: bool,
    pub(super) seed: bool,
}

/// Samples, and none of the choices.
const SAMPLES_ONLY: Uses = Uses {
    samples: true,
    norm: false,
    classes: false,
    of: false,
    scale: false,
    seed: false,
};

/// A criterion at work.
pub(super) trait Measure {
    /// Looks at a batch; never called when [`Measure::wants_more`] says no.
    fn add(&mut self, batch: &FeatureBatch) -> Result<()>;

    /// Whether another batch would change anything.
    fn wants_more(&self) -> bool {
        true
    }

    /// Hears that the next batch begins with this sample, after [`Measure::take`] or before all.
    fn begin(&mut self, _sample: u64) {}

    /// What was added since the last call, layer by layer.
    fn take(&mut self) -> Result<Layers>;

    /// Where derivatives came from so far, where there are any.
    fn way(&self) -> Option<Way> {
        None
    }

    /// What to tell people about how it was added up.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }
}

/// What a criterion found.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// For each pair of norms, for each layer.
    pub(super) layers: Vec<Vec<Worth>>,
    /// What to tell people about how the scores came about.
    pub(super) notes: Vec<String>,
    /// The scale that was used, where the criterion looks at it.
    pub(super) scale: Option<Scale>,
}

/// For each pair of norms, for each layer, one score per neuron.
impl From<Vec<Vec<Vec<f64>>>> for Outcome {
    fn from(scores: Vec<Vec<Vec<f64>>>) -> Self {
        let layers = scores.into_iter();
        Self {
            layers: layers
                .map(|layers| layers.into_iter().map(Worth::from).collect())
                .collect(),
            ..Self::default()
        }
    }
}

/// What makes a neuron worth keeping.
#[derive(Clone, Copy)]
pub struct Criterion(&'static Entry);

impl Entry {
    pub(super) fn build(
        &self,
        request: Request<'_>,
        norms: &[(Norm, Norm)],
    ) -> Result<Box<dyn Measure>> {
        (self.build)(request, norms)
    }
}

impl Criterion {
    /// Every criterion, the default first.
    pub fn all() -> impl Iterator<Item = Self> {
        CRITERIA.iter().copied().map(Self)
    }

    /// The name used by `--criterion`.
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// What it computes, in a few words.
    pub fn about(self) -> &'static str {
        self.0.about
    }

    /// Whether it looks at samples at all.
    pub fn needs_samples(self) -> bool {
        self.0.uses.samples
    }

    /// Whether `--norm` makes a difference where `--over-classes` is not given: what it says holds for the classes too.
    pub fn uses_norm(self) -> bool {
        self.0.uses.norm || self.0.uses.classes
    }

    /// Whether `--norm` makes a difference beside `--over-classes`.
    pub fn uses_sample_norm(self) -> bool {
        self.0.uses.norm
    }

    /// Whether `--of` makes a difference.
    pub fn uses_of(self) -> bool {
        self.0.uses.of
    }

    /// Whether `--scale` makes a difference.
    pub fn uses_scale(self) -> bool {
        self.0.uses.scale
    }

    /// Whether `--over-classes` makes a difference.
    pub fn uses_classes(self) -> bool {
        self.0.uses.classes
    }

    /// Whether a seed makes a difference.
    pub fn uses_seed(self) -> bool {
        self.0.uses.seed
    }

    pub(super) fn entry(self) -> &'static Entry {
        self.0
    }
}

/// Local sensitivity.
impl Default for Criterion {
    fn default() -> Self {
        Self(CRITERIA[0])
    }
}

impl PartialEq for Criterion {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl fmt::Debug for Criterion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Criterion({})", self.name())
    }
}

impl fmt::Display for Criterion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Criterion {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::all()
            .find(|criterion| criterion.name() == text)
            .ok_or_else(|| {
                let names: Vec<&str> = Self::all().map(Self::name).collect();
                Error::Argument {
                    name: "--criterion",
                    what: format!("{text:?} is none of {}", names.join(", ")),
                }
            })
    }
}

impl Serialize for Criterion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Criterion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        name.parse().map_err(serde::de::Error::custom)
    }
}

/// What `sums` takes of each layer, divided by its samples and positions, whatever the norms.
fn means(terms: &Terms, layers: Layers, sums: impl Fn(&mut Taken) -> Vec<f64>) -> Outcome {
    let layers = layers.into_iter().map(|layer| {
        let mut layer = Taken::from(layer);
        let pairs = sums(&mut layer).into_iter().zip(layer.fixed());
        let mean = |(sum, places): (f64, f64)| sum / (terms.samples as f64 * places).max(1.0);
        pairs.map(mean).collect()
    });
    for_each_norm(terms, layers.collect())
}

/// Scores that do not depend on the norms, once for each pair.
fn for_each_norm(terms: &Terms, layers: Vec<Vec<f64>>) -> Outcome {
    Outcome::from(vec![layers; terms.norms.len()])
}
