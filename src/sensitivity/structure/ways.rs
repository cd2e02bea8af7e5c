//! How to get from the outputs of a dense layer to its inputs, for some samples: by products over
//! groups of like ones, or from one to the next.

use std::ops::Range;

use super::{
    chain::Chain,
    groups::{Group, Patterns, Tree},
    neighbours::LONGEST,
    passes::Pass,
};

/// Rows that groups of samples are tried with.
const TRIED_ROWS: [usize; 4] = [40, 80, 160, 640];

/// What copying and packing one weight for a product costs, in multiplications; measured with 82
/// units, 3136 columns, 10 rows.
const PACKING: usize = 14;

/// What a multiplication in `neighbours` costs, in those of a product.
const LOOSE: usize = 2;

/// What the ways are chosen by.
pub(super) struct Ways<'w> {
    pub(super) chain: &'w Chain,
    pub(super) classes: usize,
    pub(super) probes: Option<usize>,
    /// Layer by layer, whether squares are summed up without the derivatives.
    pub(super) grams: Vec<bool>,
    /// Whether derivatives may follow from those of like samples.
    pub(super) shallow: bool,
}

impl Ways<'_> {
    /// Of the samples in `range`, one for each layer but the last.
    pub(super) fn levels(&self, pass: &Pass, range: &Range<usize>) -> Vec<Level> {
        let hidden = 0..self.chain.links.len() - 1;
        hidden.map(|level| self.level(pass, level, range)).collect()
    }

    /// How to get from the outputs of a dense layer to its inputs.
    fn level(&self, pass: &Pass, level: usize, range: &Range<usize>) -> Level {
        let weights = &self.chain.links[level].weights;
        let (height, width) = (weights.outputs(), weights.inputs());
        let slopes = &pass.slopes[level][range.start * height..range.end * height];
        let patterns = Patterns::of(slopes, height);
        let tree = patterns.tree(LONGEST);
        let order: Vec<usize> = tree.steps.iter().map(|step| step.0).collect();
        let gram = self.grams[level];
        let each = self.probes.unwrap_or(self.classes);
        let tried = TRIED_ROWS.map(|rows| patterns.groups(&order, rows / each));
        let costs = tried.map(|groups| (cost(&groups, each, gram, width), groups));
        let (cost, groups) = costs
            .into_iter()
            .min_by_key(|(cost, _)| *cost)
            .expect("several sizes are tried");
        let binary = || slopes.iter().all(|&slope| slope == 0.0 || slope == 1.0);
        let loose = tree.changes * self.classes * width * LOOSE;
        let route = match self.shallow && loose < cost && binary() {
            true => Route::Neighbours(tree),
            false => Route::Product(groups),
        };
        Level { patterns, route }
    }
}

/// What is known of the slopes behind one dense layer, and what follows from it.
pub(super) struct Level {
    pub(super) patterns: Patterns,
    pub(super) route: Route,
}

pub(super) enum Route {
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
