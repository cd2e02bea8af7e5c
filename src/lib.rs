//! Makes pretrained ONNX classifiers smaller: finds the classification head, scores its neurons by
//! how much the class scores depend on them, cuts the least sensitive ones out of the graph, and
//! proves that what is left computes what it should.
//!
//! ```no_run
//! use onnx_prune::{pipeline, prune::{Budget, Keep}};
//!
//! let mut options = pipeline::PruneOptions::new("model.onnx", "small.onnx");
//! options.source.data = Some("images/".into());
//! options.budget = Budget::uniform(Keep::Share(0.3));
//! let report = pipeline::prune(&options, &pipeline::Silent)?;
//! assert!(report.passed);
//! # Ok::<(), onnx_prune::Error>(())
//! ```
//!
//! # The pipeline in ten lines
//!
//! 1. [`onnx`] reads the file: every field is kept, weights stay shared bytes.
//! 2. [`graph`] says who produces and who uses each value, and which shapes are known.
//! 3. [`head`] follows the class scores back to the features: the layers that can be cut.
//! 4. [`data`] reads and preprocesses samples; without any, it makes noise and says so.
//! 5. [`engine`] runs graphs in ONNX Runtime or in the embedded tract.
//! 6. [`features`] runs the trunk, everything before the head, once over the samples.
//! 7. [`grad`] writes the graph of the derivatives, and [`sensitivity`] runs it and adds up scores.
//! 8. [`prune`] turns scores into a plan, the plan into a smaller graph, and a masked original.
//! 9. [`repair`] and [`finetune`] give back what the cut took, on the features that are there.
//! 10. [`eval`] proves masked original and smaller graph equal, in every engine there is; [`onnx`]
//!     moves the new file into place; [`report`] says what was done.
//!
//! [`study`] runs many of them over one pass of the trunk.
//!
//! [`pipeline`] is these ten lines as functions; the program `onnx-prune` only puts flags in front
//! and text behind. A module names only modules of lower rows; `tests/layers.rs` enforces it:
//!
//! | row | modules |
//! |---|---|
//! | 0 | [`error`], and [`remote`] above it |
//! | 1 | [`onnx`], [`data`], [`algebra`], [`shards`] |
//! | 2 | [`graph`], [`engine`] |
//! | 3 | [`grad`], [`prune`] |
//! | 4 | [`head`] |
//! | 5 | [`features`] |
//! | 6 | [`sensitivity`], [`eval`], [`repair`], [`finetune`], [`transfer`] |
//! | 7 | [`pipeline`] |
//! | 8 | [`study`] |
//! | 9 | [`report`] |

pub mod algebra;
pub mod data;
mod disk;
pub mod engine;
pub mod error;
pub mod eval;
pub mod features;
pub mod finetune;
pub mod grad;
pub mod graph;
pub mod head;
pub mod onnx;
pub mod pipeline;
pub mod prune;
pub mod remote;
pub mod repair;
pub mod report;
pub mod sensitivity;
pub mod shards;
pub mod study;
pub mod transfer;

pub use error::{Error, Result};
