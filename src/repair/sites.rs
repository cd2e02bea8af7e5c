//! The sinks of the cut layers, in the order in which they are solved.

use super::{LayerRepair, Request};
use crate::{
    error::Result,
    graph::{Graph, NodeId},
    head::Layer,
    prune::{
        Sink,
        dense::{self, Dense, Kind},
    },
};

/// Operators that hand the class scores on as they are, in another shape at most.
const VIEWS: [&str; 7] = [
    "Cast",
    "Dropout",
    "Flatten",
    "Identity",
    "Reshape",
    "Squeeze",
    "Unsqueeze",
];

/// Sinks that read the same value in the same way: one factor serves them all.
#[derive(Debug)]
pub(super) struct Wave {
    pub(super) sites: Vec<Site>,
}

/// One sink of a cut layer.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) layer: String,
    /// The value it makes, as the original names it.
    pub(super) node: String,
    pub(super) dense: Dense,
    /// The outputs of the original that are left, sorted; nothing where all are.
    pub(super) kept: Option<Vec<usize>>,
}

impl Wave {
    /// The layer all sites read; every wave has at least one site.
    pub(super) fn dense(&self) -> &Dense {
        &self.sites[0].dense
    }

    /// Inputs of one row.
    pub(super) fn inputs(&self) -> usize {
        let dense = self.dense();
        dense.shape.iter().product::<usize>() / dense.outputs().max(1)
    }

    /// Which columns of all outputs side by side belong to a site.
    pub(super) fn columns(&self, site: usize) -> std::ops::Range<usize> {
        let before = self.sites[..site].iter();
        let start: usize = before.map(|site| site.dense.outputs()).sum();
        start..start + self.sites[site].dense.outputs()
    }

    fn takes(&self, dense: &Dense) -> bool {
        let first = self.dense();
        let window = |dense: &Dense| match dense.kind {
            Kind::Window => dense.shape[2..].to_vec(),
            Kind::Gemm | Kind::TransposedGemm | Kind::MatMul | Kind::Pixel => Vec::new(),
        };
        dense.input == first.input && dense.kind == first.kind && window(dense) == window(first)
    }
}

/// The waves, from the features to the scores, and what cannot be solved.
pub(super) fn waves(request: Request<'_>) -> Result<(Vec<Wave>, Vec<LayerRepair>)> {
    let pruned = Graph::new(request.head_model)?;
    let mut waves: Vec<Wave> = Vec::new();
    let mut misfits = Vec::new();
    for (layer, sink) in sinks(request) {
        let Some(output) = request.graph.output(sink.at.node, 0) else {
            continue;
        };
        let node = request.graph.name(output).to_owned();
        let found = dense::find(&pruned, &node).map_err(|error| error.to_string());
        let found = found.and_then(|dense| {
            let kept = kept_outputs(request, sink.at.node, &dense)?;
            Ok((dense, kept))
        });
        match found {
            Ok((dense, kept)) => {
                let site = Site {
                    layer: layer.to_owned(),
                    node,
                    dense,
                    kept,
                };
                match waves.iter_mut().find(|wave| wave.takes(&site.dense)) {
                    Some(wave) => wave.sites.push(site),
                    None => waves.push(Wave { sites: vec![site] }),
                }
            }
            Err(why) => misfits.push(LayerRepair {
                layer: layer.to_owned(),
                node,
                form: None,
                lambda: None,
                rows: 0,
                inputs: 0,
                error_before: None,
                error_after: None,
                applied: false,
                matching: None,
                note: Some(format!("stays as cut: {why}")),
            }),
        }
    }
    Ok((waves, misfits))
}

/// The layer that makes the logits, by itself; why there is no such layer, otherwise.
pub(super) fn last(request: Request<'_>) -> Result<Result<Wave, String>> {
    let Request { graph, head, .. } = request;
    let pruned = Graph::new(request.head_model)?;
    let node = match head.scores.last[..] {
        [node] => node,
        _ => return Ok(Err("several layers make the class scores".to_owned())),
    };
    let Some(output) = graph.output(node, 0) else {
        return Ok(Err("nothing reads it".to_owned()));
    };
    let name = graph.name(output).to_owned();
    let dense = match dense::find(&pruned, &name) {
        Ok(dense) => dense,
        Err(error) => return Ok(Err(error.to_string())),
    };
    if let Some(between) = between(&pruned, &dense.value, graph.name(head.scores.logits)) {
        return Ok(Err(between));
    }
    if dense.outputs() != head.scores.classes {
        return Ok(Err("it makes more values than there are classes".to_owned()));
    }
    let reads = |layer: &&Layer| layer.group.sinks.iter().any(|sink| sink.at.node == node);
    let layer = head.layers.iter().rfind(reads);
    let layer = layer.map_or_else(|| name.clone(), |layer| layer.name.clone());
    let site = Site {
        layer,
        node: name,
        dense,
        kept: None,
    };
    Ok(Ok(Wave { sites: vec![site] }))
}

/// What stands between a value and the logits, other than operators that only rename them.
fn between(graph: &Graph<'_>, value: &str, logits: &str) -> Option<String> {
    let mut at = graph.value(logits);
    while let Some(id) = at {
        if graph.name(id) == value {
            return None;
        }
        let Some(node) = graph.producer(id) else {
            break;
        };
        if !VIEWS.contains(&graph.node(node).op()) {
            let site = graph.site(node);
            return Some(format!("between it and the class scores stands {site}"));
        }
        at = graph.input(node, 0);
    }
    Some("it does not make the class scores".to_owned())
}

/// The sinks of the layers that lost neurons, in the order of the graph.
fn sinks<'a>(request: Request<'a>) -> Vec<(&'a str, &'a Sink)> {
    let Request {
        graph, head, plan, ..
    } = request;
    let layers = head.layers.iter().zip(&plan.layers);
    let cut = layers.filter(|(_, kept)| kept.keep.len() < kept.width);
    let sinks = cut.flat_map(|(layer, _)| {
        let sinks = layer.group.sinks.iter();
        sinks.map(|sink| (layer.name.as_str(), sink))
    });
    let mut sinks: Vec<_> = sinks.collect();
    let place = |node: NodeId| graph.order().iter().position(|&other| other == node);
    sinks.sort_by_key(|(_, sink)| place(sink.at.node));
    sinks
}

/// Which of the original's outputs a sink still makes.
fn kept_outputs(
    request: Request<'_>,
    node: NodeId,
    dense: &Dense,
) -> Result<Option<Vec<usize>>, String> {
    let groups = request.head.layers.iter().map(|layer| &layer.group);
    let groups: Vec<_> = groups.collect();
    let made = request.plan.entries_of(&groups, node, dense.output_axis);
    let Some((width, kept)) = made else {
        return Ok(None);
    };
    if kept.len() != dense.outputs() {
        return Err(format!(
            "it makes {} values where {} are left",
            dense.outputs(),
            kept.len()
        ));
    }
    Ok((kept.len() < width).then_some(kept))
}
