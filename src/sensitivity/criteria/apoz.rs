//! Average percentage of zeros (Hu et al. 2016, arXiv:1607.03250), turned round: the share of samples
//! and positions where a neuron is *not* zero, so that larger stays.

use super::{Entry, Measure, Outcome, SAMPLES_ONLY, for_each_norm};
use crate::{
    error::Result,
    features::FeatureBatch,
    sensitivity::{Norm, Request, cells::first, forward::SinkValues, redundancy::OnRanked},
};

pub(super) const ENTRY: Entry = Entry {
    name: "apoz",
    about: "share of samples where the neuron is not zero",
    uses: SAMPLES_ONLY,
    build,
};

struct Apoz {
    values: SinkValues,
    norms: usize,
    samples: usize,
    /// Per layer: how often each neuron was not zero, and positions per neuron.
    layers: Vec<(Vec<u64>, Vec<usize>)>,
}

fn build(request: Request<'_>, norms: &[(Norm, Norm)]) -> Result<Box<dyn Measure>> {
    let widths = request.head.layers.iter().map(|layer| layer.width());
    Ok(Box::new(Apoz {
        values: SinkValues::new(request)?,
        norms: norms.len(),
        samples: 0,
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
        self.samples += batch.samples;
        Ok(())
    }

    fn finish(self: Box<Self>, _: &mut OnRanked<'_>) -> Result<Outcome> {
        let samples = self.samples;
        let share = |(count, places): (u64, usize)| count as f64 / (samples * places).max(1) as f64;
        let layers = self.layers.into_iter();
        let layers =
            layers.map(|(active, present)| active.into_iter().zip(present).map(share).collect());
        Ok(for_each_norm(self.norms, layers.collect()))
    }
}
