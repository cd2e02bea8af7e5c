//! Batches of features put together: what suits a trunk is too little for what reads features.

use std::collections::VecDeque;

use super::FeatureBatch;
use crate::{
    error::Result,
    onnx::{DataType, Tensor, TensorData},
};

/// Puts batches that follow one another together until they hold `rows` samples. Batches that are filled
/// up stay as they are, and so do those whose values are no f32 or do not begin with the samples' axis.
pub(crate) fn joined<I>(
    batches: I,
    rows: usize,
) -> impl Iterator<Item = Result<FeatureBatch>> + use<I>
where
    I: IntoIterator<Item = Result<FeatureBatch>>,
{
    Joined {
        batches: batches.into_iter(),
        rows,
        ready: VecDeque::new(),
    }
}

struct Joined<I> {
    batches: I,
    rows: usize,
    ready: VecDeque<FeatureBatch>,
}

impl<I: Iterator<Item = Result<FeatureBatch>>> Iterator for Joined<I> {
    type Item = Result<FeatureBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ready.is_empty() {
            let mut rows = 0;
            while rows < self.rows.max(1) {
                match self.batches.next() {
                    Some(Ok(batch)) => {
                        rows += batch.rows.max(1);
                        self.ready.push_back(batch);
                    }
                    Some(Err(error)) => return Some(Err(error)),
                    None => break,
                }
            }
            join(&mut self.ready);
        }
        self.ready.pop_front().map(Ok)
    }
}

/// Makes one batch of all, where that is possible.
fn join(parts: &mut VecDeque<FeatureBatch>) {
    let follows = parts.iter().zip(parts.iter().skip(1));
    if !{ follows }.all(|(one, next)| one.goes_with(next)) {
        return;
    }
    let Some(mut all) = parts.pop_front() else {
        return;
    };
    let count = parts.iter().map(|part| part.rows).sum::<usize>() + all.rows;
    let values = std::mem::take(&mut all.values).into_iter().enumerate();
    let values = values.map(|(at, value)| {
        let shape = [&[count], &value.shape()[1..]].concat();
        let mut data = value.into_data();
        parts
            .iter()
            .for_each(|part| append(&mut data, part.values[at].data()));
        Tensor::new(shape, data).expect("as many numbers as all of them have")
    });
    all.values = values.collect();
    for part in parts.drain(..) {
        all.rows += part.rows;
        all.samples += part.samples;
        if let (Some(labels), Some(more)) = (&mut all.labels, part.labels) {
            labels.extend(more);
        }
    }
    parts.push_back(all);
}

impl FeatureBatch {
    /// Whether `next` can be put behind it.
    fn goes_with(&self, next: &Self) -> bool {
        let whole = |batch: &Self| {
            let mut values = batch.values.iter();
            batch.rows == batch.samples
                && values.all(|value| {
                    value.shape().first() == Some(&batch.rows) && value.dtype() == DataType::Float
                })
        };
        let alike = self.values.iter().zip(&next.values);
        whole(self)
            && whole(next)
            && self.values.len() == next.values.len()
            && { alike }.all(|(one, next)| one.shape()[1..] == next.shape()[1..])
            && self.labels.is_some() == next.labels.is_some()
    }
}

fn append(to: &mut TensorData, more: &TensorData) {
    if let (TensorData::F32(to), TensorData::F32(more)) = (to, more) {
        to.extend_from_slice(more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    fn batch(first: usize, samples: usize, rows: usize) -> FeatureBatch {
        let numbers = (first..first + rows).flat_map(|at| [at as f32, -(at as f32)]);
        FeatureBatch {
            values: vec![Tensor::f32([rows, 2], numbers.collect()).unwrap()],
            rows,
            samples,
            labels: Some((first..first + samples).collect()),
        }
    }

    fn sizes(batches: Vec<FeatureBatch>, rows: usize) -> Vec<(usize, usize)> {
        let batches = joined(batches.into_iter().map(Ok), rows);
        batches
            .map(|batch| batch.map(|batch| (batch.samples, batch.rows)).unwrap())
            .collect()
    }

    #[test]
    fn samples_keep_their_order_their_numbers_and_their_labels() {
        let parts = [(0, 4), (4, 4), (8, 4), (12, 4), (16, 3)];
        let parts = parts.map(|(first, samples)| Ok(batch(first, samples, samples)));
        let found: Vec<FeatureBatch> = joined(parts, 8).map(Result::unwrap).collect();
        let wanted = [(0, 8), (8, 8), (16, 3)];
        assert_eq!(found.len(), wanted.len());
        for (found, (first, samples)) in found.iter().zip(wanted) {
            let right = batch(first, samples, samples);
            assert_eq!(found.values, right.values);
            assert_eq!(found.labels, right.labels);
            assert_eq!((found.samples, found.rows), (samples, samples));
        }
    }

    #[test]
    fn what_cannot_be_put_together_stays_as_it_is() {
        let fits = || vec![batch(0, 4, 4), batch(4, 4, 4)];
        assert_eq!(sizes(fits(), 8), [(8, 8)]);
        assert_eq!(sizes(fits(), 4), [(4, 4), (4, 4)]);
        assert_eq!(sizes(fits(), 0), [(4, 4), (4, 4)]);
        let apart = [(4, 4), (4, 4)];
        let spoilt: [fn(&mut FeatureBatch); 4] = [
            |batch| batch.labels = None,
            |batch| batch.values.clear(),
            |batch| batch.values[0] = Tensor::f32([4, 1], vec![0.0; 4]).unwrap(),
            |batch| batch.values[0] = Tensor::f32([1, 4, 2], vec![0.0; 8]).unwrap(),
        ];
        for spoil in spoilt {
            let mut parts = fits();
            spoil(&mut parts[1]);
            assert_eq!(sizes(parts, 8), apart);
        }
        // The last one of a model that takes four at a time.
        let filled = vec![batch(0, 4, 4), batch(4, 1, 4)];
        assert_eq!(sizes(filled, 8), [(4, 4), (1, 4)]);
    }

    #[test]
    fn errors_are_handed_on() {
        let error = || {
            Err(Error::Argument {
                name: "--data",
                what: "spoilt".to_owned(),
            })
        };
        let mut found = joined([Ok(batch(0, 4, 4)), error()], 8);
        assert!(found.next().unwrap().is_err());
    }
}
