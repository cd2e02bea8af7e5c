use super::super::fixtures::{failure, folder, options, read_all, repository};
use super::*;
use crate::data::Dataset;

#[test]
fn test_data_sets_of_the_model_zoo_are_read() {
    let root = repository("tests/data/model-zoo");
    let zero: Vec<f32> = (0..12).map(|value| value as f32).collect();
    let one: Vec<f32> = zero.iter().map(|value| value + 100.0).collect();
    let cases = [
        ("", vec![zero.clone(), one.clone()]),
        ("test_data_set_1", vec![one]),
        ("test_data_set_0/input_0.pb", vec![zero]),
    ];
    for (place, expected) in cases {
        let batch = read_all(&root.join(place), &options(&[3, 2, 2])).unwrap();
        assert_eq!(batch.values, expected.concat(), "{place}");
        assert_eq!(batch.labels, None);
    }
    let data = Dataset::open(&root, &options(&[3, 2, 2])).unwrap();
    let text = data.describe();
    assert!(
        text.contains("float32 [2, 3, 2, 2]") && text.contains("of 2 files"),
        "{text}"
    );
}

fn file(dims: &[i64], data_type: i32) -> TensorFile {
    TensorFile {
        dims: dims.to_vec(),
        data_type,
        ..TensorFile::default()
    }
}

#[test]
fn every_field_that_holds_numbers_is_read() {
    let cases = [
        TensorFile {
            float_data: vec![1.0, 2.0],
            ..file(&[1, 2], 1)
        },
        TensorFile {
            double_data: vec![1.0, 2.0],
            ..file(&[1, 2], 11)
        },
        TensorFile {
            int32_data: vec![1, 2],
            ..file(&[1, 2], 6)
        },
        TensorFile {
            int32_data: vec![1, 2],
            ..file(&[1, 2], 5)
        },
        TensorFile {
            int32_data: vec![0x3c00, 0x4000],
            ..file(&[1, 2], 10)
        },
        TensorFile {
            int64_data: vec![1, 2],
            ..file(&[1, 2], 7)
        },
        TensorFile {
            uint64_data: vec![1, 2],
            ..file(&[1, 2], 13)
        },
        TensorFile {
            uint64_data: vec![1, 2],
            ..file(&[1, 2], 12)
        },
        TensorFile {
            raw_data: vec![1, 0, 2, 0].into(),
            ..file(&[1, 2], 4)
        },
    ];
    for tensor in cases {
        let folder = folder(&[("a.pb", tensor.encode_to_vec())]);
        let batch = read_all(&folder.path().join("a.pb"), &options(&[2])).unwrap();
        assert_eq!(batch.values, [1.0, 2.0], "{tensor:?}");
    }
}

#[test]
fn sets_are_taken_in_the_order_of_their_numbers() {
    let tensor = |value| {
        TensorFile {
            float_data: vec![value],
            ..file(&[1, 1], 1)
        }
        .encode_to_vec()
    };
    let folder = folder(&[
        ("test_data_set_10/input_0.pb", tensor(10.0)),
        ("test_data_set_9/input_0.pb", tensor(9.0)),
        ("test_data_set_x/input_0.pb", tensor(0.0)),
        ("model.onnx", vec![]),
    ]);
    assert_eq!(
        read_all(folder.path(), &options(&[1])).unwrap().values,
        [9.0, 10.0]
    );
}

#[test]
fn broken_tensors_are_refused() {
    let cases = [
        ("text", b"no tensor".to_vec(), "is no ONNX tensor"),
        (
            "too few",
            TensorFile {
                float_data: vec![1.0],
                ..file(&[1, 2], 1)
            }
            .encode_to_vec(),
            "but holds 4 bytes",
        ),
        ("nothing", vec![], "ONNX type 0"),
        (
            "negative",
            file(&[-1, 2], 1).encode_to_vec(),
            "declares the shape [-1, 2]",
        ),
        (
            "overflow",
            file(&[i64::MAX, i64::MAX], 1).encode_to_vec(),
            "but holds 0 bytes",
        ),
        ("strings", file(&[1], 8).encode_to_vec(), "ONNX type 8"),
        (
            "elsewhere",
            TensorFile {
                data_location: 1,
                ..file(&[1, 2], 1)
            }
            .encode_to_vec(),
            "in another file",
        ),
        (
            "a scalar",
            TensorFile {
                float_data: vec![1.0],
                ..file(&[], 1)
            }
            .encode_to_vec(),
            "a single number",
        ),
        (
            "no samples",
            file(&[0, 2], 1).encode_to_vec(),
            "holds no samples",
        ),
        (
            "another shape",
            TensorFile {
                float_data: vec![1.0; 3],
                ..file(&[1, 3], 1)
            }
            .encode_to_vec(),
            "the model's input is",
        ),
    ];
    for (caption, tensor, part) in cases {
        let message = failure("a.pb", tensor, &options(&[2]));
        assert!(message.contains(part), "{caption}: {message}");
    }
    let tensor = |count: usize| {
        TensorFile {
            float_data: vec![1.0; count],
            ..file(&[1, count as i64], 1)
        }
        .encode_to_vec()
    };
    let mixed = folder(&[
        ("test_data_set_0/input_0.pb", tensor(2)),
        ("test_data_set_1/input_0.pb", tensor(3)),
    ]);
    let error = Dataset::open(mixed.path(), &options(&[2]))
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.contains("holds float32 [1, 3], the files before it float32 [1, 2]"),
        "{error}"
    );
}
