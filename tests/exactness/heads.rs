//! Heads by name, and random heads with random plans.

use std::collections::BTreeMap;

use onnx_prune::{
    engine::testing,
    features,
    graph::{Graph, Shapes},
    head,
    onnx::{ModelProto, Tensor, TensorProto},
    prune::{Group, LayerScores, Plan, Scores, mask, rewrite, width},
};
use proptest::{collection, prelude::*};

use crate::nets::{Builder, compare, input};

/// Sums of at most a few dozen f32 products, in two orders.
const TOLERANCE: f32 = 1e-5;

/// Finds the head, drops what `drops` says of each neuron, and compares masked with pruned, and with
/// the form that keeps the width of layers that are selected from.
///
/// Gives the widths of the layers by name, before and after.
fn check(
    model: &ModelProto,
    sample: &[usize],
    drops: impl Fn(usize, usize) -> bool,
) -> Result<BTreeMap<String, (usize, usize)>, String> {
    let say = |error: onnx_prune::Error| error.to_string();
    let engines = testing::engines();
    let x = input(sample);
    let graph = Graph::new(model).map_err(say)?;
    let shapes =
        features::probe(&*engines[1], &graph, &Shapes::declared(&graph), &x).map_err(say)?;
    let head = head::find(&graph, &shapes).map_err(say)?;
    let groups: Vec<&Group> = head.layers.iter().map(|layer| &layer.group).collect();
    let plan = plan(&head, drops);
    let masked = mask::masked(&graph, &groups, &plan).map_err(say)?;
    let pruned = rewrite::pruned(&graph, &shapes, &groups, &plan).map_err(say)?;
    let wide = width::kept(&graph, &shapes, &groups, &plan, &BTreeMap::new()).map_err(say)?;
    if gathers(&wide) > gathers(model) {
        return Err("a selection is left".to_owned());
    }
    for engine in &engines {
        compare(&**engine, &masked, &pruned, &x, TOLERANCE)?;
        compare(&**engine, &masked, &wide, &x, TOLERANCE)?;
    }
    let other = doubled(&pruned, &graph);
    let narrow = with_weights(&pruned, &other);
    let wide = width::kept(&graph, &shapes, &groups, &plan, &other).map_err(say)?;
    compare(&*engines[0], &narrow, &wide, &x, TOLERANCE)?;
    let found = weights(&wide, other.keys());
    if width::narrowed(&graph, &groups, &plan, found).map_err(say)? != other {
        return Err("other weights come back than were put in".to_owned());
    }
    let layers = plan.layers.iter();
    Ok(layers
        .map(|layer| (layer.name.clone(), (layer.width, layer.keep.len())))
        .collect())
}

fn gathers(model: &ModelProto) -> usize {
    let nodes = model.graph.iter().flat_map(|graph| &graph.node);
    nodes.filter(|node| node.op_type() == "Gather").count()
}

/// The initializers of these names.
fn weights<'n>(
    model: &ModelProto,
    names: impl Iterator<Item = &'n String>,
) -> BTreeMap<String, TensorProto> {
    let all = model.graph.iter().flat_map(|graph| &graph.initializer);
    let all: BTreeMap<&str, &TensorProto> = all.map(|one| (one.name(), one)).collect();
    let found = names.filter_map(|name| Some((name.clone(), (*all.get(name.as_str())?).clone())));
    found.collect()
}

fn with_weights(model: &ModelProto, weights: &BTreeMap<String, TensorProto>) -> ModelProto {
    let mut model = model.clone();
    for old in model
        .graph
        .iter_mut()
        .flat_map(|graph| &mut graph.initializer)
    {
        if let Some(new) = weights.get(old.name()) {
            *old = new.clone();
        }
    }
    model
}

/// Twice the matrices that one node of the original reads: weights as a repair might leave them.
fn doubled(pruned: &ModelProto, original: &Graph<'_>) -> BTreeMap<String, TensorProto> {
    let all = pruned.graph.iter().flat_map(|graph| &graph.initializer);
    let is_own = |name: &str| {
        let value = original.value(name);
        value.is_some_and(|value| original.uses(value).len() == 1)
    };
    let matrices = all.filter(|one| one.dims.len() == 2 && is_own(one.name()));
    let twice = |one: &TensorProto| {
        let tensor = Tensor::from_proto(one).unwrap();
        let values = tensor.to_f32().iter().map(|value| 2.0 * value).collect();
        let tensor = Tensor::f32(tensor.shape(), values).unwrap();
        (one.name().to_owned(), tensor.to_proto(one.name()))
    };
    matrices.map(twice).collect()
}

pub(crate) fn plan(head: &head::Head, drops: impl Fn(usize, usize) -> bool) -> Plan {
    let layers = head.layers.iter().enumerate();
    let mut plan = Plan {
        layers: layers
            .map(|(index, layer)| {
                let kept = (0..layer.width()).filter(|&neuron| !drops(index, neuron));
                let mut keep: Vec<usize> = kept.collect();
                if keep.is_empty() {
                    keep.push(0);
                }
                onnx_prune::prune::plan::LayerPlan {
                    name: layer.name.clone(),
                    width: layer.width(),
                    keep,
                }
            })
            .collect(),
    };
    let scores = Scores {
        layers: head
            .layers
            .iter()
            .map(|layer| {
                let values = (0..layer.width()).map(|neuron| neuron as f64);
                LayerScores::new(&layer.name, values.collect())
            })
            .collect(),
    };
    let groups: Vec<&Group> = head.layers.iter().map(|layer| &layer.group).collect();
    plan.fill_parts(&groups, &scores);
    plan
}

/// A head by name: how it is built, and the layers expected, with their widths.
struct Case {
    name: &'static str,
    sample: &'static [usize],
    build: fn(&mut Builder) -> String,
    layers: &'static [(&'static str, usize)],
}

const CASES: &[Case] = &[
    Case {
        name: "chain",
        sample: &[5],
        build: |b| {
            let h = b.dense("x", 5, 8);
            let h = b.node("Relu", &[&h]);
            let h = b.dense(&h, 8, 6);
            let h = b.node("Tanh", &[&h]);
            b.dense(&h, 6, 4)
        },
        layers: &[("features", 5), ("fc1", 8), ("fc2", 6)],
    },
    Case {
        name: "residual",
        sample: &[6],
        build: |b| {
            let f = b.dense("x", 6, 9);
            let f = b.node("Relu", &[&f]);
            let f = b.dense(&f, 9, 6);
            let y = b.node("Add", &["x", &f]);
            b.dense(&y, 6, 4)
        },
        layers: &[("fc1", 6), ("fc2", 9)],
    },
    Case {
        name: "residual with projection",
        sample: &[5],
        build: |b| {
            let p = b.dense("x", 5, 7);
            let f = b.dense("x", 5, 9);
            let f = b.node("Relu", &[&f]);
            let f = b.dense(&f, 9, 7);
            let y = b.node("Add", &[&p, &f]);
            b.dense(&y, 7, 4)
        },
        layers: &[("features", 5), ("fc1", 9), ("fc2", 7)],
    },
    Case {
        name: "gate",
        sample: &[6],
        build: |b| {
            let h = b.dense("x", 6, 8);
            let g = b.dense(&h, 8, 8);
            let g = b.node("Sigmoid", &[&g]);
            let y = b.node("Mul", &[&h, &g]);
            b.dense(&y, 8, 4)
        },
        layers: &[("features", 6), ("fc1", 8)],
    },
    Case {
        name: "two branches",
        sample: &[5],
        build: |b| {
            let a = b.dense("x", 5, 6);
            let a = b.node("Relu", &[&a]);
            let c = b.dense("x", 5, 4);
            let y = b.node_with("Concat", &[&a, &c], |node| node.with_int("axis", 1));
            b.dense(&y, 10, 4)
        },
        layers: &[("features", 5), ("fc1", 10)],
    },
    Case {
        name: "two positions become neurons",
        sample: &[4, 2, 2],
        build: |b| {
            let h = b.conv("x", 4, 3, 1);
            let shape = b.ints(&[0, -1]);
            let h = b.node("Reshape", &[&h, &shape]);
            let h = b.dense(&h, 12, 8);
            let h = b.node("Relu", &[&h]);
            b.dense(&h, 8, 4)
        },
        layers: &[("features", 12), ("fc1", 8)],
    },
    Case {
        name: "convolutional head",
        sample: &[4, 3, 3],
        build: |b| {
            let h = b.conv("x", 4, 8, 3);
            let h = b.node("Relu", &[&h]);
            let h = b.conv(&h, 8, 6, 1);
            let h = b.node("Relu", &[&h]);
            let h = b.node("GlobalAveragePool", &[&h]);
            let h = b.node("Flatten", &[&h]);
            b.dense(&h, 6, 4)
        },
        layers: &[("features", 4), ("fc1", 8), ("fc2", 6)],
    },
    Case {
        name: "scores pooled from a map",
        sample: &[5, 3, 3],
        build: |b| {
            let h = b.conv("x", 5, 4, 1);
            let h = b.node("Relu", &[&h]);
            let h = b.node("GlobalAveragePool", &[&h]);
            b.node("Flatten", &[&h])
        },
        layers: &[("features", 5)],
    },
    Case {
        name: "batch norm on the features",
        sample: &[6],
        build: |b| {
            let (scale, shift, mean) = (b.weight(&[6]), b.weight(&[6]), b.weight(&[6]));
            let spread = b.weight(&[6]);
            let spread = {
                // A variance must be positive.
                let tensor = Tensor::f32([6], vec![0.5, 1.0, 1.5, 2.0, 2.5, 3.0]).unwrap();
                b.graph.initializer.retain(|t| t.name() != spread);
                b.graph.initializer.push(tensor.to_proto(spread.as_str()));
                spread
            };
            let h = b.node("BatchNormalization", &["x", &scale, &shift, &mean, &spread]);
            let h = b.node("Relu", &[&h]);
            b.dense(&h, 6, 4)
        },
        layers: &[("features", 6)],
    },
    Case {
        name: "layer norm keeps its layer, not the one before",
        sample: &[5],
        build: |b| {
            let h = b.dense("x", 5, 8);
            let (scale, shift) = (b.weight(&[8]), b.weight(&[8]));
            let h = b.node("LayerNormalization", &[&h, &scale, &shift]);
            b.dense(&h, 8, 4)
        },
        layers: &[("features", 5), ("fc1", 8)],
    },
    Case {
        name: "shared weights",
        sample: &[6],
        build: |b| {
            let w = b.weight(&[6, 6]);
            let h = b.node("MatMul", &["x", &w]);
            let h = b.node("Relu", &[&h]);
            let h = b.node("MatMul", &[&h, &w]);
            let h = b.node("Relu", &[&h]);
            b.dense(&h, 6, 4)
        },
        layers: &[("features", 6), ("fc1", 6), ("fc2", 6)],
    },
    Case {
        name: "averaged double head",
        sample: &[5],
        build: |b| {
            let h = b.node("Relu", &["x"]);
            let one = b.dense(&h, 5, 4);
            let two = b.dense(&h, 5, 4);
            let y = b.node("Add", &[&one, &two]);
            let half = b.weight(&[1]);
            b.node("Mul", &[&y, &half])
        },
        layers: &[("features", 5)],
    },
];

#[test]
fn heads_by_name_are_found_and_cut_exactly() {
    let mut failed = Vec::new();
    for case in CASES {
        let mut builder = Builder::new(case.sample);
        let output = (case.build)(&mut builder);
        let model = builder.finish(&output, 4);
        match check(&model, case.sample, |_, neuron| neuron % 3 != 1) {
            Err(error) => failed.push(format!("{}: {error}", case.name)),
            Ok(found) => {
                let widths: Vec<(&str, usize)> = found
                    .iter()
                    .map(|(name, (width, _))| (name.as_str(), *width))
                    .collect();
                let mut expected = case.layers.to_vec();
                expected.sort_unstable();
                if widths != expected {
                    failed.push(format!("{}: found {widths:?}", case.name));
                }
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// One step of a random head.
#[derive(Clone, Copy, Debug)]
enum Step {
    Dense(usize),
    MatMul(usize),
    Relu,
    Gelu,
    Scale,
    Residual,
    Gate,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (2_usize..9).prop_map(Step::Dense),
        (2_usize..9).prop_map(Step::MatMul),
        Just(Step::Relu),
        Just(Step::Gelu),
        Just(Step::Scale),
        Just(Step::Residual),
        Just(Step::Gate),
    ]
}

fn random_head(steps: &[Step]) -> ModelProto {
    let mut b = Builder::new(&[6]);
    let (mut value, mut width) = ("x".to_owned(), 6);
    for step in steps {
        value = match *step {
            Step::Dense(to) => {
                let made = b.dense(&value, width, to);
                width = to;
                made
            }
            Step::MatMul(to) => {
                let w = b.weight(&[width, to]);
                width = to;
                b.node("MatMul", &[&value, &w])
            }
            Step::Relu => b.node("Relu", &[&value]),
            Step::Gelu => {
                let root = b.weight(&[1]);
                let inner = b.node("Mul", &[&value, &root]);
                let erf = b.node("Erf", &[&inner]);
                b.node("Mul", &[&value, &erf])
            }
            Step::Scale => {
                let row = b.weight(&[width]);
                b.node("Mul", &[&value, &row])
            }
            Step::Residual => {
                let f = b.dense(&value, width, width);
                b.node("Add", &[&value, &f])
            }
            Step::Gate => {
                let g = b.dense(&value, width, width);
                let g = b.node("Sigmoid", &[&g]);
                b.node("Mul", &[&g, &value])
            }
        };
    }
    let output = b.dense(&value, width, 3);
    b.finish(&output, 3)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn random_heads_are_cut_exactly(
        steps in collection::vec(step(), 0..7),
        drops in collection::vec(any::<bool>(), 17),
    ) {
        let model = random_head(&steps);
        let found = check(&model, &[6], |layer, neuron| drops[(layer * 5 + neuron) % drops.len()]);
        prop_assert!(found.is_ok(), "{steps:?}: {}", found.unwrap_err());
    }
}
