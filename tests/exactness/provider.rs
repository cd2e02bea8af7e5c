//! The graphs that an engine is given do not depend on where it computes.

use std::sync::{Arc, Mutex};

use onnx_prune::{
    Result,
    engine::{Engine, EngineInfo, Precision, Session, Snapshot, Steps, testing},
    features::{self, FeatureSet, Samples, Trunk},
    finetune::{self, Target, TrainOptions},
    graph::{self, Graph, Shapes},
    head,
    onnx::ModelProto,
    sensitivity::{self, ScoreOptions},
};

use crate::nets::{Builder, input};

/// An engine that says it is another, and keeps what it is given.
struct Recorder {
    inner: Arc<dyn Engine>,
    info: EngineInfo,
    free: u64,
    given: Mutex<Vec<ModelProto>>,
}

impl Recorder {
    fn new(info: EngineInfo, free: u64) -> Self {
        Self {
            inner: testing::engines()[1].clone(),
            info,
            free,
            given: Mutex::new(Vec::new()),
        }
    }

    fn keep(&self, model: &ModelProto) {
        self.given.lock().unwrap().push(model.clone());
    }
}

impl Engine for Recorder {
    fn info(&self) -> &EngineInfo {
        &self.info
    }

    fn free_memory(&self) -> Option<u64> {
        Some(self.free)
    }

    fn load(&self, model: &ModelProto) -> Result<Box<dyn Session>> {
        self.keep(model);
        self.inner.load(model)
    }

    fn load_steps(
        &self,
        model: &ModelProto,
        feedback: &[(String, String)],
        initial: Snapshot,
    ) -> Result<Box<dyn Steps>> {
        self.keep(model);
        self.inner.load_steps(model, feedback, initial)
    }
}

/// Shapes, trunk, scores and training of one model; how the scores were computed.
fn everything(engine: &dyn Engine, model: &ModelProto) -> Result<String> {
    let x = input(&[1, 8, 8]);
    let graph = Graph::new(model)?;
    let shapes = features::probe(engine, &graph, &Shapes::declared(&graph), &x)?;
    let head = head::find(&graph, &shapes)?;
    let samples = Samples {
        count: x.shape()[0],
        input: x,
        labels: None,
    };
    let batch = Trunk::new(engine, &graph, &shapes, &head)?.run(samples)?;
    let options = ScoreOptions::default();
    let request = sensitivity::Request {
        engine,
        graph: &graph,
        shapes: &shapes,
        head: &head,
        options: &options,
        real_samples: false,
        on_ranked: &|_, _| Ok(()),
    };
    let scored = sensitivity::score(request, [Ok(batch.clone())])?;
    let names = head.features.iter().map(|&id| graph.name(id).to_owned());
    let set = FeatureSet::from_memory(names.collect(), batch.values, None)?;
    let head_model = graph::extract(&graph, &shapes, &head.features, &[head.scores.logits])?;
    let (all, labels): (Vec<usize>, Vec<usize>) = (0..set.len()).map(|at| (at, at)).unzip();
    let request = finetune::Request {
        engine,
        head_model: &head_model,
        classes: head.scores.classes,
        ending: head.scores.ending,
        features: &set,
        train: &all,
        validation: &all,
        target: Target::Labels(&labels),
    };
    let options = TrainOptions {
        epochs: 1,
        ..TrainOptions::default()
    };
    finetune::train(request, &options, &mut |_| Ok(()))?;
    Ok(scored.report.way.unwrap_or_default())
}

/// Dense layers on a convolution; `branches` where one is passed by.
fn network(branches: bool) -> ModelProto {
    let mut net = Builder::new(&[1, 8, 8]);
    let conv = net.conv("x", 1, 4, 3);
    let relu = net.node("Relu", &[&conv]);
    let flat = net.node("Flatten", &[&relu]);
    let hidden = net.dense(&flat, 4 * 6 * 6, 10);
    let mut last = net.node("Relu", &[&hidden]);
    if branches {
        let more = net.dense(&last, 10, 10);
        last = net.node("Add", &[&last, &more]);
    }
    let scores = net.dense(&last, 10, 3);
    net.finish(&scores, 3)
}

/// What is given to an engine on the CPU and to one that says it is on a device, both with so much
/// memory, and how scores came about there.
fn recorded(model: &ModelProto, free: u64) -> [(Vec<ModelProto>, String); 2] {
    let cpu = testing::engines()[1].info().clone();
    let device = EngineInfo {
        provider: "cuda:0".to_owned(),
        precision: Some(Precision::Tf32),
        ..cpu.clone()
    };
    [cpu, device].map(|info| {
        let recorder = Recorder::new(info, free);
        let way = everything(&recorder, model).unwrap();
        (recorder.given.into_inner().unwrap(), way)
    })
}

#[test]
fn a_device_gets_the_graphs_of_the_cpu() {
    let [(on_cpu, _), (on_device, _)] = recorded(&network(true), 0);
    assert!(on_cpu.len() >= 4, "{} graphs", on_cpu.len());
    assert!(on_cpu == on_device);
}

/// Where a device has room for the features, training takes rows of them there; all else is the same.
#[test]
fn a_device_with_memory_looks_up_the_features_it_trains_on() {
    let [(on_cpu, _), (on_device, _)] = recorded(&network(true), 1 << 30);
    assert_eq!(on_cpu.len(), on_device.len());
    let nodes = |model: &ModelProto| model.graph.clone().unwrap().node;
    let mut differ = 0;
    for (on_cpu, on_device) in on_cpu.iter().zip(&on_device) {
        let mut found = nodes(on_device);
        if on_cpu != on_device {
            differ += 1;
            let first = found.remove(0);
            assert_eq!((first.op(), first.input[1].as_str()), ("Gather", "rows"));
        }
        assert!(found == nodes(on_cpu));
    }
    // The step, and the head alone.
    assert_eq!(differ, 2);
}

/// Where the head is a chain, neither differentiates it in the engine; the device multiplies there.
#[test]
fn scores_of_a_device_are_computed_there() {
    let [(_, on_cpu), (_, on_device)] = recorded(&network(false), 1 << 30);
    assert!(
        on_device.contains("on the device from the weights"),
        "{on_device}"
    );
    for way in [&on_cpu, &on_device] {
        assert!(!way.contains("in the engine"), "{way}");
    }
    assert!(!on_cpu.contains("on the device"), "{on_cpu}");
}
