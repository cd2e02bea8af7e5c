//! Which samples are added up together, and which shard owns them.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::Shard;

/// Samples of a block, at least: a block ends with the batch that reaches them.
pub const BLOCK: usize = 1024;

/// The most that a block is made to reach: what ends a block takes as long as a hundred samples. 1.28 million samples
/// make 313 blocks, enough for hundreds of workers; a worker that dies in the middle of a shard loses
/// that shard.
const LARGEST: usize = 4096;

/// Samples that a block reaches where there are so many in all: a quarter of them, but not less than [`BLOCK`]
/// and not more than 4,096.
pub fn block(samples: usize) -> usize {
    (samples / 4).clamp(BLOCK, LARGEST)
}

/// How samples are dealt. It depends on their number and on the size of a batch, on nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blocks {
    samples: usize,
    batch: usize,
}

impl Blocks {
    /// Blocks of `samples` samples that are run in batches of `batch`.
    pub fn new(samples: usize, batch: usize) -> Self {
        Self {
            samples,
            batch: batch.max(1),
        }
    }

    /// Whether samples can be dealt so; what a file says need not be.
    pub fn is_sound(self) -> bool {
        self.batch > 0
    }

    /// Number of samples in all blocks.
    pub fn samples(self) -> usize {
        self.samples
    }

    /// Samples per run.
    pub fn batch(self) -> usize {
        self.batch
    }

    /// Samples of each block but the last: whole batches.
    pub fn size(self) -> usize {
        block(self.samples).next_multiple_of(self.batch)
    }

    /// Number of blocks.
    pub fn count(self) -> usize {
        self.samples.div_ceil(self.size())
    }

    /// The samples of a range of blocks, by their place among all.
    pub fn samples_of(self, blocks: Range<usize>) -> Range<usize> {
        let at = |block: usize| block.saturating_mul(self.size()).min(self.samples);
        at(blocks.start)..at(blocks.end)
    }

    /// The blocks of a shard: neighbours, and no shard has two more than another. With more shards
    /// than blocks some have none.
    pub fn of_shard(self, shard: Shard) -> Range<usize> {
        let at = |index: usize| {
            let whole = index as u128 * self.count() as u128 / shard.count() as u128;
            usize::try_from(whole).unwrap_or(usize::MAX)
        };
        at(shard.index())..at(shard.index() + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_own_every_block_once_and_about_as_many() {
        for (samples, batch) in [
            (0, 32),
            (1, 32),
            (1024, 32),
            (10_000, 32),
            (10_000, 100),
            (1_280_000, 32),
            (9, 4000),
        ] {
            let blocks = Blocks::new(samples, batch);
            assert_eq!(blocks.size() % batch, 0, "{blocks:?}");
            let least = match samples {
                10_000 => 2500,
                1_280_000 => 4096,
                _ => 1024,
            };
            assert!(
                blocks.size() >= least && blocks.size() < least + batch,
                "{blocks:?}"
            );
            for count in [1, 2, 3, 7, 64] {
                let owned =
                    (0..count).map(|index| blocks.of_shard(Shard::new(index, count).unwrap()));
                let owned: Vec<_> = owned.collect();
                let all: Vec<usize> = owned.iter().cloned().flatten().collect();
                assert_eq!(all, (0..blocks.count()).collect::<Vec<_>>(), "{blocks:?}");
                let sizes = owned.iter().map(ExactSizeIterator::len);
                let spread = sizes.clone().max().unwrap() - sizes.min().unwrap();
                assert!(spread <= 1, "{blocks:?} in {count}");
                let samples: usize = owned
                    .into_iter()
                    .map(|range| blocks.samples_of(range).len())
                    .sum();
                assert_eq!(samples, blocks.samples());
            }
        }
    }
}
