//! Encoding a model straight into a file, without a second copy of its weights in memory.
//!
//! prost encodes into memory only. So the weights are taken out first: a skeleton of the model, in
//! which each `raw_data` is a number, is encoded as usual, and while it is written each number is
//! replaced by the bytes it stands for. The messages around them grow by that, so one pass over
//! the skeleton computes their sizes before the second one writes.

use std::{
    io::{self, Write},
    mem,
};

use bytes::Bytes;
use prost::{Message, encode_length_delimiter, length_delimiter_len};

use super::{
    proto::ModelProto,
    walk::stored,
    wire::{Event, Fault, Field, MessageId, Walk},
};

/// Number of the field `raw_data` of `TensorProto`.
const RAW_DATA: u32 = 9;

/// An encoded model in parts.
pub(super) struct Stream {
    skeleton: Vec<u8>,
    payloads: Vec<Bytes>,
    tensor: Option<MessageId>,
    /// Final size of each message, in the order in which they begin; the first is the model.
    sizes: Vec<usize>,
}

impl Stream {
    /// Takes the model apart; costs memory for everything but `raw_data`.
    ///
    /// # Errors
    /// When messages are nested deeper than any reader accepts.
    pub(super) fn new(model: &ModelProto) -> io::Result<Self> {
        let (skeleton, payloads) = split(model.clone());
        let mut stream = Self {
            skeleton,
            payloads,
            tensor: MessageId::named("TensorProto"),
            sizes: vec![0],
        };
        stream.sizes = stream.measure().map_err(to_io)?;
        Ok(stream)
    }

    /// Size of the encoded model.
    pub(super) fn len(&self) -> usize {
        self.sizes[0]
    }

    /// Writes the encoded model: the bytes that `ModelProto::encode` would give.
    pub(super) fn write_to(&self, to: &mut impl Write) -> io::Result<()> {
        // Nobody writes the size of the model itself.
        let mut sizes = self.sizes[1..].iter();
        for event in Walk::new(&self.skeleton) {
            match event.map_err(to_io)? {
                Event::Enter { tag } => {
                    to.write_all(&self.skeleton[tag])?;
                    write_length(to, sizes.next().copied().unwrap_or(0))?;
                }
                Event::Leave => {}
                Event::Field(field) => match self.payload(&field) {
                    Some(payload) => {
                        to.write_all(&self.skeleton[field.tag])?;
                        write_length(to, payload.len())?;
                        to.write_all(payload)?;
                    }
                    None => to.write_all(&self.skeleton[field.whole])?,
                },
            }
        }
        Ok(())
    }

    fn measure(&self) -> Result<Vec<usize>, Fault> {
        let mut sizes = vec![0];
        // Places in `sizes` of the messages around the innermost one, which is `current`.
        let mut outer = Vec::new();
        let mut current = 0;
        for event in Walk::new(&self.skeleton) {
            match event? {
                Event::Enter { tag } => {
                    sizes[current] += tag.len();
                    outer.push(current);
                    current = sizes.len();
                    sizes.push(0);
                }
                Event::Leave => {
                    let size = sizes[current];
                    current = outer.pop().unwrap_or(0);
                    sizes[current] += length_delimiter_len(size) + size;
                }
                Event::Field(field) => {
                    sizes[current] += match self.payload(&field) {
                        Some(payload) => {
                            let length = length_delimiter_len(payload.len());
                            field.tag.len() + length + payload.len()
                        }
                        None => field.whole.len(),
                    }
                }
            }
        }
        Ok(sizes)
    }

    /// The weights that a field's number stands for. An empty `raw_data` was left as it is.
    fn payload(&self, field: &Field) -> Option<&Bytes> {
        if field.number != RAW_DATA || Some(field.message) != self.tensor {
            return None;
        }
        let number = self.skeleton[field.body.clone()].try_into().ok()?;
        let index = usize::try_from(u64::from_le_bytes(number)).ok()?;
        self.payloads.get(index)
    }
}

/// Replaces each non-empty `raw_data` by its place in the list of them.
fn split(mut model: ModelProto) -> (Vec<u8>, Vec<Bytes>) {
    let mut payloads = Vec::new();
    let mut number = 0_u64;
    for held in stored(&mut model).into_tensors() {
        if let Some(raw) = &mut held.tensor.raw_data
            && !raw.is_empty()
        {
            let stand_in = Bytes::copy_from_slice(&number.to_le_bytes());
            payloads.push(mem::replace(raw, stand_in));
            number += 1;
        }
    }
    (model.encode_to_vec(), payloads)
}

fn write_length(to: &mut impl Write, length: usize) -> io::Result<()> {
    let mut encoded = Vec::with_capacity(length_delimiter_len(length));
    encode_length_delimiter(length, &mut encoded)?;
    to.write_all(&encoded)
}

fn to_io(fault: Fault) -> io::Error {
    io::Error::other(fault.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::walk::tests::model_with_tensors_everywhere;

    #[test]
    fn stream_writes_what_prost_encodes() {
        let mut long = model_with_tensors_everywhere();
        // Lengths that need one, two and three bytes, an empty field, and a weight of eight bytes
        // that is the number of another one.
        for held in stored(&mut long).into_tensors() {
            let size = [0, 8, 100, 200, 20_000][held.tensor.name().len() % 5];
            held.tensor.raw_data = Some(vec![0; size].into());
        }
        for model in [ModelProto::default(), model_with_tensors_everywhere(), long] {
            let expected = model.encode_to_vec();
            let stream = Stream::new(&model).unwrap();
            let mut written = Vec::new();
            stream.write_to(&mut written).unwrap();
            assert_eq!(stream.len(), expected.len());
            assert!(written == expected, "{} bytes differ", expected.len());
        }
    }
}
