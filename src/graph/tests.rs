use super::*;
use crate::onnx::{AttributeProto, DataType, Dim, ValueInfoProto};

fn node(op: &str, inputs: &[&str], output: &str) -> NodeProto {
    NodeProto::new(op, inputs, &[output]).with_name(&format!("node_{output}"))
}

fn weight(name: &str, shape: &[usize]) -> TensorProto {
    let count: usize = shape.iter().product();
    let values = (0..count).map(|index| index as f32).collect();
    Tensor::f32(shape, values).unwrap().to_proto(name)
}

fn info(name: &str, dims: &[usize]) -> ValueInfoProto {
    let dims: Vec<Dim> = dims.iter().map(|&size| Dim::Fixed(size)).collect();
    ValueInfoProto::tensor(name, DataType::Float, &dims)
}

/// `x [2, 4]` and `y` with these nodes and weights.
fn model(nodes: Vec<NodeProto>, weights: Vec<TensorProto>) -> ModelProto {
    let mut graph = GraphProto::new("test");
    graph.input = vec![info("x", &[2, 4])];
    graph.output = vec![info("y", &[2, 3])];
    graph.node = nodes;
    graph.initializer = weights;
    ModelProto::new(graph, 18)
}

/// `h = x w0 + b; r = Relu(h); y = r w1`, with a declared shape for `h`.
fn chain() -> ModelProto {
    let nodes = vec![
        node("Gemm", &["x", "w0", "b"], "h"),
        node("Relu", &["h"], "r"),
        node("MatMul", &["r", "w1"], "y"),
    ];
    let weights = vec![
        weight("w0", &[4, 5]),
        weight("b", &[5]),
        weight("w1", &[5, 3]),
    ];
    let mut model = model(nodes, weights);
    model.graph.as_mut().unwrap().value_info = vec![info("h", &[2, 5])];
    model.set_metadata("author", "somebody");
    model
}

#[test]
fn broken_graphs_are_refused_with_the_place() {
    let relu = |from: &str, to: &str| node("Relu", &[from], to);
    let cases = [
        (vec![relu("y", "a"), relu("a", "y")], "node_a", "cycle"),
        (
            vec![relu("x", "y"), relu("x", "y")],
            "node_y",
            "exists already",
        ),
        (
            vec![relu("nowhere", "y")],
            "node_y",
            "\"nowhere\", which nothing makes",
        ),
        (vec![relu("x", "x")], "node_x", "exists already"),
        (vec![relu("x", "z")], "\"y\"", "nothing makes it"),
    ];
    for (nodes, site, what) in cases {
        let model = model(nodes, vec![]);
        let error = Graph::new(&model).unwrap_err().to_string();
        assert!(error.contains(site) && error.contains(what), "{error}");
    }
}

#[test]
fn operator_sets_outside_the_known_ones_are_refused() {
    let relu = || vec![node("Relu", &["x"], "y")];
    for (version, known) in [(6, false), (7, true), (28, true), (29, false), (99, false)] {
        let mut model = model(relu(), vec![]);
        model.opset_import[0].version = Some(version);
        let found = Graph::new(&model);
        assert_eq!(found.is_ok(), known, "opset {version}");
        if let Err(error) = found {
            assert!(error.to_string().contains(&version.to_string()), "{error}");
        }
    }
    let mut model = model(relu(), vec![]);
    model.opset_import.clear();
    assert!(Graph::new(&model).is_err(), "no operator set");
}

#[test]
fn order_follows_the_values_and_not_the_file() {
    let nodes = vec![
        node("Relu", &["b"], "y"),
        node("Relu", &["a"], "b"),
        node("Relu", &["x"], "a"),
    ];
    let model = model(nodes, vec![]);
    let graph = Graph::new(&model).unwrap();
    assert_eq!(graph.order(), [NodeId(2), NodeId(1), NodeId(0)]);
}

#[test]
fn constants_are_alike_however_they_are_written() {
    let in_tensor = NodeProto::new("Constant", &[], &["c1"]).with_tensor("value", weight("", &[2]));
    let in_list = NodeProto::new("Constant", &[], &["c2"]).with_ints("value_ints", &[7, 8]);
    let in_float = NodeProto::new("Constant", &[], &["c3"]).with_float("value_float", 0.5);
    let nodes = vec![
        in_tensor,
        in_list,
        in_float,
        node("Identity", &["w"], "again"),
        node("Identity", &["again"], "twice"),
        node("Transpose", &["w"], "turned"),
        node("Sum", &["x", "twice", "turned"], "y"),
    ];
    let model = model(nodes, vec![weight("w", &[2, 3])]);
    let graph = Graph::new(&model).unwrap();
    let decoded = |name: &str| {
        let tensor = graph.constant(graph.value(name).unwrap());
        tensor.map(|tensor| Tensor::from_proto(tensor).unwrap())
    };
    assert_eq!(decoded("c1").unwrap().to_f32().to_vec(), [0.0, 1.0]);
    assert_eq!(decoded("c2").unwrap().to_i64(), [7, 8]);
    assert_eq!(decoded("c3").unwrap().to_f32().to_vec(), [0.5]);
    assert_eq!(decoded("twice").unwrap().shape(), [2, 3]);
    let turned = decoded("turned").unwrap();
    assert_eq!(turned.shape(), [3, 2]);
    assert_eq!(turned.to_f32().to_vec(), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
    assert_eq!(decoded("x"), None);
}

#[test]
fn a_subgraph_that_reads_a_value_uses_it() {
    let mut branch = GraphProto::new("then");
    branch.node = vec![node("Relu", &["h"], "inner")];
    branch.output = vec![info("inner", &[2, 3])];
    let choice = node("If", &["flag"], "y").with_graph("then_branch", branch);
    let nodes = vec![choice, node("Relu", &["x"], "h")];
    let model = model(nodes, vec![weight("flag", &[])]);
    let graph = Graph::new(&model).unwrap();
    let uses = graph.uses(graph.value("h").unwrap());
    let input = Use::CAPTURE;
    assert_eq!(
        uses,
        [Use {
            node: NodeId(0),
            input
        }]
    );
    assert_eq!(graph.order(), [NodeId(1), NodeId(0)]);
}

#[test]
fn a_patch_leaves_no_orphans_and_no_stale_shapes_and_all_else_as_it_was() {
    let model = chain();
    let graph = Graph::new(&model).unwrap();
    let mut patch = Patch::default();
    let last = graph.producer(graph.value("y").unwrap()).unwrap();
    let name = patch.fresh_name(&graph, "w1");
    assert_eq!(name, "w1_1");
    patch.set_initializer(weight(&name, &[5, 3]));
    patch.redirect(
        Use {
            node: last,
            input: 1,
        },
        name,
    );
    let picked = patch.fresh_name(&graph, "picked");
    patch.insert(node("Abs", &["r"], &picked));
    patch.redirect(
        Use {
            node: last,
            input: 0,
        },
        picked,
    );
    patch.forget_shape(graph.value("h").unwrap());
    let edited = patch.apply(&graph).unwrap();
    let text = crate::onnx::text::print(edited.graph.as_ref().unwrap());
    let proto = edited.graph.as_ref().unwrap();
    let weights: Vec<&str> = proto
        .initializer
        .iter()
        .map(|tensor| tensor.name())
        .collect();
    assert_eq!(weights, ["w0", "b", "w1_1"], "{text}");
    assert!(proto.value_info.is_empty(), "{text}");
    let order: Vec<&str> = proto.node.iter().map(|node| node.op()).collect();
    assert_eq!(order, ["Gemm", "Relu", "Abs", "MatMul"]);
    assert_eq!(proto.node[..2], graph.proto().node[..2]);
    assert_eq!(edited.metadata("author"), Some("somebody"));
    assert_eq!(edited.metadata_props, model.metadata_props);
}

#[test]
fn nodes_that_only_fed_a_replaced_weight_go_with_it() {
    let nodes = vec![
        node("Identity", &["w"], "copy"),
        node("Transpose", &["copy"], "turned"),
        node("MatMul", &["x", "turned"], "y"),
    ];
    let model = model(nodes, vec![weight("w", &[3, 4])]);
    let graph = Graph::new(&model).unwrap();
    let mut patch = Patch::default();
    patch.set_initializer(weight("new", &[4, 3]));
    patch.redirect(
        Use {
            node: NodeId(2),
            input: 1,
        },
        "new",
    );
    let edited = patch.apply(&graph).unwrap().graph.unwrap();
    assert_eq!(edited.node.len(), 1);
    assert_eq!(edited.initializer.len(), 1);
}

#[test]
fn initializers_that_are_declared_as_inputs_stay_declared_with_their_new_shape() {
    let mut model = chain();
    model.graph.as_mut().unwrap().input.push(info("b", &[5]));
    let graph = Graph::new(&model).unwrap();
    assert_eq!(graph.inputs().len(), 1);
    let mut patch = Patch::default();
    patch.set_initializer(weight("b", &[1]));
    let edited = patch.apply(&graph).unwrap().graph.unwrap();
    assert_eq!(edited.input[1].dims(), Some(vec![Dim::Fixed(1)]));
}

#[test]
fn a_patch_that_breaks_the_graph_is_refused() {
    let model = chain();
    let graph = Graph::new(&model).unwrap();
    let mut patch = Patch::default();
    patch.redirect(
        Use {
            node: NodeId(0),
            input: 0,
        },
        "y",
    );
    assert!(
        patch
            .apply(&graph)
            .unwrap_err()
            .to_string()
            .contains("cycle")
    );
    let mut patch = Patch::default();
    patch.redirect(
        Use {
            node: NodeId(0),
            input: 0,
        },
        "missing",
    );
    assert!(patch.apply(&graph).is_err());
}

#[test]
fn attributes_are_replaced_or_added() {
    let model = chain();
    let graph = Graph::new(&model).unwrap();
    let mut patch = Patch::default();
    let attribute = AttributeProto {
        name: Some("alpha".to_owned()),
        f: Some(2.0),
        ..AttributeProto::default()
    };
    patch.set_attribute(NodeId(0), attribute);
    let edited = patch.apply(&graph).unwrap().graph.unwrap();
    assert_eq!(edited.node[0].float("alpha"), Some(2.0));
}

#[test]
fn a_part_holds_what_it_needs_and_nothing_else() {
    let model = chain();
    let graph = Graph::new(&model).unwrap();
    let shapes = Shapes::declared(&graph);
    let id = |name: &str| graph.value(name).unwrap();
    let part = extract(&graph, &shapes, &[id("h")], &[id("y")]).unwrap();
    let proto = part.graph.as_ref().unwrap();
    let weights: Vec<&str> = proto
        .initializer
        .iter()
        .map(|tensor| tensor.name())
        .collect();
    assert_eq!(weights, ["w1"]);
    assert_eq!(proto.input[0].name(), "h");
    assert_eq!(proto.node.len(), 2);
    assert!(Graph::new(&part).is_ok());
    let error = extract(&graph, &shapes, &[id("r")], &[id("y")]).unwrap_err();
    assert!(error.to_string().contains("\"r\""), "{error}");
}

#[test]
fn outputs_that_are_no_tensors_are_told_by_what_they_are_made_of() {
    let nodes = vec![
        node("Relu", &["x"], "y"),
        node("Neg", &["x"], "p"),
        node("ZipMap", &["y"], "maps_of_y"),
        node("ZipMap", &["p"], "maps_of_p"),
        node("SequenceConstruct", &["p"], "sequence"),
    ];
    let mut model = model(nodes, Vec::new());
    let maps = ["maps_of_y", "maps_of_p", "sequence"].map(|name| {
        let mut info = info(name, &[]);
        info.r#type.as_mut().unwrap().value = Some(type_proto::Value::SequenceType(Box::default()));
        info
    });
    let outputs = &mut model.graph.as_mut().unwrap().output;
    outputs.extend(maps);
    // One whose type is not declared.
    outputs[2].r#type = None;
    let graph = Graph::new(&model).unwrap();
    let told = graph.tensor_outputs().into_iter();
    let told: Vec<&str> = told.map(|id| graph.name(id)).collect();
    assert_eq!(told, ["y", "p"]);
}
