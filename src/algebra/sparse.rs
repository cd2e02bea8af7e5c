//! Products of f32 rows that are mostly zeros, as what follows a ReLU is, with a matrix.
//!
//! Only the numbers of a row that are not 0 are multiplied, each with a whole line of the matrix. That lies
//! in [`Strips`] of as many columns as registers hold sums of, in blocks of lines that stay in the
//! nearest cache while all rows pass. The sums of one element are taken in order, in f32.

mod held;

use std::ops::Range;

use rayon::prelude::*;

pub(crate) use held::{Columns, Sparse, SparseRow, add_held};

use super::{Loop, Vectors, vectors::lanes, widest};

/// Lines of a block, a power of two: of the widest strip they are 32 KiB.
const DEPTH: usize = 64;

/// Rows between the one that is looked at and the one that is asked for: a block of each is too little for
/// the processor to guess what comes next.
const AHEAD: usize = 8;

/// Numbers that are looked at together.
const EACH: usize = 16;

/// The places of a block.
const PLACES: [[u32; EACH]; DEPTH / EACH] = {
    let mut places = [[0; EACH]; DEPTH / EACH];
    let mut place = 0;
    while place < DEPTH {
        places[place / EACH][place % EACH] = place as u32;
        place += 1;
    }
    places
};

/// Most vectors of a strip. Narrow ones read a number for few products, so strips are as even as can be.
const WIDEST: usize = 8;

/// Numbers of a line of the processor's caches: a vector that lies across two takes twice as long.
const LINE: usize = 16;

/// The numbers of some rows that are not 0.
#[derive(Default)]
struct Entries {
    /// Row by row and block by block, with room behind them: their places within the block.
    places: Vec<u32>,
    numbers: Vec<f32>,
    /// Where those of each block of each row end.
    ends: Vec<usize>,
    /// How many blocks each row has here.
    blocks: usize,
}

impl Entries {
    /// Finds those of a block of columns of rows that are `depth` numbers each.
    #[inline(always)]
    fn find<V: Vectors>(&mut self, rows: &[f32], depth: usize, block: Range<usize>) {
        let count = rows.len() / depth;
        self.make_room(count * block.len() + EACH);
        self.blocks = 1;
        let mut found = 0;
        for row in rows.chunks_exact(depth) {
            let ahead = &row[block.start..];
            for line in (0..block.len()).step_by(LINE) {
                V::prefetch(ahead, AHEAD * depth + line);
            }
            for (numbers, places) in row[block.clone()].chunks(EACH).zip(&PLACES) {
                let mask = V::others_than_0(numbers);
                V::pick_lines(places, mask, &mut self.places[found..]);
                found += V::pick(numbers, mask, &mut self.numbers[found..]);
            }
            self.ends.push(found);
        }
    }

    /// Forgets what was found, and makes room for so many.
    fn make_room(&mut self, room: usize) {
        if self.places.len() < room {
            self.places.resize(room, 0);
            self.numbers.resize(room, 0.0);
        }
        self.ends.clear();
    }

    /// Those of a block, row by row.
    fn of(&self, block: usize) -> impl Iterator<Item = (&[u32], &[f32])> {
        let rows = self.ends.len() / self.blocks.max(1);
        (0..rows).map(move |row| {
            let at = row * self.blocks + block;
            let start = at.checked_sub(1).map_or(0, |before| self.ends[before]);
            let entries = start..self.ends[at];
            (&self.places[entries.clone()], &self.numbers[entries])
        })
    }
}

/// A matrix to multiply with.
pub(crate) struct Strips {
    depth: usize,
    strips: Vec<Strip>,
    /// Columns of all strips together.
    stride: usize,
}

struct Strip {
    vectors: usize,
    column: usize,
    /// `[depth, columns]`, filled up with 0, from a place on where a cache line begins.
    values: Vec<f32>,
    start: usize,
}

impl Strips {
    /// Of `depth` rows of `count` numbers each; `read` copies some columns of one.
    pub(crate) fn of_rows(
        (depth, count): (usize, usize),
        read: impl Fn(usize, Range<usize>, &mut [f32]) + Sync,
    ) -> Self {
        let lanes = lanes();
        let all = count.div_ceil(lanes);
        let strips = all.div_ceil(WIDEST);
        let (mut places, mut column) = (Vec::with_capacity(strips), 0);
        for strip in 0..strips {
            let vectors = (strip + 1) * all / strips - strip * all / strips;
            places.push((vectors, column));
            column += vectors * lanes;
        }
        let strips = places.into_par_iter().map(|(vectors, column)| {
            let columns = column..(column + vectors * lanes).min(count);
            // Whole blocks, so that no place lies outside.
            let lines = depth.next_multiple_of(DEPTH);
            let mut values = vec![0.0_f32; lines * vectors * lanes + LINE];
            // It may be that nobody knows.
            let start = values.as_ptr().align_offset(LINE * size_of::<f32>());
            let start = start.min(LINE);
            let lines = values[start..].chunks_exact_mut(vectors * lanes);
            for (row, line) in lines.take(depth).enumerate() {
                read(row, columns.clone(), &mut line[..columns.len()]);
            }
            Strip {
                vectors,
                column,
                values,
                start,
            }
        });
        Self {
            depth,
            strips: strips.collect(),
            stride: column,
        }
    }

    /// Rows of the matrix.
    pub(crate) fn depth(&self) -> usize {
        self.depth
    }

    /// Numbers from one row of a product to the next.
    pub(crate) fn stride(&self) -> usize {
        self.stride
    }
}

/// Adds `rows · matrix` to rows that are [`Strips::stride`] apart.
///
/// # Panics
/// When the factors do not fit.
pub(crate) fn add_sparse(rows: &[f32], matrix: &Strips, target: &mut [f32]) {
    let count = rows.len().checked_div(matrix.depth).unwrap_or_default();
    assert_eq!(rows.len(), count * matrix.depth, "whole rows");
    assert_eq!(target.len(), count * matrix.stride, "as many rows");
    if !target.is_empty() {
        widest(Add {
            rows,
            matrix,
            target,
        });
    }
}

struct Add<'a> {
    rows: &'a [f32],
    matrix: &'a Strips,
    target: &'a mut [f32],
}

impl Loop for Add<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vectors>(self) {
        let Self {
            rows,
            matrix,
            target,
        } = self;
        let mut entries = Entries::default();
        for block in 0..matrix.depth.div_ceil(DEPTH) {
            let columns = block * DEPTH..((block + 1) * DEPTH).min(matrix.depth);
            entries.find::<V>(rows, matrix.depth, columns);
            add::<V>(&entries, 0, (matrix, block), target);
        }
    }
}

/// Adds what a block of entries makes with a block of the matrix's lines.
#[inline(always)]
fn add<V: Vectors>(
    entries: &Entries,
    block: usize,
    (matrix, lines): (&Strips, usize),
    target: &mut [f32],
) {
    let block = Block {
        entries,
        block,
        lines,
        stride: matrix.stride,
        target,
    };
    match V::LANES {
        16 => block.by_strips::<V, 16, 32, 48, 64, 80, 96, 112, 128>(matrix),
        8 => block.by_strips::<V, 8, 16, 24, 32, 40, 48, 56, 64>(matrix),
        _ => block.by_strips::<V, 4, 8, 12, 16, 20, 24, 28, 32>(matrix),
    }
}

struct Block<'b> {
    entries: &'b Entries,
    block: usize,
    /// Which block of the matrix's lines.
    lines: usize,
    stride: usize,
    target: &'b mut [f32],
}

impl Block<'_> {
    /// The columns of strips of one vector, two, and so on.
    #[inline(always)]
    fn by_strips<
        V: Vectors,
        const A: usize,
        const B: usize,
        const C: usize,
        const D: usize,
        const E: usize,
        const F: usize,
        const G: usize,
        const H: usize,
    >(
        mut self,
        matrix: &Strips,
    ) {
        for strip in &matrix.strips {
            match strip.vectors {
                1 => self.add::<V, A, 1>(strip),
                2 => self.add::<V, B, 2>(strip),
                3 => self.add::<V, C, 3>(strip),
                4 => self.add::<V, D, 4>(strip),
                5 => self.add::<V, E, 5>(strip),
                6 => self.add::<V, F, 6>(strip),
                7 => self.add::<V, G, 7>(strip),
                _ => self.add::<V, H, 8>(strip),
            }
        }
    }

    #[inline(always)]
    fn add<V: Vectors, const N: usize, const K: usize>(&mut self, strip: &Strip) {
        let (lines, _) = strip.values[strip.start..].as_chunks::<N>();
        let (blocks, _) = lines.as_chunks::<DEPTH>();
        let lines = &blocks[self.lines];
        let targets = self.target.chunks_exact_mut(self.stride);
        for ((places, numbers), target) in self.entries.of(self.block).zip(targets) {
            let target = &mut target[strip.column..strip.column + N];
            let mut sums = [V::splat(0.0); K];
            for (at, sums) in sums.iter_mut().enumerate() {
                *sums = V::load(&target[at * V::LANES..]);
            }
            for (&place, &number) in places.iter().zip(numbers) {
                let (line, number) = (&lines[place as usize % DEPTH], V::splat(number));
                for (at, sums) in sums.iter_mut().enumerate() {
                    *sums = V::add_product(number, V::load(&line[at * V::LANES..]), *sums);
                }
            }
            for (at, sums) in sums.into_iter().enumerate() {
                V::store(sums, &mut target[at * V::LANES..]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;

    use super::*;
    use crate::algebra::MOST;

    /// Two numbers in three are 0.
    fn numbers(rows: usize, columns: usize, seed: usize) -> Array2<f32> {
        Array2::from_shape_fn((rows, columns), |(row, column)| {
            let number = (row * 31 + column * 17 + seed) % 15;
            if number.is_multiple_of(3) {
                number as f32 - 6.0
            } else {
                0.0
            }
        })
    }

    #[test]
    fn rows_with_zeros_are_multiplied_as_others() {
        for most in [16, 8, 4] {
            MOST.set(most);
            for (m, k, n) in [(1, 1, 1), (5, 64, 16), (3, 65, 130), (7, 200, 239)] {
                let (a, b) = (numbers(m, k, 1), numbers(n, k, 2).reversed_axes());
                let matrix = Strips::of_rows((k, n), |row, columns, target| {
                    let numbers = target.iter_mut().zip(columns);
                    numbers.for_each(|(to, column)| *to = b[[row, column]]);
                });
                let mut found = vec![1.0; m * matrix.stride()];
                add_sparse(a.as_slice().unwrap(), &matrix, &mut found);
                // Small whole numbers: nothing is rounded.
                let expected = a.dot(&b) + 1.0;
                for (row, found) in found.chunks_exact(matrix.stride()).enumerate() {
                    let expected = expected.row(row).to_vec();
                    assert_eq!(found[..n], expected, "{m} x {k} x {n}, {most} lanes");
                }
            }
        }
    }

    #[test]
    fn what_is_no_number_is_not_left_out() {
        let matrix = Strips::of_rows((2, 1), |_, _, target| target.fill(1.0));
        let mut found = vec![0.0; matrix.stride()];
        add_sparse(&[f32::NAN, 0.0], &matrix, &mut found);
        assert!(found[0].is_nan());
    }

    #[test]
    fn no_columns_are_no_work() {
        let matrix = Strips::of_rows((3, 0), |_, _, _| {});
        add_sparse(&[1.0, 0.0, 2.0], &matrix, &mut []);
    }
}
