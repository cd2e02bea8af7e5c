//! Selections at the entry of a cut head, made while its features are read.
//!
//! Where features keep their width, a cut head begins with a Gather. Engines copy it number by
//! number in every run; here a row is picked from as it is read, once for all that begins alike.

use super::FeatureSet;
use crate::{
    error::Result,
    graph::{Graph, NodeId, ValueId},
    onnx::{DataType, Dim, GraphProto, ModelProto, ValueInfoProto},
};

/// A Gather that alone reads a feature.
struct Selection {
    /// Which of the features.
    feature: usize,
    node: NodeId,
    input: ValueId,
    output: ValueId,
    axis: usize,
    keep: Vec<usize>,
}

/// The head without the selections it begins with, and features that are selected already, by the
/// names of what the selections made; nothing where there are none that can be made beforehand.
///
/// # Errors
/// [`crate::Error::Invalid`] for a model that is no graph.
pub fn selected(
    head: &ModelProto,
    features: &FeatureSet,
) -> Result<Option<(ModelProto, FeatureSet)>> {
    let graph = Graph::new(head)?;
    let names = features.names().iter().enumerate();
    let found = names.filter_map(|(feature, name)| selection(&graph, feature, graph.value(name)?));
    let mut done: Option<(ModelProto, FeatureSet)> = None;
    for selection in found.collect::<Vec<_>>() {
        let (model, features) = match &done {
            None => (head, features),
            Some((model, features)) => (model, features),
        };
        let name = graph.name(selection.output);
        let Selection { feature, axis, .. } = selection;
        let Some(picked) = features.picked(feature, name, axis, &selection.keep) else {
            continue;
        };
        let mut model = model.clone();
        if let Some(proto) = model.graph.as_mut() {
            enter_behind(proto, &graph, &selection);
        }
        done = Some((model, picked));
    }
    Ok(done)
}

fn selection(graph: &Graph<'_>, feature: usize, input: ValueId) -> Option<Selection> {
    let [reading] = graph.uses(input) else {
        return None;
    };
    let node = reading.node;
    let gather = graph.node(node);
    let is_gather = gather.op() == "Gather" && gather.domain_or_default().is_empty();
    if !is_gather || reading.input != 0 || graph.is_output(input) {
        return None;
    }
    let indices = graph.constant_input(node, 1)?;
    let keep = indices.to_i64().into_iter().map(usize::try_from);
    let keep = keep.collect::<Result<Vec<_>, _>>().ok()?;
    let output = graph.output(node, 0)?;
    (indices.shape().len() == 1 && !graph.is_output(output)).then_some(Selection {
        feature,
        node,
        input,
        output,
        axis: usize::try_from(gather.int("axis").unwrap_or(0)).ok()?,
        keep,
    })
}

/// Takes the node out; what it made is the graph's input in place of what it read.
fn enter_behind(proto: &mut GraphProto, graph: &Graph<'_>, selection: &Selection) {
    let (input, output) = (graph.name(selection.input), graph.name(selection.output));
    let gather = graph.node(selection.node);
    proto.node.retain(|node| node != gather);
    for port in proto.input.iter_mut().filter(|port| port.name() == input) {
        match port.dims() {
            None => port.name = Some(output.to_owned()),
            Some(mut dims) => {
                if let Some(dim) = dims.get_mut(selection.axis) {
                    *dim = Dim::Fixed(selection.keep.len());
                }
                *port = ValueInfoProto::tensor(output, DataType::Float, &dims);
            }
        }
    }
    let own = graph.input(selection.node, 1);
    let own = own.filter(|&indices| graph.uses(indices).len() == 1 && !graph.is_output(indices));
    if let Some(indices) = own.map(|indices| graph.name(indices)) {
        proto.initializer.retain(|tensor| tensor.name() != indices);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        engine::testing::engines,
        features::testing::Numbers,
        onnx::{NodeProto, Tensor},
    };

    struct Case {
        caption: &'static str,
        /// Behind the samples.
        shape: &'static [usize],
        axis: i64,
        indices: &'static [i64],
        /// Reads the feature once more.
        again: bool,
        taken: bool,
    }

    const CASES: [Case; 6] = [
        case("vectors", &[5], 1, &[0, 3, 4], true),
        case("channels", &[4, 3], 1, &[1, 2], true),
        case("positions", &[4, 3], 2, &[0, 2], true),
        case("from the end", &[5], 1, &[0, -1], false),
        case("samples", &[5], 0, &[0, 1], false),
        Case {
            caption: "another reader",
            again: true,
            ..case("", &[5], 1, &[0, 3], false)
        },
    ];

    const fn case(
        caption: &'static str,
        shape: &'static [usize],
        axis: i64,
        indices: &'static [i64],
        taken: bool,
    ) -> Case {
        Case {
            caption,
            shape,
            axis,
            indices,
            again: false,
            taken,
        }
    }

    fn head(case: &Case) -> ModelProto {
        let mut graph = GraphProto::new("head");
        let mut dims = vec![Dim::Symbol("batch".to_owned())];
        dims.extend(case.shape.iter().copied().map(Dim::Fixed));
        graph.input = vec![ValueInfoProto::tensor("x", DataType::Float, &dims)];
        let indices = Tensor::i64([case.indices.len()], case.indices.to_vec()).unwrap();
        graph.initializer = vec![indices.to_proto("kept")];
        let gather = NodeProto::new("Gather", &["x", "kept"], &["selected"]);
        graph.node = vec![
            gather.with_int("axis", case.axis),
            NodeProto::new("Relu", &["selected"], &["y"]),
        ];
        if case.again {
            graph.node.push(NodeProto::new("Relu", &["x"], &["z"]));
        }
        let outputs: &[&str] = if case.again { &["y", "z"] } else { &["y"] };
        let dims = vec![Dim::Unknown; dims.len()];
        let port = |name: &&str| ValueInfoProto::tensor(name, DataType::Float, &dims);
        graph.output = outputs.iter().map(port).collect();
        ModelProto::new(graph, 17)
    }

    fn run(model: &ModelProto, features: &FeatureSet) -> Vec<Vec<Tensor>> {
        let batch = features.read(&[2, 0, 3]).unwrap();
        let run = |engine: std::sync::Arc<dyn crate::engine::Engine>| {
            let mut session = engine.load(model).unwrap();
            session
                .run(&[(&features.names()[0], &batch.values[0])])
                .unwrap()
        };
        engines().into_iter().map(run).collect()
    }

    #[test]
    fn selected_features_give_what_the_selection_gives() {
        for case in &CASES {
            let caption = case.caption;
            let shape = [&[4], case.shape].concat();
            let values = Numbers(1).take(shape.iter().product());
            let tensor = Tensor::f32(shape, values).unwrap();
            let all = FeatureSet::from_memory(vec!["x".to_owned()], vec![tensor], None).unwrap();
            let model = head(case);
            let found = selected(&model, &all).unwrap();
            assert_eq!(found.is_some(), case.taken, "{caption}");
            let Some((behind, few)) = found else { continue };
            assert_eq!(few.names(), ["selected"], "{caption}");
            assert!(few.bytes() < all.bytes() && !few.is_same(&all), "{caption}");
            assert_eq!(run(&behind, &few), run(&model, &all), "{caption}");
            assert!(
                few.is_same(&selected(&model, &all).unwrap().unwrap().1),
                "{caption}"
            );
        }
    }
}
