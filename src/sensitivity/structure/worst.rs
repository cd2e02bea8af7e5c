//! How large derivatives can become, from the weights alone.
//!
//! Whatever a sample is like, slopes of activations are at most 1 (or another number that is the same
//! for all neurons), so that with absolute values throughout
//!
//! ```text
//! || (dz_1 / dx_i, ..., dz_K / dx_i) ||_q  <=  u_i
//! u = q-norm over classes of |W_last|;  u <- u |W|, layer by layer        z the logits
//! ```
//!
//! No sample is needed, and nothing runs. `docs/architecture.md` has what this choice is worth beside
//! one by samples of noise.

use rayon::prelude::*;

use super::{chain::Chain, last::tasks, matrix::Matrix};
use crate::{
    error::Result,
    graph::Graph,
    head::Head,
    sensitivity::{Norm, cells::views, forward::not_finite, power_sums::PowerSums},
};

/// Neurons that one task looks at.
const COLUMNS: usize = 1024;

/// The bound of every layer, one set of sums per pair of norms; why there is none, otherwise.
///
/// # Errors
/// Those of reading the weights; [`crate::Error::Invalid`] naming the first neuron whose bound is not
/// finite.
pub(in super::super) fn worst_case(
    graph: &Graph<'_>,
    head: &Head,
    norms: &[(Norm, Norm)],
) -> Result<Result<Vec<Vec<PowerSums>>, String>> {
    let chain = match found(graph, head) {
        Ok(chain) => chain,
        Err(why) => return Ok(Err(why)),
    };
    let mut layers: Vec<Vec<PowerSums>> = chain.links.iter().map(|_| Vec::new()).collect();
    for &(over_samples, over_classes) in norms {
        let mut bound: Option<Vec<f64>> = None;
        for (at, link) in chain.links.iter().enumerate().rev() {
            let next = match &bound {
                None => over_rows(&link.weights, over_classes)?,
                Some(bound) => carried(&link.weights, bound),
            };
            if let Some(neuron) = next.iter().position(|bound| !bound.is_finite()) {
                return Err(not_finite(
                    &views(graph, head)[at],
                    neuron,
                    "",
                    "derivative",
                ));
            }
            layers[at].push(PowerSums::of_scores((over_samples, over_classes), &next));
            bound = Some(next);
        }
    }
    Ok(Ok(layers))
}

/// Whether [`super::super::Slopes::Worst`] needs no samples: whether the head is a chain of dense
/// layers with activations that treat all neurons alike.
pub fn has_worst_case(graph: &Graph<'_>, head: &Head) -> bool {
    found(graph, head).is_ok()
}

fn found(graph: &Graph<'_>, head: &Head) -> Result<Chain, String> {
    let chain = Chain::find(graph, None, head)?;
    let mut bends = chain.links.iter().filter_map(|link| link.bend.as_ref());
    match bends.all(|bend| bend.uniform) {
        true => Ok(chain),
        false => Err("an activation may have other slopes for other neurons".to_owned()),
    }
}

/// The norm of each column.
fn over_rows(weights: &Matrix, norm: Norm) -> Result<Vec<f64>> {
    let (rows, width) = (weights.outputs(), weights.inputs());
    let mut sums = [PowerSums::of_neurons((norm, norm), rows, width)?];
    let tasks = tasks(width, COLUMNS, &mut sums, None);
    tasks.into_par_iter().for_each(|mut task| {
        let mut row = vec![0.0; task.columns.len()];
        for at in 0..rows {
            weights.read(at, task.columns.clone(), &mut row);
            // What is larger than NaN is NaN no more, but nothing is larger than infinity.
            let bad = row.iter_mut().filter(|weight| weight.is_nan());
            bad.for_each(|weight| *weight = f32::INFINITY);
            task.parts
                .iter_mut()
                .for_each(|part| part.add(0, &[at], &row, row.len()));
        }
    });
    sums[0].count(1);
    Ok(sums[0].scores(None))
}

/// `u |W|`
fn carried(weights: &Matrix, bound: &[f64]) -> Vec<f64> {
    let width = weights.inputs();
    let blocks: Vec<usize> = (0..width).step_by(COLUMNS).collect();
    let sums = blocks.par_iter().map(|&start| {
        let columns = start..(start + COLUMNS).min(width);
        let mut row = vec![0.0_f32; columns.len()];
        let mut sums = vec![0.0; columns.len()];
        for (at, &factor) in bound.iter().enumerate() {
            weights.read(at, columns.clone(), &mut row);
            let terms = sums.iter_mut().zip(&row);
            terms.for_each(|(sum, weight)| *sum += factor * f64::from(weight.abs()));
        }
        sums
    });
    sums.collect::<Vec<Vec<f64>>>().concat()
}
