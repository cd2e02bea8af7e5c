//! Members of tar archives, plain or gzipped, one after the other. Nothing is ever unpacked to disk.
//!
//! Names that the archive declares beside a member (GNU `L`, pax `x`) are read within bounds; links, sparse files and
//! devices are passed over.

use std::fs::File;
use std::io::{self, BufReader, Read as _, Seek, SeekFrom};
use std::path::{Component, Path};

use flate2::bufread::MultiGzDecoder;
use tar::{Archive, Entries, EntryType};

use super::problem::{Problem, Read, readable_bytes};
use super::readers::magic;

const GZIP: &[u8] = b"\x1f\x8b";
/// Size of a header, and of what sizes are rounded up to.
const BLOCK: u64 = 512;
/// Longest extended name, with whatever else a pax header says.
const MOST_EXTENDED: u64 = 1 << 16;
/// Most members of one archive: ImageNet has 1.3 million images.
const MOST_MEMBERS: usize = 1 << 24;

/// A regular file in an archive.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) name: String,
    /// Where its bytes begin in the unpacked archive.
    pub(super) offset: u64,
    pub(super) size: u64,
}

/// How an archive is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    Plain,
    Gzip,
}

/// Whether a file is a tar archive, by its first header, and for a plain one also by its name.
pub(super) fn packing(path: &Path) -> Option<Packing> {
    let start = magic::<512>(path);
    let named = |ending: &str| {
        path.to_string_lossy()
            .to_ascii_lowercase()
            .ends_with(ending)
    };
    if start.starts_with(GZIP) {
        return (is_header(&first_block(path)) || named(".tar.gz") || named(".tgz"))
            .then_some(Packing::Gzip);
    }
    (is_header(&start) || (path.is_file() && named(".tar"))).then_some(Packing::Plain)
}

fn is_header(block: &[u8]) -> bool {
    block.get(257..262) == Some(b"ustar")
}

/// The first block of the unpacked archive; shorter where it cannot be read.
pub(super) fn first_block(path: &Path) -> Vec<u8> {
    let mut block = vec![];
    if let Ok(file) = File::open(path) {
        let mut file = BufReader::new(file);
        // What could be read is all that is asked for.
        let _ = match magic::<2>(path).starts_with(GZIP) {
            true => MultiGzDecoder::new(file)
                .take(BLOCK)
                .read_to_end(&mut block),
            false => file.by_ref().take(BLOCK).read_to_end(&mut block),
        };
    }
    block
}

/// Calls `each` for every regular file with a reader of its bytes, in the order of the archive, which unpacks to at most
/// `limit` bytes.
pub(super) fn walk(
    path: &Path,
    packing: Packing,
    limit: u64,
    each: impl FnMut(&Member, &mut dyn io::Read) -> Read<()>,
) -> Read<()> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    match packing {
        Packing::Plain => {
            let mut archive = Archive::new(BufReader::new(file));
            let entries = archive.entries_with_seek().map_err(tar_problem)?;
            let end = members(entries, each)?;
            // Seeking over the last member does not show that it is not there; one empty block must follow.
            match end.saturating_add(BLOCK) <= length {
                true => Ok(()),
                false => Err(Problem::Io(io::ErrorKind::UnexpectedEof.into())),
            }
        }
        Packing::Gzip => {
            let unpacked = MultiGzDecoder::new(BufReader::new(file));
            let mut bounded = Bounded {
                reader: unpacked,
                left: limit,
                limit,
            };
            let mut archive = Archive::new(&mut bounded);
            members(archive.entries().map_err(tar_problem)?, each)?;
            // To the end, where the checksum is.
            io::copy(&mut bounded, &mut io::sink())?;
            Ok(())
        }
    }
}

/// Returns where the last member ends.
fn members<R: io::Read>(
    entries: Entries<'_, R>,
    mut each: impl FnMut(&Member, &mut dyn io::Read) -> Read<()>,
) -> Read<u64> {
    let (mut named, mut end) = (None, 0);
    for (number, entry) in entries.raw(true).enumerate() {
        let mut entry = entry.map_err(tar_problem)?;
        if number >= MOST_MEMBERS {
            return Err(format!("has more than {MOST_MEMBERS} members").into());
        }
        let (size, offset) = (entry.size(), entry.raw_file_position());
        let padded = size.checked_next_multiple_of(BLOCK);
        end = padded
            .and_then(|size| size.checked_add(offset))
            .ok_or("declares a member larger than any file can be")?;
        match entry.header().entry_type() {
            EntryType::GNULongName => named = Some(long_name(&mut entry, size)?),
            EntryType::XHeader => named = pax_name(&mut entry, size)?.or(named),
            EntryType::GNULongLink | EntryType::XGlobalHeader => {}
            EntryType::Regular | EntryType::Continuous => {
                let own = || String::from_utf8_lossy(&entry.header().path_bytes()).into_owned();
                let name = named.take().unwrap_or_else(own);
                stays_inside(&name)?;
                let member = Member { name, offset, size };
                each(&member, &mut entry)?;
            }
            _ => named = None,
        }
    }
    Ok(end)
}

/// Nothing is unpacked, but a name that climbs out has no honest reason.
fn stays_inside(name: &str) -> Read<()> {
    let mut parts = Path::new(name).components();
    match parts.any(|part| part == Component::ParentDir) {
        true => Err(format!("holds a member {name:?}, which climbs out of the archive").into()),
        false => Ok(()),
    }
}

fn extended(entry: &mut impl io::Read, size: u64) -> Read<Vec<u8>> {
    if size > MOST_EXTENDED {
        return Err(format!(
            "declares a name of {}, the limit is {}",
            readable_bytes(size),
            readable_bytes(MOST_EXTENDED)
        )
        .into());
    }
    let mut bytes = vec![];
    entry.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn long_name(entry: &mut impl io::Read, size: u64) -> Read<String> {
    let bytes = extended(entry, size)?;
    let name = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
    Ok(String::from_utf8_lossy(name).into_owned())
}

/// The `path` of a pax header, whose records are `LENGTH KEY=VALUE\n`.
fn pax_name(entry: &mut impl io::Read, size: u64) -> Read<Option<String>> {
    let bytes = extended(entry, size)?;
    let (mut rest, mut name) = (bytes.as_slice(), None);
    while let Some(space) = rest.iter().position(|&byte| byte == b' ') {
        let broken = "has a broken pax header";
        let length = std::str::from_utf8(&rest[..space]).ok();
        let length: usize = length.and_then(|text| text.parse().ok()).ok_or(broken)?;
        let record = rest.get(space + 1..length).ok_or(broken)?;
        let text = String::from_utf8_lossy(record);
        match text.trim_end_matches('\n').split_once('=') {
            Some(("path", path)) => name = Some(path.to_owned()),
            // Only for members of 8 GiB and more.
            Some(("size", _)) => return Err("holds a member of more than 8 GiB".into()),
            _ => {}
        }
        rest = &rest[length..];
    }
    Ok(name)
}

/// The archive reader reports broken content as errors of no kind.
fn tar_problem(error: io::Error) -> Problem {
    let text = error.to_string();
    if ["read entire block", "unexpected EOF"]
        .iter()
        .any(|part| text.contains(part))
    {
        return Problem::Io(io::ErrorKind::UnexpectedEof.into());
    }
    match error.kind() {
        io::ErrorKind::Other => Problem::Content(format!("is no readable tar archive: {error}")),
        _ => Problem::Io(error),
    }
}

/// A reader that fails instead of going on for ever.
struct Bounded<R> {
    reader: R,
    left: u64,
    limit: u64,
}

impl<R: io::Read> io::Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.left = self.left.checked_sub(read as u64).ok_or_else(|| {
            let limit = readable_bytes(self.limit);
            let what = format!("it unpacks to more than the limit of {limit}");
            io::Error::new(io::ErrorKind::InvalidData, what)
        })?;
        Ok(read)
    }
}

/// A part of a file, as a stream of its own.
pub(super) struct Section {
    file: File,
    start: u64,
    length: u64,
    at: u64,
}

impl Section {
    /// `start + length` does not overflow.
    pub(super) fn new(mut file: File, start: u64, length: u64) -> io::Result<Self> {
        file.seek(SeekFrom::Start(start))?;
        Ok(Self {
            file,
            start,
            length,
            at: 0,
        })
    }
}

impl io::Read for Section {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.length.saturating_sub(self.at);
        let most = usize::try_from(left).unwrap_or(usize::MAX);
        let most = most.min(buffer.len());
        let read = self.file.read(&mut buffer[..most])?;
        self.at += read as u64;
        Ok(read)
    }
}

impl Seek for Section {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.length.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        let outside = || io::Error::from(io::ErrorKind::InvalidInput);
        let target = target.ok_or_else(outside)?;
        let place = self.start.checked_add(target).ok_or_else(outside)?;
        self.file.seek(SeekFrom::Start(place))?;
        self.at = target;
        Ok(target)
    }
}

#[cfg(test)]
mod tests;
