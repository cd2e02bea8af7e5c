//! Loops that are compiled once for each width of vectors, and run in the widest that the processor has.
//!
//! A program for all x86-64 processors may use vectors of four f32 only; nearly all have eight, many
//! sixteen, and units that multiply and add in one instruction; half as many f64. What runs for seconds is therefore
//! written as a [`Loop`], and [`widest`] chooses among its copies.
//!
//! One of two places with `unsafe`: functions that are compiled for a feature of the processor may
//! only be called where it is there, which is asked right before.
#![cfg_attr(
    target_arch = "x86_64",
    expect(
        unsafe_code,
        reason = "calls of what is compiled for features that were found"
    )
)]

mod pixels;

pub(crate) use pixels::PixelWeights;

/// Something that takes long.
pub(crate) trait Loop {
    /// What it gives.
    type Output;

    /// Runs it. Only what is inlined is compiled for the vectors: this wants `#[inline(always)]`,
    /// and so does what it calls.
    fn run<V: Vectors>(self) -> Self::Output;
}

/// Sixteen neighbouring numbers in one line of the cache, so that a vector is read from there at once.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(crate) struct Line(pub(crate) [f32; 16]);

impl Line {
    pub(crate) const ZERO: Self = Self([0.0; 16]);
}

/// What the processor can do.
pub(crate) trait Vectors {
    /// Some f32, in one register.
    type Lanes: Copy;

    /// How many.
    const LANES: usize;

    /// The first of these numbers.
    ///
    /// # Panics
    /// When there are fewer.
    fn load(numbers: &[f32]) -> Self::Lanes;

    /// One number, in all lanes.
    fn splat(number: f32) -> Self::Lanes;

    /// Puts them in place of the first of these numbers.
    ///
    /// # Panics
    /// As [`Vectors::load`].
    fn store(lanes: Self::Lanes, numbers: &mut [f32]);

    /// `a·b + c` lane by lane, in one rounding where that is one instruction, in two else.
    fn add_product(a: Self::Lanes, b: Self::Lanes, c: Self::Lanes) -> Self::Lanes;

    /// The same of single numbers; LLVM puts those of a loop into vectors.
    fn multiply_add(a: f32, b: f32, c: f32) -> f32;

    /// Asks for what lies `ahead` places behind the first of these to be brought near. There need
    /// be nothing.
    #[inline(always)]
    fn prefetch(_numbers: &[f32], _ahead: usize) {}

    /// Puts those of sixteen numbers, or fewer, whose bits are set to the front of `target`, and says
    /// how many they are. What lies behind them in `target` may change.
    ///
    /// # Panics
    /// When there is no room for them.
    #[inline(always)]
    fn pick(numbers: &[f32], mask: u16, target: &mut [f32]) -> usize {
        let (mut rest, mut found) = (mask, 0);
        while rest != 0 {
            if let Some(number) = numbers.get(rest.trailing_zeros() as usize) {
                target[found] = *number;
                found += 1;
            }
            rest &= rest - 1;
        }
        found
    }

    /// The weighted sum of each colour of neighbouring pixels of three bytes, four pixels for each of
    /// these weights, rounded to a multiple of 2^[`PixelWeights::FRACTION_BITS`] and cut to a byte; the
    /// last byte counts for nothing.
    ///
    /// # Panics
    /// When there are fewer than [`PixelWeights::READ`] bytes from the first on of a group of pixels.
    #[inline(always)]
    fn weigh(pixels: &[u8], weights: &[PixelWeights]) -> [u8; 4] {
        pixels::weigh(pixels, weights)
    }

    /// Which of the first sixteen numbers, or fewer, are not 0, the first as the lowest bit.
    #[inline(always)]
    fn others_than_0(numbers: &[f32]) -> u16 {
        let numbers = numbers.iter().take(16).enumerate();
        numbers.fold(0, |mask, (at, &number)| {
            mask | u16::from(number != 0.0) << at
        })
    }

    /// Puts those of sixteen lines whose bits are set to the front of `target`, as [`Vectors::pick`]
    /// does with numbers.
    ///
    /// # Panics
    /// As [`Vectors::pick`].
    #[inline(always)]
    fn pick_lines(lines: &[u32; 16], mask: u16, target: &mut [u32]) {
        let (mut rest, mut found) = (mask, 0);
        while rest != 0 {
            target[found] = lines[rest.trailing_zeros() as usize];
            found += 1;
            rest &= rest - 1;
        }
    }

    /// As [`Vectors::pick`], of sixteen numbers of which only those whose bits are set in `held` are
    /// there, one behind the other; `mask` has none but these.
    ///
    /// # Panics
    /// As [`Vectors::pick`]; when there are fewer numbers.
    #[inline(always)]
    fn pick_held(numbers: &[f32], held: u16, mask: u16, target: &mut [f32]) -> usize {
        let (mut rest, mut found) = (mask, 0);
        while rest != 0 {
            let before = held & ((rest & rest.wrapping_neg()) - 1);
            target[found] = numbers[before.count_ones() as usize];
            found += 1;
            rest &= rest - 1;
        }
        found
    }

    /// Half as many f64, in one register; what follows is as above.
    type Doubles: Copy;

    fn load_doubles(numbers: &[f64]) -> Self::Doubles;

    fn splat_double(number: f64) -> Self::Doubles;

    fn store_doubles(lanes: Self::Doubles, numbers: &mut [f64]);

    fn add_product_of_doubles(
        a: Self::Doubles,
        b: Self::Doubles,
        c: Self::Doubles,
    ) -> Self::Doubles;

    fn multiply_add_double(a: f64, b: f64, c: f64) -> f64;
}

/// Processors of which nothing is known.
struct Plain;

impl Vectors for Plain {
    type Lanes = [f32; 4];
    const LANES: usize = 4;

    #[inline(always)]
    fn load(numbers: &[f32]) -> Self::Lanes {
        *numbers.first_chunk().expect("enough numbers")
    }

    #[inline(always)]
    fn splat(number: f32) -> Self::Lanes {
        [number; 4]
    }

    #[inline(always)]
    fn store(lanes: Self::Lanes, numbers: &mut [f32]) {
        *numbers.first_chunk_mut().expect("enough room") = lanes;
    }

    #[inline(always)]
    fn add_product(a: Self::Lanes, b: Self::Lanes, c: Self::Lanes) -> Self::Lanes {
        std::array::from_fn(|lane| Self::multiply_add(a[lane], b[lane], c[lane]))
    }

    #[inline(always)]
    fn multiply_add(a: f32, b: f32, c: f32) -> f32 {
        match cfg!(target_arch = "aarch64") {
            true => a.mul_add(b, c),
            false => a * b + c,
        }
    }

    type Doubles = [f64; 2];

    #[inline(always)]
    fn load_doubles(numbers: &[f64]) -> Self::Doubles {
        *numbers.first_chunk().expect("enough numbers")
    }

    #[inline(always)]
    fn splat_double(number: f64) -> Self::Doubles {
        [number; 2]
    }

    #[inline(always)]
    fn store_doubles(lanes: Self::Doubles, numbers: &mut [f64]) {
        *numbers.first_chunk_mut().expect("enough room") = lanes;
    }

    #[inline(always)]
    fn add_product_of_doubles(
        a: Self::Doubles,
        b: Self::Doubles,
        c: Self::Doubles,
    ) -> Self::Doubles {
        std::array::from_fn(|lane| Self::multiply_add_double(a[lane], b[lane], c[lane]))
    }

    #[inline(always)]
    fn multiply_add_double(a: f64, b: f64, c: f64) -> f64 {
        match cfg!(target_arch = "aarch64") {
            true => a.mul_add(b, c),
            false => a * b + c,
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m256, __m256d, __m512, __m512d, _CMP_NEQ_UQ, _MM_HINT_T0, _mm_prefetch, _mm256_fmadd_pd,
        _mm256_fmadd_ps, _mm256_loadu_pd, _mm256_loadu_ps, _mm256_set1_pd, _mm256_set1_ps,
        _mm256_storeu_pd, _mm256_storeu_ps, _mm512_cmp_ps_mask, _mm512_fmadd_pd, _mm512_fmadd_ps,
        _mm512_loadu_epi32, _mm512_loadu_pd, _mm512_loadu_ps, _mm512_maskz_compress_epi32,
        _mm512_maskz_compress_ps, _mm512_set1_pd, _mm512_set1_ps, _mm512_storeu_epi32,
        _mm512_storeu_pd, _mm512_storeu_ps, _pext_u32,
    };

    use super::{PixelWeights, Vectors, pixels};

    /// AVX2 and FMA; only to be used where these are.
    pub(super) struct Eights;

    /// AVX-512 and BMI2; only to be used where these are.
    pub(super) struct Sixteens;

    impl Vectors for Eights {
        type Lanes = __m256;
        const LANES: usize = 8;

        #[inline(always)]
        fn load(numbers: &[f32]) -> Self::Lanes {
            let numbers: &[f32; 8] = numbers.first_chunk().expect("enough numbers");
            // SAFETY: eight numbers are there, and so is AVX.
            unsafe { _mm256_loadu_ps(numbers.as_ptr()) }
        }

        #[inline(always)]
        fn splat(number: f32) -> Self::Lanes {
            // SAFETY: AVX is there.
            unsafe { _mm256_set1_ps(number) }
        }

        #[inline(always)]
        fn store(lanes: Self::Lanes, numbers: &mut [f32]) {
            let numbers: &mut [f32; 8] = numbers.first_chunk_mut().expect("enough room");
            // SAFETY: there is room for eight numbers, and AVX.
            unsafe { _mm256_storeu_ps(numbers.as_mut_ptr(), lanes) }
        }

        #[inline(always)]
        fn add_product(a: Self::Lanes, b: Self::Lanes, c: Self::Lanes) -> Self::Lanes {
            // SAFETY: FMA is there.
            unsafe { _mm256_fmadd_ps(a, b, c) }
        }

        #[inline(always)]
        fn multiply_add(a: f32, b: f32, c: f32) -> f32 {
            a.mul_add(b, c)
        }

        #[inline(always)]
        fn prefetch(numbers: &[f32], ahead: usize) {
            // SAFETY: no address is wrong to ask for; nothing is read.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(numbers.as_ptr().wrapping_add(ahead).cast()) }
        }

        #[inline(always)]
        fn weigh(pixels: &[u8], weights: &[PixelWeights]) -> [u8; 4] {
            pixels::weigh_with_avx2(pixels, weights)
        }

        type Doubles = __m256d;

        #[inline(always)]
        fn load_doubles(numbers: &[f64]) -> Self::Doubles {
            let numbers: &[f64; 4] = numbers.first_chunk().expect("enough numbers");
            // SAFETY: four numbers are there, and so is AVX.
            unsafe { _mm256_loadu_pd(numbers.as_ptr()) }
        }

        #[inline(always)]
        fn splat_double(number: f64) -> Self::Doubles {
            // SAFETY: AVX is there.
            unsafe { _mm256_set1_pd(number) }
        }

        #[inline(always)]
        fn store_doubles(lanes: Self::Doubles, numbers: &mut [f64]) {
            let numbers: &mut [f64; 4] = numbers.first_chunk_mut().expect("enough room");
            // SAFETY: there is room for four numbers, and AVX.
            unsafe { _mm256_storeu_pd(numbers.as_mut_ptr(), lanes) }
        }

        #[inline(always)]
        fn add_product_of_doubles(
            a: Self::Doubles,
            b: Self::Doubles,
            c: Self::Doubles,
        ) -> Self::Doubles {
            // SAFETY: FMA is there.
            unsafe { _mm256_fmadd_pd(a, b, c) }
        }

        #[inline(always)]
        fn multiply_add_double(a: f64, b: f64, c: f64) -> f64 {
            a.mul_add(b, c)
        }
    }

    impl Vectors for Sixteens {
        type Lanes = __m512;
        const LANES: usize = 16;

        #[inline(always)]
        fn load(numbers: &[f32]) -> Self::Lanes {
            let numbers: &[f32; 16] = numbers.first_chunk().expect("enough numbers");
            // SAFETY: sixteen numbers are there, and so is AVX-512.
            unsafe { _mm512_loadu_ps(numbers.as_ptr()) }
        }

        #[inline(always)]
        fn splat(number: f32) -> Self::Lanes {
            // SAFETY: AVX-512 is there.
            unsafe { _mm512_set1_ps(number) }
        }

        #[inline(always)]
        fn store(lanes: Self::Lanes, numbers: &mut [f32]) {
            let numbers: &mut [f32; 16] = numbers.first_chunk_mut().expect("enough room");
            // SAFETY: there is room for sixteen numbers, and AVX-512.
            unsafe { _mm512_storeu_ps(numbers.as_mut_ptr(), lanes) }
        }

        #[inline(always)]
        fn add_product(a: Self::Lanes, b: Self::Lanes, c: Self::Lanes) -> Self::Lanes {
            // SAFETY: AVX-512 is there.
            unsafe { _mm512_fmadd_ps(a, b, c) }
        }

        #[inline(always)]
        fn multiply_add(a: f32, b: f32, c: f32) -> f32 {
            a.mul_add(b, c)
        }

        #[inline(always)]
        fn pick(numbers: &[f32], mask: u16, target: &mut [f32]) -> usize {
            let room: Option<&mut [f32; 16]> = target.first_chunk_mut();
            let (Some(numbers), Some(room)) = (numbers.first_chunk::<16>(), room) else {
                return Eights::pick(numbers, mask, target);
            };
            let lanes = Self::load(numbers);
            // SAFETY: AVX-512 is there.
            Self::store(unsafe { _mm512_maskz_compress_ps(mask, lanes) }, room);
            mask.count_ones() as usize
        }

        #[inline(always)]
        fn prefetch(numbers: &[f32], ahead: usize) {
            // SAFETY: no address is wrong to ask for; nothing is read.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(numbers.as_ptr().wrapping_add(ahead).cast()) }
        }

        #[inline(always)]
        fn weigh(pixels: &[u8], weights: &[PixelWeights]) -> [u8; 4] {
            pixels::weigh_with_avx2(pixels, weights)
        }

        #[inline(always)]
        fn others_than_0(numbers: &[f32]) -> u16 {
            let Some(numbers) = numbers.first_chunk::<16>() else {
                return Eights::others_than_0(numbers);
            };
            let (lanes, zeros) = (Self::load(numbers), Self::splat(0.0));
            // SAFETY: AVX-512 is there.
            unsafe { _mm512_cmp_ps_mask::<_CMP_NEQ_UQ>(lanes, zeros) }
        }

        #[inline(always)]
        fn pick_lines(lines: &[u32; 16], mask: u16, target: &mut [u32]) {
            let Some(room) = target.first_chunk_mut::<16>() else {
                return Eights::pick_lines(lines, mask, target);
            };
            // SAFETY: there are sixteen lines, room for as many, and AVX-512.
            unsafe {
                let lines = _mm512_loadu_epi32(lines.as_ptr().cast());
                let picked = _mm512_maskz_compress_epi32(mask, lines);
                _mm512_storeu_epi32(room.as_mut_ptr().cast(), picked);
            }
        }

        #[inline(always)]
        fn pick_held(numbers: &[f32], held: u16, mask: u16, target: &mut [f32]) -> usize {
            let pair = (numbers.first_chunk::<16>(), target.first_chunk_mut::<16>());
            let (Some(numbers), Some(room)) = pair else {
                return Eights::pick_held(numbers, held, mask, target);
            };
            // Which of those that are held.
            // SAFETY: BMI2 is there.
            let places = unsafe { _pext_u32(mask.into(), held.into()) } as u16;
            Self::pick(numbers, places, room)
        }

        type Doubles = __m512d;

        #[inline(always)]
        fn load_doubles(numbers: &[f64]) -> Self::Doubles {
            let numbers: &[f64; 8] = numbers.first_chunk().expect("enough numbers");
            // SAFETY: eight numbers are there, and so is AVX-512.
            unsafe { _mm512_loadu_pd(numbers.as_ptr()) }
        }

        #[inline(always)]
        fn splat_double(number: f64) -> Self::Doubles {
            // SAFETY: AVX-512 is there.
            unsafe { _mm512_set1_pd(number) }
        }

        #[inline(always)]
        fn store_doubles(lanes: Self::Doubles, numbers: &mut [f64]) {
            let numbers: &mut [f64; 8] = numbers.first_chunk_mut().expect("enough room");
            // SAFETY: there is room for eight numbers, and AVX-512.
            unsafe { _mm512_storeu_pd(numbers.as_mut_ptr(), lanes) }
        }

        #[inline(always)]
        fn add_product_of_doubles(
            a: Self::Doubles,
            b: Self::Doubles,
            c: Self::Doubles,
        ) -> Self::Doubles {
            // SAFETY: AVX-512 is there.
            unsafe { _mm512_fmadd_pd(a, b, c) }
        }

        #[inline(always)]
        fn multiply_add_double(a: f64, b: f64, c: f64) -> f64 {
            a.mul_add(b, c)
        }
    }
}

/// Runs a loop in the widest vectors.
pub(crate) fn widest<L: Loop>(body: L) -> L::Output {
    #[cfg(target_arch = "x86_64")]
    {
        let most = most_lanes();
        let fused = most >= 8
            && is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("popcnt");
        let wide = most >= 16
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("bmi2");
        if fused && wide {
            // SAFETY: all features that the function is compiled for were just found.
            return unsafe { in_sixteens(body) };
        }
        if fused {
            // SAFETY: as above.
            return unsafe { in_eights(body) };
        }
    }
    body.run::<Plain>()
}

/// Numbers of the widest vectors that the processor has.
pub(super) fn lanes() -> usize {
    struct Lanes;
    impl Loop for Lanes {
        type Output = usize;

        #[inline(always)]
        fn run<V: Vectors>(self) -> usize {
            V::LANES
        }
    }
    widest(Lanes)
}

/// Numbers of the widest vectors that are looked for.
#[cfg(all(target_arch = "x86_64", not(test)))]
const fn most_lanes() -> usize {
    16
}

#[cfg(all(target_arch = "x86_64", test))]
fn most_lanes() -> usize {
    MOST.get()
}

#[cfg(test)]
thread_local! {
    /// Tests compute with narrower vectors, too: this processor's are not everybody's.
    pub(crate) static MOST: std::cell::Cell<usize> = const { std::cell::Cell::new(16) };
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx2,bmi2,fma,popcnt")]
fn in_sixteens<L: Loop>(body: L) -> L::Output {
    body.run::<x86::Sixteens>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,popcnt")]
fn in_eights<L: Loop>(body: L) -> L::Output {
    body.run::<x86::Eights>()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sum of products, by way of whatever instructions.
    struct Dot<'d>(&'d [f32], &'d [f32]);

    /// Products of two vectors in f64, lane by lane and one by one.
    struct Doubles<'d>(&'d [f64], &'d [f64]);

    impl Loop for Doubles<'_> {
        type Output = (Vec<f64>, Vec<f64>);

        #[inline(always)]
        fn run<V: Vectors>(self) -> Self::Output {
            let (a, b) = (V::load_doubles(self.0), V::load_doubles(self.1));
            let mut lanes = vec![0.0; V::LANES / 2];
            let sums = V::add_product_of_doubles(a, b, V::splat_double(1.0));
            V::store_doubles(sums, &mut lanes);
            let pairs = self.0.iter().zip(self.1).take(V::LANES / 2);
            let single = pairs.map(|(a, b)| V::multiply_add_double(*a, *b, 1.0));
            (lanes, single.collect())
        }
    }

    impl Loop for Dot<'_> {
        type Output = f32;

        #[inline(always)]
        fn run<V: Vectors>(self) -> f32 {
            let terms = self.0.iter().zip(self.1);
            terms.fold(0.0, |sum, (a, b)| V::multiply_add(*a, *b, sum))
        }
    }

    #[test]
    fn every_width_computes_the_same() {
        let a: Vec<f32> = (0..37).map(|at| (at % 7) as f32 - 3.0).collect();
        let b: Vec<f32> = (0..37).map(|at| (at % 5) as f32 - 1.0).collect();
        // Small whole numbers: nothing is rounded.
        let expected: f32 = a.iter().zip(&b).map(|(a, b)| a * b).sum();
        for most in [16, 8, 4] {
            MOST.set(most);
            assert_eq!(widest(Dot(&a, &b)), expected, "{most}");
        }
    }

    #[test]
    fn lanes_of_doubles_are_their_numbers() {
        let a: Vec<f64> = (0..8).map(|at| f64::from(at) / 3.0).collect();
        for most in [16, 8, 4] {
            MOST.set(most);
            let (lanes, single) = widest(Doubles(&a, &a[..]));
            assert_eq!(lanes, single, "{most}");
            assert!((lanes[1] - (1.0 + 1.0 / 9.0)).abs() < 1e-15, "{most}");
        }
    }
}
