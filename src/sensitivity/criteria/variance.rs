//! Variance over the samples, averaged over positions.

use super::{Entry, Measure, Outcome, SAMPLES_ONLY, for_each_norm};
use crate::{
    error::Result,
    features::FeatureBatch,
    sensitivity::{
        Norm, Request,
        cells::first,
        forward::SinkValues,
        moments::Moments,
        redundancy::OnRanked,
        sums::{Layers, Sum, Taken},
        terms::Terms,
    },
};

pub(super) const ENTRY: Entry = Entry {
    name: "variance",
    about: "variance over the samples",
    uses: SAMPLES_ONLY,
    build,
    conclude,
};

struct Variance {
    values: SinkValues,
    /// Per layer: the moments of its cells, and positions per neuron.
    layers: Vec<Option<(Moments, Vec<usize>)>>,
}

fn build(request: Request<'_>, _: &[(Norm, Norm)]) -> Result<Box<dyn Measure>> {
    Ok(Box::new(Variance {
        values: SinkValues::new(request)?,
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

    fn take(&mut self) -> Result<Layers> {
        let layers = self.layers.iter_mut().map(|layer| match layer.take() {
            Some((moments, present)) => vec![Sum::Moments(moments), Sum::places(&present)],
            None => Vec::new(),
        });
        Ok(layers.collect())
    }
}

fn conclude(terms: &Terms, layers: Layers, _: &mut OnRanked<'_>) -> Result<Outcome> {
    let layers = layers.into_iter().map(|layer| {
        let mut layer = Taken::from(layer);
        let (Some(moments), present) = (layer.moments(), layer.fixed()) else {
            return Vec::new();
        };
        let mut means = vec![0.0; present.len()];
        for values in moments.variances().chunks(present.len().max(1)) {
            let pairs = means.iter_mut().zip(values);
            pairs.for_each(|(mean, value)| *mean += value);
        }
        let pairs = means.into_iter().zip(present);
        pairs.map(|(sum, places)| sum / places.max(1.0)).collect()
    });
    Ok(for_each_norm(terms, layers.collect()))
}
