//! Operators that take parts of a value, or put parts together.

use crate::{
    error::Result,
    grad::{
        context::{Context, Flow, Rule},
        var::{Var, to_i64, to_index},
    },
    onnx::NodeProto,
};

pub(super) const RULES: &[(&str, Rule)] = &[
    ("Concat", concat),
    ("Gather", gather),
    ("Slice", slice),
    ("Split", split),
];

type Flows<'t> = Result<Vec<Flow<'t>>>;

/// y = x₀, x₁, .. on one axis: dxᵢ = its part of dy
fn concat<'t>(c: &Context<'t>) -> Flows<'t> {
    let dy = c.cotangent()?;
    let axis = c.axis(c.node().int("axis").unwrap_or(1), c.rank(0)?)?;
    c.each(|input| {
        let mut start = 0;
        for before in 0..input {
            start += c.sizes(before, &[axis])?[0];
        }
        let end = start + c.sizes(input, &[axis])?[0];
        Ok(Flow::Exact(dy.slice(
            axis + 1,
            to_index(start),
            to_index(end),
        )))
    })
}

/// y₀, y₁, .. = x on one axis: dx = dy₀, dy₁, .. on it
fn split<'t>(c: &Context<'t>) -> Flows<'t> {
    let axis = c.axis(c.node().int("axis").unwrap_or(0), c.rank(0)?)?;
    let mut arrived = c.cotangents.iter().flatten();
    let some = *arrived.next().ok_or_else(|| c.invalid("has no outputs"))?;
    let mut parts = Vec::new();
    for (output, cotangent) in c.cotangents.iter().enumerate() {
        parts.push(match cotangent {
            Some(cotangent) => *cotangent,
            None => (some.sum(&[axis + 1]) * 0.0).expand_like(c.raw_output(output)?),
        });
    }
    let node = |node: NodeProto| node.with_int("axis", to_index(axis + 1));
    c.first(Flow::Exact(c.tape.push_with("Concat", &parts, node)))
}

/// y = x[indices] on one axis: dx[i] = Σ dy where i was taken, 0 elsewhere
fn gather<'t>(c: &Context<'t>) -> Flows<'t> {
    let dims = c.dims(0)?;
    let axis = c.axis(c.node().int("axis").unwrap_or(0), dims.len())?;
    let size = c.sizes(0, &[axis])?[0];
    let indices = c.graph.constant_input(c.id, 1);
    let indices = indices.ok_or_else(|| c.unsupported("takes indices that are not constant"))?;
    let dy = c.cotangent()?;
    let dy = match indices.shape().len() {
        0 => dy.unsqueeze(&[axis + 1]),
        1 => dy,
        _ => {
            let behind = c.sizes(0, &(axis + 1..dims.len()).collect::<Vec<_>>())?;
            let mut sizes = vec![0; axis + 1];
            sizes.push(to_index(indices.data().len()));
            sizes.extend(to_i64(&behind));
            dy.reshape(&sizes)
        }
    };
    let indices = indices
        .to_i64()
        .into_iter()
        .map(|index| c.axis(index, size));
    let indices = indices.collect::<Result<Vec<_>>>()?;
    c.first(Flow::Exact(scatter(
        dy,
        dims.len() + 1,
        axis + 1,
        &indices,
        size,
    )))
}

/// y = x[start..end, step] on some axes: dx = dy there, 0 elsewhere
fn slice<'t>(c: &Context<'t>) -> Flows<'t> {
    let rank = c.rank(0)?;
    let bounds = |name, input| {
        let found = c.ints(name, input)?;
        found.ok_or_else(|| c.invalid(format!("has no {name}")))
    };
    let (starts, ends) = (bounds("starts", 1)?, bounds("ends", 2)?);
    let axes = c.ints("axes", 3)?;
    let axes = axes.unwrap_or_else(|| (0..to_index(starts.len())).collect());
    let steps = c.ints("steps", 4)?.unwrap_or_else(|| vec![1; starts.len()]);
    if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] {
        return Err(c.invalid("has bounds of different lengths"));
    }
    let mut dx = c.cotangent()?;
    for (number, &axis) in axes.iter().enumerate() {
        let axis = c.axis(axis, rank)?;
        let (start, end, step) = (starts[number], ends[number], steps[number]);
        if start == 0 && end >= i64::from(i32::MAX) && step == 1 {
            continue;
        }
        let size = c.sizes(0, &[axis])?[0];
        if step == 0 {
            return Err(c.invalid("has step 0"));
        }
        let taken = taken(start, end, step, size);
        dx = scatter(dx, rank + 1, axis + 1, &taken, size);
    }
    c.first(Flow::Exact(dx))
}

/// The indices that a slice takes, <https://onnx.ai/onnx/operators/onnx__Slice.html>.
fn taken(start: i64, end: i64, step: i64, size: usize) -> Vec<usize> {
    if size == 0 {
        return Vec::new();
    }
    let len = to_index(size);
    let from_end = |bound: i64| {
        if bound < 0 {
            bound.saturating_add(len)
        } else {
            bound
        }
    };
    let (start, end) = if step > 0 {
        (from_end(start).clamp(0, len), from_end(end).clamp(0, len))
    } else {
        (
            from_end(start).clamp(0, len - 1),
            from_end(end).clamp(-1, len - 1),
        )
    };
    let mut indices = Vec::new();
    let mut index = start;
    while (step > 0 && index < end) || (step < 0 && index > end) {
        indices.extend(usize::try_from(index));
        index = index.saturating_add(step);
    }
    indices
}

/// A value of `rank` axes whose entries on `axis` come from these indices, put back among `size`
/// entries, the others 0. An index that occurs more than once gets the sum.
fn scatter<'t>(dy: Var<'t>, rank: usize, axis: usize, indices: &[usize], size: usize) -> Var<'t> {
    let first = indices.first().copied().unwrap_or(0);
    if indices.iter().copied().eq(first..first + indices.len()) {
        return dy.pad(rank, axis, first, size - first - indices.len());
    }
    // One more entry, of zeros, is what all indices read that were not taken.
    let (padded, zero) = (dy.pad(rank, axis, 0, 1), to_index(indices.len()));
    let mut rounds: Vec<Vec<i64>> = Vec::new();
    let mut seen = vec![0; size];
    for (position, &index) in indices.iter().enumerate() {
        if seen[index] == rounds.len() {
            rounds.push(vec![zero; size]);
        }
        rounds[seen[index]][index] = to_index(position);
        seen[index] += 1;
    }
    let mut parts = rounds.iter().map(|sources| padded.gather(axis, sources));
    let first = parts.next().unwrap_or(padded);
    parts.fold(first, |sum, part| sum + part)
}

/// A value without its first `before` and last `after` entries on an axis; nothing when one of them
/// is negative.
pub(super) fn part_of(value: Var<'_>, axis: usize, before: i64, after: i64) -> Option<Var<'_>> {
    match (before, after) {
        (0, 0) => Some(value),
        (1.., 0) => Some(value.slice(axis, before, i64::MAX)),
        (0.., 1..) => Some(value.slice(axis, before, -after)),
        _ => None,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use crate::{
        grad::testing::{Case, check},
        onnx::{NodeProto, Tensor},
    };

    #[test]
    fn rules_agree_with_differences() {
        check(&cases());
    }

    pub(in crate::grad) fn cases() -> Vec<Case> {
        let mut cases = vec![
            Case::new(NodeProto::new("Concat", &["a", "b", "a"], &["y"]).with_int("axis", 1))
                .caption("of features, one twice")
                .input("a", &[2, 3])
                .input("b", &[2, 2]),
            Case::new(NodeProto::new("Concat", &["a", "b"], &["y"]).with_int("axis", -1))
                .opset(7)
                .input("a", &[2, 3, 2])
                .input("b", &[2, 3, 1]),
        ];
        cases.extend(splits());
        cases.extend(gathers());
        cases.extend(slices());
        cases
    }

    fn splits() -> Vec<Case> {
        let split = |inputs: &[&str], outputs: &[&str]| {
            NodeProto::new("Split", inputs, outputs).with_int("axis", 1)
        };
        vec![
            Case::new(split(&["x", "sizes"], &["p", "q"]))
                .caption("in unequal parts, both used")
                .then(NodeProto::new("Concat", &["q", "p", "q"], &["y"]).with_int("axis", 1))
                .ints("sizes", &[2, 1])
                .input("x", &[2, 3, 2]),
            Case::new(split(&["x"], &["p", "y"]).with_ints("split", &[1, 2]))
                .caption("of which one part is used")
                .opset(11)
                .input("x", &[2, 3, 2]),
        ]
    }

    fn gathers() -> Vec<Case> {
        let gather = |axis| NodeProto::new("Gather", &["x", "at"], &["y"]).with_int("axis", axis);
        let grid = Tensor::i64([2, 2], vec![3, 0, 0, 1]).unwrap();
        vec![
            Case::new(gather(1))
                .caption("of the class token")
                .constant("at", Tensor::i64([], vec![0]).unwrap())
                .input("x", &[2, 3, 4]),
            Case::new(gather(-1))
                .caption("of the last token")
                .constant("at", Tensor::i64([], vec![-1]).unwrap())
                .input("x", &[2, 3, 4]),
            Case::new(gather(1))
                .caption("in a row")
                .ints("at", &[1, 2])
                .input("x", &[2, 4, 2]),
            Case::new(gather(1))
                .caption("here and there")
                .ints("at", &[0, 3, 2])
                .input("x", &[2, 5]),
            Case::new(gather(1))
                .caption("with repetitions")
                .ints("at", &[3, 1, 3, -1, 1, 1])
                .input("x", &[2, 5]),
            Case::new(gather(1))
                .caption("by a grid of indices")
                .constant("at", grid)
                .input("x", &[2, 4, 3]),
        ]
    }

    fn slices() -> Vec<Case> {
        let given = || NodeProto::new("Slice", &["x", "from", "to", "axes", "steps"], &["y"]);
        let listed = |node: NodeProto| {
            let node = node.with_ints("axes", &[1, 2]);
            node.with_ints("starts", &[1, 0])
                .with_ints("ends", &[3, -1])
        };
        let bounded = |case: Case, from: i64, to: i64, step: i64| {
            case.ints("from", &[from])
                .ints("to", &[to])
                .ints("axes", &[1])
                .ints("steps", &[step])
                .input("x", &[2, 6])
        };
        vec![
            bounded(Case::new(given()).caption("in a row"), 1, 4, 1),
            bounded(Case::new(given()).caption("to the end"), -4, i64::MAX, 1),
            bounded(Case::new(given()).caption("every other"), 0, 6, 2),
            bounded(Case::new(given()).caption("backwards"), -1, i64::MIN, -1),
            Case::new(NodeProto::new("Slice", &["x", "from", "to"], &["y"]))
                .caption("without axes")
                .ints("from", &[0, 1])
                .ints("to", &[i64::MAX, 3])
                .input("x", &[2, 4, 2]),
            Case::new(listed(NodeProto::new("Slice", &["x"], &["y"])))
                .caption("by attributes")
                .opset(9)
                .input("x", &[2, 4, 3]),
        ]
    }
}
