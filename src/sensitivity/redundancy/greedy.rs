//! The greedy choice: the cheapest unit goes, the others are judged anew.

use std::cmp::Ordering;

use ndarray::{Array2, ArrayView2};
use rayon::prelude::*;

use super::{OnRanked, candidates::Candidates};
use crate::{
    algebra::{Cholesky, NotPositiveDefinite},
    error::{Error, Result},
};

/// A block is at most this part of the units that are left; one by one from 120 units on down.
const BLOCK_SHARE: usize = 60;

/// Of how many times the block's units the block is chosen.
const CHOICE: usize = 2;

/// Most neurons to choose a block from: their share of H is 8 MiB.
const MOST_CANDIDATES: usize = 1024;

/// The neurons that are left, and the inverse H of their covariance.
pub(super) trait Left: Sync {
    /// H of two neurons of the same unit.
    fn precision(&self, a: usize, b: usize) -> f64;

    /// H of these neurons, `[n, n]`, both triangles.
    fn precisions(&self, neurons: &[usize]) -> Array2<f64>;

    /// What this neuron carries, M numbers; see [`super::Redundancy::new`].
    fn carried(&self, neuron: usize) -> &[f64];

    /// Takes these neurons, sorted, away.
    ///
    /// # Errors
    /// [`NotPositiveDefinite`] where H has lost its digits.
    fn drop(&mut self, neurons: &[usize]) -> Result<(), NotPositiveDefinite>;
}

/// What it costs to take a unit away: its neurons, what the others cannot reproduce of them, and
/// what the k-th of them carries.
pub(in super::super) type Cost<'c> = dyn Fn(&[usize], &Residual, Carried<'_>) -> f64 + Sync + 'c;

/// The numbers that the k-th neuron of a unit carries.
pub(in super::super) type Carried<'c> = &'c dyn Fn(usize) -> &'c [f64];

/// The covariance of what the neurons left cannot reproduce of a unit: C_g = (H_gg)^-1.
pub(in super::super) enum Residual {
    /// Of one neuron: the variance r^2.
    One(f64),
    /// Of several, `[n, n]`.
    Several(Array2<f64>),
}

impl Residual {
    /// From H_gg. Where rounding leaves none, it costs nothing to go.
    pub(super) fn of(precision: ArrayView2<'_, f64>) -> Self {
        if precision.len() == 1 {
            return Self::One(precision[[0, 0]].recip().max(0.0));
        }
        Self::Several(match Cholesky::factor(&precision.to_owned()) {
            Ok(cholesky) => cholesky.inverse(),
            Err(_) => Array2::zeros(precision.raw_dim()),
        })
    }

    /// Between the k-th and the l-th neuron of the unit.
    pub(in super::super) fn covariance(&self, k: usize, l: usize) -> f64 {
        match self {
            Self::One(variance) => *variance,
            Self::Several(matrix) => matrix[[k, l]],
        }
    }

    /// Standard deviation r of the k-th neuron of the unit.
    pub(in super::super) fn deviation(&self, k: usize) -> f64 {
        self.covariance(k, k).sqrt()
    }
}

/// Ranks `units` by taking away the cheapest, to the end: `(unit, its cost then)` in that order.
///
/// Empty units, whose neurons never vary, go first, at no cost. Of equals, the one with the higher
/// index goes. Large layers lose a block at a time; within a block the choice is one by one
/// ([`Candidates`]).
pub(super) fn run<L: Left>(
    mut left: L,
    units: &[Vec<usize>],
    cost: &Cost<'_>,
    on_ranked: &mut OnRanked<'_>,
    failed: impl Fn(NotPositiveDefinite) -> Error,
) -> Result<Vec<(usize, f64)>> {
    let (dead, mut live): (Vec<usize>, Vec<usize>) =
        (0..units.len()).partition(|&unit| units[unit].is_empty());
    let mut dropped: Vec<(usize, f64)> = dead.into_iter().rev().map(|unit| (unit, 0.0)).collect();
    on_ranked(dropped.len())?;
    while !live.is_empty() {
        let costs = live.par_iter().map(|&unit| {
            let neurons = &units[unit];
            let carried = |k: usize| left.carried(neurons[k]);
            (unit, cost(neurons, &residual(&left, neurons), &carried))
        });
        let mut costs: Vec<(usize, f64)> = costs.collect();
        costs.sort_unstable_by(cheapest_first);
        let choice = choice(&costs, units);
        let block = (live.len() / BLOCK_SHARE).min(choice / CHOICE).max(1);
        let chosen = if block == 1 {
            vec![costs[0]]
        } else {
            let next = costs.get(choice).map_or(f64::INFINITY, |(_, cost)| *cost);
            let candidates: Vec<usize> = costs[..choice].iter().map(|(unit, _)| *unit).collect();
            Candidates::new(&left, &candidates, units)
                .choose(block, next, cost)
                .map_err(&failed)?
        };
        let mut gone: Vec<usize> = chosen.iter().map(|(unit, _)| *unit).collect();
        gone.sort_unstable();
        live.retain(|unit| gone.binary_search(unit).is_err());
        if !live.is_empty() {
            let neurons = gone.iter().flat_map(|&unit| &units[unit]);
            let mut neurons: Vec<usize> = neurons.copied().collect();
            neurons.sort_unstable();
            left.drop(&neurons).map_err(&failed)?;
        }
        on_ranked(gone.len())?;
        dropped.extend(chosen);
    }
    Ok(dropped)
}

/// NaN last, so that it is kept and seen.
pub(super) fn cheapest_first(a: &(usize, f64), b: &(usize, f64)) -> Ordering {
    a.1.total_cmp(&b.1).then(b.0.cmp(&a.0))
}

/// How many of the cheapest units a block is chosen from.
fn choice(costs: &[(usize, f64)], units: &[Vec<usize>]) -> usize {
    let wanted = costs.len() / BLOCK_SHARE * CHOICE;
    let mut neurons = 0;
    let fits = costs.iter().take(wanted).take_while(|(unit, _)| {
        neurons += units[*unit].len();
        neurons <= MOST_CANDIDATES
    });
    fits.count()
}

fn residual(left: &impl Left, neurons: &[usize]) -> Residual {
    if let [neuron] = neurons {
        return Residual::One(left.precision(*neuron, *neuron).recip().max(0.0));
    }
    let count = neurons.len();
    let block = Array2::from_shape_fn((count, count), |(a, b)| {
        left.precision(neurons[a], neurons[b])
    });
    Residual::of(block.view())
}
