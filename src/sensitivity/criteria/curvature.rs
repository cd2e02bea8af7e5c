//! Optimal brain surgery on the class scores: what a removal changes in them, to first order, after the best refit of
//! the neurons left.
//!
//! It is local sensitivity with p = q = 2 and residual scaling whose derivatives do not stay what they were: where the
//! neurons left take over from one that went, what the class scores owe to it is theirs from then on. With s_n,j the
//! derivatives of the class scores by the layer, G the ridged covariance of the neurons left and H its inverse,
//!
//! ```text
//! Q      = sum over classes of the mean over samples of s s^T = C·C^T
//! cost_i = ||c_i||^2 / H_ii             of a unit: tr(C_g^T (H_gg)^-1 C_g)
//! c_k   <- c_k - H_kr (H_rr)^-1 c_r     when the neurons r have gone
//! ```
//!
//! The derivatives by a dense layer's inputs are its weights times those by its outputs, so this moves the weights as
//! `obs` does, in the metric of the derivatives; but Q needs no weights, so any head will do.

use ndarray::{Array2, ArrayView2};

use super::{Entry, Measure, Outcome, SAMPLES_ONLY, Uses, obs};
use crate::{
    algebra::{Cholesky, add_gram},
    error::{Error, Result, Site},
    features::FeatureBatch,
    sensitivity::{
        Norm, Request,
        cells::{Cells, added, first},
        gradient::{HeadGradient, Rows},
        redundancy::{Observations, OnRanked},
        sums::{Layers, Sum, Taken},
        terms::{LayerTerms, Terms},
    },
};

const NAME: &str = "curvature";

pub(super) const ENTRY: Entry = Entry {
    name: NAME,
    about: "error of the class scores after refitting the neurons left (greedy)",
    uses: Uses {
        samples: true,
        of: true,
        ..SAMPLES_ONLY
    },
    build,
    conclude,
};

/// What is added to the diagonal of Q, relative to its mean: Q has the rank of the dense layer behind, and the rounding
/// of f64 must not make it less than 0.
const RIDGE: f64 = 1e-10;

/// Rows of derivatives that are added at once; each time, all of Q is written.
const ROWS: usize = 512;

struct Curvature {
    gradient: HeadGradient,
    layers: Vec<Layer>,
}

struct Layer {
    /// The sum of `s s^T`, `[F, F]`; only its lower triangle.
    gram: Array2<f64>,
    rows: Observations,
}

impl Layer {
    fn new(width: usize) -> Self {
        Self {
            gram: Array2::zeros((width, width)),
            rows: Observations::whole(width),
        }
    }

    /// Adds the derivatives of the leading `classes` and `samples`, each position a row.
    fn add(&mut self, cells: &Cells, classes: usize, samples: usize) {
        let width = cells.neurons;
        let pairs = (0..classes).flat_map(|row| (0..samples).map(move |sample| (row, sample)));
        let rows: Vec<&[f32]> = pairs
            .flat_map(|(row, sample)| cells.of(row, sample).chunks(width))
            .collect();
        for rows in rows.chunks(ROWS) {
            let values = rows
                .iter()
                .flat_map(|row| row.iter().copied().map(f64::from));
            let values: Vec<f64> = values.collect();
            let rows = ArrayView2::from_shape((rows.len(), width), &values)
                .expect("every row has one number per neuron");
            add_gram(self.gram.view_mut(), 1.0, rows);
        }
    }
}

fn build(request: Request<'_>, _: &[(Norm, Norm)]) -> Result<Box<dyn Measure>> {
    let layers = request.head.layers.iter().map(|layer| {
        obs::check_width(NAME, layer)?;
        Ok(Layer::new(layer.width()))
    });
    Ok(Box::new(Curvature {
        layers: layers.collect::<Result<_>>()?,
        gradient: HeadGradient::new(request, request.options.of.into(), true)?,
    }))
}

impl Measure for Curvature {
    fn add(&mut self, batch: &FeatureBatch) -> Result<()> {
        let layers = &mut self.layers;
        self.gradient.jacobian(batch, |found, values| {
            let Rows {
                count,
                layers: cotangents,
                ..
            } = found;
            for (layer, sinks) in layers.iter_mut().zip(cotangents) {
                if let Some(cells) = added(sinks) {
                    layer.add(&cells, count, batch.samples);
                }
            }
            for (layer, sinks) in layers.iter_mut().zip(values.into_iter().flatten()) {
                if let Some(cells) = first(sinks) {
                    let values = &cells.values[..batch.samples * cells.plane()];
                    layer.rows.add(values, cells.positions);
                }
            }
            Ok(())
        })
    }

    fn take(&mut self) -> Result<Layers> {
        let layers = self.layers.iter_mut().map(|layer| {
            let empty = Layer::new(layer.gram.ncols());
            let Layer { gram, rows } = std::mem::replace(layer, empty);
            vec![Sum::Observations(rows), Sum::Totals(packed(&gram))]
        });
        Ok(layers.collect())
    }
}

fn conclude(terms: &Terms, layers: Layers, on_ranked: &mut OnRanked<'_>) -> Result<Outcome> {
    let mut found = Vec::new();
    for (layer, facts) in layers.into_iter().zip(&terms.layers) {
        let mut layer = Taken::from(layer);
        let rows = layer.observations();
        let squares = unpacked(facts.width, &layer.totals(), terms.samples);
        let carried = squares.map(|squares| root(squares, facts)).transpose()?;
        found.push(obs::ranked(NAME, facts, (rows, carried), on_ranked)?);
    }
    Ok(Outcome {
        layers: vec![found; terms.norms.len()],
        ..Outcome::default()
    })
}

/// The lower triangle, row by row.
fn packed(matrix: &Array2<f64>) -> Vec<f64> {
    let rows = matrix.rows().into_iter().enumerate();
    rows.flat_map(|(at, row)| row.to_vec().into_iter().take(at + 1))
        .collect()
}

/// Q from its packed sums, lower triangle only; nothing where they are those of another layer.
fn unpacked(width: usize, packed: &[f64], samples: u64) -> Option<Array2<f64>> {
    let mut matrix = Array2::zeros((width, width));
    let mut sums = packed.iter();
    for row in 0..width {
        for column in 0..=row {
            matrix[[row, column]] = sums.next()? / samples.max(1) as f64;
        }
    }
    Some(matrix)
}

/// C with C·C^T = Q; zeros where no derivative differs from 0.
fn root(mut squares: Array2<f64>, facts: &LayerTerms) -> Result<Array2<f64>> {
    let mean = squares.diag().sum() / facts.width.max(1) as f64;
    if mean == 0.0 {
        return Ok(squares);
    }
    squares
        .diag_mut()
        .map_inplace(|value| *value += RIDGE * mean);
    let factored = Cholesky::of(squares).map_err(|failed| Error::Invalid {
        site: Site::value(&facts.name),
        what: format!("the derivatives of the class scores have no curvature here ({failed})"),
    });
    Ok(factored?.into_factor())
}
