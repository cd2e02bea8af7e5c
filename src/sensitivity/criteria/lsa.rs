//! Local sensitivity: norms of the derivative of the class scores (see the module's head).

use super::{Entry, Measure, Uses};
use crate::{
    error::Result,
    features::FeatureBatch,
    sensitivity::{
        Norm, Of, Request, Scale,
        cells::{added, first},
        gradient::{HeadGradient, Rows},
        linear,
        moments::Moments,
        power_sums::PowerSums,
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
    layers: Vec<Layer>,
    /// Whether one sample says all.
    constant: bool,
    done: bool,
    notes: Vec<String>,
}

/// What is held of one layer.
#[derive(Default)]
struct Layer {
    /// One per pair of norms, from the first batch on.
    sums: Vec<PowerSums>,
    moments: Option<Moments>,
}

fn build(request: Request<'_>, norms: &[(Norm, Norm)]) -> Result<Box<dyn Measure>> {
    let options = request.options;
    let scale = options.scale.resolved();
    let constant = options.of == Of::Logits
        && scale == Scale::None
        && linear::is_linear(request.graph, request.head);
    let mut lsa = Lsa {
        gradient: HeadGradient::new(request, options.of.into(), scale != Scale::None)?,
        norms: norms.to_vec(),
        scale,
        layers: request
            .head
            .layers
            .iter()
            .map(|_| Layer::default())
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

    fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }

    fn finish(self: Box<Self>) -> Result<Vec<Vec<Vec<f64>>>> {
        let score = |layer: &Layer, pair: usize| {
            let moments = layer.moments.as_ref();
            let factors = moments.and_then(|moments| match self.scale {
                Scale::Std => Some(moments.deviations()),
                Scale::Range => Some(moments.ranges()),
                Scale::Auto | Scale::None => None,
            });
            let sums = layer.sums.get(pair);
            sums.map_or_else(Vec::new, |sums| sums.scores(factors.as_deref()))
        };
        let pairs = 0..self.norms.len();
        let layers = |pair| self.layers.iter().map(|layer| score(layer, pair)).collect();
        Ok(pairs.map(layers).collect())
    }
}
