//! Image files: one sub-folder per class, sorted by name, or a flat folder without labels.
//!
//! What is an image is decided by the file's ending, how to decode it by its first bytes. Like Pillow, torchvision
//! and timm, the orientation that a camera noted in EXIF is not applied. All chosen files are looked into when the
//! folder is opened, so that a file that is no image shows before a long run starts.

use std::fs::DirEntry;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::dataset::DataOptions;
use super::decode::Decoder;
use super::geometry::Size;
use super::problem::{Read, list_of_bad};
use super::readers::{Opened, Sample, Samples, magic};
use super::recipe::Recipe;
use super::split;
use crate::error::{Error, Result};

/// Endings of files taken for images, in lower case.
const ENDINGS: [&str; 8] = ["jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff"];
/// Sub-folders of a class folder are searched too, this deep; also ends circles of links.
const MAX_DEPTH: usize = 8;

pub(super) fn accepts(path: &Path) -> bool {
    path.is_dir() || image::guess_format(&magic::<32>(path)).is_ok()
}

pub(super) fn open(path: &Path, options: &DataOptions) -> Result<Opened> {
    let listing = Listing::read(path)?;
    let total = listing.files.len();
    let chosen = split::sample(total, options.samples, options.seed);
    let decoder = Decoder {
        limits: options.limits,
    };
    let files: Vec<PathBuf> = chosen
        .iter()
        .map(|&index| listing.files[index].0.clone())
        .collect();
    let sizes = check_all(path, &files, decoder)?;
    let recipe = Recipe::for_images(sizes[0], options).map_err(|problem| problem.at(path))?;
    let class_of = |&index: &usize| listing.files[index].1;
    let labels = listing
        .classes
        .is_some()
        .then(|| chosen.iter().map(class_of).collect());
    let stored = match &listing.classes {
        Some(classes) => format!("{total} images in {} class folders", classes.len()),
        None => format!("{total} images without labels"),
    };
    Ok(Opened {
        recipe,
        total,
        chosen: chosen.clone(),
        labels,
        class_names: listing.classes.clone(),
        stored,
        notes: listing.notes.clone(),
        samples: Box::new(ImageFiles {
            root: path.to_owned(),
            listing,
            chosen,
            decoder,
        }),
    })
}

/// Reads every file's header, in parallel; the error lists the ones that are no images.
fn check_all(root: &Path, files: &[PathBuf], decoder: Decoder) -> Result<Vec<Size>> {
    let (mut sizes, mut bad) = (vec![], vec![]);
    let seen: Vec<Read<Size>> = files.par_iter().map(|file| decoder.size(file)).collect();
    for (file, size) in files.iter().zip(seen) {
        match size {
            Ok(size) => sizes.push(size),
            Err(problem) => bad.push((relative(root, file), problem)),
        }
    }
    if bad.is_empty() {
        return Ok(sizes);
    }
    Err(Error::Data {
        path: root.to_owned(),
        what: list_of_bad("images", files.len(), &bad),
    })
}

fn relative(root: &Path, file: &Path) -> String {
    file.strip_prefix(root)
        .unwrap_or(file)
        .display()
        .to_string()
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
                ENDINGS.join(", "),
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
fn entries(folder: &Path) -> Result<Vec<DirEntry>> {
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

fn is_image(path: &Path) -> bool {
    let ending = path
        .extension()
        .unwrap_or_default()
        .to_string_lossy()
        .to_ascii_lowercase();
    ENDINGS.contains(&ending.as_str())
}

struct ImageFiles {
    root: PathBuf,
    listing: Listing,
    chosen: Vec<usize>,
    decoder: Decoder,
}

impl ImageFiles {
    fn path(&self, position: usize) -> &Path {
        &self.listing.files[self.chosen[position]].0
    }
}

impl Samples for ImageFiles {
    fn load(&self, position: usize) -> Read<Sample> {
        self.decoder.read(self.path(position)).map(Sample::Encoded)
    }

    fn name(&self, position: usize) -> String {
        relative(&self.root, self.path(position))
    }

    /// Names and sizes of all files: reading every byte of a large set would take longer than using it.
    fn digest(&self, hash: &mut Sha256) -> Result<()> {
        for (path, _) in &self.listing.files {
            let size = path.metadata().map_err(Error::io(path))?.len();
            let name = relative(&self.root, path).replace('\\', "/");
            hash.update((name.len() as u64).to_le_bytes());
            hash.update(name.as_bytes());
            hash.update(size.to_le_bytes());
        }
        Ok(())
    }

    /// When each file was written: an image may be replaced by another one of the same size.
    fn digest_times(&self, hash: &mut Sha256) -> Result<()> {
        for (path, _) in &self.listing.files {
            let metadata = path.metadata().map_err(Error::io(path))?;
            let modified = metadata.modified().map_err(Error::io(path))?;
            let since = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
            hash.update(since.as_nanos().to_le_bytes());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
