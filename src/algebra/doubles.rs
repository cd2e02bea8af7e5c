//! Products of f64 matrices added to a matrix, by tiles whose sums stay in registers.
//!
//! Both factors are packed as in `tiles`, once for all tasks; a task adds its block of the result.
//! Sums are taken in order, [`DEPTH`] products at most, and then added.

use std::{cell::RefCell, ops::Range};

use ndarray::{ArrayView1, ArrayView2, ArrayViewMut2, Axis, Slice, linalg::general_mat_mul};
use rayon::prelude::*;

use super::{Loop, Vectors, widest};

/// Products that are summed up in registers: 16 columns of them are 32 KiB, which stay in the
/// nearest cache while a block of rows passes.
const DEPTH: usize = 256;

/// Rows and columns of a block, of one task: 96 rows of [`DEPTH`] numbers are 192 KiB. Fixed, so
/// that nothing depends on the number of threads.
const ROWS: usize = 96;
const COLUMNS: usize = 512;

/// Rows of a tile, as in `tiles`, and its columns, two vectors.
const MANY: usize = 12;
const FEW: usize = 6;

/// What is computed of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Half {
    Both,
    /// The lower triangle; what is above the diagonal is left undefined.
    Lower,
}

/// `target += factor·a·b`.
pub(super) fn add(
    mut target: ArrayViewMut2<'_, f64>,
    factor: f64,
    a: ArrayView2<'_, f64>,
    b: ArrayView2<'_, f64>,
    half: Half,
) {
    assert_eq!(target.dim(), (a.nrows(), b.ncols()), "factors that fit");
    assert_eq!(a.ncols(), b.nrows(), "factors that fit");
    if target.is_empty() || a.is_empty() {
        return;
    }
    if target.strides()[1] != 1 {
        return general_mat_mul(factor, &a, &b, 1.0, &mut target);
    }
    let (rows, columns) = widest(Size);
    let depth = a.ncols();
    // As even as can be: a last step of few products would cost as much as one of many.
    let steps = depth.div_ceil(DEPTH);
    for step in 0..steps {
        let part = Slice::from(step * depth / steps..(step + 1) * depth / steps);
        let left = Packed::new(a.slice_axis(Axis(1), part).reversed_axes(), rows);
        let right = Packed::new(b.slice_axis(Axis(0), part), columns);
        let blocks = blocks(target.view_mut(), half);
        blocks.into_par_iter().for_each(|block| {
            widest(Add {
                left: &left,
                right: &right,
                factor,
                half,
                block,
            });
        });
    }
}

/// A part of the result, and where it begins.
struct Block<'t> {
    row: usize,
    column: usize,
    target: ArrayViewMut2<'t, f64>,
}

fn blocks(target: ArrayViewMut2<'_, f64>, half: Half) -> Vec<Block<'_>> {
    let mut blocks = Vec::new();
    let (mut rest, mut row) = (target, 0);
    while rest.nrows() > 0 {
        let height = ROWS.min(rest.nrows());
        let (mut line, below) = rest.split_at(Axis(0), height);
        let mut column = 0;
        while line.ncols() > 0 && (half == Half::Both || column < row + height) {
            let width = COLUMNS.min(line.ncols());
            let (target, behind) = line.split_at(Axis(1), width);
            blocks.push(Block {
                row,
                column,
                target,
            });
            line = behind;
            column += width;
        }
        (rest, row) = (below, row + height);
    }
    blocks
}

/// Rows and columns of a tile.
struct Size;

impl Loop for Size {
    type Output = (usize, usize);

    #[inline(always)]
    fn run<V: Vectors>(self) -> Self::Output {
        (if V::LANES == 16 { MANY } else { FEW }, V::LANES)
    }
}

/// A factor `[depth, count]`, `each` columns side by side; filled up with 0.
struct Packed {
    depth: usize,
    /// At least as many numbers as there are.
    values: Vec<f64>,
}

thread_local! {
    /// Room of factors that are done with: to get as much anew takes as long as to fill it.
    static ROOM: RefCell<Vec<Vec<f64>>> = const { RefCell::new(Vec::new()) };
}

/// Numbers of room that a thread holds on to, at most twice: 32 MiB.
const HELD: usize = 1 << 22;

impl Packed {
    fn new(of: ArrayView2<'_, f64>, each: usize) -> Self {
        let (depth, count) = of.dim();
        let numbers = count.div_ceil(each) * depth * each;
        let mut values = ROOM.with_borrow_mut(Vec::pop).unwrap_or_default();
        if values.len() < numbers {
            values.resize(numbers, 0.0);
        }
        let panels = values[..numbers].par_chunks_mut(depth * each).enumerate();
        panels.for_each(|(panel, values)| {
            let columns = panel * each..((panel + 1) * each).min(count);
            if columns.len() < each {
                values.fill(0.0);
            }
            pack(of.slice_axis(Axis(1), Slice::from(columns)), values, each);
        });
        Self { depth, values }
    }

    /// The panels that hold these columns, which begin one.
    fn panels(&self, columns: Range<usize>, each: usize) -> &[f64] {
        let panels = columns.start / each..columns.end.div_ceil(each);
        &self.values[panels.start * self.depth * each..panels.end * self.depth * each]
    }
}

impl Drop for Packed {
    fn drop(&mut self) {
        let values = std::mem::take(&mut self.values);
        ROOM.with_borrow_mut(|room| {
            if room.len() < 2 && values.len() <= HELD {
                room.push(values);
            }
        });
    }
}

/// Fills one panel.
fn pack(of: ArrayView2<'_, f64>, values: &mut [f64], each: usize) {
    if of.strides()[1] == 1 {
        for (line, row) in values.chunks_exact_mut(each).zip(of.rows()) {
            copy(row, line.iter_mut());
        }
        return;
    }
    let columns: Vec<ArrayView1<'_, f64>> = of.columns().into_iter().collect();
    for (at, some) in columns.chunks(4).enumerate() {
        let first = at * 4;
        let numbers: Option<Vec<&[f64]>> = some.iter().map(ArrayView1::to_slice).collect();
        if let Some([a, b, c, d]) = numbers.as_deref() {
            // Four numbers side by side take hardly longer than one.
            let fours = a.iter().zip(*b).zip(*c).zip(*d);
            for (line, (((a, b), c), d)) in values.chunks_exact_mut(each).zip(fours) {
                line[first..first + 4].copy_from_slice(&[*a, *b, *c, *d]);
            }
            continue;
        }
        for (beside, column) in some.iter().enumerate() {
            copy(*column, values[first + beside..].iter_mut().step_by(each));
        }
    }
}

fn copy<'v>(from: ArrayView1<'_, f64>, to: impl Iterator<Item = &'v mut f64>) {
    match from.as_slice() {
        Some(numbers) => to.zip(numbers).for_each(|(to, number)| *to = *number),
        None => to.zip(from).for_each(|(to, number)| *to = *number),
    }
}

struct Add<'b, 'p> {
    left: &'p Packed,
    right: &'p Packed,
    factor: f64,
    half: Half,
    block: Block<'b>,
}

impl Loop for Add<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vectors>(self) {
        match V::LANES {
            16 => self.by_tiles::<V, MANY, 16>(),
            8 => self.by_tiles::<V, FEW, 8>(),
            _ => self.by_tiles::<V, FEW, 4>(),
        }
    }
}

impl Add<'_, '_> {
    #[inline(always)]
    fn by_tiles<V: Vectors, const M: usize, const N: usize>(self) {
        let Self {
            left,
            right,
            factor,
            half,
            block,
        } = self;
        let (row, column, mut target) = (block.row, block.column, block.target);
        let (height, width) = target.dim();
        let lines = target.rows_mut().into_iter();
        let lines = lines.map(|line| line.into_slice().expect("rows without gaps"));
        let mut lines: Vec<&mut [f64]> = lines.collect();
        let (lefts, _) = left.panels(row..row + height, M).as_chunks::<M>();
        let (rights, _) = right.panels(column..column + width, N).as_chunks::<N>();
        for (beside, b) in rights.chunks_exact(right.depth).enumerate() {
            let columns = beside * N..((beside + 1) * N).min(width);
            let lefts = lefts.chunks_exact(left.depth);
            for (at, (a, lines)) in lefts.zip(lines.chunks_mut(M)).enumerate() {
                if half == Half::Lower && column + columns.start >= row + (at + 1) * M {
                    continue;
                }
                let sums = tile::<V, M, N>(a, b);
                for (line, sums) in lines.iter_mut().zip(&sums) {
                    add_line::<V, N>(&mut line[columns.clone()], factor, sums);
                }
            }
        }
    }
}

/// Adds one line of a tile; nearly all have all its columns.
#[inline(always)]
fn add_line<V: Vectors, const N: usize>(line: &mut [f64], factor: f64, sums: &[f64; N]) {
    match line.first_chunk_mut::<N>() {
        Some(line) => add_numbers::<V>(line, factor, sums),
        None => add_numbers::<V>(line, factor, sums),
    }
}

#[inline(always)]
fn add_numbers<V: Vectors>(line: &mut [f64], factor: f64, sums: &[f64]) {
    for (place, &sum) in line.iter_mut().zip(sums) {
        *place = V::multiply_add_double(factor, sum, *place);
    }
}

/// The sums of one tile, which stay in registers until they are done.
#[inline(always)]
fn tile<V: Vectors, const M: usize, const N: usize>(
    a: &[[f64; M]],
    b: &[[f64; N]],
) -> [[f64; N]; M] {
    let half = V::LANES / 2;
    let mut sums = [[V::splat_double(0.0); 2]; M];
    for (a, b) in a.iter().zip(b) {
        let (low, high) = (V::load_doubles(b), V::load_doubles(&b[half..]));
        for (sums, &a) in sums.iter_mut().zip(a) {
            let a = V::splat_double(a);
            sums[0] = V::add_product_of_doubles(a, low, sums[0]);
            sums[1] = V::add_product_of_doubles(a, high, sums[1]);
        }
    }
    let mut tile = [[0.0; N]; M];
    for (line, [low, high]) in tile.iter_mut().zip(sums) {
        V::store_doubles(low, line);
        V::store_doubles(high, &mut line[half..]);
    }
    tile
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;

    use super::*;
    use crate::algebra::MOST;

    fn numbers(rows: usize, columns: usize, seed: usize) -> Array2<f64> {
        Array2::from_shape_fn((rows, columns), |(row, column)| {
            ((row * 31 + column * 17 + seed) % 13) as f64 - 6.0
        })
    }

    #[test]
    fn products_are_added_however_the_factors_lie() {
        // One thread: how wide vectors may be is set for each.
        let alone = rayon::ThreadPoolBuilder::new().num_threads(1).build();
        alone.unwrap().install(|| {
            for most in [16, 8, 4] {
                MOST.set(most);
                for size in [(1, 1, 1), (12, 5, 16), (97, 70, 33), (200, 530, 600)] {
                    compare(size);
                }
            }
        });
    }

    fn compare((m, k, n): (usize, usize, usize)) {
        let (a, b, before) = (numbers(m, k, 1), numbers(k, n, 2), numbers(m, n, 3));
        // Small whole numbers: nothing is rounded.
        let expected = &before - &(a.dot(&b) * 2.0);
        let turned = |of: &Array2<f64>| of.t().as_standard_layout().into_owned();
        let (a_t, b_t) = (turned(&a), turned(&b));
        for (a, b) in [(a.view(), b.view()), (a_t.t(), b_t.t())] {
            let mut found = before.clone();
            add(found.view_mut(), -2.0, a, b, Half::Both);
            assert_eq!(found, expected, "{m} x {k} x {n}");
            let mut found = turned(&before);
            add(found.view_mut().reversed_axes(), -2.0, a, b, Half::Both);
            assert_eq!(found.t(), expected, "{m} x {k} x {n}, columns first");
        }
    }

    #[test]
    fn the_lower_half_is_whole() {
        let rows = numbers(40, 700, 4);
        let all = rows.t().dot(&rows);
        let mut found = Array2::zeros((700, 700));
        add(found.view_mut(), 1.0, rows.t(), rows.view(), Half::Lower);
        let lower = found
            .indexed_iter()
            .filter(|((row, column), _)| column <= row);
        assert!(lower.clone().all(|(at, value)| *value == all[at]));
        assert_eq!(found[[0, 699]], 0.0);
    }

    #[test]
    fn nothing_is_added_of_empty_factors() {
        let mut target = numbers(3, 4, 5);
        add(
            target.view_mut(),
            1.0,
            Array2::zeros((3, 0)).view(),
            Array2::zeros((0, 4)).view(),
            Half::Both,
        );
        assert_eq!(target, numbers(3, 4, 5));
    }
}
