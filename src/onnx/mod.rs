//! A model file as it is: message types, loading, saving, external data, typed tensors.
//!
//! Nothing here knows what a graph means; see [`crate::graph`] for that. Weights stay shared bytes
//! ([`bytes::Bytes`]) from the file that was read to the file that is written.
//!
//! - In: `model` reads a file, or has `mapped` leave a large one to the kernel; `remote` fetches what
//!   lies at an address; `sniff` says what it is when it is no model; `wire` refuses fields that would
//!   be lost; `external` reads weights from other files; `check` compares tensors with their shapes.
//! - Out: `save` puts whole files in place; `stream` encodes around the weights; `detach` moves
//!   weights to a data file; [`digest()`] hashes what would be written.
//! - Between: `walk` finds every tensor; `layout`, `decode`, `cast` and [`mod@slice`] turn bytes
//!   into values; `node` and `value` build and read messages; [`text`] shows them.

#![deny(clippy::as_conversions)] // negative dims, i64 -> usize: every conversion here is checked

mod cast;
mod check;
mod decode;
mod detach;
mod digest;
mod dtype;
mod external;
mod layout;
mod mapped;
mod model;
mod node;
mod remote;
mod save;
pub mod slice;
mod sniff;
mod stream;
pub mod tensor;
pub mod text;
mod value;
mod walk;
mod wire;

/// The ONNX messages, generated from `proto/onnx.proto`.
#[expect(missing_docs, clippy::all, reason = "generated code")]
pub mod proto {
    include!(concat!(env!("OUT_DIR"), "/onnx.rs"));
}

pub use digest::digest;
pub use model::{Limits, Model};
pub use proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto,
    tensor_proto::DataType,
};
pub use save::{Output, Overwrite, Storage, Written};
pub use tensor::{Tensor, TensorData};
pub use value::Dim;
