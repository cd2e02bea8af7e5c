//! What an entry of the cache says about itself.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

use super::{key::Key, npy};
use crate::{
    features::{Extraction, layout::Layout},
    onnx::tensor::element_count,
};

/// Raised whenever files of the same name mean something else.
const SCHEMA: &str = "onnx-prune/features/v2";

/// Its name in the folder of an entry.
pub(super) const NAME: &str = "manifest.json";

/// `manifest.json`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    schema: String,
    /// What the features depend on, hashed; the folder's name.
    key: String,
    /// Tells a folder from one that was made anew under the same name.
    created: u64,
    /// The model's file when the entry was made.
    pub(super) model: Option<PathBuf>,
    /// The data set.
    pub(super) data: PathBuf,
    /// What computed the features.
    pub(super) engine: String,
    /// What was done to the samples.
    preprocess: String,
    /// Number of samples in the data set.
    pub(super) samples: usize,
    /// Whether there is a `labels.npy`.
    pub(super) labels: bool,
    pub(super) values: Vec<Value>,
}

/// One value that enters the head.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Value {
    /// The file with its rows; nothing where all samples have the same.
    pub(super) file: Option<String>,
    pub(super) layout: Layout,
}

impl Manifest {
    /// Describes a new entry.
    pub(super) fn new(key: &Key, extraction: &Extraction<'_>, layouts: &[Layout]) -> Self {
        let Extraction {
            engine,
            dataset,
            preprocess,
            model,
            ..
        } = extraction;
        let values = layouts.iter().enumerate().map(|(at, layout)| Value {
            file: layout.row_shape().map(|_| file_name(at, &layout.name)),
            layout: layout.clone(),
        });
        Self {
            schema: SCHEMA.to_owned(),
            key: key.as_str().to_owned(),
            created: now(),
            model: model.map(absolute),
            data: absolute(dataset.path()),
            engine: engine.info().to_string(),
            preprocess: preprocess.to_json(),
            samples: dataset.len(),
            labels: dataset.labels().is_some(),
            values: values.collect(),
        }
    }

    /// The same, made now.
    pub(super) fn renewed(&self) -> Self {
        Self {
            created: now(),
            ..self.clone()
        }
    }

    /// The same, made at no time: the same part has the same bytes.
    pub(super) fn timeless(self) -> Self {
        Self { created: 0, ..self }
    }

    /// Whether rows of both are of the same features.
    pub(super) fn is_of_the_same(&self, other: &Self) -> bool {
        let plain = |manifest: &Self| Self {
            created: 0,
            model: None,
            data: PathBuf::new(),
            preprocess: String::new(),
            ..manifest.clone()
        };
        plain(self) == plain(other)
    }

    /// What is wrong with it, in words; nothing where it can be that of an entry.
    pub(super) fn fault(&self) -> Option<&'static str> {
        if self.schema != SCHEMA {
            return Some("is of another schema");
        }
        let sound = self.values.iter().all(|value| value.is_sound(self.samples));
        (self.values.is_empty() || !sound).then_some("describes impossible values")
    }

    /// The folder's name.
    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// Reads and checks the manifest of a folder; the error says in words what is wrong.
    pub(super) fn read(folder: &Path) -> Result<Self, String> {
        let text = fs::read_to_string(folder.join(NAME));
        let text = text.map_err(|error| format!("{NAME}: {error}"))?;
        let found: Self =
            serde_json::from_str(&text).map_err(|error| format!("{NAME}: {error}"))?;
        if found.schema != SCHEMA {
            return Err(format!("{NAME} is of schema {:?}", found.schema));
        }
        if folder.file_name().is_none_or(|name| name != &*found.key) {
            return Err(format!("{NAME} is that of another entry"));
        }
        if let Some(fault) = found.fault() {
            return Err(format!("{NAME} {fault}"));
        }
        Ok(found)
    }

    /// The file's text.
    pub(super) fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("strings and numbers always serialize")
    }

    /// Whether it describes what an extraction is about to look for.
    pub(super) fn fits(&self, extraction: &Extraction<'_>) -> bool {
        let Extraction {
            graph,
            head,
            dataset,
            ..
        } = extraction;
        let names = head.features.iter().map(|&id| graph.name(id));
        let ours = self.values.iter().map(|value| value.layout.name.as_str());
        names.eq(ours) && self.samples == dataset.len() && self.labels == dataset.labels().is_some()
    }

    pub(super) fn layouts(&self) -> Vec<Layout> {
        self.values
            .iter()
            .map(|value| value.layout.clone())
            .collect()
    }

    /// Bytes of one sample in all values.
    pub(super) fn row_bytes(&self) -> u64 {
        let rows = self
            .values
            .iter()
            .map(|value| value.layout.row_bytes() as u64);
        rows.sum()
    }
}

impl Value {
    /// Header and bytes behind it of the value's file.
    pub(super) fn form(&self, samples: usize) -> Option<(Vec<u8>, u64)> {
        let row = self.layout.row_shape()?;
        let shape: Vec<usize> = [samples].into_iter().chain(row).collect();
        let description = npy::description(self.layout.dtype())?;
        let bytes = (self.layout.row_bytes() as u64).checked_mul(samples as u64)?;
        Some((npy::header(description, &shape), bytes))
    }

    /// Whether file name, element type and sizes are such as this program writes.
    fn is_sound(&self, samples: usize) -> bool {
        if !self.layout.is_sound() {
            return false;
        }
        let Some(row) = self.layout.row_shape() else {
            return self.file.is_none();
        };
        let named = self.file.as_deref().is_some_and(is_value_file);
        let element = self.layout.dtype().bytes();
        let all = [samples, element.unwrap_or(0)].into_iter().chain(row);
        named
            && npy::description(self.layout.dtype()).is_some()
            && element_count(&all.collect::<Vec<_>>()).is_some()
    }
}

/// `0-flat.npy`: the place among the values, and as much of the name as any file system takes.
fn file_name(at: usize, name: &str) -> String {
    const MOST: usize = 60;
    let plain = |c: char| match c.is_ascii_alphanumeric() || "._-".contains(c) {
        true => c,
        false => '_',
    };
    let name: String = name.chars().map(plain).take(MOST).collect();
    format!("{at}-{name}.npy")
}

/// Whether a file of an entry may be called this, and holds rows.
pub(super) fn is_value_file(name: &str) -> bool {
    let digits = name.bytes().take_while(u8::is_ascii_digit).count();
    digits > 0
        && name[digits..].starts_with('-')
        && name.ends_with(".npy")
        && !name.contains(['/', '\\'])
}

/// Nanoseconds since 1970.
fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(now.unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
