//! Gram matrices of heads with few classes, sample by sample.
//!
//! What one sample adds is the product of its K rows with themselves, and only where its active units
//! meet: for ten classes that is too little to be worth gathering, comparing and packing. The rows of
//! a sample lie in the nearest cache; each active unit's line of the matrix is read and written once.

use std::{cmp::Reverse, ops::Range};

use rayon::prelude::*;

use super::{last::are_finite, matrix::Matrix, passes::Pass};
use crate::algebra::{Line, Loop, Vectors, widest};

/// Most classes; their rows of 512 units are then 64 kB.
const CLASSES: usize = 32;

/// Most units; their matrix is then 4 MB.
const UNITS: usize = 1024;

/// Samples whose products are added in f32 before they go to an f64: 256 roundings, which add up to
/// 1e-6 where they are random.
const TOGETHER: usize = 256;

/// Most rows of a sample whose numbers stay in registers at once.
const MOST_ROWS: usize = 10;

/// Units are filled up to whole vectors of the widest kind.
const LANES: usize = 16;

/// Whether this way is for heads like that.
pub(super) fn is_for(classes: usize, units: usize) -> bool {
    classes <= CLASSES && units <= UNITS
}

/// Room that is kept from one batch to the next: fresh memory would cost as much as the products.
#[derive(Default)]
pub(super) struct Room {
    /// One for every `TOGETHER` samples.
    parts: Vec<Vec<Line>>,
    together: Vec<f64>,
}

/// Adds the products of the samples in `batch` to `sums` `[H, H]`, of which only the lower triangle is
/// kept up; `last` are the weights `[K, H]` behind the units. `false` where a number is none.
///
/// Units that are active more often come first: the line of each ends at the unit itself, and so most
/// lines are short.
#[must_use]
pub(super) fn add(
    last: &Matrix,
    pass: &Pass,
    batch: Range<usize>,
    sums: &mut [f64],
    room: &mut Room,
) -> bool {
    let width = last.inputs();
    let slopes = &pass.slopes[0][batch.start * width..batch.end * width];
    let units = by_activity(slopes, width);
    if units.is_empty() {
        return true;
    }
    let (weights, vectors) = (weights(last, &units), units.len().div_ceil(LANES));
    let starts: Vec<usize> = batch.clone().step_by(TOGETHER).collect();
    room.parts.resize_with(starts.len(), Vec::new);
    let work = room.parts.par_iter_mut().zip(starts).map(|(part, start)| {
        part.clear();
        part.resize(units.len() * vectors, Line::ZERO);
        widest(Outer {
            weights: &weights,
            classes: last.outputs(),
            width,
            units: &units,
            pass,
            samples: start..(start + TOGETHER).min(batch.end),
            sums: part,
        });
        part.iter().all(|lanes| are_finite(&lanes.0))
    });
    // All of them are to be made.
    let finite: Vec<bool> = work.collect();
    room.join(vectors);
    room.hand_on(&units, sums, width);
    finite.iter().all(|finite| *finite)
}

impl Room {
    /// Adds the parts up, in f64.
    fn join(&mut self, vectors: usize) {
        let Self { parts, together } = self;
        let stride = vectors * LANES;
        let size = parts.first().map_or(0, Vec::len);
        together.resize(size * LANES, 0.0);
        let lines = together.par_chunks_mut(stride).enumerate();
        lines.for_each(|(unit, line)| {
            line.fill(0.0);
            let (line, _) = line[..stride].as_chunks_mut::<LANES>();
            let line = &mut line[..=unit / LANES];
            for part in &*parts {
                for (sums, lanes) in line.iter_mut().zip(&part[unit * vectors..]) {
                    let pairs = sums.iter_mut().zip(&lanes.0);
                    pairs.for_each(|(sum, &product)| *sum += f64::from(product));
                }
            }
        });
    }

    /// Adds what was joined to the sums of all units, in their own order.
    fn hand_on(&self, units: &[usize], sums: &mut [f64], width: usize) {
        let stride = padded(units.len());
        let places = units.iter().enumerate();
        let mut places: Vec<(usize, usize)> = places.map(|(place, &unit)| (unit, place)).collect();
        places.sort_unstable();
        let mut lines: Vec<Option<&mut [f64]>> = sums.chunks_exact_mut(width).map(Some).collect();
        let lines = places.iter().filter_map(|&(unit, _)| lines[unit].take());
        let lines: Vec<&mut [f64]> = lines.collect();
        lines.into_par_iter().enumerate().for_each(|(at, line)| {
            let (_, own) = places[at];
            for &(unit, place) in &places[..=at] {
                line[unit] += self.together[own.max(place) * stride + own.min(place)];
            }
        });
    }
}

/// The units with any slope that is not 0, those with most of them first.
fn by_activity(slopes: &[f32], width: usize) -> Vec<usize> {
    let active = widest(Activity { slopes, width });
    let mut units: Vec<usize> = (0..width).filter(|&unit| active[unit] > 0).collect();
    units.sort_by_key(|&unit| Reverse(active[unit]));
    units
}

/// How many slopes of each unit are not 0.
struct Activity<'a> {
    slopes: &'a [f32],
    width: usize,
}

impl Loop for Activity<'_> {
    type Output = Vec<u32>;

    #[inline(always)]
    fn run<V: Vectors>(self) -> Vec<u32> {
        let mut active = vec![0; self.width];
        for slopes in self.slopes.chunks_exact(self.width) {
            let pairs = active.iter_mut().zip(slopes);
            pairs.for_each(|(active, &slope)| *active += u32::from(slope != 0.0));
        }
        active
    }
}

fn padded(units: usize) -> usize {
    units.next_multiple_of(LANES)
}

/// Those of these units, `[K, units]`, in whole vectors.
fn weights(last: &Matrix, units: &[usize]) -> Vec<f32> {
    let stride = padded(units.len());
    let mut weights = vec![0.0; last.outputs() * stride];
    let mut all = vec![0.0; last.inputs()];
    for (class, row) in weights.chunks_exact_mut(stride).enumerate() {
        last.read(class, 0..last.inputs(), &mut all);
        let pairs = row.iter_mut().zip(units);
        pairs.for_each(|(weight, &unit)| *weight = all[unit]);
    }
    weights
}

/// Some samples, one after the other.
struct Outer<'o> {
    weights: &'o [f32],
    classes: usize,
    /// Of the layer; and the units of it that are looked at, in their order.
    width: usize,
    units: &'o [usize],
    pass: &'o Pass,
    samples: Range<usize>,
    /// `[units, units]` in whole vectors.
    sums: &'o mut [Line],
}

impl Loop for Outer<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vectors>(self) {
        // One instance for each size of blocks: their factors are to stay in registers.
        let blocks = self.classes.div_ceil(MOST_ROWS);
        match self.classes.div_ceil(blocks) {
            ..=2 => self.in_blocks::<V, 2>(),
            3 => self.in_blocks::<V, 3>(),
            4 => self.in_blocks::<V, 4>(),
            5 => self.in_blocks::<V, 5>(),
            6 => self.in_blocks::<V, 6>(),
            7 => self.in_blocks::<V, 7>(),
            8 => self.in_blocks::<V, 8>(),
            9 => self.in_blocks::<V, 9>(),
            _ => self.in_blocks::<V, MOST_ROWS>(),
        }
    }
}

impl Outer<'_> {
    #[inline(always)]
    fn in_blocks<V: Vectors, const R: usize>(self) {
        let Self { units, .. } = self;
        let stride = padded(units.len());
        let mut slopes = vec![0.0; stride];
        let mut mean = vec![0.0; stride];
        let mut active = vec![0_u32; stride + LANES];
        // By block, by vector of units, by row of the block.
        let vectors = stride / LANES;
        let mut rows = vec![[Line::ZERO; R]; self.classes.div_ceil(R) * vectors];
        for sample in self.samples.clone() {
            let all = &self.pass.slopes[0][sample * self.width..(sample + 1) * self.width];
            let pairs = slopes.iter_mut().zip(units);
            pairs.for_each(|(slope, &unit)| *slope = all[unit]);
            let mut found = 0;
            for (at, slopes) in slopes.chunks_exact(LANES).enumerate() {
                let mask = V::others_than_0(slopes);
                let units = std::array::from_fn(|lane| (at * LANES + lane) as u32);
                V::pick_lines(&units, mask, &mut active[found..]);
                found += mask.count_ones() as usize;
            }
            let active = &active[..found];
            // Behind the last of them nothing is read.
            let used = active.last().map_or(0, |&unit| unit as usize / LANES + 1);
            let slopes = &slopes[..used * LANES];
            self.fill::<V, R>(sample, slopes, &mut mean[..used * LANES], &mut rows);
            let (pairs, last) = active.as_chunks::<2>();
            for rows in rows.chunks_exact(vectors) {
                for pair in pairs {
                    let [unit, next] = pair.map(|unit| unit as usize);
                    let (low, high) = self.sums.split_at_mut(next * vectors);
                    let line = &mut low[unit * vectors..][..=unit / LANES];
                    let next_line = &mut high[..=next / LANES];
                    add_pair::<V, R>([line, next_line], rows, [unit, next]);
                }
                for unit in last.iter().map(|&unit| unit as usize) {
                    let line = &mut self.sums[unit * vectors..][..=unit / LANES];
                    add_rows::<V, R>(line, rows, &factors::<V, R>(rows, unit));
                }
            }
        }
    }

    /// Computes the rows of a sample, as far as there are slopes; those that do not count are 0.
    #[inline(always)]
    fn fill<V: Vectors, const R: usize>(
        &self,
        sample: usize,
        slopes: &[f32],
        mean: &mut [f32],
        rows: &mut [[Line; R]],
    ) {
        let stride = padded(self.units.len());
        let vectors = stride / LANES;
        let classes = sample * self.classes..(sample + 1) * self.classes;
        mean.fill(0.0);
        if let Some(shares) = &self.pass.shares {
            let shares = shares[classes.clone()].iter();
            for (&share, weights) in shares.zip(self.weights.chunks_exact(stride)) {
                let share = V::splat(share);
                let terms = mean.chunks_exact_mut(V::LANES);
                for (mean, weights) in terms.zip(weights.chunks_exact(V::LANES)) {
                    let sum = V::add_product(share, V::load(weights), V::load(mean));
                    V::store(sum, mean);
                }
            }
        }
        let counting = self.pass.rows.of(sample);
        if counting.len() < self.classes {
            rows.fill([Line::ZERO; R]);
        }
        let factors = &self.pass.factors[classes];
        for &class in counting {
            let factor = factors[class];
            let block = &mut rows[class / R * vectors..][..vectors];
            let weights = self.weights[class * stride..].chunks_exact(LANES);
            let terms = block.iter_mut().zip(weights).zip(mean.chunks_exact(LANES));
            for (((target, weights), mean), slopes) in terms.zip(slopes.chunks_exact(LANES)) {
                let terms = target[class % R].0.iter_mut().zip(weights).zip(mean);
                for (((target, weight), mean), slope) in terms.zip(slopes) {
                    *target = factor * (weight - mean) * slope;
                }
            }
        }
    }
}

/// What a unit makes of its neighbours: a number of each of its rows, in all lanes.
#[inline(always)]
fn factors<V: Vectors, const R: usize>(rows: &[[Line; R]], unit: usize) -> [V::Lanes; R] {
    let mut factors = [V::splat(0.0); R];
    for (factor, Line(row)) in factors.iter_mut().zip(&rows[unit / LANES]) {
        *factor = V::splat(row[unit % LANES]);
    }
    factors
}

/// Adds what two units make with those up to them, the second of which is the later one: each row is
/// read once for both.
#[inline(always)]
fn add_pair<V: Vectors, const R: usize>(
    [first, second]: [&mut [Line]; 2],
    rows: &[[Line; R]],
    units: [usize; 2],
) {
    // A closure for `map` would be a function by itself, without the vectors' instructions.
    let factors = [
        factors::<V, R>(rows, units[0]),
        factors::<V, R>(rows, units[1]),
    ];
    let done = first.len();
    let (both, rest) = second.split_at_mut(done);
    for ((Line(first), Line(second)), rows) in first.iter_mut().zip(both).zip(rows) {
        for at in (0..LANES).step_by(V::LANES) {
            let mut kept = [V::load(&first[at..]), V::load(&second[at..])];
            for (place, Line(row)) in rows.iter().enumerate() {
                let row = V::load(&row[at..]);
                kept[0] = V::add_product(row, factors[0][place], kept[0]);
                kept[1] = V::add_product(row, factors[1][place], kept[1]);
            }
            V::store(kept[0], &mut first[at..]);
            V::store(kept[1], &mut second[at..]);
        }
    }
    add_rows::<V, R>(rest, &rows[done..], &factors[1]);
}

/// Adds what one unit makes with some up to it.
#[inline(always)]
fn add_rows<V: Vectors, const R: usize>(
    line: &mut [Line],
    rows: &[[Line; R]],
    factors: &[V::Lanes; R],
) {
    for (Line(sums), rows) in line.iter_mut().zip(rows) {
        for at in (0..LANES).step_by(V::LANES) {
            let mut kept = V::load(&sums[at..]);
            for (Line(row), &factor) in rows.iter().zip(factors) {
                kept = V::add_product(V::load(&row[at..]), factor, kept);
            }
            V::store(kept, &mut sums[at..]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{algebra::MOST, sensitivity::structure::passes::Rows as Counting};

    /// Some numbers, of which every third or so is `rare`.
    fn numbers(count: usize, rare: f32) -> Vec<f32> {
        let mut state = 7_u32;
        let numbers = (0..count).map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            match state >> 24 {
                ..90 => rare,
                high => high as f32 / 128.0 - 1.0,
            }
        });
        numbers.collect()
    }

    fn pass(classes: usize, units: usize, samples: usize) -> Pass {
        let mut slopes = numbers(samples * units, 0.0);
        // A unit that no sample needs.
        slopes
            .iter_mut()
            .skip(units / 2)
            .step_by(units)
            .for_each(|slope| *slope = 0.0);
        Pass {
            slopes: vec![slopes],
            factors: numbers(samples * classes, 0.5),
            shares: Some(numbers(samples * classes, 0.25)),
            rows: Counting::all(classes),
            values: None,
            without_zeros: false,
        }
    }

    /// The same in f64, number by number.
    fn expected(weights: &[f32], pass: &Pass, classes: usize, units: usize) -> Vec<f64> {
        let mut sums = vec![0.0; units * units];
        let shares = pass.shares.as_ref().unwrap();
        for (sample, slopes) in pass.slopes[0].chunks_exact(units).enumerate() {
            let of = |values: &[f32], class: usize| f64::from(values[sample * classes + class]);
            let weight = |class: usize, unit: usize| f64::from(weights[class * units + unit]);
            let mean = |unit: usize| -> f64 {
                (0..classes)
                    .map(|class| of(shares, class) * weight(class, unit))
                    .sum()
            };
            let means: Vec<f64> = (0..units).map(mean).collect();
            for class in 0..classes {
                let number = |unit: usize| {
                    of(&pass.factors, class)
                        * (weight(class, unit) - means[unit])
                        * f64::from(slopes[unit])
                };
                let row: Vec<f64> = (0..units).map(number).collect();
                for (at, sum) in sums.iter_mut().enumerate() {
                    let (high, low) = (at / units, at % units);
                    *sum += if low <= high {
                        row[high] * row[low]
                    } else {
                        0.0
                    };
                }
            }
        }
        sums
    }

    #[test]
    fn products_of_rows_are_added_up_whatever_the_order_of_units() {
        // Rows in one block and in three; units of one vector and of several; one sample and more than
        // go together.
        for (classes, units, samples) in [(2, 3, 1), (10, 40, 300), (7, 17, 5), (23, 33, 140)] {
            let weights = numbers(classes * units, -0.75);
            let pass = pass(classes, units, samples);
            let last = Matrix::new(classes, units, weights.clone());
            let right = expected(&weights, &pass, classes, units);
            let largest = right
                .iter()
                .fold(0.0, |largest: f64, sum| largest.max(sum.abs()));
            for most in [16, 8, 4] {
                // A pool of its own: others go on with the widest vectors.
                let pool = rayon::ThreadPoolBuilder::new().num_threads(2);
                let pool = pool.start_handler(move |_| MOST.set(most)).build().unwrap();
                let (mut sums, mut room) = (vec![0.0; units * units], Room::default());
                for batch in [0..samples / 2, samples / 2..samples] {
                    assert!(pool.install(|| add(&last, &pass, batch, &mut sums, &mut room)));
                }
                for (found, right) in sums.iter().zip(&right) {
                    // Up to 256 samples are added in f32.
                    let off = (found - right).abs();
                    assert!(
                        off <= 1e-6 * largest,
                        "{classes}, {units}, {samples}: off by {off}"
                    );
                }
            }
        }
    }

    #[test]
    fn units_that_no_sample_needs_add_nothing_and_what_is_no_number_is_told() {
        let last = Matrix::new(2, 3, vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let mut pass = pass(2, 3, 4);
        pass.slopes[0].fill(0.0);
        let (mut sums, mut room) = (vec![0.0; 9], Room::default());
        assert!(add(&last, &pass, 0..4, &mut sums, &mut room));
        assert_eq!(sums, [0.0; 9]);
        pass.slopes[0][4] = f32::INFINITY;
        assert!(!add(&last, &pass, 0..4, &mut sums, &mut room));
    }
}
