//! Arithmetic, element by element, with broadcasting.

use std::f32::consts::PI;

use crate::{
    error::Result,
    grad::{
        context::{Context, Flow, Rule},
        var::Var,
    },
};

pub(super) const RULES: &[(&str, Rule)] = &[
    ("Abs", abs),
    ("Add", add),
    ("Cast", cast),
    ("Cos", cos),
    ("Div", div),
    ("Dropout", dropout),
    ("Erf", erf),
    ("Exp", exp),
    ("Identity", identity),
    ("Log", log),
    ("Max", max),
    ("Mean", mean),
    ("Min", min),
    ("Mul", mul),
    ("Neg", neg),
    ("Pow", pow),
    ("Reciprocal", reciprocal),
    ("Sin", sin),
    ("Sqrt", sqrt),
    ("Sub", sub),
    ("Sum", sum),
    ("Where", where_),
];

type Flows<'t> = Result<Vec<Flow<'t>>>;

/// y = a + b: da = dy, db = dy
fn add<'t>(c: &Context<'t>) -> Flows<'t> {
    let dy = c.cotangent()?;
    c.wide([dy, dy])
}

/// y = a − b: da = dy, db = −dy
fn sub<'t>(c: &Context<'t>) -> Flows<'t> {
    let dy = c.cotangent()?;
    c.wide([dy, -dy])
}

/// y = a·b: da = dy·b, db = dy·a
fn mul<'t>(c: &Context<'t>) -> Flows<'t> {
    let (dy, a, b) = (c.cotangent()?, c.input(0)?, c.input(1)?);
    c.wide([dy * b, dy * a])
}

/// y = a/b: da = dy/b, db = −dy·y/b
fn div<'t>(c: &Context<'t>) -> Flows<'t> {
    let (dy, y, b) = (c.cotangent()?, c.output(0)?, c.input(1)?);
    c.wide([dy / b, -(dy * (y / b))])
}

/// y = −x: dx = −dy
fn neg<'t>(c: &Context<'t>) -> Flows<'t> {
    c.first(Flow::Exact(-c.cotangent()?))
}

/// y = xᵉ: dx = dy·e·xᵉ⁻¹, de = dy·y·log x
fn pow<'t>(c: &Context<'t>) -> Flows<'t> {
    let (dy, x, e, y) = (c.cotangent()?, c.input(0)?, c.input(1)?, c.output(0)?);
    let constant = c.graph.constant_input(c.id, 1);
    let is_square = constant.is_some_and(|e| e.to_f32().iter().all(|&e| e == 2.0));
    let slope = if is_square {
        x * 2.0
    } else {
        e * x.pow(e - 1.0)
    };
    c.wide([dy * slope, dy * (y * x.ln())])
}

/// y = √x: dx = dy·1/(2y)
fn sqrt<'t>(c: &Context<'t>) -> Flows<'t> {
    c.slope(0.5 / c.output(0)?)
}

/// y = eˣ: dx = dy·y
fn exp<'t>(c: &Context<'t>) -> Flows<'t> {
    c.slope(c.output(0)?)
}

/// y = log x: dx = dy/x
fn log<'t>(c: &Context<'t>) -> Flows<'t> {
    c.first(Flow::Exact(c.cotangent()? / c.input(0)?))
}

/// y = |x|: dx = dy·sign x
fn abs<'t>(c: &Context<'t>) -> Flows<'t> {
    let x = c.input(0)?;
    c.slope(x.above_value(0.0) - x.below_value(0.0))
}

/// y = 1/x: dx = −dy·y²
fn reciprocal<'t>(c: &Context<'t>) -> Flows<'t> {
    let y = c.output(0)?;
    c.slope(-(y * y))
}

/// y = erf x: dx = dy·2/√π·exp(−x²)
fn erf<'t>(c: &Context<'t>) -> Flows<'t> {
    let x = c.input(0)?;
    c.slope((-(x * x)).exp() * (2.0 / PI.sqrt()))
}

/// y = sin x: dx = dy·cos x
fn sin<'t>(c: &Context<'t>) -> Flows<'t> {
    c.slope(c.tape.push("Cos", &[c.input(0)?]))
}

/// y = cos x: dx = −dy·sin x
fn cos<'t>(c: &Context<'t>) -> Flows<'t> {
    c.slope(-c.tape.push("Sin", &[c.input(0)?]))
}

/// y = Σ xᵢ: dxᵢ = dy
fn sum<'t>(c: &Context<'t>) -> Flows<'t> {
    let dy = c.cotangent()?;
    c.wide(c.node().input.iter().map(|_| dy))
}

/// y = Σ xᵢ/n: dxᵢ = dy/n
fn mean<'t>(c: &Context<'t>) -> Flows<'t> {
    let share = c.cotangent()? / c.node().input.len() as f32;
    c.wide(c.node().input.iter().map(|_| share))
}

/// y = max(a, b): da = dy where a > b, dy/2 where they are equal
fn max<'t>(c: &Context<'t>) -> Flows<'t> {
    extremum(c, Var::above)
}

/// y = min(a, b): da = dy where a < b, dy/2 where they are equal
fn min<'t>(c: &Context<'t>) -> Flows<'t> {
    extremum(c, |a, b| b.above(a))
}

fn extremum<'t>(c: &Context<'t>, wins: fn(Var<'t>, Var<'t>) -> Var<'t>) -> Flows<'t> {
    let dy = c.cotangent()?;
    match c.node().input.len() {
        1 => c.wide([dy]),
        2 => {
            let (a, b) = (c.input(0)?, c.input(1)?);
            let share = (wins(a, b) - wins(b, a)) * 0.5 + 0.5;
            c.wide([dy * share, dy * (1.0 - share)])
        }
        _ => Err(c.unsupported("has a gradient for two inputs only")),
    }
}

/// y = a where s, else b: da = dy where s, db = dy where not s
fn where_<'t>(c: &Context<'t>) -> Flows<'t> {
    let (dy, holds, zero) = (c.cotangent()?, c.raw_input(0)?, c.tape.scalar(0.0));
    let dims = c.broadcast_dims()?;
    c.each(|input| {
        Ok(match input {
            1 => Flow::Wide(holds.select(dy, zero), dims.clone()),
            2 => Flow::Wide(holds.select(zero, dy), dims.clone()),
            _ => Flow::None,
        })
    })
}

/// y = x in another type: dx = dy; to whole numbers the driver does not come here
fn cast<'t>(c: &Context<'t>) -> Flows<'t> {
    identity(c)
}

/// y = x: dx = dy
fn identity<'t>(c: &Context<'t>) -> Flows<'t> {
    c.first(Flow::Exact(c.cotangent()?))
}

/// y = x when not training: dx = dy
fn dropout<'t>(c: &Context<'t>) -> Flows<'t> {
    if c.graph.input(c.id, 2).is_some() {
        let training = c.graph.constant_input(c.id, 2);
        if training.is_none_or(|training| training.to_i64() != [0]) {
            return Err(c.unsupported("may be in training mode"));
        }
    }
    identity(c)
}

#[cfg(test)]
pub(super) mod tests {
    use crate::{
        grad::testing::{Case, check},
        onnx::{DataType, NodeProto, Tensor, TensorData},
    };

    #[test]
    fn rules_agree_with_differences() {
        check(&cases());
    }

    pub(in crate::grad) fn cases() -> Vec<Case> {
        let smooth = ["Cos", "Erf", "Exp", "Identity", "Neg", "Sin"];
        let positive = ["Log", "Reciprocal", "Sqrt"];
        let mut cases: Vec<Case> = smooth.map(Case::unary).into();
        cases.extend(positive.map(|op| {
            let node = NodeProto::new(op, &["x"], &["y"]);
            Case::new(node).within("x", &[2, 5], 0.4, 3.0)
        }));
        cases.extend(["Add", "Max", "Mean", "Min", "Mul", "Sub", "Sum"].map(Case::binary));
        cases.extend([
            Case::unary("Abs"),
            Case::unary("Abs").opset(7),
            Case::unary("Dropout"),
            Case::new(NodeProto::new("Div", &["a", "b"], &["y"]))
                .input("a", &[2, 3])
                .within("b", &[2, 1, 3], 0.5, 2.0),
            Case::binary("Max").opset(8),
            Case::new(NodeProto::new("Sum", &["a", "b", "c"], &["y"]))
                .caption("of three")
                .input("a", &[2, 3])
                .input("b", &[3])
                .input("c", &[1, 3]),
            Case::new(NodeProto::new("Mul", &["x", "x"], &["y"]))
                .caption("of one value with itself")
                .input("x", &[2, 5]),
            Case::new(NodeProto::new("Max", &["x"], &["y"]))
                .caption("of one")
                .input("x", &[2, 5]),
        ]);
        cases.extend(powers());
        cases.extend(selections());
        cases
    }

    fn powers() -> Vec<Case> {
        let pow = || Case::new(NodeProto::new("Pow", &["x", "e"], &["y"]));
        vec![
            pow()
                .caption("squared")
                .input("x", &[2, 5])
                .scalar("e", 2.0),
            pow().caption("cubed").input("x", &[2, 5]).scalar("e", 3.0),
            pow()
                .caption("of both")
                .within("x", &[2, 5], 0.5, 2.0)
                .within("e", &[5], 0.5, 2.5),
        ]
    }

    fn selections() -> Vec<Case> {
        let float = i64::from(i32::from(DataType::Float));
        let holds = Tensor::new([4], TensorData::Bool(vec![true, false, false, true]));
        vec![
            Case::new(NodeProto::new("Where", &["holds", "a", "b"], &["y"]))
                .constant("holds", holds.unwrap())
                .input("a", &[2, 1, 4])
                .input("b", &[3, 1]),
            Case::new(NodeProto::new("Cast", &["x"], &["y"]).with_int("to", float))
                .caption("to the same type")
                .input("x", &[2, 5]),
            Case::new(NodeProto::new("Cast", &["x"], &["half"]).with_int("to", 10))
                .caption("to half and back")
                .then(NodeProto::new("Cast", &["half"], &["y"]).with_int("to", float))
                .rough()
                .input("x", &[2, 5]),
        ]
    }
}
