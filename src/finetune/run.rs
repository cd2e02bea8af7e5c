//! The loop: steps, epochs, the best weights.

use std::sync::Arc;

use super::{
    Checkpoint, Epoch, Listener, Loss, Progress, Request, Stopped, TrainOptions, Trained,
    batches::{self, Aim, top},
    checkpoint::{self, Place, Saved},
    forward::{self, Forward, Measured},
    source::{Source, Way},
    weights,
};
use crate::{
    data,
    engine::{Snapshot, Steps},
    error::{Error, Result},
    grad::training::{Training, TrainingGraph, training_graph},
    graph::Graph,
    head::Ending,
    onnx::Tensor,
};

pub(super) fn train(
    request: Request<'_>,
    options: &TrainOptions,
    on: &mut Listener<'_>,
) -> Result<Trained> {
    let samples = request.train.len() + request.validation.len();
    let way = Way::of(request.engine, request.features, samples);
    train_by(way, request, options, on)
}

/// Trains on features that reach the engine this way.
pub(super) fn train_by(
    way: Way,
    request: Request<'_>,
    options: &TrainOptions,
    on: &mut Listener<'_>,
) -> Result<Trained> {
    options.check()?;
    let aim = aim(&request, options);
    aim.check(request.features.len())?;
    if request.train.is_empty() {
        return Err(Error::Argument {
            name: "--data",
            what: "no sample is left to train on".to_owned(),
        });
    }
    let mut run = Run::new(way, request, options, aim)?;
    let stopped = run.all(on)?;
    if let (Some(checkpoint), Stopped::Finished | Stopped::Patience) =
        (&options.checkpoint, &stopped)
    {
        checkpoint.remove()?;
    }
    Ok(Trained {
        weights: weights::written(request.head_model, run.graph.weights(&run.best.fetch()?)?)?,
        notes: notes(&request, options, run.batch),
        epochs: run.place.epochs,
        best: run.place.best,
        stopped,
        loss: aim.loss,
        steps: run.place.step,
        batch: run.batch,
    })
}

fn aim<'r>(request: &Request<'r>, options: &TrainOptions) -> Aim<'r> {
    Aim {
        target: request.target,
        classes: request.classes,
        loss: match request.ending {
            Ending::Sigmoid => Loss::BinaryCrossEntropy,
            Ending::Logits | Ending::Softmax | Ending::LogSoftmax => Loss::CrossEntropy,
        },
        smoothing: options.label_smoothing,
        temperature: options.temperature,
    }
}

fn notes(request: &Request<'_>, options: &TrainOptions, batch: usize) -> Vec<String> {
    let mut notes = Vec::new();
    if batch != options.batch {
        notes.push(format!(
            "the head takes batches of {batch} samples only, so it is trained with these, not {}",
            options.batch
        ));
    }
    if request.validation.is_empty() {
        notes.push("without validation samples the last epoch is taken for the best".to_owned());
    }
    if let Some(labels) = request.target.labels() {
        let mut seen = vec![false; request.classes];
        request
            .train
            .iter()
            .filter_map(|&at| labels.get(at))
            .for_each(|&label| seen[label] = true);
        let absent: Vec<String> = (0..seen.len())
            .filter(|&class| !seen[class])
            .map(|class| class.to_string())
            .collect();
        if !absent.is_empty() {
            notes.push(format!(
                "no training sample is of class {}",
                absent.join(", ")
            ));
        }
    }
    notes
}

struct Run<'r> {
    request: Request<'r>,
    options: &'r TrainOptions,
    aim: Aim<'r>,
    source: Arc<Source>,
    batch: usize,
    graph: TrainingGraph,
    steps: Box<dyn Steps>,
    /// Nothing where there are no validation samples.
    forward: Option<Forward>,
    /// Steps in all.
    total: u64,
    place: Place,
    /// The weights of the best epoch, as the steps held them.
    best: Snapshot,
}

/// What the samples of an epoch came to so far.
#[derive(Default)]
struct Sums {
    loss: f64,
    right: usize,
    count: usize,
}

impl Sums {
    fn loss(&self) -> f64 {
        self.loss / self.count.max(1) as f64
    }

    fn accuracy(&self) -> f64 {
        100.0 * self.right as f64 / self.count.max(1) as f64
    }
}

impl<'r> Run<'r> {
    fn new(
        way: Way,
        request: Request<'r>,
        options: &'r TrainOptions,
        aim: Aim<'r>,
    ) -> Result<Self> {
        let engine = request.engine;
        let mut model = forward::logits_model(&request)?;
        let (features, batch) = forward::batched(&request, &mut model, options.batch)?;
        let graph = Graph::new(&model)?;
        let shapes = forward::shapes(engine, &graph, &features, request.train)?;
        let training = Training {
            batch,
            loss: aim.loss,
            temperature: aim.divisor() as f32,
            optimizer: options.optimizer,
            weight_decay: options.weight_decay,
            piece: Training::piece_for(engine.info()),
        };
        let mut graph = training_graph(&graph, &shapes, training)?;
        let (source, rows) = match way {
            Way::Given => (Source::given(features), Snapshot::default()),
            Way::Held => {
                let positions = [request.train, request.validation].concat();
                Source::held(features, &positions, batch, &mut graph)?
            }
        };
        let initial = std::mem::take(&mut graph.initial).and(rows);
        let steps = engine.load_steps(&graph.model, &graph.feedback, initial)?;
        let held = steps.snapshot();
        let forward = match request.validation {
            [] => None,
            _ => Some(Forward::new(engine, &graph, &held)?),
        };
        let identity = |_| checkpoint::identity(&request, options, training);
        Ok(Self {
            total: request.train.len().div_ceil(batch) as u64 * options.epochs as u64,
            place: Place {
                run: options
                    .checkpoint
                    .as_ref()
                    .map(identity)
                    .unwrap_or_default(),
                step: 0,
                epochs: Vec::new(),
                best: 0,
            },
            best: graph.held_weights(&held),
            request,
            options,
            aim,
            source: Arc::new(source),
            batch,
            graph,
            steps,
            forward,
        })
    }

    fn all(&mut self, on: &mut Listener<'_>) -> Result<Stopped> {
        if !self.resumed()? {
            let measured = match self.measured()? {
                Ok(measured) => measured,
                Err(what) => return Ok(self.not_finite(what)),
            };
            self.place.epochs.push(epoch(0, None, measured));
            self.tell(&Sums::default(), 0.0, true, on)?;
        }
        while self.place.epochs.len() <= self.options.epochs {
            if self.has_patience_ended() {
                return Ok(Stopped::Patience);
            }
            let (sums, rate) = match self.epoch(on)? {
                Ok(sums) => sums,
                Err(what) => return Ok(self.not_finite(what)),
            };
            let weights = self.graph.held_weights(&self.steps.snapshot());
            if let Some(forward) = &mut self.forward {
                forward.hold(weights.clone())?;
            }
            let measured = match self.measured()? {
                Ok(measured) => measured,
                Err(what) => return Ok(self.not_finite(what)),
            };
            let number = self.place.epochs.len();
            self.place.epochs.push(epoch(number, Some(&sums), measured));
            if self.is_better(measured) {
                self.place.best = number;
                self.best = weights;
            }
            if let Some(checkpoint) = &self.options.checkpoint {
                self.save(checkpoint)?;
            }
            self.tell(&sums, rate, true, on)?;
        }
        Ok(Stopped::Finished)
    }

    /// One pass over the training samples; what was not finite, if anything.
    fn epoch(&mut self, on: &mut Listener<'_>) -> Result<Result<(Sums, f64), String>> {
        let number = self.place.epochs.len() as u64;
        let seed = self.options.seed.wrapping_mul(EPOCHS).wrapping_add(number);
        let order = data::shuffled(self.request.train.len(), seed);
        let order: Vec<usize> = order.into_iter().map(|at| self.request.train[at]).collect();
        let (source, aim, batch) = (self.source.clone(), self.aim, self.batch);
        let (mut sums, mut rate, mut fault) = (Sums::default(), 0.0, None);
        batches::ahead(aim, &source, &order, batch, |positions, samples| {
            rate = self.options.rate(self.place.step + 1, self.total);
            let scalars = self.graph.scalars(self.place.step + 1, rate)?;
            let mut inputs: Vec<(&str, &Tensor)> = source.names().zip(&samples.values).collect();
            inputs.push((&self.graph.target, &samples.target));
            inputs.push((&self.graph.weight, &samples.weight));
            inputs.extend(scalars.iter().map(|(name, value)| (*name, value)));
            let outputs = self.steps.step(&inputs)?;
            self.place.step += 1;
            let loss = outputs
                .first()
                .and_then(|loss| loss.to_f32().first().copied());
            let loss = f64::from(loss.unwrap_or(f32::NAN)) - samples.floor;
            if !loss.is_finite() {
                fault = Some("the loss".to_owned());
                return Ok(false);
            }
            let logits = outputs.get(1).map(Tensor::to_f32).unwrap_or_default();
            let pairs = logits.chunks(aim.classes).zip(&samples.tops);
            sums.right += pairs
                .filter(|(row, expected)| top(row) == **expected)
                .count();
            sums.loss += loss * positions.len() as f64;
            sums.count += positions.len();
            self.tell(&sums, rate, false, on)?;
            Ok(true)
        })?;
        Ok(fault.map_or(Ok((sums, rate)), Err))
    }

    /// Loss and accuracy on the validation samples; what was not finite, if anything.
    fn measured(&mut self) -> Result<Result<Option<Measured>, String>> {
        let Some(forward) = &mut self.forward else {
            return Ok(Ok(None));
        };
        let found = forward.measure(self.aim, &self.source, self.request.validation, self.batch)?;
        Ok(found
            .map(Some)
            .ok_or_else(|| "the loss on the validation samples".to_owned()))
    }

    fn not_finite(&self, what: String) -> Stopped {
        Stopped::NotFinite {
            epoch: self.place.epochs.len(),
            step: self.place.step,
            what,
        }
    }

    /// Whether the last epoch is the best so far.
    fn is_better(&self, measured: Option<Measured>) -> bool {
        let best = self.place.epochs.get(self.place.best);
        match (measured, best.and_then(|best| best.validation_loss)) {
            (Some(measured), Some(best)) => measured.loss < best,
            _ => true,
        }
    }

    fn has_patience_ended(&self) -> bool {
        let since = self.place.epochs.len() - 1 - self.place.best;
        self.forward.is_some()
            && self
                .options
                .patience
                .is_some_and(|patience| since >= patience.max(1))
    }

    fn tell(&self, sums: &Sums, rate: f64, finished: bool, on: &mut Listener<'_>) -> Result<()> {
        let done = self.place.epochs.len();
        on(&Progress {
            epoch: if finished { done - 1 } else { done },
            epochs: self.options.epochs,
            step: self.place.step,
            steps: self.total,
            loss: sums.loss(),
            accuracy: sums.accuracy(),
            learning_rate: rate,
            finished: self.place.epochs.last().filter(|_| finished),
        })
    }

    fn save(&self, checkpoint: &Checkpoint) -> Result<()> {
        checkpoint.save(&Saved {
            place: self.place.clone(),
            state: self.graph.held_state(&self.steps.snapshot()).fetch()?,
            best: self.best.fetch()?,
        })
    }

    /// Goes on where an earlier run was, if it left a checkpoint.
    fn resumed(&mut self) -> Result<bool> {
        let Some(checkpoint) = &self.options.checkpoint else {
            return Ok(false);
        };
        let Some(saved) = checkpoint.load(&self.place.run)? else {
            return Ok(false);
        };
        self.steps.hold(saved.state.into())?;
        self.place = saved.place;
        self.best = saved.best.into();
        Ok(true)
    }
}

/// More epochs than anybody runs: seeds of neighbouring runs share no order.
const EPOCHS: u64 = 1 << 20;

fn epoch(epoch: usize, sums: Option<&Sums>, measured: Option<Measured>) -> Epoch {
    Epoch {
        epoch,
        loss: sums.map(Sums::loss),
        accuracy: sums.map(Sums::accuracy),
        validation_loss: measured.map(|measured| measured.loss),
        validation_accuracy: measured.map(|measured| measured.accuracy),
    }
}
