//! Weighted fluctuation, `var(x_i) · sum_j W_ji^2` (FLAP: An et al. 2024, arXiv:2312.11983, eq. 5),
//! added up over sinks and positions.

use super::{Entry, Measure, Outcome, SAMPLES_ONLY, for_each_norm};
use crate::{
    error::Result,
    features::FeatureBatch,
    sensitivity::{
        Norm, Request,
        cells::SinkView,
        forward::SinkValues,
        moments::Moments,
        redundancy::OnRanked,
        sums::{Layers, Sum, Taken},
        terms::Terms,
        weights::outgoing,
    },
};

pub(super) const ENTRY: Entry = Entry {
    name: "wifv",
    about: "variance times squared outgoing weights",
    uses: SAMPLES_ONLY,
    build,
    conclude,
};

struct Wifv {
    values: SinkValues,
    /// Per layer and sink.
    layers: Vec<Vec<Sink>>,
}

struct Sink {
    /// Sum of squared weights of each place of the neurons' axis.
    energy: Vec<f64>,
    /// The moments of its cells, and the energy of each.
    seen: Option<(Moments, Vec<f64>)>,
}

fn build(request: Request<'_>, _: &[(Norm, Norm)]) -> Result<Box<dyn Measure>> {
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

    fn take(&mut self) -> Result<Layers> {
        let sums = |sink: &mut Sink| match sink.seen.take() {
            Some((moments, energy)) => vec![Sum::Moments(moments), Sum::Fixed(energy)],
            None => Vec::new(),
        };
        let layers = self.layers.iter_mut();
        let layers = layers.map(|sinks| sinks.iter_mut().flat_map(sums).collect());
        Ok(layers.collect())
    }
}

fn conclude(terms: &Terms, layers: Layers, _: &mut OnRanked<'_>) -> Result<Outcome> {
    let layers = layers.into_iter().zip(&terms.layers).map(|(layer, facts)| {
        let mut layer = Taken::from(layer);
        let mut scores = vec![0.0; facts.width];
        while let Some(moments) = layer.moments() {
            let pairs = moments.variances().into_iter().zip(layer.fixed());
            for (cell, (variance, energy)) in pairs.enumerate() {
                scores[cell % facts.width] += variance * energy;
            }
        }
        scores
    });
    Ok(for_each_norm(terms, layers.collect()))
}
