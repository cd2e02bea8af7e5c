//! Weighted fluctuation, `var(x_i) · sum_j W_ji^2` (FLAP: An et al. 2024, arXiv:2312.11983, eq. 5),
//! added up over sinks and positions.

use super::{Entry, Measure, Outcome, SAMPLES_ONLY, for_each_norm};
use crate::{
    error::Result,
    features::FeatureBatch,
    sensitivity::{
        Norm, Request, cells::SinkView, forward::SinkValues, moments::Moments,
        redundancy::OnRanked, weights::outgoing,
    },
};

pub(super) const ENTRY: Entry = Entry {
    name: "wifv",
    about: "variance times squared outgoing weights",
    uses: SAMPLES_ONLY,
    build,
};

struct Wifv {
    values: SinkValues,
    norms: usize,
    /// Per layer and sink.
    layers: Vec<Vec<Sink>>,
}

struct Sink {
    /// Sum of squared weights of each place of the neurons' axis.
    energy: Vec<f64>,
    /// The moments of its cells, and the energy of each.
    seen: Option<(Moments, Vec<f64>)>,
}

fn build(request: Request<'_>, norms: &[(Norm, Norm)]) -> Result<Box<dyn Measure>> {
    let values = SinkValues::new(request)?;
    let sink = |view: &SinkView| {
        let mut energy = vec![0.0; view.sink.map.len()];
        outgoing(request, view, |place, _, weight| {
            energy[place] += weight * weight
        })?;
        Ok(Sink { energy, seen: None })
    };
    let layers = values.layers.iter();
    let layers = layers.map(|layer| layer.sinks.iter().map(sink).collect());
    Ok(Box::new(Wifv {
        layers: layers.collect::<Result<_>>()?,
        values,
        norms: norms.len(),
    }))
}

impl Measure for Wifv {
    fn add(&mut self, batch: &FeatureBatch) -> Result<()> {
        let values = self.values.run(batch)?;
        let views = &self.values.layers;
        for ((sinks, view), cells) in self.layers.iter_mut().zip(views).zip(values) {
            for ((sink, view), cells) in sinks.iter_mut().zip(&view.sinks).zip(cells) {
                let Sink { energy, seen } = sink;
                let (moments, _) = seen.get_or_insert_with(|| {
                    (
                        Moments::new(cells.plane()),
                        cells.spread(&view.sink.map, energy),
                    )
                });
                moments.add(batch.samples, &cells);
            }
        }
        Ok(())
    }

    fn finish(self: Box<Self>, _: &mut OnRanked<'_>) -> Result<Outcome> {
        let widths = self.values.layers.iter().map(|layer| {
            let sink = layer.sinks.first();
            sink.map_or(0, |sink| sink.width)
        });
        let layers = self.layers.iter().zip(widths).map(|(sinks, width)| {
            let mut scores = vec![0.0; width];
            for (moments, energy) in sinks.iter().filter_map(|sink| sink.seen.as_ref()) {
                for (cell, (variance, energy)) in moments.variances().iter().zip(energy).enumerate()
                {
                    scores[cell % width] += variance * energy;
                }
            }
            scores
        });
        let layers = layers.collect();
        Ok(for_each_norm(self.norms, layers))
    }
}
