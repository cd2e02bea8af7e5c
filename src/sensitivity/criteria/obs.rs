//! Optimal brain surgery on the layer's output (Hassibi & Stork 1993; layer by layer as OBC, Frantar
//! & Alistarh 2022): what its removal costs the sinks after the best refit of the weights left.
//!
//! With G the ridged covariance of the neurons left, H its inverse and w_i all outgoing weights,
//!
//! ```text
//! cost_i = ||w_i||^2 / H_ii             of a unit: tr(W_g^T (H_gg)^-1 W_g)
//! w_k   <- w_k - H_kr (H_rr)^-1 w_r     when the neurons r have gone
//! ```

use ndarray::Array2;

use super::{Entry, Measure, Outcome, SAMPLES_ONLY, Uses};
use crate::{
    error::{Error, Result},
    features::FeatureBatch,
    head,
    sensitivity::{
        Norm, Request,
        cells::{LayerView, first},
        forward::SinkValues,
        redundancy::{Carried, Observations, OnRanked, Redundancy, Residual, WIDEST, Worth},
        sums::{Layers, Sum, Taken},
        terms::{LayerTerms, Terms},
        weights::{columns, outgoing},
    },
};

const NAME: &str = "obs";

pub(super) const ENTRY: Entry = Entry {
    name: NAME,
    about: "error of the outputs after refitting the neurons left (greedy)",
    uses: Uses {
        samples: true,
        ..SAMPLES_ONLY
    },
    build,
    conclude,
};

struct Obs {
    values: SinkValues,
    layers: Vec<Layer>,
}

struct Layer {
    width: usize,
    /// `[F, M]`, until they are taken.
    weights: Vec<f64>,
    rows: Observations,
}

fn build(request: Request<'_>, _: &[(Norm, Norm)]) -> Result<Box<dyn Measure>> {
    let values = SinkValues::new(request)?;
    let layers = request.head.layers.iter().zip(&values.layers);
    let layers = layers.map(|(layer, view)| {
        let width = layer.width();
        check_width(NAME, layer)?;
        Ok(Layer {
            width,
            weights: weights(request, view, width)?.into_raw_vec_and_offset().0,
            rows: Observations::whole(width),
        })
    });
    Ok(Box::new(Obs {
        layers: layers.collect::<Result<_>>()?,
        values,
    }))
}

/// The outgoing weights of each neuron, over all sinks and places, `[F, M]`.
fn weights(request: Request<'_>, view: &LayerView, width: usize) -> Result<Array2<f64>> {
    let mut starts = Vec::new();
    let mut total = 0;
    for sink in &view.sinks {
        let map = &sink.sink.map;
        let mut occurred = vec![0; width];
        let mut ordinals = Vec::with_capacity(map.len());
        for &neuron in map.iter() {
            ordinals.push(occurred[neuron]);
            occurred[neuron] += 1;
        }
        let columns = columns(request, sink)?;
        starts.push((total, columns, ordinals));
        total += columns * occurred.iter().max().copied().unwrap_or(0);
    }
    let mut weights = Array2::zeros((width, total));
    for (sink, (first, columns, ordinals)) in view.sinks.iter().zip(starts) {
        let mut bad = None;
        outgoing(request, sink, |place, column, weight| {
            let neuron = sink.sink.map[place];
            if !weight.is_finite() {
                bad = bad.or(Some(neuron));
            }
            weights[[neuron, first + ordinals[place] * columns + column]] = weight;
        })?;
        if let Some(neuron) = bad {
            return Err(Error::Invalid {
                site: request.graph.site(sink.sink.at.node),
                what: format!("the weights of neuron {neuron} hold NaN or infinite values"),
            });
        }
    }
    Ok(weights)
}

impl Measure for Obs {
    fn add(&mut self, batch: &FeatureBatch) -> Result<()> {
        let values = self.values.run(batch)?;
        for (layer, sinks) in self.layers.iter_mut().zip(values) {
            let Some(cells) = first(sinks) else { continue };
            let values = &cells.values[..batch.samples * cells.plane()];
            layer.rows.add(values, cells.positions);
        }
        Ok(())
    }

    fn take(&mut self) -> Result<Layers> {
        let layers = self.layers.iter_mut().map(|layer| {
            let empty = Observations::whole(layer.width);
            vec![
                Sum::Observations(std::mem::replace(&mut layer.rows, empty)),
                Sum::fixed_once(&mut layer.weights),
            ]
        });
        Ok(layers.collect())
    }
}

fn conclude(terms: &Terms, layers: Layers, on_ranked: &mut OnRanked<'_>) -> Result<Outcome> {
    let mut found = Vec::new();
    for (layer, facts) in layers.into_iter().zip(&terms.layers) {
        let mut layer = Taken::from(layer);
        let (rows, weights) = (layer.observations(), layer.fixed());
        let columns = weights.len() / facts.width.max(1);
        let weights = Array2::from_shape_vec((facts.width, columns), weights).ok();
        found.push(ranked(NAME, facts, (rows, weights), on_ranked)?);
    }
    Ok(Outcome {
        layers: vec![found; terms.norms.len()],
        ..Outcome::default()
    })
}

/// Refuses a layer whose covariance `criterion` could not hold.
pub(super) fn check_width(criterion: &str, layer: &head::Layer) -> Result<()> {
    let width = layer.width();
    if width <= WIDEST {
        return Ok(());
    }
    Err(Error::Argument {
        name: "--criterion",
        what: format!(
            "{criterion} needs the covariance of a whole layer, and {:?} has {width} neurons, more than {WIDEST}; lsa with --scale residual ranks layers of any width",
            layer.name
        ),
    })
}

/// Ranks a layer by what its neurons carry `[F, M]`, which those left take over.
///
/// # Errors
/// [`Error::Argument`] where no neuron varies; those of a ranking.
pub(super) fn ranked(
    criterion: &str,
    facts: &LayerTerms,
    (rows, carried): (Option<Observations>, Option<Array2<f64>>),
    on_ranked: &mut OnRanked<'_>,
) -> Result<Worth> {
    let prepared = match (rows, carried) {
        (Some(rows), Some(carried)) => {
            Redundancy::new(&facts.name, rows, facts.members(), Some(carried))?
        }
        _ => None,
    };
    let prepared = prepared.ok_or_else(|| Error::Argument {
        name: "--criterion",
        what: format!(
            "{criterion} needs samples that differ, and no neuron of layer {:?} varies over these",
            facts.name
        ),
    })?;
    prepared.rank(&cost, on_ranked)
}

/// tr(W^T C W).
fn cost(neurons: &[usize], residual: &Residual, carried: Carried<'_>) -> f64 {
    let pairs = (0..neurons.len()).flat_map(|k| (0..neurons.len()).map(move |l| (k, l)));
    let terms = pairs.map(|(k, l)| {
        let products = carried(k).iter().zip(carried(l)).map(|(a, b)| a * b);
        residual.covariance(k, l) * products.sum::<f64>()
    });
    terms.sum()
}
