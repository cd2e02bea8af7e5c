//! The proof of an earlier run, repeated from what the pruned model says about itself.

use std::collections::BTreeMap;

use super::{metadata, setup::Setup, watch::Watch};
use crate::{
    engine::Selected,
    error::{Error, Result},
    eval::{self, Case, Verification},
    features::Samples,
    head::Head,
    onnx::ModelProto,
    prune::{Group, Plan, mask, plan::LayerPlan},
};

/// Proves that `pruned` is the model of `setup` without the neurons that its metadata does not
/// list; nothing where it lists none.
///
/// # Errors
/// [`Error::Argument`] when the list does not fit the head of `setup`'s model; those of
/// [`eval::verify`].
pub(super) fn proof(
    setup: &mut Setup<'_>,
    pruned: &ModelProto,
    engines: &[Selected],
    samples: &[Samples],
    watch: &dyn Watch,
) -> Result<Option<Verification>> {
    let Some(text) = pruned.metadata(metadata::KEEP) else {
        return Ok(None);
    };
    let head = setup.find_head(false, watch)?;
    let plan = recorded(text, &head)?;
    let groups: Vec<&Group> = head.layers.iter().map(|layer| &layer.group).collect();
    let case = Case {
        graph: &setup.graph,
        shapes: &setup.shapes,
        head: &head,
        masked: &mask::masked(&setup.graph, &groups, &plan)?,
        pruned,
    };
    let engines: Vec<_> = engines.iter().map(|selected| &*selected.engine).collect();
    eval::verify(case, &engines, samples).map(Some)
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
