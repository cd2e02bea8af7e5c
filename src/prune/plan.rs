//! Which neurons stay: a budget, scores, and the selection they lead to.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    Group,
    scores::{LayerScores, Scores},
};
use crate::{
    error::{Error, Result},
    graph::NodeId,
};

/// How many neurons of a layer stay.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Keep {
    /// A whole number of neurons.
    Count(usize),
    /// A share in (0, 1]; rounded up, so that at least one stays.
    Share(f64),
}

impl Keep {
    /// Reads `0.3`, `1` (all), or, above 1, a whole number of neurons.
    ///
    /// # Errors
    /// [`Error::Argument`] for anything else.
    pub fn parse(text: &str) -> Result<Self> {
        let invalid = |what: &str| Error::Argument {
            name: "--keep",
            what: format!("{text:?} {what}"),
        };
        let number: f64 = text
            .trim()
            .parse()
            .map_err(|_| invalid("is neither a share in (0, 1] nor a whole number of neurons"))?;
        if number > 0.0 && number <= 1.0 {
            return Ok(Self::Share(number));
        }
        match text.trim().parse::<usize>() {
            Ok(count) if count > 1 => Ok(Self::Count(count)),
            _ if number > 1.0 => Err(invalid("is above 1 but no whole number of neurons")),
            _ => Err(invalid(
                "is not above 0; at least one neuron stays in every layer",
            )),
        }
    }

    /// Number of neurons that stay out of `width`: at least one, at most all.
    ///
    /// # Errors
    /// [`Error::Argument`] when a count is larger than the layer.
    pub fn of(self, width: usize) -> Result<usize> {
        match self {
            Self::Count(count) if count > width => Err(Error::Argument {
                name: "--keep",
                what: format!("{count} neurons cannot stay in a layer of {width}"),
            }),
            Self::Count(count) => Ok(count.max(1)),
            Self::Share(share) => Ok(share_of(share, width)),
        }
    }
}

/// `ceil(share * width)`, at least 1; a product that is whole up to rounding is not rounded up.
fn share_of(share: f64, width: usize) -> usize {
    let exact = share * width as f64;
    let nearest = exact.round();
    let count = if (exact - nearest).abs() < 1e-9 * width as f64 {
        nearest
    } else {
        exact.ceil()
    };
    (count as usize).clamp(1, width)
}

/// How many neurons stay, for all layers or by name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Budget {
    /// Layers without an entry of their own.
    pub default: Keep,
    /// Layers by name.
    pub layers: BTreeMap<String, Keep>,
    /// Whether neurons compete within their layer or over all layers.
    pub scope: Scope,
    /// Numbers of units are rounded up to a multiple of this, where the layer has as many: kernels
    /// are made for round widths.
    #[serde(default = "unaligned", skip_serializing_if = "is_unaligned")]
    pub align: usize,
}

fn unaligned() -> usize {
    1
}

fn is_unaligned(align: &usize) -> bool {
    *align == unaligned()
}

/// Among which neurons a selection ranks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Each layer keeps its own share.
    #[default]
    Local,
    /// All layers together keep the share; scores are first divided by their layer's mean.
    Global,
}

/// The neurons that stay in each layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// One entry per layer of the head, in its order.
    pub layers: Vec<LayerPlan>,
}

/// The neurons that stay in one layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerPlan {
    /// Name of the layer.
    pub name: String,
    /// Number of neurons before.
    pub width: usize,
    /// Kept neurons, sorted, without repeats, never empty.
    pub keep: Vec<usize>,
}

impl Budget {
    /// The same budget for every layer, ranked within each.
    pub fn uniform(keep: Keep) -> Self {
        Self {
            default: keep,
            layers: BTreeMap::new(),
            scope: Scope::Local,
            align: unaligned(),
        }
    }

    /// Keeps the first units of each layer's ranking ([`LayerScores::ranked_units`]).
    ///
    /// A budget counts units, which are neurons unless the scores say otherwise. What a smaller
    /// budget keeps, a larger one of the same scores keeps too.
    ///
    /// # Errors
    /// [`Error::Argument`] when a named layer does not exist, a count does not fit, or a score is
    /// not a number.
    pub fn select(&self, scores: &Scores) -> Result<Plan> {
        self.check(scores)?;
        let counts = match self.scope {
            Scope::Local => self.local_counts(scores)?,
            Scope::Global => self.global_counts(scores)?,
        };
        let layers = scores.layers.iter().zip(counts);
        Ok(Plan {
            layers: layers
                .map(|(layer, count)| LayerPlan {
                    name: layer.name.clone(),
                    width: layer.width(),
                    keep: first(layer, count.next_multiple_of(self.align.max(1))),
                })
                .collect(),
        })
    }

    fn check(&self, scores: &Scores) -> Result<()> {
        let names: Vec<&str> = scores.layers.iter().map(|l| l.name.as_str()).collect();
        if let Some(name) = self
            .layers
            .keys()
            .find(|name| !names.contains(&name.as_str()))
        {
            return Err(Error::Argument {
                name: "--keep",
                what: format!(
                    "the head has no layer {name:?}; it has {}",
                    names.join(", ")
                ),
            });
        }
        for layer in &scores.layers {
            if let Some(index) = layer.values.iter().position(|score| score.is_nan()) {
                return Err(Error::Argument {
                    name: "--criterion",
                    what: format!(
                        "the score of neuron {index} of layer {:?} is not a number; the model or the data holds NaN or infinite values",
                        layer.name
                    ),
                });
            }
        }
        Ok(())
    }

    fn keep_of(&self, name: &str) -> Keep {
        self.layers.get(name).copied().unwrap_or(self.default)
    }

    fn local_counts(&self, scores: &Scores) -> Result<Vec<usize>> {
        let layers = scores.layers.iter();
        layers
            .map(|layer| self.keep_of(&layer.name).of(layer.unit_count()))
            .collect()
    }

    /// Layers with a budget of their own keep it; the others share the default.
    fn global_counts(&self, scores: &Scores) -> Result<Vec<usize>> {
        let mut counts = self.local_counts(scores)?;
        let shared: Vec<usize> = (0..counts.len())
            .filter(|&layer| !self.layers.contains_key(&scores.layers[layer].name))
            .collect();
        let mut pool: Vec<(f64, usize, usize)> = Vec::new();
        for &layer in &shared {
            let values = &scores.layers[layer].values;
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            let scale = if mean > 0.0 { mean } else { 1.0 };
            let ranked = scores.layers[layer].ranked_units().into_iter().enumerate();
            pool.extend(ranked.map(|(place, unit)| (values[unit[0]] / scale, layer, place)));
        }
        let total = self.default.of(pool.len()).unwrap_or(pool.len());
        // The best neuron of each layer stays whatever the others score.
        pool.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
        shared.iter().for_each(|&layer| counts[layer] = 1);
        let mut left = total.saturating_sub(shared.len());
        let mut first = vec![true; counts.len()];
        for (_, layer, _) in pool {
            if std::mem::replace(&mut first[layer], false) {
                continue;
            }
            if left == 0 {
                break;
            }
            counts[layer] += 1;
            left -= 1;
        }
        Ok(counts)
    }
}

impl Plan {
    /// Makes sure that no weight loses all its neurons.
    ///
    /// Where a layer is made by several operators side by side (a Concat), each keeps at least its
    /// best neuron, in place of the worst kept one of an operator that has several.
    pub fn fill_parts(&mut self, groups: &[&Group], scores: &Scores) {
        let layers = self.layers.iter_mut().zip(groups).zip(&scores.layers);
        for ((layer, group), scores) in layers {
            let parts = group.parts();
            if parts.is_empty() {
                continue;
            }
            let units = scores.ranked_units();
            for part in &parts {
                let is_kept = |neuron| layer.keep.binary_search(neuron).is_ok();
                if part.iter().any(is_kept) {
                    continue;
                }
                let reaches = |unit: &&Vec<usize>| {
                    unit.iter().any(|neuron| part.binary_search(neuron).is_ok())
                };
                let Some(best) = units.iter().find(reaches) else {
                    continue;
                };
                if let Some(worst) = worst_to_spare(&parts, &layer.keep, &units) {
                    layer
                        .keep
                        .retain(|neuron| worst.binary_search(neuron).is_err());
                }
                layer.keep.extend(best);
                layer.keep.sort_unstable();
            }
        }
    }

    /// Which entries of a weight axis of `node` stay, and how many there are; nothing where none of
    /// `groups`, one per layer, cuts it.
    pub fn entries_of(
        &self,
        groups: &[&Group],
        node: NodeId,
        axis: usize,
    ) -> Option<(usize, Vec<usize>)> {
        groups.iter().zip(&self.layers).find_map(|(group, kept)| {
            let map = group.neurons_of(node, axis)?;
            let entries = map.iter().enumerate();
            let entries = entries.filter(|(_, neuron)| kept.keep.binary_search(neuron).is_ok());
            Some((map.len(), entries.map(|(at, _)| at).collect()))
        })
    }

    /// Whether every neuron stays.
    pub fn keeps_all(&self) -> bool {
        let layers = self.layers.iter();
        layers.clone().all(|layer| layer.keep.len() == layer.width)
    }
}

/// The last kept unit of the ranking whose loss leaves no part empty.
fn worst_to_spare<'u>(
    parts: &[Vec<usize>],
    keep: &[usize],
    units: &'u [Vec<usize>],
) -> Option<&'u Vec<usize>> {
    let held = |part: &[usize], neurons: &[usize]| {
        let held = neurons.iter();
        held.filter(|neuron| part.binary_search(neuron).is_ok())
            .count()
    };
    let kept: Vec<usize> = parts.iter().map(|part| held(part, keep)).collect();
    let is_spare = |unit: &&Vec<usize>| {
        let is_kept = unit.iter().any(|neuron| keep.binary_search(neuron).is_ok());
        is_kept
            && parts.iter().zip(&kept).all(|(part, &kept)| {
                let own = held(part, unit);
                own == 0 || own < kept
            })
    };
    units.iter().rev().find(is_spare)
}

/// The neurons of the first `count` units, sorted.
fn first(scores: &LayerScores, count: usize) -> Vec<usize> {
    let mut units = scores.ranked_units();
    units.truncate(count);
    let mut keep = units.concat();
    keep.sort_unstable();
    keep
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scores(layers: &[(&str, &[f64])]) -> Scores {
        Scores {
            layers: layers
                .iter()
                .map(|(name, values)| LayerScores::new(*name, values.to_vec()))
                .collect(),
        }
    }

    #[test]
    fn keep_reads_shares_and_counts_and_refuses_the_rest() {
        let cases = [
            ("0.3", Some(Keep::Share(0.3))),
            ("1", Some(Keep::Share(1.0))),
            ("1.0", Some(Keep::Share(1.0))),
            ("512", Some(Keep::Count(512))),
            ("0", None),
            ("-0.1", None),
            ("1.5", None),
            ("nan", None),
            ("inf", None),
            ("", None),
            ("many", None),
        ];
        for (text, expected) in cases {
            assert_eq!(Keep::parse(text).ok(), expected, "--keep {text:?}");
        }
    }

    #[test]
    fn a_share_is_rounded_up_but_not_by_floating_point_noise() {
        // 0.3 * 10 is 3.0000000000000004 in f64, 0.07 * 100 is 7.000000000000001
        for (share, width, expected) in [
            (0.3, 10, 3),
            (0.07, 100, 7),
            (0.301, 10, 4),
            (0.001, 10, 1),
            (1.0, 7, 7),
            (0.3, 25088, 7527),
        ] {
            assert_eq!(share_of(share, width), expected, "{share} of {width}");
        }
    }

    #[test]
    fn the_first_units_stay_and_a_smaller_budget_is_a_subset() {
        let alone = LayerScores::new("a", vec![1.0, 3.0, 2.0, 3.0]);
        assert_eq!(first(&alone, 2), [1, 3]);
        let paired = LayerScores {
            ranking: vec![4, 1, 0, 3, 2, 5],
            units: vec![0, 1, 2, 0, 1, 2],
            ..LayerScores::new("a", vec![1.0; 6])
        };
        let expected: [&[usize]; 3] = [&[1, 4], &[0, 1, 3, 4], &[0, 1, 2, 3, 4, 5]];
        for (count, expected) in (1..).zip(expected) {
            assert_eq!(first(&paired, count), expected);
        }
        // A third of three channels, however many neurons these have.
        let scores = Scores {
            layers: vec![paired],
        };
        let plan = Budget::uniform(Keep::Share(0.3)).select(&scores).unwrap();
        assert_eq!(
            (plan.layers[0].width, &*plan.layers[0].keep),
            (6, &[1, 4][..])
        );
        let plan = Budget::uniform(Keep::Count(2)).select(&scores).unwrap();
        assert_eq!(plan.layers[0].keep, [0, 1, 3, 4]);
    }

    #[test]
    fn counts_are_rounded_up_to_the_alignment_but_not_beyond_the_layer() {
        let values: Vec<f64> = (0..20).map(f64::from).collect();
        let scores = Scores {
            layers: vec![LayerScores::new("features", values)],
        };
        for (keep, align, expected) in [(3, 1, 3), (3, 8, 8), (8, 8, 8), (9, 8, 16), (17, 16, 20)] {
            let budget = Budget {
                align,
                ..Budget::uniform(Keep::Count(keep))
            };
            let plan = budget.select(&scores).unwrap();
            assert_eq!(plan.layers[0].keep.len(), expected, "{keep} to {align}");
        }
    }

    #[test]
    fn the_worst_unit_that_no_part_needs_makes_room() {
        let units = [vec![0, 3], vec![1], vec![2], vec![4]];
        let parts = [vec![0, 1, 2], vec![2, 3, 4]];
        for (keep, expected) in [
            // Both parts have another.
            (&[0, 2, 3][..], Some(&units[2])),
            // Neuron 2 is the only one of the second part.
            (&[1, 2], Some(&units[1])),
            // Each part has one.
            (&[1, 4], None),
        ] {
            assert_eq!(worst_to_spare(&parts, keep, &units), expected, "{keep:?}");
        }
    }

    #[test]
    fn layers_follow_their_own_budget() {
        let mut budget = Budget::uniform(Keep::Share(0.5));
        budget.layers.insert("fc1".to_owned(), Keep::Count(3));
        let plan = budget.select(&scores(&[
            ("features", &[1.0, 2.0, 3.0, 4.0]),
            ("fc1", &[4.0, 3.0, 2.0, 1.0]),
        ]));
        let keeps: Vec<Vec<usize>> = plan.unwrap().layers.into_iter().map(|l| l.keep).collect();
        assert_eq!(keeps, [vec![2, 3], vec![0, 1, 2]]);
    }

    #[test]
    fn global_scope_moves_neurons_between_layers_but_empties_none() {
        let budget = Budget {
            scope: Scope::Global,
            ..Budget::uniform(Keep::Share(0.5))
        };
        // Divided by their means: [0.4, 0.4, 0.4, 2.8] and [1, 1, 1, 1].
        let plan = budget.select(&scores(&[
            ("a", &[1.0, 1.0, 1.0, 7.0]),
            ("b", &[5.0, 5.0, 5.0, 5.0]),
        ]));
        let keeps: Vec<Vec<usize>> = plan.unwrap().layers.into_iter().map(|l| l.keep).collect();
        assert_eq!(keeps, [vec![3], vec![0, 1, 2]]);
    }

    #[test]
    fn a_budget_that_does_not_fit_names_the_layer() {
        let scores = scores(&[("features", &[1.0, f64::NAN])]);
        let error = Budget::uniform(Keep::Share(0.5)).select(&scores);
        assert!(error.unwrap_err().to_string().contains("neuron 1 of layer"));
        let mut budget = Budget::uniform(Keep::Share(0.5));
        budget.layers.insert("fc9".to_owned(), Keep::Share(0.5));
        let error = budget.select(&scores).unwrap_err().to_string();
        assert!(error.contains("no layer \"fc9\""), "{error}");
    }
}
