//! How much each neuron matters, layer by layer; filled by [`crate::sensitivity`].

use serde::{Deserialize, Serialize};

/// Scores of all layers of a head, in the order of [`crate::head::Head::layers`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// One entry per layer.
    pub layers: Vec<LayerScores>,
}

/// Scores of one layer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LayerScores {
    /// Name of the layer, as in `--keep NAME=R`.
    pub name: String,
    /// One score per neuron; larger means that the class scores depend on it more.
    pub values: Vec<f64>,
}
