//! A last layer for other classes, found without training.
//!
//! The paper's setting: a pretrained network gets a last layer for the classes of a data set. The
//! new layer is the ridge regression of the one-hot classes on what the last layer reads, all in
//! f64; the strength of the ridge and one factor that makes the scores steep enough for Softmax
//! are chosen on samples that were not fitted. It is a good classifier already, and a better start for
//! training than random weights: the loss begins low, and the layers in front are not torn about.
//!
//! Where the layer goes in the graph is [`crate::head::LastLayer`]'s part.

mod classes;
mod ridge;
mod temperature;
#[cfg(test)]
mod tests;

use std::path::Path;

use serde::Serialize;

use crate::{
    engine::{Engine, Session},
    error::{Error, Result, Site},
    features::{FeatureBatch, FeatureSet},
    graph::{self, Graph, Shapes},
    head::{Ending, Head, LastLayer, LastWeights},
};

use ridge::{Solution, Sums};

pub use classes::Classes;
pub use ridge::Form;

/// Strengths of the ridge that are tried, relative to the mean variance of what the layer reads.
const RIDGES: &[f64] = &[1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0];
/// The one that is taken where no samples are left to choose on: between those that follow every
/// sample and those that follow none.
const USUAL_RIDGE: f64 = 1e-2;
/// The factor on predictions where no samples are left to choose on; the choice is most often 5 to 8.
const USUAL_FACTOR: f64 = 6.0;
/// Values per sample from which the system over features is not formed: its three copies would
/// take 1.2 GB.
const WIDEST: usize = 7168;
/// Most samples of the system over samples, for the same reason.
const MOST_HELD: usize = 7168;
/// Most samples the choice is made on; these tell two accuracies of 90 % apart to 0.7 points.
const MOST_CHECKED: usize = 2000;
/// Samples that are read at a time.
const BATCH: usize = 256;

/// What a new last layer is fitted to.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// Runs what lies between the features and the last layer.
    pub engine: &'a dyn Engine,
    /// The model.
    pub graph: &'a Graph<'a>,
    /// What is known of its values.
    pub shapes: &'a Shapes,
    /// Its head.
    pub head: &'a Head,
    /// The last layer of that head.
    pub last: &'a LastLayer<'a>,
    /// The features of the samples, with labels.
    pub features: &'a FeatureSet,
    /// Positions of samples to fit to.
    pub fit: &'a [usize],
    /// Positions of samples to choose the ridge on; the layer is then fitted to both.
    pub check: &'a [usize],
    /// Number of classes K.
    pub classes: usize,
    /// Where the samples come from, for messages.
    pub source: &'a Path,
}

/// A new last layer, and how it was found.
#[derive(Clone, Debug)]
pub struct Fitted {
    /// The layer.
    pub weights: LastWeights,
    /// How it was found.
    pub report: FitReport,
}

/// How a last layer was found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FitReport {
    /// Number of classes.
    pub classes: usize,
    /// Values of each sample that the layer reads.
    pub width: usize,
    /// The system that was solved.
    pub form: Form,
    /// The ridge, relative to the mean variance of what the layer reads.
    pub ridge: f64,
    /// Factor on the predictions of the regression.
    pub factor: f64,
    /// Samples the layer is fitted to, those of the choice included.
    pub samples: usize,
    /// What the choice of the ridge rests on; nothing where too few samples were left for one.
    pub choice: Option<Choice>,
}

/// How the layer does on samples it was not fitted to, before it was fitted to these as well.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Choice {
    /// Number of samples.
    pub samples: usize,
    /// Share of them with the right top class, in per cent.
    pub accuracy: f64,
    /// Mean cross-entropy, in nats.
    pub cross_entropy: f64,
}

/// Fits a last layer for the labels of the samples.
///
/// `progress` is told how many more samples were read, and may end the run.
///
/// # Errors
/// [`Error::Data`] when there are no labels, a label is out of range, a class or the whole choice
/// has no samples, or all samples look the same to the last layer; [`Error::Invalid`] where the
/// values it reads are not finite; [`Error::Engine`] when the engine fails.
pub fn fit(request: &Request<'_>, progress: &mut dyn FnMut(usize) -> Result<()>) -> Result<Fitted> {
    let all: Vec<usize> = [request.fit, request.check].concat();
    let labels = request.features.labels();
    let labels = labels.map(|labels| all.iter().map(|&at| labels[at]).collect::<Vec<_>>());
    classes::check(labels.as_deref(), request.classes, request.source)?;

    let mut reader = Reader::new(request)?;
    let check = spread(request.check, MOST_CHECKED);
    let dual = request.last.width > WIDEST || request.last.width > all.len();
    let form = if dual { Form::Dual } else { Form::Primal };
    let fit = match form {
        Form::Primal => request.fit.to_vec(),
        Form::Dual => spread(request.fit, MOST_HELD - check.len()),
    };
    let mut sums = Sums::new(form, request.last.width, request.classes);
    reader.read(&fit, progress, &mut |values, labels| {
        sums.add(values, labels)
    })?;
    let mut held = (Vec::new(), Vec::new());
    reader.read(&check, progress, &mut |values, labels| {
        held.0.extend_from_slice(values);
        held.1.extend_from_slice(labels);
    })?;

    let (ridge, factor, choice) = choose(request, &sums, &held.0, &held.1)?;
    let mut others = Sums::new(form, request.last.width, request.classes);
    others.add(&held.0, &held.1);
    sums.merge(&others);
    let solution = sums.solve(&[ridge]).pop().flatten();
    let solution = solution.ok_or_else(|| all_alike(request))?;
    Ok(Fitted {
        weights: scaled(&solution, factor, request.head.scores.ending),
        report: FitReport {
            classes: request.classes,
            width: request.last.width,
            form,
            ridge,
            factor,
            samples: fit.len() + check.len(),
            choice,
        },
    })
}

/// Ridge and factor with the smallest cross-entropy on samples that were not fitted.
fn choose(
    request: &Request<'_>,
    sums: &Sums,
    values: &[f32],
    labels: &[usize],
) -> Result<(f64, f64, Option<Choice>)> {
    if labels.is_empty() {
        return Ok((USUAL_RIDGE, USUAL_FACTOR, None));
    }
    let ending = request.head.scores.ending;
    let solutions = RIDGES.iter().zip(sums.solve(RIDGES));
    let tried = solutions.filter_map(|(&ridge, solution)| {
        let predictions = solution?.predict(values);
        let (factor, loss) = temperature::best(predictions.view(), labels, ending);
        let right = predictions.rows().into_iter().zip(labels);
        let right = right.filter(|(row, label)| top(row.iter().copied()) == **label);
        let choice = Choice {
            samples: labels.len(),
            accuracy: 100.0 * right.count() as f64 / labels.len() as f64,
            cross_entropy: loss,
        };
        Some((ridge, factor, Some(choice)))
    });
    let loss =
        |tried: &(f64, f64, Option<Choice>)| tried.2.map_or(f64::INFINITY, |c| c.cross_entropy);
    tried
        .min_by(|a, b| loss(a).total_cmp(&loss(b)))
        .ok_or_else(|| all_alike(request))
}

fn all_alike(request: &Request<'_>) -> Error {
    Error::Data {
        path: request.source.to_owned(),
        what: format!(
            "all samples give the last layer the same values {:?}, so that no classes can be told apart",
            request.graph.name(request.last.input)
        ),
    }
}

/// Index of the largest; the first of several.
fn top(scores: impl Iterator<Item = f64>) -> usize {
    let numbered = scores.enumerate();
    let best = numbered.reduce(|best, next| if next.1 > best.1 { next } else { best });
    best.map_or(0, |(index, _)| index)
}

/// The regression as logits.
fn scaled(solution: &Solution, factor: f64, ending: Ending) -> LastWeights {
    let undecided = match ending {
        Ending::Sigmoid => temperature::UNDECIDED,
        _ => 0.0,
    };
    // `[F, K]` to `[K, F]`.
    let weight = solution.weight.columns().into_iter().flatten();
    LastWeights {
        weight: weight.map(|value| value * factor).collect(),
        bias: solution
            .bias
            .iter()
            .map(|value| (value - undecided) * factor)
            .collect(),
    }
}

/// At most `most` entries, evenly spread.
fn spread(positions: &[usize], most: usize) -> Vec<usize> {
    let count = positions.len();
    let taken = count.min(most);
    (0..taken)
        .map(|index| positions[index * count / taken])
        .collect()
}

/// Gives what the last layer reads.
struct Reader<'a> {
    request: &'a Request<'a>,
    /// From the features to what the last layer reads; nothing where that is a feature.
    session: Option<Box<dyn Session>>,
}

impl<'a> Reader<'a> {
    fn new(request: &'a Request<'a>) -> Result<Self> {
        let Request {
            engine,
            graph,
            shapes,
            head,
            last,
            ..
        } = *request;
        let session = match head.features.contains(&last.input) {
            true => None,
            false => {
                let model = graph::extract(graph, shapes, &head.features, &[last.input])?;
                Some(engine.load(&model)?)
            }
        };
        Ok(Self { request, session })
    }

    /// Hands on the values `[n, F]` and labels of samples, batch by batch.
    fn read(
        &mut self,
        positions: &[usize],
        progress: &mut dyn FnMut(usize) -> Result<()>,
        take: &mut dyn FnMut(&[f32], &[usize]),
    ) -> Result<()> {
        for batch in self.request.features.batches(positions, BATCH) {
            let batch = batch?;
            let values = self.values(&batch)?;
            let labels = batch.labels.as_deref().unwrap_or_default();
            let real = batch.samples * self.request.last.width;
            let short = values.len() < real || labels.len() != batch.samples;
            let finite = values.iter().take(real).all(|value| value.is_finite());
            if short || !finite {
                let what = if short {
                    "has fewer values than the last layer reads"
                } else {
                    "is NaN or infinite for some sample"
                };
                return Err(Error::Invalid {
                    site: Site::value(self.request.graph.name(self.request.last.input)),
                    what: what.to_owned(),
                });
            }
            take(&values[..real], labels);
            progress(batch.samples)?;
        }
        Ok(())
    }

    fn values(&mut self, batch: &FeatureBatch) -> Result<Vec<f32>> {
        let Request {
            graph, head, last, ..
        } = *self.request;
        let names = head.features.iter().map(|&id| graph.name(id));
        match &mut self.session {
            Some(session) => {
                let inputs: Vec<_> = names.zip(&batch.values).collect();
                let outputs = session.run(&inputs)?;
                Ok(outputs
                    .first()
                    .map_or_else(Vec::new, |tensor| tensor.to_f32().into_owned()))
            }
            None => {
                let place = head.features.iter().position(|&id| id == last.input);
                let tensor = place.and_then(|place| batch.values.get(place));
                Ok(tensor.map_or_else(Vec::new, |tensor| tensor.to_f32().into_owned()))
            }
        }
    }
}
