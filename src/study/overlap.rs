//! How far two norms agree about which neurons stay.

use serde::Serialize;

use super::ChoiceReport;

/// Two norms of one criterion, at one level.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Overlap {
    /// Criterion and scale.
    pub choice: String,
    /// The layer.
    pub layer: String,
    /// One norm.
    pub one: String,
    /// The other.
    pub other: String,
    /// The level.
    pub keep: f64,
    /// Share of the kept neurons that both keep. By chance it would be the level itself.
    pub share: f64,
}

/// All pairs of norms, by layer and level.
pub(super) fn overlaps(choices: &[ChoiceReport], keeps: &[f64]) -> Vec<Overlap> {
    let mut found = Vec::new();
    for (at, one) in choices.iter().enumerate() {
        for other in &choices[at + 1..] {
            found.extend(of_pair(one, other, keeps));
        }
    }
    found
}

fn of_pair(one: &ChoiceReport, other: &ChoiceReport, keeps: &[f64]) -> Vec<Overlap> {
    let (Some(norm), Some(other_norm)) = (&one.choice.norm, &other.choice.norm) else {
        return Vec::new();
    };
    // Of weights, the norm goes over the classes alone.
    let is_lsa = one.choice.criterion == "lsa";
    let same = is_lsa
        && one.choice.criterion == other.choice.criterion
        && one.choice.scale == other.choice.scale;
    if !same {
        return Vec::new();
    }
    let scale = one.choice.scale.as_ref();
    let choice = scale.map_or_else(
        || one.choice.criterion.clone(),
        |scale| format!("{}, {scale}", one.choice.criterion),
    );
    let layers = one.layers.iter().zip(&other.layers);
    let pairs = layers.flat_map(|layers| keeps.iter().map(move |&keep| (layers, keep)));
    pairs
        .map(|((layer, other), keep)| Overlap {
            choice: choice.clone(),
            layer: layer.name.clone(),
            one: norm.clone(),
            other: other_norm.clone(),
            keep,
            share: share(&layer.ranking, &other.ranking, keep),
        })
        .collect()
}

/// Of the first `keep` of one ranking, the share that is among the first of the other.
fn share(one: &[usize], other: &[usize], keep: f64) -> f64 {
    let count = crate::prune::Keep::Share(keep).of(one.len()).unwrap_or(1);
    let mut kept = vec![false; one.len()];
    other
        .iter()
        .take(count)
        .for_each(|&neuron| kept[neuron] = true);
    let both = one.iter().take(count).filter(|&&neuron| kept[neuron]);
    both.count() as f64 / count.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_count_neurons_that_both_keep() {
        let (one, other) = ([0, 1, 2, 3, 4], [4, 0, 1, 2, 3]);
        for (keep, expected) in [(0.2, 0.0), (0.4, 0.5), (0.6, 2.0 / 3.0), (1.0, 1.0)] {
            let found = share(&one, &other, keep);
            assert!((found - expected).abs() < 1e-12, "{keep}: {found}");
        }
    }
}
