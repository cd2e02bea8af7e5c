//! What other choices of as many neurons are worth.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{
    super::{
        draft::{Draft, Workshop},
        figures::{self, Worth},
        score::{self, View},
        watch::{Silent, Watch},
    },
    PruneOptions, plan,
};
use crate::{
    error::Result,
    head::Head,
    prune::{Budget, Keep, Plan},
    sensitivity::{Criterion, ScoreOptions},
};

/// Choices that every result can be held against.
const BASELINES: [&str; 2] = ["random", "weight"];

/// Another choice of as many neurons, repaired and trained alike.
#[derive(Clone, Debug, Serialize)]
pub struct Baseline {
    /// How the neurons were chosen.
    pub criterion: Criterion,
    /// What that was worth.
    #[serde(flatten)]
    pub worth: Worth,
}

/// As many neurons, chosen at random and by the norm of their weights.
pub(super) fn measured(
    workshop: &Workshop<'_>,
    options: &PruneOptions,
    draft: &Draft,
    watch: &dyn Watch,
) -> Result<Vec<Baseline>> {
    let Some(material) = workshop.material.filter(|_| options.baselines) else {
        return Ok(Vec::new());
    };
    let budget = Budget {
        layers: counts(workshop.head, &draft.plan),
        ..Budget::uniform(Keep::Share(1.0))
    };
    let mut found = Vec::new();
    for criterion in BASELINES {
        let criterion: Criterion = criterion.parse()?;
        let score = ScoreOptions {
            criterion,
            seed: options.source.seed,
            ..ScoreOptions::default()
        };
        let scored = score::scores(
            workshop.setup,
            View::of(workshop.setup, workshop.head),
            &score,
            None,
            Some(material.calibration()),
            &Silent,
        )?;
        let plan = plan(&budget, &workshop.groups(), &scored.scores)?;
        let draft = workshop.draft(&plan, watch)?;
        let worth = figures::worth(workshop, &draft, material, watch)?;
        found.push(Baseline { criterion, worth });
    }
    Ok(found)
}

/// How many neurons, or units where a layer has them, stay in each layer.
fn counts(head: &Head, plan: &Plan) -> BTreeMap<String, Keep> {
    let layers = head.layers.iter().zip(&plan.layers);
    let counts = layers.map(|(layer, kept)| {
        let count = match &layer.units {
            None => kept.keep.len(),
            Some(units) => {
                let kept = kept.keep.iter().filter_map(|&neuron| units.get(neuron));
                kept.collect::<BTreeSet<_>>().len()
            }
        };
        (layer.name.clone(), Keep::Count(count))
    });
    counts.collect()
}
