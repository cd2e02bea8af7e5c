//! Hugging Face image sets in Parquet files.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use onnx_prune::{
    Result,
    data::{Batch, DataOptions, Dataset, InputShape, OnBadSample},
};
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use tempfile::TempDir;

use crate::{png, repository};

/// For images of three channels and this size.
fn options(size: usize) -> DataOptions {
    let dims = [None, Some(3), Some(size), Some(size)];
    DataOptions::new(InputShape::from_dims(&dims, None).unwrap(), "images")
}

fn folder(files: &[(&str, Vec<u8>)]) -> TempDir {
    let folder = TempDir::new().unwrap();
    for (name, content) in files {
        fs::write(folder.path().join(name), content).unwrap();
    }
    folder
}

fn read_all(path: &Path, options: &DataOptions) -> Result<Batch> {
    let data = Dataset::open(path, options)?;
    data.read(&(0..data.len()).collect::<Vec<_>>())
}

#[test]
fn a_file_written_by_hugging_face_is_read() {
    let path = repository("tests/data/hugging-face.parquet");
    let data = Dataset::open(&path, &options(16)).unwrap();
    assert_eq!(data.labels(), Some([2, 0, 1, 1, 0, 2].as_slice()));
    assert_eq!(data.class_names().unwrap(), ["ant", "bee", "cat"]);
    let batch = data.read(&(0..6).collect::<Vec<_>>()).unwrap();
    let pixel = |sample: usize, row: usize, column: usize| {
        [0, 1, 2].map(|channel| {
            let value = batch.values[((sample * 3 + channel) * 16 + row) * 16 + column];
            (value * 255.0).round()
        })
    };
    for sample in 0..5 {
        let shade = 20.0 * sample as f32;
        assert_eq!(pixel(sample, 0, 0), [shade, 40.0, 200.0]);
        assert_eq!(pixel(sample, 15, 15), [250.0, shade, 10.0]);
        assert_eq!(pixel(sample, 15, 0), [shade, 40.0, 200.0]);
    }
    // The last one lies on its side: what was left is above. JPEG, so not to the last bit.
    let near = |found: [f32; 3], expected: [f32; 3]| {
        let worst = found
            .iter()
            .zip(expected)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max);
        assert!(worst <= 4.0, "{found:?} {expected:?}");
    };
    near(pixel(5, 0, 15), [100.0, 40.0, 200.0]);
    near(pixel(5, 15, 0), [250.0, 100.0, 10.0]);
    let text = data.describe();
    assert!(
        text.contains("6 images of 3 classes") && text.contains("\"image\""),
        "{text}"
    );
}

/// Writes rows in groups of two.
fn written(columns: &str, images: &[Option<&[u8]>], labels: &[i64], info: Option<&str>) -> Vec<u8> {
    let schema = Arc::new(parse_message_type(&format!("message table {{ {columns} }}")).unwrap());
    let entry = info.map(|info| KeyValue::new("huggingface".to_owned(), info.to_owned()));
    let properties = WriterProperties::builder()
        .set_key_value_metadata(entry.map(|entry| vec![entry]))
        .build();
    let mut file = vec![];
    let mut writer = SerializedFileWriter::new(&mut file, schema, Arc::new(properties)).unwrap();
    for (images, labels) in images.chunks(2).zip(labels.chunks(2)) {
        let mut group = writer.next_row_group().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        let values: Vec<ByteArray> = images
            .iter()
            .flatten()
            .map(|i| ByteArray::from(i.to_vec()))
            .collect();
        let levels: Vec<i16> = images
            .iter()
            .map(|image| 2 * i16::from(image.is_some()))
            .collect();
        column
            .typed::<ByteArrayType>()
            .write_batch(&values, Some(&levels), None)
            .unwrap();
        column.close().unwrap();
        if let Some(mut column) = group.next_column().unwrap() {
            column
                .typed::<Int64Type>()
                .write_batch(labels, None, None)
                .unwrap();
            column.close().unwrap();
        }
        group.close().unwrap();
    }
    writer.close().unwrap();
    file
}

const COLUMNS: &str = "optional group img { optional binary bytes; } required int64 fine_label;";

fn five(labels: &[i64], info: Option<&str>) -> Vec<u8> {
    let images: Vec<Vec<u8>> = (0..5).map(|red| png(2, red)).collect();
    let images: Vec<Option<&[u8]>> = images.iter().map(|image| Some(image.as_slice())).collect();
    written(COLUMNS, &images, labels, info)
}

#[test]
fn several_files_are_one_data_set() {
    let files = [
        ("train-00000-of-00002.parquet", five(&[4, 3, 2, 1, 0], None)),
        ("train-00001-of-00002.parquet", five(&[0, 0, 0, 0, 9], None)),
        ("test-00000-of-00001.parquet", five(&[-1; 5], None)),
    ];
    let folder = folder(&files);
    let open = |place: &str| {
        let path = PathBuf::from(format!("{}{place}", folder.path().display()));
        Dataset::open(&path, &options(2))
    };
    let data = open("#train").unwrap();
    assert_eq!(
        data.labels(),
        Some([4, 3, 2, 1, 0, 0, 0, 0, 0, 9].as_slice())
    );
    // In an order that leaves runs and comes back to them.
    let batch = data.read(&[9, 0, 8, 1, 7, 2, 6, 3, 5, 4]).unwrap();
    let reds: Vec<f32> = batch
        .values
        .iter()
        .step_by(12)
        .map(|v| (v * 255.0).round())
        .collect();
    assert_eq!(reds, [4.0, 0.0, 3.0, 1.0, 2.0, 2.0, 1.0, 3.0, 0.0, 4.0]);
    assert_eq!(
        open("/train-0000{0..1}-of-00002.parquet").unwrap().labels(),
        data.labels()
    );
    // Published without labels.
    assert_eq!(open("#test").unwrap().labels(), None);
    assert!(
        open("")
            .err()
            .unwrap()
            .to_string()
            .contains("holds the parts test, train")
    );
}

#[test]
fn rows_without_an_image_are_bad_samples() {
    let image = png(2, 7);
    let rows: [Option<&[u8]>; 5] = [None, Some(&image), Some(b"text"), Some(&image), None];
    let folder = folder(&[("a.parquet", written(COLUMNS, &rows, &[0, 1, 2, 3, 4], None))]);
    let path = folder.path().join("a.parquet");
    let error = read_all(&path, &options(2)).unwrap_err().to_string();
    assert!(error.contains("row 0: has no bytes"), "{error}");
    let skipping = DataOptions {
        on_bad_sample: OnBadSample::Skip,
        ..options(2)
    };
    let data = Dataset::open(&path, &skipping).unwrap();
    assert_eq!(data.labels(), Some([1, 3].as_slice()));
    let first: Vec<&str> = data
        .skipped()
        .unwrap()
        .first
        .iter()
        .map(|bad| &*bad.name)
        .collect();
    assert_eq!(first, ["row 0", "row 2", "row 4"]);
}

#[test]
fn broken_files_are_refused() {
    let whole = five(&[0, 1, 2, 3, 4], None);
    let names = |names: &str| {
        format!(
            r#"{{"info": {{"features": {{"img": {{"_type": "Image"}}, "fine_label": {{"_type": "ClassLabel", "names": {names}}}}}}}}}"#
        )
    };
    let mut footer = whole.clone();
    let at = footer.len() - 8;
    footer[at..at + 4].copy_from_slice(&[0xff, 0xff, 0xff, 0x7f]);
    let other = "optional group text { optional binary bytes; } required int64 fine_label;";
    let image = png(2, 1);
    // The first page begins behind the magic number; the second field of its header is its size.
    let mut page = written(COLUMNS, &[Some(&vec![7; 3 << 19])], &[1], None);
    assert!(
        page[6] == 0x15 && page[9] >= 0x80 && page[10] < 0x80,
        "a size of four bytes"
    );
    page[7..11].copy_from_slice(&[0xfe, 0xff, 0xff, 0x7f]);
    let cases = [
        (
            "a page of 128 MiB",
            page,
            "has a page of 128.0 MiB in a column of 1.5 MiB",
        ),
        (
            "cut",
            whole[..whole.len() / 2].to_vec(),
            "no readable Parquet file",
        ),
        ("magic alone", b"PAR1".to_vec(), "no readable Parquet file"),
        ("footer of 2 GiB", footer, "no readable Parquet file"),
        (
            "no images",
            written(other, &[Some(&image)], &[1], None),
            "has no column of images; it has: text.bytes, fine_label",
        ),
        (
            "negative label",
            five(&[0, 1, -2, 1, 1], None),
            "has the label \"-2\"",
        ),
        (
            "too few names",
            five(&[0, 1, 2, 1, 1], Some(&names("[\"a\", \"b\"]"))),
            "the label 2, but only 2 class names",
        ),
    ];
    for (caption, file, part) in cases {
        let folder = folder(&[("a.parquet", file)]);
        let error = read_all(&folder.path().join("a.parquet"), &options(2));
        let message = error.unwrap_err().to_string();
        assert!(message.contains(part), "{caption}: {message}");
    }
}

#[test]
fn changed_bytes_never_end_the_run() {
    let whole = fs::read(repository("tests/data/hugging-face.parquet")).unwrap();
    let mut state = 3_u32;
    let folder = folder(&[("a.parquet", whole.clone())]);
    let path: &Path = &folder.path().join("a.parquet");
    for _ in 0..300 {
        let mut changed = whole.clone();
        for _ in 0..3 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let at = (state >> 8) as usize % changed.len();
            changed[at] = (state >> 1) as u8;
        }
        fs::write(path, changed).unwrap();
        // Either outcome will do.
        let _ = read_all(path, &options(16)).is_ok();
    }
}

#[test]
fn images_of_one_pixel_and_of_too_many() {
    let read = |image: &[u8]| {
        let file = written(COLUMNS, &[Some(image)], &[0], None);
        let folder = folder(&[("a.parquet", file)]);
        read_all(&folder.path().join("a.parquet"), &options(4))
    };
    assert_eq!(read(&png(1, 51)).unwrap().values, [0.2; 48]);
    // The size stands in the first bytes; the sum behind it is not looked at before the limit is.
    let mut huge = png(1, 51);
    huge[16..24].copy_from_slice(&[0, 0, 0x4e, 0x20, 0, 0, 0x4e, 0x20]);
    let message = read(&huge).unwrap_err().to_string();
    assert!(message.contains("1 of 1 "), "{message}");
}

/// Where an image has no bytes its path is a name, and no file is looked for.
#[test]
fn paths_are_never_followed() {
    let columns = "optional group img { optional binary bytes; optional binary path; }";
    let schema = Arc::new(parse_message_type(&format!("message table {{ {columns} }}")).unwrap());
    let mut file = vec![];
    let mut writer = SerializedFileWriter::new(&mut file, schema, Arc::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    for (value, level) in [(None, 1), (Some(ByteArray::from("../secret.png")), 2)] {
        let mut column = group.next_column().unwrap().unwrap();
        let values: Vec<ByteArray> = value.into_iter().collect();
        column
            .typed::<ByteArrayType>()
            .write_batch(&values, Some(&[level]), None)
            .unwrap();
        column.close().unwrap();
    }
    group.close().unwrap();
    writer.close().unwrap();
    let folder = folder(&[("secret.png", png(2, 7))]);
    fs::create_dir(folder.path().join("data")).unwrap();
    let path = folder.path().join("data/a.parquet");
    fs::write(&path, file).unwrap();
    let message = read_all(&path, &options(2)).unwrap_err().to_string();
    assert!(message.contains("row 0: has no bytes"), "{message}");
}
