//! How many samples are enough: as many as it takes for others to choose the same neurons.
//!
//! Samples are doubled until those that were there and those that were added, each for themselves,
//! keep nearly the same neurons. What is scored then is both together. Nothing is told about p = inf, which
//! looks at single samples and takes far more of them than p = 1 or 2: it shows.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{
    material::Samples,
    score::{self, View},
    setup::Setup,
    shares::without,
    watch::{Quiet, Watch},
};
use crate::{
    error::{Error, Result},
    head::Head,
    prune::{Budget, Plan},
    sensitivity::{Norm, Of, ScoreOptions},
};

/// Samples that are tried first.
const FIRST: usize = 256;

/// Share of the kept neurons of each layer on which two sets of samples have to agree. Both together
/// agree more with what all samples would choose than with one another.
const WANTED: f64 = 0.95;

/// How the number of samples was found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EnoughReport {
    /// Samples that are scored.
    pub samples: usize,
    /// Whether two parts of them agree; else there were no more.
    pub stable: bool,
    /// Share of the kept neurons that two parts had to agree on.
    pub wanted: f64,
    /// What was tried, from few samples to many.
    pub tried: Vec<TriedSamples>,
}

/// Two sets of samples, scored apart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TriedSamples {
    /// In both together.
    pub samples: usize,
    /// Share of the kept neurons that both keep, in the layer where it is smallest.
    pub overlap: f64,
}

/// Finds the number of samples, and shares them out accordingly; nothing where a number was given.
///
/// # Errors
/// [`Error::Argument`] where nothing is scored on real samples; those of scoring.
pub(super) fn settle(
    setup: &mut Setup<'_>,
    head: &Head,
    (score, of): (&ScoreOptions, Option<Of>),
    budget: &Budget,
    watch: &dyn Watch,
) -> Result<Option<EnoughReport>> {
    if !setup.options.until_stable {
        return Ok(None);
    }
    check(setup, score)?;
    let mut tried = Vec::new();
    setup.share_out(usize::MAX);
    let half = setup.shares.calibration.len() / 2;
    setup.share_out(FIRST.min(half).max(1));
    let mut known = setup.shares.calibration.clone();
    let stable = loop {
        setup.share_out(known.len() * 2);
        let all = setup.shares.calibration.clone();
        let added = without(&all, &known);
        if added.is_empty() {
            break false;
        }
        let kept = |samples: &[usize]| kept(setup, head, (score, of), budget, samples, watch);
        let overlap = overlap(&kept(&known)?, &kept(&added)?);
        let samples = all.len();
        watch.detail(&format!(
            "{} and {} other samples agree on {:.1} % of the kept neurons",
            known.len(),
            added.len(),
            overlap * 100.0
        ));
        tried.push(TriedSamples { samples, overlap });
        let grew = all.len() == known.len() * 2;
        known = all;
        if overlap >= WANTED || !grew {
            break overlap >= WANTED;
        }
    };
    let report = EnoughReport {
        samples: known.len(),
        stable,
        wanted: WANTED,
        tried,
    };
    watch.note(&report.in_words(score.norm));
    Ok(Some(report))
}

impl EnoughReport {
    fn in_words(&self, norm: Norm) -> String {
        let overlap = self.tried.last().map_or(0.0, |tried| tried.overlap * 100.0);
        let (samples, wanted) = (self.samples, self.wanted * 100.0);
        if self.stable {
            return format!(
                "{samples} samples are scored: two halves of them agree on {overlap:.1} % of the kept neurons"
            );
        }
        let hint = match norm {
            Norm::Inf => "; p = inf looks at single samples and takes far more of them than 1 or 2",
            Norm::P(_) => "",
        };
        format!(
            "all {samples} samples are scored, and two parts of them agree on {overlap:.1} % of the kept \
             neurons only, of {wanted:.0} % wanted: other samples would keep others{hint}"
        )
    }
}

fn check(setup: &Setup<'_>, score: &ScoreOptions) -> Result<()> {
    let refuse = |what: String| Error::Argument {
        name: "--samples",
        what: format!("auto {what}"),
    };
    if !setup.has_data() {
        return Err(refuse("needs samples; give some with --data".to_owned()));
    }
    if !score.criterion.needs_samples() {
        return Err(refuse(format!(
            "has no effect with --criterion {}, which looks at none",
            score.criterion
        )));
    }
    Ok(())
}

/// The neurons that these samples keep.
fn kept(
    setup: &Setup<'_>,
    head: &Head,
    (score, of): (&ScoreOptions, Option<Of>),
    budget: &Budget,
    samples: &[usize],
    watch: &dyn Watch,
) -> Result<Plan> {
    let samples = Samples::of(setup, head, samples, watch)?;
    let view = View::of(setup, head);
    let scored = score::scores(setup, view, score, of, Some(samples), &Quiet(watch))?;
    budget.select(&scored.scores)
}

/// The share that both keep, in the layer where it is smallest.
fn overlap(one: &Plan, other: &Plan) -> f64 {
    let layers = one.layers.iter().zip(&other.layers);
    let shares = layers.map(|(one, other)| {
        let known: BTreeSet<usize> = one.keep.iter().copied().collect();
        let both = other.keep.iter().filter(|neuron| known.contains(neuron));
        let most = one.keep.len().max(other.keep.len()).max(1);
        both.count() as f64 / most as f64
    });
    shares.fold(1.0, f64::min)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prune::plan::LayerPlan;

    #[test]
    fn the_overlap_is_that_of_the_worst_layer() {
        let plan = |layers: &[&[usize]]| Plan {
            layers: layers
                .iter()
                .map(|keep| LayerPlan {
                    name: String::new(),
                    width: 10,
                    keep: keep.to_vec(),
                })
                .collect(),
        };
        let cases = [
            (plan(&[&[0, 1, 2, 3]]), plan(&[&[0, 1, 2, 3]]), 1.0),
            (plan(&[&[0, 1, 2, 3]]), plan(&[&[0, 1, 2, 9]]), 0.75),
            // other numbers stay where layers compete
            (plan(&[&[0, 1], &[4]]), plan(&[&[0, 1, 2, 3], &[4]]), 0.5),
            (plan(&[&[0], &[4, 5]]), plan(&[&[0], &[6, 7]]), 0.0),
        ];
        for (one, other, expected) in cases {
            assert_eq!(overlap(&one, &other), expected);
            assert_eq!(overlap(&other, &one), expected);
        }
    }
}
