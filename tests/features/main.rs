//! What only builds with more features can do: Parquet files, and files at addresses.
//!
//! `cargo test --release --features parquet,remote --test features`

#![cfg(all(feature = "parquet", feature = "remote"))]
#![expect(
    clippy::unwrap_used,
    reason = "a panic is the failure report of a test"
)]

mod parquet;
mod remote;

use std::{
    io::Cursor,
    path::{Path, PathBuf},
};

use image::{GrayImage, ImageFormat, Luma};

/// A file of the repository.
fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A grey image, and not all of one shade.
fn png(size: u32, shade: u8) -> Vec<u8> {
    let mut file = Cursor::new(vec![]);
    let image = GrayImage::from_fn(size, size, |x, y| Luma([shade ^ (x * 9 + y) as u8]));
    image.write_to(&mut file, ImageFormat::Png).unwrap();
    file.into_inner()
}
