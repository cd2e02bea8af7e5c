//! Heads as models of their own: from the features to the class scores.
//!
//! The heads of an original and of its pruned version begin at the values of the same names, so
//! that a selection of features counts to the smaller head's time.

use crate::{
    error::Result,
    graph::ValueId,
    pipeline::{section::Section, setup::Setup, watch::Watch},
};

/// Finds the heads of all models; all begin where the first one does, if they can.
pub(super) fn find(setups: &mut [Setup<'_>], watch: &dyn Watch) -> Result<Vec<Section>> {
    let mut heads = Vec::new();
    let mut names: Vec<String> = Vec::new();
    for setup in setups {
        let head = setup.find_head(false, watch)?;
        let shared = names.iter().map(|name| known(setup, name));
        let features = match shared.collect::<Option<Vec<ValueId>>>() {
            Some(shared) if !shared.is_empty() => shared,
            _ => head.features.clone(),
        };
        if names.is_empty() {
            let name = |&id: &ValueId| setup.graph.name(id).to_owned();
            names = features.iter().map(name).collect();
        }
        let scores = [head.scores.value];
        heads.push(Section::new(setup, &setup.shapes, &features, &scores)?);
    }
    Ok(heads)
}

/// A value of this name whose type is known.
fn known(setup: &Setup<'_>, name: &str) -> Option<ValueId> {
    let id = setup.graph.value(name)?;
    setup.shapes.tensor(id).map(|_| id)
}
