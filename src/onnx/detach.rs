//! Moving weights out of a model, into one external data file.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use bytes::Bytes;
use prost::Message;

use super::{
    check::at,
    decode::raw_bytes,
    layout::layout,
    proto::{
        ModelProto, StringStringEntryProto, TensorProto,
        tensor_proto::{DataLocation, DataType},
    },
    walk::{Place, stored},
};
use crate::error::Result;

/// Smaller tensors stay in the model file: shapes and axes that runtimes want at hand.
const MIN_BYTES: usize = 1024;

/// Weights from this size on start at a page, so that runtimes can map them.
const PAGED_BYTES: usize = 1 << 20;
const PAGE: u64 = 4096;

/// Others start where any vector instruction can load them.
const ALIGNMENT: u64 = 64;

/// The contents of a data file, not yet written.
pub(super) struct DataFile<'l> {
    location: &'l str,
    pieces: Vec<(u64, Bytes)>,
    /// Offsets by address and length of the shared bytes: what several tensors share is written once.
    known: BTreeMap<(usize, usize), u64>,
    end: u64,
}

impl<'l> DataFile<'l> {
    /// An empty file that tensors will find under this name beside the model file.
    pub(super) fn new(location: &'l str) -> Self {
        Self {
            location,
            pieces: Vec::new(),
            known: BTreeMap::new(),
            end: 0,
        }
    }

    /// Size in bytes.
    pub(super) fn len(&self) -> u64 {
        self.end
    }

    /// Writes the weights, with zeros between them where they are aligned.
    pub(super) fn write_to(&self, to: &mut impl Write) -> io::Result<()> {
        let mut at = 0;
        for (offset, bytes) in &self.pieces {
            io::copy(&mut io::Read::take(io::repeat(0), offset - at), to)?;
            to.write_all(bytes)?;
            at = offset + length(bytes);
        }
        Ok(())
    }

    fn add(&mut self, bytes: Bytes) -> u64 {
        let key = (bytes.as_ptr().addr(), bytes.len());
        if let Some(&offset) = self.known.get(&key) {
            return offset;
        }
        let alignment = if bytes.len() < PAGED_BYTES {
            ALIGNMENT
        } else {
            PAGE
        };
        let offset = self.end.next_multiple_of(alignment);
        self.end = offset + length(&bytes);
        self.known.insert(key, offset);
        self.pieces.push((offset, bytes));
        offset
    }
}

/// Moves the large initializers to the data file and, if the model is still larger than
/// `max_bytes`, the large tensors in attributes too, which fewer runtimes can read there.
///
/// # Errors
/// [`crate::Error::Invalid`] when the values of a tensor do not fit its shape.
pub(super) fn detach(
    model: &mut ModelProto,
    file: &mut DataFile<'_>,
    max_bytes: usize,
) -> Result<()> {
    detach_from(model, file, Place::Initializer)?;
    if model.encoded_len() > max_bytes {
        detach_from(model, file, Place::Attribute)?;
    }
    Ok(())
}

fn detach_from(model: &mut ModelProto, file: &mut DataFile<'_>, place: Place) -> Result<()> {
    for held in stored(model).into_tensors() {
        let layout = layout(held.tensor).map_err(|error| at(error, &held.site))?;
        let is_large = layout.bytes().is_some_and(|bytes| bytes >= MIN_BYTES);
        if held.place != place || !is_large || layout.dtype == DataType::String {
            continue;
        }
        let bytes = raw_bytes(held.tensor, &layout).map_err(|error| at(error, &held.site))?;
        let size = bytes.len();
        let offset = file.add(bytes);
        let entry = |key: &str, value: String| StringStringEntryProto {
            key: Some(key.to_owned()),
            value: Some(value),
        };
        let tensor = held.tensor;
        *tensor = TensorProto {
            dims: std::mem::take(&mut tensor.dims),
            data_type: tensor.data_type,
            name: tensor.name.take(),
            doc_string: tensor.doc_string.take(),
            metadata_props: std::mem::take(&mut tensor.metadata_props),
            data_location: Some(DataLocation::External.into()),
            external_data: vec![
                entry("location", file.location.to_owned()),
                entry("offset", offset.to_string()),
                entry("length", size.to_string()),
            ],
            ..TensorProto::default()
        };
    }
    Ok(())
}

fn length(bytes: &Bytes) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}
