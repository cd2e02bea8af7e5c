//! Ridge regression of what is missing on what is read, over the inputs or over the rows.
//!
//! N rows, F inputs, G residuals (the outputs of all sites of a wave, side by side). With X and R
//! about their means:
//!
//! ```text
//! primal   D = (X^T X / N + l·d·I)^-1 X^T R / N          F x F
//! dual     D = X^T (X X^T + N·l·d·I)^-1 R                N x N
//! ```
//!
//! with d the mean variance of the inputs that vary. An input that does not vary gets diagonal 1
//! and changes nothing. The two are equal (Woodbury); the smaller matrix is taken.

use std::ops::Range;

use ndarray::{Array2, ArrayView2, Axis, Slice};

use super::{
    Form, Stop,
    kernels::Kernel,
    layer::say,
    pairs::{Pairs, Spread, blocks, only},
    sites::Wave,
};
use crate::algebra::{Cholesky, CrossCovariance, NotPositiveDefinite, product};

/// Ridge strengths that are tried, as shares of the mean variance; of equals, the first wins.
pub const GRID: [f64; 8] = [1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-8];

/// How many ridges in a row may do better nowhere until no smaller one is tried. The error falls to the
/// ridge that suits the noise and rises behind it; each one costs a factor.
const WORSE: usize = 2;

/// Largest order of a matrix: 302 MB in f64, held twice.
pub const MOST: usize = 6144;

/// Most rows that choose the ridge: 2,048 tell its error to within 2 %.
pub(super) const MOST_TUNED: usize = 2048;

/// What each site of a wave changes.
pub(super) struct Solution {
    pub(super) form: Form,
    pub(super) rows: usize,
    pub(super) note: Option<String>,
    /// `[F, G]`; nothing where only biases change.
    change: Option<Array2<f64>>,
    /// `[G]`, added to the bias.
    shift: Vec<f64>,
    /// Per site, its columns and its ridge.
    sites: Vec<(Range<usize>, Option<f64>)>,
}

/// What one site changes.
pub(super) struct Part<'s> {
    pub(super) lambda: Option<f64>,
    /// Added to the weights, `[inputs, outputs]`.
    pub(super) change: Option<ArrayView2<'s, f64>>,
    /// Added to the bias.
    pub(super) shift: &'s [f64],
}

impl Solution {
    pub(super) fn of(&self, site: usize) -> Part<'_> {
        let (columns, lambda) = &self.sites[site];
        let change = self
            .change
            .as_ref()
            .map(|change| change.slice_axis(Axis(1), Slice::from(columns.clone())));
        Part {
            lambda: *lambda,
            change,
            shift: &self.shift[columns.clone()],
        }
    }

    /// Adds a sentence to the note.
    pub(super) fn say(&mut self, sentence: String) {
        say(&mut self.note, &sentence);
    }
}

/// Means of the residuals.
pub(super) struct Means {
    rows: usize,
    sums: Vec<f64>,
}

impl Means {
    pub(super) fn new(width: usize) -> Self {
        Self {
            rows: 0,
            sums: vec![0.0; width],
        }
    }

    pub(super) fn add(&mut self, residuals: &[f32]) {
        let width = self.sums.len().max(1);
        for row in residuals.chunks_exact(width) {
            self.rows += 1;
            let sums = self.sums.iter_mut().zip(row);
            sums.for_each(|(sum, &value)| *sum += f64::from(value));
        }
    }

    pub(super) fn solution(self, wave: &Wave) -> Result<Solution, Stop> {
        enough(self.rows)?;
        let rows = self.rows as f64;
        let shift = self.sums.iter().map(|sum| sum / rows);
        Ok(Solution {
            form: Form::Mean,
            rows: self.rows,
            note: None,
            change: None,
            shift: shift.collect(),
            sites: columns(wave).map(|columns| (columns, None)).collect(),
        })
    }
}

/// Rows that choose the ridge.
pub(super) struct Tuning {
    pairs: Pairs,
}

impl Tuning {
    pub(super) fn new(inputs: usize, width: usize) -> Self {
        let pairs = Pairs::new(inputs, width);
        Self { pairs }
    }

    pub(super) fn add(&mut self, x: &[f32], residuals: &[f32]) {
        self.pairs.add(x, residuals);
    }
}

/// Rows that are fitted, or what is needed of them.
pub(super) enum Fit {
    Primal(Box<CrossCovariance>),
    Dual(Pairs),
}

impl Fit {
    /// For about this many rows.
    pub(super) fn new(inputs: usize, width: usize, rows: usize) -> Self {
        if Self::is_primal(inputs, rows) {
            Self::Primal(Box::new(CrossCovariance::new(inputs, width)))
        } else {
            Self::Dual(Pairs::new(inputs, width))
        }
    }

    /// Whether the smaller matrix is that over the inputs.
    pub(super) fn is_primal(inputs: usize, rows: usize) -> bool {
        inputs <= rows && inputs <= MOST
    }

    /// How many rows it can hold.
    pub(super) fn most_rows(&self) -> usize {
        match self {
            Self::Primal(_) => usize::MAX,
            Self::Dual(_) => MOST,
        }
    }

    pub(super) fn add(&mut self, x: &[f32], residuals: &[f32]) {
        match self {
            Self::Primal(sums) => sums.add(x, residuals),
            Self::Dual(pairs) => pairs.add(x, residuals),
        }
    }

    /// Solves for ridges of [`GRID`], the largest first, and takes, for each site, the one that
    /// `tuning` likes best; smaller ones are left out once [`WORSE`] in a row were no better. `kernel` is
    /// that of the rows, where it is known.
    pub(super) fn solve(
        self,
        tuning: &Tuning,
        wave: &Wave,
        kernel: Option<&Kernel>,
    ) -> Result<Solution, Stop> {
        match self {
            Self::Primal(sums) => primal(*sums, tuning, wave),
            Self::Dual(pairs) => dual(&pairs, tuning, wave, kernel),
        }
    }
}

/// What is solved, in either form: `(matrix + ridge·I) C = right`, and `across·C` should give what
/// the tuning rows want.
struct System<'s> {
    matrix: &'s Array2<f64>,
    /// The ridge that a strength of 1 stands for, element by element of the diagonal.
    ridge: &'s [f64],
    right: &'s Array2<f64>,
    across: &'s Array2<f64>,
}

impl System<'_> {
    fn factor(&self, lambda: f64) -> Result<Cholesky, NotPositiveDefinite> {
        let mut ridged = self.matrix.clone();
        let diagonal = ridged.diag_mut().into_iter().zip(self.ridge);
        diagonal.for_each(|(value, ridge)| *value += lambda * ridge);
        Cholesky::of(ridged)
    }

    /// What comes out for the tuning rows. Solved from the side with fewer columns.
    fn predicted(&self, factor: &Cholesky) -> Array2<f64> {
        if self.across.nrows() < self.right.ncols() {
            let weights = factor.solve(&self.across.t().to_owned());
            return product(weights.t(), self.right.view());
        }
        product(self.across.view(), factor.solve(self.right).view())
    }
}

/// The best ridge so far, site by site.
struct Best<'t> {
    /// What should come out, `[T, G]`, about the mean of the fitted rows.
    wanted: Array2<f64>,
    wave: &'t Wave,
    errors: Vec<f64>,
    lambdas: Vec<Option<f64>>,
    /// The ridge that was the best of some site last, and its factor.
    last: Option<(f64, Cholesky)>,
}

impl<'t> Best<'t> {
    /// Of the ridges of [`GRID`], from the largest on.
    fn of(system: &System<'_>, tuning: &Tuning, means: &[f64], wave: &'t Wave) -> Self {
        let mut best = Self {
            wanted: tuning.pairs.residuals(means),
            wave,
            errors: vec![f64::INFINITY; wave.sites.len()],
            lambdas: vec![None; wave.sites.len()],
            last: None,
        };
        from_the_largest(|lambda| {
            let Ok(factor) = system.factor(lambda) else {
                return false;
            };
            let is_better = best.offer(lambda, &system.predicted(&factor));
            if is_better {
                best.last = Some((lambda, factor));
            }
            is_better
        });
        best
    }

    /// Takes up the ridge for the sites for which `predicted` is nearer than all before; whether
    /// there are any.
    fn offer(&mut self, lambda: f64, predicted: &Array2<f64>) -> bool {
        let mut is_better = false;
        for (site, columns) in columns(self.wave).enumerate() {
            let slice = Slice::from(columns);
            let wanted = self.wanted.slice_axis(Axis(1), slice);
            let predicted = predicted.slice_axis(Axis(1), slice);
            let pairs = wanted.iter().zip(predicted);
            let error: f64 = pairs.map(|(wanted, found)| (wanted - found).powi(2)).sum();
            if error < self.errors[site] {
                self.errors[site] = error;
                self.lambdas[site] = Some(lambda);
                is_better = true;
            }
        }
        is_better
    }

    /// C, each site's columns solved with its own ridge; zeros where there is none.
    fn coefficients(&self, system: &System<'_>) -> Array2<f64> {
        let mut coefficients = Array2::zeros(system.right.raw_dim());
        for lambda in GRID {
            let chosen = self.lambdas.iter().zip(columns(self.wave));
            let chosen = chosen.filter(|(best, _)| **best == Some(lambda));
            let chosen: Vec<usize> = chosen.flat_map(|(_, columns)| columns).collect();
            if chosen.is_empty() {
                continue;
            }
            let again;
            let factor = match &self.last {
                Some((last, factor)) if *last == lambda => factor,
                _ => {
                    again = system.factor(lambda);
                    let Ok(factor) = &again else { continue };
                    factor
                }
            };
            if chosen.len() == system.right.ncols() {
                return factor.solve(system.right);
            }
            let solved = factor.solve(&system.right.select(Axis(1), &chosen));
            for (column, solved) in chosen.iter().zip(solved.columns()) {
                coefficients.column_mut(*column).assign(&solved);
            }
        }
        coefficients
    }

    fn solution(
        self,
        form: Form,
        rows: usize,
        change: Array2<f64>,
        x: &[f64],
        r: &[f64],
    ) -> Result<Solution, Stop> {
        if self.lambdas.contains(&None) {
            return Err(Stop::Refused(
                "its inputs are too nearly dependent to be solved for".to_owned(),
            ));
        }
        let inputs = x.len();
        let x = ArrayView2::from_shape((1, inputs), x).expect("one row of the inputs' means");
        let moved = product(x, change.view());
        let shift = r.iter().zip(&moved).map(|(mean, moved)| mean - moved);
        let mut solution = Solution {
            form,
            rows,
            note: None,
            shift: shift.collect(),
            change: Some(change),
            sites: columns(self.wave).zip(self.lambdas).collect(),
        };
        if rows < inputs {
            solution.say(format!(
                "only {rows} rows for {inputs} inputs: more samples would repair more"
            ));
        }
        Ok(solution)
    }
}

/// Offers the ridges of [`GRID`] until [`WORSE`] in a row are not better.
fn from_the_largest(mut is_better: impl FnMut(f64) -> bool) {
    let mut worse = 0;
    for lambda in GRID {
        worse = if is_better(lambda) { 0 } else { worse + 1 };
        if worse == WORSE {
            break;
        }
    }
}

fn primal(sums: CrossCovariance, tuning: &Tuning, wave: &Wave) -> Result<Solution, Stop> {
    let rows = usize::try_from(sums.count()).unwrap_or(usize::MAX);
    enough(rows)?;
    let (means, residuals) = (sums.x_mean().to_vec(), sums.y_mean().to_vec());
    let (mut xx, mut xy) = (sums.xx(), sums.xy());
    drop(sums);
    let spread = Spread::new(&xx.diag().to_vec(), &means);
    if spread.is_empty() {
        return Ok(bias_alone(rows, residuals, wave));
    }
    for (input, _) in spread.live.iter().enumerate().filter(|(_, live)| !**live) {
        xx.row_mut(input).fill(0.0);
        xx.column_mut(input).fill(0.0);
        xx[[input, input]] = 1.0;
        xy.row_mut(input).fill(0.0);
    }
    let tuned = tuning.pairs.centred(0..means.len(), &means);
    let live = spread.live.iter().map(|live| f64::from(*live));
    let system = System {
        matrix: &xx,
        ridge: &live.map(|live| live * spread.mean).collect::<Vec<_>>(),
        right: &xy,
        across: &tuned,
    };
    let best = Best::of(&system, tuning, &residuals, wave);
    let change = best.coefficients(&system);
    best.solution(Form::Primal, rows, change, &means, &residuals)
}

fn dual(
    pairs: &Pairs,
    tuning: &Tuning,
    wave: &Wave,
    kernel: Option<&Kernel>,
) -> Result<Solution, Stop> {
    let rows = pairs.rows();
    enough(rows)?;
    let means = Pairs::means(&pairs.x, pairs.inputs);
    let residuals = Pairs::means(&pairs.r, pairs.width);
    let variances = pairs.variances(&means);
    let spread = Spread::new(&variances, &means);
    if spread.is_empty() {
        return Ok(bias_alone(rows, residuals, wave));
    }
    let own;
    let kernel = match kernel {
        Some(kernel) => kernel,
        None => {
            own = Kernel::of(pairs, &tuning.pairs, &means, &spread);
            &own
        }
    };
    let wanted = pairs.residuals(&residuals);
    let system = System {
        matrix: &kernel.fitted,
        ridge: &vec![spread.mean * rows as f64; rows],
        right: &wanted,
        across: &kernel.tuned,
    };
    let best = Best::of(&system, tuning, &residuals, wave);
    let coefficients = best.coefficients(&system);
    // Output by output, as most weights lie.
    let mut change = Array2::zeros((pairs.width, pairs.inputs));
    for columns in blocks(pairs.inputs) {
        let live = &spread.live[columns.clone()];
        let x = only(live, pairs.centred(columns.clone(), &means));
        let part = product(coefficients.t(), x.view());
        change
            .slice_axis_mut(Axis(1), Slice::from(columns))
            .assign(&part);
    }
    let change = change.reversed_axes();
    best.solution(Form::Dual, rows, change, &means, &residuals)
}

/// The inputs do not vary: nothing can be regressed on them.
fn bias_alone(rows: usize, residuals: Vec<f64>, wave: &Wave) -> Solution {
    Solution {
        form: Form::Mean,
        rows,
        note: Some("its inputs are the same for all samples: only the bias is repaired".to_owned()),
        change: None,
        shift: residuals,
        sites: columns(wave).map(|columns| (columns, None)).collect(),
    }
}

fn columns(wave: &Wave) -> impl Iterator<Item = Range<usize>> + '_ {
    (0..wave.sites.len()).map(|site| wave.columns(site))
}

fn enough(rows: usize) -> Result<(), Stop> {
    if rows < 2 {
        return Err(Stop::Refused(format!("{rows} rows are too few to fit")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_ridges_in_a_row_that_are_no_better_end_the_search() {
        // By the ridges that are better than all before them.
        let cases: [(&[f64], usize); 5] = [
            (&[1.0], 3),
            (&[1.0, 1e-1], 4),
            // one that is worse ends nothing
            (&[1.0, 1e-2], 5),
            (&[1e-1, 1e-3, 1e-5, 1e-8], GRID.len()),
            (&[], WORSE),
        ];
        for (better, expected) in cases {
            let mut tried = Vec::new();
            from_the_largest(|lambda| {
                tried.push(lambda);
                better.contains(&lambda)
            });
            assert_eq!(tried, GRID[..expected], "{better:?}");
        }
    }
}
