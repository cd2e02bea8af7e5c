//! Image files: one sub-folder per class, sorted by name, or a flat folder without labels.
//!
//! What is an image is decided by the file's ending, how to decode it by its first bytes. Like Pillow, torchvision
//! and timm, the orientation that a camera noted in EXIF is not applied. All chosen files are looked into when the
//! folder is opened, so that a file that is no image shows before a long run starts.

use std::fs::DirEntry;
use std::path::{Path, PathBuf};

use super::dataset::DataOptions;
use super::decode::Turning;
use super::files::ImageFiles;
use super::images::{Classes, Headers, ImageSource};
use super::readers::{Opened, magic};
use crate::error::{Error, Result};

/// Endings of files taken for images, in lower case.
pub(super) const IMAGE_ENDINGS: [&str; 8] =
    ["jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff"];
/// Sub-folders of a class folder are searched too, this deep; also ends circles of links.
const MAX_DEPTH: usize = 8;

pub(super) fn accepts(path: &Path) -> bool {
    path.is_dir() || image::guess_format(&magic::<32>(path)).is_ok()
}

pub(super) fn open(path: &Path, options: &DataOptions) -> Result<Opened> {
    let Listing {
        files,
        classes,
        notes,
    } = Listing::read(path)?;
    let total = files.len();
    let stored = match &classes {
        Some(classes) => format!("{total} images in {} class folders", classes.len()),
        None => format!("{total} images without labels"),
    };
    let (files, labels): (Vec<PathBuf>, Vec<usize>) = files.into_iter().unzip();
    ImageSource {
        encoded: Box::new(ImageFiles {
            root: path.to_owned(),
            files,
        }),
        total,
        classes: Classes {
            labels: classes.is_some().then_some(labels),
            names: classes,
        },
        stored,
        notes,
        turning: Turning::Ignored,
        headers: Headers::All,
    }
    .open(path, options)
}

/// Image files under a folder, in order, with the class of each.
struct Listing {
    files: Vec<(PathBuf, usize)>,
    classes: Option<Vec<String>>,
    notes: Vec<String>,
}

impl Listing {
    fn read(path: &Path) -> Result<Self> {
        if path.is_file() {
            return Ok(Self {
                files: vec![(path.to_owned(), 0)],
                classes: None,
                notes: vec![],
            });
        }
        let (mut folders, mut flat, mut other) = (vec![], vec![], 0);
        for entry in entries(path)? {
            if entry.path().is_dir() {
                folders.push(entry);
            } else if is_image(&entry.path()) {
                flat.push((entry.path(), 0));
            } else {
                other += 1;
            }
        }
        let mut files = vec![];
        let mut classes = vec![];
        let mut empty = vec![];
        for (class, folder) in folders.iter().enumerate() {
            let name = folder.file_name().to_string_lossy().into_owned();
            let before = files.len();
            walk(&folder.path(), class, 0, &mut files, &mut other)?;
            if files.len() == before {
                empty.push(name.clone());
            }
            classes.push(name);
        }
        let refuse = |what: String| {
            Err(Error::Data {
                path: path.to_owned(),
                what,
            })
        };
        let mut notes = vec![];
        if other > 0 {
            notes.push(format!("{other} other files ignored"));
        }
        match (flat.is_empty(), files.is_empty()) {
            (true, true) => refuse(format!(
                "holds no images ({}){}",
                IMAGE_ENDINGS.join(", "),
                if other > 0 {
                    format!(", only {other} other files")
                } else {
                    String::new()
                }
            )),
            (false, false) => refuse(format!(
                "holds both images ({}) and folders of images ({}); keep one of the two",
                flat.len(),
                classes.len()
            )),
            (false, true) => Ok(Self {
                files: flat,
                classes: None,
                notes,
            }),
            (true, false) => {
                if !empty.is_empty() {
                    notes.push(format!(
                        "{} class folders are empty: {}",
                        empty.len(),
                        empty.join(", ")
                    ));
                }
                Ok(Self {
                    files,
                    classes: Some(classes),
                    notes,
                })
            }
        }
    }
}

/// Entries of a folder sorted by name, without hidden ones.
pub(super) fn entries(folder: &Path) -> Result<Vec<DirEntry>> {
    let read = folder.read_dir().map_err(Error::io(folder))?;
    let mut entries = read
        .collect::<std::io::Result<Vec<_>>>()
        .map_err(Error::io(folder))?;
    entries.retain(|entry| !entry.file_name().as_encoded_bytes().starts_with(b"."));
    entries.sort_by_key(DirEntry::file_name);
    Ok(entries)
}

fn walk(
    folder: &Path,
    class: usize,
    depth: usize,
    files: &mut Vec<(PathBuf, usize)>,
    other: &mut usize,
) -> Result<()> {
    for entry in entries(folder)? {
        let path = entry.path();
        if path.is_dir() {
            if depth < MAX_DEPTH {
                walk(&path, class, depth + 1, files, other)?;
            }
        } else if is_image(&path) {
            files.push((path, class));
        } else {
            *other += 1;
        }
    }
    Ok(())
}

/// Whether the name ends like that of an image.
pub(super) fn is_image(path: &Path) -> bool {
    let ending = path.extension().unwrap_or_default().to_string_lossy();
    IMAGE_ENDINGS.contains(&ending.to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests;
