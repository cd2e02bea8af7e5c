//! Runs models on samples and compares what they give.

use serde::Serialize;

use crate::{
    engine::Engine,
    error::{Error, Result, Site},
    onnx::{ModelProto, Tensor},
};

/// The outputs of one model over all batches: per batch, per output.
pub type Outputs = Vec<Vec<Tensor>>;

/// How far apart two runs are.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// Largest absolute difference of two values.
    pub max_abs: f64,
    /// `max_abs` divided by the largest absolute value of its output; the largest over outputs.
    pub max_rel: f64,
}

/// Runs a model on each batch of named inputs; also what the engine says of how it runs it.
///
/// # Errors
/// [`Error::Engine`] when the engine cannot load or run the model.
pub fn outputs(
    engine: &dyn Engine,
    model: &ModelProto,
    batches: &[Vec<(&str, &Tensor)>],
) -> Result<(Outputs, Option<String>)> {
    let mut session = engine.load(model)?;
    let outputs = batches.iter().map(|inputs| session.run(inputs));
    let outputs = outputs.collect::<Result<_>>()?;
    Ok((outputs, session.note().map(str::to_owned)))
}

/// The largest differences between two runs of the same outputs, `a` being the reference.
///
/// `rows` says how many leading samples of each batch are real. A NaN in one run alone counts as
/// an infinite difference; where both are NaN the model itself is broken and nothing is proved, so
/// that counts as one too.
///
/// # Errors
/// [`Error::Invalid`] when the outputs differ in number or shape.
pub fn compare(names: &[String], a: &Outputs, b: &Outputs, rows: &[usize]) -> Result<Comparison> {
    let mut worst = Comparison {
        max_abs: 0.0,
        max_rel: 0.0,
    };
    for (index, name) in names.iter().enumerate() {
        let (mut difference, mut largest) = (0.0_f64, 0.0_f64);
        for ((a, b), &rows) in a.iter().zip(b).zip(rows) {
            let (Some(a), Some(b)) = (a.get(index), b.get(index)) else {
                return Err(differs(name, "is missing from one of the runs"));
            };
            if a.shape() != b.shape() {
                let what = format!("has shape {:?} in one and {:?}", a.shape(), b.shape());
                return Err(differs(name, &what));
            }
            let count = real_values(a, rows);
            let (a, b) = (a.to_f32(), b.to_f32());
            for (&a, &b) in a.iter().zip(b.iter()).take(count) {
                let apart = (f64::from(a) - f64::from(b)).abs();
                difference = difference.max(if apart.is_nan() { f64::INFINITY } else { apart });
                largest = largest.max(f64::from(a.abs()));
            }
        }
        let relative = if difference == 0.0 {
            0.0
        } else {
            difference / largest
        };
        worst.max_abs = worst.max_abs.max(difference);
        worst.max_rel = worst.max_rel.max(relative);
    }
    Ok(worst)
}

/// Number of values that belong to the first `rows` samples.
fn real_values(tensor: &Tensor, rows: usize) -> usize {
    match tensor.shape() {
        [] => 1,
        [all, rest @ ..] => rows.min(*all) * rest.iter().product::<usize>(),
    }
}

fn differs(name: &str, what: &str) -> Error {
    Error::Invalid {
        site: Site::value(name),
        what: what.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(values: &[f32]) -> Outputs {
        vec![vec![Tensor::f32([values.len()], values.to_vec()).unwrap()]]
    }

    #[test]
    fn differences_are_relative_to_the_largest_value_of_the_output() {
        let names = ["y".to_owned()];
        type Case<'a> = (&'a [f32], &'a [f32], usize, f64, f64);
        let cases: [Case<'_>; 5] = [
            (&[1.0, -4.0], &[1.0, -4.0], 2, 0.0, 0.0),
            (&[1.0, -4.0], &[1.5, -4.0], 2, 0.5, 0.125),
            // the second row is padding
            (&[1.0, -4.0], &[1.0, 9.0], 1, 0.0, 0.0),
            (
                &[1.0, f32::NAN],
                &[1.0, 2.0],
                2,
                f64::INFINITY,
                f64::INFINITY,
            ),
            (&[0.0, 0.0], &[0.0, 1.0], 2, 1.0, f64::INFINITY),
        ];
        for (a, b, rows, max_abs, max_rel) in cases {
            let found = compare(&names, &run(a), &run(b), &[rows]).unwrap();
            assert_eq!(found, Comparison { max_abs, max_rel }, "{a:?} {b:?}");
        }
        assert!(compare(&names, &run(&[1.0]), &run(&[1.0, 2.0]), &[1]).is_err());
    }
}
