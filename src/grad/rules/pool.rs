//! Pooling over spatial axes.
//!
//! Where several elements share the maximum of a window, they share the gradient evenly.

use super::window::{Window, kernel_shape};
use crate::{
    error::Result,
    grad::{
        context::{Context, Flow, Rule},
        var::{Var, to_index},
    },
};

pub(super) const RULES: &[(&str, Rule)] = &[
    ("AveragePool", average_pool),
    ("GlobalAveragePool", global_average_pool),
    ("GlobalMaxPool", global_max_pool),
    ("MaxPool", max_pool),
];

type Flows<'t> = Result<Vec<Flow<'t>>>;

/// y = mean of x over the spatial axes: dx = dy/count everywhere
fn global_average_pool<'t>(c: &Context<'t>) -> Flows<'t> {
    let share = c.cotangent()? / c.count(0, &spatial(c)?)?;
    c.first(Flow::Exact(share.expand_like(c.input(0)?)))
}

/// y = max of x over the spatial axes: dx = dy at the maximum
fn global_max_pool<'t>(c: &Context<'t>) -> Flows<'t> {
    let (dy, x, y) = (c.cotangent()?, c.input(0)?, c.output(0)?);
    c.first(Flow::Exact(dy * shares(x, y, &spatial(c)?)))
}

/// y = mean of each window: dx = dy/count, added up where windows overlap
fn average_pool<'t>(c: &Context<'t>) -> Flows<'t> {
    let window = Window::new(c, kernel_shape(c)?)?;
    if window.is_pointwise() {
        return c.first(Flow::Exact(c.cotangent()?));
    }
    if window.covers_all() {
        return global_average_pool(c);
    }
    if window.is_padded() && c.node().int("count_include_pad").unwrap_or(0) == 0 {
        return Err(c.unsupported("has windows that reach over the border"));
    }
    let share = 1.0 / window.kernel.iter().product::<usize>() as f32;
    let kernel = [&[1, 1], window.kernel.as_slice()].concat();
    let mut folded = vec![-1, 1];
    folded.extend(window.output.iter().copied().map(to_index));
    let inputs = [
        c.cotangent()?.reshape(&folded),
        c.tape.filled(&kernel, share),
    ];
    let back = c
        .tape
        .push_with("ConvTranspose", &inputs, |node| window.transposed(node));
    c.first(Flow::Exact(back.reshape_like(c.input(0)?)))
}

/// y = max of each window: dx = dy at the maximum; for windows that do not overlap
fn max_pool<'t>(c: &Context<'t>) -> Flows<'t> {
    let window = Window::new(c, kernel_shape(c)?)?;
    if window.covers_all() {
        return global_max_pool(c);
    }
    if window.is_pointwise() {
        return c.first(Flow::Exact(c.cotangent()?));
    }
    if !window.tiles() {
        return Err(c.unsupported("has windows that overlap or leave a border"));
    }
    let channels = to_index(c.sizes(0, &[1])?[0]);
    // [N, C, H, W] as [N, C, rows, height of a window, columns, width of a window]
    let mut tiles = vec![0, channels];
    let mut maxima = vec![0, channels];
    for (&size, &count) in window.kernel.iter().zip(&window.output) {
        tiles.extend([to_index(count), to_index(size)]);
        maxima.extend([to_index(count), 1]);
    }
    let inside: Vec<usize> = (3..tiles.len()).step_by(2).collect();
    let (x, y) = (c.input(0)?, c.output(0)?);
    let shares = shares(x.reshape(&tiles), y.reshape(&maxima), &inside);
    maxima.insert(0, 0);
    let dx = c.cotangent()?.reshape(&maxima) * shares;
    c.first(Flow::Exact(dx.reshape_like(x)))
}

/// 1 at the maximum `y` of `x` over these axes, 0 elsewhere; a fraction of 1 where it occurs more
/// than once.
pub(super) fn shares<'t>(x: Var<'t>, y: Var<'t>, axes: &[usize]) -> Var<'t> {
    let at_maximum = 1.0 - y.above(x);
    at_maximum / at_maximum.sum(axes)
}

fn spatial(c: &Context<'_>) -> Result<Vec<usize>> {
    Ok((2..c.rank(0)?).collect())
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
        let mut cases = vec![
            Case::new(NodeProto::new("GlobalAveragePool", &["x"], &["y"]))
                .input("x", &[2, 3, 2, 4]),
            Case::new(NodeProto::new("GlobalAveragePool", &["x"], &["y"]))
                .caption("over one axis")
                .opset(7)
                .input("x", &[2, 3, 4]),
            Case::new(NodeProto::new("GlobalMaxPool", &["x"], &["y"])).input("x", &[2, 3, 2, 4]),
        ];
        cases.extend(average_pools());
        let pool = |size: [i64; 2], strides: [i64; 2]| {
            let node = NodeProto::new("MaxPool", &["x"], &["y"]);
            node.with_ints("kernel_shape", &size)
                .with_ints("strides", &strides)
        };
        cases.extend([
            Case::new(pool([2, 4], [1, 1]))
                .caption("over everything")
                .input("x", &[2, 3, 2, 4]),
            Case::new(pool([2, 3], [2, 3]))
                .caption("side by side")
                .input("x", &[2, 2, 4, 6]),
            Case::new(pool([1, 1], [1, 1]))
                .caption("of single elements")
                .input("x", &[2, 2, 2, 3]),
        ]);
        cases
    }

    fn average_pools() -> Vec<Case> {
        let pool = |size: [i64; 2]| {
            let node = NodeProto::new("AveragePool", &["x"], &["y"]);
            node.with_ints("kernel_shape", &size)
        };
        vec![
            Case::new(pool([1, 1]))
                .caption("of single elements")
                .input("x", &[2, 3, 2, 3]),
            Case::new(pool([2, 3]))
                .caption("over everything")
                .input("x", &[2, 3, 2, 3]),
            Case::new(pool([2, 2]).with_ints("strides", &[2, 2]))
                .caption("side by side, with a rest")
                .input("x", &[2, 3, 5, 4]),
            Case::new(pool([3, 2]))
                .caption("with overlap")
                .input("x", &[2, 3, 5, 4]),
            Case::new(
                pool([3, 3])
                    .with_ints("pads", &[1, 1, 1, 1])
                    .with_int("count_include_pad", 1),
            )
            .caption("with a border that counts")
            .input("x", &[2, 2, 4, 3]),
            Case::new(
                pool([2, 2])
                    .with_ints("strides", &[2, 2])
                    .with_int("ceil_mode", 1),
            )
            .caption("with nothing to round up")
            .input("x", &[2, 2, 4, 2]),
        ]
    }
}
