//! How steep the class scores are: one factor on the predictions of the regression.
//!
//! Least squares predicts about 0 and 1, of which Softmax makes nearly equal probabilities. One
//! positive factor changes no decision; the one taken gives held-out samples the smallest
//! cross-entropy (temperature scaling: Guo, Pleiss, Sun & Weinberger 2017).

use ndarray::ArrayView2;

use crate::head::Ending;

/// Factors outside are no better than these: beyond, the scores are all equal or all certain.
const RANGE: [f64; 2] = [1e-2, 1e4];
/// Each step leaves 0.618 of the range of logarithms: 1e-9 of it after 43.
const STEPS: usize = 43;

/// What Sigmoid treats as undecided: between "is the class" and "is not".
pub(super) const UNDECIDED: f64 = 0.5;

/// The factor on predictions `[n, K]` with the smallest cross-entropy for the true classes, and
/// that cross-entropy in nats.
///
/// The cross-entropy is convex in the factor, so the golden section finds its minimum.
pub(super) fn best(
    predictions: ArrayView2<'_, f64>,
    labels: &[usize],
    ending: Ending,
) -> (f64, f64) {
    let loss = |log: f64| cross_entropy(predictions, labels, ending, log.exp());
    let golden = (5.0_f64.sqrt() - 1.0) / 2.0;
    let [mut low, mut high] = RANGE.map(f64::ln);
    let mut left = high - golden * (high - low);
    let mut right = low + golden * (high - low);
    let (mut at_left, mut at_right) = (loss(left), loss(right));
    for _ in 0..STEPS {
        if at_left <= at_right {
            (high, right, at_right) = (right, left, at_left);
            left = high - golden * (high - low);
            at_left = loss(left);
        } else {
            (low, left, at_left) = (left, right, at_right);
            right = low + golden * (high - low);
            at_right = loss(right);
        }
    }
    let middle = f64::midpoint(low, high);
    (middle.exp(), loss(middle))
}

/// The mean over samples of -ln of the true class's probability; of one probability per class, the
/// sum over classes.
fn cross_entropy(
    predictions: ArrayView2<'_, f64>,
    labels: &[usize],
    ending: Ending,
    factor: f64,
) -> f64 {
    let mut total = 0.0;
    for (row, &label) in predictions.rows().into_iter().zip(labels) {
        total += match ending {
            Ending::Sigmoid => {
                let scores = row.iter().enumerate();
                scores
                    .map(|(class, score)| {
                        let sign = if class == label { -1.0 } else { 1.0 };
                        log_of_one_plus_exp(sign * factor * (score - UNDECIDED))
                    })
                    .sum::<f64>()
            }
            _ => {
                let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let sum: f64 = row
                    .iter()
                    .map(|score| (factor * (score - largest)).exp())
                    .sum();
                sum.ln() - factor * (row[label] - largest)
            }
        };
    }
    total / labels.len().max(1) as f64
}

fn log_of_one_plus_exp(value: f64) -> f64 {
    value.max(0.0) + (-value.abs()).exp().ln_1p()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn the_factor_makes_the_wanted_odds() {
        // Three of four samples are right about a difference of 1/2: e^(f/2) = 3.
        let predictions = array![[0.5, 0.0], [0.5, 0.0], [0.5, 0.0], [0.5, 0.0]];
        let (factor, loss) = best(predictions.view(), &[0, 0, 0, 1], Ending::Softmax);
        assert!((factor - 2.0 * 3.0_f64.ln()).abs() < 1e-5, "{factor}");
        let entropy = -(0.75 * 0.75_f64.ln() + 0.25 * 0.25_f64.ln());
        assert!((loss - entropy).abs() < 1e-9, "{loss}");
        // Each class for itself, a quarter away from undecided: e^(f/4) = 3, twice the entropy.
        let predictions = array![[0.75, 0.25], [0.75, 0.25], [0.75, 0.25], [0.75, 0.25]];
        let (factor, loss) = best(predictions.view(), &[0, 0, 0, 1], Ending::Sigmoid);
        assert!((factor - 4.0 * 3.0_f64.ln()).abs() < 1e-5, "{factor}");
        assert!((loss - 2.0 * entropy).abs() < 1e-9, "{loss}");
    }

    #[test]
    fn perfect_and_useless_predictions_stay_in_range() {
        let perfect = array![[1.0, 0.0], [0.0, 1.0]];
        let (factor, loss) = best(perfect.view(), &[0, 1], Ending::Softmax);
        assert!(factor <= RANGE[1] * 1.01 && loss < 1e-6, "{factor} {loss}");
        let (factor, _) = best(perfect.view(), &[1, 0], Ending::Softmax);
        assert!((RANGE[0] * 0.99..1.0).contains(&factor), "{factor}");
    }
}
