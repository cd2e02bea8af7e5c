//! The ways of choosing neurons, and what each chose.

use serde::{Deserialize, Serialize};

use super::StudyOptions;
use crate::{
    prune::{LayerScores, Scores},
    sensitivity::{Criterion, Norm, Scale, ScoreOptions, Scored},
};

/// Most points of a curve of scores.
const POINTS: usize = 60;

/// A way of choosing; what the criterion does not look at is left out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    /// Name of the criterion.
    pub criterion: String,
    /// Norm over samples and classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub norm: Option<String>,
    /// What one unit of change is worth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<String>,
    /// Seed of a random choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
}

impl Choice {
    /// `lsa, p = inf, residual`; `random, seed 2`.
    pub fn label(&self) -> String {
        let norm = self.norm.as_ref().map(|norm| format!("p = {norm}"));
        let seed = self.seed.map(|seed| format!("seed {seed}"));
        let rest = [norm, self.scale.clone(), seed].into_iter().flatten();
        let mut label = self.criterion.clone();
        rest.for_each(|part| label = format!("{label}, {part}"));
        label
    }

    /// Whether it is one draw of several.
    pub fn is_random(&self) -> bool {
        self.seed.is_some()
    }
}

/// A choice to be made.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) choice: Choice,
    pub(super) criterion: Criterion,
    pub(super) norm: Norm,
    pub(super) scale: Scale,
    pub(super) seed: u64,
}

impl Wanted {
    /// What `prune` would be told.
    pub(super) fn options(&self) -> ScoreOptions {
        ScoreOptions {
            criterion: self.criterion,
            norm: self.norm,
            scale: self.scale,
            seed: self.seed,
            ..ScoreOptions::default()
        }
    }

    /// Whether both are found in one pass.
    fn is_beside(&self, other: &Self) -> bool {
        let pass = |one: &Self| (one.criterion.name(), one.scale, one.seed);
        pass(self) == pass(other)
    }
}

/// Every choice of a study, in the order of its report.
pub(super) fn wanted(options: &StudyOptions) -> Vec<Wanted> {
    let mut all: Vec<Wanted> = Vec::new();
    for &criterion in &options.criteria {
        let or = |used: bool, given: usize| if used { given } else { 1 };
        for &scale in &options.scales[..or(criterion.uses_scale(), options.scales.len())] {
            for &norm in &options.norms[..or(criterion.uses_norm(), options.norms.len())] {
                for draw in 0..or(criterion.uses_seed(), options.seeds) {
                    let seed = options.source.seed.wrapping_add(draw as u64);
                    let one = Wanted::new(criterion, norm, scale, seed);
                    if all.iter().all(|other| other.choice != one.choice) {
                        all.push(one);
                    }
                }
            }
        }
    }
    all
}

/// The choices that one pass over the samples finds together.
pub(super) fn passes(missing: Vec<Wanted>) -> Vec<Vec<Wanted>> {
    let mut passes: Vec<Vec<Wanted>> = Vec::new();
    for one in missing {
        match passes.iter_mut().find(|pass| pass[0].is_beside(&one)) {
            Some(pass) => pass.push(one),
            None => passes.push(vec![one]),
        }
    }
    passes
}

impl Wanted {
    fn new(criterion: Criterion, norm: Norm, scale: Scale, seed: u64) -> Self {
        let scale = match (criterion.uses_scale(), scale) {
            (false, _) => Scale::Auto,
            // A study has real samples.
            (true, Scale::Auto) => Scale::Residual,
            (true, other) => other,
        };
        Self {
            choice: Choice {
                criterion: criterion.name().to_owned(),
                norm: criterion.uses_norm().then(|| norm.to_string()),
                scale: criterion.uses_scale().then(|| name_of(&scale)),
                seed: criterion.uses_seed().then_some(seed),
            },
            criterion,
            norm,
            scale,
            seed,
        }
    }
}

/// What a choice led to; a part of the study.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ChoicePart {
    /// What was differentiated, where anything was.
    pub(super) of: Option<String>,
    /// What one unit of change was worth in the end.
    pub(super) scale: Option<String>,
    /// Samples that were looked at.
    pub(super) samples: usize,
    pub(super) notes: Vec<String>,
    pub(super) layers: Vec<ChosenLayer>,
}

/// The neurons of one layer as a choice sees them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChosenLayer {
    /// Name of the layer.
    pub name: String,
    /// Scores, the largest first, as shares of it: at most 60, evenly spread over the ranks.
    pub curve: Vec<f64>,
    /// Every neuron, the most worth keeping first.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub ranking: Vec<usize>,
}

impl ChoicePart {
    pub(super) fn new(scored: &Scored) -> Self {
        let report = &scored.report;
        Self {
            of: report.of.map(|of| name_of(&of)),
            scale: report.scale.map(|scale| name_of(&scale)),
            samples: report.samples,
            notes: report.notes.clone(),
            layers: scored.scores.layers.iter().map(chosen).collect(),
        }
    }

    /// Scores that choose the same neurons, at every level.
    pub(super) fn scores(&self) -> Scores {
        let layers = self.layers.iter().map(|layer| LayerScores {
            ranking: layer.ranking.clone(),
            ..LayerScores::new(&layer.name, vec![0.0; layer.ranking.len()])
        });
        Scores {
            layers: layers.collect(),
        }
    }
}

fn chosen(layer: &LayerScores) -> ChosenLayer {
    let ranking = layer.ranked_units().concat();
    let values: Vec<f64> = ranking.iter().map(|&neuron| layer.values[neuron]).collect();
    let largest = values.iter().copied().fold(0.0, f64::max);
    let scale = if largest > 0.0 { largest } else { 1.0 };
    let count = values.len().min(POINTS);
    let points = (0..count).map(|point| {
        let rank = match count {
            1 => 0,
            _ => point * (values.len() - 1) / (count - 1),
        };
        rounded(values[rank] / scale)
    });
    ChosenLayer {
        name: layer.name.clone(),
        curve: points.collect(),
        ranking,
    }
}

/// Four digits, so that rounding of sums does not show.
fn rounded(value: f64) -> f64 {
    format!("{value:.3e}").parse().unwrap_or(value)
}

/// The name that a value has in JSON.
pub(super) fn name_of(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => name,
        other => other.map(|value| value.to_string()).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn options() -> StudyOptions {
        StudyOptions::new(vec![PathBuf::from("m.onnx")], "d".into(), "o".into())
    }

    #[test]
    fn each_criterion_is_varied_by_what_it_looks_at() {
        let mut options = options();
        options.source.seed = 5;
        options.scales = vec![Scale::Auto, Scale::None, Scale::Residual];
        let labels: Vec<String> = wanted(&options)
            .iter()
            .map(|one| one.choice.label())
            .collect();
        assert_eq!(
            labels,
            [
                "lsa, p = 1, residual",
                "lsa, p = 2, residual",
                "lsa, p = inf, residual",
                "lsa, p = 1, none",
                "lsa, p = 2, none",
                "lsa, p = inf, none",
                "weight, p = 1",
                "weight, p = 2",
                "weight, p = inf",
                "taylor",
                "obs",
                "random, seed 5",
                "random, seed 6",
                "random, seed 7",
            ]
        );
        let passes: Vec<usize> = passes(wanted(&options)).iter().map(Vec::len).collect();
        assert_eq!(passes, [3, 3, 3, 1, 1, 1, 1, 1]);
    }

    #[test]
    fn a_choice_read_back_keeps_the_same_neurons() {
        let layer = LayerScores {
            ranking: vec![2, 0, 3, 1],
            ..LayerScores::new("features", vec![0.5, 0.1, 2.0, 0.25])
        };
        let chosen = chosen(&layer);
        assert_eq!(chosen.curve, [1.0, 0.25, 0.125, 0.05]);
        let part = ChoicePart {
            of: None,
            scale: None,
            samples: 0,
            notes: Vec::new(),
            layers: vec![chosen],
        };
        let scores = part.scores();
        assert_eq!(scores.layers[0].ranked_units(), layer.ranked_units());
    }

    #[test]
    fn long_curves_are_thinned_and_keep_both_ends() {
        let values: Vec<f64> = (0..3136).map(f64::from).collect();
        let curve = chosen(&LayerScores::new("features", values)).curve;
        assert_eq!((curve.len(), curve[0], curve[59]), (60, 1.0, 0.0));
    }
}
