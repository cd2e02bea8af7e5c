//! What criteria add up: sums that can be joined, and written down.

mod saved;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{moments::Moments, power_sums::PowerSums, redundancy::Observations, terms::LayerTerms};
use crate::shards::{Forest, Merge, Node};

/// By layer of the head.
pub(super) type Layers = Vec<Vec<Sum>>;

/// Something that was added up over samples.
#[derive(Clone, Debug)]
pub(super) enum Sum {
    Powers(PowerSums),
    Moments(Moments),
    Observations(Observations),
    /// Added place by place.
    Totals(Vec<f64>),
    /// Added place by place.
    Counts(Vec<u64>),
    /// Numbers that are the same for all samples: weights, places of a neuron.
    Fixed(Vec<f64>),
    /// In the same place, but apart: see [`Collected`].
    Elsewhere,
}

/// Sums over blocks of samples.
///
/// Those that depend on the order in which they are joined are held in a [`Forest`]. What does not,
/// because it is chosen or the same for all, is held apart, and once: rows of a wide layer take
/// hundreds of megabytes.
#[derive(Clone, Debug, Default)]
pub struct Collected {
    forest: Forest<Joined>,
    apart: Layers,
    samples: u64,
    /// What to tell people about how it was added up.
    pub(super) notes: Vec<String>,
    pub(super) way: Option<Way>,
}

/// Where derivatives came from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Way {
    pub(super) text: String,
    /// Layers, by their place, and what was done there with any sample.
    pub(super) used: BTreeSet<(usize, String)>,
}

#[derive(Clone, Debug)]
struct Joined(Layers);

impl Way {
    /// For people.
    pub(super) fn in_words(&self, layers: &[LayerTerms]) -> String {
        let used = self.used.iter().filter_map(|(layer, what)| {
            let name = &layers.get(*layer)?.name;
            Some(format!("{name} {what}"))
        });
        let used: Vec<String> = used.collect();
        match used.is_empty() {
            true => self.text.clone(),
            false => format!("{}: {}", self.text, used.join(", ")),
        }
    }
}

impl Sum {
    /// How many places each neuron has.
    pub(super) fn places(present: &[usize]) -> Self {
        Self::Fixed(present.iter().map(|&places| places as f64).collect())
    }

    /// Numbers that are given away the first time.
    pub(super) fn fixed_once(numbers: &mut Vec<f64>) -> Self {
        match std::mem::take(numbers) {
            numbers if numbers.is_empty() => Self::Elsewhere,
            numbers => Self::Fixed(numbers),
        }
    }

    fn is_apart(&self) -> bool {
        match self {
            Self::Fixed(_) | Self::Elsewhere => true,
            Self::Observations(rows) => rows.is_drawn(),
            Self::Powers(_) | Self::Moments(_) | Self::Totals(_) | Self::Counts(_) => false,
        }
    }

    /// Adds what other samples gave; of two kinds, which no criterion gives, the first stays.
    fn merge(&mut self, behind: Self) {
        match (self, behind) {
            (Self::Powers(sums), Self::Powers(behind)) => sums.merge(&behind),
            (Self::Moments(moments), Self::Moments(behind)) => moments.merge(&behind),
            (Self::Observations(rows), Self::Observations(behind)) => rows.merge(behind),
            (Self::Totals(totals), Self::Totals(behind)) => {
                let pairs = totals.iter_mut().zip(behind);
                pairs.for_each(|(total, behind)| *total += behind);
            }
            (Self::Counts(counts), Self::Counts(behind)) => {
                let pairs = counts.iter_mut().zip(behind);
                pairs.for_each(|(count, behind)| *count += behind);
            }
            (place @ Self::Elsewhere, behind) => *place = behind,
            _ => {}
        }
    }
}

impl Merge for Joined {
    fn merge(&mut self, behind: Self) {
        merge(&mut self.0, behind.0);
    }
}

/// A layer of which no sample was seen holds nothing.
fn merge(layers: &mut Layers, behind: Layers) {
    if layers.is_empty() {
        *layers = behind;
        return;
    }
    for (sums, behind) in layers.iter_mut().zip(behind) {
        if sums.is_empty() {
            *sums = behind;
            continue;
        }
        let pairs = sums.iter_mut().zip(behind);
        pairs.for_each(|(sum, behind)| sum.merge(behind));
    }
}

impl Collected {
    /// Number of samples.
    pub fn samples(&self) -> u64 {
        self.samples
    }

    /// Adds the sums of a block that is not there yet.
    pub(super) fn add(&mut self, block: usize, layers: Layers, samples: u64) {
        self.samples += samples;
        self.put(Node::block(block), layers);
    }

    fn put(&mut self, node: Node, mut layers: Layers) {
        let apart = layers.iter_mut().map(|sums| {
            let apart = sums.iter_mut().map(|sum| match sum.is_apart() {
                true => std::mem::replace(sum, Sum::Elsewhere),
                false => Sum::Elsewhere,
            });
            apart.collect()
        });
        merge(&mut self.apart, apart.collect());
        self.forest.add(node, Joined(layers));
    }

    /// All sums; nothing where there are none.
    pub(super) fn total(self) -> Option<Layers> {
        let mut total = self.forest.total()?.0;
        merge(&mut total, self.apart);
        Some(total)
    }
}

/// The sums of one layer, to be taken in the order they were given.
#[derive(Default)]
pub(super) struct Taken {
    sums: Vec<Option<Sum>>,
}

impl From<Vec<Sum>> for Taken {
    fn from(sums: Vec<Sum>) -> Self {
        Self {
            sums: sums.into_iter().map(Some).collect(),
        }
    }
}

impl Taken {
    fn next(&mut self, is_it: impl Fn(&Sum) -> bool) -> Option<Sum> {
        let mut left = self.sums.iter_mut();
        left.find(|sum| sum.as_ref().is_some_and(&is_it))?.take()
    }

    pub(super) fn powers(&mut self) -> Option<PowerSums> {
        match self.next(|sum| matches!(sum, Sum::Powers(_)))? {
            Sum::Powers(sums) => Some(sums),
            _ => None,
        }
    }

    pub(super) fn moments(&mut self) -> Option<Moments> {
        match self.next(|sum| matches!(sum, Sum::Moments(_)))? {
            Sum::Moments(moments) => Some(moments),
            _ => None,
        }
    }

    pub(super) fn observations(&mut self) -> Option<Observations> {
        match self.next(|sum| matches!(sum, Sum::Observations(_)))? {
            Sum::Observations(rows) => Some(rows),
            _ => None,
        }
    }

    /// Nothing where there are none.
    pub(super) fn totals(&mut self) -> Vec<f64> {
        match self.next(|sum| matches!(sum, Sum::Totals(_))) {
            Some(Sum::Totals(totals)) => totals,
            _ => Vec::new(),
        }
    }

    /// Nothing where there are none.
    pub(super) fn counts(&mut self) -> Vec<u64> {
        match self.next(|sum| matches!(sum, Sum::Counts(_))) {
            Some(Sum::Counts(counts)) => counts,
            _ => Vec::new(),
        }
    }

    /// Nothing where there are none.
    pub(super) fn fixed(&mut self) -> Vec<f64> {
        match self.next(|sum| matches!(sum, Sum::Fixed(_))) {
            Some(Sum::Fixed(numbers)) => numbers,
            _ => Vec::new(),
        }
    }
}
