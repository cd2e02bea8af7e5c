//! What a cut takes with it, and how it is made.
//!
//! A *group* is a set of axes that can only be cut together: the rows of one layer's weights, the
//! columns of the next one's, the BatchNorm between them. [`group`] follows an axis through the
//! graph with one small rule per operator (`rules`); [`plan`] picks which neurons stay;
//! [`rewrite`] makes the smaller model; [`mask`] makes its oracle, the original with the dropped
//! neurons' contribution set to zero; [`dense`] gives every sink a weight and a bias that can be
//! replaced; [`width`] drops neurons where a layer keeps its width.
//!
//! This module computes no scores and knows no engine.

pub mod dense;
pub mod group;
pub mod mask;
pub mod plan;
pub mod rewrite;
mod rules;
pub mod scores;
pub mod trunk;
pub mod width;

pub use group::{Group, Region, Sink, Source};
pub use plan::{Budget, Keep, Plan, Scope};
pub use rules::UNKNOWN_SHAPE;
pub use scores::{LayerScores, Scores};
