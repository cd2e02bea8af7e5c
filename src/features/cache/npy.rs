//! The `.npy` files of an entry: a fixed header, then rows in C order.
//!
//! Format: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>, version 1.0.
//! Only what this program wrote is read back, so a header is compared, not parsed.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::Path,
};

use crate::onnx::DataType;

/// numpy maps files whose data begins at a multiple of this.
const ALIGNMENT: usize = 64;

/// numpy's name of an element type. It has none for bf16, whose 16 bits are kept as they are.
pub(super) fn description(dtype: DataType) -> Option<&'static str> {
    Some(match dtype {
        DataType::Float => "<f4",
        DataType::Double => "<f8",
        DataType::Float16 => "<f2",
        DataType::Bfloat16 | DataType::Uint16 => "<u2",
        DataType::Int8 => "|i1",
        DataType::Int16 => "<i2",
        DataType::Int32 => "<i4",
        DataType::Int64 => "<i8",
        DataType::Uint8 => "|u1",
        DataType::Uint32 => "<u4",
        DataType::Uint64 => "<u8",
        DataType::Bool => "|b1",
        _ => return None,
    })
}

/// Everything in front of the elements.
pub(super) fn header(description: &str, shape: &[usize]) -> Vec<u8> {
    let sizes: Vec<String> = shape.iter().map(|size| format!("{size},")).collect();
    let mut text = format!(
        "{{'descr': '{description}', 'fortran_order': False, 'shape': ({}), }}",
        sizes.join(" ")
    );
    // Magic number, version and length take 10 bytes, the final line feed one.
    while !(text.len() + 11).is_multiple_of(ALIGNMENT) {
        text.push(' ');
    }
    text.push('\n');
    let length = u16::try_from(text.len()).unwrap_or(u16::MAX).to_le_bytes();
    let parts: [&[u8]; 3] = [b"\x93NUMPY\x01\x00", &length, text.as_bytes()];
    parts.concat()
}

/// Makes a file whose rows are holes.
pub(super) fn create_sparse(path: &Path, header: &[u8], data_bytes: u64) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    file.write_all(header)?;
    file.set_len((header.len() as u64).saturating_add(data_bytes))?;
    file.sync_all()
}

/// Puts a whole small array in place, or leaves what was there.
pub(super) fn replace(path: &Path, header: &[u8], data: &[u8]) -> io::Result<()> {
    let beside = path.with_added_extension("new");
    let written = File::create(&beside).and_then(|mut file| {
        file.write_all(header)?;
        file.write_all(data)?;
        file.sync_all()
    });
    written
        .and_then(|()| fs::rename(&beside, path))
        .inspect_err(|_| {
            // The error to report is the one that led here.
            let _ = fs::remove_file(&beside);
        })
}

/// Opens a file that must begin with `header` and hold `data_bytes` behind it.
///
/// The error says in words what is wrong.
pub(super) fn open(path: &Path, header: &[u8], data_bytes: u64) -> Result<File, String> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let said = |error: io::Error| format!("{name}: {error}");
    let mut file = File::open(path).map_err(said)?;
    let length = file.metadata().map_err(said)?.len();
    let expected = (header.len() as u64).saturating_add(data_bytes);
    if length != expected {
        return Err(format!("{name} has {length} bytes instead of {expected}"));
    }
    let mut found = vec![0; header.len()];
    file.read_exact(&mut found).map_err(said)?;
    if found != header {
        return Err(format!("{name} does not begin as it should"));
    }
    Ok(file)
}
