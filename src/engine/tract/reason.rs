//! What stopped tract, in terms of the model.

use std::fmt::Display;

use tract_onnx::prelude::TractError;

use crate::error::Site;
use crate::onnx::{ModelProto, NodeProto};

/// Longest reason: tract sometimes prints whole tensors.
const LONGEST: usize = 400;

/// Explains tract's errors about one model.
pub(super) struct Reasons<'m> {
    model: &'m ModelProto,
}

impl<'m> Reasons<'m> {
    pub(super) fn new(model: &'m ModelProto) -> Self {
        Self { model }
    }

    /// The node that the cause chain is about, and the innermost cause.
    pub(super) fn explain(&self, error: &TractError) -> String {
        let lines: Vec<String> = error.chain().map(ToString::to_string).collect();
        let last = lines.last().map_or("", |line| line.trim_end_matches('.'));
        let unknown = lines.iter().any(|line| line.contains("Unimplemented("));
        let cause = if unknown {
            "the operator is not implemented"
        } else {
            last
        };
        let site = lines.iter().find_map(|line| self.site(line));
        let text = match (site, lines.first()) {
            (Some(site), _) => format!("{site}: {cause}"),
            (None, Some(first)) if lines.len() > 1 => format!("{first}: {cause}"),
            _ => cause.to_owned(),
        };
        shorten(&text)
    }

    /// The node whose name a line quotes. tract splits nodes and appends to their names
    /// (`"fc.beta_c"`), so it is the longest name with which a quoted one begins.
    fn site(&self, line: &str) -> Option<Site> {
        let quoted: Vec<&str> = line.split('"').skip(1).step_by(2).collect();
        let nodes = self.model.graph.iter().flat_map(|graph| &graph.node);
        let named = nodes.filter(|node| {
            let name = name(node);
            !name.is_empty() && quoted.iter().any(|quoted| is_part(name, quoted))
        });
        let node = named.max_by_key(|node| name(node).len())?;
        Some(Site {
            node: name(node).to_owned(),
            op_type: match node.domain_or_default() {
                "" => node.op().to_owned(),
                domain => format!("{domain}.{}", node.op()),
            },
            opset: self.model.opset(node.domain_or_default()).unwrap_or(0),
        })
    }
}

/// tract names a node without a name after its first output.
fn name(node: &NodeProto) -> &str {
    match node.name() {
        "" => node.output.first().map_or("", String::as_str),
        name => name,
    }
}

fn is_part(name: &str, quoted: &str) -> bool {
    let rest = quoted.strip_prefix(name);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', ' ', '-']))
}

fn shorten(text: &impl Display) -> String {
    let text = text.to_string().replace('\n', " ");
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::GraphProto;

    fn model() -> ModelProto {
        let mut graph = GraphProto::new("reasons");
        graph.node = vec![
            NodeProto::new("Gemm", &["x", "w", "b"], &["g"]).with_name("fc"),
            NodeProto::new("Relu", &["g"], &["fc2_out"]),
            NodeProto::new("QGemm", &["fc2_out"], &["y"])
                .with_name("fc.q")
                .with_domain("com.microsoft"),
        ];
        ModelProto::new(graph, 17)
    }

    #[test]
    fn reason_names_the_node_and_the_innermost_cause() {
        // A chain as tract gives it, outermost first.
        let cases: [(&[&str], &str); 6] = [
            // a node that tract split: the name goes on after a dot
            (
                &[
                    "running pass",
                    "Eager eval #27 \"fc.beta_c\" Mul",
                    "tensor is F32, accessed as F64",
                ],
                "node \"fc\" (Gemm, opset 17): tensor is F32, accessed as F64",
            ),
            // of two names that fit the longer one; an operator of another domain; no TypedOp
            (
                &[
                    "Translating node #1 \"fc.q\" Unimplemented(QGemm)",
                    "Operator can not be made a TypedOp.",
                ],
                "node \"fc.q\" (com.microsoft.QGemm, opset 0): the operator is not implemented",
            ),
            // no name in the file: tract takes the output's
            (
                &["Evaluating #2 \"fc2_out\" Relu", "no"],
                "node \"fc2_out\" (Relu, opset 17): no",
            ),
            // a name that only begins like a node's
            (
                &["Evaluating #2 \"fcx\" Relu", "no"],
                "Evaluating #2 \"fcx\" Relu: no",
            ),
            // no node at all
            (
                &["Reading proto model", "buffer underflow"],
                "Reading proto model: buffer underflow",
            ),
            (&["one\nline"], "one line"),
        ];
        let model = model();
        for (lines, expected) in cases {
            let (last, outer) = lines.split_last().unwrap();
            let root = TractError::msg(last.to_string());
            let error = outer
                .iter()
                .rev()
                .fold(root, |error, line| error.context(line.to_string()));
            assert_eq!(Reasons::new(&model).explain(&error), expected);
        }
    }

    #[test]
    fn long_reasons_are_cut_at_a_character() {
        let error = TractError::msg("\u{e9}".repeat(2 * LONGEST));
        let text = Reasons::new(&model()).explain(&error);
        assert_eq!(text.chars().count(), LONGEST + 3);
        assert!(text.ends_with("\u{e9}..."));
    }
}
