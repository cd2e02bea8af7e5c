//! Local sensitivity: norms of the derivative of the class scores (see the module's head).

use std::fmt;

use super::{Entry, Measure, Outcome, Uses};
use crate::{
    error::{Error, Result},
    features::FeatureBatch,
    sensitivity::{
        Norm, Of, Request, Scale,
        cells::{SinkCells, added, first},
        gradient::{HeadGradient, Rows},
        linear,
        moments::Moments,
        power_sums::PowerSums,
        redundancy::{Carried, Observations, OnRanked, Redundancy, Residual, Worth, members},
        structure::Structure,
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
    way: Way,
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

/// Where the derivatives come from.
enum Way {
    /// An engine differentiates the head; why.
    Gradient(Box<HeadGradient>, String),
    /// The head is a chain of dense layers.
    Structure(Box<Structure>),
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
        way: Way::new(request, norms, scale != Scale::None)?,
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
        let values = match &mut self.way {
            Way::Structure(structure) => {
                if self.layers.iter().all(|layer| layer.sums.is_empty()) {
                    let sums = structure.sums(&self.norms)?;
                    let pairs = self.layers.iter_mut().zip(sums);
                    pairs.for_each(|(layer, sums)| layer.sums = sums);
                }
                let sums = self.layers.iter_mut().map(|layer| &mut *layer.sums);
                structure.add(batch, &mut sums.collect::<Vec<_>>())?
            }
            Way::Gradient(gradient, _) => {
                differentiate(gradient, batch, &self.norms, &mut self.layers)?
            }
        };
        let values = values.filter(|_| self.scale != Scale::None);
        for (layer, sinks) in self.layers.iter_mut().zip(values.into_iter().flatten()) {
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
        let sums = self.layers.iter_mut().flat_map(|layer| &mut layer.sums);
        sums.for_each(|sums| sums.count(batch.samples));
        self.done = self.constant;
        Ok(())
    }

    fn wants_more(&self) -> bool {
        !self.done
    }

    fn finish(mut self: Box<Self>, on_ranked: &mut OnRanked<'_>) -> Result<Outcome> {
        self.flush()?;
        let mut notes = std::mem::take(&mut self.notes);
        if self.scale == Scale::Residual {
            match self.by_residual(&mut notes, on_ranked)? {
                Ok(layers) => {
                    let scale = Some(self.scale);
                    return Ok(Outcome {
                        layers,
                        notes,
                        scale,
                        way: Some(self.way.to_string()),
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
            way: Some(self.way.to_string()),
            ..Outcome::from(pairs.map(layers).collect::<Vec<_>>())
        })
    }
}

impl Way {
    fn new(request: Request<'_>, norms: &[(Norm, Norm)], with_values: bool) -> Result<Self> {
        let kind = request.options.of.into();
        let info = request.engine.info();
        let structure = match info.precision {
            // Products of ours are the CPU's: not where a device was asked for.
            Some(_) => Err(format!("it computes on {}", info.provider)),
            None => Structure::new(request, kind, norms, with_values)?,
        };
        match structure {
            Ok(structure) => Ok(Self::Structure(Box::new(structure))),
            Err(why) => {
                let gradient = HeadGradient::new(request, kind, with_values)?;
                Ok(Self::Gradient(Box::new(gradient), why))
            }
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gradient(_, why) => write!(f, "from the head's gradient in the engine: {why}"),
            Self::Structure(structure) => f.write_str(&structure.how()),
        }
    }
}

/// Adds a batch by way of the engine; gives the layers' values where they were asked for.
fn differentiate(
    gradient: &mut HeadGradient,
    batch: &FeatureBatch,
    norms: &[(Norm, Norm)],
    layers: &mut [Layer],
) -> Result<Option<SinkCells>> {
    let classes = gradient.classes;
    let mut found = None;
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
        found = found.take().or(values);
        Ok(())
    })?;
    Ok(found)
}

impl Lsa {
    /// Whatever is not in the sums yet.
    fn flush(&mut self) -> Result<()> {
        if let Way::Structure(structure) = &mut self.way {
            let sums = self.layers.iter_mut().map(|layer| &mut *layer.sums);
            structure.flush(&mut sums.collect::<Vec<_>>())?;
        }
        Ok(())
    }

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
