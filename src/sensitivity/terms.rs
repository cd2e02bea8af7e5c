//! What scores depend on besides the sums.

use serde::{Deserialize, Serialize};

use super::{Criterion, Norm, Of, Request, Scale, redundancy};

/// Everything that turns sums into scores: with it, neither the model nor the samples are needed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Terms {
    /// What makes a neuron worth keeping.
    pub criterion: Criterion,
    /// Pairs of norms, over the samples and over the classes.
    pub norms: Vec<(Norm, Norm)>,
    /// What was differentiated.
    pub of: Of,
    /// What one unit of change is worth, as it was asked for.
    pub scale: Scale,
    /// What was left out: see [`super::ScoreOptions::row_tolerance`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub row_tolerance: Option<f64>,
    /// Random rows in place of the classes'.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probes: Option<usize>,
    /// Seed of criterion `random`, and of probes.
    pub seed: u64,
    /// Whether the samples were real.
    pub real_samples: bool,
    /// Samples that were added up.
    pub samples: u64,
    /// The layers of the head.
    pub layers: Vec<LayerTerms>,
}

/// One layer of a head.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerTerms {
    /// Its name.
    pub name: String,
    /// Its number of neurons.
    pub width: usize,
    /// The unit of each neuron; empty where each is by itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub units: Vec<usize>,
}

impl Terms {
    /// Those of a request, for `samples` samples.
    pub fn new(request: Request<'_>, norms: &[(Norm, Norm)], samples: u64) -> Self {
        let options = request.options;
        let layers = request.head.layers.iter().map(|layer| LayerTerms {
            name: layer.name.clone(),
            width: layer.width(),
            units: layer.units.as_deref().unwrap_or_default().to_vec(),
        });
        Self {
            criterion: options.criterion,
            norms: norms.to_vec(),
            of: options.of,
            scale: options.scale,
            row_tolerance: options.row_tolerance,
            probes: options.probes,
            seed: options.seed,
            real_samples: request.real_samples,
            samples,
            layers: layers.collect(),
        }
    }
}

impl LayerTerms {
    /// The neurons of each unit.
    pub(super) fn members(&self) -> Vec<Vec<usize>> {
        let units = (!self.units.is_empty()).then_some(self.units.as_slice());
        redundancy::members(units, self.width)
    }
}
