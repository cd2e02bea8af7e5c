//! Both engines on the same graphs.

use std::path::Path;

use half::{bf16, f16};

use super::testing::{self, engines};
use super::{Port, Session, Snapshot};
use crate::error::Error;
use crate::onnx::{
    DataType, Dim, GraphProto, Limits, Model, ModelProto, NodeProto, Tensor, TensorData,
    ValueInfoProto,
};

const OPSET: i64 = 17;

/// One node, from `x` of this type and shape to `y`.
fn model(node: NodeProto, dtype: DataType, dims: &[Dim]) -> ModelProto {
    let mut graph = GraphProto::new("test");
    graph.input = vec![ValueInfoProto::tensor("x", dtype, dims)];
    graph.output = vec![ValueInfoProto::tensor("y", dtype, dims)];
    graph.node = vec![node];
    ModelProto::new(graph, OPSET)
}

fn symbolic(name: &str) -> Dim {
    Dim::Symbol(name.to_owned())
}

/// `y = x @ w + b` with a symbolic batch, stale notes and all.
fn dense() -> ModelProto {
    let gemm = NodeProto::new("Gemm", &["x", "w", "b"], &["y"]).with_name("fc");
    let mut model = model(gemm, DataType::Float, &[symbolic("batch"), Dim::Fixed(2)]);
    let graph = model.graph.as_mut().unwrap();
    let w = Tensor::f32([2, 3], vec![1., 2., 3., 4., 5., 6.]).unwrap();
    let b = Tensor::f32([3], vec![0.5, 0., -0.5]).unwrap();
    graph.initializer = vec![w.to_proto("w"), b.to_proto("b")];
    let dims = [symbolic("batch"), Dim::Fixed(3)];
    graph.output = vec![ValueInfoProto::tensor("y", DataType::Float, &dims)];
    model
}

fn batch(rows: usize) -> Tensor {
    let values = (0..rows * 2).map(|index| index as f32).collect();
    Tensor::f32([rows, 2], values).unwrap()
}

/// Oracle: the product written out.
fn dense_by_hand(x: &Tensor) -> Vec<f32> {
    let rows = x.to_f32();
    let rows = rows.chunks(2).flat_map(|row| {
        let column =
            |j: usize, bias: f32| row[0] * (1. + j as f32) + row[1] * (4. + j as f32) + bias;
        [column(0, 0.5), column(1, 0.), column(2, -0.5)]
    });
    rows.collect()
}

#[test]
fn batch_may_change_between_runs_and_back() {
    for engine in engines() {
        let mut session = engine.load(&dense()).unwrap();
        for rows in [1, 4, 3, 4, 1] {
            let x = batch(rows);
            let y = session.run(&[("x", &x)]).unwrap();
            assert_eq!(y[0].shape(), [rows, 3], "{}", engine.info());
            assert_eq!(*y[0].to_f32(), dense_by_hand(&x), "{}", engine.info());
        }
    }
}

#[test]
fn ports_are_what_the_model_declares() {
    let mut model = dense();
    // An initializer that is declared as input as well (IR 3 habit) is not asked for.
    let graph = model.graph.as_mut().unwrap();
    let w = ValueInfoProto::tensor("w", DataType::Float, &[Dim::Fixed(2), Dim::Fixed(3)]);
    graph.input.push(w);
    for engine in engines() {
        let session = engine.load(&model).unwrap();
        let port = |name: &str, width| Port {
            name: name.to_owned(),
            dtype: DataType::Float,
            dims: Some(vec![symbolic("batch"), Dim::Fixed(width)]),
        };
        assert_eq!(session.inputs(), [port("x", 2)]);
        assert_eq!(session.outputs(), [port("y", 3)]);
    }
}

#[test]
fn inputs_that_do_not_fit_are_refused_alike() {
    let x = batch(1);
    let wide = Tensor::f32([1, 5], vec![0.; 5]).unwrap();
    let flat = Tensor::f32([2], vec![0.; 2]).unwrap();
    let whole = Tensor::i64([1, 2], vec![0; 2]).unwrap();
    struct Case<'t> {
        inputs: Vec<(&'t str, &'t Tensor)>,
        expected: &'t str,
    }
    let cases = [
        // nothing given
        Case {
            inputs: vec![],
            expected: "input \"x\" is not given",
        },
        // a name the model does not have
        Case {
            inputs: vec![("z", &x)],
            expected: "the model has no input \"z\"; its inputs are [\"x\"]",
        },
        // the same name twice
        Case {
            inputs: vec![("x", &x), ("x", &x)],
            expected: "input \"x\" is given twice",
        },
        // a fixed axis of another size
        Case {
            inputs: vec![("x", &wide)],
            expected: "input \"x\" should be f32 [batch, 2], but is f32 [1, 5]",
        },
        // another rank
        Case {
            inputs: vec![("x", &flat)],
            expected: "input \"x\" should be f32 [batch, 2], but is f32 [2]",
        },
        // another type
        Case {
            inputs: vec![("x", &whole)],
            expected: "input \"x\" should be f32 [batch, 2], but is i64 [1, 2]",
        },
    ];
    for engine in engines() {
        for case in &cases {
            let result = engine.load(&dense()).unwrap().run(&case.inputs);
            let Err(Error::Engine { engine: name, what }) = result else {
                panic!("{}: {result:?}", case.expected);
            };
            assert_eq!((name, what.as_str()), (engine.info().name, case.expected));
        }
    }
}

/// One value set per element type: extremes, and what rounding or sign extension would spoil.
fn every_type() -> Vec<TensorData> {
    vec![
        TensorData::F32(vec![0.1, -f32::MAX, f32::INFINITY, -0.0]),
        TensorData::F64(vec![0.1, -f64::MAX, f64::MIN_POSITIVE, 1e300]),
        TensorData::F16([0.1, -65504., 6e-8, 1.].map(f16::from_f32).to_vec()),
        TensorData::BF16([0.1, -3e38, 1e-38, 1.].map(bf16::from_f32).to_vec()),
        TensorData::I8(vec![i8::MIN, -1, 0, i8::MAX]),
        TensorData::I16(vec![i16::MIN, -1, 0, i16::MAX]),
        TensorData::I32(vec![i32::MIN, -1, 0, i32::MAX]),
        TensorData::I64(vec![i64::MIN, -1, 0, i64::MAX]),
        TensorData::U8(vec![0, 1, 128, u8::MAX]),
        TensorData::U16(vec![0, 1, 1 << 15, u16::MAX]),
        TensorData::U32(vec![0, 1, 1 << 31, u32::MAX]),
        TensorData::U64(vec![0, 1, 1 << 63, u64::MAX]),
        TensorData::Bool(vec![true, false, false, true]),
    ]
}

#[test]
fn every_element_type_goes_in_and_comes_out() {
    for engine in engines() {
        for data in every_type() {
            let dtype = data.dtype();
            let node = NodeProto::new("Reshape", &["x", "shape"], &["y"]);
            let mut model = model(node, dtype, &[Dim::Fixed(4)]);
            let graph = model.graph.as_mut().unwrap();
            let shape = Tensor::i64([2], vec![2, -1]).unwrap();
            graph.initializer = vec![shape.to_proto("shape")];
            graph.output = vec![ValueInfoProto::tensor(
                "y",
                dtype,
                &[Dim::Fixed(2), Dim::Fixed(2)],
            )];
            let x = Tensor::new([4], data.clone()).unwrap();
            let result = engine
                .load(&model)
                .and_then(|mut session| session.run(&[("x", &x)]));
            let y = result.unwrap_or_else(|error| panic!("{} {dtype}: {error}", engine.info()));
            assert_eq!(y, [Tensor::new([2, 2], data).unwrap()], "{}", engine.info());
        }
    }
}

#[test]
fn scalars_and_empty_tensors_pass() {
    for engine in engines() {
        for (shape, values) in [(vec![], vec![3.]), (vec![0, 2], vec![])] {
            let dims: Vec<Dim> = shape.iter().map(|_| Dim::Unknown).collect();
            let model = model(
                NodeProto::new("Relu", &["x"], &["y"]),
                DataType::Float,
                &dims,
            );
            let x = Tensor::f32(shape, values).unwrap();
            let y = engine.load(&model).unwrap().run(&[("x", &x)]).unwrap();
            assert_eq!(y, [x], "{}", engine.info());
        }
    }
}

#[test]
fn unknown_operator_is_named() {
    let node = NodeProto::new("Frobnicate", &["x"], &["y"]).with_name("odd one");
    let model = model(node, DataType::Float, &[Dim::Fixed(1)]);
    let x = Tensor::f32([1], vec![1.]).unwrap();
    for engine in engines() {
        let result = engine
            .load(&model)
            .and_then(|mut session| session.run(&[("x", &x)]));
        let text = result.unwrap_err().to_string();
        assert!(text.contains("Frobnicate"), "{text}");
        assert!(text.starts_with(engine.info().name), "{text}");
    }
}

#[test]
fn sessions_can_move_to_another_thread() {
    fn movable<T: Send + ?Sized>() {}
    movable::<dyn Session>();
    for engine in engines() {
        let mut session = engine.load(&dense()).unwrap();
        let rows =
            std::thread::spawn(move || session.run(&[("x", &batch(2))]).unwrap()[0].shape()[0]);
        assert_eq!(rows.join().unwrap(), 2);
    }
}

/// Largest difference of two engines relative to the largest value: they add up in other orders.
/// Seen on these three models: 3e-7.
const ENGINE_TOLERANCE: f32 = 1e-5;

#[test]
fn engines_agree_on_trained_models() {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    for name in ["vgg.onnx", "resnet.onnx", "densenet.onnx"] {
        let model = Model::load(&models.join(name), &Limits::default()).unwrap();
        for rows in [1, 3] {
            let results: Vec<Tensor> = engines()
                .iter()
                .map(|engine| {
                    let mut session = engine.load(&model.proto).unwrap();
                    let port = session.inputs()[0].clone();
                    let shape = port
                        .dims
                        .unwrap()
                        .into_iter()
                        .map(|dim| dim.fixed().unwrap_or(rows));
                    let shape: Vec<usize> = shape.collect();
                    let count = shape.iter().product::<usize>();
                    // Any image will do, as long as it is not flat.
                    let pixels = (0..count)
                        .map(|index| (index * 37 % 101) as f32 / 101.)
                        .collect();
                    let images = Tensor::f32(shape, pixels).unwrap();
                    session.run(&[(&port.name, &images)]).unwrap().remove(0)
                })
                .collect();
            let [tract, ort] = results.as_slice() else {
                panic!("two engines give two results");
            };
            assert_eq!((tract.shape(), tract.shape()[0]), (ort.shape(), rows));
            let (tract, ort) = (tract.to_f32(), ort.to_f32());
            let pairs = tract.iter().zip(ort.iter());
            let worst = pairs.fold(0_f32, |worst, (one, other)| worst.max((one - other).abs()));
            let largest = ort
                .iter()
                .fold(0_f32, |largest, value| largest.max(value.abs()));
            assert!(
                worst <= ENGINE_TOLERANCE * largest,
                "{name}: {worst:e} of {largest}"
            );
        }
    }
}

#[test]
fn steps_keep_their_state_and_give_it_back() {
    let (model, feedback, initial) = testing::counter();
    let x = |values: [f32; 2]| Tensor::f32([2], values.to_vec()).unwrap();
    for engine in engines() {
        let mut steps = engine
            .load_steps(&model, &feedback, initial.clone().into())
            .unwrap();
        for expected in [[2.0, 4.0], [4.0, 8.0], [6.0, 12.0]] {
            let found = steps.step(&[("x", &x([1.0, 2.0]))]).unwrap();
            assert_eq!(found, [x(expected)], "{}", engine.info());
        }
        let state = steps.state().unwrap();
        assert_eq!(state[0], ("sum".to_owned(), x([3.0, 6.0])));
        assert_eq!(state[1], ("factor".to_owned(), x([2.0, 2.0])));
        let ten = vec![("sum".to_owned(), x([10.0, 0.0]))];
        steps.hold(ten.into()).unwrap();
        let found = steps.step(&[("x", &x([1.0, 1.0]))]).unwrap();
        assert_eq!(found, [x([22.0, 2.0])], "{}", engine.info());
    }
}

#[test]
fn steps_refuse_what_does_not_fit_and_keep_the_state() {
    let (model, feedback, initial) = testing::counter();
    let wide = Tensor::f32([3], vec![0.0; 3]).unwrap();
    let one = Tensor::f32([2], vec![1.0; 2]).unwrap();
    let pair = |from: &str, to: &str| vec![(from.to_owned(), to.to_owned())];
    for engine in engines() {
        let load =
            |feedback: &[_], initial: Vec<_>| engine.load_steps(&model, feedback, initial.into());
        let said = |found: crate::error::Result<_>| found.map(|_| ()).unwrap_err().to_string();
        let cases = [
            (
                said(load(&pair("gone", "sum"), initial.clone())),
                "no output \"gone\"",
            ),
            (
                said(load(&pair("next", "x"), initial.clone())),
                "no first value",
            ),
            (
                said(load(&feedback, vec![("sum".to_owned(), wide.clone())])),
                "should be f32 [2]",
            ),
        ];
        for (found, part) in cases {
            assert!(found.contains(part), "{found}");
        }
        let mut steps = load(&feedback, initial.clone()).unwrap();
        assert!(steps.step(&[("x", &wide)]).is_err());
        for (name, value) in [("x", &one), ("sum", &wide)] {
            let values = vec![(name.to_owned(), value.clone())];
            assert!(steps.hold(values.into()).is_err(), "{name}");
        }
        let others = engines().into_iter();
        let mut others = others.filter(|other| other.info().name != engine.info().name);
        let other = others.next().unwrap();
        let other = other.load_steps(&model, &feedback, initial.clone().into());
        let values = other.unwrap().snapshot();
        let error = steps.hold(values).unwrap_err().to_string();
        assert!(error.contains("in another engine"), "{error}");
        let sum = Tensor::f32([2], vec![0.0; 2]).unwrap();
        assert_eq!(steps.state().unwrap()[0].1, sum);
    }
}

#[test]
fn a_snapshot_stays_as_it_was_and_other_steps_hold_it() {
    let (model, feedback, initial) = testing::counter();
    let x = |values: [f32; 2]| Tensor::f32([2], values.to_vec()).unwrap();
    let one = x([1.0, 2.0]);
    for engine in engines() {
        let mut zeros = Snapshot::from(vec![("factor".to_owned(), x([2.0, 2.0]))]);
        zeros.add_zeros("sum", &[2]);
        for initial in [initial.clone().into(), zeros] {
            let mut steps = engine.load_steps(&model, &feedback, initial).unwrap();
            let mut kept = vec![steps.snapshot()];
            for _ in 0..3 {
                steps.step(&[("x", &one)]).unwrap();
                kept.push(steps.snapshot());
            }
            let found = kept.iter().map(|kept| kept.fetch().unwrap()[0].1.clone());
            let sums = [[0.0, 0.0], [1.0, 2.0], [2.0, 4.0], [3.0, 6.0]].map(x);
            assert_eq!(found.collect::<Vec<_>>(), sums, "{}", engine.info());

            // Steps of the same graph without feedback go on from any of them, and change none.
            let mut others = engine.load_steps(&model, &[], kept[0].clone()).unwrap();
            for kept in [&kept[2], &kept[1]] {
                others.hold(kept.only(|name| name == "sum")).unwrap();
                let found = others.step(&[("x", &one)]).unwrap();
                let sum = kept.fetch().unwrap()[0].1.to_f32().into_owned();
                let next = x([sum[0] + 1.0, sum[1] + 2.0]);
                assert_eq!(
                    found,
                    [next, x([2.0 * (sum[0] + 1.0), 2.0 * (sum[1] + 2.0)])]
                );
            }
            assert_eq!(steps.state().unwrap()[0].1, x([3.0, 6.0]));
        }
    }
}
