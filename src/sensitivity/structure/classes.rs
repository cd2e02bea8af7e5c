//! Sums of squares of the derivatives by what the last dense layer reads, without the derivatives.
//!
//! With f the factors of a sample's classes, s its shares (0 where there are none), e_k the unit vectors and W
//! the weights, the row of class k is `f_k (e_k - s)^T W`. So
//!
//! ```text
//! sum over samples and classes of s_i^2 = (W^T A W)_ii,
//! A = sum over samples of diag(q) - q s^T - s q^T + (sum of q) s s^T,    q_k = f_k^2
//! ```
//!
//! A is `[K, K]`: for few classes that is less than a row. Everything is f64.

use std::ops::Range;

use rayon::prelude::*;

use super::{gram::at_least_0, matrix::Matrix, passes::Pass};

/// Samples that one task adds up.
const SAMPLES: usize = 256;

/// The sums for every input of `last`, over the samples in `batch` and the rows that count. NaN or infinite
/// where a number is none.
pub(super) fn squares(last: &Matrix, pass: &Pass, batch: Range<usize>) -> Vec<f64> {
    let classes = last.outputs();
    let starts: Vec<usize> = batch.clone().step_by(SAMPLES).collect();
    let parts = starts.par_iter().map(|&start| {
        let mut sums = vec![0.0; classes * classes];
        let (mut squares, mut shares) = (vec![0.0; classes], vec![0.0; classes]);
        for sample in start..(start + SAMPLES).min(batch.end) {
            let own = sample * classes..(sample + 1) * classes;
            squares.fill(0.0);
            for &class in pass.rows.of(sample) {
                squares[class] = f64::from(pass.factors[own.start + class]).powi(2);
            }
            if let Some(all) = &pass.shares {
                let pairs = shares.iter_mut().zip(&all[own]);
                pairs.for_each(|(share, &own)| *share = f64::from(own));
            }
            add(&mut sums, &squares, &shares);
        }
        sums
    });
    let parts: Vec<Vec<f64>> = parts.collect();
    let mut sums = vec![0.0; classes * classes];
    for part in parts {
        let pairs = sums.iter_mut().zip(part);
        pairs.for_each(|(sum, part)| *sum += part);
    }
    close(last, &sums)
}

/// Adds what one sample adds to A.
fn add(sums: &mut [f64], squares: &[f64], shares: &[f64]) {
    let total: f64 = squares.iter().sum();
    let classes = shares.len();
    for (class, (line, (&square, &share))) in { sums.chunks_exact_mut(classes) }
        .zip(squares.iter().zip(shares))
        .enumerate()
    {
        let factor = total * share - square;
        let terms = line.iter_mut().zip(shares).zip(squares);
        terms.for_each(|((sum, other), square)| *sum += factor * other - share * square);
        line[class] += square;
    }
}

/// The diagonal of `W^T A W`.
fn close(last: &Matrix, sums: &[f64]) -> Vec<f64> {
    let (classes, width) = (last.outputs(), last.inputs());
    let mut weights = vec![0.0; classes * width];
    for (class, row) in weights.chunks_exact_mut(width).enumerate() {
        last.read(class, 0..width, row);
    }
    let mut squares = vec![0.0; width];
    let mut product = vec![0.0; width];
    for (line, own) in sums.chunks_exact(classes).zip(weights.chunks_exact(width)) {
        product.fill(0.0);
        for (&sum, row) in line.iter().zip(weights.chunks_exact(width)) {
            let pairs = product.iter_mut().zip(row);
            pairs.for_each(|(product, &weight)| *product += sum * f64::from(weight));
        }
        let terms = squares.iter_mut().zip(&product).zip(own);
        terms.for_each(|((square, product), &weight)| *square += product * f64::from(weight));
    }
    squares.into_iter().map(at_least_0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sensitivity::structure::passes::Rows;

    /// Rounding of f64 alone.
    const RTOL: f64 = 1e-12;

    fn pass(shares: Option<Vec<f32>>, rows: Rows) -> Pass {
        Pass {
            slopes: Vec::new(),
            factors: vec![0.5, 0.25, 0.125, 0.75, 0.0625, 0.25],
            shares,
            rows,
            values: None,
            without_zeros: false,
        }
    }

    /// The same, row by row.
    fn expected(weights: &[f32], pass: &Pass, (classes, width): (usize, usize)) -> Vec<f64> {
        let mut squares = vec![0.0; width];
        for sample in 0..pass.factors.len() / classes {
            let of = |values: &[f32], class: usize| f64::from(values[sample * classes + class]);
            for &class in pass.rows.of(sample) {
                for (input, square) in squares.iter_mut().enumerate() {
                    let weight = |class: usize| f64::from(weights[class * width + input]);
                    let mean = |shares: &Vec<f32>| -> f64 {
                        (0..classes).map(|at| of(shares, at) * weight(at)).sum()
                    };
                    let mean = pass.shares.as_ref().map_or(0.0, mean);
                    *square += (of(&pass.factors, class) * (weight(class) - mean)).powi(2);
                }
            }
        }
        squares
    }

    #[test]
    fn sums_over_classes_are_those_of_rows() {
        let shares = || Some(vec![0.5, 0.25, 0.25, 0.625, 0.125, 0.25]);
        let weights = [1.0_f32, -2.0, 0.5, 3.0, 0.25, -1.5, 2.0, 1.25];
        // Classes, rows of one sample or two, and one that does not count.
        for (classes, width) in [(3, 2), (2, 4)] {
            for shares in [shares(), None] {
                for some in [false, true] {
                    let rows = match some {
                        false => Rows::all(classes),
                        true => Rows::Some(vec![vec![0], vec![1], vec![0, 1]]),
                    };
                    let pass = pass(shares.clone(), rows);
                    let weights = weights[..classes * width].to_vec();
                    let last = Matrix::new(classes, width, weights.clone());
                    let samples = pass.factors.len() / classes;
                    let found = squares(&last, &pass, 0..samples);
                    let right = expected(&weights, &pass, (classes, width));
                    for (found, right) in found.iter().zip(&right) {
                        let near = (found - right).abs() <= RTOL * right;
                        assert!(near, "{classes} classes, {some}: {found} is not {right}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_no_number_is_told() {
        let last = Matrix::new(3, 2, vec![1.0; 6]);
        let mut pass = pass(None, Rows::all(3));
        pass.factors[4] = f32::NAN;
        assert!(
            squares(&last, &pass, 0..2)
                .iter()
                .all(|square| square.is_nan())
        );
    }
}
