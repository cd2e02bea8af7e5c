//! Statistics of repeated measurements: robust ones, and an interval that assumes no distribution.
//!
//! Times of a run have a long tail to the right (another process, a page fault), so the middle is
//! the median, the spread the median absolute deviation, and the interval comes from order
//! statistics, not from a mean and its standard error.

use serde::Serialize;

/// Confidence that [`Interval`] asks for.
pub const CONFIDENCE: f64 = 0.95;

/// Fewest values of which the extremes enclose the median with [`CONFIDENCE`]: `1 - 2 / 2^6`.
pub const FEWEST: usize = 6;

/// A sample of measurements, in few numbers, in the unit of the values.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// How many values there were.
    pub runs: usize,
    /// The smallest.
    pub min: f64,
    /// The median.
    pub median: f64,
    /// The 95th percentile.
    pub p95: f64,
    /// The median absolute deviation from the median, not scaled.
    pub mad: f64,
}

/// Where the median of what was sampled lies.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// The probability with which an interval made like this one holds the median: at least
    /// [`CONFIDENCE`].
    pub confidence: f64,
}

impl Summary {
    /// Sums up `values`; nothing where there are none.
    pub fn of(values: &[f64]) -> Option<Self> {
        let sorted = sorted(values);
        let median = quantile(&sorted, 0.5)?;
        let apart: Vec<f64> = values.iter().map(|value| (value - median).abs()).collect();
        Some(Self {
            runs: values.len(),
            min: *sorted.first()?,
            median,
            p95: quantile(&sorted, 0.95)?,
            mad: self::median(&apart)?,
        })
    }
}

/// The middle value, or the mean of the two in the middle; nothing where there are no values.
pub fn median(values: &[f64]) -> Option<f64> {
    quantile(&sorted(values), 0.5)
}

/// The value below which a share of the sorted values lies, interpolated between neighbours at
/// position `share * (n - 1)` (Hyndman and Fan 1996, definition 7; NumPy's default).
fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let position = share * last as f64;
    let below = position.floor() as usize;
    let (low, high) = (sorted[below], sorted[(below + 1).min(last)]);
    Some(low + (high - low) * (position - below as f64))
}

/// The exact interval of the median from order statistics; nothing below [`FEWEST`] values.
///
/// With `n` independent values, the `l`-th smallest and the `l`-th largest enclose the median with
/// probability `1 - 2 P(B <= l - 1)`, `B` binomial with `n` trials of probability 1/2 (David and
/// Nagaraja, Order Statistics, section 7.1); `l` is the largest that keeps [`CONFIDENCE`].
pub fn median_interval(values: &[f64]) -> Option<Interval> {
    let sorted = sorted(values);
    let n = sorted.len();
    // ln P(B = 0); the terms themselves would vanish from n = 1075 on.
    let mut term = -(n as f64) * std::f64::consts::LN_2;
    let mut tail = 0.0;
    let mut found = None;
    for below in 0..n / 2 {
        tail += term.exp();
        let confidence = 1.0 - 2.0 * tail;
        if confidence < CONFIDENCE {
            break;
        }
        found = Some(Interval {
            low: sorted[below],
            high: sorted[n - 1 - below],
            confidence,
        });
        term += ((n - below) as f64 / (below + 1) as f64).ln();
    }
    found
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_numbers_by_hand() {
        // sorted 1 2 3 4 10; distances from 3: 2 1 0 1 7; position of the percentile 3.8
        let summary = Summary::of(&[10.0, 2.0, 3.0, 1.0, 4.0]).unwrap();
        assert_eq!((summary.runs, summary.min, summary.median), (5, 1.0, 3.0));
        assert!((summary.p95 - (4.0 + 0.8 * 6.0)).abs() < 1e-12);
        assert_eq!(summary.mad, 1.0);
    }

    #[test]
    fn medians_of_few_values() {
        let cases: [(&[f64], Option<f64>); 4] = [
            (&[], None),
            (&[7.0], Some(7.0)),
            (&[4.0, 1.0], Some(2.5)),
            (&[4.0, 1.0, 100.0], Some(4.0)),
        ];
        for (values, expected) in cases {
            assert_eq!(median(values), expected, "{values:?}");
        }
        assert_eq!(Summary::of(&[]), None);
    }

    #[test]
    fn intervals_are_those_of_the_binomial_table() {
        // n, how many values lie outside on either side, the exact confidence
        let cases = [
            (5, None),
            (6, Some((0, 1.0 - 2.0 / 64.0))),
            (8, Some((0, 1.0 - 2.0 / 256.0))),
            (9, Some((1, 1.0 - 2.0 * 10.0 / 512.0))),
            (10, Some((1, 1.0 - 2.0 * 11.0 / 1024.0))),
            // from a table: the 6th and the 15th of 20, 95.86 %
            (20, Some((5, 0.958_610_534_667_968_8))),
        ];
        for (n, expected) in cases {
            let values: Vec<f64> = (0..n).map(f64::from).collect();
            let found = median_interval(&values);
            let Some((outside, confidence)) = expected else {
                assert_eq!(found, None, "{n}");
                continue;
            };
            let found = found.unwrap();
            let ends = (f64::from(outside), f64::from(n - 1 - outside));
            assert_eq!((found.low, found.high), ends, "{n}");
            assert!((found.confidence - confidence).abs() < 1e-12, "{n}");
        }
    }

    #[test]
    fn many_values_do_not_underflow() {
        let values: Vec<f64> = (0..5000).map(f64::from).collect();
        let found = median_interval(&values).unwrap();
        // n/2 - 1.96 sqrt(n)/2 = 2430.7
        assert_eq!(found.low, 2430.0);
        assert!((CONFIDENCE..0.953).contains(&found.confidence));
    }
}
