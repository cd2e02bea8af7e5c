//! What a study found.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Best, Choice, ChosenLayer, Exported, Overlap, Winner};
use crate::pipeline::{DataReport, Stage, Training};

/// All models.
#[derive(Clone, Debug, Serialize)]
pub struct StudyReport {
    /// Name and version of this layout.
    pub schema: &'static str,
    /// Version of the program.
    pub version: &'static str,
    /// Seed of every random choice; draws count on from there.
    pub seed: u64,
    /// Levels, the largest first.
    pub keeps: Vec<f64>,
    /// Points that the recommended models may lose.
    pub max_drop: f64,
    /// How the heads were trained, if they were.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub training: Option<Training>,
    /// One entry per model, in the order given.
    pub models: Vec<ModelStudy>,
    /// Whether every recommended model that was to be written was proved.
    pub passed: bool,
}

/// One model.
#[derive(Clone, Debug, Serialize)]
pub struct ModelStudy {
    /// Its file's name without the extension; the path where two are alike.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// SHA-256 of the model.
    pub sha256: String,
    /// Its size, external data included.
    pub bytes: u64,
    /// Values of all its floating-point weights.
    pub parameters: u64,
    /// What computed.
    pub engine: Engine,
    /// The samples.
    pub data: DataReport,
    /// Number of classes.
    pub classes: usize,
    /// Their names, where the data set has any.
    pub class_names: Option<Vec<String>>,
    /// The layers of the head.
    pub layers: Vec<Layer>,
    /// Samples that are scored and solved on.
    pub calibration_samples: usize,
    /// Samples that figures are of.
    pub samples: usize,
    /// Those of each class, where there are labels.
    pub samples_by_class: Option<Vec<usize>>,
    /// What the original is worth.
    pub original: StageCounts,
    /// What the user should know about the head.
    pub notes: Vec<String>,
    /// The ways of choosing.
    pub choices: Vec<ChoiceReport>,
    /// Every cell: choices, then repairs, then levels.
    pub cells: Vec<Cell>,
    /// How far norms agree about what stays.
    pub overlaps: Vec<Overlap>,
    /// The best choice of each level.
    pub winners: Vec<Winner>,
    /// The smallest model within the limit, where one is.
    pub best: Option<Best>,
    /// That model as it was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exported: Option<Exported>,
    /// Times; no two measurements are alike, so they are kept out of the results.
    #[serde(skip)]
    pub times: Vec<LevelTime>,
}

/// What computed; the number of threads makes no difference.
#[derive(Clone, Debug, Serialize)]
pub struct Engine {
    /// `tract` or `onnxruntime`.
    pub name: String,
    /// Its version.
    pub version: String,
    /// `cpu` or `cuda:0`.
    pub provider: String,
}

/// One layer of a head.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// Its name, as in `--keep NAME=R`.
    pub name: String,
    /// Its neurons.
    pub width: usize,
}

/// A way of choosing, and the scores it gave.
#[derive(Clone, Debug, Serialize)]
pub struct ChoiceReport {
    /// The way.
    #[serde(flatten)]
    pub choice: Choice,
    /// In words.
    pub label: String,
    /// What was differentiated, where anything was.
    pub of: Option<String>,
    /// Samples that were looked at.
    pub samples: usize,
    /// What is to be known about how the scores came about.
    pub notes: Vec<String>,
    /// Scores by rank, layer by layer.
    pub layers: Vec<ChosenLayer>,
}

/// One smaller model.
#[derive(Clone, Debug, Serialize)]
pub struct Cell {
    /// Which of [`ModelStudy::choices`] chose.
    pub choice: usize,
    /// How kept neurons took over.
    pub repair: String,
    /// Passes of the training; 0 without.
    pub epochs: usize,
    /// Share of the neurons that stay.
    pub keep: f64,
    /// What it is worth.
    #[serde(flatten)]
    pub part: CellPart,
}

/// What one cell is worth; a part of the study.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CellPart {
    /// Neurons that stay, layer by layer.
    pub kept: Vec<usize>,
    /// Values of all floating-point weights.
    pub parameters: u64,
    /// Bytes of the model, without what the program writes into its metadata.
    pub bytes: u64,
    /// After each stage.
    pub stages: Vec<CellStage>,
}

/// What a cell is worth after one stage.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CellStage {
    /// The stage.
    pub stage: Stage,
    /// What it is worth.
    #[serde(flatten)]
    pub counts: StageCounts,
}

/// What a model decides rightly, or as the original does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageCounts {
    /// Samples with the same top class as the original.
    pub same: usize,
    /// Samples of each class that are given that class, where there are labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub right: Option<Vec<usize>>,
}

/// How long whole models of one level take.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LevelTime {
    /// The level; 1 is the original.
    pub keep: f64,
    /// Median of the runs, in seconds; one sample each.
    pub seconds: f64,
    /// Median over the rounds of the time divided by the original's.
    pub ratio: f64,
    /// 95 % interval of that, where there were rounds enough.
    pub interval: Option<(f64, f64)>,
}

impl StageCounts {
    /// Percent of `samples` that count: right ones where there are labels, else those that are as
    /// the original has them.
    pub fn percent(&self, samples: usize) -> f64 {
        let count = match &self.right {
            Some(right) => right.iter().sum(),
            None => self.same,
        };
        100.0 * count as f64 / samples.max(1) as f64
    }
}

impl ModelStudy {
    /// What [`StageCounts::percent`] counts, in words.
    pub fn metric(&self) -> &'static str {
        match self.samples_by_class {
            Some(_) => "accuracy",
            None => "same class as the original",
        }
    }

    /// Percent of the original.
    pub fn original_percent(&self) -> f64 {
        self.original.percent(self.samples)
    }

    /// Percent of a cell after `stage`, where it had that stage.
    pub fn percent(&self, cell: &Cell, stage: Stage) -> Option<f64> {
        let mut stages = cell.part.stages.iter();
        let found = stages.find(|found| found.stage == stage)?;
        Some(found.counts.percent(self.samples))
    }

    /// Percent of a cell in the end.
    pub fn output_percent(&self, cell: &Cell) -> f64 {
        let last = cell.part.stages.last();
        last.map_or(0.0, |last| last.counts.percent(self.samples))
    }

    /// The stages that any cell had.
    pub fn stages(&self) -> Vec<Stage> {
        let stages = self.cells.iter().flat_map(|cell| &cell.part.stages);
        let mut stages: Vec<Stage> = stages.map(|found| found.stage).collect();
        stages.sort_unstable();
        stages.dedup();
        stages
    }

    /// The repairs, in the order given.
    pub fn repairs(&self) -> Vec<&str> {
        let mut repairs: Vec<&str> = Vec::new();
        for cell in &self.cells {
            if !repairs.contains(&cell.repair.as_str()) {
                repairs.push(&cell.repair);
            }
        }
        repairs
    }
}
