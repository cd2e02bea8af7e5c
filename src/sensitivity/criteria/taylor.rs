//! First-order Taylor expansion of the loss, squared: `E[(x_i dL/dx_i)^2]` (Molchanov et al. 2019,
//! arXiv:1906.10771, eq. 8).
//!
//! L is the cross-entropy of the softmax of the logits, with the data's labels, else with the class
//! that the model itself decides for. What removing a neuron changes is added up over its positions
//! and sinks before it is squared.

use super::{Entry, Measure, Outcome, SAMPLES_ONLY, for_each_norm};
use crate::{
    error::{Error, Result},
    features::FeatureBatch,
    onnx::Tensor,
    sensitivity::{
        Norm, Request,
        cells::Cells,
        forward::Forward,
        gradient::HeadGradient,
        redundancy::OnRanked,
        sums::{Layers, Sum, Taken},
        target::Kind,
        terms::Terms,
    },
};

pub(super) const ENTRY: Entry = Entry {
    name: "taylor",
    about: "squared first-order change of the loss",
    uses: SAMPLES_ONLY,
    build,
    conclude,
};

struct Taylor {
    gradient: HeadGradient,
    logits: Forward,
    /// Samples whose class was the model's own decision.
    decided: u64,
    layers: Vec<Vec<f64>>,
}

fn build(request: Request<'_>, _: &[(Norm, Norm)]) -> Result<Box<dyn Measure>> {
    let widths = request.head.layers.iter().map(|layer| layer.width());
    Ok(Box::new(Taylor {
        gradient: HeadGradient::new(request, Kind::LogProbabilities, true)?,
        logits: Forward::new(request, &[request.head.scores.logits])?,
        decided: 0,
        layers: widths.map(|width| vec![0.0; width]).collect(),
    }))
}

impl Measure for Taylor {
    fn add(&mut self, batch: &FeatureBatch) -> Result<()> {
        let seed = self.seed(batch)?;
        let (cotangents, values) = self.gradient.run(batch, &seed, true)?;
        let layers = self
            .layers
            .iter_mut()
            .zip(cotangents)
            .zip(values.unwrap_or_default());
        for ((sums, cotangents), values) in layers {
            for sample in 0..batch.samples {
                let mut changes = vec![0.0; sums.len()];
                for (cotangent, value) in cotangents.iter().zip(&values) {
                    add_changes(&mut changes, cotangent, value, sample);
                }
                let pairs = sums.iter_mut().zip(changes);
                pairs.for_each(|(sum, change)| *sum += change * change);
            }
        }
        Ok(())
    }

    fn take(&mut self) -> Result<Layers> {
        let decided = std::mem::take(&mut self.decided);
        let layers = self.layers.iter_mut().map(|sums| {
            let empty = vec![0.0; sums.len()];
            vec![
                Sum::Totals(std::mem::replace(sums, empty)),
                Sum::Counts(vec![decided]),
            ]
        });
        Ok(layers.collect())
    }
}

fn conclude(terms: &Terms, layers: Layers, _: &mut OnRanked<'_>) -> Result<Outcome> {
    let samples = terms.samples.max(1) as f64;
    let mut decided = 0;
    let layers = layers.into_iter().map(|layer| {
        let mut layer = Taken::from(layer);
        decided = layer.counts().first().copied().unwrap_or(0);
        let sums = layer.totals().into_iter();
        sums.map(|sum| sum / samples).collect()
    });
    let mut outcome = for_each_norm(terms, layers.collect());
    if decided > 0 {
        outcome.notes.push(format!(
            "{decided} of {} samples have no label; the model's own decision was used",
            terms.samples
        ));
    }
    Ok(outcome)
}

impl Taylor {
    /// `dL/d(log p)`: -1 at each sample's class, `[1, B, K]`.
    fn seed(&mut self, batch: &FeatureBatch) -> Result<Tensor> {
        let classes = self.gradient.classes;
        let labels = match &batch.labels {
            Some(labels) => labels.clone(),
            None => {
                self.decided += batch.samples as u64;
                self.decisions(batch)?
            }
        };
        let mut seed = vec![0.0; batch.rows * classes];
        for (sample, &label) in labels.iter().enumerate().take(batch.samples) {
            if label >= classes {
                return Err(Error::Argument {
                    name: "--data",
                    what: format!("label {label} is not below the model's {classes} classes"),
                });
            }
            seed[sample * classes + label] = -1.0;
        }
        Tensor::f32([1, batch.rows, classes], seed)
    }

    /// The class with the largest logit, the first of several.
    fn decisions(&mut self, batch: &FeatureBatch) -> Result<Vec<usize>> {
        let mut outputs = self.logits.run(batch)?;
        let logits = outputs.pop();
        let logits = logits
            .as_ref()
            .map(|tensor| tensor.to_f32())
            .unwrap_or_default();
        let rows = logits.chunks(self.gradient.classes);
        let largest = rows.map(|row| {
            let larger = |best: usize, at: usize| if row[at] > row[best] { at } else { best };
            (0..row.len()).fold(0, larger)
        });
        Ok(largest.collect())
    }
}

/// Adds `x · dL/dx` over the positions of one sample.
fn add_changes(changes: &mut [f64], cotangents: &Cells, values: &Cells, sample: usize) {
    let neurons = changes.len();
    let cells = cotangents.of(0, sample).iter().zip(values.of(0, sample));
    for (at, (cotangent, value)) in cells.enumerate() {
        changes[at % neurons] += f64::from(*cotangent) * f64::from(*value);
    }
}
