//! Variance over the samples, averaged over positions.

use super::{Entry, Measure, Outcome, SAMPLES_ONLY, for_each_norm};
use crate::{
    error::Result,
    features::FeatureBatch,
    sensitivity::{
        Norm, Request, cells::first, forward::SinkValues, moments::Moments, redundancy::OnRanked,
    },
};

pub(super) const ENTRY: Entry = Entry {
    name: "variance",
    about: "variance over the samples",
    uses: SAMPLES_ONLY,
    build,
};

struct Variance {
    values: SinkValues,
    norms: usize,
    /// Per layer: the moments of its cells, and positions per neuron.
    layers: Vec<Option<(Moments, Vec<usize>)>>,
}

fn build(request: Request<'_>, norms: &[(Norm, Norm)]) -> Result<Box<dyn Measure>> {
    Ok(Box::new(Variance {
        values: SinkValues::new(request)?,
        norms: norms.len(),
        layers: request.head.layers.iter().map(|_| None).collect(),
    }))
}

impl Measure for Variance {
    fn add(&mut self, batch: &FeatureBatch) -> Result<()> {
        let values = self.values.run(batch)?;
        for (layer, sinks) in self.layers.iter_mut().zip(values) {
            let Some(cells) = first(sinks) else { continue };
            let empty = || (Moments::new(cells.plane()), cells.present.clone());
            layer.get_or_insert_with(empty).0.add(batch.samples, &cells);
        }
        Ok(())
    }

    fn finish(self: Box<Self>, _: &mut OnRanked<'_>) -> Result<Outcome> {
        let layers = self.layers.into_iter().map(|layer| {
            let Some((moments, present)) = layer else {
                return Vec::new();
            };
            let mut means = vec![0.0; present.len()];
            for values in moments.variances().chunks(present.len()) {
                means
                    .iter_mut()
                    .zip(values)
                    .for_each(|(mean, value)| *mean += value);
            }
            let pairs = means.into_iter().zip(present);
            pairs
                .map(|(sum, places)| sum / places.max(1) as f64)
                .collect()
        });
        let layers = layers.collect();
        Ok(for_each_norm(self.norms, layers))
    }
}
