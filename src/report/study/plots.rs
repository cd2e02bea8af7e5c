//! The plots of one model.

use super::{
    super::{
        numbers::{megabytes, seconds},
        page::{Axis, Mark, Plot, Point, Rule, Series, Style, Unit},
    },
    heading, level,
    lines::lines,
};
use crate::{
    pipeline::Stage,
    study::{Cell, Choice, ModelStudy},
};

/// Marks of norms, in the order in which they are given.
const NORMS: [(usize, Mark); 4] = [
    (0, Mark::Circle),
    (1, Mark::Square),
    (2, Mark::Triangle),
    (7, Mark::Diamond),
];

/// Smallest score that is drawn, of the largest.
const FLOOR: f64 = 1e-4;

/// Colours and marks of what local sensitivity is held against.
const OTHERS: [(&str, usize, Mark); 9] = [
    ("random", 3, Mark::Cross),
    ("weight", 4, Mark::Diamond),
    ("taylor", 5, Mark::Down),
    ("obs", 6, Mark::Square),
    ("curvature", 7, Mark::Circle),
    ("activation", 7, Mark::Triangle),
    ("variance", 8, Mark::Circle),
    ("apoz", 9, Mark::Down),
    ("wifv", 8, Mark::Diamond),
];

/// How choices are drawn: what tells them apart from the others of this model.
pub(super) struct Looks<'m> {
    norms: Vec<&'m str>,
    scales: Vec<&'m str>,
}

impl<'m> Looks<'m> {
    pub(super) fn new(model: &'m ModelStudy) -> Self {
        let mut looks = Self {
            norms: Vec::new(),
            scales: Vec::new(),
        };
        for report in &model.choices {
            let Choice { norm, scale, .. } = &report.choice;
            add(&mut looks.norms, norm.as_deref());
            add(&mut looks.scales, scale.as_deref());
        }
        looks
    }

    fn style(&self, choice: &Choice) -> Style {
        let norm = place(&self.norms, choice.norm.as_deref());
        let scale = place(&self.scales, choice.scale.as_deref());
        let other = OTHERS.iter().find(|(name, ..)| *name == choice.criterion);
        match other {
            None => {
                let (colour, mark) = NORMS[norm % NORMS.len()];
                Style {
                    colour,
                    mark,
                    dash: scale,
                    faint: false,
                }
            }
            Some(&(name, colour, mark)) => Style {
                colour,
                mark,
                dash: if name == "random" { 2 } else { 1 + norm },
                faint: true,
            },
        }
    }

    /// Short enough for the end of a line.
    fn name(&self, choice: &Choice) -> String {
        let norm = choice.norm.as_deref().unwrap_or_default();
        match (choice.criterion.as_str(), &choice.scale) {
            ("lsa", Some(scale)) if self.scales.len() > 1 => format!("{norm}, {scale}"),
            ("lsa", _) => format!("p = {norm}"),
            (other, _) => format!("{other} {norm}").trim_end().to_owned(),
        }
    }
}

fn add<'m>(known: &mut Vec<&'m str>, new: Option<&'m str>) {
    known.extend(new.filter(|new| !known.contains(new)));
}

fn place(known: &[&str], wanted: Option<&str>) -> usize {
    known
        .iter()
        .position(|known| Some(*known) == wanted)
        .unwrap_or(0)
}

fn levels(model: &ModelStudy) -> Vec<f64> {
    let mut levels: Vec<f64> = model.cells.iter().map(|cell| cell.keep).collect();
    levels.sort_by(|a, b| b.total_cmp(a));
    levels.dedup();
    levels
}

fn keep_axis(model: &ModelStudy) -> Axis {
    let axis = Axis::logarithmic("share of neurons kept", Unit::Plain);
    axis.falling().at(&levels(model))
}

fn percent_axis(model: &ModelStudy) -> Axis {
    let title = match model.samples_by_class {
        Some(_) => "accuracy",
        None => "same class as the original",
    };
    Axis::linear(title, Unit::Percent)
}

/// What is left at each level, one line per choice.
pub(super) fn by_level(model: &ModelStudy, stage: Stage) -> Plot {
    let looks = Looks::new(model);
    let series = lines(model, stage).into_iter().map(|line| {
        let points = line.points.iter().map(|point| Point {
            x: point.keep,
            y: point.mean,
            range: (point.draws > 1).then_some((point.low, point.high)),
            value: point.text(),
            label: format!(
                "{}, keep {}: {} %",
                line.label,
                level(point.keep),
                point.text()
            ),
            ringed: false,
        });
        Series {
            points: points.collect(),
            name: Some(looks.name(&line.choice)),
            style: looks.style(&line.choice),
            line: true,
            label: line.label,
        }
    });
    let original = model.original_percent();
    Plot {
        caption: format!("{}, {}", model.name, heading(stage)),
        x: keep_axis(model),
        y: percent_axis(model),
        series: series.collect(),
        rules: vec![Rule::Across(original, format!("original {original:.2} %"))],
        front: Vec::new(),
    }
}

/// Scores by rank, layer by layer, with the levels as cuts.
pub(super) fn curves(model: &ModelStudy) -> Vec<Plot> {
    let looks = Looks::new(model);
    let layers = model.layers.iter().enumerate();
    let plots = layers.map(|(at, layer)| {
        let chosen = model
            .choices
            .iter()
            .filter(|report| report.choice.criterion == "lsa");
        let series = chosen.map(|report| {
            let curve = report.layers.get(at).map_or(&[][..], |layer| &layer.curve);
            let last = curve.len().saturating_sub(1).max(1) as f64;
            let points = curve.iter().enumerate().map(|(rank, &score)| {
                let share = (1000.0 * rank as f64 / last).round() / 10.0;
                Point {
                    x: share,
                    // What is 0 has no place on this axis.
                    y: score.max(FLOOR),
                    range: None,
                    value: format!("{score:.3}"),
                    label: format!(
                        "{}: after {share} % of the neurons the score is {:.1} % of the largest",
                        report.label,
                        100.0 * score
                    ),
                    ringed: false,
                }
            });
            Series {
                label: report.label.clone(),
                name: Some(looks.name(&report.choice)),
                style: Style {
                    mark: Mark::None,
                    ..looks.style(&report.choice)
                },
                line: true,
                points: points.collect(),
            }
        });
        let cuts = levels(model).into_iter();
        Plot {
            caption: format!("{}: scores of {}, sorted", model.name, layer.name),
            x: Axis::linear("rank, of the neurons; cuts at the levels", Unit::Percent)
                .at(&[0.0, 25.0, 50.0, 75.0, 100.0]),
            y: Axis::logarithmic("score, of the largest; at least 0.0001", Unit::Plain),
            series: series.collect(),
            rules: cuts.map(|cut| Rule::Up(100.0 * cut, level(cut))).collect(),
            front: Vec::new(),
        }
    });
    plots.collect()
}

/// Share of the kept neurons that two norms have in common, layer by layer.
pub(super) fn overlaps(model: &ModelStudy) -> Vec<Plot> {
    let plots = model.layers.iter().map(|layer| {
        let mut series: Vec<Series> = Vec::new();
        for overlap in model
            .overlaps
            .iter()
            .filter(|overlap| overlap.layer == layer.name)
        {
            let label = format!("{}: {} and {}", overlap.choice, overlap.one, overlap.other);
            if series.last().is_none_or(|last| last.label != label) {
                let (colour, mark) = NORMS[series.len() % NORMS.len()];
                series.push(Series {
                    name: Some(format!("{} and {}", overlap.one, overlap.other)),
                    style: Style {
                        colour,
                        mark,
                        dash: series.len() / NORMS.len(),
                        faint: false,
                    },
                    line: true,
                    points: Vec::new(),
                    label: label.clone(),
                });
            }
            if let Some(last) = series.last_mut() {
                let percent = 100.0 * overlap.share;
                last.points.push(Point {
                    x: overlap.keep,
                    y: percent,
                    range: None,
                    value: format!("{percent:.1}"),
                    label: format!(
                        "{label}, keep {}: {percent:.1} % in common",
                        level(overlap.keep)
                    ),
                    ringed: false,
                });
            }
        }
        Plot {
            caption: format!(
                "{}: neurons of {} that both norms keep",
                model.name, layer.name
            ),
            x: keep_axis(model),
            y: Axis::linear("of the kept neurons", Unit::Percent),
            series,
            rules: Vec::new(),
            front: Vec::new(),
        }
    });
    plots.collect()
}

/// What a cell costs.
#[derive(Clone, Copy)]
pub(super) enum Cost {
    Bytes,
    Time,
}

/// What is left against what it costs; cells that nothing beats in both are ringed.
pub(super) fn against(model: &ModelStudy, cost: Cost) -> Plot {
    let looks = Looks::new(model);
    let original = cost
        .of_original(model)
        .map(|x| (x, model.original_percent()));
    let costs = |cell: &Cell| Some((cost.of(model, cell)?, model.output_percent(cell)));
    let mut front: Vec<(f64, f64)> = model
        .cells
        .iter()
        .filter_map(costs)
        .chain(original)
        .collect();
    front = pareto(front);
    let ringed = |x: f64, y: f64| front.contains(&(x, y));
    let mut series: Vec<Series> = Vec::new();
    for (at, report) in model.choices.iter().enumerate() {
        let cells = model.cells.iter().filter(|cell| cell.choice == at);
        let points = cells.filter_map(|cell| {
            let (x, y) = costs(cell)?;
            Some(Point {
                x,
                y,
                range: None,
                value: format!("{y:.2}"),
                label: format!(
                    "{}, keep {}: {y:.2} % with {}",
                    report.label,
                    level(cell.keep),
                    cost.written(x)
                ),
                ringed: ringed(x, y),
            })
        });
        // Draws of a random choice belong together.
        let choice = Choice {
            seed: None,
            ..report.choice.clone()
        };
        let label = choice.label();
        match series.iter_mut().find(|series| series.label == label) {
            Some(series) => series.points.extend(points),
            None => series.push(Series {
                label,
                name: None,
                style: looks.style(&choice),
                line: false,
                points: points.collect(),
            }),
        }
    }
    series.extend(original.map(|(x, y)| Series {
        label: "original".to_owned(),
        name: None,
        style: Style {
            colour: 10,
            mark: Mark::Diamond,
            ..Style::default()
        },
        line: false,
        points: vec![Point {
            x,
            y,
            range: None,
            value: format!("{y:.2}"),
            label: format!("original: {y:.2} % with {}", cost.written(x)),
            ringed: ringed(x, y),
        }],
    }));
    let (what, x) = match cost {
        Cost::Bytes => ("size", Axis::logarithmic("bytes of the model", Unit::Bytes)),
        Cost::Time => (
            "measured latency",
            Axis::logarithmic("time of one sample, whole model", Unit::Seconds),
        ),
    };
    Plot {
        caption: format!(
            "{}: {} against {what}; ringed where nothing is better in both",
            model.name,
            model.metric()
        ),
        x,
        y: percent_axis(model),
        series,
        rules: Vec::new(),
        front,
    }
}

impl Cost {
    /// Nothing where it was not measured.
    fn of(self, model: &ModelStudy, cell: &Cell) -> Option<f64> {
        match self {
            Self::Bytes => Some(cell.part.bytes as f64),
            Self::Time => time(model, cell.keep),
        }
    }

    fn of_original(self, model: &ModelStudy) -> Option<f64> {
        match self {
            Self::Bytes => Some(model.bytes as f64),
            Self::Time => time(model, 1.0),
        }
    }

    fn written(self, value: f64) -> String {
        match self {
            Self::Bytes => megabytes(value as u64),
            Self::Time => seconds(value),
        }
    }
}

fn time(model: &ModelStudy, keep: f64) -> Option<f64> {
    let found = model.times.iter().find(|time| time.keep == keep);
    found.map(|time| time.seconds)
}

/// The points that no other point beats in both, from cheap to dear.
fn pareto(mut points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    points.sort_by(|one, other| one.0.total_cmp(&other.0).then(other.1.total_cmp(&one.1)));
    let mut front: Vec<(f64, f64)> = Vec::new();
    for point in points {
        if front.last().is_none_or(|last| point.1 > last.1) {
            front.push(point);
        }
    }
    front
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_front_is_what_nothing_beats_in_both() {
        let points = vec![
            (3.0, 90.0),
            (1.0, 80.0),
            (2.0, 79.0),
            (1.0, 70.0),
            (4.0, 90.0),
        ];
        assert_eq!(pareto(points), [(1.0, 80.0), (3.0, 90.0)]);
        assert!(pareto(Vec::new()).is_empty());
    }
}
