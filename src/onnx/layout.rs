//! What a [`TensorProto`] claims to hold, checked against what it does hold.

use super::{
    proto::{
        TensorProto,
        tensor_proto::{DataLocation, DataType},
    },
    tensor::element_count,
};
use crate::error::{Error, Result, Site};

/// Shape and element type of a stored tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) dtype: DataType,
    pub(super) shape: Vec<usize>,
    /// Number of values: the product of `shape`.
    pub(super) count: usize,
}

impl Layout {
    /// Bytes that the values take in `raw_data` or in an external file; nothing for strings and
    /// for 6-bit types, whose packing the format leaves open.
    pub(super) fn bytes(&self) -> Option<usize> {
        match self.dtype.bits() {
            0 | 6 => None,
            bits if bits >= 8 => self.count.checked_mul(bits / 8),
            bits => Some(self.count.div_ceil(8 / bits)),
        }
    }
}

/// The error of a broken tensor, sited at its name.
pub(super) fn invalid(proto: &TensorProto, what: impl Into<String>) -> Error {
    Error::Invalid {
        site: Site::value(proto.name()),
        what: what.into(),
    }
}

/// Whether the values are in another file and were not read yet.
pub(super) fn is_external(proto: &TensorProto) -> bool {
    proto.data_location == Some(i32::from(DataLocation::External))
}

/// Reads shape and element type.
///
/// # Errors
/// [`Error::Invalid`] for unknown element types, negative dims and sizes that overflow.
pub(super) fn layout(proto: &TensorProto) -> Result<Layout> {
    let dtype = match DataType::try_from(proto.data_type.unwrap_or(0)) {
        Ok(dtype) if dtype != DataType::Undefined => dtype,
        _ => {
            let number = proto.data_type.unwrap_or(0);
            return Err(invalid(proto, format!("unknown element type {number}")));
        }
    };
    let mut shape = Vec::with_capacity(proto.dims.len());
    for &dim in &proto.dims {
        let size = usize::try_from(dim)
            .map_err(|_| invalid(proto, format!("dims {:?} hold {dim}", proto.dims)))?;
        shape.push(size);
    }
    let overflow = || invalid(proto, format!("dims {:?} overflow", proto.dims));
    let count = element_count(&shape).ok_or_else(overflow)?;
    let layout = Layout {
        dtype,
        shape,
        count,
    };
    // Sixteen bytes is the widest type, so every later size computation is safe.
    count.checked_mul(16).ok_or_else(overflow)?;
    Ok(layout)
}

/// Checks that exactly one field carries values, that it is the right one for the element type,
/// and that it carries as many as the shape says.
///
/// # Errors
/// [`Error::Invalid`] when it does not; [`Error::Unsupported`] for segmented tensors.
pub(super) fn check_values(proto: &TensorProto, layout: &Layout) -> Result<()> {
    if proto.segment.is_some() {
        return Err(Error::Unsupported {
            site: Site::value(proto.name()),
            what: "is stored in segments".to_owned(),
        });
    }
    let filled: Vec<(&str, usize)> = fields(proto).into_iter().filter(|f| f.1 > 0).collect();
    match filled[..] {
        [] if layout.count == 0 => Ok(()),
        [] => Err(invalid(
            proto,
            format!("has no data for {}{:?}", layout.dtype, layout.shape),
        )),
        [(field, length)] => check_field(proto, layout, field, length),
        _ => {
            let names: Vec<&str> = filled.iter().map(|f| f.0).collect();
            Err(invalid(
                proto,
                format!("has data in {} at once", names.join(" and ")),
            ))
        }
    }
}

fn fields(proto: &TensorProto) -> [(&'static str, usize); 7] {
    [
        (RAW, proto.raw_data().len()),
        ("float_data", proto.float_data.len()),
        ("int32_data", proto.int32_data.len()),
        ("string_data", proto.string_data.len()),
        ("int64_data", proto.int64_data.len()),
        ("double_data", proto.double_data.len()),
        ("uint64_data", proto.uint64_data.len()),
    ]
}

const RAW: &str = "raw_data";

fn check_field(proto: &TensorProto, layout: &Layout, field: &str, length: usize) -> Result<()> {
    let (typed, per_field) = typed_field(layout.dtype);
    let (expected, unit) = if field == RAW {
        if layout.dtype == DataType::String {
            return Err(invalid(proto, "strings cannot be in raw_data"));
        }
        (layout.bytes(), "bytes")
    } else if field == typed {
        (per_field(layout), "values")
    } else {
        let what = format!("{} values cannot be in {field}", layout.dtype);
        return Err(invalid(proto, what));
    };
    match expected {
        Some(expected) if expected != length => Err(invalid(
            proto,
            format!(
                "{field} holds {length} {unit}, but {}{:?} needs {expected}",
                layout.dtype, layout.shape
            ),
        )),
        _ => Ok(()),
    }
}

type Expected = fn(&Layout) -> Option<usize>;

/// The typed field for an element type and how many entries it needs there.
fn typed_field(dtype: DataType) -> (&'static str, Expected) {
    let one: Expected = |layout| Some(layout.count);
    let two: Expected = |layout| layout.count.checked_mul(2);
    match dtype {
        DataType::Float => ("float_data", one),
        DataType::Complex64 => ("float_data", two),
        DataType::Double => ("double_data", one),
        DataType::Complex128 => ("double_data", two),
        DataType::Int64 => ("int64_data", one),
        DataType::Uint32 | DataType::Uint64 => ("uint64_data", one),
        DataType::String => ("string_data", one),
        // Types narrower than a byte are packed: one entry per byte.
        _ if dtype.bits() < 8 => ("int32_data", Layout::bytes),
        _ => ("int32_data", one),
    }
}
