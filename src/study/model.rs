//! One model's part of a study: what is there, what is missing, and making that.

use std::{
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{
    Layer, LevelTime, StageCounts, StudyOptions,
    choice::{self, ChoicePart, Wanted, name_of},
    cuts,
    key::Base,
    report::{CellPart, CellStage},
    side_by_side,
    store::Store,
};
use crate::{
    error::{Error, Result},
    eval::Latencies,
    pipeline::{Counts, Grid, Identity, Made, Opened, Recipe, Training, Watch},
    repair::Repair,
};

/// Bytes that cells may hold at once, as far as they can be told beforehand: each has its head
/// after every stage, and the engine's own copies.
const HELD: u64 = 4 << 30;
const COPIES: u64 = 6;

/// What is known of a model once its trunk has run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ModelPart {
    pub(super) classes: usize,
    pub(super) layers: Vec<Layer>,
    pub(super) calibration_samples: usize,
    pub(super) samples: usize,
    pub(super) samples_by_class: Option<Vec<usize>>,
    pub(super) original: StageCounts,
    pub(super) notes: Vec<String>,
}

/// Everything that is to be known of one model, by the names of its parts.
pub(super) struct Wishes<'o> {
    options: &'o StudyOptions,
    pub(super) identity: Identity,
    base: Base,
    pub(super) choices: Vec<Wanted>,
    pub(super) cells: Vec<Wish>,
}

/// A cell that is wanted.
pub(super) struct Wish {
    pub(super) choice: usize,
    pub(super) repair: Repair,
    pub(super) keep: f64,
    pub(super) name: String,
}

impl<'o> Wishes<'o> {
    pub(super) fn new(opened: &Opened<'_>, options: &'o StudyOptions) -> Result<Self> {
        let identity = opened.identity()?;
        let base = Base::new(&identity, options);
        let choices = choice::wanted(options);
        let mut wishes = Self {
            options,
            identity,
            base,
            choices,
            cells: Vec::new(),
        };
        for choice in 0..wishes.choices.len() {
            for repair in options.repairs() {
                for keep in options.levels() {
                    let wish = wishes.cell(choice, repair, keep);
                    wishes.cells.push(wish);
                }
            }
        }
        Ok(wishes)
    }

    fn cell(&self, choice: usize, repair: Repair, keep: f64) -> Wish {
        let wanted = &self.choices[choice];
        let training = trained(self.options, wanted);
        let rest = (self.chosen(wanted), name_of(&repair), keep, training);
        Wish {
            choice,
            repair,
            keep,
            name: self.base.name("cell", &rest),
        }
    }

    /// What decides a choice.
    fn chosen<'w>(&self, wanted: &'w Wanted) -> impl Serialize + use<'w> {
        let of = self.options.of.filter(|_| wanted.criterion.uses_of());
        (&wanted.choice, of.map(|of| name_of(&of)))
    }

    pub(super) fn model_name(&self) -> String {
        self.base.name("model", &())
    }

    pub(super) fn choice_name(&self, wanted: &Wanted) -> String {
        self.base.name("choice", &self.chosen(wanted))
    }

    /// Times depend on the levels, and on which neurons stay only through the trunk.
    pub(super) fn times_name(&self, timed: Duration) -> String {
        let first = self.choices.first().map(|wanted| self.chosen(wanted));
        let rest = (first, self.options.levels(), timed.as_secs_f64());
        self.base.name("times", &rest)
    }

    pub(super) fn export_name(&self, cell: &Wish) -> String {
        self.base.name("best", &cell.name)
    }

    /// Whether anything but an export is missing.
    pub(super) fn is_missing_any(&self, store: &Store) -> Result<bool> {
        if !store.has::<ModelPart>(&self.model_name())? {
            return Ok(true);
        }
        for wanted in &self.choices {
            if !store.has::<ChoicePart>(&self.choice_name(wanted))? {
                return Ok(true);
            }
        }
        if let Some(timed) = self.options.timed
            && !store.has::<Vec<LevelTime>>(&self.times_name(timed))?
        {
            return Ok(true);
        }
        Ok(!self.missing_cells(store)?.is_empty())
    }

    fn missing_cells(&self, store: &Store) -> Result<Vec<&Wish>> {
        let mut missing = Vec::new();
        for wish in &self.cells {
            if !store.has::<CellPart>(&wish.name)? {
                missing.push(wish);
            }
        }
        Ok(missing)
    }

    /// Makes what is missing; every part is kept as soon as it is whole.
    pub(super) fn make(&self, opened: Opened<'_>, store: &Store, watch: &dyn Watch) -> Result<()> {
        let grid = opened.prepare(self.options.training.is_some(), watch)?;
        self.make_choices(&grid, store, watch)?;
        self.make_cells(&grid, store, watch)?;
        if let Some(timed) = self.options.timed {
            self.make_times(&grid, timed, store, watch)?;
        }
        Ok(())
    }

    fn make_choices(&self, grid: &Grid<'_>, store: &Store, watch: &dyn Watch) -> Result<()> {
        let mut missing = Vec::new();
        for wanted in &self.choices {
            if !store.has::<ChoicePart>(&self.choice_name(wanted))? {
                missing.push(wanted.clone());
            }
        }
        for pass in choice::passes(missing) {
            let norms: Vec<_> = pass.iter().map(|wanted| wanted.norm).collect();
            let options = pass[0].options();
            let of = self.options.of.filter(|_| pass[0].criterion.uses_of());
            let scored = grid.scores(&options, of, &norms, watch)?;
            for (wanted, scored) in pass.iter().zip(&scored) {
                store.write(&self.choice_name(wanted), &ChoicePart::new(scored))?;
            }
        }
        Ok(())
    }

    fn make_cells(&self, grid: &Grid<'_>, store: &Store, watch: &dyn Watch) -> Result<()> {
        let mut missing = self.missing_cells(store)?;
        let is_known = store.has::<ModelPart>(&self.model_name())?;
        if missing.is_empty() && is_known {
            return Ok(());
        }
        let scores = self.choices.iter().map(|wanted| {
            let part: ChoicePart = self.part(store, &self.choice_name(wanted))?;
            Ok(part.scores())
        });
        let scores = scores.collect::<Result<Vec<_>>>()?;
        // The longest first, so that no core waits for a last long one.
        missing.sort_by(|one, other| other.keep.total_cmp(&one.keep));
        // A level that cuts nothing is found before any work.
        let plans = missing
            .iter()
            .map(|wish| grid.plan(&scores[wish.choice], wish.keep));
        let plans = plans.collect::<Result<Vec<_>>>()?;
        let workers = self.workers(grid);
        let (shown, cut) = cuts::shown(grid, &plans, workers, watch)?;
        if !is_known {
            store.write(&self.model_name(), &ModelPart::new(grid, &shown.1))?;
        }
        if self.options.repairs().iter().any(|repair| repair.solves()) {
            // Of all cells, so that an interruption makes no difference.
            let cells = self.cells.iter();
            let plans = cells.map(|wish| grid.plan(&scores[wish.choice], wish.keep));
            grid.prepare_repairs(&plans.collect::<Result<Vec<_>>>()?)?;
        }
        watch.stage("cutting, repairing, measuring", Some(missing.len() as u64));
        let done = AtomicU64::new(0);
        let jobs: Vec<_> = missing.iter().zip(&cut).collect();
        side_by_side::run(&jobs, workers, |(wish, cut)| {
            let training = trained(self.options, &self.choices[wish.choice]);
            let recipe = Recipe {
                scores: &scores[wish.choice],
                keep: wish.keep,
                repair: wish.repair,
                training: training.as_ref(),
                cut: cut.as_ref(),
            };
            let made = grid.cell(recipe, &shown, watch)?;
            store.write(&wish.name, &CellPart::from(made))?;
            watch.step(1);
            let done = done.fetch_add(1, Ordering::Relaxed) + 1;
            watch.status(&format!("{done} of {} cells", missing.len()));
            Ok(())
        })
    }

    /// One per thread, unless their heads would not fit beside each other.
    fn workers(&self, grid: &Grid<'_>) -> usize {
        let threads = self.identity.engine.threads;
        let fit = HELD / (COPIES * grid.head_bytes()).max(1);
        threads.min(usize::try_from(fit).unwrap_or(threads)).max(1)
    }

    fn make_times(
        &self,
        grid: &Grid<'_>,
        timed: Duration,
        store: &Store,
        watch: &dyn Watch,
    ) -> Result<()> {
        let name = self.times_name(timed);
        let Some(first) = self.choices.first() else {
            return Ok(());
        };
        if store.has::<Vec<LevelTime>>(&name)? {
            return Ok(());
        }
        let part: ChoicePart = self.part(store, &self.choice_name(first))?;
        let keeps = self.options.levels();
        let seed = self.options.source.seed;
        let found = grid.latencies(&part.scores(), &keeps, (timed, seed), watch)?;
        store.write(&name, &times(&keeps, &found))
    }

    /// A part that was made before.
    pub(super) fn part<T: serde::de::DeserializeOwned>(
        &self,
        store: &Store,
        name: &str,
    ) -> Result<T> {
        store.read(name)?.ok_or_else(|| Error::Argument {
            name: "--output",
            what: format!(
                "{name}.json went away while the study ran; start it again to make it anew"
            ),
        })
    }
}

/// How the heads of a choice are trained: draws of a random choice are also draws of an order.
pub(super) fn trained(options: &StudyOptions, wanted: &Wanted) -> Option<Training> {
    let mut training = options.training.clone()?;
    training.options.seed = wanted.seed;
    Some(training)
}

fn times(keeps: &[f64], found: &Latencies) -> Vec<LevelTime> {
    let levels = std::iter::once(&1.0).chain(keeps);
    let models = levels.zip(&found.models);
    models
        .map(|(&keep, latency)| {
            let ratio = latency.ratio;
            let interval = ratio.and_then(|ratio| ratio.interval);
            LevelTime {
                keep,
                seconds: latency.seconds.median,
                ratio: ratio.map_or(1.0, |ratio| ratio.median),
                interval: interval.map(|found| (found.low, found.high)),
            }
        })
        .collect()
}

/// The file's name without its extension.
pub(super) fn short_name(path: &Path) -> String {
    let stem = path.file_stem();
    stem.map_or_else(
        || path.display().to_string(),
        |stem| stem.to_string_lossy().into_owned(),
    )
}

impl ModelPart {
    fn new(grid: &Grid<'_>, reference: &crate::pipeline::Reference) -> Self {
        let layers = grid.layers().into_iter();
        Self {
            classes: grid.classes(),
            layers: layers.map(|(name, width)| Layer { name, width }).collect(),
            calibration_samples: grid.calibrated(),
            samples: reference.len(),
            samples_by_class: reference.samples_by_class(),
            original: reference.of_original().into(),
            notes: grid.notes().to_vec(),
        }
    }
}

impl From<Counts> for StageCounts {
    fn from(counts: Counts) -> Self {
        Self {
            same: counts.same,
            right: counts.right,
        }
    }
}

impl From<Made> for CellPart {
    fn from(made: Made) -> Self {
        let stages = made.stages.into_iter();
        Self {
            kept: made.kept,
            parameters: made.parameters,
            bytes: made.bytes,
            stages: stages
                .map(|(stage, counts)| CellStage {
                    stage,
                    counts: counts.into(),
                })
                .collect(),
        }
    }
}
