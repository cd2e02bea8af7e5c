//! Runs a criterion over batches of features.

use serde::{Deserialize, Serialize};

use super::{
    Criterion, Norm, Of, Scale, ScoreOptions,
    criteria::{self, Measure, Outcome},
    redundancy::Worth,
    sums::Collected,
    terms::{LayerTerms, Terms},
};
use crate::{
    engine::Engine,
    error::{Error, Result},
    features::FeatureBatch,
    graph::{Graph, Shapes},
    head::Head,
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
    pub on_ranked: &'r (dyn Fn(usize, usize) -> Result<()> + Sync),
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScoreReport {
    /// The criterion.
    pub criterion: Criterion,
    /// The norm over the samples.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub norm: Option<Norm>,
    /// The norm over the classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over_classes: Option<Norm>,
    /// What was differentiated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<Of>,
    /// What one unit of change was worth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<Scale>,
    /// The seed, where one was used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Samples that were looked at; 0 where none are needed.
    pub samples: usize,
    /// Where the derivatives came from, and why from there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
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
    let collected = collect(request, norms, (0, 0), batches)?;
    let terms = Terms::new(request, norms, collected.samples());
    conclude(&terms, collected, request.on_ranked)
}

/// Adds up what scores are made from, over `batches` that begin with block `block` and, counted over
/// all blocks, sample `sample`.
///
/// A block ends with the batch that makes up [`ScoreOptions::block`] samples. What is collected is joined along
/// one tree over blocks, so that batches may be dealt to many machines, block by block.
///
/// # Errors
/// As [`score`].
pub fn collect<I>(
    request: Request<'_>,
    norms: &[(Norm, Norm)],
    (block, sample): (usize, u64),
    batches: I,
) -> Result<Collected>
where
    I: IntoIterator<Item = Result<FeatureBatch>>,
{
    request.options.check()?;
    let criterion = request.options.criterion;
    let mut measure = criterion.entry().build(request, norms)?;
    let mut collected = Collected::default();
    if measure.wants_more() {
        let place = (block, sample, request.options.block);
        stream(measure.as_mut(), place, batches, &mut collected)?;
    } else {
        collected.add(block, measure.take()?, 0);
    }
    collected.notes.extend(measure.notes());
    collected.way = measure.way();
    Ok(collected)
}

/// Scores from what was collected, one result per pair of norms; `on_ranked` is that of [`Request`].
///
/// # Errors
/// [`Error::Argument`] where samples are needed, but there are none, or they tell nothing of
/// redundancy; [`Error::Invalid`] where rounding leaves no inverse; those of `on_ranked`.
pub fn conclude(
    terms: &Terms,
    collected: Collected,
    on_ranked: &(dyn Fn(usize, usize) -> Result<()> + Sync),
) -> Result<Vec<Scored>> {
    let norms = &terms.norms;
    let units = terms.layers.iter().map(|layer| layer.members().len());
    let total = norms.len() * units.sum::<usize>();
    let mut ranked = None;
    let mut notes = collected.notes.clone();
    let way = collected
        .way
        .as_ref()
        .map(|way| way.in_words(&terms.layers));
    let sums = collected.total().ok_or_else(no_samples)?;
    let conclude = terms.criterion.entry().conclude;
    let outcome = conclude(terms, sums, &mut |count| {
        let before = match ranked {
            Some(before) => before,
            None => {
                on_ranked(0, total)?;
                0
            }
        };
        ranked = Some(before + count);
        on_ranked(before + count, total)
    })?;
    let Outcome {
        layers,
        notes: more,
        scale,
    } = outcome;
    notes.extend(more);
    let scored = norms.iter().zip(layers).map(|(&norms, layers)| {
        let joined = match terms.criterion.uses_classes() {
            true => norms.1,
            false => Norm::P(1.0),
        };
        let layers = terms.layers.iter().zip(layers);
        let layers = layers.map(|(layer, worth)| layer_scores(layer, worth, joined));
        Scored {
            scores: Scores {
                layers: layers.collect(),
            },
            report: report(terms, norms, (scale, way.clone()), notes.clone()),
        }
    });
    Ok(scored.collect())
}

/// Scores by neuron become those of units, by a norm over each unit's neurons: that over the
/// classes, else their sum. A ranking knows units already.
fn layer_scores(layer: &LayerTerms, worth: Worth, joined: Norm) -> LayerScores {
    let mut scores = LayerScores {
        ranking: worth.ranking,
        units: layer.units.clone(),
        ..LayerScores::new(&layer.name, worth.values)
    };
    if scores.ranking.is_empty() && !scores.units.is_empty() {
        for unit in layer.members() {
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

/// Gives the measure what it wants, and takes what it made of each block.
fn stream<I>(
    measure: &mut dyn Measure,
    (mut block, mut sample, size): (usize, u64, usize),
    batches: I,
    collected: &mut Collected,
) -> Result<()>
where
    I: IntoIterator<Item = Result<FeatureBatch>>,
{
    let mut samples = 0;
    measure.begin(sample);
    for batch in batches {
        let batch = batch?;
        samples += batch.samples;
        measure.add(&batch)?;
        if !measure.wants_more() {
            break;
        }
        if samples >= size {
            collected.add(block, measure.take()?, samples as u64);
            block += 1;
            sample += samples as u64;
            samples = 0;
            measure.begin(sample);
        }
    }
    if samples > 0 {
        collected.add(block, measure.take()?, samples as u64);
    }
    Ok(())
}

fn no_samples() -> Error {
    Error::Argument {
        name: "--data",
        what: "this criterion needs samples, but there are none".to_owned(),
    }
}

fn report(
    terms: &Terms,
    (norm, over_classes): (Norm, Norm),
    (scale, way): (Option<Scale>, Option<String>),
    notes: Vec<String>,
) -> ScoreReport {
    let criteria::Uses {
        samples: _,
        norm: uses_norm,
        classes,
        of,
        scale: _,
        seed,
    } = terms.criterion.entry().uses;
    ScoreReport {
        criterion: terms.criterion,
        norm: uses_norm.then_some(norm),
        over_classes: classes.then_some(over_classes),
        of: of.then_some(terms.of),
        scale,
        seed: seed.then_some(terms.seed),
        samples: usize::try_from(terms.samples).unwrap_or(usize::MAX),
        way,
        notes,
    }
}
