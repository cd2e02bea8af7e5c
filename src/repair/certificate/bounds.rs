//! How far rounding can move the values of one operator.

use crate::{
    graph::{Graph, NodeId},
    onnx::{DataType, NodeProto, Tensor},
};

/// Rounding errors of an elementwise operator, in units of roundoff of its result plus 1. MLAS
/// computes exp, tanh and erf by polynomials that are off by a few units.
const ELEMENTWISE: f64 = 16.0;

/// One operator of a chain.
pub(super) enum Step {
    /// `x W + b`.
    Dense(Dense),
    /// One number in, one number out.
    Elementwise {
        /// Lipschitz constant.
        slope: f64,
        /// Whether everything below 0 becomes exactly 0.
        rectifies: bool,
        /// Magnitudes inside that the result may not show, a BatchNorm's shift.
        inside: f64,
    },
    /// Exact: reshapes, and selections of features.
    Exact,
}

/// What the bound of a dense layer needs of its weights.
pub(super) struct Dense {
    /// Euclidean norm of each output's weights.
    norms: Vec<f64>,
    /// Magnitude of each output's bias.
    biases: Vec<f64>,
    /// n·u / (1 - n·u)
    growth: f64,
}

impl Step {
    /// The operator of a node; or why its rounding has no known bound.
    pub(super) fn of(graph: &Graph<'_>, id: NodeId, roundoff: f64) -> Result<Self, String> {
        let node = graph.node(id);
        let (slope, rectifies, inside) = match node.op() {
            "Gemm" | "MatMul" => return dense(graph, id, roundoff).map(Self::Dense),
            "Flatten" | "Reshape" | "Squeeze" | "Unsqueeze" | "Identity" | "Dropout" | "Gather" => {
                return Ok(Self::Exact);
            }
            "Relu" => (1.0, true, 0.0),
            "Add" | "Sub" => (1.0, false, largest(graph, id)?),
            "Mul" => (largest(graph, id)?, false, 0.0),
            "BatchNormalization" => normalisation(graph, id)?,
            _ => (slope(node).ok_or("has no known bound")?, false, 0.0),
        };
        Ok(Self::Elementwise {
            slope,
            rectifies,
            inside,
        })
    }

    /// The bound per number of the result `y`, given what was read, `x`, and its bounds.
    pub(super) fn carry(&self, x: &[f32], errors: &[f64], y: &[f32], roundoff: f64) -> Vec<f64> {
        match self {
            Self::Exact => {
                let error = errors.iter().copied().fold(0.0, f64::max);
                let same = errors.len() == y.len();
                if same {
                    errors.to_vec()
                } else {
                    vec![error; y.len()]
                }
            }
            Self::Dense(dense) => dense.carry(x, errors),
            Self::Elementwise {
                slope,
                rectifies,
                inside,
            } => {
                let rounding = |y: f32, error: f64| {
                    2.0 * ELEMENTWISE * roundoff * (f64::from(y.abs()) + error + 1.0 + 2.0 * inside)
                };
                let cells = x.iter().zip(errors).zip(y);
                cells
                    .map(|((&x, &error), &y)| match *rectifies {
                        true if f64::from(x) + error < 0.0 => 0.0,
                        true => error,
                        false => slope * error + rounding(y, slope * error),
                    })
                    .collect()
            }
        }
    }
}

impl Dense {
    fn carry(&self, x: &[f32], errors: &[f64]) -> Vec<f64> {
        let read = norm(x.iter().map(|&value| f64::from(value)));
        let moved = norm(errors.iter().copied());
        let outputs = self.norms.iter().zip(&self.biases);
        outputs
            .map(|(norm, bias)| {
                let rounded = norm * (2.0 * read + moved) + 2.0 * bias;
                norm * moved + self.growth * rounded
            })
            .collect()
    }
}

fn dense(graph: &Graph<'_>, id: NodeId, roundoff: f64) -> Result<Dense, String> {
    let node = graph.node(id);
    let weight = graph.constant_input(id, 1);
    let weight = weight.ok_or("has weights that are computed")?;
    let &[rows, columns] = weight.shape() else {
        return Err("has weights that are no matrix".to_owned());
    };
    let is_set = |name| node.int(name).unwrap_or(0) != 0;
    if is_set("transA") {
        return Err("reads its rows transposed".to_owned());
    }
    let turned = node.op() == "Gemm" && is_set("transB");
    let (inputs, outputs) = if turned {
        (columns, rows)
    } else {
        (rows, columns)
    };
    let factor = |name| match node.op() {
        "Gemm" => f64::from(node.float(name).unwrap_or(1.0)).abs(),
        _ => 1.0,
    };
    let mut norms = vec![0.0_f64; outputs];
    for (at, &value) in weight.to_f32().iter().enumerate() {
        let output = if turned { at / columns } else { at % columns };
        norms[output] += f64::from(value).powi(2);
    }
    let alpha = factor("alpha");
    norms.iter_mut().for_each(|sum| *sum = sum.sqrt() * alpha);
    let bias = match graph.input(id, 2) {
        Some(_) => largest_of(graph, id, 2)? * factor("beta"),
        None => 0.0,
    };
    // Two more for the factors and one for the bias.
    let terms = (inputs + 3) as f64 * roundoff;
    Ok(Dense {
        norms,
        biases: vec![bias; outputs],
        growth: if terms < 1.0 {
            terms / (1.0 - terms)
        } else {
            f64::INFINITY
        },
    })
}

/// Largest slope of an activation function, where it has one.
fn slope(node: &NodeProto) -> Option<f64> {
    let float = |name, default: f32| f64::from(node.float(name).unwrap_or(default)).abs();
    Some(match node.op() {
        "Clip" | "Tanh" | "Softplus" | "Softsign" | "Neg" | "Abs" => 1.0,
        "Sigmoid" => 0.25,
        "LeakyRelu" => float("alpha", 0.01).max(1.0),
        "Elu" => float("alpha", 1.0).max(1.0),
        // Largest slope of x·Phi(x), of x·sigmoid(x), and of x·tanh(softplus(x)), rounded up.
        "Gelu" => 1.13,
        "Swish" if float("alpha", 1.0) == 1.0 => 1.1,
        "Mish" => 1.09,
        "HardSigmoid" => float("alpha", 0.2),
        // At x = 3: (2x + 3) / 6.
        "HardSwish" => 1.5,
        // gamma·alpha with the defaults, rounded up; other values may be steeper.
        "Selu" if node.attribute.is_empty() => 1.76,
        _ => return None,
    })
}

/// `(x - mean) / sqrt(variance + epsilon)·scale + shift`
fn normalisation(graph: &Graph<'_>, id: NodeId) -> Result<(f64, bool, f64), String> {
    let values = |input| {
        let constant = graph.constant_input(id, input);
        let values = constant.map(|tensor| tensor.to_f32().into_owned());
        values.ok_or_else(|| "has settings that are computed".to_owned())
    };
    let (scale, variance) = (values(1)?, values(4)?);
    let epsilon = f64::from(graph.node(id).float("epsilon").unwrap_or(1e-5));
    let pairs = scale.iter().zip(&variance);
    let slopes = pairs
        .map(|(scale, variance)| f64::from(scale.abs()) / (f64::from(*variance) + epsilon).sqrt());
    let slope = slopes.fold(0.0, f64::max);
    let inside = largest_of(graph, id, 2)? + slope * largest_of(graph, id, 3)?;
    Ok((slope, false, inside))
}

/// The largest magnitude in the constant operand.
fn largest(graph: &Graph<'_>, id: NodeId) -> Result<f64, String> {
    let found = (0..2).find_map(|input| largest_of(graph, id, input).ok());
    found.ok_or_else(|| "joins two values".to_owned())
}

fn largest_of(graph: &Graph<'_>, id: NodeId, input: usize) -> Result<f64, String> {
    let constant = graph.constant_input(id, input);
    let constant = constant.ok_or("has settings that are computed")?;
    let values = constant.to_f32();
    Ok(values
        .iter()
        .fold(0.0, |most, value| f64::from(value.abs()).max(most)))
}

/// Half the distance from 1 to the next number of the narrowest type among these; f64 counts as
/// f32, in which an engine may compute.
pub(super) fn roundoff(tensors: impl Iterator<Item = DataType>) -> f64 {
    let bits = tensors.map(|dtype| match dtype {
        DataType::Float16 => 11,
        DataType::Bfloat16 => 8,
        _ => 24,
    });
    0.5_f64.powi(bits.min().unwrap_or(24))
}

fn norm(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|value| value * value).sum::<f64>().sqrt()
}

/// The numbers of one sample.
pub(super) fn sample(tensor: &Tensor, values: &[f32], at: usize) -> std::ops::Range<usize> {
    let size = values.len() / tensor.shape().first().copied().unwrap_or(1).max(1);
    at * size..(at + 1) * size
}
