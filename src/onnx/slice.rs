//! Cutting weights along an axis, on their bytes, whatever the element type.

use std::collections::BTreeMap;

use super::{
    decode::{raw_bytes, to_dim},
    layout::layout,
    proto::TensorProto,
    tensor::Tensor,
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
    select_all(proto, &[(axis, keep.to_vec())])
}

/// [`select`] along several axes in one pass: of the weight nothing else is looked at, and nothing
/// is made in between. An axis that is named twice is cut twice.
///
/// # Errors
/// Those of [`select`].
pub fn select_all(proto: &TensorProto, axes: &[(usize, Vec<usize>)]) -> Result<TensorProto> {
    let layout = layout(proto)?;
    let cuts = cuts(&layout.shape, axes)?;
    let bytes = raw_bytes(proto, &layout)?;
    let raw = match layout.dtype.bytes() {
        Some(1) => select_chunks::<1>(&bytes, &layout.shape, &cuts),
        Some(2) => select_chunks::<2>(&bytes, &layout.shape, &cuts),
        Some(4) => select_chunks::<4>(&bytes, &layout.shape, &cuts),
        Some(8) => select_chunks::<8>(&bytes, &layout.shape, &cuts),
        Some(16) => select_chunks::<16>(&bytes, &layout.shape, &cuts),
        _ => {
            return Err(Error::Unsupported {
                site: Site::value(proto.name()),
                what: format!("cannot be cut: its values are {}", layout.dtype),
            });
        }
    };
    let mut dims = proto.dims.clone();
    for cut in &cuts {
        dims[cut.axis] = to_dim(cut.keep.len());
    }
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

/// Gives the values as f32, in order, to `take`: `block` at a time, of which the last may be fewer.
///
/// # Errors
/// Those of [`Tensor::from_proto`].
pub fn each_block(proto: &TensorProto, block: usize, mut take: impl FnMut(&[f32])) -> Result<()> {
    let layout = layout(proto)?;
    let bytes = raw_bytes(proto, &layout)?;
    let Some(width) = layout.dtype.bytes() else {
        take(&Tensor::from_proto(proto)?.to_f32());
        return Ok(());
    };
    let mut start = 0;
    while start < layout.count {
        let end = (start + block.max(1)).min(layout.count);
        let part = TensorProto {
            dims: vec![to_dim(end - start)],
            data_type: proto.data_type,
            name: proto.name.clone(),
            raw_data: Some(bytes.slice(start * width..end * width)),
            ..TensorProto::default()
        };
        take(&Tensor::from_proto(&part)?.to_f32());
        start = end;
    }
    Ok(())
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

/// The weight with zeros for all its values.
///
/// # Errors
/// Those of [`select`].
pub fn zeroed(proto: &TensorProto) -> Result<TensorProto> {
    let layout = layout(proto)?;
    let width = layout.dtype.bytes().ok_or_else(|| Error::Unsupported {
        site: Site::value(proto.name()),
        what: format!("cannot be set to zero: its values are {}", layout.dtype),
    })?;
    Ok(TensorProto {
        dims: proto.dims.clone(),
        data_type: proto.data_type,
        name: proto.name.clone(),
        raw_data: Some(vec![0; layout.count * width].into()),
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

/// What stays of one axis.
struct Cut {
    axis: usize,
    keep: Vec<usize>,
    runs: Vec<(usize, usize)>,
}

/// One cut per axis that is named, the outermost first.
fn cuts(shape: &[usize], axes: &[(usize, Vec<usize>)]) -> Result<Vec<Cut>> {
    let mut kept: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (axis, keep) in axes {
        let Some(&size) = shape.get(*axis) else {
            return Err(out_of_range(*axis, shape));
        };
        let before = kept.remove(axis);
        let after = keep.iter().map(|&index| {
            let place = match &before {
                Some(before) => before.get(index).copied(),
                None => (index < size).then_some(index),
            };
            place.ok_or_else(|| Error::Argument {
                name: "keep",
                what: format!("index {index} is outside axis {axis} of shape {shape:?}"),
            })
        });
        kept.insert(*axis, after.collect::<Result<_>>()?);
    }
    let cuts = kept.into_iter().map(|(axis, keep)| Cut {
        axis,
        runs: runs(&keep),
        keep,
    });
    Ok(cuts.collect())
}

/// `bytes` are values of `N` bytes each.
fn select_chunks<const N: usize>(bytes: &[u8], shape: &[usize], cuts: &[Cut]) -> Vec<u8> {
    let (values, _) = bytes.as_chunks::<N>();
    select_values(values, shape, cuts).into_flattened()
}

/// The values whose index on `axis` of `shape` is in `keep`, in that order.
pub(super) fn select_axis<T: Copy>(
    values: &[T],
    shape: &[usize],
    axis: usize,
    keep: &[usize],
) -> Result<Vec<T>> {
    let cuts = cuts(shape, &[(axis, keep.to_vec())])?;
    Ok(select_values(values, shape, &cuts))
}

fn select_values<T: Copy>(values: &[T], shape: &[usize], cuts: &[Cut]) -> Vec<T> {
    let mut sizes = shape.to_vec();
    for cut in cuts {
        sizes[cut.axis] = cut.keep.len();
    }
    let mut selected = Vec::with_capacity(sizes.iter().product());
    if !values.is_empty() {
        extend(&mut selected, values, shape, cuts);
    }
    selected
}

/// Appends what stays of `values`, which have the last axes of `shape`, all that are cut among them.
fn extend<T: Copy>(to: &mut Vec<T>, values: &[T], shape: &[usize], cuts: &[Cut]) {
    let Some((cut, deeper)) = cuts.split_first() else {
        return to.extend_from_slice(values);
    };
    let inner: usize = shape[cut.axis + 1..].iter().product();
    let blocks = values.chunks_exact(shape[cut.axis] * inner);
    if !deeper.is_empty() {
        for block in blocks {
            for &index in &cut.keep {
                let part = &block[index * inner..(index + 1) * inner];
                extend(to, part, shape, deeper);
            }
        }
        return;
    }
    // Short runs on the last axis: value by value is faster than a copy per run.
    let is_scattered = inner == 1 && cut.keep.len() < SHORT_RUN * cut.runs.len();
    for block in blocks {
        if is_scattered {
            to.extend(cut.keep.iter().map(|&index| block[index]));
        } else {
            for &(start, end) in &cut.runs {
                to.extend_from_slice(&block[start * inner..end * inner]);
            }
        }
    }
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
    use crate::onnx::{DataType, TensorData};

    #[test]
    fn blocks_are_all_values_in_order() {
        let whole = Tensor::i64([2, 5], (0..10).collect()).unwrap();
        for (dtype, block, sizes) in [
            (DataType::Float, 4, &[4, 4, 2][..]),
            (DataType::Float16, 5, &[5, 5]),
            (DataType::Int8, 100, &[10]),
        ] {
            let proto = whole.cast(dtype).unwrap().to_proto("w");
            let (mut seen, mut values) = (vec![], vec![]);
            each_block(&proto, block, |part| {
                seen.push(part.len());
                values.extend_from_slice(part);
            })
            .unwrap();
            assert_eq!(seen, sizes);
            assert_eq!(values, *whole.to_f32());
        }
    }

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
        assert_eq!(select_all(&whole, &axes).unwrap(), part);
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
        assert_eq!(
            select_all(&whole, &twice).unwrap(),
            select(&whole, 1, &[2]).unwrap()
        );
        assert!(select_all(&whole, &[(1, vec![1, 2]), (1, vec![2])]).is_err());
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
