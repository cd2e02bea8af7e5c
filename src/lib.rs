//! Makes pretrained ONNX classifiers smaller.

pub mod data;
pub mod engine;
pub mod error;
pub mod eval;
pub mod features;
pub mod grad;
pub mod graph;
pub mod head;
pub mod onnx;
pub mod pipeline;
pub mod prune;
pub mod report;
pub mod sensitivity;

pub use error::{Error, Result};
