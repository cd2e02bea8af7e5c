//! What would remain if a share of the neurons went: made, not estimated.
//!
//! Which neurons stay matters to accuracy, not to size or time, so the first ones do. The head is
//! cut alone, and then with whole channels, so that what makes them in the trunk goes, too.

use serde::Serialize;

use crate::{
    error::{Error, Result},
    head::Head,
    onnx::ModelProto,
    pipeline::setup::Setup,
    prune::{Budget, Group, LayerScores, Plan, Scores, rewrite, trunk},
};

/// How far a cut goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Reach {
    /// The head alone; the trunk keeps computing all features.
    Head,
    /// The head, and every channel of the trunk that nobody reads any more.
    Trunk,
}

/// A smaller model.
pub(super) struct Cut {
    pub(super) reach: Reach,
    pub(super) model: ModelProto,
    /// Neurons that are left in each layer.
    pub(super) kept: Vec<usize>,
    /// Weights of the trunk that shrink.
    pub(super) removed: Vec<trunk::Removal>,
    /// Where the removal stops, and why.
    pub(super) stops: Vec<trunk::Stop>,
}

/// The head cut alone; and with the trunk, where that removes more.
pub(super) fn make(setup: &Setup<'_>, head: &Head, budget: &Budget) -> Result<Vec<Cut>> {
    let alone = cut(setup, head, budget, Reach::Head)?;
    let deep = cut(setup, head, budget, Reach::Trunk)?;
    let deeper = !deep.removed.is_empty();
    // What stopped it is worth telling, also where nothing could go.
    let mut cuts = vec![Cut {
        stops: deep.stops.clone(),
        ..alone
    }];
    cuts.extend(Some(deep).filter(|_| deeper));
    Ok(cuts)
}

fn cut(setup: &Setup<'_>, head: &Head, budget: &Budget, reach: Reach) -> Result<Cut> {
    let (graph, shapes) = (&setup.graph, &setup.shapes);
    let groups: Vec<&Group> = head.layers.iter().map(|layer| &layer.group).collect();
    let by_channel = |group: &Group| match reach {
        Reach::Trunk => trunk::channels(graph, shapes, group).unwrap_or_default(),
        Reach::Head => Vec::new(),
    };
    let layers = head.layers.iter().map(|layer| LayerScores {
        units: by_channel(&layer.group),
        ..LayerScores::new(&layer.name, vec![0.0; layer.width()])
    });
    let scores = Scores {
        layers: layers.collect(),
    };
    let mut plan = budget.select(&scores)?;
    plan.fill_parts(&groups, &scores);
    if plan.keeps_all() {
        return Err(Error::Argument {
            name: "--keep",
            what: "keeps every neuron, so there is nothing to gain".to_owned(),
        });
    }
    let model = rewrite::pruned(graph, shapes, &groups, &plan)?;
    let kept = kept(&plan);
    if reach == Reach::Head {
        return Ok(Cut {
            reach,
            model,
            kept,
            removed: Vec::new(),
            stops: Vec::new(),
        });
    }
    let shrunk = trunk::shrink_cut(graph, shapes, &groups, &model)?;
    let in_head = |removal: &trunk::Removal| {
        let mut nodes = head.nodes.iter();
        nodes.any(|&node| graph.site(node).node == removal.node)
    };
    Ok(Cut {
        reach,
        model: shrunk.model,
        kept,
        removed: shrunk
            .removed
            .into_iter()
            .filter(|one| !in_head(one))
            .collect(),
        stops: shrunk.stops,
    })
}

fn kept(plan: &Plan) -> Vec<usize> {
    plan.layers.iter().map(|layer| layer.keep.len()).collect()
}
