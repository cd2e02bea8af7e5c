//! A value of the gradient graph, with the arithmetic that rules are written in.
//!
//! `dy * (y - y * y)` writes the nodes of that formula; operators broadcast as ONNX does, from the
//! right. A forward value `[N, ..]` therefore meets a cotangent `[R, N, ..]` without any reshaping.
//! Methods whose ONNX operator changed its form over time write the one that the model's opset has.

use std::{
    fmt,
    ops::{Add, Div, Mul, Neg, Sub},
};

use super::tape::Tape;
use crate::onnx::{DataType, NodeProto};

/// Opset from which `ReduceSum`, `Squeeze` and `Unsqueeze` take their axes as an input.
const AXES_INPUT: i64 = 13;
/// Opset from which all other reductions take their axes as an input.
const REDUCE_AXES_INPUT: i64 = 18;
/// Opset from which `Slice` takes its bounds as inputs.
const SLICE_INPUTS: i64 = 10;
/// Opset from which `Pad` takes its sizes as an input.
const PAD_INPUTS: i64 = 11;

/// Opset from which `Gemm` may do without its third input.
const OPTIONAL_ADDEND: i64 = 11;

/// A value of the forward or the gradient graph; copying it copies a reference.
#[derive(Clone, Copy)]
pub(super) struct Var<'t> {
    tape: &'t Tape,
    id: usize,
}

impl fmt::Debug for Var<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

impl<'t> Var<'t> {
    pub(super) fn new(tape: &'t Tape, id: usize) -> Self {
        Self { tape, id }
    }

    pub(super) fn name(self) -> String {
        self.tape.name_of(self.id)
    }

    fn unary(self, op: &str) -> Self {
        self.tape.push(op, &[self])
    }

    pub(super) fn exp(self) -> Self {
        self.unary("Exp")
    }

    pub(super) fn ln(self) -> Self {
        self.unary("Log")
    }

    pub(super) fn sqrt(self) -> Self {
        self.unary("Sqrt")
    }

    pub(super) fn abs(self) -> Self {
        self.unary("Abs")
    }

    pub(super) fn erf(self) -> Self {
        self.unary("Erf")
    }

    pub(super) fn tanh(self) -> Self {
        self.unary("Tanh")
    }

    pub(super) fn sigmoid(self) -> Self {
        self.unary("Sigmoid")
    }

    pub(super) fn softplus(self) -> Self {
        self.unary("Softplus")
    }

    pub(super) fn relu(self) -> Self {
        self.unary("Relu")
    }

    /// `alpha * self^T * right + beta * addend`, of matrices.
    pub(super) fn transposed_gemm(
        self,
        right: Self,
        addend: Option<Self>,
        [alpha, beta]: [f32; 2],
    ) -> Self {
        let missing = || self.tape.scalar(0.0);
        let addend = addend.or_else(|| (self.tape.opset() < OPTIONAL_ADDEND).then(missing));
        let inputs = [Some(self), Some(right), addend];
        let inputs: Vec<Self> = inputs.into_iter().flatten().collect();
        self.tape.push_with("Gemm", &inputs, |node| {
            let node = node.with_int("transA", 1);
            let node = match alpha {
                1.0 => node,
                _ => node.with_float("alpha", alpha),
            };
            match beta {
                1.0 => node,
                _ => node.with_float("beta", beta),
            }
        })
    }

    pub(super) fn pow(self, exponent: Self) -> Self {
        self.tape.push("Pow", &[self, exponent])
    }

    pub(super) fn matmul(self, right: Self) -> Self {
        self.tape.push("MatMul", &[self, right])
    }

    pub(super) fn to_f32(self) -> Self {
        let to = i64::from(i32::from(DataType::Float));
        self.tape
            .push_with("Cast", &[self], |node| node.with_int("to", to))
    }

    /// 1 where `self > other`, else 0.
    pub(super) fn above(self, other: Self) -> Self {
        self.tape.push("Greater", &[self, other]).to_f32()
    }

    /// 1 where `self > bound`, else 0.
    pub(super) fn above_value(self, bound: f32) -> Self {
        self.above(self.tape.scalar(bound))
    }

    /// 1 where `self < bound`, else 0.
    pub(super) fn below_value(self, bound: f32) -> Self {
        self.tape.scalar(bound).above(self)
    }

    /// `yes` where this truth value holds, else `no`.
    pub(super) fn select(self, yes: Self, no: Self) -> Self {
        self.tape.push("Where", &[self, yes, no])
    }

    /// Sum over these axes, which stay with size 1.
    pub(super) fn sum(self, axes: &[usize]) -> Self {
        self.reduce("ReduceSum", AXES_INPUT, axes, 1)
    }

    /// Sum over these axes, which go away.
    pub(super) fn sum_away(self, axes: &[usize]) -> Self {
        self.reduce("ReduceSum", AXES_INPUT, axes, 0)
    }

    /// Mean over these axes, which stay with size 1.
    pub(super) fn mean(self, axes: &[usize]) -> Self {
        self.reduce("ReduceMean", REDUCE_AXES_INPUT, axes, 1)
    }

    /// Largest over these axes, which stay with size 1.
    pub(super) fn largest(self, axes: &[usize]) -> Self {
        self.reduce("ReduceMax", REDUCE_AXES_INPUT, axes, 1)
    }

    fn reduce(self, op: &str, axes_input: i64, axes: &[usize], keepdims: i64) -> Self {
        if axes.is_empty() {
            return self;
        }
        let axes = to_i64(axes);
        let node = |node: NodeProto| node.with_int("keepdims", keepdims);
        if self.tape.opset() < axes_input {
            let node = |proto| node(proto).with_ints("axes", &axes);
            return self.tape.push_with(op, &[self], node);
        }
        self.tape
            .push_with(op, &[self, self.tape.ints(&axes)], node)
    }

    /// Puts axes of size 1 where the result then has these axes.
    pub(super) fn unsqueeze(self, axes: &[usize]) -> Self {
        if axes.is_empty() {
            return self;
        }
        let axes = to_i64(axes);
        if self.tape.opset() < AXES_INPUT {
            let node = |node: NodeProto| node.with_ints("axes", &axes);
            return self.tape.push_with("Unsqueeze", &[self], node);
        }
        self.tape.push("Unsqueeze", &[self, self.tape.ints(&axes)])
    }

    /// `Reshape` to these sizes: 0 copies the axis of the same number, -1 is what is left.
    pub(super) fn reshape(self, sizes: &[i64]) -> Self {
        self.tape.push("Reshape", &[self, self.tape.ints(sizes)])
    }

    /// A cotangent in the shape of `value` behind its own leading axis: `[R, ..]`.
    pub(super) fn reshape_like(self, value: Self) -> Self {
        let sizes = [self.tape.ints(&[-1]), value.unary("Shape")];
        let node = |node: NodeProto| node.with_int("axis", 0);
        let shape = self.tape.push_with("Concat", &sizes, node);
        self.tape.push("Reshape", &[self, shape])
    }

    /// A cotangent with axes of size 1 repeated up to the shape of `value`: `[R, ..]`.
    ///
    /// Not by `Expand`: tract 0.23.9 drops one that feeds a MatMul alone (`EinSum`,
    /// `declutter_broadcast`), even where the MatMul's other operand lacks the axis, and then fails.
    pub(super) fn expand_like(self, value: Self) -> Self {
        self + value.above(value)
    }

    /// Number of elements on the axes from `first` on, as f32: for sizes not known beforehand.
    pub(super) fn count_from(self, first: usize) -> Self {
        let sizes = self.unary("Shape").slice(0, to_index(first), i64::MAX);
        let node = |node: NodeProto| node.with_int("keepdims", 0);
        self.tape.push_with("ReduceProd", &[sizes], node).to_f32()
    }

    /// Axis `i` of the result is axis `order[i]`.
    pub(super) fn transpose(self, order: &[usize]) -> Self {
        let order = to_i64(order);
        let node = |node: NodeProto| node.with_ints("perm", &order);
        self.tape.push_with("Transpose", &[self], node)
    }

    /// The part from `start` to before `end` on one axis.
    pub(super) fn slice(self, axis: usize, start: i64, end: i64) -> Self {
        let (tape, axis) = (self.tape, to_index(axis));
        if tape.opset() < SLICE_INPUTS {
            let node = |node: NodeProto| {
                let node = node.with_ints("axes", &[axis]);
                node.with_ints("starts", &[start]).with_ints("ends", &[end])
            };
            return tape.push_with("Slice", &[self], node);
        }
        let bounds = [&[start], &[end], &[axis]].map(|values| tape.ints(values));
        let [start, end, axis] = bounds;
        tape.push("Slice", &[self, start, end, axis])
    }

    /// Zeros in front of and behind an axis; the value has `rank` axes.
    pub(super) fn pad(self, rank: usize, axis: usize, before: usize, after: usize) -> Self {
        if before == 0 && after == 0 {
            return self;
        }
        let mut pads = vec![0; 2 * rank];
        pads[axis] = to_index(before);
        pads[rank + axis] = to_index(after);
        if self.tape.opset() < PAD_INPUTS {
            let node = |node: NodeProto| node.with_ints("pads", &pads);
            return self.tape.push_with("Pad", &[self], node);
        }
        self.tape.push("Pad", &[self, self.tape.ints(&pads)])
    }

    /// The entries with these indices on one axis.
    pub(super) fn gather(self, axis: usize, indices: &[i64]) -> Self {
        let inputs = [self, self.tape.ints(indices)];
        let node = |node: NodeProto| node.with_int("axis", to_index(axis));
        self.tape.push_with("Gather", &inputs, node)
    }
}

/// Sizes and axes of real tensors are far below `i64::MAX`.
pub(super) fn to_index(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(super) fn to_i64(values: &[usize]) -> Vec<i64> {
    values.iter().copied().map(to_index).collect()
}

/// One arithmetic operator, between values and with a number on either side.
macro_rules! arithmetic {
    ($trait:ident, $method:ident, $op:literal, $neutral:expr) => {
        impl<'t> $trait for Var<'t> {
            type Output = Self;
            fn $method(self, right: Self) -> Self {
                self.tape.push($op, &[self, right])
            }
        }
        impl<'t> $trait<f32> for Var<'t> {
            type Output = Self;
            fn $method(self, right: f32) -> Self {
                if right == $neutral {
                    return self;
                }
                self.tape.push($op, &[self, self.tape.scalar(right)])
            }
        }
        impl<'t> $trait<Var<'t>> for f32 {
            type Output = Var<'t>;
            fn $method(self, right: Var<'t>) -> Var<'t> {
                right.tape.push($op, &[right.tape.scalar(self), right])
            }
        }
    };
}

arithmetic!(Add, add, "Add", 0.0);
arithmetic!(Sub, sub, "Sub", 0.0);
arithmetic!(Mul, mul, "Mul", 1.0);
arithmetic!(Div, div, "Div", 1.0);

impl Neg for Var<'_> {
    type Output = Self;
    fn neg(self) -> Self {
        self.unary("Neg")
    }
}
