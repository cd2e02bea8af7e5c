//! Class scores of a head on features that are there already: no trunk runs.

use std::rc::Rc;

use super::top::largest;
use crate::{
    engine::{Engine, Session},
    error::{Error, Result},
    features::{self, FeatureBatch, FeatureSet},
    onnx::ModelProto,
};

/// Samples per run of a head.
const BATCH: usize = 256;

/// Class scores of samples, `[N, K]`.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassScores {
    /// Row by row.
    pub values: Vec<f32>,
    /// Number of classes K.
    pub classes: usize,
}

impl ClassScores {
    /// The class with the largest score of each sample; ties give the lower class.
    pub fn top(&self) -> Vec<usize> {
        self.values
            .chunks(self.classes.max(1))
            .map(largest)
            .collect()
    }

    /// Number of samples N.
    pub fn len(&self) -> usize {
        self.values.len() / self.classes.max(1)
    }

    /// Whether there are no samples.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }
}

/// A head as a model of its own.
#[derive(Clone, Copy)]
pub struct HeadModel<'a> {
    /// Inputs: features, by their names in the whole model. First output: the scores, `[N, K]`,
    /// perhaps with further axes of size 1.
    pub model: &'a ModelProto,
    /// Number of classes K.
    pub classes: usize,
}

/// Runs a head over cached features; `step` hears of every batch and may end the run.
///
/// # Errors
/// [`Error::Engine`] when the engine fails or the scores are of another shape; whatever `step` or
/// reading the features gives.
pub fn scores(
    engine: &dyn Engine,
    head: HeadModel<'_>,
    features: &FeatureSet,
    positions: &[usize],
    step: &mut dyn FnMut(usize) -> Result<()>,
) -> Result<ClassScores> {
    let mut all = scores_of_all(engine, &[head], features, positions, step)?;
    Ok(all.pop().expect("one head gives one result"))
}

/// [`scores`] of several heads, with each batch read once.
///
/// # Errors
/// As [`scores`].
pub fn scores_of_all(
    engine: &dyn Engine,
    heads: &[HeadModel<'_>],
    features: &FeatureSet,
    positions: &[usize],
    step: &mut dyn FnMut(usize) -> Result<()>,
) -> Result<Vec<ClassScores>> {
    let mut all: Vec<Running> = Vec::with_capacity(heads.len());
    for head in heads {
        let scores = ClassScores {
            values: Vec::with_capacity(positions.len() * head.classes),
            classes: head.classes,
        };
        let selected = features::selected(head.model, features)?;
        let (model, features) = match &selected {
            None => (head.model, features),
            Some((model, features)) => (model, features),
        };
        // Heads of one cut read the same numbers.
        let same = all
            .iter()
            .rposition(|known| known.features.is_same(features));
        all.push(Running {
            session: engine.load(model)?,
            features: features.clone(),
            same,
            scores,
        });
    }
    for part in positions.chunks(features.fixed_batch().unwrap_or(BATCH)) {
        let mut batches: Vec<Rc<FeatureBatch>> = Vec::with_capacity(all.len());
        for one in &mut all {
            let batch = match one.same {
                Some(same) => Rc::clone(&batches[same]),
                None => Rc::new(one.features.read(part)?),
            };
            let classes = one.scores.classes;
            let (session, names) = (one.session.as_mut(), one.features.names());
            let found = run(session, engine, classes, names, &batch)?;
            one.scores.values.extend(found);
            batches.push(batch);
        }
        step(part.len())?;
    }
    Ok(all.into_iter().map(|one| one.scores).collect())
}

/// A head, what it reads, and what it gave so far.
struct Running {
    session: Box<dyn Session>,
    features: FeatureSet,
    /// The head before it that reads the same.
    same: Option<usize>,
    scores: ClassScores,
}

fn run(
    session: &mut dyn Session,
    engine: &dyn Engine,
    classes: usize,
    names: &[String],
    batch: &FeatureBatch,
) -> Result<Vec<f32>> {
    let wanted = |name: &str| session.inputs().iter().any(|port| port.name == name);
    let named = names.iter().map(String::as_str).zip(&batch.values);
    let inputs: Vec<_> = named.filter(|(name, _)| wanted(name)).collect();
    let outputs = session.run(&inputs)?;
    let scores = outputs.first().map(|scores| scores.to_f32());
    let scores = scores.filter(|scores| scores.len() == batch.rows * classes);
    let scores = scores.ok_or_else(|| Error::Engine {
        engine: engine.info().name,
        what: format!("the class scores are not of shape [N, {classes}]"),
    })?;
    Ok(scores[..batch.samples * classes].to_vec())
}
