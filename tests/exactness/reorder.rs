//! Channels in another order: selections that become ranges, and what must stay as it is.

use onnx_prune::{
    engine::testing,
    features,
    graph::{Graph, Shapes},
    head,
    onnx::ModelProto,
    prune::{Group, rewrite, trunk},
};

use crate::{
    heads::plan,
    nets::{Builder, compare, input},
    trunk::MAPS,
};

/// Sums over channels run in another order.
const TOLERANCE: f32 = 1e-4;

/// A trunk whose selection stays, and how many Gather and Slice are left of it when channels 1, 4, ...
/// stay.
struct Case {
    name: &'static str,
    build: fn(&mut Builder) -> String,
    gathers: usize,
    slices: usize,
}

const CASES: [Case; 6] = [
    Case {
        name: "a residual stream and all that writes and reads it",
        build: |b| {
            let h = b.same("x", 3, 6, 3, 1);
            let h = b.batch_norm(&h, 6);
            let h = b.node("Relu", &[&h]);
            let f = b.same(&h, 6, 6, 3, 1);
            let h = b.node("Add", &[&h, &f]);
            let f = b.same(&h, 6, 6, 3, 1);
            let h = b.node("Add", &[&h, &f]);
            b.pooled(&h, 6)
        },
        gathers: 0,
        slices: 1,
    },
    Case {
        name: "through a depthwise convolution",
        build: |b| {
            let h = b.same("x", 3, 6, 3, 1);
            let d = b.same(&h, 6, 6, 3, 6);
            let f = b.same(&d, 6, 6, 1, 1);
            let h = b.node("Add", &[&h, &f]);
            b.pooled(&h, 6)
        },
        gathers: 0,
        slices: 1,
    },
    Case {
        name: "a weight that two layers share gets a copy",
        build: |b| {
            let h = b.same("x", 3, 6, 3, 1);
            let w = b.weight(&[6, 6, 1, 1]);
            let f = b.node("Conv", &[&h, &w]);
            let f = b.node("Relu", &[&f]);
            let f = b.node("Conv", &[&f, &w]);
            let h = b.node("Add", &[&h, &f]);
            b.pooled(&h, 6)
        },
        gathers: 0,
        slices: 1,
    },
    Case {
        name: "groups keep their channels",
        build: |b| {
            let h = b.same("x", 3, 6, 3, 1);
            let f = b.same(&h, 6, 6, 3, 2);
            let h = b.node("Add", &[&h, &f]);
            b.pooled(&h, 6)
        },
        gathers: 1,
        slices: 0,
    },
    Case {
        name: "a concatenation keeps its parts",
        build: |b| {
            let one = b.same("x", 3, 4, 3, 1);
            let two = b.same(&one, 4, 5, 3, 1);
            let h = b.join(&[&one, &two]);
            b.pooled(&h, 9)
        },
        gathers: 1,
        slices: 0,
    },
    Case {
        name: "the image's own channels",
        build: |b| {
            let f = b.same("x", 3, 3, 3, 1);
            let h = b.node("Add", &["x", &f]);
            b.pooled(&h, 3)
        },
        gathers: 0,
        slices: 1,
    },
];

/// The model cut, and the same with its channels in another order where that can be; both shrunk.
fn cut_and_ordered(model: &ModelProto) -> Result<[ModelProto; 2], String> {
    let say = |error: onnx_prune::Error| error.to_string();
    let graph = Graph::new(model).map_err(say)?;
    let known = Shapes::declared(&graph);
    let engine = &testing::engines()[1];
    let shapes = features::probe(&**engine, &graph, &known, &input(MAPS)).map_err(say)?;
    let head = head::find(&graph, &shapes).map_err(say)?;
    let groups: Vec<&Group> = head.layers.iter().map(|layer| &layer.group).collect();
    let plan = plan(&head, |_, channel| channel % 3 != 1);
    let cut = rewrite::pruned(&graph, &shapes, &groups, &plan).map_err(say)?;
    let ordered = trunk::neighbours(&graph, &shapes, &groups, &cut).map_err(say)?;
    let shrunk = |model: &ModelProto| {
        let shrunk = trunk::shrink_cut(&graph, &shapes, &groups, model).map_err(say)?;
        Ok::<_, String>(shrunk.model)
    };
    Ok([shrunk(&cut)?, shrunk(&ordered.unwrap_or(cut))?])
}

fn count(model: &ModelProto, op: &str) -> usize {
    let nodes = model.graph.iter().flat_map(|graph| &graph.node);
    nodes.filter(|node| node.op() == op).count()
}

#[test]
fn selections_become_ranges_where_all_readers_follow() {
    let mut failed = Vec::new();
    for case in CASES {
        let mut builder = Builder::new(MAPS);
        let output = (case.build)(&mut builder);
        let model = builder.finish(&output, 4);
        let [cut, ordered] = match cut_and_ordered(&model) {
            Ok(models) => models,
            Err(error) => {
                failed.push(format!("{}: {error}", case.name));
                continue;
            }
        };
        let left = (count(&ordered, "Gather"), count(&ordered, "Slice"));
        if left != (case.gathers, case.slices) {
            failed.push(format!("{}: {left:?} selections", case.name));
        }
        for engine in &testing::engines() {
            let same = compare(&**engine, &cut, &ordered, &input(MAPS), TOLERANCE);
            failed.extend(same.err().map(|error| format!("{}: {error}", case.name)));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn a_stream_that_is_an_output_of_the_model_keeps_its_order() {
    let mut builder = Builder::new(MAPS);
    let stream = builder.same("x", 3, 6, 3, 1);
    let f = builder.same(&stream, 6, 6, 3, 1);
    let h = builder.node("Add", &[&stream, &f]);
    let output = builder.pooled(&h, 6);
    let mut model = builder.finish(&output, 4);
    let proto = model.graph.as_mut().unwrap();
    let mut extra = proto.output[0].clone();
    extra.name = Some(stream);
    extra.r#type = None;
    proto.output.push(extra);
    let [cut, ordered] = cut_and_ordered(&model).unwrap();
    assert_eq!(cut, ordered);
}
