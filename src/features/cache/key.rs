//! What features depend on.

use sha2::{Digest, Sha256};

use crate::{
    data::Preprocess,
    error::Result,
    features::{Extraction, trunk},
    onnx,
};

/// Everything that two extractions must have in common to share rows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key(String);

impl Key {
    /// Hashes the trunk with its weights, the names of the values it ends in, the data set, what is
    /// done to its samples, the engine, and this program.
    ///
    /// Neither the whole model nor the number of samples per run is in it: models that differ behind
    /// the features share rows, and so do runs of any size, whose sums may differ in the last bit.
    pub(super) fn of(extraction: &Extraction<'_>) -> Result<Self> {
        let Extraction {
            engine,
            graph,
            shapes,
            head,
            dataset,
            preprocess,
            ..
        } = extraction;
        let trunk = match trunk::model(graph, shapes, head)? {
            Some(model) => onnx::digest(&model)?,
            None => "no trunk".to_owned(),
        };
        let info = engine.info();
        // Where the settings came from makes no difference.
        let preprocess = Preprocess {
            source: String::new(),
            ..Preprocess::clone(preprocess)
        };
        let mut parts = vec![
            format!("onnx-prune {}", env!("CARGO_PKG_VERSION")),
            trunk,
            dataset.state()?,
            preprocess.to_json(),
            format!("{} {} {}", info.name, info.version, info.place()),
        ];
        let names = head.features.iter().map(|&id| graph.name(id).to_owned());
        parts.extend(names);
        let mut hash = Sha256::new();
        for part in &parts {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part.as_bytes());
        }
        let bytes = hash.finalize();
        Ok(Self(
            bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        ))
    }

    /// 64 hexadecimal digits.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}
