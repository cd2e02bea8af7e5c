//! Local sensitivity: norms of the derivative of the class scores (see the module's head).

use super::{Entry, Measure, Outcome, Uses};
use crate::{
    error::{Error, Result},
    features::FeatureBatch,
    sensitivity::{
        Norm, Of, Request, Scale,
        cells::{added, first},
        gradient::{HeadGradient, Rows},
        linear,
        moments::Moments,
        power_sums::PowerSums,
        redundancy::{Carried, Observations, OnRanked, Redundancy, Residual, Worth, members},
    },
};

pub(super) const ENTRY: Entry = Entry {
    name: "lsa",
    about: "norm of the class scores' derivative (local sensitivity)",
    uses: Uses {
        samples: true,
        norm: true,
        classes: true,
        of: true,
        scale: true,
        seed: false,
    },
    build,
};

struct Lsa {
    gradient: HeadGradient,
    norms: Vec<(Norm, Norm)>,
    scale: Scale,
    /// Whether the scale was left to the tool.
    auto: bool,
    layers: Vec<Layer>,
    /// Whether one sample says all.
    constant: bool,
    done: bool,
    notes: Vec<String>,
}

/// What is held of one layer.
struct Layer {
    name: String,
    units: Vec<Vec<usize>>,
    /// One per pair of norms, from the first batch on.
    sums: Vec<PowerSums>,
    moments: Option<Moments>,
    /// Its values, where the scale is the residual.
    rows: Option<Observations>,
}

fn build(request: Request<'_>, norms: &[(Norm, Norm)]) -> Result<Box<dyn Measure>> {
    let options = request.options;
    let scale = options.scale.resolved(request.real_samples);
    let constant = options.of == Of::Logits
        && scale == Scale::None
        && linear::is_linear(request.graph, request.head);
    let mut lsa = Lsa {
        gradient: HeadGradient::new(request, options.of.into(), scale != Scale::None)?,
        norms: norms.to_vec(),
        scale,
        auto: options.scale == Scale::Auto,
        layers: request
            .head
            .layers
            .iter()
            .map(|layer| Layer {
                name: layer.name.clone(),
                units: members(layer.units.as_deref(), layer.width()),
                sums: Vec::new(),
                moments: None,
                rows: (scale == Scale::Residual).then(|| Observations::new(layer.width())),
            })
            .collect(),
        constant,
        done: false,
        notes: Vec::new(),
    };
    if constant {
        lsa.notes.push(
            "the logits are linear in these neurons: the derivatives are the same for every \
             sample, so no data was needed"
                .to_owned(),
        );
        if let Some(zeros) = linear::zeros(request.shapes, request.head) {
            lsa.add(&zeros)?;
        }
    }
    Ok(Box::new(lsa))
}

impl Measure for Lsa {
    fn add(&mut self, batch: &FeatureBatch) -> Result<()> {
        let Self {
            gradient,
            norms,
            layers,
            scale,
            ..
        } = self;
        let classes = gradient.classes;
        gradient.jacobian(batch, |rows, values| {
            let Rows {
                first: class,
                count,
                layers: cotangents,
            } = rows;
            for (layer, sinks) in layers.iter_mut().zip(cotangents) {
                let Some(cells) = added(sinks) else { continue };
                if layer.sums.is_empty() {
                    let sums = norms
                        .iter()
                        .map(|&norms| PowerSums::new(norms, classes, &cells));
                    layer.sums = sums.collect::<Result<_>>()?;
                }
                for sums in &mut layer.sums {
                    sums.add(class, count, batch.samples, &cells);
                }
            }
            let values = values.filter(|_| *scale != Scale::None);
            for (layer, sinks) in layers.iter_mut().zip(values.into_iter().flatten()) {
                let Some(cells) = first(sinks) else { continue };
                if let Some(rows) = &mut layer.rows {
                    rows.add(&cells.values[..batch.samples * cells.plane()]);
                    continue;
                }
                let moments = layer
                    .moments
                    .get_or_insert_with(|| Moments::new(cells.plane()));
                moments.add(batch.samples, &cells);
            }
            Ok(())
        })?;
        let sums = self.layers.iter_mut().flat_map(|layer| &mut layer.sums);
        sums.for_each(|sums| sums.count(batch.samples));
        self.done = self.constant;
        Ok(())
    }

    fn wants_more(&self) -> bool {
        !self.done
    }

    fn finish(mut self: Box<Self>, on_ranked: &mut OnRanked<'_>) -> Result<Outcome> {
        let mut notes = std::mem::take(&mut self.notes);
        if self.scale == Scale::Residual {
            match self.by_residual(&mut notes, on_ranked)? {
                Ok(layers) => {
                    let scale = Some(self.scale);
                    return Ok(Outcome {
                        layers,
                        notes,
                        scale,
                    });
                }
                Err(why) if self.auto => {
                    notes.push(format!("{why}; the scores are those of --scale none"));
                    self.scale = Scale::None;
                }
                Err(what) => {
                    return Err(Error::Argument {
                        name: "--scale",
                        what,
                    });
                }
            }
        }
        let pairs = 0..self.norms.len();
        let layers = |pair| {
            self.layers
                .iter()
                .map(|layer| self.score(layer, pair))
                .collect()
        };
        Ok(Outcome {
            notes,
            scale: Some(self.scale),
            ..Outcome::from(pairs.map(layers).collect::<Vec<_>>())
        })
    }
}

impl Lsa {
    fn score(&self, layer: &Layer, pair: usize) -> Vec<f64> {
        let moments = layer.moments.as_ref();
        let factors = moments.and_then(|moments| match self.scale {
            Scale::Std => Some(moments.deviations()),
            Scale::Range => Some(moments.ranges()),
            Scale::Auto | Scale::None | Scale::Residual => None,
        });
        let sums = layer.sums.get(pair);
        sums.map_or_else(Vec::new, |sums| sums.scores(factors.as_deref()))
    }

    /// The greedy choice by `Phi_i · r_i`; of a unit, the q-norm of that over its neurons. `Err`
    /// with the reason where the values tell nothing of redundancy.
    fn by_residual(
        &mut self,
        notes: &mut Vec<String>,
        on_ranked: &mut OnRanked<'_>,
    ) -> Result<Result<Vec<Vec<Worth>>, String>> {
        let mut found: Vec<Vec<Worth>> = vec![Vec::new(); self.norms.len()];
        for index in 0..self.layers.len() {
            let layer = &mut self.layers[index];
            let (name, units) = (layer.name.clone(), layer.units.clone());
            let prepared = match layer.rows.take() {
                Some(rows) => Redundancy::new(&name, rows, units, None)?,
                None => None,
            };
            let Some(prepared) = prepared else {
                return Ok(Err(format!(
                    "residual needs samples that differ, and no neuron of layer {name:?} varies over these"
                )));
            };
            notes.extend(prepared.note.clone());
            for (pair, &(_, over_classes)) in self.norms.iter().enumerate() {
                let phi = self.score(&self.layers[index], pair);
                let cost = |neurons: &[usize], residual: &Residual, _: Carried<'_>| {
                    let terms = neurons.iter().enumerate();
                    over_classes.of(terms.map(|(k, &neuron)| phi[neuron] * residual.deviation(k)))
                };
                found[pair].push(prepared.rank(&cost, on_ranked)?);
            }
        }
        Ok(Ok(found))
    }
}
