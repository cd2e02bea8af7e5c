//! Products of f32 matrices by tiles whose sums stay in registers, each handed on as it is done.
//!
//! A result that is only looked at once, for its largest number or the sum of its squares, never
//! goes to memory. Both factors are packed into [`Panels`] (Goto & van de Geijn 2008), so that what a
//! tile reads lies one number after the other. The sums of one element are taken in order, in f32.

use std::ops::Range;

use ndarray::ArrayView2;
use rayon::prelude::*;

use super::{Loop, Vectors, vectors::lanes, widest};

/// Rows of a tile, two vectors each, where vectors have sixteen numbers: its sums take 24 of the 32
/// registers.
const MANY: usize = 12;

/// The same for shorter vectors: 12 of 16 registers.
const FEW: usize = 6;

/// How many rows of the factors ahead of those in work are asked for: long enough to come from the
/// second cache, where the processor's own guesses come too late when that is busy.
const AHEAD: usize = 16;

/// One factor: numbers of `depth` products side by side, so many at a time as a tile takes.
pub(crate) struct Panels {
    depth: usize,
    count: usize,
    each: usize,
    /// `[panels, depth, each]`; filled up with 0.
    values: Vec<f32>,
}

/// Which side of a tile a factor is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Left,
    Right,
}

impl Side {
    /// How many rows, or columns, one tile takes.
    pub(crate) fn each(self) -> usize {
        let lanes = lanes();
        match (self, lanes) {
            (Self::Left, 16) => MANY,
            (Self::Left, _) => FEW,
            (Self::Right, lanes) => 2 * lanes,
        }
    }
}

impl Panels {
    /// Nothing yet: room for [`Panels::fill`].
    pub(crate) fn empty() -> Self {
        Self {
            depth: 0,
            count: 0,
            each: 1,
            values: Vec::new(),
        }
    }

    /// Of `depth` rows of `count` numbers each; `read` copies some columns of one.
    pub(crate) fn of_rows(
        side: Side,
        size: (usize, usize),
        read: impl FnMut(usize, Range<usize>, &mut [f32]),
    ) -> Self {
        let mut panels = Self::empty();
        panels.fill(side, size, read);
        panels
    }

    /// As [`Panels::of_rows`], in the room that is there already: a task packs megabytes many times.
    pub(crate) fn fill(
        &mut self,
        side: Side,
        (depth, count): (usize, usize),
        mut read: impl FnMut(usize, Range<usize>, &mut [f32]),
    ) {
        let each = side.each();
        let panels = count.div_ceil(each);
        (self.depth, self.count, self.each) = (depth, count, each);
        self.values.resize(panels * depth * each, 0.0);
        for at in 0..depth {
            let lines = self.values.chunks_exact_mut(depth * each).enumerate();
            for (panel, values) in lines {
                let columns = panel * each..((panel + 1) * each).min(count);
                let line = &mut values[at * each..(at + 1) * each];
                let (real, rest) = line.split_at_mut(columns.len());
                read(at, columns, real);
                rest.fill(0.0);
            }
        }
    }

    /// Of lines of `depth` numbers, `count` of them, which become the rows of a product; `number`
    /// gives the numbers of one.
    pub(crate) fn of_lines<I>(
        (count, depth): (usize, usize),
        numbers: impl Fn(usize) -> I + Sync,
    ) -> Self
    where
        I: Iterator<Item = f32>,
    {
        let each = Side::Left.each();
        let mut values = vec![0.0; count.div_ceil(each) * depth * each];
        let panels = values.par_chunks_mut((depth * each).max(1)).enumerate();
        panels.for_each(|(panel, values)| {
            let first = panel * each;
            for line in first..(first + each).min(count) {
                let places = values[line - first..].iter_mut().step_by(each);
                places
                    .zip(numbers(line))
                    .for_each(|(place, number)| *place = number);
            }
        });
        Self {
            depth,
            count,
            each,
            values,
        }
    }

    /// Of the rows of a matrix `[count, depth]`, as a left factor.
    pub(crate) fn of_matrix(matrix: ArrayView2<'_, f32>) -> Self {
        Self::of_lines(matrix.dim(), |line| matrix.row(line).into_iter().copied())
    }

    /// What one tile takes of a row, from the column on at which the tile begins.
    pub(crate) fn part(&self, row: usize, column: usize) -> &[f32] {
        let panel = column / self.each;
        &self.values[(panel * self.depth + row) * self.each..][..self.each]
    }
}

/// A finished part of a product.
pub(crate) struct Tile<'t> {
    /// Where it begins.
    pub(crate) row: usize,
    pub(crate) column: usize,
    /// How many rows and columns of it are real.
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    values: &'t [f32],
    stride: usize,
}

impl<'t> Tile<'t> {
    /// Its real numbers, row by row.
    pub(crate) fn lines(&self) -> impl Iterator<Item = &'t [f32]> {
        let lines = self.values.chunks_exact(self.stride).take(self.rows);
        let columns = self.columns;
        lines.map(move |line| &line[..columns])
    }

    /// Its real numbers without gaps; `buffer` is for where there are some.
    pub(crate) fn numbers<'n>(&self, buffer: &'n mut Vec<f32>) -> &'n [f32]
    where
        't: 'n,
    {
        if self.columns == self.stride {
            return &self.values[..self.rows * self.stride];
        }
        buffer.clear();
        self.lines().for_each(|line| buffer.extend_from_slice(line));
        buffer
    }
}

/// What is computed of a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    All,
    /// Tiles that begin before this column.
    Columns(usize),
    /// All tiles, of a left factor that is 0 above its diagonal: what lies there is not multiplied.
    Triangle,
}

/// Hands on the tiles of `left^T · right`.
pub(crate) fn multiply(
    left: &Panels,
    right: &Panels,
    extent: Extent,
    take: &mut dyn FnMut(&Tile<'_>),
) {
    widest(Multiply {
        left,
        right,
        extent,
        take,
    });
}

struct Multiply<'m> {
    left: &'m Panels,
    right: &'m Panels,
    extent: Extent,
    take: &'m mut dyn FnMut(&Tile<'_>),
}

impl Loop for Multiply<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vectors>(self) {
        match V::LANES {
            16 => self.by_tiles::<V, MANY, 32>(),
            8 => self.by_tiles::<V, FEW, 16>(),
            _ => self.by_tiles::<V, FEW, 8>(),
        }
    }
}

impl Multiply<'_> {
    #[inline(always)]
    fn by_tiles<V: Vectors, const M: usize, const N: usize>(self) {
        let Self {
            left,
            right,
            extent,
            take,
        } = self;
        let columns = match extent {
            Extent::Columns(count) => count.min(right.count),
            Extent::All | Extent::Triangle => right.count,
        };
        let (lefts, _) = left.values.as_chunks::<M>();
        let (rights, _) = right.values.as_chunks::<N>();
        for (at, a) in lefts.chunks_exact(left.depth.max(1)).enumerate() {
            let row = at * M;
            let depth = match extent {
                Extent::Triangle => (row + M).min(left.depth),
                Extent::All | Extent::Columns(_) => left.depth,
            };
            let rights = rights.chunks_exact(right.depth.max(1));
            for (beside, b) in rights.take(columns.div_ceil(N)).enumerate() {
                let sums = tile::<V, M, N>(&a[..depth], &b[..depth]);
                let column = beside * N;
                take(&Tile {
                    row,
                    column,
                    rows: (left.count - row).min(M),
                    columns: (right.count - column).min(N),
                    values: sums.as_flattened(),
                    stride: N,
                });
            }
        }
    }
}

/// The sums of one tile, which stay in registers until they are done.
#[inline(always)]
fn tile<V: Vectors, const M: usize, const N: usize>(
    a: &[[f32; M]],
    b: &[[f32; N]],
) -> [[f32; N]; M] {
    let mut sums = [[V::splat(0.0); 2]; M];
    for (a, b) in a.iter().zip(b) {
        let (low, high) = (V::load(b), V::load(&b[V::LANES..]));
        V::prefetch(a, AHEAD * M);
        V::prefetch(b, AHEAD * N);
        V::prefetch(b, AHEAD * N + V::LANES);
        for (sums, &a) in sums.iter_mut().zip(a) {
            let a = V::splat(a);
            sums[0] = V::add_product(a, low, sums[0]);
            sums[1] = V::add_product(a, high, sums[1]);
        }
    }
    let mut tile = [[0.0; N]; M];
    for (line, [low, high]) in tile.iter_mut().zip(sums) {
        V::store(low, line);
        V::store(high, &mut line[V::LANES..]);
    }
    tile
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;

    use super::*;
    use crate::algebra::MOST;

    fn numbers(rows: usize, columns: usize, seed: usize) -> Array2<f32> {
        Array2::from_shape_fn((rows, columns), |(row, column)| {
            ((row * 31 + column * 17 + seed) % 13) as f32 - 6.0
        })
    }

    fn right(of: &Array2<f32>) -> Panels {
        Panels::of_rows(Side::Right, of.dim(), |at, columns, target| {
            target.copy_from_slice(&of.row(at).as_slice().unwrap()[columns]);
        })
    }

    /// Collects the tiles.
    fn product(left: &Panels, right: &Panels, extent: Extent) -> Array2<f32> {
        let mut found = Array2::from_elem((left.count, right.count), f32::NAN);
        let mut buffer = Vec::new();
        multiply(left, right, extent, &mut |tile| {
            let numbers = tile.numbers(&mut buffer);
            for (at, line) in numbers.chunks_exact(tile.columns).enumerate() {
                for (beside, number) in line.iter().enumerate() {
                    found[[tile.row + at, tile.column + beside]] = *number;
                }
            }
        });
        found
    }

    #[test]
    fn tiles_make_up_the_product() {
        for most in [16, 8, 4] {
            MOST.set(most);
            for (m, k, n) in [(1, 1, 1), (12, 5, 32), (13, 70, 33), (29, 3, 100)] {
                let (a, b) = (numbers(m, k, 1), numbers(k, n, 2));
                // Small whole numbers: nothing is rounded.
                let found = product(&Panels::of_matrix(a.view()), &right(&b), Extent::All);
                assert_eq!(found, a.dot(&b), "{m} x {k} x {n}, {most} lanes");
            }
        }
    }

    #[test]
    fn both_sides_may_come_by_rows_and_columns_may_be_left_out() {
        let rows = numbers(40, 100, 3);
        let mut left = right(&numbers(70, 30, 9));
        left.fill(Side::Left, rows.dim(), |at, columns, target| {
            target.copy_from_slice(&rows.row(at).as_slice().unwrap()[columns]);
        });
        let right = right(&rows);
        let all = rows.t().dot(&rows);
        assert_eq!(product(&left, &right, Extent::All), all);
        let found = product(&left, &right, Extent::Columns(20));
        assert_eq!(found[[99, 19]], all[[99, 19]]);
        assert!(found[[0, 99]].is_nan());
        assert_eq!(right.part(7, 32)[0], rows[[7, 32]]);
    }

    #[test]
    fn nothing_is_multiplied_above_a_diagonal() {
        let mut triangle = numbers(50, 50, 4);
        for ((row, column), number) in triangle.indexed_iter_mut() {
            if column > row {
                *number = 0.0;
            }
        }
        let other = numbers(50, 40, 5);
        let found = product(
            &Panels::of_matrix(triangle.view()),
            &right(&other),
            Extent::Triangle,
        );
        assert_eq!(found, triangle.dot(&other));
    }
}
