//! The gradient graph itself, for other tools.

use std::path::PathBuf;

use serde::Serialize;

use super::{
    parts::HeadReport,
    setup::{self, Setup, SourceOptions},
    watch::Watch,
};
use crate::{
    error::Result,
    onnx::{Output, Overwrite},
    sensitivity::{self, Of},
};

/// Schema of [`GradientReport`].
const SCHEMA: &str = "onnx-prune/gradient/v1";

/// What writing a gradient graph can be told.
#[derive(Clone, Debug)]
pub struct GradientOptions {
    /// The model.
    pub input: PathBuf,
    /// Where the gradient graph goes.
    pub output: PathBuf,
    /// Whether an existing output may be replaced.
    pub overwrite: Overwrite,
    /// Engine, and data for a probe run where the file declares too little.
    pub source: SourceOptions,
    /// Which class scores are differentiated.
    pub of: Of,
}

/// What is in a gradient graph.
#[derive(Clone, Debug, Serialize)]
pub struct GradientReport {
    /// Name and version of this layout.
    pub schema: &'static str,
    /// The model.
    pub input: PathBuf,
    /// The gradient graph.
    pub output: PathBuf,
    /// The head.
    pub head: HeadReport,
    /// Input that takes the class rows, f32 `[R, 1, K]`.
    pub seed_input: String,
    /// Per layer, the outputs with the cotangents of its neurons, `[R, N, ..]`.
    pub cotangents: Vec<LayerCotangents>,
}

/// The cotangents of one layer.
#[derive(Clone, Debug, Serialize)]
pub struct LayerCotangents {
    /// Name of the layer.
    pub layer: String,
    /// One output per operator that reads the neurons.
    pub outputs: Vec<String>,
}

/// Writes the graph that computes the derivatives of the class scores by every layer of the head,
/// from the features.
///
/// # Errors
/// Every [`crate::Error`].
pub fn gradient(options: &GradientOptions, watch: &dyn Watch) -> Result<GradientReport> {
    let model = setup::load(&options.input)?;
    let mut output = Output::create(&options.output, Some(&options.input), options.overwrite)?
        .protect(model.external_files())?;
    let mut setup = Setup::new(&model, &options.source, watch)?;
    let head = setup.find_head(false, watch)?;
    let found = sensitivity::gradient_model(&setup.graph, &setup.shapes, &head, options.of)?;
    let mut names = found.cotangents.into_iter();
    let cotangents = head.layers.iter().map(|layer| LayerCotangents {
        layer: layer.name.clone(),
        outputs: names.by_ref().take(layer.group.sinks.len()).collect(),
    });
    let cotangents = cotangents.collect();
    output.write(&found.model, model.storage())?;
    output.commit()?;
    Ok(GradientReport {
        schema: SCHEMA,
        input: options.input.clone(),
        output: options.output.clone(),
        head: HeadReport::new(&setup, &head),
        seed_input: found.seed,
        cotangents,
    })
}
