//! The few opcodes of Python's pickle that the CIFAR archives use, as data: nothing is imported, called or executed.
//!
//! A pickle is a program for a stack machine. Here it may only build numbers, strings, lists, tuples and dictionaries;
//! what it would call becomes a [`Value::Called`] that the reader looks at. Any other opcode is an error. Values are
//! kept in one list and refer to each other by number, so that a value used twice is stored once and memory is bounded
//! by the number of opcodes. Opcodes: `Lib/pickletools.py` of CPython.

use std::collections::BTreeMap;
use std::ops::Range;

use super::problem::{Problem, Read};

/// Most values of one pickle: CIFAR-100 has 150,000.
const MOST_VALUES: usize = 1 << 20;

/// Number of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Id(usize);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Nothing,
    Bool(bool),
    Int(i64),
    /// Bytes or text, in the pickle.
    Bytes(Range<usize>),
    List(Vec<Id>),
    Tuple(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    /// What the pickle asks to import: module and name.
    Global(String, String),
    /// What the pickle would make by calling `function`, then setting `state`.
    Called {
        function: Id,
        arguments: Id,
        state: Option<Id>,
    },
}

/// A pickle as data.
pub(super) struct Pickle<'a> {
    bytes: &'a [u8],
    values: Vec<Value>,
    root: Id,
}

impl<'a> Pickle<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Read<Self> {
        let mut machine = Machine {
            bytes,
            at: 0,
            values: vec![],
            stack: vec![],
            marks: vec![],
            memo: BTreeMap::new(),
        };
        let root = machine.run()?;
        Ok(Self {
            bytes,
            values: machine.values,
            root,
        })
    }

    pub(super) fn root(&self) -> &Value {
        self.value(self.root)
    }

    pub(super) fn value(&self, id: Id) -> &Value {
        &self.values[id.0]
    }

    /// The value of a key that is a string.
    pub(super) fn entry(&self, dict: &Value, key: &str) -> Option<&Value> {
        let Value::Dict(entries) = dict else {
            return None;
        };
        let found = |&&(name, _): &&(Id, Id)| self.bytes(name) == Some(key.as_bytes());
        entries.iter().find(found).map(|&(_, id)| self.value(id))
    }

    pub(super) fn bytes(&self, id: Id) -> Option<&'a [u8]> {
        match self.value(id) {
            Value::Bytes(range) => Some(&self.bytes[range.clone()]),
            _ => None,
        }
    }

    /// Module and name of a function or class.
    pub(super) fn global(&self, id: Id) -> Option<(&str, &str)> {
        match self.value(id) {
            Value::Global(module, name) => Some((module, name)),
            _ => None,
        }
    }
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    values: Vec<Value>,
    stack: Vec<Id>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: BTreeMap<u64, Id>,
}

impl Machine<'_> {
    fn run(&mut self) -> Read<Id> {
        loop {
            let opcode = self.byte()?;
            match opcode {
                b'.' => return self.pop(),
                // PROTO and FRAME say nothing that matters here.
                0x80 => self.skip(1)?,
                0x95 => self.skip(8)?,
                b'(' => self.marks.push(self.stack.len()),
                b'q' | b'r' | 0x94 | b'h' | b'j' => self.memory(opcode)?,
                b'a' | b'e' | b's' | b'u' | b'b' => self.change(opcode)?,
                _ => {
                    let value = self.made(opcode)?;
                    self.push(value)?;
                }
            }
        }
    }

    /// Opcodes that put a new value on the stack.
    fn made(&mut self, opcode: u8) -> Read<Value> {
        Ok(match opcode {
            b'N' => Value::Nothing,
            0x88 => Value::Bool(true),
            0x89 => Value::Bool(false),
            b'K' => Value::Int(i64::from(self.byte()?)),
            b'M' => Value::Int(i64::from(u16::from_le_bytes(self.array()?))),
            b'J' => Value::Int(i64::from(i32::from_le_bytes(self.array()?))),
            0x8a => Value::Int(self.long()?),
            b'U' | b'C' | 0x8c => {
                let length = usize::from(self.byte()?);
                Value::Bytes(self.skip_range(length)?)
            }
            b'T' | b'X' | b'B' => {
                let length = u32::from_le_bytes(self.array()?) as usize;
                Value::Bytes(self.skip_range(length)?)
            }
            0x8d | 0x8e | 0x96 => {
                let length = usize::try_from(u64::from_le_bytes(self.array()?));
                Value::Bytes(self.skip_range(length.unwrap_or(usize::MAX))?)
            }
            b']' => Value::List(vec![]),
            b'}' => Value::Dict(vec![]),
            b')' => Value::Tuple(vec![]),
            0x85..=0x87 => {
                let length = usize::from(opcode - 0x84);
                let first = self.stack.len().checked_sub(length).ok_or_else(underflow)?;
                Value::Tuple(self.stack.split_off(first))
            }
            b't' => Value::Tuple(self.marked()?),
            b'c' => Value::Global(self.line()?, self.line()?),
            0x93 => {
                let (name, module) = (self.pop_text()?, self.pop_text()?);
                Value::Global(module, name)
            }
            b'R' => {
                let (arguments, function) = (self.pop()?, self.pop()?);
                Value::Called {
                    function,
                    arguments,
                    state: None,
                }
            }
            _ => {
                return Err(format!(
                    "holds the pickle opcode {opcode:#04x} at byte {}, which no CIFAR file needs",
                    self.at - 1
                )
                .into());
            }
        })
    }

    /// Opcodes that number the top of the stack, or put a numbered value there.
    fn memory(&mut self, opcode: u8) -> Read<()> {
        let key = match opcode {
            b'q' | b'h' => u64::from(self.byte()?),
            b'r' | b'j' => u64::from(u32::from_le_bytes(self.array()?)),
            _ => self.memo.len() as u64,
        };
        if matches!(opcode, b'h' | b'j') {
            let known = self.memo.get(&key).copied();
            let id = known.ok_or_else(|| format!("recalls the value {key} that it never kept"))?;
            return self.push_id(id);
        }
        let top = *self.stack.last().ok_or_else(underflow)?;
        self.memo.insert(key, top);
        Ok(())
    }

    /// Opcodes that change the value below what they take from the stack.
    fn change(&mut self, opcode: u8) -> Read<()> {
        let taken = match opcode {
            b'a' | b'b' => vec![self.pop()?],
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                vec![key, value]
            }
            _ => self.marked()?,
        };
        let target = *self.stack.last().ok_or_else(underflow)?;
        match (opcode, &mut self.values[target.0]) {
            (b'a' | b'e', Value::List(items)) => items.extend(taken),
            (b's' | b'u', Value::Dict(entries)) => {
                let pairs = taken.as_chunks::<2>().0;
                entries.extend(pairs.iter().map(|&[key, value]| (key, value)));
            }
            (b'b', Value::Called { state, .. }) => *state = taken.first().copied(),
            _ => return Err("changes a value of the wrong kind".into()),
        }
        Ok(())
    }

    fn push(&mut self, value: Value) -> Read<()> {
        let id = Id(self.values.len());
        self.values.push(value);
        self.push_id(id)
    }

    fn push_id(&mut self, id: Id) -> Read<()> {
        if self.values.len() > MOST_VALUES || self.stack.len() > MOST_VALUES {
            return Err(format!("makes more than {MOST_VALUES} values").into());
        }
        self.stack.push(id);
        Ok(())
    }

    fn pop(&mut self) -> Read<Id> {
        let id = self.stack.pop().ok_or_else(underflow)?;
        if let Some(mark) = self.marks.last_mut() {
            *mark = (*mark).min(self.stack.len());
        }
        Ok(id)
    }

    fn pop_text(&mut self) -> Read<String> {
        let id = self.pop()?;
        match &self.values[id.0] {
            Value::Bytes(range) => {
                Ok(String::from_utf8_lossy(&self.bytes[range.clone()]).into_owned())
            }
            _ => Err("names something to import by what is no text".into()),
        }
    }

    /// What lies above the last mark.
    fn marked(&mut self) -> Read<Vec<Id>> {
        let mark = self.marks.pop().ok_or_else(underflow)?;
        Ok(self.stack.split_off(mark.min(self.stack.len())))
    }

    fn long(&mut self) -> Read<i64> {
        let length = usize::from(self.byte()?);
        let range = self.skip_range(length)?;
        let bytes = &self.bytes[range];
        if length > 8 {
            return Err("holds a number of more than 64 bits".into());
        }
        let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
        let mut wide = [if negative { 0xff } else { 0 }; 8];
        wide[..length].copy_from_slice(bytes);
        Ok(i64::from_le_bytes(wide))
    }

    fn line(&mut self) -> Read<String> {
        let rest = &self.bytes[self.at..];
        let length = rest.iter().position(|&byte| byte == b'\n');
        let length = length.ok_or_else(truncated)?;
        let text = String::from_utf8_lossy(&rest[..length]).into_owned();
        self.at += length + 1;
        Ok(text)
    }

    fn byte(&mut self) -> Read<u8> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    fn array<const N: usize>(&mut self) -> Read<[u8; N]> {
        let range = self.skip_range(N)?;
        Ok(std::array::from_fn(|at| self.bytes[range.start + at]))
    }

    fn skip(&mut self, length: usize) -> Read<()> {
        self.skip_range(length).map(|_| ())
    }

    fn skip_range(&mut self, length: usize) -> Read<Range<usize>> {
        let end = self.at.checked_add(length);
        let end = end.filter(|&end| end <= self.bytes.len());
        let range = self.at..end.ok_or_else(truncated)?;
        self.at = range.end;
        Ok(range)
    }
}

fn truncated() -> Problem {
    Problem::Io(std::io::ErrorKind::UnexpectedEof.into())
}

fn underflow() -> Problem {
    Problem::Content("takes more from its stack than it put there".to_owned())
}

#[cfg(test)]
mod tests;
