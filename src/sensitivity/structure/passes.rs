//! What the products need of each sample: slopes, probabilities, and the layers' values.

use rayon::prelude::*;

use super::{
    chain::{Bend, Chain},
    first::{First, is_sparse},
    last::are_finite,
};
use crate::{
    engine::Session,
    error::{Error, Result, Site},
    features::FeatureBatch,
    grad,
    head::Ending,
    onnx::{Tensor, TensorData},
    sensitivity::{
        Request,
        cells::{LayerView, SinkCells},
        forward::{Forward, arranged, not_finite},
        target::Kind,
    },
};

/// Numbers that one task looks at.
const PART: usize = 1 << 16;

/// Runs the head forward, and the slopes of its bends.
pub(super) struct Passes {
    forward: Forward,
    /// For batches that are mostly 0, where that pays.
    first: Option<First>,
    slopes: Vec<Slopes>,
    ending: Tail,
    with_values: bool,
}

/// How the scores follow from the logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tail {
    Logits,
    Softmax,
    Sigmoid,
}

/// The slopes of one bend.
enum Slopes {
    /// 1 where the value is more than 0.
    Relu,
    InEngine(Box<Derivative>),
}

/// What a bend makes of its neurons, differentiated in an engine.
struct Derivative {
    session: Box<dyn Session>,
    input: String,
    seed: (String, Tensor),
    width: usize,
}

/// One batch, as far as the engine has to do with it.
pub(super) struct Pass {
    /// Per bend, `[B, H]`.
    pub(super) slopes: Vec<Vec<f32>>,
    /// The factor of each class row, `[B, K]`: `pi_j` of Softmax, `pi_j (1 - pi_j)` of Sigmoid, 1.
    pub(super) factors: Vec<f32>,
    /// The probabilities `[B, K]` whose mean of the rows is taken off; nothing but for Softmax.
    pub(super) shares: Option<Vec<f32>>,
    /// The classes whose rows count, sample by sample.
    pub(super) rows: Rows,
    /// The layers' values, where they were asked for.
    pub(super) values: Option<SinkCells>,
    /// Whether features that are 0 were not multiplied.
    pub(super) without_zeros: bool,
}

/// Which class rows of the derivatives are looked at.
pub(super) enum Rows {
    All(Vec<usize>),
    Some(Vec<Vec<usize>>),
}

impl Rows {
    pub(super) fn all(classes: usize) -> Self {
        Self::All((0..classes).collect())
    }

    /// Those of one sample.
    pub(super) fn of(&self, sample: usize) -> &[usize] {
        match self {
            Self::All(rows) => rows,
            Self::Some(rows) => &rows[sample],
        }
    }
}

impl Pass {
    /// The rows whose factor is more than `tolerance`: `pi_j (1 - pi_j)`, which bounds the row.
    pub(super) fn rows_above(&self, tolerance: f64, classes: usize) -> Rows {
        let softmax = self.shares.is_some();
        let rows = self.factors.chunks_exact(classes).map(|factors| {
            let bounds = factors.iter().map(|&factor| match softmax {
                true => f64::from(factor) * (1.0 - f64::from(factor)),
                false => f64::from(factor),
            });
            let counting = bounds.enumerate().filter(|(_, bound)| *bound > tolerance);
            counting.map(|(class, _)| class).collect()
        });
        Rows::Some(rows.collect())
    }
}

impl Tail {
    pub(super) fn new(kind: Kind, ending: Ending) -> Self {
        match (kind, ending) {
            (Kind::Logits, _) => Self::Logits,
            (Kind::Probabilities, Ending::Sigmoid) => Self::Sigmoid,
            (Kind::Probabilities | Kind::LogProbabilities, _) => Self::Softmax,
        }
    }
}

impl Passes {
    pub(super) fn new(
        request: Request<'_>,
        chain: &Chain,
        ending: Tail,
        with_values: bool,
    ) -> Result<Self> {
        let head = request.head;
        let bends = || chain.links.iter().filter_map(|link| link.bend.as_ref());
        let mut wanted: Vec<_> = bends().map(|bend| bend.from).collect();
        wanted.push(head.scores.logits);
        if with_values {
            let sinks = head.layers.iter().flat_map(|layer| &layer.group.sinks);
            wanted.extend(sinks.map(|sink| sink.value));
        }
        let widths = chain.links.iter().map(|link| link.weights.outputs());
        let slopes = bends().zip(widths);
        Ok(Self {
            forward: Forward::new(request, &wanted)?,
            first: First::of(request, chain, &wanted)?,
            slopes: slopes
                .map(|(bend, width)| Slopes::new(request, bend, width))
                .collect::<Result<_>>()?,
            ending,
            with_values,
        })
    }

    /// Runs one batch.
    pub(super) fn run(
        &mut self,
        batch: &FeatureBatch,
        layers: &[LayerView],
        classes: usize,
    ) -> Result<Pass> {
        let first = self.first.as_mut().filter(|_| is_sparse(batch));
        let without_zeros = first.is_some();
        let mut values = match first {
            Some(first) => first.run(batch)?,
            None => self.forward.run(batch)?,
        };
        let rest = values.split_off(self.slopes.len());
        let bends = self.slopes.iter_mut().zip(&values).zip(&layers[1..]);
        let slopes = bends.map(|((slopes, value), layer)| {
            // A unit whose slope is 0 would hide what its weights hold.
            check_outputs(layer, value, batch)?;
            slopes.run(value, batch.rows)
        });
        let slopes = slopes.collect::<Result<_>>()?;
        let mut rest = rest.into_iter();
        let logits = rest.next().map(|logits| logits.to_f32().into_owned());
        let logits = logits.filter(|logits| logits.len() == batch.rows * classes);
        let mut factors = logits.ok_or_else(|| misfit("the class scores"))?;
        let shares = match self.ending {
            Tail::Logits => {
                factors.fill(1.0);
                None
            }
            Tail::Sigmoid => {
                factors
                    .iter_mut()
                    .for_each(|value| *value = slope_of_sigmoid(*value));
                None
            }
            Tail::Softmax => {
                factors.par_chunks_mut(classes).for_each(softmax);
                Some(factors.clone())
            }
        };
        let values = match self.with_values {
            true => Some(arranged(layers, rest.collect(), batch)?),
            false => None,
        };
        Ok(Pass {
            slopes,
            factors,
            shares,
            rows: Rows::all(classes),
            values,
            without_zeros,
        })
    }
}

impl Slopes {
    fn new(request: Request<'_>, bend: &Bend, width: usize) -> Result<Self> {
        match bend.relu {
            true => Ok(Self::Relu),
            false => Ok(Self::InEngine(Box::new(Derivative::new(
                request, bend, width,
            )?))),
        }
    }

    /// One slope per sample and neuron.
    fn run(&mut self, value: &Tensor, samples: usize) -> Result<Vec<f32>> {
        match self {
            Self::Relu => {
                let numbers = value.to_f32();
                let mut slopes = vec![0.0; numbers.len()];
                let parts = slopes.par_chunks_mut(PART).zip(numbers.par_chunks(PART));
                parts.for_each(|(slopes, numbers)| {
                    let pairs = slopes.iter_mut().zip(numbers);
                    pairs.for_each(|(slope, &number)| *slope = f32::from(number > 0.0));
                });
                Ok(slopes)
            }
            Self::InEngine(derivative) => derivative.run(value, samples),
        }
    }
}

impl Derivative {
    fn new(request: Request<'_>, bend: &Bend, width: usize) -> Result<Self> {
        let Request {
            graph,
            shapes,
            engine,
            ..
        } = request;
        let differentiate = grad::Request {
            of: bend.to,
            wrt: &bend.readers,
            stop: &[bend.from],
        };
        let gradient = grad::gradient_model(graph, shapes, differentiate, &[bend.from], &[])?;
        Ok(Self {
            session: engine.load(&gradient.model)?,
            input: graph.name(bend.from).to_owned(),
            seed: (gradient.seed, Tensor::f32([1, 1, width], vec![1.0; width])?),
            width,
        })
    }

    /// What arrives at all readers together.
    fn run(&mut self, value: &Tensor, samples: usize) -> Result<Vec<f32>> {
        let inputs = self.session.inputs().iter();
        let given = inputs.filter_map(|port| match port.name.as_str() {
            name if name == self.input => Some((self.input.as_str(), value)),
            name if name == self.seed.0 => Some((self.seed.0.as_str(), &self.seed.1)),
            _ => None,
        });
        let given: Vec<_> = given.collect();
        let mut outputs = self.session.run(&given)?.into_iter();
        let count = samples * self.width;
        let mut sum = match outputs.next().map(Tensor::into_data) {
            Some(TensorData::F32(first)) => spread(first, count),
            _ => return Err(misfit("the slopes")),
        };
        for other in outputs {
            let other = spread(other.to_f32().into_owned(), count);
            let pairs = sum.iter_mut().zip(other);
            pairs.for_each(|(sum, other)| *sum += other);
        }
        if sum.len() != count {
            return Err(misfit("the slopes"));
        }
        Ok(sum)
    }
}

/// Refuses outputs of a dense layer that are NaN or infinite.
fn check_outputs(layer: &LayerView, value: &Tensor, batch: &FeatureBatch) -> Result<()> {
    let numbers = value.to_f32();
    let width = numbers.len() / batch.rows.max(1);
    let real = &numbers[..batch.samples * width];
    if are_finite(real) {
        return Ok(());
    }
    let bad = real.iter().position(|number| !number.is_finite());
    let at = bad.unwrap_or_default();
    let place = format!(" for sample {} of a batch", at / width.max(1));
    Err(not_finite(layer, at % width.max(1), &place, "value"))
}

/// Slopes that are the same for every sample, once for each.
fn spread(slopes: Vec<f32>, count: usize) -> Vec<f32> {
    match slopes.len() {
        0 => slopes,
        len if len < count && count.is_multiple_of(len) => slopes.repeat(count / len),
        _ => slopes,
    }
}

fn misfit(what: &str) -> Error {
    Error::Invalid {
        site: Site::value(what),
        what: "the runtime gave another number of them than the head has".to_owned(),
    }
}

/// In f64, so that small probabilities keep their digits.
fn softmax(row: &mut [f32]) {
    let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let power = |value: f32| (f64::from(value) - f64::from(largest)).exp();
    let sum: f64 = row.iter().map(|&value| power(value)).sum();
    row.iter_mut()
        .for_each(|value| *value = (power(*value) / sum) as f32);
}

fn slope_of_sigmoid(value: f32) -> f32 {
    let share = (1.0 + (-f64::from(value)).exp()).recip();
    (share * (1.0 - share)) as f32
}
