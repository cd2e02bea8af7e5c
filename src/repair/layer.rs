//! What a repair did to one layer.

use serde::Serialize;

use super::{
    Matching,
    sites::{Site, Wave},
};

/// What happened at one sink.
#[derive(Clone, Debug, Serialize)]
pub struct LayerRepair {
    /// The layer that was cut, or that the last layer reads.
    pub layer: String,
    /// The node that reads it, by the value it makes.
    pub node: String,
    /// How it was solved; nothing where it was not.
    pub form: Option<Form>,
    /// Ridge, as a share of the inputs' mean variance; least squares only.
    pub lambda: Option<f64>,
    /// Rows that were fitted: samples times positions.
    pub rows: usize,
    /// Inputs that are left.
    pub inputs: usize,
    /// Root of the mean squared difference from the original, as a share of the original's standard
    /// deviation, on samples that were used for nothing else; as cut.
    pub error_before: Option<f64>,
    /// The same as least squares or the mean repaired it, also where that was refused.
    pub error_after: Option<f64>,
    /// Whether that changed the weights.
    pub applied: bool,
    /// What followed at the layer that makes the logits; [`super::Repair::Reweighted`] only.
    pub matching: Option<Matching>,
    /// Why the weights did not change, or what is to be known about how they did.
    pub note: Option<String>,
}

/// How a sink was solved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// The bias alone.
    Mean,
    /// A matrix over the inputs.
    Primal,
    /// A matrix over the rows.
    Dual,
}

impl LayerRepair {
    /// Adds a sentence to the note.
    pub(super) fn say(&mut self, sentence: &str) {
        say(&mut self.note, sentence);
    }
}

pub(super) fn say(note: &mut Option<String>, sentence: &str) {
    *note = Some(match note.take() {
        Some(note) => format!("{note}; {sentence}"),
        None => sentence.to_owned(),
    });
}

impl Site {
    pub(super) fn untouched(&self, wave: &Wave) -> LayerRepair {
        LayerRepair {
            layer: self.layer.clone(),
            node: self.node.clone(),
            form: None,
            lambda: None,
            rows: 0,
            inputs: wave.inputs(),
            error_before: None,
            error_after: None,
            applied: false,
            matching: None,
            note: None,
        }
    }

    pub(super) fn refused(&self, wave: &Wave, why: String) -> LayerRepair {
        LayerRepair {
            note: Some(format!("stays as cut: {why}")),
            ..self.untouched(wave)
        }
    }
}
