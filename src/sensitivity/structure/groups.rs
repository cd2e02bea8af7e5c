//! Which samples have like slopes.
//!
//! A unit whose slope is 0 takes part in no derivative, so a product for a sample may leave it out;
//! one for several samples may leave out what is 0 in all of them. And where only few slopes differ
//! between two samples, the derivatives of one follow from those of the other. Both want samples
//! next to each other that are alike: a shortest tree over the patterns of slopes (Prim 1957).

use rayon::prelude::*;

use crate::algebra::{Loop, Vectors, widest};

/// Bits of one word of a pattern.
const WORD: usize = u64::BITS as usize;

/// Samples that a product takes together, and the units that any of them needs.
#[derive(Debug, PartialEq)]
pub(super) struct Group {
    /// Places in the batch.
    pub(super) samples: Vec<usize>,
    /// In rising order.
    pub(super) units: Vec<usize>,
}

/// An order of samples in which each follows from an earlier one.
#[derive(Debug, PartialEq)]
pub(super) struct Tree {
    /// `(sample, the sample it follows from)`; nothing where it starts from scratch.
    pub(super) steps: Vec<(usize, Option<usize>)>,
    /// Slopes that differ along all steps together.
    pub(super) changes: usize,
}

/// Units that another sample has, 1, or has not, -1.
pub(super) type Changes = Vec<(u32, f32)>;

/// Where slopes are not 0: one bit per unit.
pub(super) struct Patterns {
    samples: usize,
    words: usize,
    bits: Vec<u64>,
}

impl Patterns {
    /// Of slopes `[B, H]`.
    pub(super) fn of(slopes: &[f32], width: usize) -> Self {
        let words = width.div_ceil(WORD);
        let samples = slopes.len() / width;
        Self {
            samples,
            words,
            bits: widest(Bits { slopes, width }),
        }
    }

    fn of_sample(&self, sample: usize) -> &[u64] {
        &self.bits[sample * self.words..(sample + 1) * self.words]
    }

    /// What changes at a sample from another, or from an empty pattern.
    pub(super) fn changes(&self, sample: usize, from: Option<usize>) -> Changes {
        let now = self.of_sample(sample);
        let before = from.map_or(&[][..], |from| self.of_sample(from));
        let before = before.iter().copied().chain(std::iter::repeat(0));
        let differ: Vec<u64> = now.iter().zip(before).map(|(a, b)| a ^ b).collect();
        let changes = ones(&differ).into_iter().map(|unit| {
            let is_on = now[unit / WORD] >> (unit % WORD) & 1 == 1;
            (unit as u32, if is_on { 1.0 } else { -1.0 })
        });
        changes.collect()
    }

    /// The shortest tree over the samples and the empty pattern. Steps that would lead further than
    /// `longest` changes away from an empty pattern start there again: each change is a rounding.
    pub(super) fn tree(&self, longest: usize) -> Tree {
        let count = self.samples;
        let size = |sample: usize| distance(self.of_sample(sample), &[]);
        // The nearest sample in the tree, its distance, and that of the sample itself from scratch.
        let mut nearest: Vec<(u32, Option<usize>)> = (0..count)
            .into_par_iter()
            .map(|sample| (size(sample), None))
            .collect();
        let sizes: Vec<u32> = nearest.iter().map(|(size, _)| *size).collect();
        let distances = self.distances();
        let between = |a: usize, b: usize| {
            let (low, high) = (a.min(b), a.max(b));
            distances[high * (high.max(1) - 1) / 2 + low]
        };
        let mut open: Vec<usize> = (0..count).collect();
        let mut depth = vec![0_u32; count];
        let mut steps = Vec::with_capacity(count);
        let mut changes = 0;
        while let Some(at) = (0..open.len()).min_by_key(|&at| nearest[open[at]].0) {
            let sample = open.swap_remove(at);
            let (mut cost, mut from) = nearest[sample];
            let before = from.map_or(0, |from| depth[from]);
            if (before + cost) as usize > longest {
                (cost, from) = (sizes[sample], None);
            }
            depth[sample] = from.map_or(0, |from| depth[from]) + cost;
            changes += cost as usize;
            steps.push((sample, from));
            for &other in &open {
                let distance = between(sample, other);
                if distance < nearest[other].0 {
                    nearest[other] = (distance, Some(sample));
                }
            }
        }
        Tree { steps, changes }
    }

    /// Between every two samples, row by row below the diagonal.
    fn distances(&self) -> Vec<u32> {
        let rows = (1..self.samples).into_par_iter().map(|high| {
            widest(Distances {
                row: self.of_sample(high),
                others: &self.bits[..high * self.words],
            })
        });
        rows.flatten_iter().collect()
    }

    /// Groups of at most `most` samples that follow one another in `order`.
    pub(super) fn groups(&self, order: &[usize], most: usize) -> Vec<Group> {
        let groups = order.chunks(most.max(1)).map(|samples| Group {
            samples: samples.to_vec(),
            units: self.any(samples),
        });
        groups.collect()
    }

    /// The units that any of these samples needs, in rising order.
    pub(super) fn any(&self, samples: &[usize]) -> Vec<usize> {
        let mut any = vec![0_u64; self.words];
        for &sample in samples {
            let pairs = any.iter_mut().zip(self.of_sample(sample));
            pairs.for_each(|(any, word)| *any |= word);
        }
        ones(&any)
    }
}

/// Places of the bits that are set.
fn ones(words: &[u64]) -> Vec<usize> {
    let count = words.iter().map(|word| word.count_ones() as usize).sum();
    let mut places = Vec::with_capacity(count);
    for (at, &word) in words.iter().enumerate() {
        let mut left = word;
        while left != 0 {
            places.push(at * WORD + left.trailing_zeros() as usize);
            left &= left - 1;
        }
    }
    places
}

/// One bit for each slope that is not 0.
struct Bits<'b> {
    slopes: &'b [f32],
    width: usize,
}

impl Loop for Bits<'_> {
    type Output = Vec<u64>;

    #[inline(always)]
    fn run<V: Vectors>(self) -> Vec<u64> {
        let mut bits = Vec::with_capacity(self.slopes.len().div_ceil(WORD));
        for row in self.slopes.chunks_exact(self.width) {
            bits.extend(row.chunks(WORD).map(|units| {
                let set = units.iter().enumerate();
                set.fold(0, |word, (bit, &slope)| {
                    word | u64::from(slope != 0.0) << bit
                })
            }));
        }
        bits
    }
}

/// From one pattern to others.
struct Distances<'d> {
    row: &'d [u64],
    others: &'d [u64],
}

impl Loop for Distances<'_> {
    type Output = Vec<u32>;

    #[inline(always)]
    fn run<V: Vectors>(self) -> Vec<u32> {
        let others = self.others.chunks_exact(self.row.len().max(1));
        let distances = others.map(|other| {
            let differ = self.row.iter().zip(other);
            differ.map(|(a, b)| (a ^ b).count_ones()).sum()
        });
        distances.collect()
    }
}

/// Bits that differ; what one has no words for is 0.
fn distance(a: &[u64], b: &[u64]) -> u32 {
    let common = a.len().min(b.len());
    let differ = a.iter().zip(b).map(|(a, b)| (a ^ b).count_ones());
    let rest = a[common..].iter().chain(&b[common..]);
    differ.sum::<u32>() + rest.map(|word| word.count_ones()).sum::<u32>()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Slopes of 70 units: the numbers say which are 1.
    fn slopes(samples: &[&[usize]]) -> Vec<f32> {
        let rows = samples.iter().flat_map(|units| {
            let mut row = vec![0.0; 70];
            units.iter().for_each(|&unit| row[unit] = 1.0);
            row
        });
        rows.collect()
    }

    #[test]
    fn like_samples_follow_one_another() {
        let patterns = Patterns::of(
            &slopes(&[&[1, 2, 69], &[5, 6, 7], &[1, 2], &[5, 6, 7, 8]]),
            70,
        );
        let tree = patterns.tree(100);
        // From nothing: 2 units; one more; then 3 others, and one more.
        assert_eq!(tree.changes, 2 + 1 + 3 + 1);
        assert_eq!(
            tree.steps,
            [(2, None), (0, Some(2)), (1, None), (3, Some(1))]
        );
        let order: Vec<usize> = tree.steps.iter().map(|step| step.0).collect();
        let groups = patterns.groups(&order, 2);
        assert_eq!(groups[0].units, [1, 2, 69]);
        assert_eq!(
            (&*groups[1].samples, &*groups[1].units),
            (&[1, 3][..], &[5, 6, 7, 8][..])
        );
    }

    #[test]
    fn changes_lead_from_one_pattern_to_another() {
        let patterns = Patterns::of(&slopes(&[&[1, 2, 69], &[2, 3]]), 70);
        assert_eq!(patterns.changes(0, None), [(1, 1.0), (2, 1.0), (69, 1.0)]);
        assert_eq!(
            patterns.changes(1, Some(0)),
            [(1, -1.0), (3, 1.0), (69, -1.0)]
        );
    }

    #[test]
    fn long_ways_start_again() {
        let patterns = Patterns::of(&slopes(&[&[1], &[1, 2], &[1, 2, 3], &[1, 2, 3, 4]]), 70);
        assert_eq!(patterns.tree(100).changes, 4);
        let tree = patterns.tree(2);
        assert_eq!(tree.steps[2], (2, None));
        assert_eq!(tree.changes, 1 + 1 + 3 + 4);
    }
}
