//! Rows of Parquet files as encoded images.
//!
//! Labels are read when the files are opened. Images are read in runs of neighbouring rows, of which the last few stay in
//! memory: batches ask for neighbours. Like Hugging Face's `datasets`, and unlike folders, images are turned upright
//! as their EXIF says.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufReader, Cursor, Read as _, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use parquet::basic::Type;
use parquet::column::reader::{ColumnReaderImpl, get_typed_column_reader};
use parquet::data_type::{ByteArray, ByteArrayType, DataType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use sha2::{Digest, Sha256};

use super::super::dataset::DataOptions;
use super::super::decode::{Stream, Turning, contained};
use super::super::files::written;
use super::super::images::{Classes, Encoded, Headers, ImageSource, classes_of};
use super::super::problem::{Problem, Read, readable_bytes};
use super::super::readers::{Opened, at};
use super::super::shards::{self, shard_note};
use super::pages;
use super::schema::{Labels, Schema};
use crate::error::{Error, Result};

/// Bytes of images in one run of rows.
const RUN_BYTES: i64 = 8 << 20;
/// Most rows of one run.
const RUN_ROWS: usize = 1024;
/// Bytes of images of a row group that may be packed as tightly as can be.
const MOST_PACKED: i64 = 256 << 20;
/// How many bytes one byte may hold beyond that: images are packed already.
const MOST_RATIO: i64 = 1000;
/// Most rows of one data set: ImageNet has 1.3 million images.
const MOST_ROWS: usize = 1 << 24;
/// Most bytes of one label.
const MOST_LABEL: usize = 256;
/// Rows whose labels are read at a time.
const LABEL_ROWS: usize = 1 << 14;
/// Runs that stay in memory for each thread: a search through all samples begins in as many places at once.
const KEPT_RUNS: usize = 4;

pub(in super::super) fn open(path: &Path, options: &DataOptions) -> Result<Opened> {
    let paths = shards::find(path, options.part.as_deref(), super::is_shard)?;
    let mut table = Table::default();
    let mut labels = Some(vec![]);
    let mut first: Option<Schema> = None;
    for file in paths {
        let (schema, found) = table.add(&file)?;
        labels = labels.zip(found).map(|(mut all, found): (Vec<_>, _)| {
            all.extend(found);
            all
        });
        let known = first.get_or_insert_with(|| schema.clone());
        if (known.labels.is_some(), &known.class_names)
            != (schema.labels.is_some(), &schema.class_names)
        {
            let what = "has other columns or classes than the files before it";
            return Err(Problem::from(what).at(&file));
        }
    }
    let (Some(schema), total @ 1..) = (first, table.total()) else {
        return Err(Problem::from("holds no rows").at(path));
    };
    let classes = classes(labels, schema.class_names).map_err(at(path))?;
    let of = match (&classes.names, &classes.labels) {
        (Some(names), Some(_)) => format!("of {} classes", names.len()),
        (None, Some(_)) => "with class numbers".to_owned(),
        (_, None) => "without labels".to_owned(),
    };
    let notes = vec![
        format!("images from the column {:?}", schema.image_name),
        shard_note(table.files.len(), "file"),
    ];
    ImageSource {
        total,
        classes,
        stored: format!("{total} images {of}"),
        notes,
        turning: Turning::Upright,
        headers: Headers::First,
        encoded: Box::new(table),
    }
    .open(path, options)
}

/// Labels as they are written, into numbers. A set whose labels are all -1 is published without them.
fn classes(labels: Option<Vec<Arc<str>>>, names: Option<Vec<String>>) -> Read<Classes> {
    let Some(labels) = labels.filter(|labels| labels.iter().any(|label| **label != *"-1")) else {
        return Ok(Classes::default());
    };
    let found = classes_of(&labels)?;
    let Some(names) = names else {
        return Ok(found);
    };
    let largest = found.labels.iter().flatten().max();
    match largest {
        Some(&largest) if largest >= names.len() => Err(format!(
            "has the label {largest}, but only {} class names",
            names.len()
        )
        .into()),
        _ => Ok(Classes {
            names: Some(names),
            ..found
        }),
    }
}

/// All rows of all files.
#[derive(Default)]
struct Table {
    files: Vec<TableFile>,
    runs: Vec<Run>,
    /// The runs that were read last, oldest first.
    kept: Mutex<Vec<(usize, Shelf)>>,
}

struct TableFile {
    path: PathBuf,
    length: u64,
    /// Position of the images among the columns.
    column: usize,
}

/// Neighbouring rows of one row group.
struct Run {
    file: usize,
    group: usize,
    /// Rows of the group.
    rows: Range<usize>,
    /// Number of the first row, counted over all files.
    first: usize,
}

/// The encoded images of a run; `None` where a row has none.
type Images = Result<Vec<Option<ByteArray>>, String>;
type Shelf = Arc<OnceLock<Images>>;

impl Table {
    fn total(&self) -> usize {
        self.runs.last().map_or(0, |run| run.first + run.rows.len())
    }

    /// Takes up one more file; returns its labels.
    fn add(&mut self, path: &Path) -> Result<(Schema, Option<Vec<Arc<str>>>)> {
        let length = path.metadata().map_err(Error::io(path))?.len();
        let read = || {
            let reader = reader(path)?;
            let schema = Schema::of(reader.metadata())?;
            let labelled = schema.labels.as_ref().map(|labels| labels.column);
            for column in labelled.into_iter().chain([schema.images]) {
                check_pages(path, length, &reader, column)?;
            }
            let labels = schema.labels.map(|labels| read_labels(&reader, labels));
            let runs = self.groups(&reader, schema.images)?;
            Ok((schema, labels.transpose()?, runs))
        };
        let (schema, labels, runs) = contained("the Parquet reader", read).map_err(at(path))?;
        self.runs.extend(runs);
        self.files.push(TableFile {
            path: path.to_owned(),
            length,
            column: schema.images,
        });
        Ok((schema, labels))
    }

    /// The runs of all row groups of a file.
    fn groups(&self, reader: &SerializedFileReader<File>, column: usize) -> Read<Vec<Run>> {
        let (mut runs, mut first) = (vec![], self.total());
        for (group, metadata) in reader.metadata().row_groups().iter().enumerate() {
            let declared = metadata.num_rows();
            let rows = usize::try_from(declared).ok();
            let rows = rows.filter(|&rows| rows <= MOST_ROWS && first <= MOST_ROWS);
            let rows = rows.ok_or_else(|| {
                format!("declares {declared} rows in one group, the limit is {MOST_ROWS} in all")
            })?;
            let images = metadata.column(column);
            let (packed, unpacked) = (images.compressed_size(), images.uncompressed_size());
            if unpacked > MOST_PACKED && unpacked / packed.max(1) > MOST_RATIO {
                let [packed, unpacked] =
                    [packed, unpacked].map(|size| readable_bytes(size.max(0) as u64));
                let what = format!("unpacks {packed} of images to {unpacked}, which no images do");
                return Err(what.into());
            }
            let each = unpacked.checked_div(declared).unwrap_or(0).max(1);
            let step = usize::try_from(RUN_BYTES / each).unwrap_or(1);
            for start in (0..rows).step_by(step.clamp(1, RUN_ROWS)) {
                let rows = start..rows.min(start + step.clamp(1, RUN_ROWS));
                let after = first + rows.len();
                runs.push(Run {
                    file: self.files.len(),
                    group,
                    rows,
                    first,
                });
                first = after;
            }
        }
        Ok(runs)
    }

    /// The images of a run, read by the first who asks.
    fn images(&self, run: usize) -> Shelf {
        let shelf = {
            // Whoever panicked left the list as it was.
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            let known = kept.iter().position(|(number, _)| *number == run);
            let entry = match known {
                Some(at) => kept.remove(at),
                None => (run, Shelf::default()),
            };
            let shelf = Arc::clone(&entry.1);
            kept.push(entry);
            if kept.len() > KEPT_RUNS * rayon::current_num_threads() {
                kept.remove(0);
            }
            shelf
        };
        shelf.get_or_init(|| {
            let read = || self.read(&self.runs[run]);
            contained("the Parquet reader", read).map_err(|problem| problem.text())
        });
        shelf
    }

    fn read(&self, run: &Run) -> Read<Vec<Option<ByteArray>>> {
        let file = &self.files[run.file];
        let reader = reader(&file.path)?;
        let mut values = Values::<ByteArrayType>::open(&reader, file.column, run.group)?;
        values
            .reader
            .skip_records(run.rows.start)
            .map_err(problem)?;
        values.next(run.rows.len())
    }
}

impl Encoded for Table {
    fn open(&self, index: usize) -> Read<Box<dyn Stream + '_>> {
        let run = self.runs.partition_point(|run| run.first <= index) - 1;
        let row = index - self.runs[run].first;
        let shelf = self.images(run);
        match shelf.get() {
            Some(Ok(images)) => match images.get(row) {
                Some(Some(image)) => Ok(Box::new(Cursor::new(image.clone()))),
                _ => Err("has no bytes".into()),
            },
            Some(Err(what)) => Err(what.as_str().into()),
            None => Err("was not read".into()),
        }
    }

    fn name(&self, index: usize) -> String {
        let run = self.runs.partition_point(|run| run.first <= index) - 1;
        let of_file = |other: &&Run| other.file == self.runs[run].file;
        let first = self.runs.iter().find(of_file).map_or(0, |run| run.first);
        let row = index - first;
        match self.files.len() {
            1 => format!("row {row}"),
            _ => {
                let path = &self.files[self.runs[run].file].path;
                let file = path.file_name().unwrap_or_default().to_string_lossy();
                format!("{file}: row {row}")
            }
        }
    }

    /// The footers: they hold the place and size of every column of every row group.
    fn digest(&self, hash: &mut Sha256) -> Result<()> {
        for file in &self.files {
            hash.update(file.length.to_le_bytes());
            hash.update(footer(&file.path).map_err(Error::io(&file.path))?);
        }
        Ok(())
    }

    fn digest_times(&self, hash: &mut Sha256) -> Result<()> {
        self.files
            .iter()
            .try_for_each(|file| written(&file.path, hash))
    }
}

fn reader(path: &Path) -> Read<SerializedFileReader<File>> {
    SerializedFileReader::new(File::open(path)?).map_err(problem)
}

/// Refuses columns with pages that are larger than the footer says, or that lie beyond the file.
fn check_pages(
    path: &Path,
    length: u64,
    reader: &SerializedFileReader<File>,
    column: usize,
) -> Read<()> {
    let mut file = BufReader::new(File::open(path)?);
    for group in reader.metadata().row_groups() {
        let column = group.column(column);
        let (start, packed) = column.byte_range();
        if start.saturating_add(packed) > length {
            let packed = readable_bytes(packed);
            return Err(format!("declares a column of {packed} beyond its end").into());
        }
        let unpacked = u64::try_from(column.uncompressed_size()).unwrap_or(0);
        pages::check(&mut file, (start, packed), unpacked)?;
    }
    Ok(())
}

/// The end of a file; its last 8 bytes are its length and a magic number.
fn footer(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::End(-8))?;
    let mut length = [0; 4];
    file.read_exact(&mut length)?;
    file.seek(SeekFrom::End(-8 - i64::from(u32::from_le_bytes(length))))?;
    let mut bytes = vec![];
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// All labels as they are written; equal ones are held once.
fn read_labels(reader: &SerializedFileReader<File>, labels: Labels) -> Read<Vec<Arc<str>>> {
    let mut all = Written::default();
    for (group, metadata) in reader.metadata().row_groups().iter().enumerate() {
        let rows = usize::try_from(metadata.num_rows()).unwrap_or(usize::MAX);
        if rows > MOST_ROWS {
            return Err(
                format!("declares {rows} rows in one group, the limit is {MOST_ROWS}").into(),
            );
        }
        let column = (labels.column, group);
        match labels.kind {
            Type::INT32 => all.add::<Int32Type>(reader, column, rows, text)?,
            Type::INT64 => all.add::<Int64Type>(reader, column, rows, text)?,
            Type::BYTE_ARRAY => all.add::<ByteArrayType>(reader, column, rows, label)?,
            kind => return Err(format!("has labels of the type {kind}").into()),
        }
    }
    Ok(all.labels)
}

/// Labels as they are written.
#[derive(Default)]
struct Written {
    labels: Vec<Arc<str>>,
    known: BTreeSet<Arc<str>>,
}

impl Written {
    /// Takes up the labels of a row group.
    fn add<T: DataType>(
        &mut self,
        reader: &SerializedFileReader<File>,
        (column, group): (usize, usize),
        rows: usize,
        text: impl Fn(T::T) -> Read<String>,
    ) -> Read<()> {
        let mut values = Values::<T>::open(reader, column, group)?;
        for first in (0..rows).step_by(LABEL_ROWS) {
            let found = values.next(LABEL_ROWS.min(rows - first))?;
            for (row, value) in (first..).zip(found) {
                let lacks = || format!("lacks the label of row {row} of a group");
                let text = text(value.ok_or_else(lacks)?)?;
                let known = self.known.get(text.as_str()).cloned();
                let label = known.unwrap_or_else(|| Arc::from(text));
                self.known.insert(Arc::clone(&label));
                self.labels.push(label);
            }
        }
        Ok(())
    }
}

fn text(value: impl ToString) -> Read<String> {
    Ok(value.to_string())
}

fn label(bytes: ByteArray) -> Read<String> {
    match bytes.len() {
        0..=MOST_LABEL => Ok(String::from_utf8_lossy(bytes.data()).into_owned()),
        long => {
            Err(format!("has a label of {long} bytes, the limit of a name is {MOST_LABEL}").into())
        }
    }
}

/// Values of one column of a row group, one after the other.
struct Values<T: DataType> {
    reader: ColumnReaderImpl<T>,
    /// The level of a value that is there.
    present: i16,
}

impl<T: DataType> Values<T> {
    fn open(reader: &SerializedFileReader<File>, column: usize, group: usize) -> Read<Self> {
        let schema = reader.metadata().file_metadata().schema_descr();
        let present = schema.column(column).max_def_level();
        let group = reader.get_row_group(group).map_err(problem)?;
        let reader = group.get_column_reader(column).map_err(problem)?;
        Ok(Self {
            reader: get_typed_column_reader(reader),
            present,
        })
    }

    /// The next values; `None` where there is none.
    fn next(&mut self, rows: usize) -> Read<Vec<Option<T::T>>> {
        let (mut levels, mut found, mut read) = (vec![], vec![], 0);
        while read < rows {
            let left = rows - read;
            let records = self
                .reader
                .read_records(left, Some(&mut levels), None, &mut found);
            match records.map_err(problem)? {
                (0, ..) => return Err(Problem::Io(io::ErrorKind::UnexpectedEof.into())),
                (records, ..) => read += records,
            }
        }
        let mut found = found.into_iter();
        Ok(match self.present {
            0 => found.map(Some).collect(),
            present => {
                let value = |level: i16| (level == present).then(|| found.next()).flatten();
                levels.into_iter().map(value).collect()
            }
        })
    }
}

fn problem(error: ParquetError) -> Problem {
    match error {
        ParquetError::External(source) => Problem::Content(format!("cannot be read: {source}")),
        error => Problem::Content(format!("is no readable Parquet file: {error}")),
    }
}
