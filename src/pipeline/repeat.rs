//! The proof of an earlier run, repeated from what the pruned model says about itself.

use std::{cell::OnceCell, collections::BTreeMap};

use super::{metadata, setup::Setup, transfer, watch::Watch, weights};
use crate::{
    engine::Selected,
    error::{Error, Result},
    eval::{self, Case, Verification},
    features::Samples,
    head::Head,
    onnx::{ModelProto, TensorProto},
    prune::{Group, Plan, plan::LayerPlan, width},
};

/// Proves that `pruned` is the model of `setup` without the neurons that its metadata does not
/// list; nothing where it lists none.
///
/// # Errors
/// [`Error::Argument`] when the list does not fit the head of `setup`'s model; those of
/// [`eval::verify`].
pub(super) fn proof<'m>(
    setup: &mut Setup<'m>,
    [transferred, base]: [&'m OnceCell<ModelProto>; 2],
    pruned: &ModelProto,
    engines: &[Selected],
    samples: &[Samples],
    watch: &dyn Watch,
) -> Result<Option<Verification>> {
    let Some(text) = pruned.metadata(metadata::KEEP) else {
        return Ok(None);
    };
    let mut head = setup.find_head(false, watch)?;
    if let Some(text) = pruned.metadata(metadata::TRANSFER) {
        let found = transfer::repeated(setup, &head, text)?;
        setup.shapes = found.shapes;
        head = setup.replace_model(transferred.get_or_init(|| found.model))?;
    }
    let weights = changed(pruned)?;
    if !weights.is_empty() {
        let proto = weights::own(setup, &head)?;
        head = setup.replace_model(base.get_or_init(|| proto))?;
    }
    let plan = recorded(text, &head)?;
    let groups: Vec<&Group> = head.layers.iter().map(|layer| &layer.group).collect();
    let weights = width::narrowed(&setup.graph, &groups, &plan, weights)?;
    let case = Case {
        graph: &setup.graph,
        shapes: &setup.shapes,
        head: &head,
        masked: &weights::oracle(&setup.graph, &groups, &plan, &weights)?,
        pruned,
        cut: pruned,
    };
    let engines: Vec<_> = engines.iter().map(|selected| &*selected.engine).collect();
    eval::verify(case, &engines, samples).map(Some)
}

/// The weights of `pruned` that were repaired or trained, as its metadata names them.
fn changed(pruned: &ModelProto) -> Result<BTreeMap<String, TensorProto>> {
    let Some(text) = pruned.metadata(metadata::WEIGHTS) else {
        return Ok(BTreeMap::new());
    };
    let foreign = |why: String| Error::Argument {
        name: "B",
        what: format!("its metadata {} does not fit it: {why}", metadata::WEIGHTS),
    };
    let names: Vec<String> =
        serde_json::from_str(text).map_err(|error| foreign(error.to_string()))?;
    let initializers = pruned.graph.iter().flat_map(|graph| &graph.initializer);
    let known: BTreeMap<&str, &TensorProto> =
        initializers.map(|tensor| (tensor.name(), tensor)).collect();
    let find = |name: String| match known.get(name.as_str()) {
        Some(&tensor) => Ok((name, tensor.clone())),
        None => Err(foreign(format!("there is no weight {name:?}"))),
    };
    names.into_iter().map(find).collect()
}

/// The plan that the metadata describes; layers it does not name keep all.
fn recorded(text: &str, head: &Head) -> Result<Plan> {
    let foreign = |why: String| Error::Argument {
        name: "B",
        what: format!("its metadata {} does not fit A: {why}", metadata::KEEP),
    };
    let mut keep: BTreeMap<String, Vec<usize>> =
        serde_json::from_str(text).map_err(|error| foreign(error.to_string()))?;
    let mut layers = Vec::new();
    for layer in &head.layers {
        let width = layer.width();
        let keep = keep
            .remove(&layer.name)
            .unwrap_or_else(|| (0..width).collect());
        let rising = keep.is_sorted_by(|one, next| one < next);
        if keep.is_empty() || !rising || keep.last().is_some_and(|&last| last >= width) {
            return Err(foreign(format!(
                "no such neurons in {:?} of {width}",
                layer.name
            )));
        }
        layers.push(LayerPlan {
            name: layer.name.clone(),
            width,
            keep,
        });
    }
    match keep.keys().next() {
        Some(name) => Err(foreign(format!("A has no layer {name:?}"))),
        None => Ok(Plan { layers }),
    }
}
