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
    layer::say,
    pairs::{Pairs, Spread, blocks, only},
    sites::Wave,
};
use crate::algebra::{Cholesky, CrossCovariance, add_gram, product};

/// Ridge strengths that are tried, as shares of the mean variance; of equals, the first wins.
pub const GRID: [f64; 8] = [1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-8];

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
        if inputs <= rows && inputs <= MOST {
            Self::Primal(Box::new(CrossCovariance::new(inputs, width)))
        } else {
            Self::Dual(Pairs::new(inputs, width))
        }
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

    /// Solves for every ridge of [`GRID`] and takes, for each site, the one that `tuning` likes
    /// best.
    pub(super) fn solve(self, tuning: &Tuning, wave: &Wave) -> Result<Solution, Stop> {
        match self {
            Self::Primal(sums) => primal(*sums, tuning, wave),
            Self::Dual(pairs) => dual(&pairs, tuning, wave),
        }
    }
}

/// The best solution so far, site by site.
struct Best<'t> {
    /// What should come out, `[T, G]`, about the mean of the fitted rows.
    wanted: Array2<f64>,
    wave: &'t Wave,
    errors: Vec<f64>,
    lambdas: Vec<Option<f64>>,
    /// Coefficients `[F, G]` or `[N, G]`.
    coefficients: Array2<f64>,
}

impl<'t> Best<'t> {
    fn new(tuning: &Tuning, means: &[f64], wave: &'t Wave, rows: usize) -> Self {
        Self {
            wanted: tuning.pairs.residuals(means),
            wave,
            errors: vec![f64::INFINITY; wave.sites.len()],
            lambdas: vec![None; wave.sites.len()],
            coefficients: Array2::zeros((rows, means.len())),
        }
    }

    /// Takes up the coefficients of the sites for which `predicted` is nearer than all before.
    fn offer(&mut self, lambda: f64, coefficients: &Array2<f64>, predicted: &Array2<f64>) {
        for (site, columns) in columns(self.wave).enumerate() {
            let slice = Slice::from(columns);
            let wanted = self.wanted.slice_axis(Axis(1), slice);
            let predicted = predicted.slice_axis(Axis(1), slice);
            let pairs = wanted.iter().zip(predicted);
            let error: f64 = pairs.map(|(wanted, found)| (wanted - found).powi(2)).sum();
            if error < self.errors[site] {
                self.errors[site] = error;
                self.lambdas[site] = Some(lambda);
                let mut target = self.coefficients.slice_axis_mut(Axis(1), slice);
                target.assign(&coefficients.slice_axis(Axis(1), slice));
            }
        }
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
    let mut best = Best::new(tuning, &residuals, wave, means.len());
    for lambda in GRID {
        let mut ridged = xx.clone();
        for (value, live) in ridged.diag_mut().iter_mut().zip(&spread.live) {
            *value += lambda * spread.mean * f64::from(*live);
        }
        if let Ok(factor) = Cholesky::of(ridged) {
            let change = factor.solve(&xy);
            best.offer(lambda, &change, &product(tuned.view(), change.view()));
        }
    }
    let change = std::mem::take(&mut best.coefficients);
    best.solution(Form::Primal, rows, change, &means, &residuals)
}

fn dual(pairs: &Pairs, tuning: &Tuning, wave: &Wave) -> Result<Solution, Stop> {
    let rows = pairs.rows();
    enough(rows)?;
    let means = Pairs::means(&pairs.x, pairs.inputs);
    let residuals = Pairs::means(&pairs.r, pairs.width);
    let variances = pairs.variances(&means);
    let spread = Spread::new(&variances, &means);
    if spread.is_empty() {
        return Ok(bias_alone(rows, residuals, wave));
    }
    let mut kernel = Array2::zeros((rows, rows));
    let mut across = Array2::zeros((tuning.pairs.rows(), rows));
    for columns in blocks(pairs.inputs) {
        let live = &spread.live[columns.clone()];
        let x = only(live, pairs.centred(columns.clone(), &means));
        let tuned = tuning.pairs.centred(columns, &means);
        add_gram(kernel.view_mut(), 1.0, x.t());
        across += &product(tuned.view(), x.t());
    }
    let wanted = pairs.residuals(&residuals);
    let mut best = Best::new(tuning, &residuals, wave, rows);
    for lambda in GRID {
        let mut ridged = kernel.clone();
        let ridge = lambda * spread.mean * rows as f64;
        ridged
            .diag_mut()
            .iter_mut()
            .for_each(|value| *value += ridge);
        if let Ok(factor) = Cholesky::of(ridged) {
            let coefficients = factor.solve(&wanted);
            let predicted = product(across.view(), coefficients.view());
            best.offer(lambda, &coefficients, &predicted);
        }
    }
    let coefficients = std::mem::take(&mut best.coefficients);
    let mut change = Array2::zeros((pairs.inputs, pairs.width));
    for columns in blocks(pairs.inputs) {
        let live = &spread.live[columns.clone()];
        let x = only(live, pairs.centred(columns.clone(), &means));
        let part = product(x.t(), coefficients.view());
        change
            .slice_axis_mut(Axis(0), Slice::from(columns))
            .assign(&part);
    }
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
