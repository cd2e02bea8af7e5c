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
    /// Every neuron, the most worth keeping first, where that is more than the order of `values`: a
    /// choice that knows about redundancy depends on what else is kept. Empty: by `values`, ties
    /// keep the lower index.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ranking: Vec<usize>,
    /// The unit of each neuron, `0..U`: its neurons are kept or dropped together, as the places of
    /// one channel. Empty: each neuron by itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub units: Vec<usize>,
}

impl LayerScores {
    /// Neurons that are each ranked by their own score.
    pub fn new(name: impl Into<String>, values: Vec<f64>) -> Self {
        Self {
            name: name.into(),
            values,
            ..Self::default()
        }
    }

    /// Number of neurons.
    pub fn width(&self) -> usize {
        self.values.len()
    }

    /// Number of units; that of the neurons where each is by itself.
    pub fn unit_count(&self) -> usize {
        match self.units.iter().max() {
            Some(last) => last + 1,
            None => self.width(),
        }
    }

    /// Whether the ranking names every neuron once, and every neuron has a unit, where there are any.
    pub fn is_sound(&self) -> bool {
        let mut named = vec![false; self.width()];
        let ranked = self.ranking.iter().all(|&neuron| {
            let place = named.get_mut(neuron);
            place.is_some_and(|named| !std::mem::replace(named, true))
        });
        let all = |list: &[usize]| list.is_empty() || list.len() == self.width();
        ranked && all(&self.ranking) && all(&self.units)
    }

    /// The units, the most worth keeping first, each with its neurons in rising order.
    ///
    /// A unit stands where the first of its neurons stands in the ranking.
    pub fn ranked_units(&self) -> Vec<Vec<usize>> {
        let order = self.order();
        if self.units.is_empty() {
            return order.into_iter().map(|neuron| vec![neuron]).collect();
        }
        let mut place: Vec<Option<usize>> = vec![None; self.unit_count()];
        let mut ranked: Vec<Vec<usize>> = Vec::new();
        for neuron in order {
            let unit = self.units[neuron];
            let at = *place[unit].get_or_insert(ranked.len());
            if at == ranked.len() {
                ranked.push(Vec::new());
            }
            ranked[at].push(neuron);
        }
        ranked.iter_mut().for_each(|unit| unit.sort_unstable());
        ranked
    }

    fn order(&self) -> Vec<usize> {
        if !self.ranking.is_empty() {
            return self.ranking.clone();
        }
        let mut order: Vec<usize> = (0..self.width()).collect();
        order.sort_by(|&a, &b| self.values[b].total_cmp(&self.values[a]).then(a.cmp(&b)));
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_ranked_by_ranking_or_value_and_ties_keep_the_lower_index() {
        struct Case<'c> {
            values: &'c [f64],
            ranking: &'c [usize],
            units: &'c [usize],
            expected: &'c [&'c [usize]],
        }
        let cases = [
            // by value
            Case {
                values: &[1.0, 3.0, 2.0, 3.0],
                ranking: &[],
                units: &[],
                expected: &[&[1], &[3], &[2], &[0]],
            },
            // all alike, and one that is infinite
            Case {
                values: &[2.0, 2.0, f64::INFINITY],
                ranking: &[],
                units: &[],
                expected: &[&[2], &[0], &[1]],
            },
            // a ranking overrules
            Case {
                values: &[1.0, 3.0, 2.0],
                ranking: &[2, 0, 1],
                units: &[],
                expected: &[&[2], &[0], &[1]],
            },
            // units of two, whose neurons lie apart
            Case {
                values: &[1.0, 4.0, 1.0, 4.0],
                ranking: &[],
                units: &[0, 1, 0, 1],
                expected: &[&[1, 3], &[0, 2]],
            },
            // both
            Case {
                values: &[4.0, 4.0, 1.0, 1.0],
                ranking: &[3, 2, 1, 0],
                units: &[0, 0, 1, 1],
                expected: &[&[2, 3], &[0, 1]],
            },
        ];
        for case in cases {
            let scores = LayerScores {
                ranking: case.ranking.to_vec(),
                units: case.units.to_vec(),
                ..LayerScores::new("features", case.values.to_vec())
            };
            assert_eq!(scores.ranked_units(), case.expected, "{scores:?}");
        }
    }
}
