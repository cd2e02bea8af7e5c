//! WebDataset: tar archives in which neighbouring members that share a name up to its first dot are one sample.
//!
//! `n01440764_10026.jpg` is an image, `n01440764_10026.cls` its class number; without a `.cls`, the `label` or `cls` of a
//! `.json` is taken. One archive, several (`train-{0000..0009}.tar`), or a folder of them. Plain archives are indexed
//! and read where they lie; the images of gzipped ones are held in memory.

use std::fs::File;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::archive::{self, Member, Packing, Section};
use super::dataset::{DataLimits, DataOptions};
use super::decode::{Stream, Turning};
use super::files::written;
use super::folder::IMAGE_ENDINGS;
use super::images::{Classes, Encoded, Headers, ImageSource, classes_of};
use super::problem::{NAMED, Problem, Read, readable_bytes};
use super::readers::{Opened, at};
use super::shards::{self, shard_note};
use crate::error::{Error, Result};

/// Longest class number.
const MOST_CLASS: u64 = 64;
/// Longest description of a sample.
const MOST_JSON: u64 = 1 << 20;

pub(super) fn accepts(path: &Path) -> bool {
    match path.is_file() {
        true => archive::packing(path).is_some(),
        false => shards::any(path, is_shard),
    }
}

fn is_shard(path: &Path) -> bool {
    let name = path.to_string_lossy().to_ascii_lowercase();
    [".tar", ".tar.gz", ".tgz"]
        .iter()
        .any(|end| name.ends_with(end))
}

pub(super) fn open(path: &Path, options: &DataOptions) -> Result<Opened> {
    let paths = shards::find(path, options.part.as_deref(), is_shard)?;
    let mut index = Index::default();
    for shard in paths {
        index.add(shard, options.limits)?;
    }
    let classes = index.classes().map_err(at(path))?;
    let total = index.samples.len();
    if total == 0 {
        return Err(Error::Data {
            path: path.to_owned(),
            what: "holds no images".to_owned(),
        });
    }
    let of = match &classes.labels {
        Some(_) => "with labels",
        None => "without labels",
    };
    let mut notes = vec![shard_note(index.shards.len(), "archive")];
    if index.other > 0 {
        notes.push(format!("{} other members ignored", index.other));
    }
    ImageSource {
        total,
        classes,
        stored: format!("{total} images {of}"),
        notes,
        turning: Turning::Ignored,
        headers: Headers::All,
        encoded: Box::new(index),
    }
    .open(path, options)
}

/// All samples of all archives.
#[derive(Default)]
struct Index {
    shards: Vec<Shard>,
    samples: Vec<Image>,
    /// Members that belong to no sample.
    other: usize,
    /// Bytes of images that are held.
    held: u64,
}

struct Shard {
    path: PathBuf,
    length: u64,
    /// The images of a gzipped archive, one after the other.
    held: Vec<u8>,
    packing: Packing,
}

struct Image {
    shard: usize,
    offset: u64,
    length: u64,
    name: String,
    label: Option<String>,
}

/// The sample whose members are being read.
#[derive(Default)]
struct Group {
    key: String,
    image: Option<Image>,
    class: Option<String>,
    json: Option<String>,
    other: usize,
}

impl Index {
    fn add(&mut self, path: PathBuf, limits: DataLimits) -> Result<()> {
        let packing = archive::packing(&path).unwrap_or(Packing::Plain);
        let length = path.metadata().map_err(Error::io(&path))?.len();
        let mut shard = Shard {
            path: path.clone(),
            length,
            held: vec![],
            packing,
        };
        let number = self.shards.len();
        let mut group = Group::default();
        let walked = archive::walk(&path, packing, limits.inflated_bytes, |member, bytes| {
            let (key, ending) = parts(&member.name);
            if key != group.key {
                self.finish(std::mem::take(&mut group));
                key.clone_into(&mut group.key);
            }
            let mut entry = Entry {
                member,
                ending,
                bytes,
                shard: number,
            };
            self.take(&mut group, &mut entry, &mut shard, limits)
        });
        walked.map_err(at(&path))?;
        self.finish(group);
        self.shards.push(shard);
        Ok(())
    }

    fn take(
        &mut self,
        group: &mut Group,
        entry: &mut Entry<'_>,
        shard: &mut Shard,
        limits: DataLimits,
    ) -> Read<()> {
        let is_image = IMAGE_ENDINGS.contains(&&*entry.ending.to_ascii_lowercase());
        if is_image && group.image.is_none() {
            group.image = Some(match shard.packing {
                Packing::Plain => entry.image(entry.member.offset),
                Packing::Gzip => {
                    let offset = shard.held.len() as u64;
                    self.held = self.held.saturating_add(entry.member.size);
                    if self.held > limits.held_bytes {
                        return Err(held_too_much(limits.held_bytes));
                    }
                    entry.bytes.read_to_end(&mut shard.held)?;
                    entry.image(offset)
                }
            });
            return Ok(());
        }
        match entry.ending {
            "cls" => group.class = Some(entry.text(MOST_CLASS)?),
            "json" => group.json = label_in(&entry.text(MOST_JSON)?),
            _ => group.other += 1,
        }
        Ok(())
    }

    fn finish(&mut self, group: Group) {
        self.other += group.other;
        if let Some(mut image) = group.image {
            image.label = group.class.or(group.json);
            self.samples.push(image);
        }
    }

    /// Either all samples have labels, or none.
    fn classes(&self) -> Read<Classes> {
        let without = || self.samples.iter().filter(|image| image.label.is_none());
        match without().count() {
            0 => {
                let labels = self.samples.iter().filter_map(|image| image.label.clone());
                classes_of(&labels.collect::<Vec<_>>())
            }
            count if count == self.samples.len() => Ok(Classes::default()),
            count => {
                let first: Vec<&str> = without().take(NAMED).map(|image| &*image.name).collect();
                Err(format!(
                    "has labels for some of its samples only; {count} have neither a .cls nor a label in a .json: {}",
                    first.join(", ")
                )
                .into())
            }
        }
    }
}

/// One member, while its bytes can be read.
struct Entry<'a> {
    member: &'a Member,
    ending: &'a str,
    bytes: &'a mut dyn std::io::Read,
    shard: usize,
}

impl Entry<'_> {
    fn image(&self, offset: u64) -> Image {
        Image {
            shard: self.shard,
            offset,
            length: self.member.size,
            name: self.member.name.clone(),
            label: None,
        }
    }

    fn text(&mut self, limit: u64) -> Read<String> {
        let Member { name, size, .. } = self.member;
        if *size > limit {
            let (size, limit) = (readable_bytes(*size), readable_bytes(limit));
            return Err(format!("holds {name} of {size}, the limit is {limit}").into());
        }
        let mut text = String::new();
        self.bytes.read_to_string(&mut text)?;
        Ok(text.trim().to_owned())
    }
}

/// What samples are grouped by, and what follows the first dot of the file's name.
fn parts(name: &str) -> (&str, &str) {
    let file = name.rfind('/').map_or(0, |slash| slash + 1);
    match name[file..].find('.') {
        Some(dot) => (&name[..file + dot], &name[file + dot + 1..]),
        None => (name, ""),
    }
}

fn label_in(json: &str) -> Option<String> {
    let read: serde_json::Value = serde_json::from_str(json).ok()?;
    let label = ["label", "cls"].iter().find_map(|key| read.get(key));
    label?.as_u64().map(|number| number.to_string())
}

fn held_too_much(limit: u64) -> Problem {
    Problem::Content(format!(
        "holds more than {} of images, which would have to stay in memory; gunzip it, a plain .tar is read where it lies",
        readable_bytes(limit)
    ))
}

impl Encoded for Index {
    fn open(&self, index: usize) -> Read<Box<dyn Stream + '_>> {
        let image = &self.samples[index];
        let shard = &self.shards[image.shard];
        let end = image.offset + image.length;
        Ok(match shard.packing {
            Packing::Plain => {
                let file = File::open(&shard.path)?;
                Box::new(Section::new(file, image.offset, image.length)?)
            }
            Packing::Gzip => Box::new(Cursor::new(
                &shard.held[image.offset as usize..end as usize],
            )),
        })
    }

    fn name(&self, index: usize) -> String {
        let image = &self.samples[index];
        match self.shards.len() {
            1 => image.name.clone(),
            _ => {
                let shard = self.shards[image.shard].path.file_name();
                let shard = shard.unwrap_or_default().to_string_lossy();
                format!("{shard}: {}", image.name)
            }
        }
    }

    /// Names, sizes and labels: reading every byte of a large set would take longer than using it.
    fn digest(&self, hash: &mut Sha256) -> Result<()> {
        for shard in &self.shards {
            hash.update(shard.length.to_le_bytes());
        }
        for image in &self.samples {
            for text in [&*image.name, image.label.as_deref().unwrap_or_default()] {
                hash.update((text.len() as u64).to_le_bytes());
                hash.update(text);
            }
            hash.update(image.length.to_le_bytes());
        }
        Ok(())
    }

    fn digest_times(&self, hash: &mut Sha256) -> Result<()> {
        self.shards
            .iter()
            .try_for_each(|shard| written(&shard.path, hash))
    }
}

#[cfg(test)]
mod tests;
