//! Local sensitivity: norms of the derivative of the class scores (see the module's head).

use super::{Entry, Measure, Outcome, Uses};
use crate::{
    error::{Error, Result},
    features::FeatureBatch,
    head::Head,
    sensitivity::{
        Norm, Of, Request, Scale, Slopes,
        cells::{SinkCells, added, first},
        gradient::{HeadGradient, Rows},
        linear,
        moments::Moments,
        power_sums::PowerSums,
        redundancy::{Carried, Cost, Observations, OnRanked, Redundancy, Residual, Worth},
        structure::{OnDevice, Structure, worst_case},
        sums::{self, Layers, Sum, Taken},
        terms::Terms,
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
    conclude,
};

/// Said where one sample says all, and where none is needed.
const LINEAR: &str = "the logits are linear in these neurons: the derivatives are the same for \
                      every sample, so no data was needed";
const BOUND: &str = "the scores are the largest derivatives of the logits that any sample could \
                     have, so no data was needed";

struct Lsa {
    way: Way,
    norms: Vec<(Norm, Norm)>,
    scale: Scale,
    layers: Vec<Layer>,
    /// Whether one sample says all.
    constant: bool,
    done: bool,
}

/// Where the derivatives come from.
enum Way {
    /// An engine differentiates the head; why.
    Gradient(Box<HeadGradient>, String),
    /// The head is a chain of dense layers.
    Structure(Box<Structure>),
    /// The same, on a device.
    OnDevice(Box<OnDevice>),
    /// They were bounded, whatever the samples.
    Bound,
}

/// What is held of one layer.
struct Layer {
    width: usize,
    /// One per pair of norms, from the first batch on.
    sums: Vec<PowerSums>,
    moments: Option<Moments>,
    /// Its values, where the scale is the residual.
    rows: Option<Observations>,
}

fn build(request: Request<'_>, norms: &[(Norm, Norm)]) -> Result<Box<dyn Measure>> {
    let options = request.options;
    let scale = options.scale.resolved(request.real_samples);
    if options.slopes == Slopes::Worst
        && options.of == Of::Logits
        && scale == Scale::None
        && let Ok(sums) = worst_case(request.graph, request.head, norms)?
    {
        return Ok(Box::new(Lsa::from_weights(request.head, norms, sums)));
    }
    let constant = options.of == Of::Logits
        && scale == Scale::None
        && linear::is_linear(request.graph, request.head);
    let mut lsa = Lsa {
        way: Way::new(request, norms, scale != Scale::None)?,
        norms: norms.to_vec(),
        scale,
        layers: layers(request.head, scale),
        constant,
        done: false,
    };
    if constant && let Some(zeros) = linear::zeros(request.shapes, request.head) {
        lsa.add(&zeros)?;
    }
    Ok(Box::new(lsa))
}

fn layers(head: &Head, scale: Scale) -> Vec<Layer> {
    let layers = head.layers.iter().map(|layer| Layer {
        width: layer.width(),
        sums: Vec::new(),
        moments: None,
        rows: (scale == Scale::Residual).then(|| Observations::new(layer.width())),
    });
    layers.collect()
}

impl Measure for Lsa {
    fn add(&mut self, batch: &FeatureBatch) -> Result<()> {
        self.make_sums()?;
        let sums = self.layers.iter_mut().map(|layer| &mut *layer.sums);
        let values = match &mut self.way {
            Way::Structure(structure) => structure.add(batch, &mut sums.collect::<Vec<_>>())?,
            Way::OnDevice(device) => device.add(batch, &mut sums.collect::<Vec<_>>())?,
            Way::Bound => None,
            Way::Gradient(gradient, _) => {
                differentiate(gradient, batch, &self.norms, &mut self.layers)?
            }
        };
        let values = values.filter(|_| self.scale != Scale::None);
        for (layer, sinks) in self.layers.iter_mut().zip(values.into_iter().flatten()) {
            let Some(cells) = first(sinks) else { continue };
            if let Some(rows) = &mut layer.rows {
                let values = &cells.values[..batch.samples * cells.plane()];
                rows.add(values, cells.positions);
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

    fn begin(&mut self, sample: u64) {
        if let Way::Structure(structure) = &mut self.way {
            structure.begin(sample);
        }
        let rows = self
            .layers
            .iter_mut()
            .filter_map(|layer| layer.rows.as_mut());
        rows.for_each(|rows| rows.begin(sample));
    }

    fn take(&mut self) -> Result<Layers> {
        self.flush()?;
        let layers = self.layers.iter_mut().map(|layer| {
            let rows = layer.rows.as_mut().map(|rows| {
                let empty = Observations::new(layer.width);
                Sum::Observations(std::mem::replace(rows, empty))
            });
            let sums = layer.sums.drain(..).map(Sum::Powers);
            let spread = layer.moments.take().map(Sum::Moments).or(rows);
            sums.chain(spread).collect()
        });
        Ok(layers.collect())
    }

    fn notes(&self) -> Vec<String> {
        let text = match &self.way {
            Way::Bound if self.layers.len() > 1 => Some(BOUND.to_owned()),
            Way::Structure(structure) if !self.constant => structure.note(),
            _ => self.constant.then(|| LINEAR.to_owned()),
        };
        text.into_iter().collect()
    }

    fn way(&self) -> Option<sums::Way> {
        Some(match &self.way {
            Way::Gradient(_, why) => sums::Way {
                text: format!("from the head's gradient in the engine: {why}"),
                ..sums::Way::default()
            },
            Way::Structure(structure) => structure.how(),
            Way::OnDevice(device) => device.how(),
            Way::Bound => sums::Way {
                text: "bounded by products of absolute weights".to_owned(),
                ..sums::Way::default()
            },
        })
    }
}

impl Way {
    fn new(request: Request<'_>, norms: &[(Norm, Norm)], with_values: bool) -> Result<Self> {
        let kind = request.options.of.into();
        let info = request.engine.info();
        let found = match info.precision {
            // Products of ours are the CPU's: not where a device was asked for.
            Some(_) => OnDevice::new(request, kind, norms, with_values)?
                .map(|device| Self::OnDevice(Box::new(device))),
            None => Structure::new(request, kind, norms, with_values)?
                .map(|structure| Self::Structure(Box::new(structure))),
        };
        match found {
            Ok(way) => Ok(way),
            Err(why) => {
                let options = request.options;
                if options.row_tolerance.is_some() || options.probes.is_some() {
                    let name = match options.probes {
                        Some(_) => "--probes",
                        None => "--row-tolerance",
                    };
                    return Err(Error::Argument {
                        name,
                        what: format!(
                            "has an effect on heads that are chains of dense layers only; {why}"
                        ),
                    });
                }
                let gradient = HeadGradient::new(request, kind, with_values)?;
                Ok(Self::Gradient(Box::new(gradient), why))
            }
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
    /// Sums that are complete without a sample.
    fn from_weights(head: &Head, norms: &[(Norm, Norm)], sums: Vec<Vec<PowerSums>>) -> Self {
        let mut layers = layers(head, Scale::None);
        let pairs = layers.iter_mut().zip(sums);
        pairs.for_each(|(layer, sums)| layer.sums = sums);
        Self {
            way: Way::Bound,
            norms: norms.to_vec(),
            scale: Scale::None,
            layers,
            constant: true,
            done: true,
        }
    }

    /// Sums for the first batch of a chain, and for the first after they were taken.
    fn make_sums(&mut self) -> Result<()> {
        if self.layers.iter().any(|layer| !layer.sums.is_empty()) {
            return Ok(());
        }
        let sums = match &self.way {
            Way::Structure(structure) => structure.sums(&self.norms)?,
            Way::OnDevice(device) => device.sums(&self.norms)?,
            Way::Bound | Way::Gradient(..) => return Ok(()),
        };
        let pairs = self.layers.iter_mut().zip(sums);
        pairs.for_each(|(layer, sums)| layer.sums = sums);
        Ok(())
    }

    /// Whatever is not in the sums yet.
    fn flush(&mut self) -> Result<()> {
        let sums = self.layers.iter_mut().map(|layer| &mut *layer.sums);
        match &mut self.way {
            Way::Structure(structure) => structure.flush(&mut sums.collect::<Vec<_>>()),
            Way::OnDevice(device) => device.flush(&mut sums.collect::<Vec<_>>()),
            Way::Bound | Way::Gradient(..) => Ok(()),
        }
    }
}

/// What was added up of one layer.
struct Found {
    sums: Vec<PowerSums>,
    moments: Option<Moments>,
    rows: Option<Observations>,
}

fn conclude(terms: &Terms, layers: Layers, on_ranked: &mut OnRanked<'_>) -> Result<Outcome> {
    let layers = layers.into_iter().map(|layer| {
        let mut layer = Taken::from(layer);
        Found {
            sums: std::iter::from_fn(|| layer.powers()).collect(),
            moments: layer.moments(),
            rows: layer.observations(),
        }
    });
    let mut layers: Vec<Found> = layers.collect();
    let mut scale = terms.scale.resolved(terms.real_samples);
    let mut notes = Vec::new();
    if scale == Scale::Residual {
        match by_residual(terms, &mut layers, &mut notes, on_ranked)? {
            Ok(layers) => {
                let scale = Some(scale);
                return Ok(Outcome {
                    layers,
                    notes,
                    scale,
                });
            }
            Err(why) if terms.scale == Scale::Auto => {
                notes.push(format!("{why}; the scores are those of --scale none"));
                scale = Scale::None;
            }
            Err(what) => {
                return Err(Error::Argument {
                    name: "--scale",
                    what,
                });
            }
        }
    }
    let pairs = 0..terms.norms.len();
    let scores = |pair| {
        layers
            .iter()
            .map(|layer| layer.score(pair, scale))
            .collect()
    };
    Ok(Outcome {
        notes,
        scale: Some(scale),
        ..Outcome::from(pairs.map(scores).collect::<Vec<_>>())
    })
}

impl Found {
    fn score(&self, pair: usize, scale: Scale) -> Vec<f64> {
        let moments = self.moments.as_ref();
        let factors = moments.and_then(|moments| match scale {
            Scale::Std => Some(moments.deviations()),
            Scale::Range => Some(moments.ranges()),
            Scale::Auto | Scale::None | Scale::Residual => None,
        });
        let sums = self.sums.get(pair);
        sums.map_or_else(Vec::new, |sums| sums.scores(factors.as_deref()))
    }
}

/// The greedy choice by `Phi_i · r_i`; of a unit, the q-norm of that over its neurons. `Err` with
/// the reason where the values tell nothing of redundancy.
fn by_residual(
    terms: &Terms,
    layers: &mut [Found],
    notes: &mut Vec<String>,
    on_ranked: &mut OnRanked<'_>,
) -> Result<Result<Vec<Vec<Worth>>, String>> {
    let mut found: Vec<Vec<Worth>> = vec![Vec::new(); terms.norms.len()];
    for (layer, facts) in layers.iter_mut().zip(&terms.layers) {
        let prepared = match layer.rows.take() {
            Some(rows) => Redundancy::new(&facts.name, rows, facts.members(), None)?,
            None => None,
        };
        let Some(prepared) = prepared else {
            return Ok(Err(format!(
                "residual needs samples that differ, and no neuron of layer {:?} varies over these",
                facts.name
            )));
        };
        notes.extend(prepared.note.clone());
        let costs = terms.norms.iter().enumerate();
        let costs = costs.map(|(pair, &(_, over_classes))| {
            let phi = layer.score(pair, Scale::Residual);
            move |neurons: &[usize], residual: &Residual, _: Carried<'_>| {
                let neurons = neurons.iter().enumerate();
                over_classes.of(neurons.map(|(k, &neuron)| phi[neuron] * residual.deviation(k)))
            }
        });
        let costs: Vec<_> = costs.collect();
        let costs: Vec<&Cost<'_>> = costs.iter().map(|cost| cost as &Cost<'_>).collect();
        let worths = prepared.rank_by(&costs, on_ranked)?;
        let pairs = found.iter_mut().zip(worths);
        pairs.for_each(|(found, worth)| found.push(worth));
    }
    Ok(Ok(found))
}
