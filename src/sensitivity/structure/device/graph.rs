//! The graph that takes the derivatives of a chain and adds up their powers, for one step of samples.
//!
//! ```text
//! factors, shares [K, N, 1], slopes [1, N, H]  ->  per layer and norm: sums [F]
//! ```
//!
//! Classes come first, so that sums over them are sums of rows, which devices are fastest at.
//!
//! A graphics card multiplies in full f32 an order of magnitude slower than in TF32, whose factors
//! have 11 bits. So each factor is split into two parts of 11 bits (Dekker 1971, Numerische
//! Mathematik 18, section 4) and three products of the parts are added in f32: what is lost is
//! the product of the two smaller parts, 2^-22 of the whole.

use crate::{
    engine::Snapshot,
    error::Result,
    onnx::{DataType, Dim, GraphProto, ModelProto, NodeProto, Tensor, TensorProto, ValueInfoProto},
    sensitivity::{Norm, structure::chain::Chain},
};

/// Operator set of the nodes: one that every library we accept knows.
const OPSET: i64 = 13;

/// `2^13 + 1`: of the 24 bits of an f32 the upper part keeps 11.
const SPLITTER: f32 = 8193.0;

/// Names of inputs.
pub(super) const FACTORS: &str = "factors";
pub(super) const SHARES: &str = "shares";
const SPLIT: &str = "splitter";
const GRAM: &str = "gram";
const NEXT_GRAM: &str = "next_gram";

/// What is wanted of a chain.
pub(super) struct Wanted<'w> {
    pub(super) chain: &'w Chain,
    pub(super) classes: usize,
    /// Whether the mean of the rows is taken off, as behind Softmax.
    pub(super) shares: bool,
    /// One output for each of these and each layer.
    pub(super) norms: &'w [Norm],
    /// Whether the first dense layer's cotangents are summed up as `g g^T`, and its inputs' left out.
    pub(super) gram: bool,
    /// Whether factors of products are split.
    pub(super) split: bool,
}

/// A graph, and how it is run.
pub(super) struct Written {
    pub(super) model: ModelProto,
    pub(super) feedback: Vec<(String, String)>,
    /// Weights, and the Gram matrix.
    pub(super) held: Snapshot,
    /// The layer and the place in `norms` of each output; the place behind the last norm is a sum
    /// that is there to be checked only.
    pub(super) outputs: Vec<(usize, usize)>,
}

/// The input with the slopes behind a dense layer.
pub(super) fn slopes(level: usize) -> String {
    format!("slopes_{level}")
}

fn weights(level: usize) -> String {
    format!("weights_{level}")
}

/// # Errors
/// None in practice: the tensors have the sizes of the chain.
pub(super) fn write(wanted: &Wanted<'_>) -> Result<Written> {
    let mut writer = Writer::default();
    let mut found = Found::default();
    let last = wanted.chain.links.len() - 1;
    let mut derivatives = writer.last(wanted);
    for level in (0..=last).rev() {
        let width = wanted.chain.links[level].weights.inputs();
        let flat = writer.reshaped(&derivatives, &[-1, to_index(width)]);
        writer.sums(wanted, level, &flat, &mut found);
        let Some(below) = level.checked_sub(1) else {
            break;
        };
        let sloped = writer.push("Mul", &[&derivatives, &slopes(below)]);
        let rows = writer.reshaped(&sloped, &[-1, to_index(width)]);
        if below == 0 && wanted.gram {
            writer.gram(wanted, &rows);
            break;
        }
        let product = writer.product(wanted, &rows, &weights(below));
        let width = wanted.chain.links[below].weights.inputs();
        let shape = [to_index(wanted.classes), -1, to_index(width)];
        derivatives = writer.reshaped(&product, &shape);
    }
    close(wanted, writer, found)
}

/// What comes out.
#[derive(Default)]
struct Found {
    names: Vec<(String, usize)>,
    outputs: Vec<(usize, usize)>,
}

#[derive(Default)]
struct Writer {
    nodes: Vec<NodeProto>,
    /// Shapes, axes and exponents.
    constants: Vec<TensorProto>,
}

impl Writer {
    fn push(&mut self, op: &str, inputs: &[&str]) -> String {
        self.push_with(op, inputs, |node| node)
    }

    fn push_with(
        &mut self,
        op: &str,
        inputs: &[&str],
        attributes: impl FnOnce(NodeProto) -> NodeProto,
    ) -> String {
        let name = format!("{op}_{}", self.nodes.len());
        let node = NodeProto::new(op, inputs, &[&name]).with_name(&name);
        self.nodes.push(attributes(node));
        name
    }

    /// A list of whole numbers, once for all who want the same.
    fn ints(&mut self, values: &[i64]) -> String {
        let name = format!("ints {values:?}");
        if !self.constants.iter().any(|known| known.name() == name) {
            let bytes: Vec<u8> = values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect();
            self.constants.push(TensorProto {
                name: Some(name.clone()),
                data_type: Some(DataType::Int64.into()),
                dims: vec![to_index(values.len())],
                raw_data: Some(bytes.into()),
                ..TensorProto::default()
            });
        }
        name
    }

    fn number(&mut self, value: f32) -> String {
        let name = format!("number {value:?}");
        if !self.constants.iter().any(|known| known.name() == name) {
            self.constants.push(TensorProto {
                name: Some(name.clone()),
                data_type: Some(DataType::Float.into()),
                raw_data: Some(value.to_le_bytes().to_vec().into()),
                ..TensorProto::default()
            });
        }
        name
    }

    fn reshaped(&mut self, value: &str, shape: &[i64]) -> String {
        let shape = self.ints(shape);
        self.push("Reshape", &[value, &shape])
    }

    fn summed(&mut self, value: &str, axis: i64, keep: bool) -> String {
        let axes = self.ints(&[axis]);
        self.push_with("ReduceSum", &[value, &axes], |node| {
            node.with_int("keepdims", i64::from(keep))
        })
    }

    fn largest(&mut self, value: &str) -> String {
        self.push_with("ReduceMax", &[value], |node| {
            node.with_ints("axes", &[0]).with_int("keepdims", 0)
        })
    }

    /// `[K, N, F]` by what the last dense layer reads.
    fn last(&mut self, wanted: &Wanted<'_>) -> String {
        let last = wanted.chain.links.len() - 1;
        let (classes, width) = (
            to_index(wanted.classes),
            to_index(wanted.chain.links[last].weights.inputs()),
        );
        let weights = self.reshaped(&weights(last), &[classes, 1, width]);
        if !wanted.shares {
            return self.push("Mul", &[FACTORS, &weights]);
        }
        // Not as a product of matrices: what is left of a confident sample is a small difference,
        // which needs every digit.
        let shared = self.push("Mul", &[SHARES, &weights]);
        let rows = self.reshaped(&shared, &[classes, -1]);
        let mean = self.summed(&rows, 0, true);
        let mean = self.reshaped(&mean, &[1, -1, width]);
        let apart = self.push("Sub", &[&weights, &mean]);
        self.push("Mul", &[FACTORS, &apart])
    }

    /// The powers of derivatives `[K·N, F]`, summed over the rows.
    fn sums(&mut self, wanted: &Wanted<'_>, level: usize, flat: &str, found: &mut Found) {
        let absolute = self.push("Abs", &[flat]);
        let mut is_checked = false;
        for (place, norm) in wanted.norms.iter().enumerate() {
            let sum = match *norm {
                Norm::Inf => {
                    // Over the classes first: a device has then more columns to work on at once.
                    let by_class = self.reshaped(&absolute, &[to_index(wanted.classes), -1]);
                    let largest = self.largest(&by_class);
                    let width = wanted.chain.links[level].weights.inputs();
                    let by_sample = self.reshaped(&largest, &[-1, to_index(width)]);
                    self.largest(&by_sample)
                }
                Norm::P(p) => {
                    is_checked = true;
                    let power = self.power(&absolute, p);
                    self.summed(&power, 0, false)
                }
            };
            found.add(sum, (level, place), wanted);
        }
        if !is_checked {
            // A maximum may pass over what is no number.
            let sum = self.summed(&absolute, 0, false);
            found.add(sum, (level, wanted.norms.len()), wanted);
        }
    }

    fn power(&mut self, absolute: &str, p: f64) -> String {
        if p == 1.0 {
            return absolute.to_owned();
        }
        if p == 2.0 {
            return self.push("Mul", &[absolute, absolute]);
        }
        let exponent = self.number(p as f32);
        self.push("Pow", &[absolute, &exponent])
    }

    /// The upper 11 bits of each number, and the rest.
    fn parts(&mut self, value: &str) -> [String; 2] {
        let far = self.push("Mul", &[value, SPLIT]);
        let rest = self.push("Sub", &[&far, value]);
        let upper = self.push("Sub", &[&far, &rest]);
        let lower = self.push("Sub", &[value, &upper]);
        [upper, lower]
    }

    fn joined(&mut self, values: [&str; 3], axis: i64) -> String {
        self.push_with("Concat", &values, |node| node.with_int("axis", axis))
    }

    /// `left · right`, of matrices.
    fn product(&mut self, wanted: &Wanted<'_>, left: &str, right: &str) -> String {
        if !wanted.split {
            return self.push("MatMul", &[left, right]);
        }
        let [upper, lower] = self.parts(left);
        let left = self.joined([&upper, &upper, &lower], 1);
        let [upper, lower] = self.parts(right);
        let right = self.joined([&upper, &lower, &upper], 0);
        self.push("MatMul", &[&left, &right])
    }

    /// Adds `rows^T · rows` to what is held.
    fn gram(&mut self, wanted: &Wanted<'_>, rows: &str) {
        let (left, right) = if wanted.split {
            let [upper, lower] = self.parts(rows);
            let left = self.joined([&upper, &upper, &lower], 0);
            (left, self.joined([&upper, &lower, &upper], 0))
        } else {
            (rows.to_owned(), rows.to_owned())
        };
        let node = NodeProto::new("Gemm", &[&left, &right, GRAM], &[NEXT_GRAM]);
        self.nodes
            .push(node.with_name(NEXT_GRAM).with_int("transA", 1));
    }
}

impl Writer {
    fn reads(&self, name: &str) -> bool {
        let mut names = self.nodes.iter().flat_map(|node| &node.input);
        names.any(|input| input == name)
    }

    /// The model with these inputs and outputs.
    fn close(self, mut graph: GraphProto) -> ModelProto {
        graph.node = self.nodes;
        graph.initializer = self.constants;
        ModelProto::new(graph, OPSET)
    }
}

impl Found {
    fn add(&mut self, name: String, (level, place): (usize, usize), wanted: &Wanted<'_>) {
        let width = wanted.chain.links[level].weights.inputs();
        self.names.push((name, width));
        self.outputs.push((level, place));
    }
}

/// Declares what goes in and comes out.
fn close(wanted: &Wanted<'_>, writer: Writer, found: Found) -> Result<Written> {
    let links = &wanted.chain.links;
    let mut graph = GraphProto::new("sensitivity");
    let samples = || Dim::Symbol("samples".to_owned());
    let per_class = [Dim::Fixed(wanted.classes), samples(), Dim::Fixed(1)];
    graph.input.push(port(FACTORS, &per_class));
    if wanted.shares {
        graph.input.push(port(SHARES, &per_class));
    }
    for (level, link) in links.iter().enumerate().take(links.len() - 1) {
        let dims = [Dim::Fixed(1), samples(), Dim::Fixed(link.weights.outputs())];
        graph.input.push(port(&slopes(level), &dims));
    }
    let mut held = Vec::new();
    for (level, link) in links.iter().enumerate() {
        if writer.reads(&weights(level)) {
            held.push((weights(level), link.weights.to_tensor()?));
        }
    }
    if writer.reads(SPLIT) {
        held.push(splitter()?);
    }
    graph.input.extend(held.iter().map(port_of));
    let mut held = Snapshot::from(held);
    let sums = found.names.iter();
    graph
        .output
        .extend(sums.map(|(name, width)| port(name, &[Dim::Fixed(*width)])));
    let mut feedback = Vec::new();
    if wanted.gram {
        graph.input.push(square(wanted.chain, GRAM));
        graph.output.push(square(wanted.chain, NEXT_GRAM));
        feedback.push((NEXT_GRAM.to_owned(), GRAM.to_owned()));
        held = held.and(no_gram(wanted.chain));
    }
    Ok(Written {
        model: writer.close(graph),
        feedback,
        held,
        outputs: found.outputs,
    })
}

/// The graph that makes the sums of squares `(W^T C W)_ii` of the sum C of `g g^T`, and what it holds.
pub(super) fn write_closing(wanted: &Wanted<'_>) -> Result<(ModelProto, Snapshot)> {
    let mut writer = Writer::default();
    let name = weights(0);
    let product = writer.product(wanted, GRAM, &name);
    let squares = writer.push("Mul", &[&product, &name]);
    let sums = writer.summed(&squares, 0, false);
    let matrix = &wanted.chain.links[0].weights;
    let mut held = vec![(name, matrix.to_tensor()?)];
    if wanted.split {
        held.push(splitter()?);
    }
    let mut graph = GraphProto::new("closing");
    graph.input = held.iter().map(port_of).collect();
    graph.input.push(square(wanted.chain, GRAM));
    graph.output = vec![port(&sums, &[Dim::Fixed(matrix.inputs())])];
    Ok((
        writer.close(graph),
        Snapshot::from(held).and(no_gram(wanted.chain)),
    ))
}

fn splitter() -> Result<(String, Tensor)> {
    Ok((SPLIT.to_owned(), Tensor::f32([], vec![SPLITTER])?))
}

fn port(name: &str, dims: &[Dim]) -> ValueInfoProto {
    ValueInfoProto::tensor(name, DataType::Float, dims)
}

fn port_of((name, tensor): &(String, Tensor)) -> ValueInfoProto {
    let dims: Vec<Dim> = tensor.shape().iter().copied().map(Dim::Fixed).collect();
    port(name, &dims)
}

/// A sum of `g g^T` that goes in or out.
fn square(chain: &Chain, name: &str) -> ValueInfoProto {
    let height = chain.links[0].weights.outputs();
    port(name, &[Dim::Fixed(height), Dim::Fixed(height)])
}

/// Whether this is the sum of `g g^T`.
pub(super) fn is_gram(name: &str) -> bool {
    name == GRAM
}

/// A sum of `g g^T` over nothing.
pub(super) fn no_gram(chain: &Chain) -> Snapshot {
    let height = chain.links[0].weights.outputs();
    let mut held = Snapshot::default();
    held.add_zeros(GRAM, &[height, height]);
    held
}

fn to_index(size: usize) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}
