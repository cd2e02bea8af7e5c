//! Convolutions, as they stand in heads: 1x1, over the whole map, and general.
//!
//! The class axis is folded into the batch or into a matrix product, because a convolution has one
//! batch axis only. Weights have a gradient where the convolution is a dense layer: it sees one pixel
//! at a time, or all of them at once.

use super::window::Window;
use crate::{
    error::Result,
    grad::{
        context::{Context, Flow, Rule},
        var::{Var, to_index},
    },
};

pub(super) const RULES: &[(&str, Rule)] = &[("Conv", conv)];

type Flows<'t> = Result<Vec<Flow<'t>>>;

/// Y = W ∗ X + b: dX = Wᵀ ∗ dY (transposed convolution), db = Σ dY; dW = Σ dY·Xᵀ where W ∗ X is a
/// matrix product
fn conv<'t>(c: &Context<'t>) -> Flows<'t> {
    c.each(|input| match input {
        0 => Ok(Flow::Exact(input_gradient(c)?)),
        1 => Ok(Flow::Exact(weight_gradient(c)?)),
        _ => {
            let mut axes: Vec<usize> = (1..=c.rank(0)?).collect();
            axes.remove(1);
            Ok(Flow::Exact(c.cotangent()?.sum_away(&axes)))
        }
    })
}

fn input_gradient<'t>(c: &Context<'t>) -> Result<Var<'t>> {
    let (dy, x, w) = (c.cotangent()?, c.input(0)?, c.input(1)?);
    let weights = c.sizes(1, &(0..c.rank(1)?).collect::<Vec<_>>())?;
    let [channels, _, kernel @ ..] = weights.as_slice() else {
        return Err(c.invalid("has weights without a channel axis"));
    };
    let window = Window::new(c, kernel.to_vec())?;
    let group = c.node().int("group").unwrap_or(1);
    let channels = to_index(*channels);
    if group == 1 && window.covers_all() {
        // [R, N, M, 1..] -> [R, N, M] · [M, C·kernel]
        let flat = dy.reshape(&[0, 0, channels]);
        return Ok(flat.matmul(w.reshape(&[channels, -1])).reshape_like(x));
    }
    if group == 1 && window.is_pointwise() {
        // [C, M] · [R, N, M, positions]
        let flat = dy.reshape(&[0, 0, channels, -1]);
        let w = w.reshape(&[channels, -1]).transpose(&[1, 0]);
        return Ok(w.matmul(flat).reshape_like(x));
    }
    let mut folded = vec![-1, channels];
    folded.extend(window.output.iter().copied().map(to_index));
    let back = c
        .tape
        .push_with("ConvTranspose", &[dy.reshape(&folded), w], |node| {
            window.transposed(node).with_int("group", group)
        });
    Ok(back.reshape_like(x))
}

/// `[R, M, C, kernel..]`, summed over samples and positions.
fn weight_gradient<'t>(c: &Context<'t>) -> Result<Var<'t>> {
    let (dy, x, w) = (c.cotangent()?, c.input(0)?, c.input(1)?);
    let weights = c.sizes(1, &(0..c.rank(1)?).collect::<Vec<_>>())?;
    let [outputs, _, kernel @ ..] = weights.as_slice() else {
        return Err(c.invalid("has weights without a channel axis"));
    };
    let window = Window::new(c, kernel.to_vec())?;
    let outputs = to_index(*outputs);
    if c.node().int("group").unwrap_or(1) != 1 {
        return Err(c.unsupported("has no gradient for weights in groups"));
    }
    if window.covers_all() {
        // [R, M, N] · [N, C·kernel]
        let flat = dy.reshape(&[0, 0, outputs]).transpose(&[0, 2, 1]);
        return Ok(flat.matmul(x.reshape(&[0, -1])).reshape_like(w));
    }
    if window.is_pointwise() {
        // Σ over N of [R, N, M, positions] · [N, positions, C]
        let channels = to_index(weights[1]);
        let flat = dy.reshape(&[0, 0, outputs, -1]);
        let x = x.reshape(&[0, channels, -1]).transpose(&[0, 2, 1]);
        return Ok(flat.matmul(x).sum_away(&[1]).reshape_like(w));
    }
    Err(c.unsupported("has a gradient for weights that see one pixel, or all of them, only"))
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

    struct Setting {
        caption: &'static str,
        x: &'static [usize],
        w: &'static [usize],
        attributes: fn(NodeProto) -> NodeProto,
    }

    const SETTINGS: &[Setting] = &[
        Setting {
            caption: "1x1",
            x: &[2, 3, 2, 3],
            w: &[4, 3, 1, 1],
            attributes: |node| node,
        },
        Setting {
            caption: "over the whole map",
            x: &[2, 3, 2, 3],
            w: &[4, 3, 2, 3],
            attributes: |node| node,
        },
        Setting {
            caption: "1x1 on a pooled map",
            x: &[2, 3, 1, 1],
            w: &[4, 3, 1, 1],
            attributes: |node| node.with_ints("kernel_shape", &[1, 1]),
        },
        Setting {
            caption: "with padding",
            x: &[2, 2, 4, 3],
            w: &[3, 2, 3, 3],
            attributes: |node| node.with_ints("pads", &[1, 0, 1, 1]),
        },
        Setting {
            caption: "with strides that leave a rest",
            x: &[2, 2, 6, 5],
            w: &[3, 2, 3, 2],
            attributes: |node| node.with_ints("strides", &[2, 2]),
        },
        Setting {
            caption: "dilated",
            x: &[2, 2, 5, 5],
            w: &[3, 2, 2, 2],
            attributes: |node| node.with_ints("dilations", &[2, 3]),
        },
        Setting {
            caption: "in groups",
            x: &[2, 4, 3, 3],
            w: &[6, 2, 2, 2],
            attributes: |node| node.with_int("group", 2),
        },
        Setting {
            caption: "depthwise 1x1",
            x: &[2, 3, 2, 2],
            w: &[3, 1, 1, 1],
            attributes: |node| node.with_int("group", 3),
        },
        Setting {
            caption: "padded by itself",
            x: &[2, 2, 5, 4],
            w: &[3, 2, 2, 3],
            attributes: |node| {
                let node = node.with_ints("strides", &[2, 2]);
                node.with_string("auto_pad", "SAME_UPPER")
            },
        },
        Setting {
            caption: "over one axis",
            x: &[2, 3, 5],
            w: &[2, 3, 2],
            attributes: |node| node,
        },
    ];

    /// Settings in which the weights have a gradient.
    const DENSE: [&str; 3] = ["1x1", "over the whole map", "1x1 on a pooled map"];

    pub(in crate::grad) fn cases() -> Vec<Case> {
        let case = |setting: &Setting| {
            let node = NodeProto::new("Conv", &["x", "w", "b"], &["y"]);
            Case::new((setting.attributes)(node))
                .caption(setting.caption)
                .input("x", setting.x)
                .input("b", &setting.w[..1])
        };
        let fixed = SETTINGS
            .iter()
            .map(|setting| case(setting).weight("w", setting.w));
        let dense = SETTINGS
            .iter()
            .filter(|setting| DENSE.contains(&setting.caption));
        let trained = dense.map(|setting| {
            let case = case(setting).input("w", setting.w);
            case.not_in_tract("it takes weights as constants only")
        });
        fixed.chain(trained).collect()
    }
}
