//! Sizes of a column's pages, looked at before any page is unpacked.
//!
//! A footer tells the size of a column, but not of its pages; each page stands behind a header in Thrift's compact
//! protocol, whose second and third field are its size unpacked and packed. The `parquet` crate makes room for as much
//! as a header declares, up to 2 GiB.

use std::io::{self, Read as _, Seek, SeekFrom};

use super::super::problem::{Problem, Read, readable_bytes};

/// Pages of so many bytes, unpacked, are let pass whatever the footer says: writers count columns in several ways.
const MOST_SMALL: u64 = 16 << 20;
/// How deeply structures in a header may lie in each other; those of the format do three times.
const MOST_NESTED: usize = 16;

/// What a header tells of its page.
#[derive(Debug, Default, PartialEq)]
struct Page {
    unpacked: i64,
    packed: i64,
}

/// Refuses a column with a page larger than the whole column is said to be; `place` is where the column
/// begins and how long it is, `unpacked` how long without compression.
pub(super) fn check(
    file: &mut (impl io::Read + Seek),
    (start, length): (u64, u64),
    unpacked: u64,
) -> Read<()> {
    let most = unpacked.max(MOST_SMALL);
    let end = start.saturating_add(length);
    let mut at = start;
    file.seek(SeekFrom::Start(at))?;
    while at < end {
        let mut header = Header {
            bytes: file.by_ref(),
            used: 0,
        };
        let page = header.page()?;
        let (Ok(size), Ok(packed)) = (u64::try_from(page.unpacked), u64::try_from(page.packed))
        else {
            return Err("has a page of a negative size".into());
        };
        if size > most {
            let [size, whole] = [size, unpacked].map(readable_bytes);
            return Err(format!("has a page of {size} in a column of {whole}").into());
        }
        at += header.used + packed;
        // Within what is buffered, mostly: a file may have millions of small pages.
        file.seek_relative(page.packed)?;
    }
    Ok(())
}

/// A header, byte by byte.
struct Header<R> {
    bytes: R,
    used: u64,
}

impl<R: io::Read> Header<R> {
    fn page(&mut self) -> Read<Page> {
        const INTEGER: u8 = 5;
        let mut page = Page::default();
        self.fields(MOST_NESTED, &mut |header, field, kind| {
            let place = match (field, kind) {
                (2, INTEGER) => &mut page.unpacked,
                (3, INTEGER) => &mut page.packed,
                _ => return Ok(false),
            };
            *place = header.signed()?;
            Ok(true)
        })?;
        Ok(page)
    }

    /// All fields of a structure: `take` is given the number and type of each, and tells whether it has read it.
    fn fields(
        &mut self,
        nested: usize,
        take: &mut dyn FnMut(&mut Self, i64, u8) -> Read<bool>,
    ) -> Read<()> {
        let mut field: i64 = 0;
        loop {
            let (step, kind) = self.halves()?;
            field = match (step, kind) {
                (_, 0) => return Ok(()),
                (0, _) => self.signed()?,
                (step, _) => field.saturating_add(i64::from(step)),
            };
            // A field that is true or false is its type.
            if !matches!(kind, 1 | 2) && !take(self, field, kind)? {
                self.skip(kind, nested)?;
            }
        }
    }

    /// Passes over a value.
    fn skip(&mut self, kind: u8, nested: usize) -> Read<()> {
        let Some(nested) = nested.checked_sub(1) else {
            return Err(broken());
        };
        match kind {
            1..=3 => self.pass(1),
            4..=6 => self.number().map(drop),
            7 => self.pass(8),
            8 => {
                let length = self.number()?;
                self.pass(length)
            }
            9 | 10 => {
                let (short, kind) = self.halves()?;
                let count = match short {
                    15 => self.number()?,
                    short => u64::from(short),
                };
                (0..count).try_for_each(|_| self.skip(kind, nested))
            }
            11 => {
                let count = self.number()?;
                let (key, value) = match count {
                    0 => return Ok(()),
                    _ => self.halves()?,
                };
                (0..count).try_for_each(|_| {
                    self.skip(key, nested)?;
                    self.skip(value, nested)
                })
            }
            12 => self.fields(nested, &mut |_, _, _| Ok(false)),
            _ => Err(broken()),
        }
    }

    fn pass(&mut self, count: u64) -> Read<()> {
        let passed = io::copy(&mut self.bytes.by_ref().take(count), &mut io::sink())?;
        self.used += passed;
        match passed == count {
            true => Ok(()),
            false => Err(broken()),
        }
    }

    fn byte(&mut self) -> Read<u8> {
        let mut byte = [0];
        self.bytes.read_exact(&mut byte)?;
        self.used += 1;
        Ok(byte[0])
    }

    /// The upper and the lower four bits of a byte.
    fn halves(&mut self) -> Read<(u8, u8)> {
        let byte = self.byte()?;
        Ok((byte >> 4, byte & 15))
    }

    /// Seven bits to a byte, the lowest first.
    fn number(&mut self) -> Read<u64> {
        let mut number = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 127) << shift;
            if byte < 128 {
                return Ok(number);
            }
        }
        Err(broken())
    }

    /// Its lowest bit is the sign.
    fn signed(&mut self) -> Read<i64> {
        let number = self.number()?;
        Ok((number >> 1) as i64 ^ -((number & 1) as i64))
    }
}

fn broken() -> Problem {
    "has a page whose header cannot be read".into()
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    /// Fields 1 to 3 of a header: type, 300 bytes unpacked, 5 packed.
    const SIZES: [u8; 7] = [0x15, 0x00, 0x15, 0xd8, 0x04, 0x15, 0x0a];

    fn header(rest: &[u8]) -> Vec<u8> {
        [&SIZES[..], rest].concat()
    }

    fn read(bytes: &[u8]) -> Read<(Page, u64)> {
        let mut header = Header { bytes, used: 0 };
        let page = header.page()?;
        Ok((page, header.used))
    }

    #[test]
    fn sizes_are_found_whatever_follows_them() {
        let cases: [&[u8]; 8] = [
            &[],
            // field 4 an integer, field 5 a structure with an integer and one that is true
            &[0x15, 0x07, 0x1c, 0x15, 0x02, 0x11, 0x00],
            // text of three bytes; eight bytes
            &[0x18, 3, b'a', b'b', b'c', 0x17, 0, 0, 0, 0, 0, 0, 0, 0],
            // two integers in a list; sixteen bytes in a list with its own count
            &[0x19, 0x25, 0x02, 0x04],
            &[
                0x19, 0xf3, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
            ],
            // a map of none, and of one text to one truth
            &[0x1b, 0, 0x1b, 1, 0x81, 1, b'k', 1],
            // a field by its number, 100
            &[0x05, 0xc8, 0x01, 0x02],
            &[0x13, 0xff],
        ];
        for rest in cases {
            let bytes = header(&[rest, &[0]].concat());
            let (page, used) = read(&bytes).unwrap();
            let expected = Page {
                unpacked: 300,
                packed: 5,
            };
            assert_eq!((page, used), (expected, bytes.len() as u64), "{rest:?}");
        }
    }

    #[test]
    fn headers_that_are_none_are_refused() {
        let deep = [0x1c; 40];
        let cases: [&[u8]; 6] = [
            // no end; a type that is none; text beyond the end
            &[],
            &[0x1e, 0],
            &[0x18, 0x7f, 0],
            // a number of more than ten bytes; a list without end
            &[0x15, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1, 0],
            &[0x19, 0xf3, 255, 255, 255, 255, 255, 255, 255, 255, 127],
            &deep,
        ];
        for rest in cases {
            assert!(read(&header(rest)).is_err(), "{rest:?}");
        }
    }

    #[test]
    fn pages_larger_than_their_column_are_refused() {
        let page = [header(&[0]), vec![0; 5]].concat();
        let two = [&page[..], &page].concat();
        let place = (3, two.len() as u64);
        let mut file = Cursor::new([&[9; 3][..], &two].concat());
        check(&mut file, place, 600).unwrap();
        // 2^31 - 1 bytes in the second of them.
        let large = [0x15, 0, 0x15, 0xfe, 0xff, 0xff, 0xff, 0x0f, 0x15, 0x0a, 0];
        let two = [&page[..], &large, &[0; 5]].concat();
        let problem = check(&mut Cursor::new(&two), (0, two.len() as u64), 600).unwrap_err();
        assert!(
            problem.text().contains("a page of 2.0 GiB"),
            "{}",
            problem.text()
        );
        // A size below 0.
        let negative = [0x15, 0, 0x15, 0x01, 0x15, 0x0a, 0];
        assert!(check(&mut Cursor::new(&negative), (0, 7), 600).is_err());
    }
}
