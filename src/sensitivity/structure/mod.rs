//! Local sensitivity of heads that are chains of dense layers, from their weights.
//!
//! The general way lets an engine differentiate the head and carries one row per class through all
//! of it. In a chain, one sample's derivatives are a product of weights with slopes between them,
//!
//! ```text
//! S = T · W3 · D2 · W2 · D1 · W1        T the derivative of Softmax or Sigmoid, D slopes
//! ```
//!
//! and much of that product need not be computed: T W3 is element-wise (`last`); units whose slope
//! is 0 take part in nothing (`groups`, `product`); like samples share most of theirs
//! (`neighbours`); and sums of squares need no S at all (`gram`). The engine runs the head forward
//! and gives the slopes (`passes`). Products are f32, sums f64.
//!
//! B samples of a batch, K classes, F neurons of a layer, H outputs of the dense layer that reads it.

mod approximation;
mod chain;
mod gram;
mod groups;
mod last;
mod matrix;
mod neighbours;
mod passes;
mod probes;
mod product;
#[cfg(test)]
mod tests;
mod worst;

use std::{collections::BTreeSet, ops::Range};

use ndarray::{Array2, Axis};
use rayon::prelude::*;

use super::{
    Norm, Request,
    cells::{LayerView, SinkCells, views},
    forward::not_finite,
    power_sums::PowerSums,
    sums::Way,
    target::Kind,
};
use crate::{error::Result, features::FeatureBatch};

use approximation::{Approximation, Checked};
use chain::Chain;
use gram::Gram;
use groups::{Group, Patterns, Tree};
use last::Below;
use neighbours::{LONGEST, Neighbours};
use passes::{Pass, Passes, Rows, Tail};
use probes::Probes;
use product::Factors;

pub use worst::has_worst_case;
pub(super) use worst::worst_case;

/// Largest set of rows `[B·K, H]` that is held, in bytes: four samples of VGG16's 1000 classes.
const ROWS_BYTES: usize = 64 << 20;

/// Most samples that are compared with one another.
const COMPARED: usize = 1024;

/// Most samples that are grouped for products: groups gain little by more, and comparing all with
/// all would take longer than the products.
const GROUPED: usize = 256;

/// Most rows of L that one task of `neighbours` holds: 2 MB of them.
const KEPT_ROWS: usize = 16_384;

/// Rows that groups of samples are tried with.
const TRIED_ROWS: [usize; 4] = [40, 80, 160, 640];

/// What copying and packing one weight for a product costs, in multiplications; measured with 82
/// units, 3136 columns, 10 rows.
const PACKING: usize = 14;

/// What a multiplication in `neighbours` costs, in those of a product.
const LOOSE: usize = 2;

/// Samples that approximations are checked on.
const CHECKED: usize = 64;

/// Samples over which the product that ends a Gram matrix is spread when the two ways are compared.
const SPREAD: usize = 256;

/// A number that is none.
#[derive(Debug)]
struct Bad {
    neuron: usize,
    /// The place in its batch; nothing where sums are all there is.
    sample: Option<usize>,
}

/// A head that is a chain, ready to take batches.
pub(super) struct Structure {
    chain: Chain,
    passes: Passes,
    layers: Vec<LayerView>,
    classes: usize,
    /// Per layer, where the squares are summed up without the derivatives.
    grams: Vec<Option<Gram>>,
    /// What was done, layer by layer, since the beginning.
    used: BTreeSet<(usize, &'static str)>,
    norms: Vec<(Norm, Norm)>,
    approximation: Approximation,
    /// What the approximation did to the first samples.
    checked: Option<Checked>,
    /// Samples so far.
    seen: u64,
}

impl Structure {
    /// Recognises the head; why it has to go the general way, otherwise.
    ///
    /// # Errors
    /// [`crate::Error::Engine`] when the engine cannot load a part of the head.
    pub(super) fn new(
        request: Request<'_>,
        kind: Kind,
        norms: &[(Norm, Norm)],
        with_values: bool,
    ) -> Result<Result<Self, String>> {
        let (graph, shapes, head) = (request.graph, request.shapes, request.head);
        let chain = match Chain::find(graph, Some(shapes), head) {
            Ok(chain) => chain,
            Err(why) => return Ok(Err(why)),
        };
        Approximation::of(request.options).check(&chain)?;
        let tail = Tail::new(kind, head.scores.ending);
        let passes = Passes::new(request, &chain, tail, with_values)?;
        let squares = norms
            .iter()
            .all(|&norms| norms == (Norm::P(2.0), Norm::P(2.0)));
        let classes = head.scores.classes;
        let last = chain.links.len() - 1;
        let links = chain.links.iter().enumerate();
        let grams = links.map(|(level, link)| {
            let (height, width) = (link.weights.outputs(), link.weights.inputs());
            let pays = level < last && squares && gram_pays(classes, height, width);
            pays.then(|| Gram::new(height))
        });
        Ok(Ok(Self {
            grams: grams.collect(),
            layers: views(graph, head),
            used: BTreeSet::new(),
            norms: norms.to_vec(),
            approximation: Approximation::of(request.options),
            checked: None,
            seen: 0,
            chain,
            passes,
            classes,
        }))
    }

    /// Sums that fit these layers, one per pair of norms.
    pub(super) fn sums(&self, norms: &[(Norm, Norm)]) -> Result<Vec<Vec<PowerSums>>> {
        let layers = self.chain.links.iter().map(|link| {
            let sums = norms
                .iter()
                .map(|&norms| PowerSums::of_neurons(norms, self.classes, link.weights.inputs()));
            sums.collect()
        });
        layers.collect()
    }

    /// Adds a batch to the sums of each layer; gives the layers' values where they were asked for.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] naming the first neuron where a number is not finite.
    pub(super) fn add(
        &mut self,
        batch: &FeatureBatch,
        sums: &mut [&mut [PowerSums]],
    ) -> Result<Option<SinkCells>> {
        let mut pass = self.passes.run(batch, &self.layers, self.classes)?;
        if self.checked.is_none() && self.approximation.is_any() {
            self.checked = Some(self.check(&mut pass, batch.samples.min(CHECKED))?);
        }
        if let Some(tolerance) = self.approximation.row_tolerance {
            pass.rows = pass.rows_above(tolerance, self.classes);
        }
        self.add_samples(&pass, batch.samples, sums)?;
        self.seen += batch.samples as u64;
        Ok(pass.values.take())
    }

    fn add_samples(
        &mut self,
        pass: &Pass,
        samples: usize,
        sums: &mut [&mut [PowerSums]],
    ) -> Result<()> {
        let size = self.block();
        for start in (0..samples).step_by(size) {
            let range = start..(start + size).min(samples);
            if let Err((level, bad)) = self.add_range(pass, range, sums)? {
                return Err(self.refused(level, &bad));
            }
        }
        Ok(())
    }

    /// Scores the first samples twice, with the approximation and without.
    fn check(&mut self, pass: &mut Pass, samples: usize) -> Result<Checked> {
        let grams: Vec<Option<Gram>> = self.grams.iter().map(|_| None).collect();
        let grams = std::mem::replace(&mut self.grams, grams);
        let used = self.used.clone();
        let approximation = self.approximation;
        let mut found = Vec::new();
        for approximation in [Approximation::default(), approximation] {
            self.approximation = approximation;
            if let Some(tolerance) = approximation.row_tolerance {
                pass.rows = pass.rows_above(tolerance, self.classes);
            }
            let mut sums = self.sums(&self.norms)?;
            let mut parts: Vec<&mut [PowerSums]> =
                sums.iter_mut().map(|sums| &mut **sums).collect();
            self.add_samples(pass, samples, &mut parts)?;
            sums.iter_mut()
                .flatten()
                .for_each(|sums| sums.count(samples));
            found.push(sums);
        }
        let rows: usize = (0..samples).map(|sample| pass.rows.of(sample).len()).sum();
        let left_out = 1.0 - rows as f64 / (samples * self.classes) as f64;
        (self.grams, self.used) = (grams, used);
        Ok(Checked::new(samples, left_out, &found[0], &found[1]))
    }

    /// Moves what is held besides the sums into them.
    ///
    /// # Errors
    /// As [`Structure::add`].
    pub(super) fn flush(&mut self, sums: &mut [&mut [PowerSums]]) -> Result<()> {
        for (level, gram) in self.grams.iter_mut().enumerate() {
            let Some(gram) = gram.as_mut().filter(|gram| !gram.is_empty()) else {
                continue;
            };
            let squares = gram.take_squares(&self.chain.links[level].weights);
            if let Some(neuron) = squares.iter().position(|square| !square.is_finite()) {
                let bad = Bad {
                    neuron,
                    sample: None,
                };
                return Err(self.refused(level, &bad));
            }
            for sums in sums[level].iter_mut() {
                sums.add_squares(&squares);
            }
        }
        Ok(())
    }

    /// What approximations cost, in words; nothing where there are none.
    pub(super) fn note(&self) -> Option<String> {
        let checked = self.checked.as_ref()?;
        Some(checked.note(self.approximation))
    }

    /// The next sample is this one of all.
    pub(super) fn begin(&mut self, sample: u64) {
        self.seen = sample;
    }

    /// How the derivatives came about.
    pub(super) fn how(&self) -> Way {
        let used = self.used.iter();
        Way {
            text: "from the weights, as the head is a chain of dense layers".to_owned(),
            used: used
                .map(|&(level, what)| (level, what.to_owned()))
                .collect(),
        }
    }

    fn refused(&self, level: usize, bad: &Bad) -> crate::Error {
        let place = bad
            .sample
            .map(|sample| format!(" for sample {sample} of a batch"));
        let place = place.unwrap_or_default();
        not_finite(&self.layers[level], bad.neuron, &place, "derivative")
    }

    /// Samples that are worked on together.
    fn block(&self) -> usize {
        let hidden = &self.chain.links[..self.chain.links.len() - 1];
        let widest = hidden.iter().map(|link| link.weights.outputs()).max();
        let row = widest.unwrap_or(1) * self.classes * size_of::<f32>();
        let most = match self.is_shallow() {
            true => KEPT_ROWS / self.classes,
            false => GROUPED,
        };
        (ROWS_BYTES / row).min(most).clamp(1, COMPARED)
    }

    /// Whether derivatives may follow from those of like samples.
    fn is_shallow(&self) -> bool {
        self.chain.links.len() == 2
            && self.grams[0].is_none()
            && self.approximation.probes.is_none()
    }

    fn add_range(
        &mut self,
        pass: &Pass,
        range: Range<usize>,
        sums: &mut [&mut [PowerSums]],
    ) -> Result<Result<(), (usize, Bad)>> {
        let last = self.chain.links.len() - 1;
        let weights = &self.chain.links[last].weights;
        let levels: Vec<Level> = (0..last)
            .map(|level| self.level(pass, level, &range))
            .collect();
        self.used.insert((last, "in closed form"));
        if let [
            Level {
                route: Route::Neighbours(tree),
                ..
            },
        ] = levels.as_slice()
        {
            self.used.insert((0, "from those of like samples"));
            let neighbours = Neighbours {
                below: &self.chain.links[0].weights,
                last: weights,
                tree,
                pass,
                batch: range.clone(),
            };
            let found = last::add(weights, pass, range, sums[last], None, None);
            let found = found.map_err(|bad| (last, bad));
            return Ok(found.and_then(|()| neighbours.add(sums[0]).map_err(|bad| (0, bad))));
        }
        let probes = self.probes(pass, &range);
        let height = probes.as_ref().map_or(self.classes, |probes| probes.count);
        let mut rows = self.rows(last, range.len() * height);
        let below = self.below(pass, last, &mut rows);
        let found = last::add(
            weights,
            pass,
            range.clone(),
            sums[last],
            below,
            probes.as_ref(),
        );
        if let Err(bad) = found {
            return Ok(Err((last, bad)));
        }
        for at in (0..last).rev() {
            let found = self.go_on(pass, &levels[..=at], &range, &mut rows, sums[at])?;
            if let Err(bad) = found {
                return Ok(Err((at, bad)));
            }
        }
        Ok(Ok(()))
    }

    /// From the derivatives by what a dense layer makes, `rows`, to those by what it reads; these
    /// replace the rows.
    fn go_on(
        &mut self,
        pass: &Pass,
        levels: &[Level],
        range: &Range<usize>,
        rows: &mut Array2<f32>,
        sums: &mut [PowerSums],
    ) -> Result<Result<(), Bad>> {
        let at = levels.len() - 1;
        let Route::Product(groups) = &levels[at].route else {
            return Ok(Ok(()));
        };
        let what = match self.grams[at] {
            Some(_) => "by sums of products of cotangents",
            None => "by products over active units",
        };
        self.used.insert((at, what));
        let probed = self
            .approximation
            .probes
            .map(|count| (count, Rows::all(count)));
        let (classes, counting) = match &probed {
            Some((count, all)) => (*count, all),
            None => (self.classes, &pass.rows),
        };
        let of_groups = groups.par_iter().map(|group| {
            gathered(rows, group, classes, |sample| {
                counting.of(range.start + sample)
            })
        });
        let of_groups: Vec<Array2<f32>> = of_groups.collect();
        let factors = Factors {
            weights: &self.chain.links[at].weights,
            classes,
            counting,
            groups,
            rows: &of_groups,
            first: range.start,
        };
        let mut next = self.rows(at, range.len() * classes);
        let found = match &mut self.grams[at] {
            Some(gram) => {
                if let Some(bad) = of_groups.iter().any(|rows| !is_finite(rows)).then(no_place) {
                    return Ok(Err(bad));
                }
                gram.add(groups, &of_groups);
                if at > 0 {
                    let below = Below {
                        slopes: &pass.slopes[at - 1],
                        rows: &mut next,
                    };
                    factors.pass_on(&levels[at - 1].patterns, below);
                }
                Ok(())
            }
            None => {
                let below = self.below(pass, at, &mut next);
                factors.add(sums, below)
            }
        };
        *rows = next;
        Ok(found)
    }

    /// Random rows in place of the classes', where these are wanted.
    fn probes(&self, pass: &Pass, range: &Range<usize>) -> Option<Probes> {
        let count = self.approximation.probes?;
        let settings = (count, self.approximation.seed);
        Some(Probes::new(
            settings,
            pass,
            range.clone(),
            self.seen,
            self.classes,
        ))
    }

    /// Rows `[B·K, F]` for what goes on from layer `level`.
    fn rows(&self, level: usize, height: usize) -> Array2<f32> {
        let width = match level {
            0 => 0,
            _ => self.chain.links[level].weights.inputs(),
        };
        Array2::zeros((height, width))
    }

    fn below<'b>(
        &self,
        pass: &'b Pass,
        level: usize,
        rows: &'b mut Array2<f32>,
    ) -> Option<Below<'b>> {
        level.checked_sub(1).map(|below| Below {
            slopes: &pass.slopes[below],
            rows,
        })
    }

    /// How to get from the outputs of a dense layer to its inputs.
    fn level(&self, pass: &Pass, level: usize, range: &Range<usize>) -> Level {
        let weights = &self.chain.links[level].weights;
        let (height, width) = (weights.outputs(), weights.inputs());
        let slopes = &pass.slopes[level][range.start * height..range.end * height];
        let patterns = Patterns::of(slopes, height);
        let tree = patterns.tree(LONGEST);
        let order: Vec<usize> = tree.steps.iter().map(|step| step.0).collect();
        let gram = self.grams[level].is_some();
        let each = self.approximation.probes.unwrap_or(self.classes);
        let tried = TRIED_ROWS.map(|rows| patterns.groups(&order, rows / each));
        let costs = tried.map(|groups| (cost(&groups, each, gram, width), groups));
        let (cost, groups) = costs
            .into_iter()
            .min_by_key(|(cost, _)| *cost)
            .expect("several sizes are tried");
        let binary = || slopes.iter().all(|&slope| slope == 0.0 || slope == 1.0);
        let loose = tree.changes * self.classes * width * LOOSE;
        let route = match self.is_shallow() && loose < cost && binary() {
            true => Route::Neighbours(tree),
            false => Route::Product(groups),
        };
        Level { patterns, route }
    }
}

/// What is known of the slopes behind one dense layer, and what follows from it.
struct Level {
    patterns: Patterns,
    route: Route,
}

enum Route {
    Neighbours(Tree),
    Product(Vec<Group>),
}

/// Multiplications that groups take.
fn cost(groups: &[Group], classes: usize, gram: bool, width: usize) -> usize {
    let costs = groups.iter().map(|group| {
        let (rows, units) = (group.samples.len() * classes, group.units.len());
        // A product of few rows is one of whole registers.
        let rows = rows.next_multiple_of(8);
        match gram {
            true => units * units * (rows / 2 + PACKING / 2),
            false => units * width * (rows + PACKING),
        }
    });
    costs.sum()
}

/// Whether the Gram matrix of the outputs costs less than the derivatives by the inputs, with half
/// of the units active.
fn gram_pays(classes: usize, height: usize, width: usize) -> bool {
    let active = height / 2;
    let gram = classes * active * active / 2 + height * height * width / SPREAD;
    height <= gram::WIDEST && gram < classes * active * width
}

/// The rows that count of a group's samples, without units that take no part.
fn gathered<'r>(
    rows: &Array2<f32>,
    group: &Group,
    classes: usize,
    counting: impl Fn(usize) -> &'r [usize],
) -> Array2<f32> {
    let samples = group.samples.iter();
    let places = samples.flat_map(|&sample| {
        let counting = counting(sample).iter();
        counting.map(move |class| sample * classes + class)
    });
    let places: Vec<usize> = places.collect();
    let mut target = Array2::zeros((places.len(), group.units.len()));
    for (mut target, place) in target.rows_mut().into_iter().zip(places) {
        let row = rows.index_axis(Axis(0), place);
        let pairs = target.iter_mut().zip(&group.units);
        pairs.for_each(|(target, &unit)| *target = row[unit]);
    }
    target
}

fn is_finite(rows: &Array2<f32>) -> bool {
    rows.as_slice().is_none_or(last::are_finite)
}

fn no_place() -> Bad {
    Bad {
        neuron: 0,
        sample: None,
    }
}
