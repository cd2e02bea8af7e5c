use super::*;
use crate::features::testing::Numbers;

fn tensor(shape: &[usize], values: impl Fn(&[usize]) -> f32) -> Tensor {
    let count: usize = shape.iter().product();
    let place = |mut at: usize| {
        let mut index = vec![0; shape.len()];
        for axis in (0..shape.len()).rev() {
            index[axis] = at % shape[axis];
            at /= shape[axis];
        }
        index
    };
    let values = (0..count).map(|at| values(&place(at))).collect();
    Tensor::f32(shape, values).unwrap()
}

/// A number that tells sample and place.
fn mark(sample: usize, place: usize) -> f32 {
    Numbers((sample * 1000 + place) as u64).take(1)[0]
}

#[test]
fn two_runs_show_where_the_samples_are() {
    struct Case {
        what: &'static str,
        /// The value for so many samples.
        make: fn(usize) -> Tensor,
        /// Rows of the fixed batch, if it is one.
        fixed: Option<usize>,
        expected: Option<Vec<usize>>,
    }
    let cases = [
        Case {
            what: "the first axis",
            make: |n| tensor(&[n, 4], |at| mark(at[0], at[1])),
            fixed: None,
            expected: Some(vec![4]),
        },
        Case {
            what: "the second axis",
            make: |n| tensor(&[5, n, 4], |at| mark(at[1], at[0] * 4 + at[2])),
            fixed: None,
            expected: Some(vec![5, 4]),
        },
        Case {
            what: "windows of a sample side by side",
            make: |n| tensor(&[n * 6, 4], |at| mark(at[0] / 6, at[0] % 6 * 4 + at[1])),
            fixed: None,
            expected: Some(vec![6, 4]),
        },
        Case {
            what: "windows of a sample far apart",
            make: |n| {
                tensor(&[n * 6, 4], move |at| {
                    mark(at[0] % n, at[0] / n * 4 + at[1])
                })
            },
            fixed: None,
            expected: None,
        },
        Case {
            what: "the same for all",
            make: |_| tensor(&[3, 2], |at| mark(0, at[0] + at[1])),
            fixed: None,
            expected: Some(vec![]),
        },
        Case {
            what: "a sum over the samples",
            make: |n| tensor(&[3, 2], move |at| mark(n, at[0] + at[1])),
            fixed: None,
            expected: None,
        },
        Case {
            what: "sizes to reshape by",
            make: |n| Tensor::i64([2], vec![n as i64, -1]).unwrap(),
            fixed: None,
            expected: Some(vec![]),
        },
        Case {
            what: "a fixed batch in the second axis",
            make: |seed| tensor(&[5, 3, 4], move |at| mark(at[1] + seed, at[0] * 4 + at[2])),
            fixed: Some(3),
            expected: Some(vec![5, 4]),
        },
        Case {
            what: "sizes as many as the fixed batch",
            make: |_| Tensor::i64([3], vec![3, 7, -1]).unwrap(),
            fixed: Some(3),
            expected: Some(vec![]),
        },
        Case {
            what: "one sample, whatever the shape",
            make: |seed| tensor(&[5, 2], move |at| mark(seed, at[0] * 2 + at[1])),
            fixed: Some(1),
            expected: Some(vec![5, 2]),
        },
    ];
    for case in cases {
        let [first, second] = [2, 3].map(case.make);
        let rows = case.fixed.map_or([2, 3], |size| [size, size]);
        let found = Layout::seen("x", [&first, &second], rows);
        let shape = found
            .as_ref()
            .ok()
            .map(|layout| layout.row_shape().unwrap_or_default());
        assert_eq!(shape, case.expected, "{}", case.what);
        let Ok(layout) = found else { continue };
        let bytes = layout.split(&second, rows[1], rows[1]).unwrap();
        assert_eq!(bytes.len(), rows[1] * layout.row_bytes(), "{}", case.what);
        assert_eq!(
            layout.join(bytes, rows[1]).unwrap(),
            second,
            "{}",
            case.what
        );
    }
}

#[test]
fn shapes_alone_tell_where_they_leave_no_doubt() {
    use Dim::{Fixed, Unknown};
    let float = DataType::Float;
    type Case<'c> = (&'c [Dim], DataType, Option<usize>, Option<Vec<usize>>);
    let cases: [Case<'_>; 8] = [
        (&[Unknown, Fixed(4)], float, None, Some(vec![4])),
        (
            &[Fixed(5), Unknown, Fixed(4)],
            float,
            None,
            Some(vec![5, 4]),
        ),
        (&[Unknown, Unknown], float, None, None),
        (&[Fixed(2)], DataType::Int64, None, None),
        (&[Fixed(3), Fixed(4)], float, Some(3), Some(vec![4])),
        // both axes could be the samples
        (&[Fixed(3), Fixed(3)], float, Some(3), Some(vec![3])),
        (&[Fixed(2), Fixed(3), Fixed(3)], float, Some(3), None),
        (&[Fixed(3)], DataType::Int64, Some(3), None),
    ];
    for (dims, dtype, fixed, expected) in cases {
        let known = TensorType {
            dtype,
            dims: dims.to_vec(),
        };
        let found = Layout::declared("x", &known, fixed);
        let shape = found.and_then(|layout| layout.row_shape());
        assert_eq!(shape, expected, "{dims:?} {fixed:?}");
    }
}
