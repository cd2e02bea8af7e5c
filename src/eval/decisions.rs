//! Whole-number outputs: the decisions (ArgMax, TopK) that some models end in.

use super::Outputs;
use crate::onnx::Tensor;

/// Two runs of a model whose outputs are its scores and, behind them, its decisions.
pub(super) struct Decisions<'a> {
    /// Places of the decisions among the outputs.
    pub(super) places: std::ops::Range<usize>,
    /// Place of the class scores.
    pub(super) scores: usize,
    /// Number of classes K.
    pub(super) classes: usize,
    /// Number of real samples of each batch.
    pub(super) rows: &'a [usize],
    /// Scores that differ by no more than this share of the largest one are tied.
    pub(super) tolerance: f64,
}

impl Decisions<'_> {
    /// Number of samples that are decided otherwise in `b` than in `a` without a tie in `a`.
    pub(super) fn wrong(&self, a: &Outputs, b: &Outputs) -> usize {
        let batches = a.iter().zip(b).zip(self.rows);
        batches
            .map(|((a, b), &rows)| {
                let wrong = |&sample: &usize| {
                    let scores = a
                        .get(self.scores)
                        .map(|scores| self.scores_of(scores, sample));
                    let mut places = self.places.clone();
                    places.any(|place| match (a.get(place), b.get(place)) {
                        (Some(a), Some(b)) => self.differs(a, b, sample, scores.as_deref()),
                        _ => true,
                    })
                };
                (0..rows).filter(wrong).count()
            })
            .sum()
    }

    fn scores_of(&self, scores: &Tensor, sample: usize) -> Vec<f32> {
        let values = scores.to_f32();
        let row = values.chunks(self.classes.max(1)).nth(sample);
        row.unwrap_or_default().to_vec()
    }

    fn differs(&self, a: &Tensor, b: &Tensor, sample: usize, scores: Option<&[f32]>) -> bool {
        if a.shape() != b.shape() {
            return true;
        }
        let (a, b) = (of_sample(a, sample), of_sample(b, sample));
        a.iter()
            .zip(&b)
            .any(|(&a, &b)| a != b && !self.tied(a, b, scores))
    }

    /// Whether two classes have the same score, up to rounding.
    fn tied(&self, a: i64, b: i64, scores: Option<&[f32]>) -> bool {
        let scores = scores.unwrap_or_default();
        let score = |class: i64| {
            let class = usize::try_from(class).ok()?;
            scores.get(class).map(|&score| f64::from(score))
        };
        let largest = scores
            .iter()
            .fold(0.0, |most: f64, s| most.max(f64::from(s.abs())));
        match (score(a), score(b)) {
            (Some(a), Some(b)) => (a - b).abs() <= self.tolerance * largest,
            _ => false,
        }
    }
}

/// The entries of one sample; all of them where the first axis is not the samples'.
fn of_sample(tensor: &Tensor, sample: usize) -> Vec<i64> {
    let values = tensor.to_i64();
    let per = match tensor.shape() {
        [all, rest @ ..] if sample < *all => rest.iter().product::<usize>(),
        _ => return values,
    };
    values[sample * per..(sample + 1) * per].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ties_excuse_another_decision() {
        let run = |decided: [i64; 3]| {
            // Classes 0 and 1 of the first sample are tied; the third sample only fills up.
            let scores = vec![4.0, 3.9999, 1.0, 0.0, 1.0, 2.0, 0.0, 0.0, 5.0];
            let scores = Tensor::f32([3, 3], scores).unwrap();
            vec![vec![scores, Tensor::i64([3], decided.to_vec()).unwrap()]]
        };
        let decisions = Decisions {
            places: 1..2,
            scores: 0,
            classes: 3,
            rows: &[2],
            tolerance: 1e-4,
        };
        let cases = [
            ([0, 2, 2], 0),
            ([1, 2, 0], 0),
            ([2, 2, 2], 1),
            ([0, 1, 2], 1),
            ([2, 0, 2], 2),
            // No class at all.
            ([-1, 2, 2], 1),
            ([7, 2, 2], 1),
        ];
        for (decided, expected) in cases {
            let found = decisions.wrong(&run([0, 2, 2]), &run(decided));
            assert_eq!(found, expected, "{decided:?}");
        }
    }
}
