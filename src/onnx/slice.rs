//! Cutting weights along an axis, on their bytes, whatever the element type.

use super::{
    decode::{raw_bytes, to_dim},
    layout::layout,
    proto::TensorProto,
};
use crate::error::{Error, Result, Site};

/// From this many neighbouring values on, one copy is faster than one value at a time: measured,
/// f32 rows of 3136, break-even at 7.
const SHORT_RUN: usize = 8;

/// The weight reduced to the indices `keep` of `axis`, in that order, values in `raw_data`.
///
/// Name, documentation, element type and metadata stay.
///
/// # Errors
/// [`Error::Argument`] when the axis or an index is out of range, [`Error::Invalid`] when the
/// weight itself is broken, [`Error::Unsupported`] for strings and types narrower than a byte.
pub fn select(proto: &TensorProto, axis: usize, keep: &[usize]) -> Result<TensorProto> {
    let layout = layout(proto)?;
    let bytes = raw_bytes(proto, &layout)?;
    let raw = match layout.dtype.bytes() {
        Some(1) => select_chunks::<1>(&bytes, &layout.shape, axis, keep)?,
        Some(2) => select_chunks::<2>(&bytes, &layout.shape, axis, keep)?,
        Some(4) => select_chunks::<4>(&bytes, &layout.shape, axis, keep)?,
        Some(8) => select_chunks::<8>(&bytes, &layout.shape, axis, keep)?,
        Some(16) => select_chunks::<16>(&bytes, &layout.shape, axis, keep)?,
        _ => {
            return Err(Error::Unsupported {
                site: Site::value(proto.name()),
                what: format!("cannot be cut: its values are {}", layout.dtype),
            });
        }
    };
    let mut dims = proto.dims.clone();
    dims[axis] = to_dim(keep.len());
    Ok(TensorProto {
        dims,
        data_type: proto.data_type,
        name: proto.name.clone(),
        doc_string: proto.doc_string.clone(),
        metadata_props: proto.metadata_props.clone(),
        raw_data: Some(raw.into()),
        ..TensorProto::default()
    })
}

/// The weight with its two axes exchanged, values in `raw_data`; nothing when it has not two axes
/// or cannot be read.
pub fn transposed(proto: &TensorProto) -> Option<TensorProto> {
    let layout = layout(proto).ok()?;
    let width = layout.dtype.bytes()?;
    let &[rows, columns] = layout.shape.as_slice() else {
        return None;
    };
    let bytes = raw_bytes(proto, &layout).ok()?;
    let mut raw = Vec::with_capacity(bytes.len());
    for column in 0..columns {
        for row in 0..rows {
            let start = (row * columns + column) * width;
            raw.extend_from_slice(bytes.get(start..start + width)?);
        }
    }
    Some(TensorProto {
        dims: proto.dims.iter().rev().copied().collect(),
        data_type: proto.data_type,
        name: proto.name.clone(),
        raw_data: Some(raw.into()),
        ..TensorProto::default()
    })
}

/// The inverse of [`select`] along several axes: `whole` with the values of `part` at the places
/// that `axes` (axis, kept indices) name, values in `raw_data`.
///
/// `part` has as many indices as are kept on each of these axes, and all others are whole.
///
/// # Errors
/// [`Error::Invalid`] when `part` has another element type or does not fit; those of [`select`].
pub fn scattered(
    whole: &TensorProto,
    axes: &[(usize, Vec<usize>)],
    part: &TensorProto,
) -> Result<TensorProto> {
    let (layout, small) = (layout(whole)?, layout(part)?);
    let misfit = || Error::Invalid {
        site: Site::value(whole.name()),
        what: format!(
            "a part of shape {:?} and type {} does not fit into shape {:?} and type {}",
            small.shape, small.dtype, layout.shape, layout.dtype
        ),
    };
    // The indices of each axis of `part`, as they are in `whole`.
    let mut places: Vec<Vec<usize>> = layout
        .shape
        .iter()
        .map(|&size| (0..size).collect())
        .collect();
    for (axis, kept) in axes {
        let place = places.get_mut(*axis).ok_or_else(misfit)?;
        *place = kept
            .iter()
            .filter_map(|&index| place.get(index).copied())
            .collect();
    }
    let sizes: Vec<usize> = places.iter().map(Vec::len).collect();
    let width = layout.dtype.bytes().ok_or_else(misfit)?;
    if layout.dtype != small.dtype || sizes != small.shape {
        return Err(misfit());
    }
    let mut raw = raw_bytes(whole, &layout)?.to_vec();
    let values = raw_bytes(part, &small)?;
    for (number, value) in values.chunks_exact(width).enumerate() {
        let mut left = number;
        let mut offset = 0;
        let mut stride = width;
        for (place, &size) in places.iter().zip(&layout.shape).rev() {
            offset += place[left % place.len()] * stride;
            left /= place.len();
            stride *= size;
        }
        raw[offset..offset + width].copy_from_slice(value);
    }
    Ok(TensorProto {
        dims: whole.dims.clone(),
        data_type: whole.data_type,
        name: whole.name.clone(),
        raw_data: Some(raw.into()),
        ..TensorProto::default()
    })
}

/// `bytes` are values of `N` bytes each.
fn select_chunks<const N: usize>(
    bytes: &[u8],
    shape: &[usize],
    axis: usize,
    keep: &[usize],
) -> Result<Vec<u8>> {
    let (values, _) = bytes.as_chunks::<N>();
    Ok(select_values(values, shape, axis, keep)?.into_flattened())
}

/// `values` has this `shape`; runs of neighbouring indices are copied as one piece.
pub(super) fn select_values<T: Copy>(
    values: &[T],
    shape: &[usize],
    axis: usize,
    keep: &[usize],
) -> Result<Vec<T>> {
    let Some(&size) = shape.get(axis) else {
        return Err(out_of_range(axis, shape));
    };
    if let Some(index) = keep.iter().find(|&&index| index >= size) {
        return Err(Error::Argument {
            name: "keep",
            what: format!("index {index} is outside axis {axis} of shape {shape:?}"),
        });
    }
    let outer: usize = shape[..axis].iter().product();
    let inner: usize = shape[axis + 1..].iter().product();
    let mut selected = Vec::with_capacity(outer * keep.len() * inner);
    if size * inner == 0 {
        return Ok(selected);
    }
    let runs = runs(keep);
    // Short runs on the last axis: value by value is faster than a copy per run.
    let is_scattered = inner == 1 && keep.len() < SHORT_RUN * runs.len();
    for block in values.chunks_exact(size * inner) {
        if is_scattered {
            selected.extend(keep.iter().map(|&index| block[index]));
        } else {
            for &(start, end) in &runs {
                selected.extend_from_slice(&block[start * inner..end * inner]);
            }
        }
    }
    Ok(selected)
}

/// Half-open ranges of consecutive indices.
fn runs(keep: &[usize]) -> Vec<(usize, usize)> {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for &index in keep {
        match runs.last_mut() {
            Some((_, end)) if *end == index => *end += 1,
            _ => runs.push((index, index + 1)),
        }
    }
    runs
}

fn out_of_range(axis: usize, shape: &[usize]) -> Error {
    Error::Argument {
        name: "axis",
        what: format!("axis {axis} is outside shape {shape:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::{DataType, Tensor, TensorData};

    #[test]
    fn scattered_puts_back_what_select_took() {
        let numbers = |shape: [usize; 3], first: i64| {
            let count = i64::try_from(shape.iter().product::<usize>()).unwrap();
            Tensor::i64(shape, (first..first + count).collect())
                .unwrap()
                .to_proto("w")
        };
        let whole = numbers([2, 3, 4], 0);
        let axes = [(2, vec![1, 3]), (0, vec![1]), (1, vec![0, 2])];
        let mut part = whole.clone();
        for (axis, keep) in &axes {
            part = select(&part, *axis, keep).unwrap();
        }
        let same = scattered(&whole, &axes, &part).unwrap();
        assert_eq!(
            same.raw_data,
            Tensor::from_proto(&whole).unwrap().to_proto("w").raw_data
        );
        // New numbers land where the old ones came from, and nowhere else.
        let changed = scattered(&whole, &axes, &numbers([1, 2, 2], 100)).unwrap();
        let mut expected: Vec<i64> = (0..24).collect();
        for (place, value) in [(13, 100), (15, 101), (21, 102), (23, 103)] {
            expected[place] = value;
        }
        assert_eq!(*Tensor::from_proto(&changed).unwrap().to_i64(), expected);
        // An axis that was cut twice: kept places of kept places.
        let twice = [(1, vec![1, 2]), (1, vec![1])];
        let changed = scattered(&whole, &twice, &numbers([2, 1, 4], 50)).unwrap();
        assert_eq!(
            Tensor::from_proto(&changed).unwrap().to_i64()[8..12],
            [50, 51, 52, 53]
        );
        assert!(scattered(&whole, &axes, &whole).is_err());
    }

    #[test]
    fn select_keeps_the_named_indices_of_the_axis() {
        struct Case {
            shape: &'static [usize],
            axis: usize,
            keep: &'static [usize],
            expected: Option<&'static [i64]>,
        }
        let cases = [
            // Rows.
            Case {
                shape: &[3, 2],
                axis: 0,
                keep: &[0, 2],
                expected: Some(&[0, 1, 4, 5]),
            },
            // Columns.
            Case {
                shape: &[2, 3],
                axis: 1,
                keep: &[1, 2],
                expected: Some(&[1, 2, 4, 5]),
            },
            // A long run of columns.
            Case {
                shape: &[2, 10],
                axis: 1,
                keep: &[1, 2, 3, 4, 5, 6, 7, 8, 9],
                expected: Some(&[
                    1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15, 16, 17, 18, 19,
                ]),
            },
            // The middle of three axes.
            Case {
                shape: &[2, 2, 2],
                axis: 1,
                keep: &[1],
                expected: Some(&[2, 3, 6, 7]),
            },
            // Any order, with a repeat.
            Case {
                shape: &[4],
                axis: 0,
                keep: &[3, 0, 0],
                expected: Some(&[3, 0, 0]),
            },
            // Nothing.
            Case {
                shape: &[2, 3],
                axis: 1,
                keep: &[],
                expected: Some(&[]),
            },
            // An empty axis elsewhere.
            Case {
                shape: &[0, 3],
                axis: 1,
                keep: &[2],
                expected: Some(&[]),
            },
            // Index out of range.
            Case {
                shape: &[2, 3],
                axis: 0,
                keep: &[2],
                expected: None,
            },
            // Axis out of range, also where the byte axis would be.
            Case {
                shape: &[2, 3],
                axis: 2,
                keep: &[0],
                expected: None,
            },
            Case {
                shape: &[],
                axis: 0,
                keep: &[0],
                expected: None,
            },
        ];
        for (number, case) in cases.iter().enumerate() {
            let count: usize = case.shape.iter().product();
            let values: Vec<i64> = (0..).take(count).collect();
            let whole = Tensor::i64(case.shape, values).unwrap();
            for dtype in [
                DataType::Int64,
                DataType::Float16,
                DataType::Uint8,
                DataType::Double,
            ] {
                let proto = whole.cast(dtype).unwrap().to_proto("w");
                let selected = select(&proto, case.axis, case.keep);
                let seen = selected.as_ref().ok().map(|proto| {
                    assert_eq!((proto.name(), proto.data_type()), ("w", i32::from(dtype)));
                    Tensor::from_proto(proto).unwrap().to_i64()
                });
                assert_eq!(seen.as_deref(), case.expected, "case {number} as {dtype}");
            }
            let seen = whole.data().select(case.shape, case.axis, case.keep).ok();
            let expected = case.expected.map(|values| TensorData::I64(values.to_vec()));
            assert_eq!(seen, expected, "case {number} on values");
        }
    }
}
