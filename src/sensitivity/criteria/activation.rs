//! Mean absolute value over samples and positions.

use super::{Entry, Measure, Outcome, SAMPLES_ONLY, means};
use crate::{
    error::Result,
    features::FeatureBatch,
    sensitivity::{
        Norm, Request,
        cells::first,
        forward::SinkValues,
        redundancy::OnRanked,
        sums::{Layers, Sum, Taken},
        terms::Terms,
    },
};

pub(super) const ENTRY: Entry = Entry {
    name: "activation",
    about: "mean absolute value",
    uses: SAMPLES_ONLY,
    build,
    conclude,
};

struct Activation {
    values: SinkValues,
    /// Per layer: sum of |x| per neuron, and positions per neuron.
    layers: Vec<(Vec<f64>, Vec<usize>)>,
}

fn build(request: Request<'_>, _: &[(Norm, Norm)]) -> Result<Box<dyn Measure>> {
    let widths = request.head.layers.iter().map(|layer| layer.width());
    Ok(Box::new(Activation {
        values: SinkValues::new(request)?,
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
        Ok(())
    }

    fn take(&mut self) -> Result<Layers> {
        let layers = self.layers.iter_mut().map(|(sums, present)| {
            let empty = vec![0.0; sums.len()];
            vec![
                Sum::Totals(std::mem::replace(sums, empty)),
                Sum::places(present),
            ]
        });
        Ok(layers.collect())
    }
}

fn conclude(terms: &Terms, layers: Layers, _: &mut OnRanked<'_>) -> Result<Outcome> {
    Ok(means(terms, layers, Taken::totals))
}
