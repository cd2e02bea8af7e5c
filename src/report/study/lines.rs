//! Cells as lines over the levels: draws of a random choice are one line.

use crate::{
    pipeline::Stage,
    study::{Choice, ModelStudy},
};

/// One way of choosing, with one repair, after one stage.
pub(super) struct Line {
    /// Choice, and the repair where there are several.
    pub(super) label: String,
    pub(super) choice: Choice,
    /// One entry per level, the largest first.
    pub(super) points: Vec<LinePoint>,
}

/// What a choice is worth at one level.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct LinePoint {
    pub(super) keep: f64,
    /// The mean of the draws.
    pub(super) mean: f64,
    pub(super) low: f64,
    pub(super) high: f64,
    /// Number of draws.
    pub(super) draws: usize,
}

/// All lines of a model after `stage`, in the order of its choices; those without that stage are
/// left out.
pub(super) fn lines(model: &ModelStudy, stage: Stage) -> Vec<Line> {
    let several = model.repairs().len() > 1;
    let mut lines: Vec<(Line, Vec<Vec<f64>>)> = Vec::new();
    for cell in &model.cells {
        let Some(percent) = model.percent(cell, stage) else {
            continue;
        };
        let choice = Choice {
            seed: None,
            ..model.choices[cell.choice].choice.clone()
        };
        let mut label = choice.label();
        // Before the repair all repairs are alike.
        if several && stage != Stage::Cut {
            label = format!("{label}, {}", cell.repair);
        }
        let at = lines.iter().position(|(line, _)| line.label == label);
        let at = at.unwrap_or_else(|| {
            let line = Line {
                label,
                choice,
                points: Vec::new(),
            };
            lines.push((line, Vec::new()));
            lines.len() - 1
        });
        let (line, values) = &mut lines[at];
        let place = line.points.iter().position(|point| point.keep == cell.keep);
        match place {
            Some(place) => values[place].push(percent),
            None => {
                line.points.push(LinePoint::of(cell.keep, &[percent]));
                values.push(vec![percent]);
            }
        }
    }
    let lines = lines.into_iter().map(|(line, values)| {
        let points = line.points.iter().zip(&values);
        let points = points.map(|(point, values)| LinePoint::of(point.keep, values));
        Line {
            points: points.collect(),
            ..line
        }
    });
    lines.collect()
}

impl LinePoint {
    fn of(keep: f64, values: &[f64]) -> Self {
        Self {
            keep,
            mean: values.iter().sum::<f64>() / values.len().max(1) as f64,
            low: values.iter().copied().fold(f64::INFINITY, f64::min),
            high: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            draws: values.len(),
        }
    }

    /// `91.28`, or `88.91 (88.38-89.69)` of several draws.
    pub(super) fn text(&self) -> String {
        match self.draws {
            1 => format!("{:.2}", self.mean),
            _ => format!("{:.2} ({:.2}-{:.2})", self.mean, self.low, self.high),
        }
    }
}
