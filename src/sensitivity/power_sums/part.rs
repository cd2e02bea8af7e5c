//! Neighbouring cells of power sums, to which one task adds.

use super::{PLAIN, add_all_scaled, add_powers};
use crate::{
    algebra::{Loop, Vectors, widest},
    sensitivity::norm::Norm,
};

/// Cells that are summed up together before they go to the sums in memory.
const LANES: usize = 16;

/// Rows whose absolute values are added in f32 before these go to an f64: 16 roundings are 5e-7 at
/// the very most. Squares are f64 from the start: those of f32 may vanish.
const TOGETHER: usize = 16;

/// Some neighbouring cells of [`super::PowerSums`].
pub(in crate::sensitivity) struct Part<'s> {
    pub(super) norm: Norm,
    /// One, or one per class.
    pub(super) slots: Vec<Slot<'s>>,
}

pub(super) struct Slot<'s> {
    pub(super) sums: &'s mut [f64],
    pub(super) largest: &'s mut [f64],
}

impl Part<'_> {
    /// Adds rows of `width` numbers, one for each of these classes, to the cells from `first` on.
    pub(in crate::sensitivity) fn add(
        &mut self,
        first: usize,
        classes: &[usize],
        rows: &[f32],
        width: usize,
    ) {
        let norm = self.norm;
        match self.slots.as_mut_slice() {
            [slot] => widest(Rows {
                norm,
                slot: slot.part(first, width),
                rows,
            }),
            slots => {
                for (&class, rows) in classes.iter().zip(rows.chunks_exact(width)) {
                    let slot = slots[class].part(first, width);
                    widest(Rows { norm, slot, rows });
                }
            }
        }
    }
}

impl Slot<'_> {
    fn part(&mut self, first: usize, width: usize) -> Slot<'_> {
        let part = |of: &mut [f64]| match of.is_empty() {
            true => 0..0,
            false => first..first + width,
        };
        let (sums, largest) = (part(self.sums), part(self.largest));
        Slot {
            sums: &mut self.sums[sums],
            largest: &mut self.largest[largest],
        }
    }
}

/// Rows to be added to the same cells.
struct Rows<'r> {
    norm: Norm,
    slot: Slot<'r>,
    rows: &'r [f32],
}

impl Loop for Rows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vectors>(self) {
        let Slot { sums, largest } = self.slot;
        match self.norm {
            Norm::Inf => keep_largest(largest, self.rows),
            Norm::P(1.0) => add_sizes(sums, self.rows),
            Norm::P(2.0) => add_squares(sums, self.rows),
            Norm::P(p) => {
                for row in self.rows.chunks_exact(sums.len().max(largest.len()).max(1)) {
                    match p <= PLAIN {
                        true => add_powers(sums, row, p),
                        false => add_all_scaled(sums, largest, row, p),
                    }
                }
            }
        }
    }
}

/// Cells in lanes, and what is left of them; the place of each in a row.
#[inline(always)]
fn lanes(
    cells: &mut [f64],
) -> (
    impl Iterator<Item = (usize, &mut [f64; LANES])>,
    usize,
    &mut [f64],
) {
    let (lanes, rest) = cells.as_chunks_mut();
    let at = lanes.len() * LANES;
    let lanes = lanes.iter_mut().enumerate();
    (lanes.map(|(lane, cells)| (lane * LANES, cells)), at, rest)
}

/// Numbers of all rows at `LANES` places.
#[inline(always)]
fn numbers(rows: &[f32], width: usize, at: usize) -> impl Iterator<Item = &[f32; LANES]> {
    let rows = rows.chunks_exact(width);
    rows.map(move |row| row[at..].first_chunk().expect("as wide as the cells"))
}

#[inline(always)]
fn keep_largest(cells: &mut [f64], rows: &[f32]) {
    let width = cells.len().max(1);
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let (lanes, rest, left) = lanes(cells);
    for (at, cells) in lanes {
        let mut largest = [0.0_f32; LANES];
        for numbers in numbers(rows, width, at) {
            for (largest, number) in largest.iter_mut().zip(numbers) {
                *largest = larger(*largest, number.abs());
            }
        }
        for (cell, largest) in cells.iter_mut().zip(largest) {
            *cell = cell.max(f64::from(largest));
        }
    }
    for row in rows.chunks_exact(width) {
        for (cell, number) in left.iter_mut().zip(&row[rest..]) {
            *cell = cell.max(f64::from(number.abs()));
        }
    }
}

#[inline(always)]
fn add_sizes(cells: &mut [f64], rows: &[f32]) {
    let width = cells.len().max(1);
    let (lanes, rest, left) = lanes(cells);
    for (at, cells) in lanes {
        for rows in rows.chunks(TOGETHER * width) {
            let mut sums = [0.0_f32; LANES];
            for numbers in numbers(rows, width, at) {
                for (sum, number) in sums.iter_mut().zip(numbers) {
                    *sum += number.abs();
                }
            }
            for (cell, sum) in cells.iter_mut().zip(sums) {
                *cell += f64::from(sum);
            }
        }
    }
    for row in rows.chunks_exact(width) {
        for (cell, number) in left.iter_mut().zip(&row[rest..]) {
            *cell += f64::from(number.abs());
        }
    }
}

#[inline(always)]
fn add_squares(cells: &mut [f64], rows: &[f32]) {
    let width = cells.len().max(1);
    let square = |number: f32| f64::from(number) * f64::from(number);
    let (lanes, rest, left) = lanes(cells);
    for (at, cells) in lanes {
        let mut sums = *cells;
        for numbers in numbers(rows, width, at) {
            for (sum, number) in sums.iter_mut().zip(numbers) {
                *sum += square(*number);
            }
        }
        *cells = sums;
    }
    for row in rows.chunks_exact(width) {
        for (cell, number) in left.iter_mut().zip(&row[rest..]) {
            *cell += square(*number);
        }
    }
}
