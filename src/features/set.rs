//! The features of many samples, to be read in any order as often as needed.

use std::sync::Arc;

use super::{FeatureBatch, layout::Layout, rows::Rows};
use crate::{
    algebra::Picks,
    error::{Error, Result},
    onnx::Tensor,
};

/// The features of chosen samples: what the trunk made of them, once and for all.
///
/// Position `p` is the `p`-th of the samples it was made for. Rows are held in memory or read from
/// a file of the cache when asked for; either way several threads may read at once.
#[derive(Clone, Debug)]
pub struct FeatureSet {
    names: Vec<String>,
    layouts: Arc<[Layout]>,
    /// Which numbers of a stored row are given out, value by value; nothing where all are.
    picks: Vec<Option<Arc<Picked>>>,
    parts: Vec<Arc<Rows>>,
    places: Vec<Place>,
    labels: Option<Vec<usize>>,
    fixed_batch: Option<usize>,
}

/// Numbers of a row that are given out.
#[derive(Debug, PartialEq)]
enum Picked {
    Rising(Picks),
    Places(Vec<usize>),
}

/// Where the rows of one sample are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Place {
    /// Which of the parts.
    pub(super) part: usize,
    /// Which row of it.
    pub(super) row: usize,
}

impl FeatureSet {
    /// Features that are there already: per value one tensor `[N, ..]`, and one label per sample
    /// where they are known.
    ///
    /// # Errors
    /// [`Error::Argument`] when the tensors are not as many as the names, have no first axis, or
    /// differ in N, or the labels are not N.
    pub fn from_memory(
        names: Vec<String>,
        values: Vec<Tensor>,
        labels: Option<Vec<usize>>,
    ) -> Result<Self> {
        let invalid = |what: String| Error::Argument {
            name: "features",
            what,
        };
        if names.len() != values.len() {
            let what = format!("{} names for {} values", names.len(), values.len());
            return Err(invalid(what));
        }
        let counts = values.iter().map(|value| value.shape().first().copied());
        let counts: Vec<Option<usize>> = counts.collect();
        let count = match counts.first() {
            Some(Some(count)) if counts.iter().all(|other| *other == Some(*count)) => *count,
            _ => return Err(invalid(format!("the values have {counts:?} samples"))),
        };
        if let Some(labels) = labels.as_ref().filter(|labels| labels.len() != count) {
            let what = format!("{} labels for {count} samples", labels.len());
            return Err(invalid(what));
        }
        let named = names.iter().zip(&values);
        let layouts = named.filter_map(|(name, value)| Layout::first_axis(name, value));
        let layouts: Vec<Layout> = layouts.collect();
        let held = layouts.iter().zip(&values);
        let held = held.map(|(layout, value)| layout.split(value, count, count));
        let rows = Rows::held(&layouts, held.collect::<Result<_>>()?);
        let places = (0..count).map(|row| Place { part: 0, row });
        Ok(Self::new(
            layouts.into(),
            vec![Arc::new(rows)],
            places.collect(),
            labels,
            None,
        ))
    }

    pub(super) fn new(
        layouts: Arc<[Layout]>,
        parts: Vec<Arc<Rows>>,
        places: Vec<Place>,
        labels: Option<Vec<usize>>,
        fixed_batch: Option<usize>,
    ) -> Self {
        Self {
            names: layouts.iter().map(|layout| layout.name.clone()).collect(),
            picks: vec![None; layouts.len()],
            layouts,
            parts,
            places,
            labels,
            fixed_batch,
        }
    }

    /// The same features, given out in batches of `size` samples and no other, as a model of fixed
    /// batch takes them.
    pub fn with_fixed_batch(mut self, size: usize) -> Self {
        self.fixed_batch = Some(size.max(1));
        self
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there is no sample in it.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Class of each sample, where known.
    pub fn labels(&self) -> Option<&[usize]> {
        self.labels.as_deref()
    }

    /// Names of the values, in the order of [`crate::head::Head::features`].
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Bytes of all rows together.
    pub fn bytes(&self) -> u64 {
        let row: usize = self.layouts.iter().map(Layout::row_bytes).sum();
        (row as u64).saturating_mul(self.len() as u64)
    }

    /// Whether every value is f32 with a row of its own for each sample, along its first axis: then
    /// the rows of any samples stand together, whatever batch the model takes.
    pub fn has_plain_rows(&self) -> bool {
        const ROWS: usize = 3;
        let mut shapes = self.layouts.iter().map(|layout| layout.plain_f32(ROWS));
        shapes.all(|shape| shape.is_some_and(|shape| shape.first() == Some(&ROWS)))
    }

    /// The batch size that the model insists on.
    pub fn fixed_batch(&self) -> Option<usize> {
        self.fixed_batch
    }

    /// The samples at `positions` as a set of their own. Rows are shared, not copied.
    ///
    /// # Errors
    /// [`Error::Argument`] for a position that is not there.
    pub fn select(&self, positions: &[usize]) -> Result<Self> {
        let places = self.places(positions)?;
        let labels = self.labels.as_ref();
        Ok(Self {
            places,
            labels: labels.map(|labels| positions.iter().map(|&at| labels[at]).collect()),
            ..self.clone()
        })
    }

    /// The same, of value number `value` only the entries `keep` of an axis, as a value called
    /// `name`. Rows are shared, not copied.
    ///
    /// Nothing where the rows are no f32 numbers side by side, or do not have these entries.
    pub(super) fn picked(
        &self,
        value: usize,
        name: &str,
        axis: usize,
        keep: &[usize],
    ) -> Option<Self> {
        let layout = self.layouts.get(value)?;
        let shape = layout.plain_f32(1)?;
        let size = shape.get(axis).copied()?;
        if self.picks[value].is_some() || keep.iter().any(|&entry| entry >= size) {
            return None;
        }
        let before: usize = shape[..axis].iter().product();
        let inside: usize = shape[axis + 1..].iter().product();
        let blocks =
            (0..before).flat_map(|outer| keep.iter().map(move |entry| outer * size + entry));
        let picks = blocks.flat_map(|block| block * inside..(block + 1) * inside);
        let layout = layout.narrowed(name, axis, keep.len())?;
        let mut picked = self.clone();
        let places: Vec<usize> = picks.collect();
        let rising = Picks::new(&places).map(Picked::Rising);
        picked.picks[value] = Some(rising.unwrap_or(Picked::Places(places)).into());
        picked.names[value] = name.to_owned();
        let layouts = self.layouts.iter().cloned().enumerate();
        let layouts = layouts.map(|(at, old)| if at == value { layout.clone() } else { old });
        picked.layouts = layouts.collect();
        Some(picked)
    }

    /// Which numbers of a row of value number `value` are given out; nothing where all are.
    pub(crate) fn chosen(&self, value: usize) -> Option<Vec<usize>> {
        match self.picks.get(value)?.as_deref()? {
            Picked::Rising(picks) => Some(picks.places()),
            Picked::Places(places) => Some(places.clone()),
        }
    }

    /// Whether both give out the same numbers of the same rows: of one set, as cuts of a head see it.
    pub fn is_same(&self, other: &Self) -> bool {
        let parts = self.parts.iter().zip(&other.parts);
        self.names == other.names
            && self.picks == other.picks
            && self.places == other.places
            && self.parts.len() == other.parts.len()
            && { parts }.all(|(one, other)| Arc::ptr_eq(one, other))
    }

    /// The features of the samples at `positions`, in the order given, which may repeat.
    ///
    /// Where the model's batch is fixed, the batch is filled up with copies of the last sample.
    ///
    /// # Errors
    /// [`Error::Argument`] for no position, one that is not there, or more than a fixed batch
    /// takes; [`Error::Io`] when the cache cannot be read.
    pub fn read(&self, positions: &[usize]) -> Result<FeatureBatch> {
        let mut places = self.places(positions)?;
        let Some(&last) = places.last() else {
            return Err(invalid("a batch needs at least one sample".to_owned()));
        };
        if let Some(size) = self.fixed_batch {
            if places.len() > size {
                let what = format!("{} samples do not fit a batch of {size}", places.len());
                return Err(invalid(what));
            }
            places.resize(size, last);
        }
        let values = self.layouts.iter().enumerate().map(|(value, layout)| {
            let count = places.len();
            let row = layout.row_bytes();
            if let Some(shape) = layout.plain_f32(count) {
                // Most features are such: no bytes in between.
                let mut values = Vec::with_capacity(row / size_of::<f32>() * count);
                let picks = self.picks[value].as_deref();
                let (mut whole, mut buffer) = (Vec::new(), Vec::new());
                self.each_run(value, &places, |bytes, rows| {
                    let (numbers, _) = bytes.as_chunks();
                    match picks {
                        None => values.extend(numbers.iter().copied().map(f32::from_le_bytes)),
                        Some(picks) => {
                            for row in numbers.chunks_exact((numbers.len() / rows).max(1)) {
                                whole.clear();
                                whole.extend(row.iter().copied().map(f32::from_le_bytes));
                                match picks {
                                    Picked::Rising(picks) => {
                                        picks.extend(&mut values, &whole, &mut buffer);
                                    }
                                    Picked::Places(places) => {
                                        values.extend(places.iter().map(|&at| whole[at]));
                                    }
                                }
                            }
                        }
                    }
                })?;
                return Tensor::f32(shape, values);
            }
            let mut bytes = Vec::with_capacity(row * count);
            self.each_run(value, &places, |run, _| bytes.extend_from_slice(run))?;
            layout.join(bytes, count)
        });
        let labels = self.labels.as_ref();
        Ok(FeatureBatch {
            values: values.collect::<Result<_>>()?,
            rows: places.len(),
            samples: positions.len(),
            labels: labels.map(|labels| positions.iter().map(|&at| labels[at]).collect()),
        })
    }

    /// The features of the samples at `positions` in batches of `batch`, or of the model's own size
    /// where it is fixed; the last may be smaller.
    pub fn batches<'s>(
        &'s self,
        positions: &'s [usize],
        batch: usize,
    ) -> impl Iterator<Item = Result<FeatureBatch>> + 's {
        let size = self.fixed_batch.unwrap_or(batch).max(1);
        positions.chunks(size).map(|part| self.read(part))
    }

    /// Gives the bytes of rows, and how many they are, to `take`: those that follow one another in
    /// one part at once.
    fn each_run(
        &self,
        value: usize,
        places: &[Place],
        mut take: impl FnMut(&[u8], usize),
    ) -> Result<()> {
        let follows = |one: &Place, next: &Place| one.part == next.part && one.row + 1 == next.row;
        for run in places.chunk_by(follows) {
            let from = &self.parts[run[0].part];
            take(&from.read(value, run[0].row, run.len())?, run.len());
        }
        Ok(())
    }

    fn places(&self, positions: &[usize]) -> Result<Vec<Place>> {
        let place = |&at: &usize| {
            let found = self.places.get(at).copied();
            found.ok_or_else(|| invalid(format!("there is no sample {at} of {}", self.len())))
        };
        positions.iter().map(place).collect()
    }
}

fn invalid(what: String) -> Error {
    Error::Argument {
        name: "features",
        what,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::{DataType, TensorData};

    fn set() -> FeatureSet {
        let float = (0..8).map(|value| value as f32).collect();
        let float = Tensor::f32([4, 2], float).unwrap();
        let half = Tensor::f32([4, 1, 1], vec![0.5, 1.5, 2.5, 3.5]).unwrap();
        let half = half.cast(DataType::Float16).unwrap();
        let names = vec!["x".to_owned(), "y".to_owned()];
        FeatureSet::from_memory(names, vec![float, half], Some(vec![7, 8, 9, 7])).unwrap()
    }

    #[test]
    fn rows_are_read_in_any_order_and_keep_their_type() {
        let set = set();
        assert_eq!((set.len(), set.bytes()), (4, 4 * (8 + 2)));
        let batch = set.read(&[3, 0, 1, 1]).unwrap();
        let TensorData::F32(x) = batch.values[0].data() else {
            panic!("{:?}", batch.values[0].dtype());
        };
        assert_eq!(*x, [6., 7., 0., 1., 2., 3., 2., 3.]);
        assert_eq!(batch.values[1].shape(), [4, 1, 1]);
        assert_eq!(batch.values[1].dtype(), DataType::Float16);
        assert_eq!(*batch.values[1].to_f32(), [3.5, 0.5, 1.5, 1.5]);
        assert_eq!(batch.labels, Some(vec![7, 7, 8, 8]));
        assert_eq!((batch.rows, batch.samples), (4, 4));
    }

    #[test]
    fn a_fixed_batch_is_filled_up_and_never_exceeded() {
        let set = set().with_fixed_batch(3);
        let sizes: Vec<(usize, usize)> = set
            .batches(&[0, 1, 2, 3], 100)
            .map(|batch| batch.unwrap())
            .map(|batch| (batch.rows, batch.samples))
            .collect();
        assert_eq!(sizes, [(3, 3), (3, 1)]);
        assert_eq!(*set.read(&[3]).unwrap().values[1].to_f32(), [3.5; 3]);
        assert_eq!(set.read(&[3]).unwrap().labels, Some(vec![7]));
        assert!(set.read(&[0, 1, 2, 3]).is_err());
    }

    #[test]
    fn a_selection_counts_its_own_positions() {
        let chosen = set().select(&[2, 0]).unwrap();
        assert_eq!(chosen.labels(), Some(&[9, 7][..]));
        assert_eq!(
            *chosen.read(&[1, 0]).unwrap().values[1].to_f32(),
            [0.5, 2.5]
        );
        assert!(chosen.read(&[2]).is_err());
        assert!(chosen.read(&[]).is_err());
        assert!(chosen.select(&[2]).is_err());
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        let tensor = |rows: usize| Tensor::f32([rows, 2], vec![0.0; rows * 2]).unwrap();
        let names = |count: usize| (0..count).map(|at| at.to_string()).collect();
        let scalar = Tensor::f32([], vec![1.0]).unwrap();
        type Case = (usize, Vec<Tensor>, Option<Vec<usize>>, &'static str);
        let cases: [Case; 5] = [
            (1, vec![], None, "1 names for 0 values"),
            (0, vec![], None, "the values have []"),
            (2, vec![tensor(3), tensor(4)], None, "[Some(3), Some(4)]"),
            (1, vec![scalar], None, "[None]"),
            (
                1,
                vec![tensor(3)],
                Some(vec![0, 1]),
                "2 labels for 3 samples",
            ),
        ];
        for (count, values, labels, part) in cases {
            let error = FeatureSet::from_memory(names(count), values, labels).unwrap_err();
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}
