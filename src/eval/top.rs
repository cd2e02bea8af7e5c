//! Top classes: accuracy against labels, agreement between two models.

use std::path::Path;

use serde::Serialize;

use crate::{
    engine::Engine,
    error::{Error, Result},
    features::Samples,
    onnx::{ModelProto, Tensor},
};

/// Top-1 accuracy on the same samples, in percent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Accuracy {
    /// Number of labelled samples.
    pub samples: usize,
    /// Of the original model.
    pub before: f64,
    /// Of the pruned model.
    pub after: f64,
}

/// How often two models give the same top class, in percent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Agreement {
    /// Number of samples.
    pub samples: usize,
    /// Share with the same top class.
    pub share: f64,
}

/// A model whose only output are the class scores, `[N, K]` with K = `classes`, perhaps with further
/// axes of size 1.
pub struct TopClasses<'a> {
    /// Where it runs.
    pub engine: &'a dyn Engine,
    /// The model.
    pub model: &'a ModelProto,
    /// Name of its input.
    pub input: &'a str,
    /// Number of classes K.
    pub classes: usize,
}

impl TopClasses<'_> {
    /// The class with the largest score of each sample; ties give the lower class.
    ///
    /// # Errors
    /// [`Error::Engine`] when the engine fails or the output is not of that shape, and whatever
    /// `batches` gives.
    pub fn of(&self, batches: impl IntoIterator<Item = Result<Samples>>) -> Result<Vec<usize>> {
        let mut session = self.engine.load(self.model)?;
        let mut top = Vec::new();
        for batch in batches {
            let batch = batch?;
            let outputs = session.run(&[(self.input, &batch.input)])?;
            let scores = outputs.first();
            let scores = scores.filter(|scores| fits(scores, &batch, self.classes));
            let scores = scores.ok_or_else(|| Error::Engine {
                engine: self.engine.info().name,
                what: format!("the class scores are not of shape [N, {}]", self.classes),
            })?;
            let values = scores.to_f32();
            let rows = values.chunks(self.classes).take(batch.count);
            top.extend(rows.map(largest));
        }
        Ok(top)
    }
}

fn fits(scores: &Tensor, batch: &Samples, classes: usize) -> bool {
    let rows = batch.input.shape().first().copied().unwrap_or(0);
    scores.shape().iter().product::<usize>() == rows * classes
}

pub(super) fn largest(scores: &[f32]) -> usize {
    let mut best = 0;
    for (class, score) in scores.iter().enumerate() {
        if *score > scores[best] {
            best = class;
        }
    }
    best
}

/// Accuracy of two lists of top classes against labels.
///
/// # Errors
/// [`Error::Data`] for a label that is no class of the model.
pub fn accuracy(
    before: &[usize],
    after: &[usize],
    labels: &[usize],
    classes: usize,
    data: &Path,
) -> Result<Accuracy> {
    if let Some(sample) = labels.iter().position(|&label| label >= classes) {
        return Err(Error::Data {
            path: data.to_owned(),
            what: format!(
                "label {} (sample {sample} of those used) is no class of the model, which has {classes}",
                labels[sample]
            ),
        });
    }
    Ok(Accuracy {
        samples: labels.len(),
        before: share(before, labels),
        after: share(after, labels),
    })
}

/// How often two lists of top classes are the same.
pub fn agreement(before: &[usize], after: &[usize]) -> Agreement {
    Agreement {
        samples: before.len(),
        share: share(before, after),
    }
}

/// Share of equal entries in percent.
fn share(a: &[usize], b: &[usize]) -> f64 {
    let equal = a.iter().zip(b).filter(|(a, b)| a == b).count();
    100.0 * equal as f64 / a.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accuracy_counts_equal_classes_and_refuses_unknown_labels() {
        let data = Path::new("d.npz");
        let found = accuracy(&[0, 1, 2, 2], &[0, 0, 0, 2], &[0, 1, 1, 2], 3, data).unwrap();
        assert_eq!((found.before, found.after, found.samples), (75.0, 50.0, 4));
        let error = accuracy(&[0], &[0], &[3], 3, data).unwrap_err().to_string();
        assert!(error.contains("d.npz: label 3 (sample 0"), "{error}");
        assert_eq!(agreement(&[1, 2], &[1, 3]).share, 50.0);
    }

    #[test]
    fn ties_give_the_lower_class() {
        assert_eq!(largest(&[1.0, 3.0, 3.0]), 1);
    }
}
