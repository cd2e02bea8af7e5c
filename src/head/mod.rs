//! The classification head: where the class scores come from, and which layers lead to them.
//!
//! From the class scores back: operators that only reshape or rescale scores, then the last dense
//! layer, then, group by group ([`crate::prune::Group`]), the layers in front of it, until a cut
//! cannot travel on. What it stops at is where the *features* enter; everything before is the
//! trunk, in which any operator may occur.
//!
//! The module sits above `prune` because the rules that find a layer are the rules that cut it.

mod find;
mod random;
mod rehead;
mod scores;
#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    graph::{NodeId, ValueId},
    prune::Group,
};

pub use find::find;
pub use rehead::{LastLayer, LastWeights};

/// What a note says of a value that a cut of the head does not pass; the trunk may lose channels yet.
pub const BORDER: &str = "the cut of the head ends at";

/// A classification head as found in a graph.
#[derive(Clone, Debug)]
pub struct Head {
    /// The class scores.
    pub scores: ClassScores,
    /// Layers that can be cut, from the features to the scores.
    pub layers: Vec<Layer>,
    /// The values at which trunk and head part: all that the head reads of the trunk.
    pub features: Vec<ValueId>,
    /// The nodes of the head.
    pub nodes: BTreeSet<NodeId>,
    /// What could not be cut, or only in part, and why; one sentence each.
    pub notes: Vec<String>,
    /// Whether more could be cut if the shapes of all values near the scores were known.
    pub wants_shapes: bool,
}

/// The class scores of a model.
#[derive(Clone, Debug)]
pub struct ClassScores {
    /// The scores as the model ends, before any ArgMax: `[N, K]`, perhaps with further axes of
    /// size 1.
    pub value: ValueId,
    /// The scores before the final Softmax or Sigmoid; `value` itself where there is none.
    pub logits: ValueId,
    /// Number of classes K.
    pub classes: usize,
    /// How the model ends.
    pub ending: Ending,
    /// The model's output they were found behind.
    pub output: ValueId,
    /// The contractions that make them: one, or several that are averaged.
    pub last: Vec<NodeId>,
}

/// What the last operator on the class scores is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ending {
    /// Unbounded scores.
    Logits,
    /// Probabilities that sum to one.
    Softmax,
    /// Logarithms of probabilities.
    LogSoftmax,
    /// Probabilities, each class for itself.
    Sigmoid,
}

/// A set of neurons that can be cut.
#[derive(Clone, Debug)]
pub struct Layer {
    /// `features`, or `fc1`, `fc2`, ... in the order of the graph.
    pub name: String,
    /// The neurons and everything that goes with them.
    pub group: Group,
    /// What made it a layer, for people.
    pub recognised: String,
    /// The unit of each neuron, `0..U`, where neurons are kept or dropped several together (the
    /// places of one channel); nothing where each goes by itself.
    pub units: Option<Arc<[usize]>>,
}

impl Layer {
    /// Number of neurons.
    pub fn width(&self) -> usize {
        self.group.width
    }
}
