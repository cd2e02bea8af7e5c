//! Operators that arrange the same elements in another shape.

use super::select::part_of;
use crate::{
    error::Result,
    grad::context::{Context, Flow, Rule},
};

pub(super) const RULES: &[(&str, Rule)] = &[
    ("Expand", expand),
    ("Flatten", rearranged),
    ("Pad", pad),
    ("Reshape", rearranged),
    ("Squeeze", rearranged),
    ("Transpose", transpose),
    ("Unsqueeze", rearranged),
];

type Flows<'t> = Result<Vec<Flow<'t>>>;

/// y = x in another shape: dx = dy in the shape of x, which is asked from x when the graph runs, so
/// that it does not matter how the target was given
fn rearranged<'t>(c: &Context<'t>) -> Flows<'t> {
    let x = c.raw_input(0)?;
    c.first(Flow::Exact(c.cotangent()?.reshape_like(x)))
}

/// y = x with its axes in another order: dx = dy with them back in place
fn transpose<'t>(c: &Context<'t>) -> Flows<'t> {
    let rank = c.rank(0)?;
    let reversed: Vec<i64> = (0..rank as i64).rev().collect();
    let order = c.node().ints("perm").unwrap_or(&reversed);
    let mut back = vec![0; rank + 1];
    for (to, &from) in order.iter().enumerate().take(rank) {
        back[c.axis(from, rank)? + 1] = to + 1;
    }
    c.first(Flow::Exact(c.cotangent()?.transpose(&back)))
}

/// y = x repeated along axes of size 1: dx = Σ dy over these
fn expand<'t>(c: &Context<'t>) -> Flows<'t> {
    let wide = c.output_dims()?.to_vec();
    c.first(Flow::Wide(c.cotangent()?, wide))
}

/// y = x with a border: dx = dy without it
fn pad<'t>(c: &Context<'t>) -> Flows<'t> {
    let mode = c.node().string("mode");
    if !matches!(mode.as_deref(), None | Some("constant")) {
        return Err(c.unsupported("has a gradient for constant borders only"));
    }
    let rank = c.rank(0)?;
    let pads = c.ints("pads", 1)?;
    let pads = pads.ok_or_else(|| c.invalid("has no pads"))?;
    let axes = match c.ints("axes", 3)? {
        None => (0..rank).collect(),
        Some(axes) => axes
            .into_iter()
            .map(|axis| c.axis(axis, rank))
            .collect::<Result<Vec<_>>>()?,
    };
    if pads.len() != 2 * axes.len() {
        return Err(c.invalid(format!("has {} pads for {} axes", pads.len(), axes.len())));
    }
    let (before, after) = pads.split_at(axes.len());
    let mut dx = c.cotangent()?;
    for ((&axis, &before), &after) in axes.iter().zip(before).zip(after) {
        dx = part_of(dx, axis + 1, before, after)
            .ok_or_else(|| c.unsupported("cuts with negative pads"))?;
    }
    c.first(Flow::Exact(dx))
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

    pub(in crate::grad) fn cases() -> Vec<Case> {
        let mut cases = reshapes();
        let axes = |op: &str| NodeProto::new(op, &["x", "axes"], &["y"]);
        let listed =
            |op: &str, axes: &[i64]| NodeProto::new(op, &["x"], &["y"]).with_ints("axes", axes);
        cases.extend([
            Case::new(NodeProto::new("Flatten", &["x"], &["y"])).input("x", &[2, 3, 2]),
            Case::new(NodeProto::new("Flatten", &["x"], &["y"]).with_int("axis", 2))
                .input("x", &[2, 3, 2]),
            Case::new(axes("Squeeze"))
                .ints("axes", &[1, -1])
                .input("x", &[2, 1, 3, 1]),
            Case::new(listed("Squeeze", &[2, 3]))
                .opset(11)
                .input("x", &[2, 3, 1, 1]),
            Case::new(axes("Unsqueeze"))
                .ints("axes", &[1])
                .input("x", &[2, 3]),
            Case::new(listed("Unsqueeze", &[1, 3]))
                .opset(11)
                .input("x", &[2, 3]),
            Case::new(NodeProto::new("Transpose", &["x"], &["y"]).with_ints("perm", &[0, 2, 3, 1]))
                .input("x", &[2, 3, 4, 2]),
            Case::new(NodeProto::new("Transpose", &["x"], &["y"])).input("x", &[2, 3, 2]),
            Case::new(NodeProto::new("Expand", &["x", "to"], &["y"]))
                .ints("to", &[2, 3, 1, 4])
                .input("x", &[2, 1, 5, 1]),
            Case::new(NodeProto::new("Expand", &["z", "to"], &["y"]))
                .caption("with another axis in front")
                .ints("to", &[2, 3, 4])
                .input("z", &[3, 1]),
        ]);
        cases.extend(pads());
        cases
    }

    fn reshapes() -> Vec<Case> {
        let reshape = || NodeProto::new("Reshape", &["x", "to"], &["y"]);
        vec![
            Case::new(reshape())
                .caption("to 0, -1")
                .ints("to", &[0, -1])
                .input("x", &[2, 3, 2]),
            Case::new(reshape().with_int("allowzero", 1))
                .caption("to fixed sizes")
                .ints("to", &[2, 6])
                .input("x", &[2, 3, 2]),
            Case::new(NodeProto::new("Reshape", &["x", "whole_to"], &["y"]))
                .caption("to a computed shape")
                .then(NodeProto::new("Shape", &["x"], &["whole_shape"]))
                .then(NodeProto::new(
                    "Gather",
                    &["whole_shape", "zero"],
                    &["whole_batch"],
                ))
                .then(
                    NodeProto::new("Concat", &["whole_batch", "rest"], &["whole_to"])
                        .with_int("axis", 0),
                )
                .ints("zero", &[0])
                .ints("rest", &[-1])
                .input("x", &[2, 3, 2]),
        ]
    }

    fn pads() -> Vec<Case> {
        vec![
            Case::new(NodeProto::new("Pad", &["x", "pads"], &["y"]))
                .ints("pads", &[0, 1, 0, 0, 2, 1])
                .input("x", &[2, 3, 2]),
            Case::new(NodeProto::new("Pad", &["x"], &["y"]).with_ints("pads", &[0, 1, 0, 2]))
                .opset(10)
                .input("x", &[2, 3]),
            Case::new(NodeProto::new("Pad", &["x", "pads", "", "axes"], &["y"]))
                .opset(18)
                .ints("pads", &[1, 1])
                .ints("axes", &[-1])
                .input("x", &[2, 3]),
        ]
    }
}
