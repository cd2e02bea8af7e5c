//! Batches of features with their targets, read ahead in a thread.

use std::sync::mpsc::sync_channel;

use super::{Target, source::Source};
use crate::{
    error::{Error, Result},
    finetune::Loss,
    onnx::Tensor,
};

/// Batches that may wait for the engine. Reading 64 rows of 25088 numbers takes less time than
/// training on them, so one would nearly do.
const AHEAD: usize = 2;

/// The samples of a step.
pub(super) struct Batch {
    /// The inputs that the source gives.
    pub(super) values: Vec<Tensor>,
    /// `[B, K]`: what the probabilities should be, times the sample's weight.
    pub(super) target: Tensor,
    /// `[B, 1]`: the samples' weights, which sum to the loss's factor; 0 where there is none.
    pub(super) weight: Tensor,
    /// The top class of each real sample's target.
    pub(super) tops: Vec<usize>,
    /// What the loss is where the scores are the target, which is no fault of the head.
    pub(super) floor: f64,
}

impl<'r> Target<'r> {
    /// The labels that are learned.
    pub(super) fn labels(&self) -> Option<&'r [usize]> {
        match *self {
            Self::Labels(labels) | Self::Mixed { labels, .. } => Some(labels),
            Self::Scores(_) => None,
        }
    }

    /// The teacher's logits.
    pub(super) fn scores(&self) -> Option<&'r [f32]> {
        match *self {
            Self::Scores(scores) | Self::Mixed { scores, .. } => Some(scores),
            Self::Labels(_) => None,
        }
    }
}

/// How targets are made.
#[derive(Clone, Copy)]
pub(super) struct Aim<'r> {
    pub(super) target: Target<'r>,
    pub(super) classes: usize,
    pub(super) loss: Loss,
    pub(super) smoothing: f64,
    pub(super) temperature: f64,
}

impl Aim<'_> {
    /// Refuses labels that are no class, and logits that are not one per class and sample.
    pub(super) fn check(&self, samples: usize) -> Result<()> {
        let invalid = |what: String| {
            Err(Error::Argument {
                name: "--data",
                what,
            })
        };
        let classes = self.classes;
        if let Some(labels) = self.target.labels() {
            if labels.len() != samples {
                return invalid(format!("{} labels for {samples} samples", labels.len()));
            }
            if let Some(label) = labels.iter().find(|&&label| label >= classes) {
                return invalid(format!(
                    "label {label} is not below the model's {classes} classes"
                ));
            }
        }
        match self.target.scores() {
            Some(scores) if Some(scores.len()) != samples.checked_mul(classes) => invalid(format!(
                "{} scores of a teacher for {samples} samples of {classes} classes",
                scores.len()
            )),
            Some(scores) if scores.iter().any(|score| !score.is_finite()) => {
                invalid("the teacher's scores are not all finite".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// Factor of the loss: T² keeps the gradient's size when the temperature changes.
    fn factor(&self) -> f64 {
        match self.target {
            Target::Labels(_) | Target::Mixed { .. } => 1.0,
            Target::Scores(_) => self.temperature * self.temperature,
        }
    }

    /// What the logits are divided by before the loss.
    pub(super) fn divisor(&self) -> f64 {
        match self.target {
            Target::Labels(_) | Target::Mixed { .. } => 1.0,
            Target::Scores(_) => self.temperature,
        }
    }

    /// What the probabilities of a sample should be.
    pub(super) fn shares(&self, position: usize) -> Vec<f64> {
        match self.target {
            Target::Labels(labels) => self.of_label(labels[position]),
            Target::Scores(scores) => self.of_teacher(scores, position, self.temperature),
            Target::Mixed {
                labels,
                scores,
                share,
            } => {
                let own = self.of_label(labels[position]).into_iter();
                let teacher = self.of_teacher(scores, position, 1.0);
                let pairs = own.zip(teacher);
                pairs
                    .map(|(own, teacher)| share * own + (1.0 - share) * teacher)
                    .collect()
            }
        }
    }

    fn of_label(&self, label: usize) -> Vec<f64> {
        let even = match self.loss {
            Loss::CrossEntropy => self.smoothing / self.classes as f64,
            Loss::BinaryCrossEntropy => self.smoothing / 2.0,
        };
        let mut shares = vec![even; self.classes];
        shares[label] += 1.0 - self.smoothing;
        shares
    }

    fn of_teacher(&self, scores: &[f32], position: usize, temperature: f64) -> Vec<f64> {
        let row = &scores[position * self.classes..(position + 1) * self.classes];
        let row = row.iter().map(|&z| f64::from(z) / temperature);
        let row: Vec<f64> = row.collect();
        match self.loss {
            Loss::CrossEntropy => softmax(&row),
            Loss::BinaryCrossEntropy => row.iter().map(|z| 1.0 / (1.0 + (-z).exp())).collect(),
        }
    }

    /// The same aim as it is judged: by the labels alone where there are any, without smoothing.
    pub(super) fn judged(self) -> Self {
        Self {
            target: self.target.labels().map_or(self.target, Target::Labels),
            smoothing: 0.0,
            ..self
        }
    }

    /// The loss of one sample's logits against these shares, with the factor, above its floor.
    pub(super) fn loss(&self, logits: &[f32], shares: &[f64]) -> f64 {
        let divisor = self.divisor();
        let z: Vec<f64> = logits.iter().map(|&z| f64::from(z) / divisor).collect();
        let plain = match self.loss {
            Loss::CrossEntropy => {
                let largest = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let sum: f64 = z.iter().map(|z| (z - largest).exp()).sum();
                let log = largest + sum.ln();
                shares
                    .iter()
                    .zip(&z)
                    .map(|(share, z)| share * (log - z))
                    .sum::<f64>()
            }
            Loss::BinaryCrossEntropy => {
                let softplus = |z: f64| z.max(0.0) + (-z.abs()).exp().ln_1p();
                shares
                    .iter()
                    .zip(&z)
                    .map(|(share, &z)| softplus(z) - share * z)
                    .sum()
            }
        };
        (plain - self.floor(shares)) * self.factor()
    }

    /// The least loss that scores can have: the entropy of a teacher's shares. Labels are compared
    /// as everybody does, without it.
    fn floor(&self, shares: &[f64]) -> f64 {
        let part = |p: f64| if p > 0.0 { -p * p.ln() } else { 0.0 };
        match (self.target, self.loss) {
            (Target::Labels(_) | Target::Mixed { .. }, _) => 0.0,
            (_, Loss::CrossEntropy) => shares.iter().map(|&p| part(p)).sum(),
            (_, Loss::BinaryCrossEntropy) => shares.iter().map(|&p| part(p) + part(1.0 - p)).sum(),
        }
    }

    /// Reads a batch, filled up to `size` with copies of its last sample that weigh nothing.
    pub(super) fn read(&self, source: &Source, positions: &[usize], size: usize) -> Result<Batch> {
        let mut rows = positions.to_vec();
        rows.resize(
            size.max(rows.len()),
            rows.last().copied().unwrap_or_default(),
        );
        let each = self.factor() / positions.len() as f64;
        let mut target = Vec::with_capacity(rows.len() * self.classes);
        let mut weight = vec![each as f32; positions.len()];
        let (mut tops, mut floor) = (Vec::with_capacity(positions.len()), 0.0);
        for &position in positions {
            let shares = self.shares(position);
            target.extend(shares.iter().map(|share| (share * each) as f32));
            tops.push(top(&shares));
            floor += self.floor(&shares) * each;
        }
        target.resize(rows.len() * self.classes, 0.0);
        weight.resize(rows.len(), 0.0);
        Ok(Batch {
            values: source.values(&rows)?,
            target: Tensor::f32([rows.len(), self.classes], target)?,
            weight: Tensor::f32([rows.len(), 1], weight)?,
            tops,
            floor,
        })
    }
}

/// Gives the batches of `order` to `take`, one after the other, while the next ones are read.
pub(super) fn ahead(
    aim: Aim<'_>,
    source: &Source,
    order: &[usize],
    size: usize,
    mut take: impl FnMut(&[usize], Batch) -> Result<bool>,
) -> Result<()> {
    std::thread::scope(|scope| {
        let (sender, batches) = sync_channel(AHEAD);
        scope.spawn(move || {
            for positions in order.chunks(size) {
                // Nobody listens any more where the run was ended.
                if sender.send(aim.read(source, positions, size)).is_err() {
                    return;
                }
            }
        });
        for (positions, batch) in order.chunks(size).zip(batches) {
            if !take(positions, batch?)? {
                break;
            }
        }
        Ok(())
    })
}

fn softmax(z: &[f64]) -> Vec<f64> {
    let largest = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> = z.iter().map(|z| (z - largest).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}

/// The place of the largest number, the first of several.
pub(super) fn top<T: PartialOrd>(values: &[T]) -> usize {
    let larger = |best: usize, at: usize| if values[at] > values[best] { at } else { best };
    (0..values.len()).fold(0, larger)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mixed_target_lies_between_label_and_teacher_and_is_judged_by_the_label() {
        // Sample 1: class 2 of 3, of which the teacher says 1/2, 1/4, 1/4.
        let (labels, scores) = ([0, 2], [0.0, 0.0, 0.0, 2.0_f32.ln(), 0.0, 0.0]);
        let aim = |share, smoothing| Aim {
            target: Target::Mixed {
                labels: &labels,
                scores: &scores,
                share,
            },
            classes: 3,
            loss: Loss::CrossEntropy,
            smoothing,
            temperature: 4.0,
        };
        let cases = [
            (1.0, 0.0, [0.0, 0.0, 1.0]),
            (0.0, 0.0, [0.5, 0.25, 0.25]),
            (0.5, 0.0, [0.25, 0.125, 0.625]),
            (1.0, 0.3, [0.1, 0.1, 0.8]),
        ];
        for (share, smoothing, expected) in cases {
            let aim = aim(share, smoothing);
            let found = aim.shares(1);
            let pairs = found.iter().zip(expected);
            // The logits are f32.
            let close = pairs
                .clone()
                .all(|(found, expected)| (found - expected).abs() < 1e-7);
            assert!(close, "{share}: {found:?}");
            assert_eq!(aim.judged().shares(1), [0.0, 0.0, 1.0]);
            assert_eq!((aim.factor(), aim.divisor()), (1.0, 1.0));
        }
        assert!(aim(0.5, 0.0).check(2).is_ok());
        assert!(aim(0.5, 0.0).check(3).is_err());
    }
}
