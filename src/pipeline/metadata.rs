//! What a pruned model says about itself, so that the run can be repeated.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    eval::Verification,
    onnx::{ModelProto, TensorProto},
    prune::Plan,
    sensitivity::ScoreReport,
};

use super::{
    form::FormName, parts::DataReport, prune::PruneOptions, setup::Setup, transfer::TransferReport,
};

/// Key under which preprocessing is kept; a later run reads it.
pub(super) const PREPROCESS: &str = "onnx_prune.preprocess";

/// Key under which the kept neurons are listed, layer by layer; `verify` reads it.
pub(super) const KEEP: &str = "onnx_prune.keep";

/// Key under which the weights are listed that were repaired or trained; `verify` reads it.
pub(super) const WEIGHTS: &str = "onnx_prune.weights";

/// Key of the form of the cut.
const FORM: &str = "onnx_prune.form";

/// Bytes that the metadata beside [`KEEP`] take at most: measured between 1 and 2 kB, with room for
/// long paths and for the names of repaired weights.
const ROOM: usize = 4096;

/// Bytes that the metadata of a model with this plan may add to its file.
pub(super) fn room_for(plan: &Plan) -> usize {
    json(&kept(plan)).len() + ROOM
}

/// The kept neurons, layer by layer.
fn kept(plan: &Plan) -> BTreeMap<&str, &[usize]> {
    let layers = plan.layers.iter();
    layers
        .map(|layer| (layer.name.as_str(), layer.keep.as_slice()))
        .collect()
}

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
    pub(super) transfer: Option<&'a TransferReport>,
    /// The numbers of kept units are multiples of this.
    pub(super) align: usize,
    pub(super) form: FormName,
}

/// Key under which the names of the classes are listed, where the model got others and they are
/// known.
const CLASS_NAMES: &str = "onnx_prune.class_names";

/// Key of what a new last layer was fitted to; `verify` reads it.
pub(super) const TRANSFER: &str = "onnx_prune.transfer";

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
        transfer,
        align,
        form,
    } = facts;
    let keep = kept(plan);
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
    set("align", &align.to_string());
    set("repair", &json(&options.repair()));
    if let Some(training) = &options.training {
        set("training", &json(training));
    }
    set("seed", &setup.options.seed.to_string());
    set("data", &data.description);
    if let Some(fingerprint) = &data.fingerprint {
        set("data_sha256", fingerprint);
    }
    set("engine", &setup.engine().info().to_string());
    set("verified", checked.as_deref().unwrap_or("no (--no-verify)"));
    model.set_metadata(FORM, json(form));
    model.set_metadata(KEEP, json(&keep));
    // Those of an earlier run are about a model that is now the original.
    let entries = &mut model.metadata_props;
    entries.retain(|entry| ![WEIGHTS, TRANSFER].contains(&entry.key()));
    let mut names: BTreeSet<&str> = weights.keys().map(String::as_str).collect();
    if let Some(transfer) = transfer {
        names.extend(transfer.weights.iter().map(String::as_str));
        write_transfer(model, transfer);
    }
    if !names.is_empty() {
        model.set_metadata(WEIGHTS, json(&names));
    }
    model.set_metadata(PREPROCESS, data.preprocess.to_json());
}

/// Says which classes the scores are of.
pub(super) fn write_transfer(model: &mut ModelProto, transfer: &TransferReport) {
    model.set_metadata(TRANSFER, json(transfer));
    // Those of the model it was before are of other classes.
    let entries = &mut model.metadata_props;
    entries.retain(|entry| entry.key() != CLASS_NAMES);
    if let Some(names) = &transfer.class_names {
        model.set_metadata(CLASS_NAMES, json(names));
    }
}

/// Adds to the list of weights that are not the original's, in a model that was cut: a proof that is
/// repeated takes them as they are.
pub(super) fn add_weights<'n>(model: &mut ModelProto, names: impl Iterator<Item = &'n String>) {
    if model.metadata(KEEP).is_none() {
        return;
    }
    let known = model.metadata(WEIGHTS).unwrap_or("[]");
    let mut all: BTreeSet<String> = serde_json::from_str(known).unwrap_or_default();
    all.extend(names.cloned());
    let text = json(&all);
    model.set_metadata(WEIGHTS, text);
}

/// Takes back what a model says of its neurons where those that were cut are zeros among its weights,
/// which training changes; whether it did.
pub(super) fn forget_zeros(model: &mut ModelProto) -> bool {
    let is_wide = model.metadata(FORM) == Some(json(&FormName::SameWidth).as_str());
    if is_wide {
        let entries = &mut model.metadata_props;
        entries.retain(|entry| ![FORM, KEEP, WEIGHTS].contains(&entry.key()));
    }
    is_wide
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn training_forgets_only_zeros() {
        // the form of the cut, and whether what it says of neurons holds after training
        let cases = [
            (FormName::SameWidth, false),
            (FormName::Smallest, true),
            (FormName::Neighbours, true),
        ];
        for (form, holds) in cases {
            let mut model = ModelProto::default();
            model.set_metadata(FORM, json(&form));
            model.set_metadata(KEEP, "{}");
            assert_eq!(forget_zeros(&mut model), !holds, "{form}");
            assert_eq!(model.metadata(KEEP).is_some(), holds, "{form}");
        }
        assert!(!forget_zeros(&mut ModelProto::default()));
    }
}
