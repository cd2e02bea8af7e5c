//! Which cells are worth having.

use serde::Serialize;

use super::{Cell, ModelStudy};

/// The best choice of one level.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Winner {
    /// The level.
    pub keep: f64,
    /// Which of the cells.
    pub cell: usize,
    /// Percent in the end.
    pub percent: f64,
    /// The best cell by local sensitivity, where another choice won.
    pub lsa: Option<usize>,
}

/// The recommended cell: the smallest file that loses no more than the limit.
///
/// It was chosen by the figures it is shown with, so other samples will like it a little less.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Best {
    /// Which of the cells.
    pub cell: usize,
    /// Percent in the end.
    pub percent: f64,
    /// Points lost.
    pub drop: f64,
}

/// Cells that may be recommended: a random choice is only there to be beaten.
fn candidates(model: &ModelStudy) -> impl Iterator<Item = (usize, &Cell)> {
    let cells = model.cells.iter().enumerate();
    cells.filter(|(_, cell)| !model.choices[cell.choice].choice.is_random())
}

/// The first of the best.
fn first_best<'c>(
    model: &ModelStudy,
    cells: impl Iterator<Item = (usize, &'c Cell)>,
) -> Option<(usize, f64)> {
    let percents = cells.map(|(at, cell)| (at, model.output_percent(cell)));
    percents.reduce(|best, next| if next.1 > best.1 { next } else { best })
}

/// The best choice of each level.
pub(super) fn winners(model: &ModelStudy, keeps: &[f64]) -> Vec<Winner> {
    let is_lsa = |cell: &Cell| model.choices[cell.choice].choice.criterion == "lsa";
    let winner = |&keep: &f64| {
        let of_level = || candidates(model).filter(move |(_, cell)| cell.keep == keep);
        let (cell, percent) = first_best(model, of_level())?;
        let lsa = first_best(model, of_level().filter(|(_, cell)| is_lsa(cell)));
        Some(Winner {
            keep,
            cell,
            percent,
            lsa: lsa.map(|(at, _)| at).filter(|&at| at != cell),
        })
    };
    keeps.iter().filter_map(winner).collect()
}

/// The smallest file within the limit; of equals, the better one.
pub(super) fn best(model: &ModelStudy, max_drop: f64) -> Option<Best> {
    let original = model.original_percent();
    let all = candidates(model).map(|(cell, found)| {
        let percent = model.output_percent(found);
        let best = Best {
            cell,
            percent,
            drop: original - percent,
        };
        (found.part.bytes, best)
    });
    // The figures are shares of whole samples: no rounding comes near this.
    let within = all.filter(|(_, best)| best.drop <= max_drop + 1e-9);
    let smallest = within.min_by(|(bytes, one), (other_bytes, other)| {
        bytes
            .cmp(other_bytes)
            .then(other.percent.total_cmp(&one.percent))
            .then(one.cell.cmp(&other.cell))
    });
    smallest.map(|(_, best)| best)
}
