//! Mean absolute value over samples and positions.

use super::{Entry, Measure, Outcome, SAMPLES_ONLY, for_each_norm};
use crate::{
    error::Result,
    features::FeatureBatch,
    sensitivity::{Norm, Request, cells::first, forward::SinkValues, redundancy::OnRanked},
};

pub(super) const ENTRY: Entry = Entry {
    name: "activation",
    about: "mean absolute value",
    uses: SAMPLES_ONLY,
    build,
};

struct Activation {
    values: SinkValues,
    norms: usize,
    samples: usize,
    /// Per layer: sum of |x| per neuron, and positions per neuron.
    layers: Vec<(Vec<f64>, Vec<usize>)>,
}

fn build(request: Request<'_>, norms: &[(Norm, Norm)]) -> Result<Box<dyn Measure>> {
    let widths = request.head.layers.iter().map(|layer| layer.width());
    Ok(Box::new(Activation {
        values: SinkValues::new(request)?,
        norms: norms.len(),
        samples: 0,
        layers: widths
            .map(|width| (vec![0.0; width], vec![1; width]))
            .collect(),
    }))
}

impl Measure for Activation {
    fn add(&mut self, batch: &FeatureBatch) -> Result<()> {
        let values = self.values.run(batch)?;
        for ((sums, present), sinks) in self.layers.iter_mut().zip(values) {
            let Some(cells) = first(sinks) else { continue };
            for sample in 0..batch.samples {
                for values in cells.of(0, sample).chunks(cells.neurons) {
                    let pairs = sums.iter_mut().zip(values);
                    pairs.for_each(|(sum, value)| *sum += f64::from(value.abs()));
                }
            }
            *present = cells.present;
        }
        self.samples += batch.samples;
        Ok(())
    }

    fn finish(self: Box<Self>, _: &mut OnRanked<'_>) -> Result<Outcome> {
        let samples = self.samples;
        let mean = |(sum, places): (f64, usize)| sum / (samples * places).max(1) as f64;
        let layers = self.layers.into_iter();
        let layers =
            layers.map(|(sums, present)| sums.into_iter().zip(present).map(mean).collect());
        Ok(for_each_norm(self.norms, layers.collect()))
    }
}
