//! Dense linear algebra on covariances, in f64: sums over samples, products, Cholesky.
//!
//! Everything works in blocks of a fixed size, and each block of a result is computed by one task:
//! results do not depend on the number of threads. What is passed in and out are
//! [`ndarray::Array2`]s in row-major order. Products in f64 are in `doubles`, loops and
//! products in f32 for scoring in `vectors` and `tiles`, those of rows with many zeros in `sparse`.
//! Nothing here knows of models or layers.

mod cholesky;
mod covariance;
mod doubles;
mod picks;
mod product;
mod sparse;
#[cfg(test)]
pub(crate) mod testing;
mod tiles;
mod vectors;

pub use cholesky::{Cholesky, NotPositiveDefinite};
pub use covariance::{Covariance, CrossCovariance};
pub(crate) use picks::Picks;
pub use product::{add_gram, part, part_mut, product, symmetrise};
pub(crate) use sparse::{Columns, Sparse, SparseRow, Strips, add_held, add_sparse};
pub(crate) use tiles::{Extent, Panels, Side, Tile, multiply};
#[cfg(test)]
pub(crate) use vectors::MOST;
pub(crate) use vectors::{Line, Loop, PixelWeights, Vectors, widest};
