//! Average percentage of zeros (Hu et al. 2016, arXiv:1607.03250), turned round: the share of samples
//! and positions where a neuron is *not* zero, so that larger stays.

use super::{Entry, Measure, Outcome, SAMPLES_ONLY, means};
use crate::{
    error::Result,
    features::FeatureBatch,
    sensitivity::{
        Norm, Request,
        cells::first,
        forward::SinkValues,
        redundancy::OnRanked,
        sums::{Layers, Sum},
        terms::Terms,
    },
};

pub(super) const ENTRY: Entry = Entry {
    name: "apoz",
    about: "share of samples where the neuron is not zero",
    uses: SAMPLES_ONLY,
    build,
    conclude,
};

struct Apoz {
    values: SinkValues,
    /// Per layer: how often each neuron was not zero, and positions per neuron.
    layers: Vec<(Vec<u64>, Vec<usize>)>,
}

fn build(request: Request<'_>, _: &[(Norm, Norm)]) -> Result<Box<dyn Measure>> {
    let widths = request.head.layers.iter().map(|layer| layer.width());
    Ok(Box::new(Apoz {
        values: SinkValues::new(request)?,
        layers: widths
            .map(|width| (vec![0; width], vec![1; width]))
            .collect(),
    }))
}

impl Measure for Apoz {
    fn add(&mut self, batch: &FeatureBatch) -> Result<()> {
        let values = self.values.run(batch)?;
        for ((active, present), sinks) in self.layers.iter_mut().zip(values) {
            let Some(cells) = first(sinks) else { continue };
            for sample in 0..batch.samples {
                for values in cells.of(0, sample).chunks(cells.neurons) {
                    let pairs = active.iter_mut().zip(values);
                    pairs.for_each(|(count, value)| *count += u64::from(*value != 0.0));
                }
            }
            *present = cells.present;
        }
        Ok(())
    }

    fn take(&mut self) -> Result<Layers> {
        let layers = self.layers.iter_mut().map(|(active, present)| {
            let empty = vec![0; active.len()];
            vec![
                Sum::Counts(std::mem::replace(active, empty)),
                Sum::places(present),
            ]
        });
        Ok(layers.collect())
    }
}

fn conclude(terms: &Terms, layers: Layers, _: &mut OnRanked<'_>) -> Result<Outcome> {
    Ok(means(terms, layers, |layer| {
        layer
            .counts()
            .into_iter()
            .map(|count| count as f64)
            .collect()
    }))
}
