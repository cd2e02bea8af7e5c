//! The features of every sample a run looks at, and what each sample is for.

use std::collections::BTreeMap;

use super::{
    setup::Setup,
    shares::{Shares, spread, without},
    watch::Watch,
};
use crate::{
    error::Result,
    features::{FeatureBatch, FeatureSet},
    head::Head,
};

/// Most samples on which the level of a budget or the best epoch is chosen: 4,000 tell a drop of
/// half a point from none where some 3 % of the classes change.
const MOST_CHECKED: usize = 4000;

/// What samples are wanted for, besides scores.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Purpose {
    /// A level is searched for.
    pub(super) search: bool,
    /// The head is trained.
    pub(super) training: bool,
    /// Figures are shown.
    pub(super) shown: bool,
}

/// Features and the parts they are in.
///
/// What is chosen by comparing on `check` was neither solved (`fit`) nor trained (`train`) on it,
/// and the shown samples are in none of the others; a data set of one sample aside.
pub(super) struct Material {
    /// Of the data set.
    pub(super) features: FeatureSet,
    /// Positions that are scored.
    calibration: Vec<usize>,
    /// Positions that the repair is solved on: the scored ones that are not in `check`.
    pub(super) fit: Vec<usize>,
    /// Positions on which choices are made: ridge strength, the best epoch, the level of a budget.
    pub(super) check: Vec<usize>,
    /// Positions that are trained on.
    pub(super) train: Vec<usize>,
    /// Samples that final figures are of.
    shown: FeatureSet,
}

/// Some samples' features.
pub(crate) struct Samples {
    pub(super) features: FeatureSet,
    pub(super) positions: Vec<usize>,
    /// Whether their classes, where known, are classes of the model.
    labelled: bool,
}

/// Positions in the data set, by what they are for.
struct Parts {
    check: Vec<usize>,
    train: Vec<usize>,
}

impl Parts {
    /// Choices are made on a tenth of the calibration samples; a search or a training takes others
    /// for them where there are as many, so that it can afford more.
    fn new(shares: &Shares, purpose: Purpose) -> Self {
        let mut check = shares.validation.clone();
        if purpose.search || purpose.training {
            let spare = without(&shares.training, &shares.calibration);
            // Most of what is left is still there to be trained on.
            let spare = spread(&spare, MOST_CHECKED.min(spare.len().div_ceil(4)));
            if spare.len() > check.len() {
                check = spare;
            }
        }
        let train = match purpose.training {
            true => without(&shares.training, &check),
            false => Vec::new(),
        };
        Self { check, train }
    }
}

impl Material {
    /// Computes the features of all samples that a run looks at.
    pub(super) fn new(
        setup: &Setup<'_>,
        head: &Head,
        purpose: Purpose,
        watch: &dyn Watch,
    ) -> Result<Self> {
        let calibration = &setup.shares.calibration;
        let Parts { check, train } = Parts::new(&setup.shares, purpose);
        let mut indices = [&calibration[..], &check, &train].concat();
        indices.sort_unstable();
        indices.dedup();
        let features = setup.features(head, &indices, watch)?;
        let shown = match purpose.shown {
            true => setup.held_out_features(head, watch)?,
            false => features.select(&[])?,
        };
        let place: BTreeMap<usize, usize> = indices.into_iter().zip(0..).collect();
        let places = |indices: &[usize]| -> Vec<usize> {
            let found = indices.iter().filter_map(|index| place.get(index).copied());
            found.collect()
        };
        Ok(Self {
            fit: places(&without(calibration, &check)),
            calibration: places(calibration),
            check: places(&check),
            train: places(&train),
            features,
            shown,
        })
    }

    /// Every sample of the data set.
    pub(super) fn all(&self) -> Samples {
        self.part((0..self.features.len()).collect())
    }

    /// Samples that are scored.
    pub(super) fn calibration(&self) -> Samples {
        self.part(self.calibration.clone())
    }

    /// Samples on which choices are made.
    pub(super) fn check(&self) -> Samples {
        self.part(self.check.clone())
    }

    /// Samples of the final figures.
    pub(super) fn shown(&self) -> Samples {
        Samples::all(self.shown.clone())
    }

    fn part(&self, positions: Vec<usize>) -> Samples {
        Samples {
            features: self.features.clone(),
            positions,
            labelled: true,
        }
    }
}

impl Samples {
    /// The features of these samples of the data set.
    pub(super) fn of(
        setup: &Setup<'_>,
        head: &Head,
        indices: &[usize],
        watch: &dyn Watch,
    ) -> Result<Self> {
        setup.features(head, indices, watch).map(Self::all)
    }

    /// Positions of the samples among the features.
    pub(crate) fn positions(&self) -> &[usize] {
        &self.positions
    }

    fn all(features: FeatureSet) -> Self {
        Self {
            positions: (0..features.len()).collect(),
            features,
            labelled: true,
        }
    }

    /// Number of samples.
    pub(super) fn len(&self) -> usize {
        self.positions.len()
    }

    /// The features of some of them, by their place among them.
    pub(super) fn read(&self, places: &[usize]) -> Result<FeatureBatch> {
        let positions: Vec<usize> = places.iter().map(|&place| self.positions[place]).collect();
        let mut batch = self.features.read(&positions)?;
        batch.labels = batch.labels.filter(|_| self.labelled);
        Ok(batch)
    }

    /// The same, as of unknown classes.
    pub(super) fn without_labels(self) -> Self {
        Self {
            labelled: false,
            ..self
        }
    }

    /// Class of each of them, where known.
    pub(super) fn labels(&self) -> Option<Vec<usize>> {
        let labels = self.features.labels().filter(|_| self.labelled)?;
        let positions = self.positions.iter();
        positions
            .map(|&position| labels.get(position).copied())
            .collect()
    }
}
