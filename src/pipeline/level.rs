//! Looks for the level of a budget: how few neurons may stay.

use super::{
    draft::{Draft, Workshop},
    figures::{self, Reference},
    material::Material,
    prune,
    search::{LEVELS, Limit, SearchReport, Tried, first_that_fits},
    watch::Watch,
};
use crate::{
    error::{Error, Result},
    onnx::Model,
    prune::{Budget, Keep},
    sensitivity::Scored,
};

/// What a search ended with.
pub(super) struct Found {
    /// The smaller model at that level.
    pub(super) draft: Draft,
    /// How the level was found; [`SearchReport::confirm`] has the last word.
    pub(super) report: SearchReport,
}

/// A search under way.
struct Search<'s> {
    workshop: &'s Workshop<'s>,
    limit: &'s Limit,
    /// Scope and alignment of every level.
    budget: &'s Budget,
    scored: &'s Scored,
    /// What drops are measured on and against.
    checked: Option<(&'s Material, Reference)>,
    /// Levels at which this head loses any neuron.
    levels: Vec<f64>,
    tried: Vec<Tried>,
    /// The last draft within the limit, and the last one that is not: a search ends at a level that
    /// it has been to, and with training a draft takes minutes.
    within: Option<Made>,
    beyond: Option<Made>,
    watch: &'s dyn Watch,
}

/// The draft of a level, and how it stands to the limit.
struct Made {
    level: usize,
    draft: Draft,
    tried: Tried,
}

/// Finds the smallest level within `max_drop`, or else the largest within `max_bytes`.
///
/// # Errors
/// [`Error::Argument`] where the drop is of accuracy and there are no labels; those of a draft.
pub(super) fn find(
    workshop: &Workshop<'_>,
    limit: &Limit,
    budget: &Budget,
    scored: &Scored,
    material: Option<&Material>,
    watch: &dyn Watch,
) -> Result<Found> {
    let checked = match (limit.max_drop, material) {
        (Some(_), Some(material)) => {
            limit.check_labels(material)?;
            let reference = Reference::new(workshop, &material.check(), watch)?;
            Some((material, reference))
        }
        _ => None,
    };
    let mut search = Search {
        workshop,
        limit,
        budget,
        scored,
        checked,
        levels: Vec::new(),
        tried: Vec::new(),
        within: None,
        beyond: None,
        watch,
    };
    search.levels = search.levels_that_cut()?;
    let level = match limit.max_drop {
        Some(_) => search.smallest_within_drop()?,
        None => search.largest_within_bytes()?,
    };
    let Made { draft, tried, .. } = search.take(level)?;
    let samples = search
        .checked
        .map_or(0, |(material, _)| material.check.len());
    Ok(Found {
        draft,
        report: SearchReport {
            limit: limit.clone(),
            samples,
            keep: tried.keep,
            drop: None,
            met: tried.met,
            tried: search.tried,
        },
    })
}

impl Search<'_> {
    /// The last level where none fits: it comes nearest.
    fn smallest_within_drop(&mut self) -> Result<usize> {
        let count = self.levels.len();
        let mut level = first_that_fits(count, |level| {
            let limit = self.limit;
            Ok(self.at(level)?.tried.drop_is_met(limit))
        })?;
        // Samples of the final figures have a say too: the promise is about samples never seen.
        while let Some(found) = level {
            let made = self.take(found)?;
            let holds = self.holds_on_shown(&made.draft)?;
            self.keep(made);
            if holds {
                break;
            }
            self.watch.note(&format!(
                "keep {} is within the limit on the samples of the search, but not on the held-out ones",
                self.levels[found]
            ));
            level = (found + 1 < count).then_some(found + 1);
        }
        Ok(level.unwrap_or(count - 1))
    }

    /// The first level where even that is too large.
    fn largest_within_bytes(&mut self) -> Result<usize> {
        let count = self.levels.len();
        let too_large = first_that_fits(count, |level| Ok(!self.at(level)?.tried.met))?;
        Ok(too_large.unwrap_or(count).saturating_sub(1))
    }

    /// A share of few neurons can round up to all of them.
    fn levels_that_cut(&self) -> Result<Vec<f64>> {
        let mut levels = Vec::new();
        for level in LEVELS {
            if !self.budget(level).select(&self.scored.scores)?.keeps_all() {
                levels.push(level);
            }
        }
        match levels.is_empty() {
            true => Err(Error::NoHead {
                tried: vec!["every layer has but one neuron".to_owned()],
            }),
            false => Ok(levels),
        }
    }

    fn budget(&self, keep: f64) -> Budget {
        Budget {
            scope: self.budget.scope,
            align: self.budget.align,
            ..Budget::uniform(Keep::Share(keep))
        }
    }

    fn holds_on_shown(&self, draft: &Draft) -> Result<bool> {
        let (Some((material, _)), Some(most)) = (&self.checked, self.limit.max_drop) else {
            return Ok(true);
        };
        let worth = figures::worth(self.workshop, draft, material, self.watch)?;
        Ok(self.limit.drop_in(&worth).is_none_or(|drop| drop <= most))
    }

    /// A level's draft, made where the search does not hold it.
    fn at(&mut self, level: usize) -> Result<&Made> {
        let made = self.take(level)?;
        Ok(self.keep(made))
    }

    fn take(&mut self, level: usize) -> Result<Made> {
        let is_it = |made: &mut Made| made.level == level;
        let held = self
            .within
            .take_if(is_it)
            .or_else(|| self.beyond.take_if(is_it));
        held.map_or_else(|| self.make(level), Ok)
    }

    fn keep(&mut self, made: Made) -> &Made {
        let place = match made.tried.met {
            true => &mut self.within,
            false => &mut self.beyond,
        };
        place.insert(made)
    }

    fn make(&mut self, level: usize) -> Result<Made> {
        let keep = self.levels[level];
        let plan = prune::plan(
            &self.budget(keep),
            &self.workshop.groups(),
            &self.scored.scores,
        )?;
        let draft = self.workshop.draft(&plan, self.watch)?;
        let mut tried = Tried {
            keep,
            bytes: draft.bytes(),
            drop: None,
            error: None,
            met: false,
        };
        if let Some((material, reference)) = &self.checked {
            let samples = material.check();
            let top = figures::top_of(self.workshop, draft.head(), &samples, self.watch)?;
            let (drop, error) = reference.drop_of(&top, self.limit.metric);
            (tried.drop, tried.error) = (Some(drop), Some(error));
        }
        tried.met = tried.drop_is_met(self.limit) && tried.bytes_are_met(self.limit);
        if !self.tried.iter().any(|known| known.keep == keep) {
            self.tried.push(tried.clone());
        }
        Ok(Made {
            level,
            draft,
            tried,
        })
    }
}

impl Tried {
    fn drop_is_met(&self, limit: &Limit) -> bool {
        match (limit.max_drop, self.drop, self.error) {
            (Some(most), Some(drop), Some(error)) => drop + error <= most,
            _ => true,
        }
    }

    fn bytes_are_met(&self, limit: &Limit) -> bool {
        limit.max_bytes.is_none_or(|most| self.bytes <= most)
    }
}

impl Limit {
    fn check_labels(&self, material: &Material) -> Result<()> {
        if self.metric == super::search::Metric::Accuracy && material.check().labels().is_none() {
            return Err(Error::Argument {
                name: "--max-drop",
                what:
                    "counts accuracy, but the samples have no labels; --metric agreement needs none"
                        .to_owned(),
            });
        }
        Ok(())
    }
}

impl SearchReport {
    /// Measures the written file and says whether the limit is met.
    ///
    /// # Errors
    /// Those of running the file over the samples of the final figures.
    pub(super) fn confirm(
        &mut self,
        workshop: &Workshop<'_>,
        written: &Model,
        material: Option<&Material>,
        watch: &dyn Watch,
    ) -> Result<()> {
        if let Some(most) = self.limit.max_bytes {
            self.met &= written.file_bytes() <= most;
        }
        if let (Some(most), Some(material)) = (self.limit.max_drop, material) {
            let drop = figures::drop_of_file(
                workshop,
                &written.proto,
                material,
                self.limit.metric,
                watch,
            )?;
            self.drop = Some(drop);
            self.met &= drop <= most;
        }
        Ok(())
    }
}
