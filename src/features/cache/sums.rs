//! A sum over the bytes of each row, by which a row that has changed on the disk is known.
//!
//! It finds accidents, not forgeries: 64 bits, eight bytes at a time, as in FNV-1a but with a wider
//! step (Fowler, Noll & Vo 1991).

use std::{fs, path::Path};

use super::npy;
use crate::{
    error::{Error, Result},
    features::{layout::Layout, rows::Rows},
};

/// Its name in the folder of an entry.
pub(super) const NAME: &str = "sums.npy";

const START: u64 = 0xcbf2_9ce4_8422_2325;
/// Odd, with its bits spread evenly: 2^64 over the golden ratio.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// A sum that takes the bytes of one value after another.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sum(u64);

impl Sum {
    pub(super) fn new() -> Self {
        Self(START)
    }

    pub(super) fn add(&mut self, bytes: &[u8]) {
        for word in bytes.chunks(8) {
            let mut padded = [0; 8];
            padded[..word.len()].copy_from_slice(word);
            let mixed = (self.0 ^ u64::from_le_bytes(padded)).wrapping_mul(FACTOR);
            self.0 = mixed ^ (mixed >> 29);
        }
    }

    pub(super) fn value(self) -> u64 {
        self.0
    }
}

/// The sums of all rows; the error says in words what is wrong.
pub(super) fn read(folder: &Path, samples: usize) -> Result<Vec<u64>, String> {
    let header = npy::header("<u8", &[samples]);
    npy::open(&folder.join(NAME), &header, 8 * samples as u64)?;
    let bytes = fs::read(folder.join(NAME)).map_err(|error| format!("{NAME}: {error}"))?;
    let words = bytes
        .get(header.len()..)
        .unwrap_or_default()
        .chunks_exact(8);
    let sums: Vec<u64> = words
        .filter_map(|word| word.try_into().ok().map(u64::from_le_bytes))
        .collect();
    match sums.len() == samples {
        true => Ok(sums),
        false => Err(format!("{NAME} was replaced while it was read")),
    }
}

/// Replaces the sums of all rows.
pub(super) fn write(folder: &Path, sums: &[u64]) -> Result<()> {
    let path = folder.join(NAME);
    let header = npy::header("<u8", &[sums.len()]);
    let bytes: Vec<u8> = sums.iter().flat_map(|sum| sum.to_le_bytes()).collect();
    npy::replace(&path, &header, &bytes).map_err(Error::io(&path))
}

/// Those of `samples`, which rise, whose rows do not have their sum.
///
/// # Errors
/// [`Error::Io`] where they cannot be read.
pub(super) fn changed(
    rows: &Rows,
    layouts: &[Layout],
    samples: &[usize],
    sums: &[u64],
) -> Result<Vec<usize>> {
    /// Rows that are read at once.
    const ROWS: usize = 256;
    let mut changed = Vec::new();
    for run in samples.chunk_by(|one, next| one + 1 == *next) {
        for part in run.chunks(ROWS) {
            let mut found = vec![Sum::new(); part.len()];
            for (value, layout) in layouts.iter().enumerate() {
                let bytes = rows.read(value, part[0], part.len())?;
                let each = bytes.chunks_exact(layout.row_bytes().max(1));
                found
                    .iter_mut()
                    .zip(each)
                    .for_each(|(sum, row)| sum.add(row));
            }
            let pairs = part.iter().zip(found);
            changed.extend(
                pairs
                    .filter(|(sample, sum)| sums[**sample] != sum.value())
                    .map(|(sample, _)| *sample),
            );
        }
    }
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(parts: &[&[u8]]) -> u64 {
        let mut sum = Sum::new();
        parts.iter().for_each(|part| sum.add(part));
        sum.value()
    }

    #[test]
    fn every_flipped_bit_and_every_exchange_is_seen() {
        let bytes: Vec<u8> = (0..37).map(|at| at * 7).collect();
        let whole = sum(&[&bytes]);
        for bit in 0..8 * bytes.len() {
            let mut other = bytes.clone();
            other[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(sum(&[&other]), whole, "bit {bit}");
        }
        let mut other = bytes.clone();
        other.rotate_left(8);
        assert_ne!(sum(&[&other]), whole);
        assert_ne!(sum(&[&[0; 8]]), sum(&[&[0; 16]]));
    }
}
