//! Normalisation, as it runs in inference.

use crate::{
    error::Result,
    grad::{
        context::{Context, Flow, Rule},
        var::Var,
    },
};

pub(super) const RULES: &[(&str, Rule)] = &[
    ("BatchNormalization", batch_normalization),
    ("GroupNormalization", group_normalization),
    ("InstanceNormalization", instance_normalization),
    ("LayerNormalization", layer_normalization),
    ("LpNormalization", lp_normalization),
    ("RMSNormalization", rms_normalization),
];

/// Default of `epsilon` in all operators that have one.
const EPSILON: f32 = 1e-5;
/// Opset from which GroupNormalization has one scale per channel instead of one per group.
const SCALE_PER_CHANNEL: i64 = 21;

type Flows<'t> = Result<Vec<Flow<'t>>>;

/// y = (x − μ)·k·s + b, k = 1/√(v + ε), fixed per channel: dx = dy·k·s, ds = Σ dy·(x − μ)·k, db = Σ dy
fn batch_normalization<'t>(c: &Context<'t>) -> Flows<'t> {
    if c.node().int("training_mode").unwrap_or(0) != 0 {
        return Err(c.unsupported("is in training mode"));
    }
    if c.node().int("spatial").unwrap_or(1) == 0 {
        return Err(c.unsupported("has statistics per position"));
    }
    let rank = c.rank(0)?;
    let mut summed: Vec<usize> = (1..=rank).collect();
    summed.remove(1);
    let (dy, x) = (c.cotangent()?, c.input(0)?);
    let deviation = (c.input(4)? + c.float("epsilon", EPSILON)).sqrt();
    c.each(|input| {
        Ok(match input {
            0 => Flow::Exact(dy * per_channel(c.input(1)? / deviation, rank)),
            1 => {
                let centred = x - per_channel(c.input(3)?, rank);
                let normal = centred / per_channel(deviation, rank);
                Flow::Exact((dy * normal).sum_away(&summed))
            }
            2 => Flow::Exact(dy.sum_away(&summed)),
            _ => return Err(c.unsupported("has no gradient for its statistics")),
        })
    })
}

/// y = n·s + b, n = (x − mean)/√(var + ε) over the last axes: dx by [`through_normal`] from dy·s,
/// ds = dy·n, db = dy
fn layer_normalization<'t>(c: &Context<'t>) -> Flows<'t> {
    let dims = c.dims(0)?;
    let axis = c.axis(c.node().int("axis").unwrap_or(-1), dims.len())?;
    let axes: Vec<usize> = (axis..dims.len()).collect();
    let (dy, scale) = (c.cotangent()?, c.input(1)?);
    let normal = Normal::new(c.input(0)?, &axes, c.float("epsilon", EPSILON));
    c.each(|input| {
        Ok(match input {
            0 => Flow::Exact(through_normal(dy * scale, &normal, &axes)),
            1 => Flow::Wide(dy * normal.value, dims.to_vec()),
            _ => Flow::Wide(dy, dims.to_vec()),
        })
    })
}

/// y = n·s + b, n normalised over the spatial axes of each sample and channel; as LayerNormalization
fn instance_normalization<'t>(c: &Context<'t>) -> Flows<'t> {
    let rank = c.rank(0)?;
    let axes: Vec<usize> = (2..rank).collect();
    let mut summed: Vec<usize> = (1..=rank).collect();
    summed.remove(1);
    let (dy, scale) = (c.cotangent()?, per_channel(c.input(1)?, rank));
    let normal = Normal::new(c.input(0)?, &axes, c.float("epsilon", EPSILON));
    c.each(|input| {
        Ok(Flow::Exact(match input {
            0 => through_normal(dy * scale, &normal, &axes),
            1 => (dy * normal.value).sum_away(&summed),
            _ => dy.sum_away(&summed),
        }))
    })
}

/// y = n·s + b, n normalised over groups of channels and the spatial axes; as LayerNormalization
fn group_normalization<'t>(c: &Context<'t>) -> Flows<'t> {
    let (dy, x, scale) = (c.cotangent()?, c.input(0)?, c.input(1)?);
    let rank = c.rank(0)?;
    let groups = c.node().int("num_groups").unwrap_or(1);
    let normal = Normal::new(
        x.reshape(&[0, groups, -1]),
        &[2],
        c.float("epsilon", EPSILON),
    );
    c.each(|input| {
        if input > 0 {
            return Err(c.unsupported("has no gradient for its scale and bias"));
        }
        let grouped = if c.opset() >= SCALE_PER_CHANNEL {
            (dy * per_channel(scale, rank)).reshape(&[0, 0, groups, -1])
        } else {
            dy.reshape(&[0, 0, groups, -1]) * scale.reshape(&[-1, 1])
        };
        let dx = through_normal(grouped, &normal, &[2]);
        Ok(Flow::Exact(dx.reshape_like(x)))
    })
}

/// y = n·s, n = x/√(mean(x²) + ε) over the last axes: with dn = dy·s,
/// dx = (dn − n·mean(dn·n))/√(mean(x²) + ε), ds = dy·n
fn rms_normalization<'t>(c: &Context<'t>) -> Flows<'t> {
    let dims = c.dims(0)?;
    let axis = c.axis(c.node().int("axis").unwrap_or(-1), dims.len())?;
    let axes: Vec<usize> = (axis..dims.len()).collect();
    let behind: Vec<usize> = axes.iter().map(|axis| axis + 1).collect();
    let (dy, x, scale) = (c.cotangent()?, c.input(0)?, c.input(1)?);
    let size = ((x * x).mean(&axes) + c.float("epsilon", EPSILON)).sqrt();
    let normal = x / size;
    c.each(|input| {
        if input == 1 {
            return Ok(Flow::Wide(dy * normal, dims.to_vec()));
        }
        let dn = dy * scale;
        let along = normal * (dn * normal).mean(&behind);
        Ok(Flow::Exact((dn - along) / size))
    })
}

/// y = x/‖x‖₂ along an axis: dx = (dy − y·Σ dy·y)/‖x‖₂
fn lp_normalization<'t>(c: &Context<'t>) -> Flows<'t> {
    if c.node().int("p").unwrap_or(2) != 2 {
        return Err(c.unsupported("has a gradient for p = 2 only"));
    }
    let axis = c.axis(c.node().int("axis").unwrap_or(-1), c.rank(0)?)?;
    let (dy, x, y) = (c.cotangent()?, c.input(0)?, c.output(0)?);
    let along = y * (dy * y).sum(&[axis + 1]);
    c.first(Flow::Exact((dy - along) / (x * x).sum(&[axis]).sqrt()))
}

/// A value with mean 0 and variance 1 over some axes.
struct Normal<'t> {
    value: Var<'t>,
    /// √(variance + ε) of what it was made from.
    deviation: Var<'t>,
}

impl<'t> Normal<'t> {
    fn new(x: Var<'t>, axes: &[usize], epsilon: f32) -> Self {
        let centred = x - x.mean(axes);
        let deviation = ((centred * centred).mean(axes) + epsilon).sqrt();
        Self {
            value: centred / deviation,
            deviation,
        }
    }
}

/// n = (x − mean)/√(var + ε): dx = (dn − mean(dn) − n·mean(dn·n))/√(var + ε)
fn through_normal<'t>(dn: Var<'t>, normal: &Normal<'t>, axes: &[usize]) -> Var<'t> {
    let axes: Vec<usize> = axes.iter().map(|axis| axis + 1).collect();
    let along = normal.value * (dn * normal.value).mean(&axes);
    (dn - dn.mean(&axes) - along) / normal.deviation
}

/// `[C]` as `[C, 1, ..]`, to meet a value `[N, C, ..]` of `rank` axes.
fn per_channel(values: Var<'_>, rank: usize) -> Var<'_> {
    let mut sizes = vec![1; rank.max(2) - 1];
    sizes[0] = -1;
    values.reshape(&sizes)
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
        let mut cases = batches();
        let layer = |inputs: &[&str]| NodeProto::new("LayerNormalization", inputs, &["y"]);
        cases.extend([
            Case::new(layer(&["x", "s", "b"]))
                .input("x", &[2, 3, 4])
                .input("s", &[4])
                .input("b", &[4]),
            Case::new(layer(&["x", "s"]).with_int("axis", 1))
                .caption("over two axes, without bias")
                .input("x", &[2, 3, 4])
                .input("s", &[3, 4]),
            Case::new(NodeProto::new(
                "InstanceNormalization",
                &["x", "s", "b"],
                &["y"],
            ))
            .input("x", &[2, 3, 2, 2])
            .input("s", &[3])
            .input("b", &[3]),
        ]);
        cases.extend([
            Case::new(NodeProto::new("RMSNormalization", &["x", "s"], &["y"]))
                .opset(23)
                .input("x", &[2, 3, 4])
                .input("s", &[4]),
            Case::new(NodeProto::new("LpNormalization", &["x"], &["y"]).with_int("axis", 1))
                .input("x", &[2, 3, 4]),
        ]);
        let group = || {
            let node = NodeProto::new("GroupNormalization", &["x", "s", "b"], &["y"]);
            Case::new(node.with_int("num_groups", 2)).input("x", &[2, 4, 3])
        };
        cases.extend([
            group().opset(21).positive("s", &[4]).weight("b", &[4]),
            group()
                .caption("scaled by group")
                .opset(18)
                .positive("s", &[2])
                .weight("b", &[2]),
        ]);
        cases
    }

    fn batches() -> Vec<Case> {
        let inputs = ["x", "s", "b", "mean", "variance"];
        let batch = |shape: &'static [usize]| {
            let node = NodeProto::new("BatchNormalization", &inputs, &["y"]);
            Case::new(node.with_float("epsilon", 1e-3))
                .input("x", shape)
                .weight("mean", &[3])
                .positive("variance", &[3])
        };
        let fixed = |case: Case| case.positive("s", &[3]).weight("b", &[3]);
        vec![
            fixed(batch(&[2, 3, 2, 2])),
            fixed(batch(&[2, 3])).caption("of a dense layer"),
            fixed(batch(&[2, 3, 2])).opset(8),
            batch(&[2, 3, 2, 2])
                .caption("by its scale and bias")
                .not_in_tract("it takes scale and bias as constants only")
                .input("s", &[3])
                .input("b", &[3]),
        ]
    }
}
