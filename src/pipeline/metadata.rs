//! What a pruned model says about itself, so that the run can be repeated.

use std::collections::BTreeMap;

use crate::{
    eval::Verification,
    onnx::{ModelProto, TensorProto},
    prune::Plan,
    sensitivity::ScoreReport,
};

use super::{parts::DataReport, prune::PruneOptions, setup::Setup};

/// Key under which preprocessing is kept; a later run reads it.
pub(super) const PREPROCESS: &str = "onnx_prune.preprocess";

/// Key under which the kept neurons are listed, layer by layer; `verify` reads it.
pub(super) const KEEP: &str = "onnx_prune.keep";

/// Key under which the weights are listed that were repaired or trained; `verify` reads it.
pub(super) const WEIGHTS: &str = "onnx_prune.weights";

/// Everything that goes into the metadata.
pub(super) struct Facts<'a> {
    pub(super) setup: &'a Setup<'a>,
    pub(super) score: &'a ScoreReport,
    pub(super) options: &'a PruneOptions,
    pub(super) plan: &'a Plan,
    /// Weights that are not what the cut left.
    pub(super) weights: &'a BTreeMap<String, TensorProto>,
    pub(super) data: &'a DataReport,
    pub(super) verification: Option<&'a Verification>,
}

/// Writes the facts into `metadata_props`, in place of those of an earlier run.
pub(super) fn write(model: &mut ModelProto, facts: &Facts<'_>) {
    let Facts {
        setup,
        score,
        options,
        plan,
        weights,
        data,
        verification,
    } = facts;
    let keep: BTreeMap<&str, &[usize]> = plan
        .layers
        .iter()
        .map(|layer| (layer.name.as_str(), layer.keep.as_slice()))
        .collect();
    let checked = verification.map(|found| {
        let engines = found.checks.iter().map(|check| check.engine.as_str());
        engines.collect::<Vec<_>>().join(", ")
    });
    let mut set = |key: &str, value: &str| {
        model.set_metadata(&format!("onnx_prune.{key}"), value);
    };
    set("version", env!("CARGO_PKG_VERSION"));
    set("method", &json(score));
    match &options.limit {
        Some(limit) => set("limit", &json(limit)),
        None => set("budget", &json(&options.budget)),
    }
    set("repair", &json(&options.repair()));
    set("seed", &setup.options.seed.to_string());
    set("data", &data.description);
    if let Some(fingerprint) = &data.fingerprint {
        set("data_sha256", fingerprint);
    }
    set("engine", &setup.engine().info().to_string());
    set("verified", checked.as_deref().unwrap_or("no (--no-verify)"));
    model.set_metadata(KEEP, json(&keep));
    if !weights.is_empty() {
        let names: Vec<&String> = weights.keys().collect();
        model.set_metadata(WEIGHTS, json(&names));
    }
    model.set_metadata(PREPROCESS, data.preprocess.to_json());
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|error| error.to_string())
}
