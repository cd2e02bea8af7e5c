//! How a value that enters the head is cut into one row per sample, and put together again.
//!
//! Most features are `[N, ..]` with one entry of the first axis per sample. Some have the sample
//! axis elsewhere (`[tokens, N, C]`), some fold several entries per sample into one axis
//! (`[N * windows, C]`), and some are no features at all but sizes that the head reshapes by: the
//! same for every sample, or naming the number of samples. A row is stored with the sample axis in
//! front, whatever the value looks like.

use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result, Site},
    graph::TensorType,
    onnx::{DataType, Dim, Tensor, TensorProto, tensor::element_count},
};

/// How far apart the rows of one sample may lie in two runs, relative to the largest value: runs of
/// different size may sum in another order.
const SAME_ROW: f32 = 1e-3;

/// One value that enters the head.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Layout {
    /// Its name in the model.
    pub(super) name: String,
    /// ONNX number of its element type.
    dtype: i32,
    pub(super) kind: Kind,
}

/// What the samples have to do with a value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Kind {
    /// `[before.., N * each, behind..]`, the entries of one sample side by side.
    Rows {
        before: Vec<usize>,
        each: usize,
        behind: Vec<usize>,
    },
    /// The same for every sample: its shape and its little-endian bytes.
    Same { shape: Vec<usize>, bytes: Vec<u8> },
    /// `[values]` of i64, of which those at `samples` are the number of samples.
    Sizes {
        values: Vec<i64>,
        samples: Vec<usize>,
    },
}

impl Layout {
    /// What the shape alone tells: one axis per sample, all others fixed. Nothing where only a run
    /// can tell.
    pub(super) fn declared(name: &str, known: &TensorType, fixed: Option<usize>) -> Option<Self> {
        let dims = &known.dims;
        let is_samples = |dim: &Dim| match (fixed, dim) {
            (Some(size), Dim::Fixed(dim)) => *dim == size,
            (Some(_), _) => false,
            (None, dim) => dim.fixed().is_none(),
        };
        // In a fixed batch any other axis may have that size too, and so may a list of sizes.
        let by_position = fixed.is_some() && known.dtype.is_float();
        let axis = match dims.iter().filter(|dim| is_samples(dim)).count() {
            1 if fixed.is_none() || by_position => dims.iter().position(is_samples)?,
            2.. if by_position && is_samples(dims.first()?) => 0,
            _ => return None,
        };
        let sizes = |dims: &[Dim]| dims.iter().map(Dim::fixed).collect::<Option<Vec<_>>>();
        Some(Self {
            name: name.to_owned(),
            dtype: known.dtype.into(),
            kind: Kind::Rows {
                before: sizes(&dims[..axis])?,
                each: 1,
                behind: sizes(&dims[axis + 1..])?,
            },
        })
    }

    /// One row per entry of the first axis.
    pub(super) fn first_axis(name: &str, tensor: &Tensor) -> Option<Self> {
        let behind = tensor.shape().get(1..)?.to_vec();
        Some(Self::rows(name, tensor, vec![], 1, behind))
    }

    /// What two runs show, the second with the samples of the first, or in a fixed batch with
    /// others in another place, and `rows` in each.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where the value has no part of its own for each sample.
    pub(super) fn seen(name: &str, runs: [&Tensor; 2], rows: [usize; 2]) -> Result<Self> {
        let [one, two] = runs;
        if one.shape() == two.shape() && one.data() == two.data() && rows[0] != rows[1] {
            return Ok(Self::same(name, one));
        }
        let found = if rows[0] == rows[1] {
            Self::seen_in_fixed(name, runs, rows[0])
        } else {
            Self::sizes(name, runs, rows).or_else(|| Self::seen_to_grow(name, runs, rows))
        };
        found.ok_or_else(|| Error::Unsupported {
            site: Site::value(name),
            what: format!(
                "enters the head as {:?} for {} samples and as {:?} for {}, which gives no part to \
                 each sample",
                one.shape(),
                rows[0],
                two.shape(),
                rows[1]
            ),
        })
    }

    fn seen_in_fixed(name: &str, [one, two]: [&Tensor; 2], batch: usize) -> Option<Self> {
        let shape = one.shape();
        let constant = one.data() == two.data();
        if constant && !one.dtype().is_float() {
            return Some(Self::same(name, one));
        }
        if batch == 1 {
            // The whole of it belongs to the one sample.
            let each = shape.first().copied().unwrap_or(1);
            let behind = shape.get(1..).unwrap_or_default().to_vec();
            return (!shape.is_empty()).then(|| Self::rows(name, one, vec![], each, behind));
        }
        match shape.iter().position(|&size| size == batch) {
            Some(axis) => Some(Self::at_axis(name, one, axis, 1)),
            None if constant => Some(Self::same(name, one)),
            None => None,
        }
    }

    fn seen_to_grow(name: &str, runs: [&Tensor; 2], rows: [usize; 2]) -> Option<Self> {
        let shapes = runs.map(Tensor::shape);
        if shapes[0].len() != shapes[1].len() {
            return None;
        }
        let mut grown = (0..shapes[0].len()).filter(|&axis| shapes[0][axis] != shapes[1][axis]);
        let (axis, None) = (grown.next()?, grown.next()) else {
            return None;
        };
        let each = shapes[0][axis] / rows[0];
        if each == 0 || (0..2).any(|run| shapes[run][axis] != each * rows[run]) {
            return None;
        }
        let found = Self::at_axis(name, runs[0], axis, each);
        (each == 1 || found.starts_alike(runs, rows)).then_some(found)
    }

    /// Whether the samples that two runs share have the same rows: entries of one sample could lie
    /// apart (`[windows * N, C]`).
    fn starts_alike(&self, runs: [&Tensor; 2], rows: [usize; 2]) -> bool {
        let shared = rows[0].min(rows[1]);
        let values = |run: usize| {
            let bytes = self.split(runs[run], rows[run], shared).ok()?;
            self.join(bytes, shared).ok()
        };
        let (Some(one), Some(two)) = (values(0), values(1)) else {
            return false;
        };
        let (one, two) = (one.to_f32(), two.to_f32());
        let largest = one
            .iter()
            .fold(0.0_f32, |most, value| most.max(value.abs()));
        let mut pairs = one.iter().zip(two.iter());
        pairs.all(|(one, two)| (one - two).abs() <= SAME_ROW * largest)
    }

    fn sizes(name: &str, runs: [&Tensor; 2], rows: [usize; 2]) -> Option<Self> {
        if runs[0].dtype() != DataType::Int64 || runs[0].shape() != runs[1].shape() {
            return None;
        }
        let (one, two) = (runs[0].to_i64(), runs[1].to_i64());
        let differ = (0..one.len()).filter(|&at| one[at] != two[at]);
        let samples: Vec<usize> = differ.collect();
        let count = |run: usize| i64::try_from(rows[run]).ok();
        let (first, second) = (count(0)?, count(1)?);
        let fits = |at: &usize| one[*at] == first && two[*at] == second;
        (runs[0].shape().len() == 1 && samples.iter().all(fits)).then(|| Self {
            name: name.to_owned(),
            dtype: DataType::Int64.into(),
            kind: Kind::Sizes {
                values: one,
                samples,
            },
        })
    }

    fn at_axis(name: &str, tensor: &Tensor, axis: usize, each: usize) -> Self {
        let (before, rest) = tensor.shape().split_at(axis);
        let behind = rest.get(1..).unwrap_or_default().to_vec();
        Self::rows(name, tensor, before.to_vec(), each, behind)
    }

    fn rows(
        name: &str,
        tensor: &Tensor,
        before: Vec<usize>,
        each: usize,
        behind: Vec<usize>,
    ) -> Self {
        Self {
            name: name.to_owned(),
            dtype: tensor.dtype().into(),
            kind: Kind::Rows {
                before,
                each,
                behind,
            },
        }
    }

    fn same(name: &str, tensor: &Tensor) -> Self {
        Self {
            name: name.to_owned(),
            dtype: tensor.dtype().into(),
            kind: Kind::Same {
                shape: tensor.shape().to_vec(),
                bytes: to_bytes(tensor),
            },
        }
    }

    /// Whether its numbers go together, as they do unless a file was garbled.
    pub(super) fn is_sound(&self) -> bool {
        let Some(element) = self.dtype().bytes() else {
            return false;
        };
        let bytes = |shape: &[usize]| element_count(shape)?.checked_mul(element);
        match &self.kind {
            Kind::Rows { .. } => {
                let row = self.row_shape().unwrap_or_default();
                !row.contains(&0) && bytes(&row).is_some()
            }
            Kind::Same { shape, bytes: same } => bytes(shape) == Some(same.len()),
            Kind::Sizes { values, samples } => samples.iter().all(|&at| at < values.len()),
        }
    }

    /// Element type.
    pub(super) fn dtype(&self) -> DataType {
        DataType::try_from(self.dtype).unwrap_or_default()
    }

    /// Shape of one stored row; nothing for what is the same for all samples.
    pub(super) fn row_shape(&self) -> Option<Vec<usize>> {
        let Kind::Rows {
            before,
            each,
            behind,
        } = &self.kind
        else {
            return None;
        };
        let each = (*each != 1).then_some(*each);
        Some(
            before
                .iter()
                .copied()
                .chain(each)
                .chain(behind.iter().copied())
                .collect(),
        )
    }

    /// Bytes of one stored row; 0 for what is the same for all samples.
    pub(super) fn row_bytes(&self) -> usize {
        let element = self.dtype().bytes().unwrap_or(0);
        let sizes = self.row_shape().map(|shape| shape.into_iter().product());
        element * sizes.unwrap_or(0_usize)
    }

    /// The shape for `rows` samples, where the value is f32 and its rows lie in it as they are
    /// stored.
    pub(super) fn plain_f32(&self, rows: usize) -> Option<Vec<usize>> {
        let plain = self.dtype() == DataType::Float && self.parts()?.0 == 1;
        plain.then(|| self.shape(rows))
    }

    /// The same with `size` entries of an axis behind that of the samples, under another name;
    /// nothing where there is no such axis.
    pub(super) fn narrowed(&self, name: &str, axis: usize, size: usize) -> Option<Self> {
        let mut narrowed = Self {
            name: name.to_owned(),
            ..self.clone()
        };
        let Kind::Rows { before, behind, .. } = &mut narrowed.kind else {
            return None;
        };
        *behind.get_mut(axis.checked_sub(before.len() + 1)?)? = size;
        Some(narrowed)
    }

    /// The rows of the first `count` of `rows` samples, one after the other.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when the value is not laid out like this.
    pub(super) fn split(&self, tensor: &Tensor, rows: usize, count: usize) -> Result<Vec<u8>> {
        let expected = self.shape(rows);
        let fits = tensor.shape() == expected && tensor.dtype() == self.dtype();
        let bytes = to_bytes(tensor);
        let known = match &self.kind {
            Kind::Rows { .. } => true,
            Kind::Same { bytes: same, .. } => bytes == *same,
            Kind::Sizes { .. } => tensor.to_i64() == self.named_sizes(rows),
        };
        if !(fits && known) {
            return Err(Error::Unsupported {
                site: Site::value(&self.name),
                what: format!(
                    "enters the head as {}{:?} where {}{expected:?} was seen before",
                    tensor.dtype(),
                    tensor.shape(),
                    self.dtype()
                ),
            });
        }
        let Some((outer, inner)) = self.parts() else {
            return Ok(Vec::new());
        };
        if outer == 1 {
            let mut bytes = bytes;
            bytes.truncate(count * inner);
            return Ok(bytes);
        }
        let mut split = Vec::with_capacity(count * outer * inner);
        for row in 0..count {
            for part in 0..outer {
                let start = (part * rows + row) * inner;
                split.extend_from_slice(&bytes[start..start + inner]);
            }
        }
        Ok(split)
    }

    /// The value for as many samples as `bytes` holds rows for, which are `rows`.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the bytes are no such values.
    pub(super) fn join(&self, bytes: Vec<u8>, rows: usize) -> Result<Tensor> {
        let bytes = match (&self.kind, self.parts()) {
            (Kind::Same { bytes, .. }, _) => bytes.clone(),
            (Kind::Sizes { .. }, _) => {
                return Tensor::i64(self.shape(rows), self.named_sizes(rows));
            }
            (Kind::Rows { .. }, Some((outer, inner))) if outer > 1 => {
                let mut joined = Vec::with_capacity(bytes.len());
                for part in 0..outer {
                    for row in 0..rows {
                        let start = (row * outer + part) * inner;
                        joined.extend_from_slice(&bytes[start..start + inner]);
                    }
                }
                joined
            }
            (Kind::Rows { .. }, _) => bytes,
        };
        let dims = self.shape(rows).into_iter().map(i64::try_from);
        let dims = dims.collect::<Result<_, _>>().map_err(|_| Error::Invalid {
            site: Site::value(&self.name),
            what: "has more entries than can be counted".to_owned(),
        })?;
        Tensor::from_proto(&TensorProto {
            name: Some(self.name.clone()),
            data_type: Some(self.dtype),
            dims,
            raw_data: Some(bytes.into()),
            ..TensorProto::default()
        })
    }

    /// How many pieces a row has, and the bytes of each.
    fn parts(&self) -> Option<(usize, usize)> {
        match &self.kind {
            Kind::Rows { before, .. } => {
                let outer: usize = before.iter().product();
                Some((outer, self.row_bytes() / outer.max(1)))
            }
            Kind::Same { .. } | Kind::Sizes { .. } => None,
        }
    }

    fn shape(&self, rows: usize) -> Vec<usize> {
        match &self.kind {
            Kind::Rows {
                before,
                each,
                behind,
            } => {
                let sizes = before.iter().chain([each]).chain(behind).copied();
                let mut shape: Vec<usize> = sizes.collect();
                shape[before.len()] = rows * each;
                shape
            }
            Kind::Same { shape, .. } => shape.clone(),
            Kind::Sizes { values, .. } => vec![values.len()],
        }
    }

    fn named_sizes(&self, rows: usize) -> Vec<i64> {
        let Kind::Sizes { values, samples } = &self.kind else {
            return Vec::new();
        };
        let mut values = values.clone();
        for &at in samples {
            values[at] = i64::try_from(rows).unwrap_or(i64::MAX);
        }
        values
    }
}

/// The values as little-endian bytes.
fn to_bytes(tensor: &Tensor) -> Vec<u8> {
    // Not copied: nobody else holds them.
    let bytes = tensor.to_proto("").raw_data;
    bytes.map(Vec::from).unwrap_or_default()
}

#[cfg(test)]
mod tests;
