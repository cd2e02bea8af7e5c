//! The class probabilities of the original, matched by the last layer.
//!
//! Least squares counts a difference in a logit of -20, which no probability shows, as much as one
//! between the two best classes. So the last layer goes on from there, with p what the original
//! says and q what the pruned head says:
//!
//! ```text
//! least   mean over the samples of KL(p || q)            q = softmax(W x + b), or sigmoid
//! step    W += A^-1 X^T (P - Q) / (c·N)                  A = X^T X / N + l·d·I
//!         b += mean(P - Q) / c - what W's step adds to the mean
//! ```
//!
//! It is the minimum of a quadratic that lies above the divergence and touches it, since no
//! curvature of it is above c (Böhning & Lindsay 1988; Böhning 1992): each step is a least squares
//! problem with the same matrix, there is no rate to choose, and the extrapolation of Nesterov
//! makes a few dozen of them enough. Labels are not looked at. The step is chosen on half of the
//! samples `check`; where the divergence is not smaller on the other half, the layer stays as it was.

mod descent;
mod link;
mod space;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use ndarray::Array2;
use serde::Serialize;

use self::{
    descent::{Tuned, descend},
    link::Link,
    space::Space,
};
use super::{
    Form, MOST, Stop, Work, halves,
    pairs::{Pairs, Spread},
    ridge::{MOST_TUNED, Part},
    spread,
    streams::Streams,
    write,
};
use crate::{onnx::TensorProto, prune::dense};

/// The ridge l in A, as a share of the mean variance. It is no penalty: it only keeps the steps
/// along directions in which the inputs hardly vary short.
const RIDGE: f64 = 1e-4;

/// Most numbers of the fitted rows that are held in f64: 256 MiB, and once more while they are
/// made.
const MOST_NUMBERS: usize = 1 << 25;

/// How the last layer was matched to the original's class probabilities.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Matching {
    /// Steps that were taken; 0 where none made it better on the samples that choose.
    pub steps: usize,
    /// Samples that were fitted.
    pub rows: usize,
    /// Kullback-Leibler divergence from the original's probabilities, in nats, mean over samples
    /// that were used for nothing else; as least squares left it.
    pub divergence_before: f64,
    /// The same as matched, also where that was refused.
    pub divergence_after: f64,
    /// Whether the weights changed.
    pub applied: bool,
}

/// Logits as the original and the pruned head give them, and what the last layer reads.
struct Rows {
    /// The inputs, and the logits that are made.
    pairs: Pairs,
    /// The logits that are wanted.
    wanted: Vec<f32>,
}

/// Weights of the last layer that were found.
struct Matched {
    steps: usize,
    change: Array2<f64>,
    shift: Vec<f64>,
}

pub(super) type New = Option<BTreeMap<String, TensorProto>>;

impl Work<'_, '_> {
    /// Matches the layer of the only site, which makes the logits.
    pub(super) fn matched(&mut self) -> Result<(Matching, New), Stop> {
        let (tune, report) = halves(self.request.check);
        let link = Link::of(self.request.head.scores.ending);
        let mut streams = Streams::new(
            self.request.engine,
            self.read,
            self.model,
            self.wave,
            self.original,
        )?;
        let (inputs, all) = (streams.inputs, self.request.fit);
        let form = match inputs <= all.len() && inputs <= MOST {
            true => Form::Primal,
            false => Form::Dual,
        };
        let most = match form {
            Form::Dual => MOST,
            Form::Primal | Form::Mean => MOST_NUMBERS / inputs.max(1),
        };
        let (chosen, choosing) = (spread(all, most), spread(&tune, MOST_TUNED));
        let fitted = self.rows(&mut streams, &chosen)?;
        let tuned = self.rows(&mut streams, &choosing)?;
        (self.progress)(all.len() - chosen.len() + tune.len() - choosing.len())?;
        let found = self.solved(link, form, &fitted, &tuned)?;
        drop(tuned);
        let before = self.divergence(link, &mut streams, &report)?;
        let part = Part {
            lambda: None,
            change: Some(found.change.view()),
            shift: &found.shift,
        };
        let new = write::applied(self.model, &self.wave.dense().clone(), part)?;
        let mut changed = self.model.clone();
        if let Some(new) = &new {
            dense::set_weights(&mut changed, new)?;
        }
        let mut streams = Streams::new(
            self.request.engine,
            self.read,
            &changed,
            self.wave,
            self.original,
        )?;
        let after = self.divergence(link, &mut streams, &report)?;
        let new = new.filter(|_| after < before);
        let matching = Matching {
            steps: found.steps,
            rows: fitted.pairs.rows(),
            divergence_before: before,
            divergence_after: after,
            applied: new.is_some(),
        };
        Ok((matching, new))
    }

    fn rows(&mut self, streams: &mut Streams<'_>, positions: &[usize]) -> Result<Rows, Stop> {
        let mut rows = Rows {
            pairs: Pairs::new(streams.inputs, streams.residuals()),
            wanted: Vec::new(),
        };
        self.each(streams, positions, |block| {
            for (wanted, made) in &block.made {
                rows.pairs.add(&block.x, made);
                rows.wanted.extend_from_slice(wanted);
            }
        })?;
        match rows.pairs.rows() == positions.len() {
            true => Ok(rows),
            false => Err(Stop::Refused(
                "it makes several rows of a sample".to_owned(),
            )),
        }
    }

    fn solved(
        &mut self,
        link: Link,
        form: Form,
        fitted: &Rows,
        tuned: &Rows,
    ) -> Result<Matched, Stop> {
        let means = Pairs::means(&fitted.pairs.x, fitted.pairs.inputs);
        let variances = fitted.pairs.variances(&means);
        let spread = Spread::new(&variances, &means);
        if spread.is_empty() {
            return Err(Stop::Refused(
                "its inputs are the same for all samples".to_owned(),
            ));
        }
        let pairs = (&fitted.pairs, &tuned.pairs);
        let space = Space::new(form, pairs, &means, &spread, RIDGE * spread.mean);
        let space = space.map_err(|_| {
            Stop::Refused("its inputs are too nearly dependent to be solved for".to_owned())
        })?;
        let choosing = Tuned {
            wanted: tuned.wanted(),
            made: tuned.made(),
        };
        let progress = &mut self.progress;
        let found = descend(
            &space,
            link,
            &fitted.wanted(),
            fitted.made(),
            &choosing,
            &mut || progress(0),
        )?;
        let change = space.weights(&found.coefficients, &fitted.pairs, &means, &spread);
        let mut shift = found.shift.to_vec();
        for (mean, row) in means.iter().zip(change.rows()) {
            let pairs = shift.iter_mut().zip(row);
            pairs.for_each(|(shift, weight)| *shift -= mean * weight);
        }
        Ok(Matched {
            steps: found.steps,
            change,
            shift,
        })
    }

    fn divergence(
        &mut self,
        link: Link,
        streams: &mut Streams<'_>,
        positions: &[usize],
    ) -> Result<f64, Stop> {
        let rows = self.rows(streams, positions)?;
        Ok(link.divergence(rows.wanted().view(), rows.made().view()))
    }
}

impl Rows {
    fn wanted(&self) -> Array2<f64> {
        wide(&self.wanted, self.pairs.width)
    }

    fn made(&self) -> Array2<f64> {
        wide(&self.pairs.r, self.pairs.width)
    }
}

fn wide(values: &[f32], width: usize) -> Array2<f64> {
    let rows = values.len() / width.max(1);
    Array2::from_shape_fn((rows, width), |(row, column)| {
        f64::from(values[row * width + column])
    })
}
