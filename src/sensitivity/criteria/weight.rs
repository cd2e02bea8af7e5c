//! The norm of a neuron's outgoing weights; needs no data and no engine.

use super::{Entry, Measure, Outcome, SAMPLES_ONLY, Uses};
use crate::{
    error::Result,
    features::FeatureBatch,
    sensitivity::{
        Norm, Request,
        cells::{LayerView, views},
        norm::{power, root},
        redundancy::OnRanked,
        sums::{Layers, Sum, Taken},
        terms::Terms,
        weights::outgoing,
    },
};

pub(super) const ENTRY: Entry = Entry {
    name: "weight",
    about: "norm of the outgoing weights",
    uses: Uses {
        samples: false,
        classes: true,
        ..SAMPLES_ONLY
    },
    build,
    conclude,
};

/// The scores, known from the start: by layer and pair of norms.
struct Weight(Layers);

fn build(request: Request<'_>, norms: &[(Norm, Norm)]) -> Result<Box<dyn Measure>> {
    let views = views(request.graph, request.head);
    let layers = views.iter().map(|layer| {
        let pairs = norms.iter();
        pairs
            .map(|&(_, q)| layer_norms(request, layer, q).map(Sum::Fixed))
            .collect()
    });
    Ok(Box::new(Weight(layers.collect::<Result<_>>()?)))
}

/// The norm of each neuron's weights at all sinks: the largest first, then the sum of powers of
/// what the others are of it, so that no power over- or underflows.
fn layer_norms(request: Request<'_>, layer: &LayerView, norm: Norm) -> Result<Vec<f64>> {
    let width = layer.sinks.first().map_or(0, |sink| sink.width);
    let mut largest = vec![0.0_f64; width];
    for view in &layer.sinks {
        let map = &view.sink.map;
        outgoing(request, view, |place, _, weight| {
            let (neuron, weight) = (map[place], weight.abs());
            // A NaN stays, and is reported with its neuron when the plan is made.
            if weight.is_nan() || weight > largest[neuron] {
                largest[neuron] = weight;
            }
        })?;
    }
    let Norm::P(p) = norm else { return Ok(largest) };
    let mut sums = vec![0.0_f64; width];
    for view in &layer.sinks {
        let map = &view.sink.map;
        outgoing(request, view, |place, _, weight| {
            let (neuron, weight) = (map[place], weight.abs());
            if largest[neuron] > 0.0 {
                sums[neuron] += power(weight / largest[neuron], p);
            }
        })?;
    }
    let neurons = largest.iter().zip(&sums);
    Ok(neurons
        .map(|(largest, &sum)| largest * root(sum, p))
        .collect())
}

impl Measure for Weight {
    fn add(&mut self, _: &FeatureBatch) -> Result<()> {
        Ok(())
    }

    fn wants_more(&self) -> bool {
        false
    }

    fn take(&mut self) -> Result<Layers> {
        Ok(std::mem::take(&mut self.0))
    }
}

fn conclude(terms: &Terms, layers: Layers, _: &mut OnRanked<'_>) -> Result<Outcome> {
    let mut layers: Vec<Taken> = layers.into_iter().map(Taken::from).collect();
    let scores = |_| layers.iter_mut().map(Taken::fixed).collect();
    let scores: Vec<Vec<Vec<f64>>> = terms.norms.iter().map(scores).collect();
    Ok(Outcome::from(scores))
}
