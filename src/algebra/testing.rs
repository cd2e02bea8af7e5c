//! Matrices for tests.

use ndarray::Array2;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Uniform numbers in [-1, 1), `[rows, columns]`.
pub(crate) fn random(rows: usize, columns: usize, seed: u64) -> Array2<f64> {
    let mut source = ChaCha8Rng::seed_from_u64(seed);
    Array2::from_shape_simple_fn((rows, columns), || source.random_range(-1.0..1.0))
}

/// Every element within `tolerance` of the largest expected one.
pub(crate) fn assert_close(found: &Array2<f64>, expected: &Array2<f64>, tolerance: f64) {
    assert_eq!(found.dim(), expected.dim());
    let largest = expected
        .iter()
        .fold(0.0_f64, |most, value| most.max(value.abs()));
    for (at, expected) in expected.indexed_iter() {
        let error = (found[at] - expected).abs();
        assert!(
            error <= tolerance * largest.max(f64::MIN_POSITIVE),
            "{at:?}: {} is not {expected}",
            found[at]
        );
    }
}
