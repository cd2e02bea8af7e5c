//! Runs a criterion over batches of features.

use serde::Serialize;

use super::{
    Criterion, Norm, Of, Scale, ScoreOptions,
    criteria::{self, Measure, Outcome},
    redundancy::{Worth, members},
};
use crate::{
    engine::Engine,
    error::{Error, Result},
    features::FeatureBatch,
    graph::{Graph, Shapes},
    head::{Head, Layer},
    prune::{LayerScores, Scores},
};

/// What is scored, where, and how.
#[derive(Clone, Copy)]
pub struct Request<'r> {
    /// Runs the graphs.
    pub engine: &'r dyn Engine,
    /// The model.
    pub graph: &'r Graph<'r>,
    /// What is known of its values; see [`crate::features::probe`].
    pub shapes: &'r Shapes,
    /// Its head.
    pub head: &'r Head,
    /// The choices.
    pub options: &'r ScoreOptions,
    /// Whether the samples are real: only these tell which neurons say the same.
    pub real_samples: bool,
    /// Hears how many neurons, or units, a greedy choice has ranked, of how many; first 0. An error
    /// ends the work.
    pub on_ranked: &'r dyn Fn(usize, usize) -> Result<()>,
}

/// Scores, and how they came about.
#[derive(Clone, Debug, Serialize)]
pub struct Scored {
    /// One score per neuron of every layer.
    pub scores: Scores,
    /// How they came about.
    pub report: ScoreReport,
}

/// How scores came about, for the terminal, JSON and the model's metadata.
///
/// Choices that the criterion does not look at are left out.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ScoreReport {
    /// The criterion.
    pub criterion: Criterion,
    /// The norm over the samples.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub norm: Option<Norm>,
    /// The norm over the classes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub over_classes: Option<Norm>,
    /// What was differentiated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of: Option<Of>,
    /// What one unit of change was worth.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale: Option<Scale>,
    /// The seed, where one was used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Samples that were looked at; 0 where none are needed.
    pub samples: usize,
    /// Where the derivatives came from, and why from there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub way: Option<String>,
    /// Sentences for people: shortcuts that were taken, where labels came from.
    pub notes: Vec<String>,
}

/// Scores every neuron of the head.
///
/// Batches are taken one at a time, and none where the criterion needs none: a head that is linear
/// up to the logits has the same derivatives for every sample.
///
/// # Errors
/// [`Error::UnsupportedOperators`] before any run; [`Error::Invalid`] naming the neuron where a
/// number is NaN or infinite; [`Error::Argument`] for choices that the criterion does not look at
/// and where samples are needed but none came; [`Error::Engine`], and whatever `batches` gives.
pub fn score<I>(request: Request<'_>, batches: I) -> Result<Scored>
where
    I: IntoIterator<Item = Result<FeatureBatch>>,
{
    let options = request.options;
    let mut all = score_norms(request, &[(options.norm, options.class_norm())], batches)?;
    all.pop().ok_or_else(no_samples)
}

/// [`score`] for several pairs of norms, over the samples and over the classes, in one pass.
///
/// They take the place of those in the options; one result per pair.
///
/// # Errors
/// As [`score`].
pub fn score_norms<I>(
    request: Request<'_>,
    norms: &[(Norm, Norm)],
    batches: I,
) -> Result<Vec<Scored>>
where
    I: IntoIterator<Item = Result<FeatureBatch>>,
{
    request.options.check()?;
    let criterion = request.options.criterion;
    let mut measure = criterion.entry().build(request, norms)?;
    let samples = stream(measure.as_mut(), batches)?;
    let total = norms.len() * head_units(request.head);
    let mut ranked = None;
    let Outcome {
        layers,
        notes,
        scale,
        way,
    } = measure.finish(&mut |count| {
        let before = match ranked {
            Some(before) => before,
            None => {
                (request.on_ranked)(0, total)?;
                0
            }
        };
        ranked = Some(before + count);
        (request.on_ranked)(before + count, total)
    })?;
    let scored = norms.iter().zip(layers).map(|(&norms, layers)| {
        let joined = match criterion.uses_classes() {
            true => norms.1,
            false => Norm::P(1.0),
        };
        let layers = request.head.layers.iter().zip(layers);
        let layers = layers.map(|(layer, worth)| layer_scores(layer, worth, joined));
        Scored {
            scores: Scores {
                layers: layers.collect(),
            },
            report: report(
                request.options,
                norms,
                (scale, way.clone()),
                samples,
                notes.clone(),
            ),
        }
    });
    Ok(scored.collect())
}

/// Units of all layers.
fn head_units(head: &Head) -> usize {
    let layers = head.layers.iter();
    layers
        .map(|layer| members(layer.units.as_deref(), layer.width()).len())
        .sum()
}

/// Scores by neuron become those of units, by a norm over each unit's neurons: that over the
/// classes, else their sum. A ranking knows units already.
fn layer_scores(layer: &Layer, worth: Worth, joined: Norm) -> LayerScores {
    let mut scores = LayerScores {
        ranking: worth.ranking,
        units: layer.units.as_deref().unwrap_or_default().to_vec(),
        ..LayerScores::new(&layer.name, worth.values)
    };
    if scores.ranking.is_empty() && !scores.units.is_empty() {
        for unit in members(Some(&scores.units), layer.width()) {
            let values = unit.iter().map(|&neuron| scores.values[neuron]);
            let value = match values.clone().find(|value| value.is_nan()) {
                Some(bad) => bad,
                None => joined.of(values),
            };
            unit.iter()
                .for_each(|&neuron| scores.values[neuron] = value);
        }
    }
    scores
}

/// Gives the measure what it wants; the number of samples it got.
fn stream<I>(measure: &mut dyn Measure, batches: I) -> Result<usize>
where
    I: IntoIterator<Item = Result<FeatureBatch>>,
{
    if !measure.wants_more() {
        return Ok(0);
    }
    let mut samples = 0;
    for batch in batches {
        let batch = batch?;
        samples += batch.samples;
        measure.add(&batch)?;
        if !measure.wants_more() {
            break;
        }
    }
    if samples == 0 {
        return Err(no_samples());
    }
    Ok(samples)
}

fn no_samples() -> Error {
    Error::Argument {
        name: "--data",
        what: "this criterion needs samples, but there are none".to_owned(),
    }
}

fn report(
    options: &ScoreOptions,
    (norm, over_classes): (Norm, Norm),
    (scale, way): (Option<Scale>, Option<String>),
    samples: usize,
    notes: Vec<String>,
) -> ScoreReport {
    let criteria::Uses {
        samples: _,
        norm: uses_norm,
        classes,
        of,
        scale: _,
        seed,
    } = options.criterion.entry().uses;
    ScoreReport {
        criterion: options.criterion,
        norm: uses_norm.then_some(norm),
        over_classes: classes.then_some(over_classes),
        of: of.then_some(options.of),
        scale,
        seed: seed.then_some(options.seed),
        samples,
        way,
        notes,
    }
}
