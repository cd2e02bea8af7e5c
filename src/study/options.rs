//! What a study can be told.

use std::{path::PathBuf, time::Duration};

use crate::{
    error::{Error, Result},
    pipeline::{self, SourceOptions, Training},
    repair::Repair,
    sensitivity::{Criterion, Norm, Of, Scale},
};

/// The levels of the paper's kind of table: dense where accuracy begins to fall.
const KEEPS: [f64; 7] = [0.9, 0.7, 0.5, 0.3, 0.2, 0.1, 0.05];

/// What a claim about local sensitivity has to be held against, besides itself.
const CRITERIA: [&str; 5] = ["lsa", "random", "weight", "taylor", "obs"];

/// Draws of a random choice: three show whether a difference is more than luck.
const SEEDS: usize = 3;

/// Points that the recommended model may lose.
const MAX_DROP: f64 = 1.0;

/// How long the levels of one model are timed.
const TIMED: Duration = Duration::from_secs(5);

/// Everything a study can be told.
#[derive(Clone, Debug)]
pub struct StudyOptions {
    /// The models.
    pub models: Vec<PathBuf>,
    /// The folder of the study.
    pub output: PathBuf,
    /// Data and engine; `data` must be there.
    pub source: SourceOptions,
    /// What chooses.
    pub criteria: Vec<Criterion>,
    /// Norms over samples and classes, for criteria that look at one.
    pub norms: Vec<Norm>,
    /// What one unit of change is worth, for criteria that look at it.
    pub scales: Vec<Scale>,
    /// Which class scores are differentiated; probabilities by default.
    pub of: Option<Of>,
    /// Shares of the neurons that stay, each in (0, 1).
    pub keeps: Vec<f64>,
    /// How kept neurons take over; that of `prune` where there is none here.
    pub repairs: Vec<Repair>,
    /// How the smaller heads are trained, if they are.
    pub training: Option<Training>,
    /// Draws of criteria that are random.
    pub seeds: usize,
    /// Points of accuracy (of agreement without labels) that the recommended model may lose.
    pub max_drop: f64,
    /// Whether the recommended models are written, proved like any output.
    pub export_best: bool,
    /// How long the levels of a model are timed; nothing for no times.
    pub timed: Option<Duration>,
}

impl StudyOptions {
    /// The default grid over these models.
    pub fn new(models: Vec<PathBuf>, data: PathBuf, output: PathBuf) -> Self {
        let all = Criterion::all();
        Self {
            models,
            output,
            source: SourceOptions {
                data: Some(data),
                ..SourceOptions::default()
            },
            criteria: all
                .filter(|criterion| CRITERIA.contains(&criterion.name()))
                .collect(),
            norms: vec![Norm::P(1.0), Norm::P(2.0), Norm::Inf],
            scales: vec![Scale::Auto],
            of: None,
            keeps: KEEPS.to_vec(),
            repairs: Vec::new(),
            training: None,
            seeds: SEEDS,
            max_drop: MAX_DROP,
            export_best: false,
            timed: Some(TIMED),
        }
    }

    /// The repairs that apply.
    pub(super) fn repairs(&self) -> Vec<Repair> {
        match self.repairs.as_slice() {
            [] => vec![pipeline::default_repair(&self.source)],
            given => given.to_vec(),
        }
    }

    /// Levels, the largest first, each once.
    pub(super) fn levels(&self) -> Vec<f64> {
        let mut levels = self.keeps.clone();
        levels.sort_by(|a, b| b.total_cmp(a));
        levels.dedup();
        levels
    }

    pub(super) fn check(&self) -> Result<()> {
        let refuse = |name, what: &str| {
            Err(Error::Argument {
                name,
                what: what.to_owned(),
            })
        };
        let level = |keep: &f64| *keep > 0.0 && *keep < 1.0;
        if self.source.data.is_none() {
            return refuse("--data", "a study is measured on real samples");
        }
        if self.models.is_empty() {
            return refuse("MODEL", "at least one model is needed");
        }
        if self.keeps.is_empty() || !self.keeps.iter().all(level) {
            return refuse("--keeps", "takes shares above 0 and below 1");
        }
        if self.criteria.is_empty() || self.norms.is_empty() || self.scales.is_empty() {
            return refuse(
                "--criteria",
                "at least one criterion, norm and scale is needed",
            );
        }
        if self.seeds == 0 {
            return refuse("--seeds", "must be at least 1");
        }
        Ok(())
    }
}
