//! Which of the cheapest units go together.
//!
//! Taken at once, all copies of a feature would go, since each is cheap while another is there. So
//! the block is chosen one by one, with H followed among the candidates only, as in a Cholesky
//! factor with pivots: `H now = H - V·V^T`, one column of V for each neuron that goes. Where costs
//! only rise when others go (a residual does), this is what one by one over all units gives as
//! long as the cheapest candidate costs no more than the units that are none.

use std::ops::Range;

use ndarray::{Array2, aview1};
use rayon::prelude::*;

use super::greedy::{Cost, Left, Residual, cheapest_first};
use crate::algebra::{Cholesky, NotPositiveDefinite};

/// At least this part of a block goes even if others have become cheaper, so that the number of
/// blocks stays bounded.
const AT_LEAST: usize = 4;

/// Observations of one task.
const ROWS: usize = 128;

/// Units to choose from, and H among them.
pub(super) struct Candidates<'u> {
    units: Vec<Candidate<'u>>,
    /// H before anything goes, `[n, n]`.
    precision: Array2<f64>,
    rows: Vec<Row>,
    /// Columns of V that are there.
    gone: usize,
}

struct Candidate<'u> {
    unit: usize,
    neurons: &'u [usize],
    rows: Range<usize>,
    /// H_gg now.
    block: Array2<f64>,
    gone: bool,
}

/// One neuron.
struct Row {
    /// Its row of V.
    factors: Vec<f64>,
    /// What it carries now.
    carried: Vec<f64>,
}

impl<'u> Candidates<'u> {
    pub(super) fn new(left: &impl Left, candidates: &[usize], units: &'u [Vec<usize>]) -> Self {
        let neurons = candidates.iter().flat_map(|&unit| &units[unit]);
        let neurons: Vec<usize> = neurons.copied().collect();
        let precision = left.precisions(&neurons);
        let rows = neurons.iter().map(|&neuron| Row {
            factors: Vec::new(),
            carried: left.carried(neuron).to_vec(),
        });
        let mut end = 0;
        let units = candidates.iter().map(|&unit| {
            let neurons = units[unit].as_slice();
            let (first, count) = (end, neurons.len());
            end += count;
            Candidate {
                unit,
                neurons,
                rows: first..end,
                block: Array2::from_shape_fn((count, count), |(a, b)| {
                    precision[[first + a, first + b]]
                }),
                gone: false,
            }
        });
        Self {
            units: units.collect(),
            rows: rows.collect(),
            precision,
            gone: 0,
        }
    }

    /// Up to `most` units with their cost, in the order they go; fewer when all that are left cost
    /// more than `next`, the cheapest unit that is no candidate.
    pub(super) fn choose(
        mut self,
        most: usize,
        next: f64,
        cost: &Cost<'_>,
    ) -> Result<Vec<(usize, f64)>, NotPositiveDefinite> {
        let at_least = (most / AT_LEAST).max(1);
        let mut chosen = Vec::with_capacity(most);
        while chosen.len() < most {
            let live = self.units.iter().enumerate().filter(|(_, unit)| !unit.gone);
            let costs = live.map(|(at, unit)| {
                let carried = |k: usize| self.rows[unit.rows.start + k].carried.as_slice();
                let cost = cost(unit.neurons, &Residual::of(unit.block.view()), &carried);
                (at, (unit.unit, cost))
            });
            let Some((at, cheapest)) = costs.min_by(|a, b| cheapest_first(&a.1, &b.1)) else {
                break;
            };
            if cheapest.1 > next && chosen.len() >= at_least {
                break;
            }
            chosen.push(cheapest);
            if chosen.len() < most {
                self.drop(at)?;
            }
        }
        Ok(chosen)
    }

    /// Takes a unit out of H: its columns now, over the factor L of its own block.
    fn drop(&mut self, at: usize) -> Result<(), NotPositiveDefinite> {
        let unit = &mut self.units[at];
        unit.gone = true;
        let own = unit.rows.clone();
        let inverse = Cholesky::factor(&unit.block)?.forward(&Array2::eye(own.len()));
        let before: Vec<Vec<f64>> = self.rows[own.clone()]
            .iter()
            .map(|row| row.factors.clone())
            .collect();
        let lost = self.lost(own.clone(), &inverse);
        let precision = &self.precision;
        let rows = self.rows.par_iter_mut().with_min_len(ROWS).enumerate();
        rows.for_each(|(at, row)| {
            let columns = own.clone().zip(&before).map(|(column, before)| {
                precision[[column, at]] - aview1(&row.factors).dot(&aview1(before))
            });
            let columns: Vec<f64> = columns.collect();
            for (weights, lost) in inverse.rows().into_iter().zip(&lost) {
                let factor = weights.dot(&aview1(&columns));
                row.factors.push(factor);
                let pairs = row.carried.iter_mut().zip(lost);
                pairs.for_each(|(carried, lost)| *carried -= factor * lost);
            }
        });
        self.gone += own.len();
        self.follow(own.len());
        Ok(())
    }

    /// `L^-1` times what the unit carries.
    fn lost(&self, own: Range<usize>, inverse: &Array2<f64>) -> Vec<Vec<f64>> {
        let of = |weights: ndarray::ArrayView1<'_, f64>| {
            let mut sum = vec![0.0; self.rows[own.start].carried.len()];
            for (weight, row) in weights.iter().zip(&self.rows[own.clone()]) {
                let pairs = sum.iter_mut().zip(&row.carried);
                pairs.for_each(|(sum, carried)| *sum += weight * carried);
            }
            sum
        };
        inverse.rows().into_iter().map(of).collect()
    }

    /// H_gg of the units left, after `fresh` columns of V came.
    fn follow(&mut self, fresh: usize) {
        let (first, rows) = (self.gone - fresh, &self.rows);
        for unit in self.units.iter_mut().filter(|unit| !unit.gone) {
            let fresh = |k: usize| aview1(&rows[unit.rows.start + k].factors[first..]);
            for ((a, b), value) in unit.block.indexed_iter_mut() {
                *value -= fresh(a).dot(&fresh(b));
            }
        }
    }
}
