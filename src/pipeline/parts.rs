//! Parts that several reports share.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::setup::Setup;
use crate::{
    data::{Dataset, Preprocess, Skipped},
    error::Result,
    head::{Ending, Head},
    onnx::{DataType, ModelProto, TensorProto},
};

/// A model file.
#[derive(Clone, Debug, Serialize)]
pub struct FileReport {
    /// Where it is.
    pub path: PathBuf,
    /// Its size, external data included.
    pub bytes: u64,
    /// Values of all its floating-point weights.
    pub parameters: u64,
}

/// The data a run used.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DataReport {
    /// File or folder; nothing for synthetic noise.
    pub path: Option<PathBuf>,
    /// What was read and what was done to it, in words.
    pub description: String,
    /// SHA-256 over the samples or their names and sizes; nothing for synthetic noise.
    pub fingerprint: Option<String>,
    /// What was done to each sample.
    pub preprocess: Preprocess,
    /// What was left out, with `--on-bad-sample skip`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skipped: Option<Skipped>,
    /// The samples that figures come from, where they are a data set of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<TestReport>,
}

/// A data set that nothing but figures come from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TestReport {
    /// File or folder.
    pub path: PathBuf,
    /// What was read and what was done to it, in words.
    pub description: String,
    /// SHA-256 over the samples or their names and sizes.
    pub fingerprint: String,
    /// What was left out, with `--on-bad-sample skip`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skipped: Option<Skipped>,
}

/// The head as it was found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HeadReport {
    /// The model's output with the class scores.
    pub output: String,
    /// Number of classes.
    pub classes: usize,
    /// How the model ends.
    pub ending: Ending,
    /// Values at which trunk and head part.
    pub features: Vec<String>,
}

/// One layer of the head.
#[derive(Clone, Debug, Serialize)]
pub struct LayerReport {
    /// Name, as in `--keep NAME=R`.
    pub name: String,
    /// Neurons before.
    pub width: usize,
    /// Neurons that were to stay, before their number was rounded.
    pub requested: usize,
    /// Neurons after.
    pub kept: usize,
    /// What made it a layer.
    pub recognised: String,
}

impl FileReport {
    pub(super) fn new(path: &Path, bytes: u64, model: &ModelProto) -> Self {
        Self {
            path: path.to_owned(),
            bytes,
            parameters: parameters(model),
        }
    }
}

impl DataReport {
    pub(super) fn new(setup: &Setup<'_>, dataset: &Dataset) -> Result<Self> {
        let real = setup.has_data();
        Ok(Self {
            path: real.then(|| dataset.path().to_owned()),
            description: dataset.describe(),
            fingerprint: real.then(|| dataset.fingerprint()).transpose()?,
            preprocess: setup.preprocess.clone(),
            skipped: dataset.skipped().cloned(),
            test: setup.test().map(TestReport::new).transpose()?,
        })
    }
}

impl TestReport {
    fn new(test: &Dataset) -> Result<Self> {
        Ok(Self {
            path: test.path().to_owned(),
            description: test.describe(),
            fingerprint: test.fingerprint()?,
            skipped: test.skipped().cloned(),
        })
    }
}

impl HeadReport {
    pub(super) fn new(setup: &Setup<'_>, head: &Head) -> Self {
        let name = |id| setup.graph.name(id).to_owned();
        Self {
            output: name(head.scores.output),
            classes: head.scores.classes,
            ending: head.scores.ending,
            features: head.features.iter().map(|&id| name(id)).collect(),
        }
    }
}

/// Number of values in floating-point weights: initializers and tensors of Constant nodes.
pub(super) fn parameters(model: &ModelProto) -> u64 {
    let Some(graph) = &model.graph else { return 0 };
    let constants = graph.node.iter().filter_map(|node| node.tensor("value"));
    let weights = graph.initializer.iter().chain(constants);
    weights.map(parameters_of).sum()
}

/// Number of values of a floating-point tensor, 0 of any other.
pub(super) fn parameters_of(tensor: &TensorProto) -> u64 {
    if is_float(tensor) { values(tensor) } else { 0 }
}

fn is_float(tensor: &TensorProto) -> bool {
    use DataType::{Bfloat16, Double, Float, Float16};
    let dtype = DataType::try_from(tensor.data_type());
    dtype.is_ok_and(|dtype| matches!(dtype, Float | Double | Float16 | Bfloat16))
}

fn values(tensor: &TensorProto) -> u64 {
    let sizes = tensor.dims.iter();
    sizes
        .map(|&size| u64::try_from(size).unwrap_or_default())
        .product()
}
