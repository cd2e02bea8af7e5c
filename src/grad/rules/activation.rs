//! Activation functions: one slope per element.
//!
//! Slopes have the shape of the value, not of the cotangent: they are computed once and meet all
//! class rows. At a kink the derivative is that of the flat side, so that an inactive unit is 0.

use std::f32::consts::{FRAC_1_SQRT_2, PI};

use crate::{
    error::Result,
    grad::{
        context::{Context, Flow, Rule},
        var::Var,
    },
};

pub(super) const RULES: &[(&str, Rule)] = &[
    ("Celu", celu),
    ("Clip", clip),
    ("Elu", elu),
    ("Gelu", gelu),
    ("HardSigmoid", hard_sigmoid),
    ("HardSwish", hard_swish),
    ("LeakyRelu", leaky_relu),
    ("LogSoftmax", log_softmax),
    ("Mish", mish),
    ("PRelu", prelu),
    ("Relu", relu),
    ("Selu", selu),
    ("Sigmoid", sigmoid),
    ("Softmax", softmax),
    ("Softplus", softplus),
    ("Softsign", softsign),
    ("Swish", swish),
    ("Tanh", tanh),
    ("ThresholdedRelu", thresholded_relu),
];

/// Rules of the domain `com.microsoft`.
pub(super) const CONTRIB: &[(&str, Rule)] = &[
    ("FastGelu", fast_gelu),
    ("Gelu", gelu),
    ("QuickGelu", quick_gelu),
];

/// Opset from which Softmax works along one axis instead of all axes from there on.
const SOFTMAX_ONE_AXIS: i64 = 13;
/// Default of Selu's `alpha` and `gamma`, <https://onnx.ai/onnx/operators/onnx__Selu.html>.
const SELU: (f32, f32) = (1.673_263_2, 1.050_701);

type Flows<'t> = Result<Vec<Flow<'t>>>;

/// y = max(x, 0): dx = dy·[y > 0]
fn relu<'t>(c: &Context<'t>) -> Flows<'t> {
    c.slope(c.output(0)?.above_value(0.0))
}

/// y = x or αx below 0: dx = dy·(α + (1 − α)·[x > 0])
fn leaky_relu<'t>(c: &Context<'t>) -> Flows<'t> {
    let alpha = c.float("alpha", 0.01);
    c.slope(c.input(0)?.above_value(0.0) * (1.0 - alpha) + alpha)
}

/// y = x or s·x below 0: dx = dy·([x > 0] + s·[x ≤ 0]), ds = dy·x·[x ≤ 0]
fn prelu<'t>(c: &Context<'t>) -> Flows<'t> {
    let (dy, x, s) = (c.cotangent()?, c.input(0)?, c.input(1)?);
    let positive = x.above_value(0.0);
    let negative = 1.0 - positive;
    c.wide([dy * (positive + s * negative), dy * (x * negative)])
}

/// y = min(max(x, low), high): dx = dy·[low < x]·[x < high]
fn clip<'t>(c: &Context<'t>) -> Flows<'t> {
    let (dy, x, node) = (c.cotangent()?, c.input(0)?, c.node());
    let bound = |name, input| {
        let attribute = node.float(name).map(|value| c.tape.scalar(value));
        attribute.or_else(|| c.optional(input))
    };
    let low = bound("min", 1).map(|low| x.above(low));
    let high = bound("max", 2).map(|high| high.above(x));
    let inside = match (low, high) {
        (Some(low), Some(high)) => Some(low * high),
        (low, high) => low.or(high),
    };
    c.first(Flow::Exact(inside.map_or(dy, |inside| dy * inside)))
}

/// y = clip(αx + β, 0, 1): dx = dy·α·[0 < y]·[y < 1]
fn hard_sigmoid<'t>(c: &Context<'t>) -> Flows<'t> {
    c.slope(inside_unit(c.output(0)?) * c.float("alpha", 0.2))
}

/// y = x·h, h = clip(x/6 + 1/2, 0, 1): dx = dy·(h + x/6·[0 < h]·[h < 1])
fn hard_swish<'t>(c: &Context<'t>) -> Flows<'t> {
    let x = c.input(0)?;
    let h = c.tape.push_with("HardSigmoid", &[x], |node| {
        node.with_float("alpha", 1.0 / 6.0).with_float("beta", 0.5)
    });
    c.slope(h + x * inside_unit(h) * (1.0 / 6.0))
}

fn inside_unit(y: Var<'_>) -> Var<'_> {
    y.above_value(0.0) * y.below_value(1.0)
}

/// y = σ(x): dx = dy·(y − y²)
fn sigmoid<'t>(c: &Context<'t>) -> Flows<'t> {
    let y = c.output(0)?;
    c.slope(y - y * y)
}

/// y = tanh x: dx = dy·(1 − y²)
fn tanh<'t>(c: &Context<'t>) -> Flows<'t> {
    let y = c.output(0)?;
    c.slope(1.0 - y * y)
}

/// y = log(1 + eˣ): dx = dy·σ(x)
fn softplus<'t>(c: &Context<'t>) -> Flows<'t> {
    c.slope(c.input(0)?.sigmoid())
}

/// y = x/(1 + |x|): dx = dy/(1 + |x|)²
fn softsign<'t>(c: &Context<'t>) -> Flows<'t> {
    let size = c.input(0)?.abs() + 1.0;
    c.slope(1.0 / (size * size))
}

/// y = x·t, t = tanh(log(1 + eˣ)): dx = dy·(t + x·(1 − t²)·σ(x))
fn mish<'t>(c: &Context<'t>) -> Flows<'t> {
    let x = c.input(0)?;
    let t = x.softplus().tanh();
    c.slope(t + x * (1.0 - t * t) * x.sigmoid())
}

/// y = x·s, s = σ(αx): dx = dy·(s + αx·(s − s²))
fn swish<'t>(c: &Context<'t>) -> Flows<'t> {
    sigmoid_gated(c, c.float("alpha", 1.0))
}

fn sigmoid_gated<'t>(c: &Context<'t>, alpha: f32) -> Flows<'t> {
    let scaled = c.input(0)? * alpha;
    let s = scaled.sigmoid();
    c.slope(s + scaled * (s - s * s))
}

/// y = x·Φ(x): dx = dy·(Φ(x) + x·φ(x)), Φ and φ of the normal distribution, or Φ by tanh
fn gelu<'t>(c: &Context<'t>) -> Flows<'t> {
    let x = c.input(0)?;
    if c.node().string("approximate").as_deref() == Some("tanh") {
        return c.slope(gelu_tanh_slope(x));
    }
    let normal = ((x * FRAC_1_SQRT_2).erf() + 1.0) * 0.5;
    let density = (x * x * -0.5).exp() * (1.0 / (2.0 * PI).sqrt());
    c.slope(normal + x * density)
}

/// y = Gelu by tanh of x + b: dx = dy·slope, db = dx summed
fn fast_gelu<'t>(c: &Context<'t>) -> Flows<'t> {
    let (dy, x) = (c.cotangent()?, c.input(0)?);
    let shifted = c.optional(1).map_or(x, |bias| x + bias);
    let gradient = dy * gelu_tanh_slope(shifted);
    c.wide(c.node().input.iter().map(|_| gradient))
}

/// y = x·s, s = σ(αx), α = 1.702: dx = dy·(s + αx·(s − s²))
fn quick_gelu<'t>(c: &Context<'t>) -> Flows<'t> {
    const ALPHA: f32 = 1.702;
    sigmoid_gated(c, c.float("alpha", ALPHA))
}

/// With t = tanh u, u = √(2/π)·(x + 0.044715x³): (1 + t)/2 + x/2·(1 − t²)·u′
fn gelu_tanh_slope(x: Var<'_>) -> Var<'_> {
    const CUBIC: f32 = 0.044_715;
    let scale = (2.0 / PI).sqrt();
    let square = x * x;
    let t = (x * (square * CUBIC + 1.0) * scale).tanh();
    let inner = (square * (3.0 * CUBIC) + 1.0) * scale;
    (t + 1.0) * 0.5 + x * (1.0 - t * t) * inner * 0.5
}

/// y = x or α(eˣ − 1) below 0: dx = dy·[x > 0] or dy·(y + α)
fn elu<'t>(c: &Context<'t>) -> Flows<'t> {
    exponential(c, 1.0, c.float("alpha", 1.0))
}

/// y = γx or γα(eˣ − 1) below 0: dx = dy·γ·[x > 0] or dy·(y + γα)
fn selu<'t>(c: &Context<'t>) -> Flows<'t> {
    let (alpha, gamma) = (c.float("alpha", SELU.0), c.float("gamma", SELU.1));
    exponential(c, gamma, gamma * alpha)
}

/// y = x or α(exp(x/α) − 1) below 0: dx = dy·[x > 0] or dy·(y/α + 1)
fn celu<'t>(c: &Context<'t>) -> Flows<'t> {
    let positive = c.input(0)?.above_value(0.0);
    let curve = c.output(0)? / c.float("alpha", 1.0) + 1.0;
    c.slope(positive + (1.0 - positive) * curve)
}

/// Slope `linear` above 0 and `y + bend` below.
fn exponential<'t>(c: &Context<'t>, linear: f32, bend: f32) -> Flows<'t> {
    let positive = c.input(0)?.above_value(0.0);
    c.slope(positive * linear + (1.0 - positive) * (c.output(0)? + bend))
}

/// y = x above α, else 0: dx = dy·[x > α]
fn thresholded_relu<'t>(c: &Context<'t>) -> Flows<'t> {
    c.slope(c.input(0)?.above_value(c.float("alpha", 1.0)))
}

/// p = softmax(x): dx = p·(dy − Σ dy·p)
fn softmax<'t>(c: &Context<'t>) -> Flows<'t> {
    let (dy, p) = (c.cotangent()?, c.output(0)?);
    let weighted = dy * p;
    let total = weighted.sum(&softmax_axes(c)?);
    c.first(Flow::Exact(weighted - p * total))
}

/// y = x − log Σ eˣ: dx = dy − eʸ·Σ dy
fn log_softmax<'t>(c: &Context<'t>) -> Flows<'t> {
    let (dy, y) = (c.cotangent()?, c.output(0)?);
    c.first(Flow::Exact(dy - y.exp() * dy.sum(&softmax_axes(c)?)))
}

/// The axes of the cotangent over which probabilities add up to 1.
fn softmax_axes(c: &Context<'_>) -> Result<Vec<usize>> {
    let rank = c.rank(0)?;
    if c.opset() >= SOFTMAX_ONE_AXIS {
        let axis = c.axis(c.node().int("axis").unwrap_or(-1), rank)?;
        return Ok(vec![axis + 1]);
    }
    let axis = c.axis(c.node().int("axis").unwrap_or(1), rank)?;
    Ok((axis + 1..=rank).collect())
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
        let newest = [("Mish", 18), ("Gelu", 20), ("Swish", 24)];
        let plain = [
            "Celu",
            "Elu",
            "HardSigmoid",
            "LeakyRelu",
            "Relu",
            "Selu",
            "Sigmoid",
            "Softplus",
            "Softsign",
            "Tanh",
        ];
        let mut cases: Vec<Case> = plain.map(Case::unary).into();
        cases.extend(newest.map(|(op, opset)| Case::unary(op).opset(opset)));
        let node = |op: &str| NodeProto::new(op, &["x"], &["y"]);
        cases.extend([
            Case::new(node("Celu").with_float("alpha", 0.7))
                .caption("of another curve")
                .not_in_tract("its Celu is another function where alpha is not 1")
                .input("x", &[2, 5]),
            Case::new(node("Elu").with_float("alpha", 0.7)).input("x", &[2, 5]),
            Case::new(node("LeakyRelu").with_float("alpha", 0.3)).input("x", &[2, 5]),
            Case::new(node("HardSigmoid").with_float("alpha", 0.4)).input("x", &[2, 5]),
            Case::new(node("ThresholdedRelu").with_float("alpha", 0.7)).input("x", &[2, 5]),
            Case::new(node("Swish").with_float("alpha", 1.7))
                .caption("of another slope")
                .not_in_tract("its Swish ignores alpha")
                .opset(24)
                .input("x", &[2, 5]),
            Case::new(node("Gelu").with_string("approximate", "tanh"))
                .caption("by tanh")
                .opset(20)
                .input("x", &[2, 5]),
            Case::new(node("HardSwish")).within("x", &[2, 6], -4.5, 4.5),
            Case::new(NodeProto::new("PRelu", &["x", "s"], &["y"]))
                .input("x", &[2, 3, 4])
                .input("s", &[3, 1]),
        ]);
        let contrib = |node: NodeProto| {
            let domain = "com.microsoft";
            Case::new(node.with_domain(domain)).domain(domain)
        };
        cases.extend([
            contrib(node("FastGelu")).input("x", &[2, 5]),
            contrib(NodeProto::new("FastGelu", &["x", "b"], &["y"]))
                .caption("with bias")
                .input("x", &[2, 3, 5])
                .input("b", &[5]),
            contrib(node("QuickGelu")).input("x", &[2, 5]),
            contrib(node("Gelu"))
                .caption("of the runtime")
                .input("x", &[2, 5]),
        ]);
        cases.extend(clips());
        cases.extend(softmaxes());
        cases
    }

    fn clips() -> Vec<Case> {
        let clip = |inputs: &[&str]| NodeProto::new("Clip", inputs, &["y"]);
        let bounded = |node: NodeProto| node.with_float("min", -1.0).with_float("max", 1.3);
        vec![
            Case::new(clip(&["x", "low", "high"]))
                .scalar("low", -1.0)
                .scalar("high", 1.3)
                .input("x", &[2, 5]),
            Case::new(clip(&["x", "", "high"]))
                .caption("from above")
                .scalar("high", 1.3)
                .input("x", &[2, 5]),
            Case::new(clip(&["x"]))
                .caption("nowhere")
                .input("x", &[2, 5]),
            Case::new(bounded(clip(&["x"])))
                .caption("by attributes")
                .opset(10)
                .input("x", &[2, 5]),
        ]
    }

    fn softmaxes() -> Vec<Case> {
        let mut cases = Vec::new();
        for op in ["Softmax", "LogSoftmax"] {
            let node = || NodeProto::new(op, &["x"], &["y"]);
            cases.extend([
                Case::new(node())
                    .caption("over the last axis")
                    .input("x", &[2, 3, 4]),
                Case::new(node().with_int("axis", 1))
                    .caption("over an axis in the middle")
                    .input("x", &[2, 3, 4]),
                Case::new(node())
                    .caption("over all axes from 1 on")
                    .opset(11)
                    .input("x", &[2, 3, 4]),
                Case::new(node().with_int("axis", -1))
                    .caption("over the last axis")
                    .opset(12)
                    .input("x", &[2, 3, 4]),
            ]);
        }
        cases
    }
}
