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
mod classes;
mod device;
mod first;
mod gram;
mod groups;
mod last;
mod matrix;
mod neighbours;
mod outer;
mod passes;
mod probes;
mod product;
#[cfg(test)]
mod tests;
mod ways;
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
use groups::Group;
use last::Below;
use neighbours::Neighbours;
use passes::{Pass, Passes, Rows, Tail};
use probes::Probes;
use product::Factors;
use ways::{Level, Route, Ways};

pub(super) use device::OnDevice;
pub use worst::has_worst_case;
pub(super) use worst::worst_case;

/// Largest set of rows `[B·K, H]` that is held, in bytes: four samples of VGG16's 1000 classes.
const ROWS_BYTES: usize = 64 << 20;

/// Most samples that are compared with one another.
const COMPARED: usize = 512;

/// Most samples whose own products are held, a matrix for every 256 of them.
const ALONE: usize = 1024;

/// Blocks whose samples are compared before the first of them is worked on.
const AHEAD: usize = 8;

/// Most samples that are grouped for products: groups gain little by more, and comparing all with
/// all would take longer than the products.
const GROUPED: usize = 256;

/// Most rows of L that one task of `neighbours` holds: 2 MB of them.
const KEPT_ROWS: usize = 16_384;

/// What is said of sums of squares without the derivatives.
const GRAM: &str = "by sums of products of cotangents";

/// What is said of features that are mostly 0, and read by [`first`].
const WITHOUT_ZEROS: &str = "read without zeros";

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
    /// For rows, and for those that follow from them.
    room: Vec<f32>,
    spare: Vec<f32>,
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
            room: Vec::new(),
            spare: Vec::new(),
            chain,
            passes,
            classes,
        }))
    }

    /// Sums that fit these layers, one per pair of norms.
    pub(super) fn sums(&self, norms: &[(Norm, Norm)]) -> Result<Vec<Vec<PowerSums>>> {
        self.chain.sums(norms, self.classes)
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
        if pass.without_zeros {
            self.used.insert((0, WITHOUT_ZEROS));
        }
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
        let ranges = (0..samples).step_by(size);
        let ranges: Vec<_> = ranges
            .map(|start| start..(start + size).min(samples))
            .collect();
        let outer = self.is_outer();
        // Looking at one block is mostly the work of one core.
        for ranges in ranges.chunks(AHEAD) {
            let ways = Ways {
                chain: &self.chain,
                classes: self.classes,
                probes: self.approximation.probes,
                grams: self.grams.iter().map(Option::is_some).collect(),
                shallow: self.is_shallow(),
            };
            let levels = ranges.par_iter().map(|range| match outer {
                true => Vec::new(),
                false => ways.levels(pass, range),
            });
            let levels: Vec<Vec<Level>> = levels.collect();
            for (range, levels) in ranges.iter().zip(levels) {
                if let Err((level, bad)) = self.add_range(pass, range.clone(), &levels, sums) {
                    return Err(self.refused(level, &bad));
                }
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
        if self.is_outer() {
            return ALONE;
        }
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
        levels: &[Level],
        sums: &mut [&mut [PowerSums]],
    ) -> Result<(), (usize, Bad)> {
        let last = self.chain.links.len() - 1;
        self.used.insert((last, "in closed form"));
        if levels.is_empty() && last > 0 {
            return self.add_outer(pass, range, sums);
        }
        let room = std::mem::take(&mut self.room);
        let weights = &self.chain.links[last].weights;
        if let [
            Level {
                patterns,
                route: Route::Neighbours(tree),
            },
        ] = levels
        {
            self.used.insert((0, "from those of like samples"));
            let neighbours = Neighbours {
                below: &self.chain.links[0].weights,
                last: weights,
                patterns,
                tree,
                pass,
                batch: range.clone(),
            };
            let found = last::add(weights, pass, range, sums[last], None, None);
            found.map_err(|bad| (last, bad))?;
            return neighbours.add(sums[0]).map_err(|bad| (0, bad));
        }
        let probes = self.probes(pass, &range);
        let height = probes.as_ref().map_or(self.classes, |probes| probes.count);
        let width = if last > 0 { weights.inputs() } else { 0 };
        let mut rows = rows_in(room, (range.len() * height, width));
        let below = Self::below(pass, last, &mut rows);
        let found = last::add(
            weights,
            pass,
            range.clone(),
            sums[last],
            below,
            probes.as_ref(),
        );
        found.map_err(|bad| (last, bad))?;
        for at in (0..last).rev() {
            let found = self.go_on(pass, &levels[..=at], &range, &mut rows, sums[at]);
            found.map_err(|bad| (at, bad))?;
        }
        self.room = rows.into_raw_vec_and_offset().0;
        Ok(())
    }

    /// Two dense layers with few classes: squares alone.
    fn add_outer(
        &mut self,
        pass: &Pass,
        range: Range<usize>,
        sums: &mut [&mut [PowerSums]],
    ) -> Result<(), (usize, Bad)> {
        self.used.insert((0, GRAM));
        let weights = &self.chain.links[1].weights;
        let squares = classes::squares(weights, pass, range.clone());
        match squares.iter().all(|square| square.is_finite()) {
            true => { sums[1].iter_mut() }.for_each(|sums| sums.add_squares(&squares)),
            // Which sample it is shows in the derivatives.
            false => {
                let found = last::add(weights, pass, range.clone(), sums[1], None, None);
                found.map_err(|bad| (1, bad))?;
            }
        }
        let gram = self.grams[0].as_mut();
        match gram.is_none_or(|gram| gram.add_outer(weights, pass, range)) {
            true => Ok(()),
            false => Err((0, no_place())),
        }
    }

    /// Whether there are two dense layers, and only squares are wanted, of few classes.
    fn is_outer(&self) -> bool {
        let width = self.chain.links[0].weights.outputs();
        self.chain.links.len() == 2
            && self.grams[0].is_some()
            && self.approximation.probes.is_none()
            && outer::is_for(self.classes, width)
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
    ) -> Result<(), Bad> {
        let at = levels.len() - 1;
        let Route::Product(groups) = &levels[at].route else {
            return Ok(());
        };
        let what = match self.grams[at] {
            Some(_) => GRAM,
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
        let mut next = match at {
            0 => Array2::zeros((0, 0)),
            _ => rows_in(
                std::mem::take(&mut self.spare),
                (range.len() * classes, factors.weights.inputs()),
            ),
        };
        match &mut self.grams[at] {
            Some(gram) => {
                if let Some(bad) = of_groups.iter().any(|rows| !is_finite(rows)).then(no_place) {
                    return Err(bad);
                }
                gram.add(groups, &of_groups);
                if at > 0 {
                    let below = Below {
                        slopes: &pass.slopes[at - 1],
                        rows: &mut next,
                    };
                    factors.pass_on(&levels[at - 1].patterns, below);
                }
            }
            None => {
                let below = Self::below(pass, at, &mut next);
                factors.add(sums, below)?;
            }
        }
        if at > 0 {
            let done = std::mem::replace(rows, next);
            self.spare = done.into_raw_vec_and_offset().0;
        }
        Ok(())
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

    fn below<'b>(pass: &'b Pass, level: usize, rows: &'b mut Array2<f32>) -> Option<Below<'b>> {
        level.checked_sub(1).map(|below| Below {
            slopes: &pass.slopes[below],
            rows,
        })
    }
}

/// Rows for what goes on below, in room that is there already: a block has megabytes of them. What
/// was there stays until it is written.
fn rows_in(mut room: Vec<f32>, (height, width): (usize, usize)) -> Array2<f32> {
    room.resize(height * width, 0.0);
    Array2::from_shape_vec((height, width), room).expect("as many numbers as the rows have")
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
