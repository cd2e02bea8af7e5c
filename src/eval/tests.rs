//! The proof on small networks: what is right passes, what is wrong does not.

use std::sync::Arc;

use super::{Case, Scope, Verification, verify};
use crate::{
    engine::{Engine, EngineInfo, Session, Snapshot, Steps, testing::engines},
    error::{Error, Result},
    features::{
        ModelInput,
        testing::{Dense, batch, opened},
    },
    graph::Graph,
    onnx::{DataType, Dim, ModelProto, NodeProto, ValueInfoProto},
    prune::{Budget, Group, Keep, LayerScores, Plan, Scores, mask, rewrite},
};

/// Keeps two features and three hidden neurons; the last of these is active on every sample of the
/// tests, so that losing it shows (swapping neurons that ReLU keeps at 0 changes nothing).
const KEEP: [&[usize]; 2] = [&[1, 4], &[0, 2, 3]];

fn plan(graph_layers: &[(String, usize)], keep: [&[usize]; 2]) -> Plan {
    let layers = graph_layers.iter().zip(keep).map(|((name, width), keep)| {
        let values = (0..*width).map(|i| f64::from(u8::from(keep.contains(&i))));
        LayerScores::new(name, values.collect())
    });
    let scores = Scores {
        layers: layers.collect(),
    };
    let mut budget = Budget::uniform(Keep::Share(1.0));
    for (layer, keep) in scores.layers.iter().zip(keep) {
        budget
            .layers
            .insert(layer.name.clone(), Keep::Count(keep.len()));
    }
    budget.select(&scores).unwrap()
}

/// Masks by [`KEEP`], prunes by `pruned`, and compares in `engines`.
fn proof(
    model: &ModelProto,
    pruned: [&[usize]; 2],
    engines: &[&dyn Engine],
) -> Result<Verification> {
    let data = batch(&[5, 6], 4, 3);
    let graph = Graph::new(model).unwrap();
    let (shapes, head) = opened(engines[0], &graph, &data);
    let layers = head.layers.iter();
    let layers: Vec<_> = layers
        .map(|layer| (layer.name.clone(), layer.width()))
        .collect();
    let groups: Vec<&Group> = head.layers.iter().map(|layer| &layer.group).collect();
    let masked = mask::masked(&graph, &groups, &plan(&layers, KEEP)).unwrap();
    let pruned = plan(&layers, pruned);
    let pruned = rewrite::pruned(&graph, &shapes, &groups, &pruned).unwrap();
    let case = Case {
        graph: &graph,
        shapes: &shapes,
        head: &head,
        masked: &masked,
        pruned: &pruned,
        cut: &pruned,
    };
    let samples = ModelInput::of(&graph).unwrap().samples(data).unwrap();
    verify(case, engines, &[samples])
}

fn net(ending: &'static str) -> ModelProto {
    Dense::random(&[6, 7, 4], ending, 9).model()
}

/// A network that gives its decision only.
fn deciding() -> ModelProto {
    let mut model = net("");
    let graph = model.graph.as_mut().unwrap();
    let argmax = NodeProto::new("ArgMax", &["y1"], &["class"]);
    graph
        .node
        .push(argmax.with_int("axis", 1).with_int("keepdims", 0));
    let dims = [Dim::Symbol("batch".to_owned())];
    graph.output = vec![ValueInfoProto::tensor("class", DataType::Int64, &dims)];
    model
}

/// An engine that refuses models with one of these operators, as tract does with its own list.
struct Refusing {
    inner: Arc<dyn Engine>,
    operators: Vec<&'static str>,
}

impl Engine for Refusing {
    fn info(&self) -> &EngineInfo {
        self.inner.info()
    }

    fn load(&self, model: &ModelProto) -> Result<Box<dyn Session>> {
        let nodes = model.graph.iter().flat_map(|graph| &graph.node);
        match nodes
            .into_iter()
            .find(|node| self.operators.contains(&node.op()))
        {
            Some(node) => Err(Error::Engine {
                engine: self.info().name,
                what: format!("no {}", node.op()),
            }),
            None => self.inner.load(model),
        }
    }

    fn load_steps(
        &self,
        model: &ModelProto,
        feedback: &[(String, String)],
        initial: Snapshot,
    ) -> Result<Box<dyn Steps>> {
        self.inner.load_steps(model, feedback, initial)
    }
}

#[test]
fn a_right_cut_passes_in_both_engines_and_between_them() {
    let engines = engines();
    let both = [&*engines[0], &*engines[1]];
    for model in [
        net(""),
        net("Softmax"),
        net("LogSoftmax"),
        net("Sigmoid"),
        deciding(),
    ] {
        let found = proof(&model, KEEP, &both).unwrap();
        assert!(found.passed, "{found:?}");
        assert_eq!((found.checks.len(), found.samples), (3, 5));
        assert!(found.checks.iter().all(|check| check.scope == Scope::Whole));
    }
}

#[test]
fn one_wrong_index_fails_in_each_engine() {
    let engines = engines();
    let wrong: [[&[usize]; 2]; 2] = [[&[1, 3], KEEP[1]], [KEEP[0], &[0, 2, 4]]];
    for model in [net(""), net("Softmax"), deciding()] {
        for keep in wrong {
            for engine in &engines {
                let found = proof(&model, keep, &[&**engine]).unwrap();
                assert!(!found.passed, "{} {keep:?}: {found:?}", engine.info());
            }
            // The pruned model agrees with itself; that alone proves nothing.
            let found = proof(&model, keep, &[&*engines[0], &*engines[1]]).unwrap();
            let passed: Vec<bool> = found.checks.iter().map(|check| check.passed).collect();
            assert_eq!(passed, [false, false, true]);
        }
    }
}

#[test]
fn saturated_probabilities_do_not_hide_a_wrong_index() {
    let mut dense = Dense::random(&[6, 7, 4], "Softmax", 9);
    // One class wins by far, whatever is cut.
    dense.weights[1].1 = vec![80.0, 0.0, 0.0, 0.0];
    let engines = engines();
    for engine in &engines {
        let right = proof(&dense.model(), KEEP, &[&**engine]).unwrap();
        assert!(right.passed, "{right:?}");
        let found = proof(&dense.model(), [&[1, 3], KEEP[1]], &[&**engine]).unwrap();
        assert!(!found.passed, "{found:?}");
    }
}

/// `x -> Sin -> dense layers`: the trunk is the Sin.
fn with_trunk() -> ModelProto {
    let mut model = net("");
    let graph = model.graph.as_mut().unwrap();
    graph.node[0].input[0] = "sine".to_owned();
    graph.node.insert(
        0,
        NodeProto::new("Sin", &["x"], &["sine"]).with_name("trunk"),
    );
    model
}

#[test]
fn where_the_trunk_cannot_run_the_head_is_proved_alone() {
    let engines = engines();
    for (able, unable) in [(1, 0), (0, 1)] {
        let refusing = Refusing {
            inner: engines[unable].clone(),
            operators: vec!["Sin"],
        };
        let both: [&dyn Engine; 2] = [&*engines[able], &refusing];
        for (keep, passes) in [(KEEP, true), ([&[1, 3][..], KEEP[1]], false)] {
            let found = proof(&with_trunk(), keep, &both).unwrap();
            let scopes: Vec<Scope> = found.checks.iter().map(|check| check.scope).collect();
            assert_eq!(scopes, [Scope::Whole, Scope::Head, Scope::Head]);
            assert_eq!(found.checks[1].stopped_by.as_deref(), Some("no Sin"));
            assert_eq!(found.checks[1].passed, passes, "{found:?}");
        }
    }
}

#[test]
fn an_engine_that_runs_nothing_is_said_to_be_skipped() {
    let engines = engines();
    let refusing = || Refusing {
        inner: engines[0].clone(),
        operators: vec!["Gemm"],
    };
    let found = proof(&net(""), KEEP, &[&*engines[1], &refusing()]).unwrap();
    assert!(found.passed);
    assert_eq!(found.checks.len(), 1);
    assert_eq!(found.skipped[0].stopped_by, "no Gemm");
}
