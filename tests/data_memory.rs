//! Archives and tables that unpack to far more than they are take little memory.
//!
//! The peak is that of the process, so this is the only test of its programme.

#![cfg(target_os = "linux")]
#![expect(
    clippy::unwrap_used,
    reason = "a panic is the failure report of a test"
)]

mod process;

use std::{fs, io::Write, path::Path};

use flate2::{Compression, write::GzEncoder};
use onnx_prune::data::{DataOptions, Dataset, InputShape};
use process::status_bytes;

/// The programme itself, the test harness, the bombs and the buffers between them.
const REST_BYTES: usize = 96 << 20;

/// Zeros that are packed at a time.
const ZEROS: usize = 32 << 20;

fn open(path: &Path) -> onnx_prune::Result<Dataset> {
    let dims = [None, Some(3), Some(32), Some(32)];
    let shape = InputShape::from_dims(&dims, None).unwrap();
    Dataset::open(path, &DataOptions::new(shape, "images"))
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(vec![], Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

/// An archive of one member of zeros, packed in pieces as gzip allows.
fn zeros(name: &str, pieces: usize) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.set_path(name).unwrap();
    header.set_size((pieces * ZEROS) as u64);
    header.set_cksum();
    let piece = gzip(&vec![0; ZEROS]);
    let mut archive = gzip(header.as_bytes());
    (0..pieces).for_each(|_| archive.extend(&piece));
    archive
}

#[test]
fn what_unpacks_to_too_much_is_refused_in_little_memory() {
    let folder = tempfile::tempdir().unwrap();
    // 1.1 GiB each: one as something that is passed over, one as a batch.
    let cases = [
        ("readme.html", "unpacks to more than the limit of 1.0 GiB"),
        (
            "data_batch_1.bin",
            "data_batch_1.bin has 1.1 GiB, the limit is 256.0 MiB",
        ),
    ];
    for (name, part) in cases {
        let path = folder.path().join("cifar.tar.gz");
        let member = format!("cifar-10-batches-bin/{name}");
        fs::write(&path, zeros(&member, (1152 << 20) / ZEROS)).unwrap();
        let message = open(&path).err().unwrap().to_string();
        assert!(message.contains(part), "{name}: {message}");
        let peak = status_bytes("VmHWM");
        assert!(peak < REST_BYTES, "{name}: {peak}");
    }
    #[cfg(feature = "parquet")]
    tables::are_read_in_little_memory(folder.path());
}

#[cfg(feature = "parquet")]
mod tables {
    use std::{fs, io::Cursor, path::Path, sync::Arc};

    use parquet::{
        basic::Compression,
        data_type::{ByteArray, ByteArrayType},
        file::{properties::WriterProperties, writer::SerializedFileWriter},
        schema::parser::parse_message_type,
    };

    use image::{GrayImage, ImageFormat};

    use super::{REST_BYTES, open};
    use crate::process::status_bytes;

    /// Rows that are written at a time.
    const STEP: usize = 1 << 14;

    /// A file of `rows` rows with this image and this label in all of them.
    fn repeated(rows: usize, image: Vec<u8>, label: &str, properties: WriterProperties) -> Vec<u8> {
        let columns = "optional group image { optional binary bytes; } required binary label;";
        let schema = parse_message_type(&format!("message table {{ {columns} }}")).unwrap();
        let mut file = vec![];
        let (schema, properties) = (Arc::new(schema), Arc::new(properties));
        let mut writer = SerializedFileWriter::new(&mut file, schema, properties).unwrap();
        let mut group = writer.next_row_group().unwrap();
        let images = (ByteArray::from(image), Some(2));
        for (value, level) in [images, (ByteArray::from(label), None)] {
            let mut column = group.next_column().unwrap().unwrap();
            for first in (0..rows).step_by(STEP) {
                let rows = STEP.min(rows - first);
                let levels = level.map(|level| vec![level; rows]);
                let values = vec![value.clone(); rows];
                let column = column.typed::<ByteArrayType>();
                column
                    .write_batch(&values, levels.as_deref(), None)
                    .unwrap();
            }
            column.close().unwrap();
        }
        group.close().unwrap();
        writer.close().unwrap();
        file
    }

    /// Lets the peak begin anew.
    fn forget_peak() {
        fs::write("/proc/self/clear_refs", "5").unwrap();
    }

    pub(super) fn are_read_in_little_memory(folder: &Path) {
        let path = folder.join("a.parquet");
        let mut png = Cursor::new(vec![]);
        let image = GrayImage::new(1, 1);
        image.write_to(&mut png, ImageFormat::Png).unwrap();
        let png = png.into_inner();
        let plain = WriterProperties::builder().build();
        // 2 million rows in a few kilobytes: half a gigabyte of labels.
        fs::write(
            &path,
            repeated(1 << 21, png.clone(), &"n".repeat(250), plain.clone()),
        )
        .unwrap();
        forget_peak();
        let data = open(&path).unwrap();
        assert_eq!((data.len(), data.labels().unwrap()[5]), (1 << 21, 0));
        let peak = status_bytes("VmHWM");
        assert!(peak < 2 * REST_BYTES, "labels: {peak}");
        drop(data);

        fs::write(&path, repeated(20, png, &"n".repeat(257), plain)).unwrap();
        let message = open(&path).err().unwrap().to_string();
        assert!(
            message.contains("a label of 257 bytes, the limit of a name is 256"),
            "{message}"
        );

        let packed = WriterProperties::builder()
            .set_dictionary_enabled(false)
            .set_compression(Compression::ZSTD(Default::default()))
            .build();
        fs::write(&path, repeated(10, vec![0; 32 << 20], "n", packed)).unwrap();
        forget_peak();
        let message = open(&path).err().unwrap().to_string();
        assert!(
            message.contains("of images to 320.0 MiB, which no images do"),
            "{message}"
        );
        let peak = status_bytes("VmHWM");
        assert!(peak < 2 * REST_BYTES, "images: {peak}");
    }
}
