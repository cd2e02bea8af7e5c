//! Sums of blocks, joined along one tree.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Sums that can be joined.
pub trait Merge {
    /// Adds what the samples behind these gave.
    fn merge(&mut self, behind: Self);
}

/// A node of the tree: the blocks `index << level .. (index + 1) << level`, as far as there are any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Node {
    /// 0 for a block.
    pub level: u32,
    /// Counts the nodes of a level.
    pub index: usize,
}

/// Sums of some blocks: of as few nodes as hold them.
///
/// What a node holds depends on its blocks alone: neither on the order in which they came, nor on
/// who joined them.
#[derive(Clone, Debug)]
pub struct Forest<S> {
    nodes: BTreeMap<Node, S>,
}

impl Node {
    /// The node of one block.
    pub fn block(index: usize) -> Self {
        Self { level: 0, index }
    }

    fn parent(self) -> Self {
        Self {
            level: self.level + 1,
            index: self.index / 2,
        }
    }

    fn sibling(self) -> Self {
        Self {
            index: self.index ^ 1,
            ..self
        }
    }

    /// Whether there can be such a node; those of a file need not be.
    pub fn is_sound(self) -> bool {
        self.height().is_some_and(|height| height < usize::BITS)
    }

    /// The level at which the root is above this node.
    fn height(self) -> Option<u32> {
        let width = usize::BITS - self.index.leading_zeros();
        self.level.checked_add(width)
    }

    fn is_above(self, other: Self) -> bool {
        let levels = self.level.checked_sub(other.level);
        levels.is_some_and(|levels| other.index >> levels == self.index)
    }

    fn children(self) -> Option<[Self; 2]> {
        let level = self.level.checked_sub(1)?;
        let child = |index| Self { level, index };
        Some([child(2 * self.index), child(2 * self.index + 1)])
    }
}

impl<S> Default for Forest<S> {
    fn default() -> Self {
        Self {
            nodes: BTreeMap::new(),
        }
    }
}

impl<S: Merge> Forest<S> {
    /// Adds the sums of a node that is not there yet, and joins what now makes up a larger one.
    pub fn add(&mut self, mut node: Node, mut sums: S) {
        while let Some(mut sibling) = self.nodes.remove(&node.sibling()) {
            if node.index.is_multiple_of(2) {
                sums.merge(sibling);
            } else {
                sibling.merge(sums);
                sums = sibling;
            }
            node = node.parent();
        }
        self.nodes.insert(node, sums);
    }

    /// The sums as they are held, from the first block to the last.
    pub fn nodes(&self) -> impl Iterator<Item = (Node, &S)> {
        self.nodes.iter().map(|(node, sums)| (*node, sums))
    }

    /// The sums of all blocks; nothing where there is none. A node that lacks blocks on one side, at
    /// the end or because they are missing, is the other side.
    pub fn total(mut self) -> Option<S> {
        let level = self.nodes.keys().filter_map(|node| node.height()).max()?;
        self.take(Node { level, index: 0 })
    }

    fn take(&mut self, node: Node) -> Option<S> {
        if let Some(found) = self.nodes.remove(&node) {
            return Some(found);
        }
        if !self.nodes.keys().any(|&other| node.is_above(other)) {
            return None;
        }
        let [left, right] = node.children()?;
        match (self.take(left), self.take(right)) {
            (Some(mut left), Some(right)) => {
                left.merge(right);
                Some(left)
            }
            (left, right) => left.or(right),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shards::{Blocks, Shard};

    /// Writes down how it came about.
    #[derive(Clone, Debug, PartialEq)]
    struct Trace(String);

    impl Merge for Trace {
        fn merge(&mut self, behind: Self) {
            self.0 = format!("({} {})", self.0, behind.0);
        }
    }

    fn forest(blocks: impl IntoIterator<Item = usize>) -> Forest<Trace> {
        let mut forest = Forest::default();
        for block in blocks {
            forest.add(Node::block(block), Trace(block.to_string()));
        }
        forest
    }

    #[test]
    fn the_tree_is_the_same_for_any_shards_in_any_order() {
        for count in [1, 2, 5, 8, 13, 100] {
            let whole = forest(0..count).total();
            for shards in [1, 2, 3, 8, 13] {
                let blocks = Blocks::new(count * 4096, 4096);
                let part = |index| forest(blocks.of_shard(Shard::new(index, shards).unwrap()));
                for backwards in [false, true] {
                    let mut order: Vec<usize> = (0..shards).collect();
                    if backwards {
                        order.reverse();
                    }
                    let mut joined = Forest::default();
                    for part in order.into_iter().map(part) {
                        let most = 2 * usize::ilog2(count) as usize + 1;
                        assert!(part.nodes().count() <= most);
                        for (node, sums) in part.nodes() {
                            joined.add(node, sums.clone());
                        }
                    }
                    assert_eq!(joined.total(), whole, "{count} blocks in {shards} shards");
                }
            }
        }
    }

    #[test]
    fn trees_by_hand() {
        let cases: [(&[usize], Option<&str>); 6] = [
            (&[], None),
            (&[0], Some("0")),
            (&[0, 1, 2, 3, 4], Some("(((0 1) (2 3)) 4)")),
            (&[6, 5, 4, 3, 2, 1, 0], Some("(((0 1) (2 3)) ((4 5) 6))")),
            // some are missing
            (&[1, 2, 3], Some("(1 (2 3))")),
            (&[5], Some("5")),
        ];
        for (blocks, expected) in cases {
            let found = forest(blocks.iter().copied()).total();
            assert_eq!(
                found.map(|trace| trace.0).as_deref(),
                expected,
                "{blocks:?}"
            );
        }
    }
}
