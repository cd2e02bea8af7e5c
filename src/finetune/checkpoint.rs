//! The state of a run after its last whole epoch, in a file.
//!
//! The file is an ONNX model without nodes: its initializers are the state of the training step and
//! the best weights, its metadata says where the run was. It is replaced as a whole, so there is
//! always a usable one.

use std::path::PathBuf;

use prost::Message;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Epoch, Request, TrainOptions};
use crate::{
    error::{Error, Result},
    grad::training::Training,
    onnx::{GraphProto, Limits, Model, ModelProto, Output, Overwrite, Storage, Tensor},
};

/// Key of the metadata with the [`Place`].
const PLACE: &str = "onnx_prune.checkpoint";
/// In front of the names of the best weights.
const BEST: &str = "best/";
const OPSET: i64 = 17;

/// Where a run keeps its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The file; a run of the same head, samples and options continues from it.
    pub path: PathBuf,
}

/// Where a run was, and what it knew.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Place {
    /// Of the head, the samples and the options.
    pub(super) run: String,
    /// Steps taken.
    pub(super) step: u64,
    /// All epochs, the start first.
    #[serde(with = "exact")]
    pub(super) epochs: Vec<Epoch>,
    /// Number of the best one.
    pub(super) best: usize,
}

/// A run as it was.
pub(super) struct Saved {
    pub(super) place: Place,
    pub(super) state: Vec<(String, Tensor)>,
    pub(super) best: Vec<(String, Tensor)>,
}

/// What tells runs apart: the head with its weights, which samples, the options, and in which pieces
/// the state is held.
pub(super) fn identity(
    request: &Request<'_>,
    options: &TrainOptions,
    training: Training,
) -> String {
    let mut hash = Sha256::new();
    hash.update(request.head_model.encode_to_vec());
    for positions in [request.train, request.validation] {
        hash.update((positions.len() as u64).to_le_bytes());
        positions
            .iter()
            .for_each(|&at| hash.update((at as u64).to_le_bytes()));
    }
    for label in request.target.labels().into_iter().flatten() {
        hash.update((*label as u64).to_le_bytes());
    }
    for score in request.target.scores().into_iter().flatten() {
        hash.update(score.to_le_bytes());
    }
    if let super::Target::Mixed { share, .. } = request.target {
        hash.update(share.to_le_bytes());
    }
    let options =
        serde_json::to_string(&(options, training.batch, training.piece)).unwrap_or_default();
    hash.update(options);
    hash.finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

impl Checkpoint {
    /// The saved state of the run `run`; nothing where there is no file.
    ///
    /// # Errors
    /// [`Error::Argument`] for the state of another run, [`Error::Format`] for another file.
    pub(super) fn load(&self, run: &str) -> Result<Option<Saved>> {
        if !self.path.exists() {
            return Ok(None);
        }
        let model = Model::load(&self.path, &Limits::default())?;
        let place = model.proto.metadata(PLACE).ok_or_else(|| Error::Format {
            path: self.path.clone(),
            what: "is no checkpoint of a training run".to_owned(),
        })?;
        let place: Place = serde_json::from_str(place).map_err(|error| Error::Format {
            path: self.path.clone(),
            what: error.to_string(),
        })?;
        if place.run != run {
            return Err(Error::Argument {
                name: "--checkpoint",
                what: format!(
                    "{} is of another run: model, data, options or device differ; remove it to start anew",
                    self.path.display()
                ),
            });
        }
        let (mut state, mut best) = (Vec::new(), Vec::new());
        let graph = model.proto.graph.iter();
        for proto in graph.flat_map(|graph| &graph.initializer) {
            let tensor = Tensor::from_proto(proto)?;
            match proto.name().strip_prefix(BEST) {
                Some(name) => best.push((name.to_owned(), tensor)),
                None => state.push((proto.name().to_owned(), tensor)),
            }
        }
        Ok(Some(Saved { place, state, best }))
    }

    /// Replaces the file.
    pub(super) fn save(&self, saved: &Saved) -> Result<()> {
        let mut graph = GraphProto::new("checkpoint");
        let state = saved
            .state
            .iter()
            .map(|(name, tensor)| tensor.to_proto(name.as_str()));
        let best = saved
            .best
            .iter()
            .map(|(name, tensor)| tensor.to_proto(format!("{BEST}{name}")));
        graph.initializer = state.chain(best).collect();
        let mut model = ModelProto::new(graph, OPSET);
        let place = serde_json::to_string(&saved.place).map_err(|error| Error::Format {
            path: self.path.clone(),
            what: error.to_string(),
        })?;
        model.set_metadata(PLACE, place);
        let mut output = Output::create(&self.path, None, Overwrite::Replace)?;
        output.write(&model, Storage::Inside)?;
        output.commit().map(drop)
    }

    /// Takes the file away: the run is over.
    pub(super) fn remove(&self) -> Result<()> {
        // Weights above 2 GiB are in a file beside it.
        let mut data = self.path.clone().into_os_string();
        data.push(".data");
        for path in [self.path.clone(), PathBuf::from(data)] {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::io(path)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Numbers by their bits: decimal digits that are read back may differ in the last place.
mod exact {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Epoch;

    type Bits = (usize, [Option<u64>; 4]);

    pub(super) fn serialize<S: Serializer>(epochs: &[Epoch], to: S) -> Result<S::Ok, S::Error> {
        let bits = epochs.iter().map(|epoch| {
            let numbers = [
                epoch.loss,
                epoch.accuracy,
                epoch.validation_loss,
                epoch.validation_accuracy,
            ];
            (epoch.epoch, numbers.map(|number| number.map(f64::to_bits)))
        });
        bits.collect::<Vec<Bits>>().serialize(to)
    }

    pub(super) fn deserialize<'d, D: Deserializer<'d>>(from: D) -> Result<Vec<Epoch>, D::Error> {
        let epochs = Vec::<Bits>::deserialize(from)?.into_iter();
        let epochs = epochs.map(|(epoch, bits)| {
            let [loss, accuracy, validation_loss, validation_accuracy] =
                bits.map(|bits| bits.map(f64::from_bits));
            Epoch {
                epoch,
                loss,
                accuracy,
                validation_loss,
                validation_accuracy,
            }
        });
        Ok(epochs.collect())
    }
}
