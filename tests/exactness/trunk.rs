//! Channels out of the trunk: topologies by name.

use std::collections::BTreeMap;

use onnx_prune::{
    engine::testing,
    features,
    graph::{Graph, Shapes},
    head,
    onnx::{ModelProto, NodeProto},
    prune::{Group, rewrite, trunk},
};

use crate::{
    heads::plan,
    nets::{Builder, compare, input},
};

/// A runtime may add up in another order where a layer got narrower.
const TOLERANCE: f32 = 1e-4;

/// A topology by name, and what is expected of it when channels 1, 4, 7, ... stay.
struct Case {
    name: &'static str,
    sample: &'static [usize],
    build: fn(&mut Builder) -> String,
    /// New shapes of the weights (of more than one axis) that shrink, in graph order.
    after: &'static [&'static [usize]],
    /// Number of selections left.
    selections: usize,
    /// A word of each reason for them.
    why: &'static [&'static str],
}

impl Builder {
    /// A convolution with padding, so that maps keep their size.
    pub(crate) fn same(
        &mut self,
        x: &str,
        from: usize,
        to: usize,
        kernel: usize,
        groups: usize,
    ) -> String {
        let w = self.weight(&[to, from / groups, kernel, kernel]);
        let b = self.weight(&[to]);
        let pad = (kernel / 2) as i64;
        self.node_with("Conv", &[x, &w, &b], |node| {
            node.with_ints("pads", &[pad; 4])
                .with_int("group", groups as i64)
        })
    }

    pub(crate) fn batch_norm(&mut self, x: &str, width: usize) -> String {
        let (scale, shift, mean) = (
            self.weight(&[width]),
            self.weight(&[width]),
            self.weight(&[width]),
        );
        let wide = self.weight(&[width]);
        let spread = self.node("Abs", &[&wide]);
        let _ = spread;
        // A variance must be positive: it is the mean's square here, as a constant.
        let tensor = self.graph.initializer.iter_mut();
        for tensor in tensor.filter(|tensor| tensor.name() == wide) {
            let values = (0..width).map(|at| 0.5 + at as f32 / 4.0).collect();
            *tensor = onnx_prune::onnx::Tensor::f32([width], values)
                .unwrap()
                .to_proto(wide.as_str());
        }
        self.graph.node.retain(|node| node.op() != "Abs");
        self.node("BatchNormalization", &[x, &scale, &shift, &mean, &wide])
    }

    pub(crate) fn join(&mut self, parts: &[&str]) -> String {
        self.node_with("Concat", parts, |node| node.with_int("axis", 1))
    }

    /// Global average pooling, Flatten and a dense layer of four classes.
    pub(crate) fn pooled(&mut self, x: &str, width: usize) -> String {
        let h = self.node("GlobalAveragePool", &[x]);
        let h = self.node("Flatten", &[&h]);
        self.dense(&h, width, 4)
    }
}

pub(crate) const MAPS: &[usize] = &[3, 4, 4];

fn cases() -> Vec<Case> {
    let case = |name, build, after, selections, why| Case {
        name,
        sample: MAPS,
        build,
        after,
        selections,
        why,
    };
    vec![
        case(
            "chain",
            |b| {
                let h = b.same("x", 3, 6, 3, 1);
                let h = b.batch_norm(&h, 6);
                let h = b.node("Relu", &[&h]);
                let h = b.node_with("MaxPool", &[&h], |node| {
                    node.with_ints("kernel_shape", &[2, 2])
                        .with_ints("strides", &[2, 2])
                });
                let h = b.node("Flatten", &[&h]);
                b.dense(&h, 24, 4)
            },
            &[&[2, 3, 3, 3]],
            0,
            &[],
        ),
        case(
            "residual",
            |b| {
                let h = b.same("x", 3, 6, 3, 1);
                let h = b.node("Relu", &[&h]);
                let f = b.same(&h, 6, 6, 3, 1);
                let h = b.node("Add", &[&h, &f]);
                let h = b.node("Relu", &[&h]);
                b.pooled(&h, 6)
            },
            &[&[2, 6, 3, 3]],
            1,
            &["Conv"],
        ),
        case(
            "residual with projection",
            |b| {
                let h = b.same("x", 3, 5, 3, 1);
                let p = b.same(&h, 5, 6, 1, 1);
                let p = b.batch_norm(&p, 6);
                let f = b.same(&h, 5, 6, 3, 1);
                let h = b.node("Add", &[&p, &f]);
                b.pooled(&h, 6)
            },
            &[&[2, 5, 1, 1], &[2, 5, 3, 3]],
            0,
            &[],
        ),
        case(
            "concat",
            |b| {
                let one = b.same("x", 3, 4, 1, 1);
                let two = b.same("x", 3, 5, 3, 1);
                let h = b.join(&[&one, &two]);
                b.pooled(&h, 9)
            },
            &[&[1, 3, 1, 1], &[2, 3, 3, 3]],
            0,
            &[],
        ),
        case(
            "cascaded concat",
            |b| {
                let h = b.same("x", 3, 4, 3, 1);
                let one = b.same(&h, 4, 3, 3, 1);
                let h = b.join(&[&h, &one]);
                let two = b.node("Relu", &[&h]);
                let two = b.same(&two, 7, 5, 3, 1);
                let h = b.join(&[&h, &two]);
                let h = b.batch_norm(&h, 12);
                let h = b.node("Relu", &[&h]);
                b.pooled(&h, 12)
            },
            &[&[2, 7, 3, 3]],
            1,
            &["Relu"],
        ),
        case(
            "concat of a part that keeps nothing",
            |b| {
                let one = b.same("x", 3, 4, 3, 1);
                let none = b.same("x", 3, 2, 3, 1);
                let none = b.node("Relu", &[&none]);
                let two = b.same("x", 3, 3, 1, 1);
                // Channels 1; none of 5 and 6; 7.
                let one = b.node("Relu", &[&one]);
                let pad = b.same("x", 3, 1, 1, 1);
                let h = b.join(&[&one, &pad, &none, &two]);
                b.pooled(&h, 10)
            },
            &[&[1, 3, 3, 3], &[], &[1, 3, 1, 1]],
            0,
            &[],
        ),
        case(
            "split",
            |b| {
                let h = b.same("x", 3, 12, 3, 1);
                let (one, two) = (b.fresh("part"), b.fresh("part"));
                let node = NodeProto::new("Split", &[&h], &[&one, &two])
                    .with_name("split")
                    .with_int("axis", 1)
                    .with_int("num_outputs", 2);
                b.graph.node.push(node);
                let gate = b.node("Sigmoid", &[&two]);
                let h = b.node("Mul", &[&one, &gate]);
                b.pooled(&h, 6)
            },
            &[&[4, 3, 3, 3]],
            0,
            &[],
        ),
        case(
            "slice",
            |b| {
                let h = b.same("x", 3, 12, 3, 1);
                let (axis, zero, six) = (b.ints(&[1]), b.ints(&[0]), b.ints(&[6]));
                let end = b.ints(&[i64::MAX]);
                let one = b.node("Slice", &[&h, &zero, &six, &axis]);
                let two = b.node("Slice", &[&h, &six, &end, &axis]);
                let h = b.node("Max", &[&one, &two]);
                b.pooled(&h, 6)
            },
            &[&[4, 3, 3, 3]],
            2,
            &["different channels"],
        ),
        case(
            "depthwise",
            |b| {
                let h = b.same("x", 3, 6, 1, 1);
                let h = b.node("Relu", &[&h]);
                let h = b.same(&h, 6, 6, 3, 6);
                let h = b.node("Relu", &[&h]);
                b.pooled(&h, 6)
            },
            &[&[2, 3, 1, 1], &[2, 1, 3, 3]],
            0,
            &[],
        ),
        case(
            "grouped, as many of each group",
            |b| {
                let h = b.same("x", 3, 4, 1, 1);
                let h = b.same(&h, 4, 6, 3, 2);
                b.pooled(&h, 6)
            },
            &[&[2, 2, 3, 3]],
            0,
            &[],
        ),
        case(
            "grouped, whole groups",
            |b| {
                let h = b.same("x", 3, 8, 1, 1);
                let h = b.same(&h, 8, 4, 3, 4);
                b.pooled(&h, 4)
            },
            &[&[2, 3, 1, 1], &[1, 2, 3, 3]],
            0,
            &[],
        ),
        case(
            "grouped, more of one group",
            |b| {
                let h = b.same("x", 3, 4, 1, 1);
                let h = b.same(&h, 4, 8, 3, 2);
                b.pooled(&h, 8)
            },
            &[],
            1,
            &["unequal"],
        ),
        case(
            "squeeze and excitation",
            |b| {
                let h = b.same("x", 3, 6, 3, 1);
                let g = b.node("GlobalAveragePool", &[&h]);
                let g = b.same(&g, 6, 2, 1, 1);
                let g = b.node("Relu", &[&g]);
                let g = b.same(&g, 2, 6, 1, 1);
                let g = b.node("Sigmoid", &[&g]);
                let h = b.node("Mul", &[&h, &g]);
                b.pooled(&h, 6)
            },
            &[&[2, 2, 1, 1]],
            1,
            &["GlobalAveragePool"],
        ),
        case(
            "reshape to gemm",
            |b| {
                let h = b.same("x", 3, 6, 3, 1);
                let shape = b.ints(&[-1, 96]);
                let h = b.node("Reshape", &[&h, &shape]);
                b.dense(&h, 96, 4)
            },
            &[&[2, 3, 3, 3]],
            0,
            &[],
        ),
        case(
            "reshape to a computed shape",
            |b| {
                let h = b.same("x", 3, 6, 3, 1);
                let (first, rest) = (b.ints(&[0]), b.ints(&[96]));
                let shape = b.node("Shape", &[&h]);
                let batch = b.node("Gather", &[&shape, &first]);
                let target =
                    b.node_with("Concat", &[&batch, &rest], |node| node.with_int("axis", 0));
                let h = b.node("Reshape", &[&h, &target]);
                b.dense(&h, 96, 4)
            },
            &[&[2, 3, 3, 3]],
            0,
            &[],
        ),
        case(
            "reshape to a shape computed from a transposed one",
            |b| {
                let h = b.same("x", 3, 6, 3, 1);
                let (order, rest) = (b.ints(&[0, 2, 3, 1]), b.ints(&[96]));
                let (zero, one) = (b.ints(&[0]), b.ints(&[1]));
                let shape = b.node("Shape", &[&h]);
                let last = b.node_with("Transpose", &[&h], |n| n.with_ints("perm", &[0, 2, 3, 1]));
                let shape = b.node("Gather", &[&shape, &order]);
                let shape = b.node_with("Cast", &[&shape], |node| node.with_int("to", 6));
                let batch = b.node("Slice", &[&shape, &zero, &one, &zero]);
                let batch = b.node_with("Cast", &[&batch], |node| node.with_int("to", 7));
                let target =
                    b.node_with("Concat", &[&batch, &rest], |node| node.with_int("axis", 0));
                let h = b.node("Reshape", &[&last, &target]);
                b.dense(&h, 96, 4)
            },
            &[&[2, 3, 3, 3]],
            0,
            &[],
        ),
        case(
            "NHWC flatten",
            |b| {
                let h = b.same("x", 3, 6, 3, 1);
                let h = b.node_with("Transpose", &[&h], |n| n.with_ints("perm", &[0, 2, 3, 1]));
                let h = b.node("Relu", &[&h]);
                let h = b.node("Flatten", &[&h]);
                b.dense(&h, 96, 4)
            },
            &[&[2, 3, 3, 3]],
            0,
            &[],
        ),
        case(
            "shared initializer",
            |b| {
                let h = b.same("x", 3, 6, 1, 1);
                let (w, bias) = (b.weight(&[6, 6, 1, 1]), b.weight(&[6]));
                let h = b.node("Conv", &[&h, &w, &bias]);
                let h = b.node("Relu", &[&h]);
                let h = b.node("Conv", &[&h, &w, &bias]);
                b.pooled(&h, 6)
            },
            &[&[2, 6, 1, 1]],
            0,
            &[],
        ),
        case(
            "several readers",
            |b| {
                let h = b.same("x", 3, 6, 3, 1);
                let aside = b.same(&h, 6, 6, 1, 1);
                let aside = b.node("Softmax", &[&aside]);
                let aside = b.node_with("ReduceSum", &[&aside], |n| n.with_int("keepdims", 1));
                let h = b.node("Mul", &[&h, &aside]);
                b.pooled(&h, 6)
            },
            &[],
            1,
            &["Conv"],
        ),
        case(
            "tokens",
            |b| {
                let h = b.same("x", 3, 6, 3, 1);
                let shape = b.ints(&[0, 6, 16]);
                let h = b.node("Reshape", &[&h, &shape]);
                let h = b.node_with("Transpose", &[&h], |n| n.with_ints("perm", &[0, 2, 1]));
                let (w, row) = (b.weight(&[6, 9]), b.weight(&[9]));
                let h = b.node("MatMul", &[&h, &w]);
                let h = b.node("Add", &[&h, &row]);
                let axes = b.ints(&[1]);
                let h = b.node_with("ReduceMean", &[&h, &axes], |n| n.with_int("keepdims", 0));
                b.dense(&h, 9, 4)
            },
            &[&[6, 3]],
            0,
            &[],
        ),
    ]
}

/// What came of a model.
pub(crate) struct Found {
    pub(crate) after: Vec<Vec<usize>>,
    pub(crate) selections: usize,
    pub(crate) whys: Vec<String>,
}

/// Cuts the head by `drops`, of layer and channel, then the trunk; the two must agree.
pub(crate) fn check(
    model: &ModelProto,
    sample: &[usize],
    drops: impl Fn(usize, usize) -> bool,
) -> Result<Found, String> {
    let say = |error: onnx_prune::Error| error.to_string();
    let engines = testing::engines();
    let x = input(sample);
    let graph = Graph::new(model).map_err(say)?;
    let shapes =
        features::probe(&*engines[1], &graph, &Shapes::declared(&graph), &x).map_err(say)?;
    let head = head::find(&graph, &shapes).map_err(say)?;
    let groups: Vec<&Group> = head.layers.iter().map(|layer| &layer.group).collect();
    let units: BTreeMap<usize, Vec<usize>> = groups
        .iter()
        .enumerate()
        .filter_map(|(layer, group)| Some((layer, trunk::channels(&graph, &shapes, group)?)))
        .collect();
    let plan = plan(&head, |layer, neuron| {
        let unit = units.get(&layer).map_or(neuron, |units| units[neuron]);
        drops(layer, unit)
    });
    let cut = rewrite::pruned(&graph, &shapes, &groups, &plan).map_err(say)?;
    let shrunk = trunk::shrink_cut(&graph, &shapes, &groups, &cut).map_err(say)?;
    for engine in &engines {
        compare(&**engine, &cut, &shrunk.model, &x, TOLERANCE)?;
    }
    if let Some(ordered) = trunk::neighbours(&graph, &shapes, &groups, &cut).map_err(say)? {
        let neighbours = trunk::shrink_cut(&graph, &shapes, &groups, &ordered).map_err(say)?;
        for engine in &engines {
            compare(&**engine, &cut, &ordered, &x, TOLERANCE)?;
            compare(&**engine, &cut, &neighbours.model, &x, TOLERANCE)?;
        }
    }
    let again = Graph::new(&shrunk.model).map_err(say)?;
    let twice = trunk::shrink(&again, &Shapes::declared(&again)).map_err(say)?;
    if twice.model.graph.as_ref().map(|graph| graph.node.len())
        != shrunk.model.graph.as_ref().map(|graph| graph.node.len())
    {
        return Err("shrinks again".to_owned());
    }
    let count = |model: &ModelProto| {
        let nodes = model.graph.iter().flat_map(|graph| &graph.node);
        nodes
            .filter(|node| matches!(node.op(), "Gather" | "Slice"))
            .count()
    };
    Ok(Found {
        after: shrunk
            .removed
            .iter()
            .filter(|removal| removal.before.len() > 1)
            .map(|removal| removal.after.clone())
            .collect(),
        selections: count(&shrunk.model),
        whys: shrunk.stops.into_iter().map(|stop| stop.why).collect(),
    })
}

#[test]
fn topologies_by_name_shrink_exactly() {
    let mut failed = Vec::new();
    for case in cases() {
        let mut builder = Builder::new(case.sample);
        let output = (case.build)(&mut builder);
        let model = builder.finish(&output, 4);
        let found = match check(&model, case.sample, |_, channel| channel % 3 != 1) {
            Ok(found) => found,
            Err(error) => {
                failed.push(format!("{}: {error}", case.name));
                continue;
            }
        };
        let named = case.why.iter().zip(&found.whys);
        let named = named.filter(|(word, why)| why.contains(**word)).count();
        if found.after != case.after
            || found.selections != case.selections
            || named != case.why.len()
        {
            failed.push(format!(
                "{}: {:?}, {} selections, {:?}",
                case.name, found.after, found.selections, found.whys
            ));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn a_graph_output_inside_keeps_its_width() {
    let mut builder = Builder::new(MAPS);
    let h = builder.same("x", 3, 6, 3, 1);
    let r = builder.node("Relu", &[&h]);
    let output = builder.pooled(&r, 6);
    let mut model = builder.finish(&output, 4);
    let proto = model.graph.as_mut().unwrap();
    let mut extra = proto.output[0].clone();
    extra.name = Some(h);
    extra.r#type = None;
    proto.output.push(extra);
    let found = check(&model, MAPS, |_, channel| channel % 3 != 1).unwrap();
    assert!(found.after.is_empty());
    assert_eq!(found.selections, 1);
    assert_eq!(found.whys, ["it is an output of the model"]);
}
