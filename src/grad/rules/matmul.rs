//! Dense layers.

use crate::{
    error::Result,
    grad::{
        context::{Context, Flow, Rule, broadcast},
        var::Var,
    },
    onnx::Dim,
};

pub(super) const RULES: &[(&str, Rule)] = &[("Gemm", gemm), ("MatMul", matmul)];

type Flows<'t> = Result<Vec<Flow<'t>>>;

/// Y = α·A′B′ + β·C: dA′ = α·dY·B′ᵀ, dB′ = α·A′ᵀ·dY, dC = β·dY (′: transposed if asked for)
fn gemm<'t>(c: &Context<'t>) -> Flows<'t> {
    let (dy, a, b) = (c.cotangent()?, c.input(0)?, c.input(1)?);
    let flipped = |name| c.node().int(name).unwrap_or(0) != 0;
    let (flip_a, flip_b) = (flipped("transA"), flipped("transB"));
    let scaled = dy * c.float("alpha", 1.0);
    c.each(|input| {
        Ok(match input {
            0 => {
                let da = scaled.matmul(if flip_b { b } else { b.transpose(&[1, 0]) });
                Flow::Exact(if flip_a { da.transpose(&[0, 2, 1]) } else { da })
            }
            1 => {
                let left = if flip_a { a } else { a.transpose(&[1, 0]) };
                let db = left.matmul(scaled);
                Flow::Exact(if flip_b { db.transpose(&[0, 2, 1]) } else { db })
            }
            _ => Flow::Wide(dy * c.float("beta", 1.0), gemm_dims(c, flip_a, flip_b)?),
        })
    })
}

/// Sizes of Y: rows of A′, columns of B′.
fn gemm_dims(c: &Context<'_>, flip_a: bool, flip_b: bool) -> Result<Vec<Dim>> {
    let (a, b) = (c.dims(0)?, c.dims(1)?);
    match (a, b) {
        ([first_a, second_a], [first_b, second_b]) => Ok(vec![
            if flip_a { second_a } else { first_a }.clone(),
            if flip_b { first_b } else { second_b }.clone(),
        ]),
        _ => Err(c.invalid(format!("multiplies {} by {} axes", a.len(), b.len()))),
    }
}

/// Y = AB: dA = dY·Bᵀ, dB = Aᵀ·dY, summed over batch axes along which one of them was repeated
fn matmul<'t>(c: &Context<'t>) -> Flows<'t> {
    let (dy, a, b) = (c.cotangent()?, c.input(0)?, c.input(1)?);
    let (dims_a, dims_b) = (c.dims(0)?, c.dims(1)?);
    if dims_a.len() < 2 || dims_b.len() < 2 {
        return Err(c.unsupported("multiplies by a vector without a second axis"));
    }
    let in_front = |dims: &'t [Dim]| &dims[..dims.len() - 2];
    let batch = broadcast(in_front(dims_a).to_vec(), in_front(dims_b));
    let wide = |matrix: &[Dim]| [&batch, &matrix[matrix.len() - 2..]].concat();
    c.each(|input| {
        Ok(if input == 0 {
            Flow::Wide(dy.matmul(swapped(b, dims_b.len())), wide(dims_a))
        } else {
            Flow::Wide(swapped(a, dims_a.len()).matmul(dy), wide(dims_b))
        })
    })
}

/// The matrices transposed, batch axes as they are.
fn swapped(value: Var<'_>, rank: usize) -> Var<'_> {
    let mut order: Vec<usize> = (0..rank).collect();
    order.swap(rank - 2, rank - 1);
    value.transpose(&order)
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
        let gemm = || NodeProto::new("Gemm", &["a", "b", "c"], &["y"]);
        let scaled = |node: NodeProto| node.with_float("alpha", 0.5).with_float("beta", 1.5);
        let flipped = NodeProto::new("Gemm", &["z", "b", "c"], &["y"]);
        let mut cases = vec![
            Case::new(gemm())
                .input("a", &[2, 3])
                .input("b", &[3, 4])
                .input("c", &[4]),
            Case::new(scaled(gemm().with_int("transB", 1)))
                .caption("as exporters write it")
                .input("a", &[2, 3])
                .input("b", &[4, 3])
                .input("c", &[1, 4]),
            Case::new(scaled(flipped).with_int("transA", 1).with_int("transB", 1))
                .caption("with both transposed")
                .input("z", &[3, 2])
                .input("b", &[4, 3])
                .input("c", &[2, 1]),
            Case::new(NodeProto::new("Gemm", &["a", "b"], &["y"]))
                .caption("without bias")
                .input("a", &[2, 3])
                .input("b", &[3, 4]),
            Case::new(gemm())
                .caption("with a scalar bias")
                .input("a", &[2, 3])
                .input("b", &[3, 4])
                .input("c", &[]),
        ];
        let shapes: [(&str, &[usize], &[usize]); 5] = [
            ("2-D", &[2, 3], &[3, 4]),
            ("weights", &[2, 5, 3], &[3, 4]),
            ("batched", &[2, 5, 3], &[2, 3, 4]),
            ("broadcast on the right", &[2, 2, 5, 3], &[2, 1, 3, 4]),
            ("broadcast on the left", &[5, 3], &[2, 3, 4]),
        ];
        for (caption, a, b) in shapes {
            let name = if caption == "broadcast on the left" {
                "z"
            } else {
                "a"
            };
            cases.push(
                Case::new(NodeProto::new("MatMul", &[name, "b"], &["y"]))
                    .caption(caption)
                    .input(name, a)
                    .input("b", b),
            );
        }
        cases
    }
}
