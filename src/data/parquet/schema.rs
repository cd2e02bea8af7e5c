//! Which columns hold images, labels and names of classes.
//!
//! The footer's `huggingface` entry says so; without it, the usual names do.

use parquet::basic::Type;
use parquet::file::metadata::ParquetMetaData;
use serde_json::Value;

use super::super::problem::Read;

/// Usual names of the column with the images.
const IMAGES: [&str; 5] = ["image", "img", "images", "jpg", "png"];
/// Usual names of the column with the labels, the finer ones first.
const LABELS: [&str; 7] = [
    "label",
    "labels",
    "fine_label",
    "fine_labels",
    "class",
    "cls",
    "target",
];

/// Positions of the columns that are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Schema {
    /// The column of encoded bytes.
    pub(super) images: usize,
    pub(super) image_name: String,
    pub(super) labels: Option<Labels>,
    pub(super) class_names: Option<Vec<String>>,
}

/// The column of the labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Labels {
    pub(super) column: usize,
    pub(super) kind: Type,
}

impl Schema {
    pub(super) fn of(metadata: &ParquetMetaData) -> Read<Self> {
        let features = features(metadata);
        let schema = metadata.file_metadata().schema_descr();
        let paths: Vec<String> = schema
            .columns()
            .iter()
            .map(|column| column.path().string())
            .collect();
        let find = |path: &str| paths.iter().position(|known| known == path);
        let of_kind = |kind: &'static str| {
            let typed = features
                .iter()
                .filter(move |(_, feature)| feature["_type"] == kind);
            typed.map(|(name, _)| name.as_str())
        };
        let image_names = of_kind("Image").chain(IMAGES);
        let images = image_names.filter_map(|name| {
            let bytes = find(&format!("{name}.bytes")).or_else(|| find(name))?;
            let column = schema.column(bytes);
            let fits = column.physical_type() == Type::BYTE_ARRAY && column.max_rep_level() == 0;
            fits.then(|| (bytes, name.to_owned()))
        });
        let Some((images, image_name)) = { images }.next() else {
            return Err(format!("has no column of images; it has: {}", paths.join(", ")).into());
        };
        let known = of_kind("ClassLabel").collect::<Vec<_>>();
        let usual = LABELS
            .into_iter()
            .filter(|name| known.is_empty() || known.contains(name));
        let mut names = usual.chain(known.iter().copied());
        let label = names.find_map(|name| {
            let column = find(name)?;
            (schema.column(column).max_rep_level() == 0).then(|| (name.to_owned(), column))
        });
        let class_names = label.as_ref().and_then(|(name, _)| {
            let feature = features.iter().find(|(known, _)| known == name)?;
            let names = feature.1["names"].as_array()?.iter();
            names.map(|name| name.as_str().map(str::to_owned)).collect()
        });
        Ok(Self {
            images,
            image_name,
            labels: label.map(|(_, column)| Labels {
                column,
                kind: schema.column(column).physical_type(),
            }),
            class_names,
        })
    }
}

/// Name and description of each feature, in the order of the alphabet.
fn features(metadata: &ParquetMetaData) -> Vec<(String, Value)> {
    let entries = metadata.file_metadata().key_value_metadata();
    let entry = entries
        .into_iter()
        .flatten()
        .find(|entry| entry.key == "huggingface");
    let text = entry.and_then(|entry| entry.value.as_deref());
    let info: Value = text
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default();
    let features = info["info"]["features"].as_object();
    let features = features.into_iter().flatten();
    features
        .map(|(name, feature)| (name.clone(), feature.clone()))
        .collect()
}
