//! Files that the tests of several readers need, built in code.

use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};

use flate2::{Compression, write::GzEncoder};
use tempfile::TempDir;
use zip::{ZipWriter, write::SimpleFileOptions};

use super::{Batch, DataOptions, Dataset, InputShape};

/// A `.npy` file, version 1.
pub(super) fn npy(descr: &str, fortran: bool, shape: &str, data: &[u8]) -> Vec<u8> {
    let fortran = if fortran { "True" } else { "False" };
    let mut header =
        format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': ({shape}), }}");
    while (header.len() + 11) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend(u16::try_from(header.len()).unwrap().to_le_bytes());
    file.extend(header.as_bytes());
    file.extend(data);
    file
}

/// A `.npz` archive of members that are given with their `.npy`.
pub(super) fn npz(members: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut archive = ZipWriter::new(Cursor::new(vec![]));
    for (name, content) in members {
        archive
            .start_file(*name, SimpleFileOptions::default())
            .unwrap();
        archive.write_all(content).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

/// An IDX file of elements `code` and sizes `dims`.
pub(super) fn idx(code: u8, dims: &[u32], data: &[u8]) -> Vec<u8> {
    let mut file = vec![0, 0, code, u8::try_from(dims.len()).unwrap()];
    for dim in dims {
        file.extend(dim.to_be_bytes());
    }
    file.extend(data);
    file
}

pub(super) fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(vec![], Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

/// A temporary folder with these files.
pub(super) fn folder(files: &[(&str, Vec<u8>)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    folder
}

/// A tar archive of files.
pub(super) fn tar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(vec![]);
    for (name, content) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        // The builder refuses names that climb out, which are what some tests are about.
        let field = &mut header.as_gnu_mut().unwrap().name;
        if name.len() <= field.len() {
            field[..name.len()].copy_from_slice(name.as_bytes());
            header.set_cksum();
            archive.append(&header, *content).unwrap();
        } else {
            archive.append_data(&mut header, name, *content).unwrap();
        }
    }
    archive.into_inner().unwrap()
}

/// A PNG file of one colour.
pub(super) fn png(width: u32, height: u32, colour: [u8; 3]) -> Vec<u8> {
    let image = image::RgbImage::from_pixel(width, height, image::Rgb(colour));
    let mut file = Cursor::new(vec![]);
    image.write_to(&mut file, image::ImageFormat::Png).unwrap();
    file.into_inner()
}

/// The header of a member of a tar archive alone, with a checksum that is right.
pub(super) fn tar_header(kind: tar::EntryType, name: &str, size: u64) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.as_ustar_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_cksum();
    header.as_bytes().to_vec()
}

/// A PNG whose header declares this many grey pixels, with next to nothing behind it.
pub(super) fn declared_png(width: u32, height: u32) -> Vec<u8> {
    let chunk = |name: &[u8], content: &[u8]| {
        let mut sum = flate2::Crc::new();
        sum.update(name);
        sum.update(content);
        let length = u32::try_from(content.len()).unwrap().to_be_bytes();
        [&length, name, content, &sum.sum().to_be_bytes()].concat()
    };
    let sizes = [width.to_be_bytes(), height.to_be_bytes()].concat();
    let header = chunk(b"IHDR", &[sizes.as_slice(), &[8, 0, 0, 0, 0]].concat());
    let pixels = chunk(b"IDAT", &[0x78, 0x9c, 0x63]);
    [b"\x89PNG\r\n\x1a\n", header.as_slice(), &pixels].concat()
}

/// Options for an input of these dimensions behind the batch axis; 0 is open.
pub(super) fn options(dims: &[usize]) -> DataOptions {
    let known = dims.iter().map(|&dim| (dim > 0).then_some(dim));
    let dims: Vec<Option<usize>> = std::iter::once(None).chain(known).collect();
    DataOptions::new(InputShape::from_dims(&dims, None).unwrap(), "pixel_values")
}

/// The only batch of all samples of a data set.
pub(super) fn read_all(path: &Path, options: &DataOptions) -> crate::Result<Batch> {
    let data = Dataset::open(path, options)?;
    data.read(&(0..data.len()).collect::<Vec<_>>())
}

/// The message with which opening or reading the file fails.
pub(super) fn failure(name: &str, content: Vec<u8>, options: &DataOptions) -> String {
    let folder = folder(&[(name, content)]);
    match read_all(&folder.path().join(name), options) {
        Ok(batch) => format!("no failure: {:?}", batch.shape),
        Err(error @ (crate::Error::Data { .. } | crate::Error::Argument { .. })) => {
            error.to_string()
        }
        Err(error) => panic!("{name}: expected Error::Data, got {error:?}"),
    }
}

/// Where the repository's own files are.
pub(super) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}
