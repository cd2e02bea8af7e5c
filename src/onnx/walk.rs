//! Every stored tensor of a model, wherever it hides.
//!
//! Weights are not only the initializers of the main graph: they are in Constant nodes, in the
//! bodies of If, Loop and Scan, in functions and their default attributes, in sparse tensors and
//! in training information. What reads, checks or moves weights goes through here, so that no
//! place is forgotten. The walk keeps its own stack and works at any nesting depth.

use super::{
    node::default_domain,
    proto::{
        AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
        SparseTensorProto, TensorProto, TrainingInfoProto,
    },
    value::imported,
};
use crate::error::Site;

/// A tensor and where it is.
pub(super) struct Held<'m> {
    /// The tensor by its name; one in an attribute by its node.
    pub(super) site: Site,
    pub(super) place: Place,
    pub(super) tensor: &'m mut TensorProto,
}

/// What holds a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Initializer,
    Attribute,
}

/// A sparse tensor and where it is.
pub(super) struct HeldSparse<'m> {
    pub(super) site: Site,
    pub(super) place: Place,
    pub(super) sparse: &'m mut SparseTensorProto,
}

/// Everything in a model that stores values.
#[derive(Default)]
pub(super) struct Stored<'m> {
    /// Dense tensors, in file order within a graph.
    pub(super) dense: Vec<Held<'m>>,
    /// Sparse tensors; their values and indices are tensors too.
    pub(super) sparse: Vec<HeldSparse<'m>>,
}

impl<'m> Stored<'m> {
    /// All tensors, with the values and indices of the sparse ones.
    pub(super) fn into_tensors(self) -> Vec<Held<'m>> {
        let mut tensors = self.dense;
        for held in self.sparse {
            let (site, place) = (held.site, held.place);
            let SparseTensorProto {
                values, indices, ..
            } = held.sparse;
            for tensor in values.iter_mut().chain(indices) {
                let site = site.clone();
                tensors.push(Held {
                    site,
                    place,
                    tensor,
                });
            }
        }
        tensors
    }

    fn initializers(&mut self, graph: &'m mut GraphProto) -> &'m mut [NodeProto] {
        for tensor in &mut graph.initializer {
            self.dense.push(Held {
                site: Site::value(tensor.name()),
                place: Place::Initializer,
                tensor,
            });
        }
        for sparse in &mut graph.sparse_initializer {
            let name = sparse.values.as_ref().map_or("", TensorProto::name);
            self.sparse.push(HeldSparse {
                site: Site::value(name),
                place: Place::Initializer,
                sparse,
            });
        }
        &mut graph.node
    }

    /// Adds the attribute's tensors and returns its graphs.
    fn attribute(
        &mut self,
        attribute: &'m mut AttributeProto,
        site: &Site,
    ) -> impl Iterator<Item = &'m mut GraphProto> {
        let place = Place::Attribute;
        for tensor in attribute.t.iter_mut().chain(&mut attribute.tensors) {
            self.dense.push(Held {
                site: site.clone(),
                place,
                tensor,
            });
        }
        let sparse = attribute.sparse_tensor.iter_mut();
        for sparse in sparse.chain(&mut attribute.sparse_tensors) {
            self.sparse.push(HeldSparse {
                site: site.clone(),
                place,
                sparse,
            });
        }
        attribute.g.iter_mut().chain(&mut attribute.graphs)
    }
}

/// Finds everything in the model that stores values.
pub(super) fn stored(model: &mut ModelProto) -> Stored<'_> {
    let mut found = Stored::default();
    let imports: &[OperatorSetIdProto] = &model.opset_import;
    let mut open: Vec<(&mut GraphProto, &[OperatorSetIdProto])> = Vec::new();
    for training in &mut model.training_info {
        let TrainingInfoProto {
            initialization,
            algorithm,
            ..
        } = training;
        let graphs = initialization.iter_mut().chain(algorithm);
        open.extend(graphs.map(|graph| (graph, imports)));
    }
    for function in &mut model.functions {
        let site = Site::value(function.name());
        let FunctionProto {
            node,
            attribute_proto,
            opset_import,
            ..
        } = function;
        for attribute in attribute_proto {
            let graphs = found.attribute(attribute, &site);
            open.extend(graphs.map(|graph| (graph, &opset_import[..])));
        }
        nodes(node, opset_import, &mut found, &mut open);
    }
    open.extend(model.graph.iter_mut().map(|graph| (graph, imports)));
    while let Some((graph, imports)) = open.pop() {
        nodes(found.initializers(graph), imports, &mut found, &mut open);
    }
    found
}

fn nodes<'m>(
    nodes: &'m mut [NodeProto],
    imports: &'m [OperatorSetIdProto],
    found: &mut Stored<'m>,
    open: &mut Vec<(&'m mut GraphProto, &'m [OperatorSetIdProto])>,
) {
    for node in nodes.iter_mut().filter(|node| !node.attribute.is_empty()) {
        let site = site(node, imports);
        for attribute in &mut node.attribute {
            let graphs = found.attribute(attribute, &site);
            open.extend(graphs.map(|graph| (graph, imports)));
        }
    }
}

/// Nodes without a name go by their first output.
fn site(node: &NodeProto, imports: &[OperatorSetIdProto]) -> Site {
    let first_output = node.output.first().map_or("", String::as_str);
    let name = match node.name() {
        "" => first_output,
        name => name,
    };
    let op_type = match default_domain(node.domain()) {
        "" => node.op().to_owned(),
        domain => format!("{domain}.{}", node.op()),
    };
    Site {
        node: name.to_owned(),
        op_type,
        opset: imported(imports, node.domain()).unwrap_or(0),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::onnx::Tensor;

    fn tensor(name: &str) -> TensorProto {
        Tensor::f32([2], vec![1.0, 2.0]).unwrap().to_proto(name)
    }

    fn sparse(name: &str) -> SparseTensorProto {
        SparseTensorProto {
            values: Some(tensor(name)),
            indices: Some(Tensor::i64([2], vec![0, 3]).unwrap().to_proto("")),
            dims: vec![8],
        }
    }

    /// A model with a tensor in every place that the format has, named after the place.
    pub(crate) fn model_with_tensors_everywhere() -> ModelProto {
        let mut inner = GraphProto::new("inner");
        inner.initializer.push(tensor("subgraph"));
        let constant = |name: &str| {
            NodeProto::new("Constant", &[], &[name]).with_tensor("value", tensor(name))
        };
        let mut branch = NodeProto::new("If", &["c"], &["y"]).with_graph("then_branch", inner);
        branch.attribute.push(AttributeProto {
            tensors: vec![tensor("list")],
            sparse_tensor: Some(sparse("sparse attribute")),
            sparse_tensors: vec![sparse("sparse list")],
            graphs: vec![GraphProto {
                node: vec![constant("constant in graph list")],
                ..GraphProto::default()
            }],
            ..AttributeProto::default()
        });
        let mut graph = GraphProto::new("main");
        graph.node = vec![constant("constant"), branch];
        graph.initializer.push(tensor("initializer"));
        graph.sparse_initializer.push(sparse("sparse initializer"));
        let mut model = ModelProto::new(graph, 17);
        model.functions.push(FunctionProto {
            name: Some("f".into()),
            node: vec![constant("function body")],
            attribute_proto: constant("function default").attribute,
            opset_import: model.opset_import.clone(),
            ..FunctionProto::default()
        });
        let training = |name: &str| {
            let mut graph = GraphProto::new(name);
            graph.initializer.push(tensor(name));
            Some(graph)
        };
        model.training_info.push(TrainingInfoProto {
            initialization: training("initialization"),
            algorithm: training("algorithm"),
            ..TrainingInfoProto::default()
        });
        model
    }

    #[test]
    fn every_place_that_stores_values_is_found() {
        let mut model = model_with_tensors_everywhere();
        let mut found: Vec<String> = stored(&mut model)
            .into_tensors()
            .iter()
            .map(|held| held.tensor.name().to_owned())
            .filter(|name| !name.is_empty())
            .collect();
        found.sort();
        let expected = [
            "algorithm",
            "constant",
            "constant in graph list",
            "function body",
            "function default",
            "initialization",
            "initializer",
            "list",
            "sparse attribute",
            "sparse initializer",
            "sparse list",
            "subgraph",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn attribute_tensors_are_sited_at_their_node() {
        let mut model = model_with_tensors_everywhere();
        let stored = stored(&mut model);
        let constant = stored.dense.iter().find(|h| h.tensor.name() == "constant");
        let site = constant.unwrap().site.to_string();
        assert_eq!(site, "node \"constant\" (Constant, opset 17)");
    }
}
