//! What may be left out, if asked: small rows, and all rows but a few random ones.

use super::chain::Chain;
use crate::{
    error::{Error, Result},
    sensitivity::{ScoreOptions, power_sums::PowerSums},
};

/// What is left out.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Approximation {
    /// Rows with `pi_j (1 - pi_j)` up to this are.
    pub(super) row_tolerance: Option<f64>,
    /// So many random rows take the place of the classes'.
    pub(super) probes: Option<usize>,
    pub(super) seed: u64,
}

/// Scores of the first samples, with and without.
pub(super) struct Checked {
    samples: usize,
    /// Share of the rows.
    left_out: f64,
    /// Largest difference of a score, and the root of the mean square, relative to the largest score
    /// of its layer.
    largest: f64,
    mean: f64,
}

impl Approximation {
    pub(super) fn of(options: &ScoreOptions) -> Self {
        Self {
            row_tolerance: options.row_tolerance,
            probes: options.probes,
            seed: options.seed,
        }
    }

    pub(super) fn is_any(self) -> bool {
        self.row_tolerance.is_some() || self.probes.is_some()
    }

    /// Behind the last dense layer, squares have a closed form that is cheaper than probes.
    pub(super) fn check(self, chain: &Chain) -> Result<()> {
        if self.probes.is_some() && chain.links.len() == 1 {
            return Err(Error::Argument {
                name: "--probes",
                what: "has no effect on a head of one dense layer: its scores have a closed form"
                    .to_owned(),
            });
        }
        Ok(())
    }
}

impl Checked {
    /// Compares sums, layer by layer and norm by norm.
    pub(super) fn new(
        samples: usize,
        left_out: f64,
        exact: &[Vec<PowerSums>],
        found: &[Vec<PowerSums>],
    ) -> Self {
        let (mut largest, mut squares, mut count) = (0.0_f64, 0.0, 0_usize);
        for (exact, found) in exact.iter().flatten().zip(found.iter().flatten()) {
            let (exact, found) = (exact.scores(None), found.scores(None));
            let top = exact.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
            for (exact, found) in exact.iter().zip(&found) {
                let error = (exact - found).abs() / top;
                largest = largest.max(error);
                squares += error * error;
                count += 1;
            }
        }
        Self {
            samples,
            left_out,
            largest,
            mean: (squares / count.max(1) as f64).sqrt(),
        }
    }

    pub(super) fn note(&self, approximation: Approximation) -> String {
        let mut parts = Vec::new();
        if let Some(tolerance) = approximation.row_tolerance {
            let share = self.left_out * 100.0;
            parts.push(format!(
                "rows with p (1 - p) up to {tolerance:e} are left out ({share:.1} % of them)"
            ));
        }
        if let Some(probes) = approximation.probes {
            let fall = "its error falls with the square root of the samples";
            parts.push(format!(
                "{probes} random rows stand for the classes; {fall}"
            ));
        }
        format!(
            "{}: on the first {} samples alone, scores are off by {:.1e} of the layer's largest at most, {:.1e} on average",
            parts.join(", and "),
            self.samples,
            self.largest,
            self.mean
        )
    }
}
