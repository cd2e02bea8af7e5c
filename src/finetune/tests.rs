//! Training runs on small problems, in both engines.

use std::cell::Cell;

use super::{
    Checkpoint, Epoch, Optimizer, Request, Stopped, Target, TrainOptions, Trained, apply,
    run::train_by, source::Way, train, with_own_weights,
};
use crate::{
    engine::{Engine, testing::engines},
    error::{Error, Result},
    features::{
        FeatureSet,
        testing::{Dense, Numbers},
    },
    graph::{Graph, NodeId},
    head::Ending,
    onnx::{DataType, ModelProto, NodeProto, Tensor},
};

const SAMPLES: usize = 90;
const WIDTH: usize = 6;
const CLASSES: usize = 3;

/// Features of three classes that a dense layer can tell apart, and their labels.
fn problem(dtype: DataType) -> (FeatureSet, Vec<usize>) {
    let labels: Vec<usize> = (0..SAMPLES).map(|sample| sample % CLASSES).collect();
    let mut values = Numbers(3).take(SAMPLES * WIDTH);
    for (sample, &label) in labels.iter().enumerate() {
        values[sample * WIDTH + label] += 3.0;
    }
    let values = Tensor::f32([SAMPLES, WIDTH], values)
        .unwrap()
        .cast(dtype)
        .unwrap();
    let features =
        FeatureSet::from_memory(vec!["x".to_owned()], vec![values], Some(labels.clone()));
    (features.unwrap(), labels)
}

fn head(ending: &'static str) -> ModelProto {
    Dense::random(&[WIDTH, 5, CLASSES], ending, 7).model()
}

fn options() -> TrainOptions {
    TrainOptions {
        epochs: 4,
        batch: 16,
        learning_rate: 0.03,
        ..TrainOptions::default()
    }
}

/// Two thirds of the samples to train on, the others to measure on.
struct Bench {
    features: FeatureSet,
    labels: Vec<usize>,
    train: Vec<usize>,
    validation: Vec<usize>,
}

impl Bench {
    fn new(dtype: DataType) -> Self {
        let (features, labels) = problem(dtype);
        Self {
            features,
            labels,
            train: (0..60).collect(),
            validation: (60..SAMPLES).collect(),
        }
    }

    fn request<'b>(
        &'b self,
        engine: &'b dyn Engine,
        head: &'b ModelProto,
        ending: Ending,
    ) -> Request<'b> {
        Request {
            engine,
            head_model: head,
            classes: CLASSES,
            ending,
            features: &self.features,
            train: &self.train,
            validation: &self.validation,
            target: Target::Labels(&self.labels),
        }
    }

    fn train(&self, engine: &dyn Engine, options: &TrainOptions) -> Trained {
        let head = head("");
        train(
            self.request(engine, &head, Ending::Logits),
            options,
            &mut |_| Ok(()),
        )
        .unwrap()
    }
}

fn last(epochs: &[Epoch]) -> f64 {
    epochs
        .last()
        .and_then(|epoch| epoch.validation_accuracy)
        .unwrap()
}

#[test]
fn every_ending_and_optimizer_learns() {
    let endings = [
        ("", Ending::Logits),
        ("Softmax", Ending::Softmax),
        ("LogSoftmax", Ending::LogSoftmax),
        ("Sigmoid", Ending::Sigmoid),
    ];
    let bench = Bench::new(DataType::Float);
    for engine in engines() {
        for (op, ending) in endings {
            let head = head(op);
            for (optimizer, learning_rate) in [
                (Optimizer::ADAMW, 0.05),
                (Optimizer::Sgd { momentum: 0.9 }, 0.1),
                (Optimizer::Sgd { momentum: 0.0 }, 0.5),
            ] {
                let options = TrainOptions {
                    optimizer,
                    learning_rate,
                    epochs: 20,
                    ..options()
                };
                let request = bench.request(&*engine, &head, ending);
                let trained = train(request, &options, &mut |_| Ok(())).unwrap();
                let (first, end) = (
                    trained.epochs[0].validation_accuracy.unwrap(),
                    last(&trained.epochs),
                );
                assert!(
                    end >= 90.0 && end > first,
                    "{op} {optimizer:?} in {}: {first} -> {end}",
                    engine.info()
                );
                assert_eq!(
                    trained.weights.keys().collect::<Vec<_>>(),
                    ["b0", "b1", "w0", "w1"]
                );
                let mut changed = head.clone();
                apply(&mut changed, &trained.weights).unwrap();
                let again = train(
                    bench.request(&*engine, &changed, ending),
                    &TrainOptions {
                        epochs: 1,
                        ..options
                    },
                    &mut |_| Ok(()),
                );
                let best = trained.epochs[trained.best].validation_loss.unwrap();
                let found = again.unwrap().epochs[0].validation_loss.unwrap();
                assert!(
                    (best - found).abs() < 1e-6,
                    "the best epoch's weights are kept: {best}, {found}"
                );
            }
        }
    }
}

#[test]
fn a_seed_gives_the_same_weights_bit_for_bit_and_another_does_not() {
    let bench = Bench::new(DataType::Float);
    for engine in engines() {
        let run = |seed| bench.train(&*engine, &TrainOptions { seed, ..options() });
        let (one, same, other) = (run(1), run(1), run(2));
        assert_eq!(one.weights, same.weights, "{}", engine.info());
        assert_eq!(one.epochs, same.epochs);
        assert_ne!(one.weights, other.weights);
    }
}

#[test]
fn features_that_the_engine_holds_change_no_bit() {
    let model = head("Softmax");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.onnx");
    let mut bench = Bench::new(DataType::Float);
    // Neither in order nor all of them.
    bench.train = (0..50).rev().collect();
    for engine in engines() {
        for (fixed, checkpoint) in [(None, false), (Some(5), false), (None, true)] {
            if let Some(size) = fixed {
                bench.features = bench.features.clone().with_fixed_batch(size);
            }
            let options = TrainOptions {
                checkpoint: checkpoint.then(|| Checkpoint { path: path.clone() }),
                ..options()
            };
            let found = [Way::Given, Way::Held].map(|way| {
                let request = bench.request(&*engine, &model, Ending::Softmax);
                let mut saved = Vec::new();
                let trained = train_by(way, request, &options, &mut |progress| {
                    if checkpoint && progress.epoch == 3 && progress.finished.is_none() {
                        saved = std::fs::read(&path).unwrap();
                    }
                    Ok(())
                });
                (trained.unwrap(), saved)
            });
            let [(given, given_saved), (held, held_saved)] = found;
            let case = format!("{fixed:?}, {}", engine.info());
            assert_eq!(given.weights, held.weights, "{case}");
            assert_eq!(given.epochs, held.epochs, "{case}");
            assert_eq!(given_saved, held_saved, "{case}");
            assert_eq!(given_saved.is_empty(), !checkpoint);
        }
        bench.features = problem(DataType::Float).0;
    }
}

#[test]
fn a_teacher_is_imitated_without_labels() {
    let bench = Bench::new(DataType::Float);
    let engine = &engines()[1];
    let teacher = head("");
    let mut session = engine.load(&teacher).unwrap();
    let all: Vec<usize> = (0..SAMPLES).collect();
    let x = bench.features.read(&all).unwrap().values.remove(0);
    let logits = session.run(&[("x", &x)]).unwrap().remove(0);
    for ending in [Ending::Logits, Ending::Sigmoid] {
        let student = Dense::random(&[WIDTH, 8, CLASSES], "", 8).model();
        let mut request = bench.request(&**engine, &student, ending);
        let scores = logits.to_f32();
        request.target = Target::Scores(&scores);
        let options = TrainOptions {
            epochs: 40,
            learning_rate: 0.03,
            temperature: 2.0,
            ..options()
        };
        let trained = train(request, &options, &mut |_| Ok(())).unwrap();
        let (first, end) = (&trained.epochs[0], trained.epochs.last().unwrap());
        assert!(
            end.validation_loss.unwrap() < 0.2 * first.validation_loss.unwrap(),
            "{:?}",
            trained.epochs
        );
        // Its own scores cost nothing.
        request.head_model = &teacher;
        let zero = train(
            request,
            &TrainOptions {
                epochs: 1,
                ..options
            },
            &mut |_| Ok(()),
        )
        .unwrap();
        assert!(zero.epochs[0].validation_loss.unwrap().abs() < 1e-6);
        assert_eq!(zero.epochs[0].validation_accuracy, Some(100.0));
    }
}

#[test]
fn half_precision_is_trained_in_f32_and_written_back() {
    let bench = Bench::new(DataType::Float16);
    let mut model = head("");
    let graph = model.graph.as_mut().unwrap();
    for tensor in &mut graph.initializer {
        let half = Tensor::from_proto(tensor)
            .unwrap()
            .cast(DataType::Float16)
            .unwrap();
        *tensor = half.to_proto(tensor.name());
    }
    for info in graph.input.iter_mut().chain(&mut graph.output) {
        let dims = info.dims().unwrap();
        *info = crate::onnx::ValueInfoProto::tensor(info.name(), DataType::Float16, &dims);
    }
    for engine in engines() {
        let request = bench.request(&*engine, &model, Ending::Logits);
        let trained = train(
            request,
            &TrainOptions {
                epochs: 20,
                ..options()
            },
            &mut |_| Ok(()),
        )
        .unwrap();
        assert!(last(&trained.epochs) >= 90.0, "{:?}", trained.epochs);
        let mut changed = model.clone();
        apply(&mut changed, &trained.weights).unwrap();
        assert_ne!(changed, model);
    }
}

#[test]
fn a_loss_that_is_no_number_ends_the_run_with_the_last_good_weights() {
    let bench = Bench::new(DataType::Float);
    let wild = TrainOptions {
        optimizer: Optimizer::Sgd { momentum: 0.9 },
        learning_rate: 1e30,
        ..options()
    };
    for engine in engines() {
        let trained = bench.train(&*engine, &wild);
        let Stopped::NotFinite { epoch: 1, step, .. } = trained.stopped else {
            panic!("{:?}", trained.stopped);
        };
        assert!(step >= 2, "{step}");
        assert_eq!(trained.best, 0);
        let start = head("").graph.unwrap().initializer;
        for tensor in &start {
            assert_eq!(
                Tensor::from_proto(&trained.weights[tensor.name()]).unwrap(),
                Tensor::from_proto(tensor).unwrap()
            );
        }
    }
}

#[test]
fn patience_ends_a_run_that_does_not_get_better() {
    let bench = Bench::new(DataType::Float);
    let engine = &engines()[0];
    let options = TrainOptions {
        epochs: 50,
        learning_rate: 3.0,
        patience: Some(2),
        ..options()
    };
    let trained = bench.train(&**engine, &options);
    assert_eq!(trained.stopped, Stopped::Patience);
    assert_eq!(trained.epochs.len(), trained.best + 3);
}

#[test]
fn a_run_goes_on_from_its_checkpoint_and_ends_where_it_would_have() {
    let bench = Bench::new(DataType::Float);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.onnx");
    let model = head("");
    for engine in engines() {
        let whole = bench.train(&*engine, &options());
        let options = TrainOptions {
            checkpoint: Some(Checkpoint { path: path.clone() }),
            ..options()
        };
        let interrupted = || Error::Io {
            path: "run".into(),
            source: std::io::ErrorKind::Interrupted.into(),
        };
        let seen = Cell::new(0);
        let request = bench.request(&*engine, &model, Ending::Logits);
        let cut = train(request, &options, &mut |progress| {
            seen.set(progress.step);
            if progress.epoch == 3 {
                Err(interrupted())
            } else {
                Ok(())
            }
        });
        assert!(matches!(cut, Err(Error::Io { .. })), "step {}", seen.get());
        assert!(path.exists());
        let other = TrainOptions {
            seed: 9,
            ..options.clone()
        };
        let error = train(request, &other, &mut |_| Ok(()))
            .unwrap_err()
            .to_string();
        assert!(error.contains("of another run"), "{error}");
        let resumed = train(request, &options, &mut |_| Ok(())).unwrap();
        assert_eq!(resumed.weights, whole.weights, "{}", engine.info());
        assert_eq!((resumed.epochs, resumed.steps), (whole.epochs, whole.steps));
        assert!(!path.exists(), "a finished run leaves none");
    }
}

#[test]
fn short_and_fixed_batches_are_filled_up() {
    let engine = &engines()[0];
    let mut bench = Bench::new(DataType::Float);
    // 60 samples in batches of 16 leave 12; a single sample leaves 15 places.
    bench.train = vec![4];
    bench.validation = Vec::new();
    let one = bench.train(
        &**engine,
        &TrainOptions {
            epochs: 2,
            ..options()
        },
    );
    assert_eq!((one.steps, one.best, one.batch), (2, 2, 16));
    assert!(
        one.notes
            .iter()
            .any(|note| note.contains("no training sample is of class 0, 2")),
        "{:?}",
        one.notes
    );
    // A model exported for 5 samples is trained with 16 all the same, if its head lets it be.
    let mut fixed = Dense::random(&[WIDTH, 5, CLASSES], "", 7);
    fixed.batch = Some(5);
    let mut stiff = fixed.model();
    let bench = Bench {
        features: bench.features.clone().with_fixed_batch(5),
        ..Bench::new(DataType::Float)
    };
    let run = |model: &ModelProto| {
        train(
            bench.request(&**engine, model, Ending::Logits),
            &options(),
            &mut |_| Ok(()),
        )
        .unwrap()
    };
    let trained = run(&stiff);
    assert_eq!((trained.batch, trained.notes.len()), (16, 0));
    // One with the size in a constant is not.
    let graph = stiff.graph.as_mut().unwrap();
    graph.initializer.push(
        Tensor::i64([2], vec![5, WIDTH as i64])
            .unwrap()
            .to_proto("size"),
    );
    graph
        .node
        .insert(0, NodeProto::new("Reshape", &["x", "size"], &["x5"]));
    graph.node[1].input[0] = "x5".to_owned();
    let trained = run(&stiff);
    assert_eq!((trained.batch, trained.notes.len()), (5, 1));
    assert!(last(&trained.epochs) > trained.epochs[0].validation_accuracy.unwrap());
}

#[test]
fn bad_input_is_refused_before_the_first_step() {
    type Change = fn(&mut Request<'_>, &mut TrainOptions);
    let cases: [(&str, Change); 6] = [
        (
            "label 9 is not below the model's 3 classes",
            |request, _| request.target = Target::Labels(&[9; SAMPLES]),
        ),
        ("2 labels for 90 samples", |request, _| {
            request.target = Target::Labels(&[1, 2])
        }),
        ("7 scores of a teacher", |request, _| {
            request.target = Target::Scores(&[0.0; 7])
        }),
        ("not all finite", |request, _| {
            request.target = Target::Scores(&[f32::NAN; SAMPLES * CLASSES])
        }),
        ("no sample is left", |request, _| request.train = &[]),
        ("--epochs", |_, options| options.epochs = 0),
    ];
    let (bench, model) = (Bench::new(DataType::Float), head(""));
    let engine = &engines()[0];
    for (part, change) in cases {
        let mut options = options();
        let mut request = bench.request(&**engine, &model, Ending::Logits);
        change(&mut request, &mut options);
        let found: Result<Trained> = train(request, &options, &mut |_| panic!("a step"));
        let error = found.unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn shared_constants_are_parted_from_the_trunk_and_from_each_other() {
    let mut model = head("");
    let graph = model.graph.as_mut().unwrap();
    // The trunk reads the head's matrix; both layers' biases are one vector.
    graph
        .node
        .insert(0, NodeProto::new("MatMul", &["x", "w0t"], &["trunk"]));
    graph
        .node
        .insert(0, NodeProto::new("Transpose", &["w0"], &["w0t"]));
    graph
        .node
        .push(NodeProto::new("Add", &["y0", "b0"], &["more"]));
    let head: std::collections::BTreeSet<NodeId> = (2..6).map(NodeId).collect();
    let changed = with_own_weights(model.clone(), &head).unwrap();
    let graph = Graph::new(&changed).unwrap();
    let reads = |output: &str, input: usize| {
        let node = graph.producer(graph.value(output).unwrap()).unwrap();
        graph.node(node).input[input].clone()
    };
    assert_eq!(
        (reads("w0t", 0), reads("y0", 1)),
        ("w0".to_owned(), "w0_own".to_owned())
    );
    assert_ne!(reads("y0", 2), reads("more", 1));
    let unshared = self::head("");
    assert_eq!(with_own_weights(unshared.clone(), &head).unwrap(), unshared);
}
