//! Reductions over axes.

use super::pool::shares;
use crate::{
    error::Result,
    grad::{
        context::{Context, Flow, Rule},
        var::Var,
    },
};

pub(super) const RULES: &[(&str, Rule)] = &[
    ("ReduceL1", reduce_l1),
    ("ReduceL2", reduce_l2),
    ("ReduceLogSumExp", reduce_log_sum_exp),
    ("ReduceMax", reduce_max),
    ("ReduceMean", reduce_mean),
    ("ReduceMin", reduce_min),
    ("ReduceSum", reduce_sum),
    ("ReduceSumSquare", reduce_sum_square),
];

/// Smallest norm divided by; where all elements are 0, their gradient is 0.
const TINY: f32 = 1e-30;

type Flows<'t> = Result<Vec<Flow<'t>>>;

/// y = Σ x: dx = dy everywhere
fn reduce_sum<'t>(c: &Context<'t>) -> Flows<'t> {
    let axes = reduced_axes(c)?;
    c.first(Flow::Exact(cotangent(c, &axes)?.expand_like(c.input(0)?)))
}

/// y = Σ x/count: dx = dy/count everywhere
fn reduce_mean<'t>(c: &Context<'t>) -> Flows<'t> {
    let axes = reduced_axes(c)?;
    let share = cotangent(c, &axes)? / c.count(0, &axes)?;
    c.first(Flow::Exact(share.expand_like(c.input(0)?)))
}

/// y = max x: dx = dy at the maximum, shared evenly where it occurs more than once
fn reduce_max<'t>(c: &Context<'t>) -> Flows<'t> {
    let axes = reduced_axes(c)?;
    let at_maximum = shares(c.input(0)?, output(c, &axes)?, &axes);
    c.first(Flow::Exact(cotangent(c, &axes)? * at_maximum))
}

/// y = min x: dx = dy at the minimum, shared evenly where it occurs more than once
fn reduce_min<'t>(c: &Context<'t>) -> Flows<'t> {
    let axes = reduced_axes(c)?;
    let at_minimum = shares(-c.input(0)?, -output(c, &axes)?, &axes);
    c.first(Flow::Exact(cotangent(c, &axes)? * at_minimum))
}

/// y = Σ |x|: dx = dy·sign x
fn reduce_l1<'t>(c: &Context<'t>) -> Flows<'t> {
    let x = c.input(0)?;
    let sign = x.above_value(0.0) - x.below_value(0.0);
    c.first(Flow::Exact(cotangent(c, &reduced_axes(c)?)? * sign))
}

/// y = √Σ x²: dx = dy·x/y
fn reduce_l2<'t>(c: &Context<'t>) -> Flows<'t> {
    let axes = reduced_axes(c)?;
    let slope = c.input(0)? / (output(c, &axes)? + TINY);
    c.first(Flow::Exact(cotangent(c, &axes)? * slope))
}

/// y = Σ x²: dx = dy·2x
fn reduce_sum_square<'t>(c: &Context<'t>) -> Flows<'t> {
    let slope = c.input(0)? * 2.0;
    c.first(Flow::Exact(cotangent(c, &reduced_axes(c)?)? * slope))
}

/// y = log Σ eˣ: dx = dy·exp(x − y)
fn reduce_log_sum_exp<'t>(c: &Context<'t>) -> Flows<'t> {
    let axes = reduced_axes(c)?;
    let slope = (c.input(0)? - output(c, &axes)?).exp();
    c.first(Flow::Exact(cotangent(c, &axes)? * slope))
}

/// The axes that are reduced, in order.
fn reduced_axes(c: &Context<'_>) -> Result<Vec<usize>> {
    let rank = c.rank(0)?;
    let axes = c.ints("axes", 1)?.unwrap_or_default();
    if axes.is_empty() {
        let is_noop = c.node().int("noop_with_empty_axes").unwrap_or(0) != 0;
        return Ok(if is_noop { vec![] } else { (0..rank).collect() });
    }
    let axes = axes.into_iter().map(|axis| c.axis(axis, rank));
    let mut axes = axes.collect::<Result<Vec<_>>>()?;
    axes.sort_unstable();
    axes.dedup();
    Ok(axes)
}

fn keeps_axes(c: &Context<'_>) -> bool {
    c.node().int("keepdims").unwrap_or(1) != 0
}

/// The cotangent with the reduced axes put back, of size 1.
fn cotangent<'t>(c: &Context<'t>, axes: &[usize]) -> Result<Var<'t>> {
    let dy = c.cotangent()?;
    if keeps_axes(c) {
        return Ok(dy);
    }
    let axes: Vec<usize> = axes.iter().map(|axis| axis + 1).collect();
    Ok(dy.unsqueeze(&axes))
}

/// The output with the reduced axes put back, of size 1.
fn output<'t>(c: &Context<'t>, axes: &[usize]) -> Result<Var<'t>> {
    let y = c.output(0)?;
    Ok(if keeps_axes(c) { y } else { y.unsqueeze(axes) })
}

#[cfg(test)]
pub(super) mod tests {
    use crate::{
        grad::testing::{Case, check},
        onnx::NodeProto,
    };

    #[test]
    fn rules_agree_with_differences() {
        check(&cases());
    }

    const OPS: [&str; 8] = [
        "ReduceL1",
        "ReduceL2",
        "ReduceLogSumExp",
        "ReduceMax",
        "ReduceMean",
        "ReduceMin",
        "ReduceSum",
        "ReduceSumSquare",
    ];

    pub(in crate::grad) fn cases() -> Vec<Case> {
        let mut cases = Vec::new();
        for op in OPS {
            let listed = |axes: &[i64]| NodeProto::new(op, &["x"], &["y"]).with_ints("axes", axes);
            let given = NodeProto::new(op, &["x", "axes"], &["y"]);
            cases.extend([
                Case::new(listed(&[2, -1]).with_int("keepdims", 0))
                    .caption("axes as attribute")
                    .opset(11)
                    .input("x", &[2, 3, 2, 2]),
                Case::new(given.clone())
                    .caption("axes as input, kept")
                    .opset(18)
                    .ints("axes", &[-2, 3])
                    .input("x", &[2, 3, 2, 2]),
                Case::new(given.with_int("keepdims", 0))
                    .caption("an axis in the middle")
                    .opset(18)
                    .ints("axes", &[1])
                    .input("x", &[2, 3, 2]),
            ]);
        }
        cases.push(
            Case::new(
                NodeProto::new("ReduceSum", &["x"], &["y"]).with_int("noop_with_empty_axes", 1),
            )
            .caption("of nothing")
            .input("x", &[2, 3, 2]),
        );
        cases
    }
}
