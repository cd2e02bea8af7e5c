//! The name of a part: a hash of everything that decides what is in it.

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::{data::Preprocess, pipeline::Identity, study::StudyOptions};

/// Of the layout of the parts; another one finds none of the old.
const LAYOUT: u32 = 1;

/// Hexadecimal digits of a name: 128 bits.
const DIGITS: usize = 32;

/// What all parts of one model have in common.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Base {
    layout: u32,
    version: &'static str,
    model: String,
    data: Option<String>,
    test: Option<String>,
    preprocess: Preprocess,
    samples: Option<usize>,
    seed: u64,
    trained: bool,
    engine: [String; 3],
}

impl Base {
    pub(super) fn new(identity: &Identity, options: &StudyOptions) -> Self {
        let test = identity.data.test.as_ref();
        let engine = &identity.engine;
        Self {
            layout: LAYOUT,
            version: env!("CARGO_PKG_VERSION"),
            model: identity.sha256.clone(),
            data: identity.data.fingerprint.clone(),
            test: test.map(|test| test.fingerprint.clone()),
            // Where the settings came from makes no difference.
            preprocess: Preprocess {
                source: String::new(),
                ..identity.data.preprocess.clone()
            },
            samples: options.source.samples,
            seed: options.source.seed,
            // Training takes samples that choices are made on from elsewhere.
            trained: options.training.is_some(),
            engine: [
                engine.name.to_owned(),
                engine.version.clone(),
                engine.provider.clone(),
            ],
        }
    }

    /// The name of the part of this `kind` that `rest` decides.
    pub(super) fn name(&self, kind: &str, rest: &impl Serialize) -> String {
        let text = serde_json::to_string(&(self, kind, rest));
        let text = text.expect("keys hold strings, numbers and lists of these");
        let hash = Sha256::digest(text);
        let mut digits: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        digits.truncate(DIGITS);
        format!("{kind}-{digits}")
    }
}
