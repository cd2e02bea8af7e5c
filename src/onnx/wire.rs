//! The protobuf wire format, walked without decoding: what the generated types would drop in
//! silence is found here.
//!
//! A file is a message; a message is a run of fields, each a tag (field number and wire type) and
//! a body. Payloads are skipped over, so the walk costs microseconds per megabyte of weights.
//! The walk keeps its own stack: no file can exhaust the program's.

use std::{fmt, ops::Range, sync::LazyLock};

/// Deepest nesting of messages: the decoder's own bound.
const MAX_DEPTH: usize = 100;

/// One row per message of `proto/onnx.proto`: full name; numbers of its fields and, where a field
/// is a message, that message's full name.
const FIELDS: &[(&str, &[(u32, &str)])] = include!(concat!(env!("OUT_DIR"), "/fields.rs"));

static SCHEMA: LazyLock<Vec<Message>> = LazyLock::new(|| {
    let index = |name: &str| FIELDS.iter().position(|row| row.0 == name);
    FIELDS
        .iter()
        .map(|&(name, fields)| Message {
            name: name.rsplit('.').next().unwrap_or(name),
            fields: fields.iter().map(|&(n, inner)| (n, index(inner))).collect(),
        })
        .collect()
});

struct Message {
    name: &'static str,
    /// Field number, and the row of the message that the field holds.
    fields: Vec<(u32, Option<usize>)>,
}

/// A message type: a row of the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MessageId(usize);

impl MessageId {
    /// The message of this name; the names are those of `proto/onnx.proto`.
    pub(super) fn named(name: &str) -> Option<Self> {
        let row = SCHEMA.iter().position(|message| message.name == name)?;
        Some(Self(row))
    }

    fn name(self) -> &'static str {
        SCHEMA[self.0].name
    }

    /// Whether there is such a field and, when it holds a message, which.
    fn field(self, number: u32) -> Option<Option<Self>> {
        let fields = &SCHEMA[self.0].fields;
        let (_, inner) = fields.iter().find(|field| field.0 == number)?;
        Some(inner.map(Self))
    }
}

/// One step of the walk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// A message begins; `tag` is the place of its tag, which the length follows.
    Enter { tag: Range<usize> },
    /// The innermost open message ends.
    Leave,
    /// A field that is no message.
    Field(Field),
}

/// A number, text, bytes or packed run of numbers. Ranges are places in the walked bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Field {
    /// The message that has the field.
    pub(super) message: MessageId,
    pub(super) number: u32,
    pub(super) tag: Range<usize>,
    /// The content, without the length in front of it.
    pub(super) body: Range<usize>,
    /// All of it.
    pub(super) whole: Range<usize>,
}

/// Why the walk cannot go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// A field reaches beyond the end of the file.
    CutShort {
        message: MessageId,
        at: usize,
        wanted: u64,
        left: usize,
    },
    /// A field that `proto/onnx.proto` does not have.
    Unknown {
        message: MessageId,
        number: u32,
        at: usize,
    },
    /// Bytes that are no field.
    Broken {
        message: MessageId,
        at: usize,
        what: &'static str,
    },
    /// Too many nested messages.
    TooDeep { at: usize },
    /// Too many messages.
    TooMany { limit: usize },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CutShort {
                message,
                at,
                wanted,
                left,
            } => write!(
                f,
                "truncated: a field of {} at byte {at} has {wanted} bytes, but the file ends \
                 after {left} of them",
                message.name()
            ),
            Self::Unknown {
                message,
                number,
                at,
            } => write!(
                f,
                "field {number} of {} at byte {at} is unknown to this program, which would lose \
                 it on writing",
                message.name()
            ),
            Self::Broken { message, at, what } => {
                write!(f, "{what} in {} at byte {at}", message.name())
            }
            Self::TooDeep { at } => write!(
                f,
                "messages are nested more than {MAX_DEPTH} deep at byte {at}"
            ),
            Self::TooMany { limit } => {
                write!(f, "the file has more than {limit} messages, the limit")
            }
        }
    }
}

/// Checks that the bytes are fields known to `proto/onnx.proto`, and at most so many messages.
pub(super) fn scan(bytes: &[u8], message_limit: usize) -> Result<(), Fault> {
    let mut messages = 0;
    for event in Walk::new(bytes) {
        if let Event::Enter { .. } = event? {
            messages += 1;
            if messages > message_limit {
                return Err(Fault::TooMany {
                    limit: message_limit,
                });
            }
        }
    }
    Ok(())
}

/// An iterator over the fields of a `ModelProto`, depth first; it ends after the first fault.
pub(super) struct Walk<'b> {
    bytes: &'b [u8],
    at: usize,
    open: Vec<(MessageId, usize)>,
}

impl<'b> Walk<'b> {
    pub(super) fn new(bytes: &'b [u8]) -> Self {
        let root = MessageId::named("ModelProto").map(|root| (root, bytes.len()));
        Self {
            bytes,
            at: 0,
            open: root.into_iter().collect(),
        }
    }

    fn step(&mut self, message: MessageId, end: usize) -> Result<Event, Fault> {
        let start = self.at;
        let (tag, after_tag) = self.varint(message, start, end)?;
        let number = u32::try_from(tag >> 3).unwrap_or(0);
        let broken = |what| Fault::Broken {
            message,
            at: start,
            what,
        };
        if number == 0 {
            return Err(broken("an impossible field number"));
        }
        let inner = message.field(number).ok_or(Fault::Unknown {
            message,
            number,
            at: start,
        })?;
        let (length, body_start) = match tag & 7 {
            0 => {
                let (_, next) = self.varint(message, after_tag, end)?;
                (u64::try_from(next - after_tag).unwrap_or(0), after_tag)
            }
            1 => (8, after_tag),
            2 => self.varint(message, after_tag, end)?,
            5 => (4, after_tag),
            _ => return Err(broken("an impossible wire type")),
        };
        let body = self.body(message, body_start, length, end)?;
        let tag_range = start..after_tag;
        let Some(inner) = inner else {
            self.at = body.end;
            return Ok(Event::Field(Field {
                message,
                number,
                tag: tag_range,
                whole: start..body.end,
                body,
            }));
        };
        if tag & 7 != 2 {
            return Err(broken("a number where a message belongs"));
        }
        // The file itself is one level, which the decoder does not count.
        if self.open.len() > MAX_DEPTH {
            return Err(Fault::TooDeep { at: start });
        }
        self.at = body.start;
        self.open.push((inner, body.end));
        Ok(Event::Enter { tag: tag_range })
    }

    /// Checks that a body ends with or before its message.
    fn body(
        &self,
        message: MessageId,
        start: usize,
        length: u64,
        end: usize,
    ) -> Result<Range<usize>, Fault> {
        let stop = usize::try_from(length)
            .ok()
            .and_then(|length| start.checked_add(length));
        match stop {
            Some(stop) if stop <= end => Ok(start..stop),
            Some(stop) if stop <= self.bytes.len() => Err(Fault::Broken {
                message,
                at: start,
                what: "a field longer than the message around it",
            }),
            _ => Err(Fault::CutShort {
                message,
                at: start,
                wanted: length,
                left: self.bytes.len() - start,
            }),
        }
    }

    /// Seven bits per byte, lowest first, the highest bit set on all but the last byte.
    fn varint(&self, message: MessageId, at: usize, end: usize) -> Result<(u64, usize), Fault> {
        let mut value = 0;
        for (index, &byte) in self.bytes[at..end].iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                return Ok((value, at + index + 1));
            }
        }
        if end == self.bytes.len() && end - at < 10 {
            let left = end - at;
            let wanted = u64::try_from(left).unwrap_or(0) + 1;
            return Err(Fault::CutShort {
                message,
                at,
                wanted,
                left,
            });
        }
        Err(Fault::Broken {
            message,
            at,
            what: "a number without end",
        })
    }
}

impl Iterator for Walk<'_> {
    type Item = Result<Event, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        let &(message, end) = self.open.last()?;
        if self.at == end {
            self.open.pop();
            // The end of the file closes the model, which was never entered.
            return (!self.open.is_empty()).then_some(Ok(Event::Leave));
        }
        let step = self.step(message, end);
        if step.is_err() {
            self.open.clear();
        }
        Some(step)
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::onnx::{
        GraphProto, ModelProto, NodeProto, walk::tests::model_with_tensors_everywhere,
    };

    #[test]
    fn every_field_that_is_a_message_names_one() {
        for (name, fields) in FIELDS {
            for (number, inner) in *fields {
                let is_known = inner.is_empty() || FIELDS.iter().any(|row| row.0 == *inner);
                assert!(is_known, "{name} field {number} holds {inner}");
            }
        }
        assert!(MessageId::named("ModelProto").is_some());
    }

    #[test]
    fn what_the_types_know_is_accepted() {
        let bytes = model_with_tensors_everywhere().encode_to_vec();
        assert_eq!(scan(&bytes, 1000), Ok(()));
        let fields = Walk::new(&bytes).filter(|event| matches!(event, Ok(Event::Field(_))));
        assert!(fields.count() > 50);
    }

    #[test]
    fn what_the_types_would_drop_is_refused() {
        let cases: [(&[u8], &str); 11] = [
            // Field 99 of the model.
            (
                &[0x08, 8, 0x98, 6, 1],
                "field 99 of ModelProto at byte 2 is unknown",
            ),
            // Field 99 of a node of the graph.
            (
                &[0x3a, 5, 0x0a, 3, 0x98, 6, 1],
                "field 99 of NodeProto at byte 4 is unknown",
            ),
            // A reserved field of the graph.
            (
                &[0x3a, 2, 0x18, 1],
                "field 3 of GraphProto at byte 2 is unknown",
            ),
            // A graph of 100 bytes of which 2 are there.
            (
                &[0x3a, 100, 0x0a, 0],
                "truncated: a field of ModelProto at byte 2 has 100 bytes, but the file ends after 2",
            ),
            // A length that goes on after the end.
            (
                &[0x3a, 0x80],
                "truncated: a field of ModelProto at byte 1 has 2 bytes",
            ),
            // A length that no memory holds.
            (
                &[
                    0x3a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1,
                ],
                "truncated: a field of ModelProto at byte 11 has 18446744073709551615 bytes",
            ),
            // A node longer than its graph.
            (
                &[0x3a, 3, 0x0a, 5, 0, 0, 0, 0, 0],
                "a field longer than the message around it in GraphProto at byte 4",
            ),
            // Field number 0.
            (
                &[0x00, 1],
                "an impossible field number in ModelProto at byte 0",
            ),
            // A group, which ONNX never had.
            (
                &[0x0b, 0x0c],
                "an impossible wire type in ModelProto at byte 0",
            ),
            // The graph as a number.
            (
                &[0x38, 1],
                "a number where a message belongs in ModelProto at byte 0",
            ),
            // A number of more than ten bytes.
            (
                &[
                    0x08, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0,
                ],
                "a number without end",
            ),
        ];
        for (bytes, expected) in cases {
            let seen = scan(bytes, 1000).map_err(|fault| fault.to_string());
            let fits = seen.as_ref().is_err_and(|text| text.starts_with(expected));
            assert!(fits, "{bytes:?}: {seen:?} instead of {expected}");
        }
    }

    #[test]
    fn depth_and_number_of_messages_are_bounded() {
        let nested = |depth: usize| {
            let mut graph = GraphProto::default();
            for _ in 0..depth {
                let node = NodeProto::new("If", &[], &[]).with_graph("then_branch", graph);
                graph = GraphProto::default();
                graph.node.push(node);
            }
            ModelProto::new(graph, 17).encode_to_vec()
        };
        // Three messages per level: graph, node, attribute. The decoder draws the same line.
        for (depth, expected) in [(33, true), (34, false)] {
            let bytes = nested(depth);
            assert_eq!(scan(&bytes, 1000).is_ok(), expected, "{depth}");
            assert_eq!(ModelProto::decode(&bytes[..]).is_ok(), expected, "{depth}");
        }
        assert_eq!(scan(&nested(2), 7), Err(Fault::TooMany { limit: 7 }));
        assert_eq!(scan(&nested(2), 8), Ok(()));
    }
}
