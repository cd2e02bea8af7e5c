//! Samples dealt in blocks, so that many machines add up what one would, bit for bit.
//!
//! Sums in floating point depend on their order. So samples are dealt in blocks of a fixed number
//! ([`Blocks`]), each block is added up for itself, and blocks are joined along one binary tree over
//! their numbers ([`Forest`]), which has nothing to do with who added up which block:
//!
//! ```text
//!            *                 a shard of the blocks 1..4 keeps two sums: that of block 1, and
//!        *       *             that of 2 and 3, which is a whole subtree
//!      0   1   2   3
//! ```
//!
//! A shard's sums lie in one [file](mod@file) of named arrays.

mod blocks;
pub mod file;
mod forest;
pub mod parts;
mod shard;

pub use blocks::{BLOCK, Blocks, block};
pub use forest::{Forest, Merge, Node};
pub use parts::{Coverage, Dealt};
pub use shard::Shard;
