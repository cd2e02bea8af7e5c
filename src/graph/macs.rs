//! Multiply-accumulates: how much arithmetic the contractions of a graph take.
//!
//! ```text
//! Conv           N · (spatial size of the output) · (size of the weights)
//! ConvTranspose  N · (spatial size of the input)  · (size of the weights)
//! Gemm, MatMul   (size of the output) · (length of the sums)
//! ```
//!
//! with weights `[M, C/group, k..]`: groups are in it. Element-wise operators, normalisation and
//! pooling count as nothing, as is usual; other contractions (`NOT_COUNTED`, and whatever is not of
//! the domain `ai.onnx`) are listed, not guessed.

use std::collections::BTreeMap;

use super::{Graph, NodeId};
use crate::onnx::NodeProto;

/// Operators that multiply and add, or hold others that do, and are not counted.
const NOT_COUNTED: [&str; 14] = [
    "Attention",
    "ConvInteger",
    "DFT",
    "DeformConv",
    "Einsum",
    "GRU",
    "If",
    "LSTM",
    "Loop",
    "MatMulInteger",
    "QLinearConv",
    "QLinearMatMul",
    "RNN",
    "Scan",
];

/// The sizes of a value in a run, by its name; nothing where they are not known.
pub type Sizes<'s> = &'s dyn Fn(&str) -> Option<Vec<u64>>;

/// The multiply-accumulates of a graph in one run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Macs {
    /// By node; only nodes that have any.
    pub nodes: BTreeMap<NodeId, u64>,
    /// How often an operator occurs that is not counted, for it has no rule.
    pub not_counted: BTreeMap<String, usize>,
    /// Nodes that have a rule, but values of unknown size.
    pub unknown: Vec<NodeId>,
}

impl Macs {
    /// Counts every node for values of these sizes.
    ///
    /// The sizes of constants are taken from the graph, so a graph whose weights were cut can be
    /// counted with the sizes of its original: only spatial axes and rows are looked up.
    pub fn of(graph: &Graph<'_>, sizes: Sizes<'_>) -> Self {
        let mut macs = Self::default();
        for &id in graph.order() {
            let node = graph.node(id);
            let looked_up = Looked { graph, id, sizes };
            let counted = match (node.domain_or_default(), node.op()) {
                ("", "Conv") => looked_up.conv(node.output.first()),
                ("", "ConvTranspose") => looked_up.conv(node.input.first()),
                ("", "Gemm") => looked_up.gemm(),
                ("", "MatMul") => looked_up.matmul(),
                ("", op) if !NOT_COUNTED.contains(&op) => continue,
                _ => {
                    *macs.not_counted.entry(name(node)).or_default() += 1;
                    continue;
                }
            };
            match counted {
                Some(count) => {
                    macs.nodes.insert(id, count);
                }
                None => macs.unknown.push(id),
            }
        }
        macs
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.nodes.values().sum()
    }
}

fn name(node: &NodeProto) -> String {
    match node.domain_or_default() {
        "" => node.op().to_owned(),
        domain => format!("{domain}.{}", node.op()),
    }
}

/// A node, and where sizes come from.
struct Looked<'l> {
    graph: &'l Graph<'l>,
    id: NodeId,
    sizes: Sizes<'l>,
}

impl Looked<'_> {
    /// Sizes of a constant, where this input is one.
    fn constant(&self, input: usize) -> Option<Vec<u64>> {
        let id = self.graph.input(self.id, input)?;
        let dims = self.graph.constant(id)?.dims.iter();
        dims.map(|&size| u64::try_from(size).ok()).collect()
    }

    fn input(&self, input: usize) -> Option<Vec<u64>> {
        let found = self.constant(input);
        found.or_else(|| (self.sizes)(self.graph.node(self.id).input.get(input)?))
    }

    fn output(&self) -> Option<Vec<u64>> {
        (self.sizes)(self.graph.node(self.id).output.first()?)
    }

    /// `places` is the value whose spatial positions the weights are applied at, `[N, _, ..]`.
    fn conv(&self, places: Option<&String>) -> Option<u64> {
        let places = (self.sizes)(places?)?;
        let spatial = product(places.get(2..)?)?;
        places
            .first()?
            .checked_mul(spatial)?
            .checked_mul(product(&self.input(1)?)?)
    }

    /// `[M, K] · [K, N]`, either of them perhaps transposed.
    fn gemm(&self) -> Option<u64> {
        let rows = *self.output()?.first()?;
        rows.checked_mul(product(&self.input(1)?)?)
    }

    /// `[.., M, K] · [.., K, N]`; the stacks may differ, and vectors have no `M` or `N`.
    fn matmul(&self) -> Option<u64> {
        let output = self.output()?;
        if let Some(weight) = self.constant(1).filter(|weight| weight.len() == 2) {
            let (_, rows) = output.split_last()?;
            return product(rows)?.checked_mul(product(&weight)?);
        }
        if let Some(weight) = self.constant(0).filter(|weight| weight.len() == 2) {
            let mut columns = output;
            columns.remove(columns.len().checked_sub(2)?);
            return product(&columns)?.checked_mul(product(&weight)?);
        }
        let sums = *self.input(0)?.last()?;
        product(&output)?.checked_mul(sums)
    }
}

fn product(sizes: &[u64]) -> Option<u64> {
    sizes
        .iter()
        .try_fold(1_u64, |all, &size| all.checked_mul(size))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        graph::Shapes,
        onnx::{DataType, Dim, GraphProto, ModelProto, Tensor, ValueInfoProto},
    };

    /// One node that reads `x`, and constants or values of these shapes, and makes `y`.
    struct Case {
        what: &'static str,
        node: NodeProto,
        values: &'static [(&'static str, &'static [usize])],
        constants: &'static [(&'static str, &'static [usize])],
        expected: Option<u64>,
    }

    fn counted(case: &Case) -> Macs {
        let mut graph = GraphProto::new("one");
        let shape = |dims: &[usize]| dims.iter().copied().map(Dim::Fixed).collect::<Vec<_>>();
        for (name, dims) in case.values {
            let info = ValueInfoProto::tensor(name, DataType::Float, &shape(dims));
            match case.node.output.iter().any(|output| output == name) {
                true => graph.output.push(info),
                false => graph.input.push(info),
            }
        }
        for (name, dims) in case.constants {
            let values = vec![0.0; dims.iter().product()];
            let tensor = Tensor::f32(dims.to_vec(), values).unwrap();
            graph.initializer.push(tensor.to_proto(*name));
        }
        graph.node = vec![case.node.clone()];
        let model = ModelProto::new(graph, 17);
        let graph = Graph::new(&model).unwrap();
        let shapes = Shapes::declared(&graph);
        let sizes = |name: &str| {
            let dims = shapes.dims(graph.value(name)?)?.iter();
            dims.map(|dim| dim.fixed().map(|size| size as u64))
                .collect()
        };
        Macs::of(&graph, &sizes)
    }

    #[test]
    fn macs_are_those_counted_by_hand() {
        let conv = |op: &str| NodeProto::new(op, &["x", "w"], &["y"]);
        let cases = [
            Case {
                what: "3x3 convolution of 8 to 16 channels at 5x5 places, 2 samples",
                node: conv("Conv"),
                values: &[("x", &[2, 8, 7, 7]), ("y", &[2, 16, 5, 5])],
                constants: &[("w", &[16, 8, 3, 3])],
                expected: Some(2 * 16 * 5 * 5 * 8 * 9),
            },
            Case {
                what: "depthwise",
                node: conv("Conv").with_int("group", 8),
                values: &[("x", &[1, 8, 5, 5]), ("y", &[1, 8, 5, 5])],
                constants: &[("w", &[8, 1, 3, 3])],
                expected: Some(8 * 25 * 9),
            },
            Case {
                what: "transposed: each of the 4x4 places of the input is spread over 2x2",
                node: conv("ConvTranspose"),
                values: &[("x", &[1, 6, 4, 4]), ("y", &[1, 3, 8, 8])],
                constants: &[("w", &[6, 3, 2, 2])],
                expected: Some(16 * 6 * 3 * 4),
            },
            Case {
                what: "dense, weights transposed",
                node: conv("Gemm").with_int("transB", 1),
                values: &[("x", &[2, 20]), ("y", &[2, 10])],
                constants: &[("w", &[10, 20])],
                expected: Some(2 * 20 * 10),
            },
            Case {
                what: "dense over tokens",
                node: conv("MatMul"),
                values: &[("x", &[2, 5, 20]), ("y", &[2, 5, 10])],
                constants: &[("w", &[20, 10])],
                expected: Some(2 * 5 * 20 * 10),
            },
            Case {
                what: "weights on the left",
                node: NodeProto::new("MatMul", &["w", "x"], &["y"]),
                values: &[("x", &[3, 20, 7]), ("y", &[3, 10, 7])],
                constants: &[("w", &[10, 20])],
                expected: Some(3 * 7 * 20 * 10),
            },
            Case {
                what: "attention: two values",
                node: NodeProto::new("MatMul", &["x", "v"], &["y"]),
                values: &[
                    ("x", &[2, 4, 9, 16]),
                    ("v", &[2, 4, 16, 9]),
                    ("y", &[2, 4, 9, 9]),
                ],
                constants: &[],
                expected: Some(2 * 4 * 9 * 9 * 16),
            },
            Case {
                what: "an element-wise operator",
                node: NodeProto::new("Relu", &["x"], &["y"]),
                values: &[("x", &[2, 20]), ("y", &[2, 20])],
                constants: &[],
                expected: Some(0),
            },
            Case {
                what: "an output of unknown size",
                node: conv("Conv"),
                values: &[("x", &[1, 8, 5, 5])],
                constants: &[("w", &[8, 1, 3, 3])],
                expected: None,
            },
        ];
        for case in cases {
            let macs = counted(&case);
            let found = macs.unknown.is_empty().then_some(macs.total());
            assert_eq!(found, case.expected, "{}", case.what);
            assert!(macs.not_counted.is_empty(), "{}", case.what);
        }
    }

    #[test]
    fn contractions_without_a_rule_are_listed() {
        let node = |node: NodeProto, expected: &str| {
            let macs = counted(&Case {
                what: "",
                node,
                values: &[("x", &[2, 20]), ("y", &[2, 20])],
                constants: &[],
                expected: None,
            });
            assert_eq!(macs.total(), 0);
            assert_eq!(macs.not_counted, BTreeMap::from([(expected.to_owned(), 1)]));
        };
        node(NodeProto::new("Einsum", &["x"], &["y"]), "Einsum");
        let foreign = NodeProto::new("FusedMatMul", &["x"], &["y"]).with_domain("com.microsoft");
        node(foreign, "com.microsoft.FusedMatMul");
    }
}
