//! Synthetic samples for runs without data.
//!
//! White noise is a poor stand-in for photographs: a convolution averages it away. Images are therefore the sum
//! of smooth random fields of several scales, with more weight on the coarse ones, stretched over 0 to 255; they go through the
//! same preprocessing as real bytes. Inputs that are not images get independent values that are near a standard
//! normal distribution. Every sample has a stream of its own, so that it does not depend on what else was drawn.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha12Rng;
use sha2::{Digest, Sha256};

use super::geometry::Size;
use super::pixels::Pixels;
use super::problem::Read;
use super::readers::{Sample, Samples};
use super::resize::Interpolation;
use crate::error::Result;

/// Samples when `--samples` does not say.
pub(super) const DEFAULT_SAMPLES: usize = 256;
/// Cells along the shorter edge of each field, coarse to fine, and the field's weight in 1/16.
const FIELDS: [(usize, u32); 4] = [(3, 7), (7, 5), (17, 3), (48, 1)];

/// What one synthetic sample looks like.
#[derive(Clone, Copy, Debug)]
pub(super) enum Look {
    Image { size: Size, channels: usize },
    Vector { len: usize },
}

pub(super) struct Noise {
    pub(super) look: Look,
    pub(super) seed: u64,
}

impl Noise {
    fn random(&self, position: usize) -> ChaCha12Rng {
        let mut random = ChaCha12Rng::seed_from_u64(self.seed);
        random.set_stream(position as u64);
        random
    }
}

impl Samples for Noise {
    fn load(&self, position: usize) -> Read<Sample> {
        let mut random = self.random(position);
        Ok(match self.look {
            Look::Image { size, channels } => Sample::Pixels(clouds(&mut random, size, channels)),
            Look::Vector { len } => {
                Sample::Numbers((0..len).map(|_| normal(&mut random)).collect())
            }
        })
    }

    fn name(&self, position: usize) -> String {
        format!("synthetic sample {position}")
    }

    fn digest(&self, hash: &mut Sha256) -> Result<()> {
        hash.update(format!("noise {:?} seed {}", self.look, self.seed));
        Ok(())
    }
}

/// The sum of twelve uniform values less six: mean 0, variance 1, and no `ln` or `cos`, whose last bits depend on the
/// platform.
fn normal(random: &mut impl Rng) -> f32 {
    let sum: f64 = (0..12)
        .map(|_| f64::from(random.next_u32()) / 4_294_967_296.0)
        .sum();
    (sum - 6.0) as f32
}

fn clouds(random: &mut impl Rng, size: Size, channels: usize) -> Pixels {
    let mut sums = vec![0_u32; size.height * size.width * channels];
    for (cells, weight) in FIELDS {
        let cells = Size {
            height: cells.min(size.height),
            width: cells.min(size.width),
        };
        let mut bytes = vec![0; cells.height * cells.width * channels];
        random.fill_bytes(&mut bytes);
        let field = Pixels {
            size: cells,
            channels,
            bytes,
        }
        .resized(size, Interpolation::Bilinear);
        for (sum, byte) in sums.iter_mut().zip(field.bytes) {
            *sum += u32::from(byte) * weight;
        }
    }
    Pixels {
        size,
        channels,
        bytes: stretched(&sums),
    }
}

/// Integers to 0..=255, the least to 0 and the largest to 255.
fn stretched(sums: &[u32]) -> Vec<u8> {
    let least = sums.iter().copied().min().unwrap_or(0);
    let range = sums
        .iter()
        .copied()
        .max()
        .unwrap_or(0)
        .saturating_sub(least)
        .max(1);
    // At most 255, because no sum exceeds the range.
    sums.iter()
        .map(|sum| ((sum - least) * 255 / range) as u8)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normal_values_have_mean_0_and_deviation_1() {
        let mut random = ChaCha12Rng::seed_from_u64(1);
        let values: Vec<f64> = (0..20_000)
            .map(|_| f64::from(normal(&mut random)))
            .collect();
        let mean = values.iter().sum::<f64>() / 20_000.0;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 20_000.0;
        assert!(mean.abs() < 0.03, "{mean}");
        assert!((variance - 1.0).abs() < 0.03, "{variance}");
    }

    #[test]
    fn a_sample_depends_on_seed_and_position_alone() {
        let noise = |seed| Noise {
            look: Look::Image {
                size: Size {
                    height: 9,
                    width: 14,
                },
                channels: 3,
            },
            seed,
        };
        let bytes = |seed, position| match noise(seed).load(position).unwrap() {
            Sample::Pixels(pixels) => pixels.bytes,
            Sample::Encoded(_) | Sample::Numbers(_) => vec![],
        };
        assert_eq!(bytes(1, 5), bytes(1, 5));
        assert_ne!(bytes(1, 5), bytes(1, 6));
        assert_ne!(bytes(1, 5), bytes(2, 5));
        assert_eq!(bytes(1, 5).len(), 9 * 14 * 3);
        assert_eq!(bytes(1, 5).iter().min(), Some(&0));
        assert_eq!(bytes(1, 5).iter().max(), Some(&255));
    }
}
