//! The norm of a neuron's outgoing weights; needs no data and no engine.

use super::{Entry, Measure, SAMPLES_ONLY, Uses};
use crate::{
    error::Result,
    features::FeatureBatch,
    sensitivity::{Norm, Request, cells::views, weights::outgoing},
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
};

/// The scores, known from the start.
struct Weight(Vec<Vec<Vec<f64>>>);

fn build(request: Request<'_>, norms: &[(Norm, Norm)]) -> Result<Box<dyn Measure>> {
    let mut layers = Vec::new();
    for layer in views(request.graph, request.head) {
        let Some(width) = layer.sinks.first().map(|sink| sink.width) else {
            continue;
        };
        let mut weights: Vec<Vec<f64>> = vec![Vec::new(); width];
        for sink in &layer.sinks {
            let columns = outgoing(request, sink)?;
            for (&neuron, column) in sink.sink.map.iter().zip(columns) {
                weights[neuron].extend(column);
            }
        }
        layers.push(weights);
    }
    let scores = |norm: Norm| {
        let layers = layers.iter();
        let layers =
            layers.map(|neurons| neurons.iter().map(|w| norm.of(w.iter().copied())).collect());
        layers.collect()
    };
    Ok(Box::new(Weight(
        norms.iter().map(|&(_, q)| scores(q)).collect(),
    )))
}

impl Measure for Weight {
    fn add(&mut self, _: &FeatureBatch) -> Result<()> {
        Ok(())
    }

    fn wants_more(&self) -> bool {
        false
    }

    fn finish(self: Box<Self>) -> Result<Vec<Vec<Vec<f64>>>> {
        Ok(self.0)
    }
}
