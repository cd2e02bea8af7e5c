//! What the original and the cuts of all cells decide before any repair, found together.

use std::sync::{Mutex, PoisonError};

use super::side_by_side;
use crate::{
    error::Result,
    pipeline::{Counts, Grid, Reference, Samples, Watch},
    prune::Plan,
};

/// The samples that figures are of, with the original's decisions; and what each plan's cut head is
/// worth, where that could be found together.
pub(super) type Shown = ((Samples, Reference), Vec<Option<Counts>>);

/// Measures the original and the cut heads, each worker a share of the samples.
pub(super) fn shown(
    grid: &Grid<'_>,
    plans: &[Plan],
    workers: usize,
    watch: &dyn Watch,
) -> Result<Shown> {
    let samples = grid.shown();
    let cuts = match plans.is_empty() {
        true => None,
        false => grid.cuts(plans, &samples)?,
    };
    let Some(cuts) = cuts else {
        let reference = grid.reference(&samples, None, watch)?;
        return Ok(((samples, reference), vec![None; plans.len()]));
    };
    let positions = samples.positions();
    watch.stage("measuring the cuts", Some(positions.len() as u64));
    let shares = positions.chunks(positions.len().div_ceil(workers).max(1));
    let shares: Vec<(usize, &[usize])> = shares.enumerate().collect();
    let found = Mutex::new(vec![Vec::new(); shares.len()]);
    side_by_side::run(&shares, workers, |&(share, positions)| {
        let tops = grid.tops(&cuts, &samples, positions, watch)?;
        found.lock().unwrap_or_else(PoisonError::into_inner)[share] = tops;
        Ok(())
    })?;
    let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut tops = vec![Vec::with_capacity(positions.len()); 1 + plans.len()];
    for share in found {
        let heads = tops.iter_mut().zip(share);
        heads.for_each(|(all, more)| all.extend(more));
    }
    let mut tops = tops.into_iter();
    let reference = grid.reference(&samples, tops.next(), watch)?;
    let counts = tops.map(|top| Some(reference.counts(&top))).collect();
    Ok(((samples, reference), counts))
}
