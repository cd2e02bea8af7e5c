//! Rows that are held without their zeros, to be multiplied many times, each time by some columns.

use std::{cell::RefCell, iter};

use super::{DEPTH, EACH, Entries, Strips, add};
use crate::algebra::{Loop, Vectors, widest};

/// Rows without their zeros.
#[derive(Debug)]
pub(crate) struct Sparse {
    width: usize,
    /// Which of each sixteen numbers of a row are held, the first as the lowest bit.
    masks: Vec<u16>,
    /// Row by row, with room behind them.
    numbers: Vec<f32>,
    /// Where those of each row begin, and where the last ones end.
    starts: Vec<usize>,
}

/// One of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SparseRow<'s> {
    masks: &'s [u16],
    /// At least [`EACH`] more than there are.
    numbers: &'s [f32],
}

impl Sparse {
    /// No rows yet, of `width` numbers each.
    pub(crate) fn new(width: usize) -> Self {
        Self {
            width,
            masks: Vec::new(),
            numbers: Vec::new(),
            starts: vec![0],
        }
    }

    /// Adds a row.
    ///
    /// # Panics
    /// When it has another width.
    pub(crate) fn add(&mut self, row: &[f32]) {
        assert_eq!(row.len(), self.width, "rows of one width");
        let found = self.starts.last().copied().unwrap_or_default();
        // Each group is written whole, and read whole later on.
        let room = found + self.width + 2 * EACH;
        if self.numbers.len() < room {
            self.numbers.resize(room, 0.0);
        }
        let end = widest(Hold {
            row,
            found,
            sparse: self,
        });
        self.starts.push(end);
    }

    /// The row at this place.
    ///
    /// # Panics
    /// When there is none.
    pub(crate) fn row(&self, at: usize) -> SparseRow<'_> {
        let groups = self.width.div_ceil(EACH);
        let (start, end) = (self.starts[at], self.starts[at + 1]);
        SparseRow {
            masks: &self.masks[at * groups..(at + 1) * groups],
            numbers: &self.numbers[start..end + EACH],
        }
    }
}

struct Hold<'h> {
    row: &'h [f32],
    found: usize,
    sparse: &'h mut Sparse,
}

impl Loop for Hold<'_> {
    type Output = usize;

    #[inline(always)]
    fn run<V: Vectors>(self) -> usize {
        let mut found = self.found;
        for numbers in self.row.chunks(EACH) {
            let mask = V::others_than_0(numbers);
            self.sparse.masks.push(mask);
            found += V::pick(numbers, mask, &mut self.sparse.numbers[found..]);
        }
        found
    }
}

/// The columns that the lines of a matrix stand for.
#[derive(Debug)]
pub(crate) struct Columns {
    count: usize,
    groups: Vec<Group>,
}

/// Sixteen neighbouring columns.
#[derive(Clone, Debug, Default)]
struct Group {
    /// Those whose lines are in the block that the group begins in, and in the one behind.
    own: u16,
    behind: u16,
    /// Whether that block ends within the group.
    ends: bool,
    /// The line of each column, within its block.
    lines: [u32; EACH],
}

impl Columns {
    /// Of these columns, which must rise: the first for the first line, and so on.
    ///
    /// # Panics
    /// When they do not rise.
    pub(crate) fn new(columns: &[usize]) -> Self {
        assert!(columns.is_sorted_by(|one, next| one < next), "rising");
        let width = columns.last().map_or(0, |last| last + 1);
        let mut groups = vec![Group::default(); width.div_ceil(EACH)];
        for (line, &column) in columns.iter().enumerate() {
            let (group, lane) = (&mut groups[column / EACH], column % EACH);
            match group.ends {
                false => group.own |= 1 << lane,
                true => group.behind |= 1 << lane,
            }
            group.lines[lane] = u32::try_from(line % DEPTH).expect("a small number");
            // Fewer than a block's lines are in one group: it ends once at most.
            group.ends |= (line + 1).is_multiple_of(DEPTH);
        }
        Self {
            count: columns.len(),
            groups,
        }
    }
}

impl Entries {
    /// Takes those of some rows, of all blocks of lines.
    #[inline(always)]
    fn take<V: Vectors>(&mut self, rows: &[SparseRow<'_>], columns: &Columns) {
        let most: usize = rows.iter().map(|row| row.numbers.len()).sum();
        self.make_room(most + EACH);
        self.blocks = columns.count.div_ceil(DEPTH);
        let mut found = 0;
        for row in rows {
            let mut numbers = row.numbers;
            for (&mask, group) in row.masks.iter().zip(&columns.groups) {
                found += self.pick::<V>(numbers, (mask, mask & group.own), &group.lines, found);
                if group.ends {
                    self.ends.push(found);
                    let behind = mask & group.behind;
                    found += self.pick::<V>(numbers, (mask, behind), &group.lines, found);
                }
                numbers = &numbers[mask.count_ones() as usize..];
            }
            let open = !columns.count.is_multiple_of(DEPTH);
            self.ends.extend(iter::repeat_n(found, usize::from(open)));
        }
    }

    /// Takes some numbers of a group, of which `masks.0` are held, `masks.1` wanted.
    #[inline(always)]
    fn pick<V: Vectors>(
        &mut self,
        numbers: &[f32],
        (held, wanted): (u16, u16),
        lines: &[u32; EACH],
        at: usize,
    ) -> usize {
        V::pick_lines(lines, wanted, &mut self.places[at..]);
        V::pick_held(numbers, held, wanted, &mut self.numbers[at..])
    }
}

thread_local! {
    /// Room that is used again: to get it anew takes long beside what is written there.
    static ENTRIES: RefCell<Entries> = RefCell::default();
}

/// As [`super::add_sparse`], of some columns of rows that are held without their zeros.
///
/// # Panics
/// When there are not as many columns as the matrix has rows, or a row is shorter than they reach.
pub(crate) fn add_held(
    rows: &[SparseRow<'_>],
    columns: &Columns,
    matrix: &Strips,
    target: &mut [f32],
) {
    assert_eq!(columns.count, matrix.depth, "a line for each column");
    assert_eq!(target.len(), rows.len() * matrix.stride, "as many rows");
    let reach = columns.groups.len();
    assert!(rows.iter().all(|row| row.masks.len() >= reach), "wide rows");
    if !target.is_empty() {
        let mut entries = ENTRIES.take();
        widest(AddHeld {
            rows,
            columns,
            matrix,
            target,
            entries: &mut entries,
        });
        ENTRIES.set(entries);
    }
}

struct AddHeld<'a> {
    rows: &'a [SparseRow<'a>],
    columns: &'a Columns,
    matrix: &'a Strips,
    target: &'a mut [f32],
    entries: &'a mut Entries,
}

impl Loop for AddHeld<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vectors>(self) {
        self.entries.take::<V>(self.rows, self.columns);
        for block in 0..self.entries.blocks {
            add::<V>(self.entries, block, (self.matrix, block), self.target);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algebra::MOST;

    #[test]
    fn chosen_columns_of_held_rows_are_multiplied() {
        let (count, width, outputs) = (5, 333, 21);
        // The last row has no zeros: it fills up each block.
        let number = |row: usize, column: usize| match (row * 31 + column * 17) % 5 {
            _ if row == 4 => 1.0,
            0 => ((row + column) % 7) as f32 - 3.0,
            _ => 0.0,
        };
        let weight = |column: usize, output: usize| ((column * 3 + output) % 9) as f32 - 4.0;
        let cases: [Vec<usize>; 6] = [
            vec![],
            vec![332],
            (0..width).collect(),
            // blocks that end within a group, and at its end
            (5..width).collect(),
            (0..width).filter(|column| column % 3 == 1).collect(),
            (16..80).collect(),
        ];
        for (columns, most) in cases
            .iter()
            .flat_map(|case| [16, 8, 4].map(|most| (case, most)))
        {
            MOST.set(most);
            let mut held = Sparse::new(width);
            for row in 0..count {
                let numbers: Vec<f32> = (0..width).map(|column| number(row, column)).collect();
                held.add(&numbers);
            }
            let size = (columns.len(), outputs);
            let matrix = Strips::of_rows(size, |line, range, target| {
                let target = target.iter_mut().zip(range);
                target.for_each(|(to, output)| *to = weight(columns[line], output));
            });
            let chosen = [4, 3, 0, 4];
            let rows: Vec<SparseRow<'_>> = chosen.map(|at| held.row(at)).into();
            let mut found = vec![1.0; rows.len() * matrix.stride()];
            add_held(&rows, &Columns::new(columns), &matrix, &mut found);
            // Small whole numbers: nothing is rounded.
            for (row, found) in chosen.into_iter().zip(found.chunks(matrix.stride())) {
                let sum = |output: usize| {
                    let products = columns.iter();
                    let products = products.map(|&at| number(row, at) * weight(at, output));
                    1.0 + products.sum::<f32>()
                };
                let expected: Vec<f32> = (0..outputs).map(sum).collect();
                assert_eq!(found[..outputs], expected, "{} columns", columns.len());
            }
        }
    }
}
