//! What a smaller model is worth after each stage, on samples that none of them used.

use serde::{Deserialize, Serialize};

use super::{
    draft::{Draft, Stage, Workshop},
    material::{Material, Samples},
    search::{Metric, drop_of},
    setup::{self, Setup},
    watch::Watch,
};
use crate::{
    error::{Error, Result},
    eval,
    graph::{self, Graph, Shapes},
    head::Head,
    onnx::ModelProto,
    repair::{self, Certificate},
};

/// A share of samples in percent, after each stage.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Figures {
    /// Number of samples.
    pub samples: usize,
    /// Of the original.
    pub original: f64,
    /// After neurons were cut.
    pub cut: f64,
    /// After the repair, where there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repaired: Option<f64>,
    /// After training, where there was any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tuned: Option<f64>,
    /// Of the output: the last of these.
    pub output: f64,
}

/// Accuracy and agreement after each stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Worth {
    /// Top-1 accuracy in percent, where there are labels.
    pub accuracy: Option<Figures>,
    /// Samples in percent whose top class is that of the original.
    pub agreement: Option<Figures>,
}

/// What a model decides rightly, or as the original does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counts {
    /// Samples with the same top class as the original.
    pub(crate) same: usize,
    /// Samples of each class that are given that class, where there are labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) right: Option<Vec<usize>>,
}

/// What top classes are compared with.
pub(crate) struct Reference {
    classes: usize,
    original: Vec<usize>,
    labels: Option<Vec<usize>>,
}

impl Reference {
    /// Runs the original head.
    ///
    /// # Errors
    /// [`Error::Data`] for a label that is no class of the model.
    pub(super) fn new(
        workshop: &Workshop<'_>,
        samples: &Samples,
        watch: &dyn Watch,
    ) -> Result<Self> {
        Self::of(workshop, samples, || {
            let scores = workshop.scores_of(&workshop.original, samples, watch)?;
            Ok(scores.top())
        })
    }

    /// With the top classes of the original head that `top` finds.
    ///
    /// # Errors
    /// As [`Reference::new`]; those of `top`.
    pub(super) fn of(
        workshop: &Workshop<'_>,
        samples: &Samples,
        top: impl FnOnce() -> Result<Vec<usize>>,
    ) -> Result<Self> {
        let labels = samples.labels();
        let classes = workshop.head.scores.classes;
        let strange = labels.iter().flatten().position(|&label| label >= classes);
        if let (Some(sample), Some(labels)) = (strange, &labels) {
            return Err(Error::Data {
                path: workshop.setup.reported().path().to_owned(),
                what: format!(
                    "label {} (sample {sample} of those used) is no class of the model, which has {classes}",
                    labels[sample]
                ),
            });
        }
        Ok(Self {
            classes,
            original: top()?,
            labels,
        })
    }

    /// Points that `top` loses against the original, with the standard error.
    pub(super) fn drop_of(&self, top: &[usize], metric: Metric) -> (f64, f64) {
        let right = |top: &[usize], wanted: &[usize]| -> Vec<bool> {
            top.iter()
                .zip(wanted)
                .map(|(one, other)| one == other)
                .collect()
        };
        let wanted = match (metric, &self.labels) {
            (Metric::Accuracy, Some(labels)) => labels,
            _ => &self.original,
        };
        drop_of(&right(&self.original, wanted), &right(top, wanted))
    }

    /// What these top classes are worth.
    pub(crate) fn counts(&self, top: &[usize]) -> Counts {
        let same = top.iter().zip(&self.original);
        Counts {
            same: same.filter(|(one, other)| one == other).count(),
            right: self.labels.as_ref().map(|labels| {
                let right = top.iter().zip(labels).filter(|(top, label)| top == label);
                tally(right.map(|(_, label)| *label), self.classes)
            }),
        }
    }

    /// What the original itself is worth.
    pub(crate) fn of_original(&self) -> Counts {
        self.counts(&self.original)
    }

    /// Samples of each class, where there are labels.
    pub(crate) fn samples_by_class(&self) -> Option<Vec<usize>> {
        let labels = self.labels.as_ref()?;
        Some(tally(labels.iter().copied(), self.classes))
    }

    /// Number of samples.
    pub(crate) fn len(&self) -> usize {
        self.original.len()
    }

    fn shares(&self, top: &[usize]) -> (Option<f64>, f64) {
        let labels = self.labels.as_ref();
        (
            labels.map(|labels| share(top, labels)),
            share(top, &self.original),
        )
    }
}

/// Accuracy and agreement of a draft after each of its stages.
pub(super) fn worth(
    workshop: &Workshop<'_>,
    draft: &Draft,
    material: &Material,
    watch: &dyn Watch,
) -> Result<Worth> {
    let samples = material.shown();
    let reference = Reference::new(workshop, &samples, watch)?;
    let mut stages = Vec::new();
    for (stage, head) in draft.heads() {
        let top = top_of(workshop, head, &samples, watch)?;
        stages.push((stage, reference.shares(&top)));
    }
    let (accuracy, agreement) = reference.shares(&reference.original);
    let count = reference.original.len();
    let figures = |original: f64, of: &dyn Fn((Option<f64>, f64)) -> Option<f64>| {
        let at = |wanted| {
            let mut found = stages.iter().filter(|(stage, _)| *stage == wanted);
            found.next().and_then(|(_, shares)| of(*shares))
        };
        let cut = at(Stage::Cut)?;
        let (repaired, tuned) = (at(Stage::Repaired), at(Stage::Tuned));
        Some(Figures {
            samples: count,
            original,
            cut,
            repaired,
            tuned,
            output: tuned.or(repaired).unwrap_or(cut),
        })
    };
    Ok(Worth {
        accuracy: accuracy.and_then(|original| figures(original, &|(accuracy, _)| accuracy)),
        agreement: figures(agreement, &|(_, agreement)| Some(agreement)),
    })
}

/// For how many calibration samples the top class provably cannot change.
pub(super) fn certificate(
    workshop: &Workshop<'_>,
    draft: &Draft,
    material: &Material,
    watch: &dyn Watch,
) -> Result<Certificate> {
    let samples = material.calibration();
    let comparison = repair::certificate::Comparison {
        engine: workshop.engine,
        original: &workshop.original,
        pruned: draft.head(),
        features: &samples.features,
        positions: &samples.positions,
    };
    repair::certificate(comparison, &mut |_| setup::still_wanted(watch))
}

/// Points that a whole model, run from its file over the samples of the final figures, loses.
pub(super) fn drop_of_file(
    workshop: &Workshop<'_>,
    model: &ModelProto,
    material: &Material,
    metric: Metric,
    watch: &dyn Watch,
) -> Result<f64> {
    let reference = Reference::new(workshop, &material.shown(), watch)?;
    let setup = workshop.setup;
    watch.stage("measuring the file", Some(reference.original.len() as u64));
    let top = top_of_whole(setup, workshop.head, model, watch)?;
    Ok(reference.drop_of(&top, metric).0)
}

/// The top class of each held-out sample in a whole model, trunk and all.
pub(super) fn top_of_whole(
    setup: &Setup<'_>,
    head: &Head,
    model: &ModelProto,
    watch: &dyn Watch,
) -> Result<Vec<usize>> {
    let graph = Graph::new(model)?;
    let name = setup.graph.name(head.scores.value);
    let scores: Vec<_> = graph.value(name).into_iter().collect();
    let scoring = graph::with_outputs(&graph, &Shapes::declared(&graph), &scores);
    let scorer = eval::TopClasses {
        engine: setup.engine(),
        model: &scoring,
        input: &setup.input.name,
        classes: head.scores.classes,
    };
    scorer.of(setup.held_out()?.map(|batch| {
        let batch = batch?;
        setup::still_wanted(watch)?;
        watch.step(batch.count as u64);
        Ok(batch)
    }))
}

/// The top class of each sample.
pub(super) fn top_of(
    workshop: &Workshop<'_>,
    head: &ModelProto,
    samples: &Samples,
    watch: &dyn Watch,
) -> Result<Vec<usize>> {
    Ok(workshop.scores_of(head, samples, watch)?.top())
}

/// How often each class occurs.
fn tally(found: impl Iterator<Item = usize>, classes: usize) -> Vec<usize> {
    let mut counts = vec![0; classes];
    found.for_each(|class| counts[class] += 1);
    counts
}

/// Percent of samples at which both lists agree.
fn share(one: &[usize], other: &[usize]) -> f64 {
    let same = one.iter().zip(other).filter(|(one, other)| one == other);
    100.0 * same.count() as f64 / one.len().max(1) as f64
}
