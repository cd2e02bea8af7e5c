//! Samples: files in, `f32` batches in the model's layout out.
//!
//! A path becomes a [`Dataset`] through one of the readers in `readers.rs` (folders and tables of images,
//! archives, arrays; `docs/data.md` lists them); how a stored sample becomes model input is a [`Preprocess`], taken from flags, presets or a
//! configuration file beside the model. Letters in shapes: `N` samples, `C` channels, `H` height,
//! `W` width, `F` features.
//!
//! Nothing is held as `f32` but the batches in flight: images are decoded per batch, plain array files are
//! read per batch, and of compressed arrays only the chosen samples stay in memory, in their stored
//! type. Nothing is unpacked to disk. All that is read is bounded by [`DataLimits`] before it is allocated. The order of samples, and
//! every value, is the same on every machine and for every number of threads.

mod archive;
mod array;
mod bad;
mod batches;
mod cifar;
mod config;
mod dataset;
mod decode;
mod fetch;
mod files;
mod fill;
#[cfg(test)]
mod fixtures;
mod folder;
mod geometry;
mod idx;
mod images;
mod list;
mod noise;
mod npy;
mod npz;
mod parquet;
mod pickle;
mod pixels;
mod preprocess;
mod presets;
mod problem;
mod readers;
mod recipe;
mod resize;
mod rows;
mod shape;
mod shards;
mod split;
mod tensors;
mod values;
mod webdataset;

pub use bad::{BadSample, OnBadSample, Skipped};
pub use batches::Batches;
pub use dataset::{Batch, DataLimits, DataOptions, Dataset};
pub use geometry::{Centring, Resize, Size};
pub use pixels::Channels;
pub use preprocess::{FloatArrays, Overrides, Preprocess};
pub use presets::names as preset_names;
pub use problem::readable_bytes;
pub use resize::Interpolation;
pub use shape::{InputShape, Layout};
pub use split::{shuffled, split};
