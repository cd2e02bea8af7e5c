//! Some numbers of a row, picked out many at a time.

use super::{Loop, Vectors, widest};

/// Numbers of a row that are looked at together.
const EACH: usize = 16;

/// Places of a row, in rising order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Picks {
    count: usize,
    /// Which of each sixteen numbers, the first as the lowest bit.
    masks: Vec<u16>,
}

impl Picks {
    /// Nothing where the places do not rise.
    pub(crate) fn new(places: &[usize]) -> Option<Self> {
        let width = places.last().map_or(0, |last| last + 1);
        let mut masks = vec![0; width.div_ceil(EACH)];
        if !places.is_sorted_by(|one, next| one < next) {
            return None;
        }
        for place in places {
            masks[place / EACH] |= 1 << (place % EACH);
        }
        Some(Self {
            count: places.len(),
            masks,
        })
    }

    /// The places, in rising order.
    pub(crate) fn places(&self) -> Vec<usize> {
        let masks = self.masks.iter().enumerate();
        let places = masks.flat_map(|(at, mask)| {
            let set = (0..EACH).filter(move |bit| mask >> bit & 1 == 1);
            set.map(move |bit| at * EACH + bit)
        });
        places.collect()
    }

    /// Adds those of `row` to `target`; `buffer` may hold anything.
    ///
    /// # Panics
    /// When the row has not all places.
    pub(crate) fn extend(&self, target: &mut Vec<f32>, row: &[f32], buffer: &mut Vec<f32>) {
        if buffer.len() < self.count + EACH {
            buffer.resize(self.count + EACH, 0.0);
        }
        let found = widest(Pick {
            masks: &self.masks,
            row,
            target: buffer,
        });
        assert_eq!(found, self.count, "a row with all places");
        target.extend_from_slice(&buffer[..found]);
    }
}

struct Pick<'p> {
    masks: &'p [u16],
    row: &'p [f32],
    /// [`EACH`] longer than what is found.
    target: &'p mut [f32],
}

impl Loop for Pick<'_> {
    type Output = usize;

    #[inline(always)]
    fn run<V: Vectors>(self) -> usize {
        let mut found = 0;
        for (numbers, &mask) in self.row.chunks(EACH).zip(self.masks) {
            found += V::pick(numbers, mask, &mut self.target[found..]);
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algebra::MOST;

    #[test]
    fn picked_numbers_are_those_of_their_places() {
        let row: Vec<f32> = (0..100).map(|at| at as f32).collect();
        let cases: [Vec<usize>; 5] = [
            vec![],
            vec![99],
            (0..100).collect(),
            vec![0, 15, 16, 31, 96],
            (0..100).filter(|at| at % 3 == 1).collect(),
        ];
        for (places, most) in cases
            .iter()
            .flat_map(|case| [16, 8].map(|most| (case, most)))
        {
            MOST.set(most);
            let expected: Vec<f32> = places.iter().map(|&at| row[at]).collect();
            let (mut found, mut buffer) = (vec![7.0], Vec::new());
            let picks = Picks::new(places).unwrap();
            assert_eq!(picks.places(), *places);
            picks.extend(&mut found, &row, &mut buffer);
            assert_eq!(found[1..], expected, "{most} lanes");
        }
        assert_eq!(Picks::new(&[3, 2]), None);
        assert_eq!(Picks::new(&[2, 2]), None);
    }
}
