//! Other classes first: the model gets a last layer for those of the data set, and that model is
//! what everything else in a run prunes, repairs, trains and compares with.

use std::str::FromStr;

use serde::Serialize;

use super::{
    metadata,
    score::View,
    setup::{self, Setup},
    watch::Watch,
};
use crate::{
    error::{Error, Result},
    features::FeatureSet,
    graph::{Graph, Shapes},
    head::{Head, LastLayer, LastWeights},
    onnx::ModelProto,
    transfer::{self, Classes, FitReport},
};

/// Most classes that metadata is believed about; ImageNet's largest set has 21,843.
const MOST_CLASSES: usize = 1_000_000;

/// How a model comes to other classes.
#[derive(Clone, Copy, Debug)]
pub struct TransferOptions {
    /// The new classes.
    pub classes: Classes,
    /// Whose scores choose what stays.
    pub score_with: ScoreWith,
}

/// The class scores that choose what stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ScoreWith {
    /// Those the model came with: prune, then transfer.
    Source,
    /// Those of the new last layer.
    #[default]
    Target,
}

impl FromStr for ScoreWith {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "source" => Ok(Self::Source),
            "target" => Ok(Self::Target),
            _ => Err(Error::Argument {
                name: "--score-with",
                what: format!("{text:?} is neither source nor target"),
            }),
        }
    }
}

/// The new last layer of a run.
#[derive(Clone, Debug, Serialize)]
pub struct TransferReport {
    /// Number of classes that the model came with.
    pub source_classes: usize,
    /// Names of the new classes, where the data set has any.
    pub class_names: Option<Vec<String>>,
    /// Whose scores choose what stays.
    pub score_with: ScoreWith,
    /// Initializers that hold the layer.
    #[serde(skip)]
    pub weights: [String; 2],
    /// The layer.
    #[serde(flatten)]
    pub layer: FitReport,
}

/// A model with its new last layer.
pub(super) struct Transferred {
    pub(super) model: ModelProto,
    /// What is known of the values of the model it was made from, with the new number of classes.
    pub(super) shapes: Shapes,
    pub(super) report: TransferReport,
}

/// The model as it came, with its own classes.
pub(super) struct Source<'m> {
    graph: Graph<'m>,
    shapes: Shapes,
    head: Head,
}

impl<'m> Source<'m> {
    /// The model of a run, before it goes on with another.
    pub(super) fn of(setup: &Setup<'m>, head: &Head) -> Result<Self> {
        Ok(Self {
            graph: Graph::new(setup.graph.model())?,
            shapes: setup.shapes.clone(),
            head: head.clone(),
        })
    }

    /// Its head, with the units of the same layers of `other`.
    pub(super) fn head(&self, other: &Head) -> Head {
        let mut head = self.head.clone();
        for (layer, other) in head.layers.iter_mut().zip(&other.layers) {
            layer.units.clone_from(&other.units);
        }
        head
    }

    /// What it is scored by, with a head from [`Source::head`].
    pub(super) fn view<'v>(&'v self, head: &'v Head) -> View<'v> {
        View {
            graph: &self.graph,
            shapes: &self.shapes,
            head,
        }
    }
}

/// A model with room for a last layer that is in another file.
pub(super) struct Repeated {
    pub(super) model: ModelProto,
    pub(super) shapes: Shapes,
}

/// Refuses, before any long run, what cannot get another last layer.
///
/// # Errors
/// [`Error::Unsupported`] for the model, [`Error::Data`] for the labels.
pub(super) fn check(setup: &Setup<'_>, head: &Head, options: &TransferOptions) -> Result<()> {
    classes(setup, options)?;
    LastLayer::of(&setup.graph, &setup.shapes, &head.scores).map(drop)
}

fn classes(setup: &Setup<'_>, options: &TransferOptions) -> Result<usize> {
    let dataset = &setup.dataset;
    let wanted = options.classes;
    wanted.number(dataset.labels(), dataset.class_names(), dataset.path())
}

/// What a last layer is fitted to: features with labels, and which of them are for what.
#[derive(Clone, Copy)]
pub(super) struct Learning<'l> {
    pub(super) features: &'l FeatureSet,
    /// Positions to fit to.
    pub(super) fit: &'l [usize],
    /// Positions to choose the ridge on.
    pub(super) check: &'l [usize],
}

/// The model with a last layer for the classes of the data set.
///
/// # Errors
/// Those of [`check`] and of [`transfer::fit`].
pub(super) fn transferred(
    setup: &Setup<'_>,
    head: &Head,
    learning: Learning<'_>,
    options: &TransferOptions,
    watch: &dyn Watch,
) -> Result<Transferred> {
    let classes = classes(setup, options)?;
    let last = LastLayer::of(&setup.graph, &setup.shapes, &head.scores)?;
    let Learning {
        features,
        fit,
        check,
    } = learning;
    let samples = fit.len() + check.len();
    watch.stage("fitting the new last layer", Some(samples as u64));
    let request = transfer::Request {
        engine: setup.engine(),
        graph: &setup.graph,
        shapes: &setup.shapes,
        head,
        last: &last,
        features,
        fit,
        check,
        classes,
        source: setup.dataset.path(),
    };
    let fitted = transfer::fit(&request, &mut |samples| {
        if watch.cancelled() {
            return Err(setup::cancelled());
        }
        watch.step(samples as u64);
        Ok(())
    })?;
    let (model, weights) = last.replaced(&fitted.weights)?;
    Ok(Transferred {
        model,
        shapes: last.with_classes(&setup.shapes, classes),
        report: TransferReport {
            source_classes: last.classes,
            class_names: setup.dataset.class_names().map(<[String]>::to_vec),
            score_with: options.score_with,
            weights,
            layer: fitted.report,
        },
    })
}

/// The model with a last layer of zeros, for as many classes as a smaller model's metadata says:
/// the smaller model has the weights.
///
/// # Errors
/// [`Error::Argument`] when `text` does not say so; those of [`LastLayer::of`].
pub(super) fn repeated(setup: &Setup<'_>, head: &Head, text: &str) -> Result<Repeated> {
    let foreign = |why: &str| Error::Argument {
        name: "B",
        what: format!("its metadata {} {why}", metadata::TRANSFER),
    };
    let found: serde_json::Value =
        serde_json::from_str(text).map_err(|_| foreign("is not JSON"))?;
    let number = |key: &str| found.get(key).and_then(serde_json::Value::as_u64);
    let classes = number("classes").and_then(|count| usize::try_from(count).ok());
    // More classes than a model of any use has would only fill the memory.
    let classes = classes.filter(|count| (2..=MOST_CLASSES).contains(count));
    let classes = classes.ok_or_else(|| foreign("gives no number of classes"))?;
    let last = LastLayer::of(&setup.graph, &setup.shapes, &head.scores)?;
    let zeros = LastWeights {
        weight: vec![0.0; classes * last.width],
        bias: vec![0.0; classes],
    };
    Ok(Repeated {
        model: last.replaced(&zeros)?.0,
        shapes: last.with_classes(&setup.shapes, classes),
    })
}
