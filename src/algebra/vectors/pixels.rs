//! Weighted sums of neighbouring pixels, for the resize of images.
//!
//! What has bytes and weights of 24 bits wants sums of 32 bits. AVX2 multiplies sixteen pairs of numbers of 16 bits in
//! one instruction and adds up neighbouring products, so that a weight goes into it in two halves.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{
    __m256i, _mm_add_epi32, _mm_cvtsi128_si32, _mm_loadu_si128, _mm_packs_epi32, _mm_packus_epi16,
    _mm_set1_epi32, _mm_srai_epi32, _mm256_add_epi32, _mm256_broadcastsi128_si256,
    _mm256_castsi256_si128, _mm256_extracti128_si256, _mm256_loadu_si256, _mm256_madd_epi16,
    _mm256_setr_epi8, _mm256_setzero_si256, _mm256_shuffle_epi8, _mm256_slli_epi32,
};

/// The weights of four neighbouring pixels of three bytes each, whole numbers below 2^24.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(32))]
pub(crate) struct PixelWeights {
    /// Their upper bits, and their lower [`LOW_BITS`], for each byte of the pixels: two neighbouring pixels side by side, as
    /// products of two are added up in one instruction.
    halves: [[i16; 16]; 2],
    whole: [i32; 4],
}

/// As many as a half has without its sign.
const LOW_BITS: u32 = 15;

impl PixelWeights {
    /// Bytes that are read for them, of which the last count for nothing.
    pub(crate) const READ: usize = 16;

    /// Bits of a weight behind the point.
    pub(crate) const FRACTION_BITS: u32 = 22;

    const HALF: i32 = 1 << (Self::FRACTION_BITS - 1);

    pub(crate) fn new(whole: [i32; 4]) -> Self {
        let [high, low] = [
            whole.map(|weight| (weight >> LOW_BITS) as i16),
            whole.map(|weight| (weight & ((1 << LOW_BITS) - 1)) as i16),
        ];
        let spread = |halves: [i16; 4]| {
            std::array::from_fn(|at| match at % 8 {
                // In place of a fourth colour.
                6.. => 0,
                place => halves[at / 8 * 2 + place % 2],
            })
        };
        Self {
            halves: [spread(high), spread(low)],
            whole,
        }
    }
}

/// [`super::Vectors::weigh`], as it is.
#[inline(always)]
pub(super) fn weigh(pixels: &[u8], weights: &[PixelWeights]) -> [u8; 4] {
    let mut sums = [PixelWeights::HALF; 4];
    for (group, weights) in weights.iter().enumerate() {
        let pixels = &pixels[group * 12..][..PixelWeights::READ];
        for (pixel, weight) in pixels.chunks_exact(3).zip(weights.whole) {
            for (sum, &value) in sums.iter_mut().zip(pixel) {
                *sum += i32::from(value) * weight;
            }
        }
    }
    sums.map(|sum| (sum >> PixelWeights::FRACTION_BITS).clamp(0, 255) as u8)
}

/// The bytes of four pixels as numbers of 16 bits, ordered as the halves of [`PixelWeights`].
///
/// Only to be used where AVX2 is.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn spread(pixels: &[u8; PixelWeights::READ]) -> __m256i {
    // SAFETY: sixteen bytes are there, and so is AVX2.
    unsafe {
        let order = _mm256_setr_epi8(
            0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1, 6, -1, 9, -1, 7, -1, 10, -1,
            8, -1, 11, -1, -1, -1, -1, -1,
        );
        let bytes = _mm256_broadcastsi128_si256(_mm_loadu_si128(pixels.as_ptr().cast()));
        _mm256_shuffle_epi8(bytes, order)
    }
}

/// [`weigh`]; only to be used where AVX2 is.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) fn weigh_with_avx2(pixels: &[u8], weights: &[PixelWeights]) -> [u8; 4] {
    // SAFETY: AVX2 is there; what is loaded is as long.
    unsafe {
        let [mut high, mut low] = [_mm256_setzero_si256(); 2];
        for (group, weights) in weights.iter().enumerate() {
            let pixels = spread(pixels[group * 12..].first_chunk().expect("enough bytes"));
            let [above, below] = &weights.halves;
            let above = _mm256_loadu_si256(above.as_ptr().cast());
            let below = _mm256_loadu_si256(below.as_ptr().cast());
            high = _mm256_add_epi32(high, _mm256_madd_epi16(pixels, above));
            low = _mm256_add_epi32(low, _mm256_madd_epi16(pixels, below));
        }
        let both = _mm256_add_epi32(_mm256_slli_epi32::<{ LOW_BITS as i32 }>(high), low);
        let first = _mm_add_epi32(
            _mm256_castsi256_si128(both),
            _mm_set1_epi32(PixelWeights::HALF),
        );
        let sums = _mm_add_epi32(first, _mm256_extracti128_si256::<1>(both));
        let whole = _mm_srai_epi32::<{ PixelWeights::FRACTION_BITS as i32 }>(sums);
        // Both cut what does not fit.
        let bytes = _mm_packus_epi16(_mm_packs_epi32(whole, whole), whole);
        _mm_cvtsi128_si32(bytes).to_le_bytes()
    }
}
