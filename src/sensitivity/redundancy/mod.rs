//! What the other neurons can stand in for, and which neuron goes first because of it.
//!
//! x_i is neuron i's value, G the covariance of a layer's values over samples and positions with a
//! ridge on its diagonal, restricted to the neurons that are left, and H its inverse. What the
//! others cannot reproduce of x_i by a linear combination has the variance
//!
//! ```text
//! r_i^2 = 1 / H_ii                       of one neuron
//! C_g   = (H_gg)^-1                      covariance of a unit g that goes as a whole
//! H    <- H_kk - H_kr (H_rr)^-1 H_rk     when the neurons r have gone (Schur complement)
//! ```
//!
//! The choice is greedy: the cheapest unit goes, H follows, and so on to the end, so that one run
//! ranks every neuron. For layers of a few thousand neurons H itself is held (`primal`), made of the
//! covariance or of the rows; for wider ones, and for few samples, its diagonal follows from a matrix
//! over the samples (`dual`).

mod candidates;
mod dual;
mod greedy;
mod observations;
mod primal;
#[cfg(test)]
mod tests;

use std::sync::{Mutex, PoisonError};

use ndarray::Array2;
use rayon::prelude::*;

use crate::{
    algebra::NotPositiveDefinite,
    error::{Error, Result, Site},
};

use dual::Dual;
use observations::Found;
use primal::Primal;

pub(super) use greedy::{Carried, Cost, Residual};
pub(super) use observations::{Form, Observations, Saved, WIDEST};

/// Ridge, relative to the mean variance of the neurons that vary at all. From 1e-3 to 1e-1 the
/// accuracy after cut and repair moved by 0.2 points at most on three Fashion-MNIST nets.
pub(super) const RIDGE: f64 = 1e-2;

/// Bytes of matrices that rankings may follow side by side: three of 3,136 neurons.
const HELD: usize = 256 << 20;

/// Hears that so many more neurons are ranked; an error ends the work.
pub(super) type OnRanked<'r> = dyn FnMut(usize) -> Result<()> + Send + 'r;

/// What a layer's neurons are worth, one by one or as a ranking.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Worth {
    /// One score per neuron.
    pub(super) values: Vec<f64>,
    /// Every neuron, the most worth keeping first; empty where the values say it all.
    pub(super) ranking: Vec<usize>,
}

impl From<Vec<f64>> for Worth {
    fn from(values: Vec<f64>) -> Self {
        Self {
            values,
            ranking: Vec::new(),
        }
    }
}

/// The neurons of each unit of a layer; each neuron by itself where there are no units.
pub(super) fn members(units: Option<&[usize]>, width: usize) -> Vec<Vec<usize>> {
    let Some(units) = units else {
        return (0..width).map(|neuron| vec![neuron]).collect();
    };
    let count = units.iter().max().map_or(0, |last| last + 1);
    let mut members = vec![Vec::new(); count];
    for (neuron, &unit) in units.iter().enumerate().take(width) {
        members[unit].push(neuron);
    }
    members.retain(|unit: &Vec<usize>| !unit.is_empty());
    members
}

/// A layer whose values were collected, ready to rank its neurons.
#[derive(Clone)]
pub(super) struct Redundancy {
    name: String,
    units: Vec<Vec<usize>>,
    /// The neurons of each unit that vary.
    alive: Vec<Vec<usize>>,
    state: State,
    /// What to tell people about the rows that were used.
    pub(super) note: Option<String>,
}

#[derive(Clone)]
enum State {
    Primal(Primal),
    Dual(Dual),
}

impl Redundancy {
    /// Takes the collected values of layer `name`; nothing where no neuron varies.
    ///
    /// `carried` `[F, M]` are numbers of each neuron, as its weights, that the neurons left take
    /// over from those that go; they need [`Observations::whole`].
    ///
    /// # Errors
    /// [`Error::Invalid`] where the covariance has no inverse, as with values near f32's largest.
    pub(super) fn new(
        name: &str,
        rows: Observations,
        units: Vec<Vec<usize>>,
        carried: Option<Array2<f64>>,
    ) -> Result<Option<Self>> {
        let found = rows.finish();
        let is_held = found.suits_primal();
        Self::of(name, found, units, carried, is_held)
    }

    /// As [`Redundancy::new`]; whether H itself `is_held` where rows are given.
    fn of(
        name: &str,
        found: Found,
        units: Vec<Vec<usize>>,
        carried: Option<Array2<f64>>,
        is_held: bool,
    ) -> Result<Option<Self>> {
        let varies = found.varies();
        if !varies.contains(&true) {
            return Ok(None);
        }
        let note = found.note(name);
        let alive = units.iter().map(|unit| {
            let alive = unit.iter().copied().filter(|&neuron| varies[neuron]);
            alive.collect()
        });
        let alive: Vec<Vec<usize>> = alive.collect();
        let state = match found {
            Found::Covariance(covariance) => {
                Primal::new(covariance, &varies, RIDGE, carried).map(State::Primal)
            }
            Found::Subset(values) if is_held => {
                Primal::of_rows(&values, &varies, RIDGE).map(State::Primal)
            }
            Found::Subset(values) => Dual::new(&values, &alive, RIDGE).map(State::Dual),
        };
        Ok(Some(Self {
            name: name.to_owned(),
            units,
            alive,
            state: state.map_err(|failed| no_inverse(name, failed))?,
            note,
        }))
    }

    /// Ranks every neuron by what each of `costs` asks for it, one result per cost; side by side, as
    /// far as memory goes.
    ///
    /// # Errors
    /// As [`Redundancy::rank`].
    pub(super) fn rank_by(
        self,
        costs: &[&Cost<'_>],
        on_ranked: &mut OnRanked<'_>,
    ) -> Result<Vec<Worth>> {
        if let [cost] = costs {
            return Ok(vec![self.rank(cost, on_ranked)?]);
        }
        let on_ranked = Mutex::new(on_ranked);
        let ranked = |cost: &&Cost<'_>| {
            self.clone().rank(cost, &mut |count| {
                let mut on_ranked = on_ranked.lock().unwrap_or_else(PoisonError::into_inner);
                on_ranked(count)
            })
        };
        let fit = HELD / self.state.bytes().max(1);
        let mut found = Vec::with_capacity(costs.len());
        for costs in costs.chunks(fit.max(1)) {
            let worths: Result<Vec<Worth>> = costs.par_iter().map(ranked).collect();
            found.extend(worths?);
        }
        Ok(found)
    }

    /// Ranks every neuron by what `cost` asks for it.
    ///
    /// Values are the cost at which a unit went, or that of a dearer one that went before, so that
    /// they fall along the ranking.
    ///
    /// # Errors
    /// Those of `on_ranked`, and [`Error::Invalid`] where rounding leaves no inverse.
    pub(super) fn rank(self, cost: &Cost<'_>, on_ranked: &mut OnRanked<'_>) -> Result<Worth> {
        let failed = |failed| no_inverse(&self.name, failed);
        let dropped = match self.state {
            State::Primal(state) => greedy::run(state, &self.alive, cost, on_ranked, failed),
            State::Dual(state) => greedy::run(state, &self.alive, cost, on_ranked, failed),
        }?;
        let mut worth = Worth {
            values: vec![0.0; self.units.iter().map(Vec::len).sum()],
            ranking: Vec::new(),
        };
        let mut dearest = 0.0_f64;
        for (unit, cost) in dropped {
            dearest = dearest.max(cost);
            for &neuron in &self.units[unit] {
                worth.values[neuron] = dearest;
            }
            worth.ranking.extend(self.units[unit].iter().rev());
        }
        worth.ranking.reverse();
        Ok(worth)
    }
}

impl State {
    /// Bytes of the matrix that follows the choice.
    fn bytes(&self) -> usize {
        match self {
            Self::Primal(state) => state.bytes(),
            Self::Dual(state) => state.bytes(),
        }
    }
}

fn no_inverse(name: &str, failed: NotPositiveDefinite) -> Error {
    Error::Invalid {
        site: Site::value(name),
        what: format!(
            "the covariance of this layer's values has no inverse ({failed}); the values are too large"
        ),
    }
}
