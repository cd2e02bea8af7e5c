//! The gradient rules, one per operator, in files by family.
//!
//! Three states: an operator has a rule, or its derivative is zero wherever it exists (`ZERO`), or
//! it is absent, which the driver reports together with all others before anything runs. Rules are
//! written for operator sets 7 (today's broadcasting) and newer; where an operator changed since, its
//! rule asks for the version.

mod activation;
mod conv;
mod elementwise;
mod matmul;
mod norm;
mod pool;
mod reduce;
mod select;
mod shape;
mod window;

use super::context::Rule;
use crate::graph::{Graph, NodeId};

/// Oldest operator set whose semantics the rules know.
const OLDEST_OPSET: i64 = 7;

/// All rules of the domain `ai.onnx`.
pub(super) const RULES: &[&[(&str, Rule)]] = &[
    elementwise::RULES,
    activation::RULES,
    matmul::RULES,
    conv::RULES,
    pool::RULES,
    norm::RULES,
    reduce::RULES,
    shape::RULES,
    select::RULES,
];

/// All rules of the domain `com.microsoft`, which ONNX Runtime's own optimiser writes.
pub(super) const CONTRIB: &[(&str, Rule)] = activation::CONTRIB;

/// Operators of the domain `ai.onnx` through which no gradient flows: their outputs are whole
/// numbers, truth values or constants, or change in steps.
pub(super) const ZERO: &[&str] = &[
    "And",
    "ArgMax",
    "ArgMin",
    "Ceil",
    "Constant",
    "ConstantOfShape",
    "Equal",
    "EyeLike",
    "Floor",
    "Greater",
    "GreaterOrEqual",
    "Hardmax",
    "IsInf",
    "IsNaN",
    "Less",
    "LessOrEqual",
    "NonZero",
    "Not",
    "OneHot",
    "Or",
    "Range",
    "Round",
    "Shape",
    "Sign",
    "Size",
    "Xor",
];

/// What the table says about an operator.
pub(super) enum Found {
    Rule(Rule),
    Zero,
    Absent,
}

/// Looks a node up by domain, operator and opset.
pub(super) fn find(graph: &Graph<'_>, id: NodeId) -> Found {
    let node = graph.node(id);
    let rule = |rows: &[(&str, Rule)]| {
        let mut rows = rows.iter();
        rows.find(|(op, _)| *op == node.op()).map(|(_, rule)| *rule)
    };
    let rule = match node.domain_or_default() {
        "com.microsoft" => rule(CONTRIB),
        "" if graph.opset(id) < OLDEST_OPSET => None,
        "" if ZERO.contains(&node.op()) => return Found::Zero,
        "" => RULES.iter().copied().find_map(rule),
        _ => None,
    };
    rule.map_or(Found::Absent, Found::Rule)
}

/// The cases of all rules.
#[cfg(test)]
pub(super) fn cases() -> Vec<super::testing::Case> {
    let families = [
        elementwise::tests::cases,
        activation::tests::cases,
        matmul::tests::cases,
        conv::tests::cases,
        pool::tests::cases,
        norm::tests::cases,
        reduce::tests::cases,
        shape::tests::cases,
        select::tests::cases,
    ];
    families.iter().flat_map(|cases| cases()).collect()
}
