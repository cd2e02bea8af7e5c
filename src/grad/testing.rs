//! How gradient rules are tested: ⟨u, Jv⟩ = ⟨Jᵀu, v⟩, in both engines.
//!
//! J is the Jacobian of a small model with the operator in it, u a row of class weights, v a
//! direction for one input. The right side comes from the gradient graph. The left side comes from
//! the forward model alone, by central differences of fourth order,
//! `(8(f(x+hv) − f(x−hv)) − (f(x+2hv) − f(x−2hv))) / 12h`, in f32 in the same engine with the inner
//! product in f64. f64 models are no alternative: ONNX Runtime has no f64 convolution or pooling.
//! With h = 0.02 the error of the formula is 1e-8 and that of rounding some 1e-5 (f32 has 6e-8,
//! divided by h and multiplied by the values' size), so a step of fourth order is worth its price.
//! Inputs keep 2h away from kinks and from each other, see [`spread`].

use std::collections::BTreeMap;

use super::{GradientModel, Request, gradient_model};
use crate::{
    engine::{Engine, testing::engines},
    graph::{self, Graph, Shapes, TensorType, Use, ValueId},
    onnx::{
        DataType, Dim, GraphProto, ModelProto, NodeProto, Tensor, TensorProto, ValueInfoProto,
        proto::{OperatorSetIdProto, type_proto::Value},
    },
};

/// Step of the central differences; see the module's head.
const STEP: f64 = 0.02;
/// Allowed difference of the inner products, relative to the sum of the sizes of their terms. Seen:
/// 4e-5 where tract's Erf, a polynomial, is differentiated; below 2e-5 for all other rules.
const TOLERANCE: f64 = 1e-4;
/// Rows of the seed: two, so that a mixed-up class axis is seen.
const ROWS: usize = 2;
/// Distance that inputs keep from zero, where most kinks are.
const CLEARANCE: f32 = 0.05;

/// Inputs with these names have a batch axis whose size is not known when the gradient is written.
const BATCHED: [&str; 2] = ["a", "x"];

/// One operator in one setting; its value `y` is what is differentiated.
pub(super) struct Case {
    caption: &'static str,
    opset: i64,
    nodes: Vec<NodeProto>,
    inputs: Vec<(&'static str, Tensor)>,
    constants: Vec<TensorProto>,
    dtype: DataType,
    domain: Option<&'static str>,
    is_rough: bool,
    /// Why tract cannot run the forward model.
    not_in_tract: Option<&'static str>,
}

impl Case {
    /// A case for the operator of this node.
    pub(super) fn new(node: NodeProto) -> Self {
        Self {
            caption: "",
            opset: 17,
            nodes: vec![node],
            inputs: Vec::new(),
            constants: Vec::new(),
            dtype: DataType::Float,
            domain: None,
            is_rough: false,
            not_in_tract: None,
        }
    }

    /// `y = op(x)`, x of shape [2, 5].
    pub(super) fn unary(op: &str) -> Self {
        Self::new(NodeProto::new(op, &["x"], &["y"])).input("x", &[2, 5])
    }

    /// `y = op(a, b)`, b broadcast along one axis and missing another.
    pub(super) fn binary(op: &str) -> Self {
        let node = NodeProto::new(op, &["a", "b"], &["y"]);
        Self::new(node).input("a", &[2, 3, 4]).input("b", &[3, 1])
    }

    pub(super) fn caption(mut self, caption: &'static str) -> Self {
        self.caption = caption;
        self
    }

    pub(super) fn opset(mut self, opset: i64) -> Self {
        self.opset = opset;
        self
    }

    /// The forward model in this type instead of f32; gradients stay f32.
    pub(super) fn dtype(mut self, dtype: DataType) -> Self {
        self.dtype = dtype;
        self.rough()
    }

    /// The forward model computes in half precision: 3 digits. Its differences need wide steps, and
    /// tell less.
    pub(super) fn rough(mut self) -> Self {
        self.is_rough = true;
        self
    }

    /// Checked in ONNX Runtime alone, because tract 0.23.9 does not run the forward model right.
    pub(super) fn not_in_tract(mut self, reason: &'static str) -> Self {
        self.not_in_tract = Some(reason);
        self
    }

    /// Imports version 1 of another domain, for operators of ONNX Runtime's own.
    pub(super) fn domain(mut self, domain: &'static str) -> Self {
        self.domain = Some(domain);
        self
    }

    /// Adds a node behind those that are there.
    pub(super) fn then(mut self, node: NodeProto) -> Self {
        self.nodes.push(node);
        self
    }

    /// An input whose gradient is checked, with values between -3 and 3.
    pub(super) fn input(self, name: &'static str, shape: &[usize]) -> Self {
        self.within(name, shape, -2.9, 3.1)
    }

    /// An input whose gradient is checked, with values in a range.
    pub(super) fn within(
        mut self,
        name: &'static str,
        shape: &[usize],
        low: f32,
        high: f32,
    ) -> Self {
        let salt = self.inputs.len();
        self.inputs.push((name, spread(shape, low, high, salt)));
        self
    }

    /// Weights whose gradient is not checked.
    pub(super) fn weight(mut self, name: &str, shape: &[usize]) -> Self {
        let tensor = spread(shape, -1.1, 0.9, 7);
        self.constants.push(tensor.to_proto(name));
        self
    }

    /// Positive weights whose gradient is not checked.
    pub(super) fn positive(mut self, name: &str, shape: &[usize]) -> Self {
        let tensor = spread(shape, 0.3, 1.7, 5);
        self.constants.push(tensor.to_proto(name));
        self
    }

    /// A constant.
    pub(super) fn constant(mut self, name: &str, tensor: Tensor) -> Self {
        self.constants.push(tensor.to_proto(name));
        self
    }

    /// A list of whole numbers.
    pub(super) fn ints(self, name: &str, values: &[i64]) -> Self {
        let tensor = Tensor::i64([values.len()], values.to_vec()).unwrap();
        self.constant(name, tensor)
    }

    /// A scalar.
    pub(super) fn scalar(self, name: &str, value: f32) -> Self {
        self.constant(name, Tensor::f32([], vec![value]).unwrap())
    }

    /// The operator this is a case for.
    pub(super) fn op(&self) -> &str {
        self.nodes[0].op()
    }

    fn step(&self) -> f64 {
        if self.is_rough { 0.25 } else { STEP }
    }

    fn tolerance(&self) -> f64 {
        if self.is_rough { 0.02 } else { TOLERANCE }
    }

    fn title(&self, engine: &dyn Engine, input: &str) -> String {
        let (op, opset, caption) = (self.op(), self.opset, self.caption);
        format!(
            "{op} {caption} (opset {opset}), d{input}, {}",
            engine.info().name
        )
    }

    /// The model: the nodes, then `scores = Flatten(y)`; `[N, K]`.
    fn model(&self) -> ModelProto {
        let mut proto = GraphProto::new("case");
        for (name, tensor) in &self.inputs {
            let mut dims: Vec<Dim> = tensor.shape().iter().map(|&size| size.into()).collect();
            if BATCHED.contains(name) {
                dims[0] = Dim::Symbol("batch".to_owned());
            }
            proto
                .input
                .push(ValueInfoProto::tensor(name, self.dtype, &dims));
        }
        proto.initializer.clone_from(&self.constants);
        for tensor in &mut proto.initializer {
            if tensor.data_type() == i32::from(DataType::Float) {
                let values = Tensor::from_proto(tensor).unwrap();
                *tensor = values.cast(self.dtype).unwrap().to_proto(tensor.name());
            }
        }
        proto.node.clone_from(&self.nodes);
        let flatten = NodeProto::new("Flatten", &["y"], &["scores"]);
        proto.node.push(flatten.with_int("axis", 1));
        let dims = [Dim::Unknown, Dim::Unknown];
        proto.output = vec![ValueInfoProto::tensor("scores", self.dtype, &dims)];
        let mut model = ModelProto::new(proto, self.opset);
        model
            .opset_import
            .extend(self.domain.map(|domain| OperatorSetIdProto {
                domain: Some(domain.to_owned()),
                version: Some(1),
            }));
        model
    }

    /// The inputs, with `step` times their direction added to one of them.
    fn inputs(&self, moved: usize, step: f64) -> Vec<(&str, Tensor)> {
        let inputs = self.inputs.iter().enumerate();
        inputs
            .map(|(index, (name, tensor))| {
                let mut values = tensor.to_f32().into_owned();
                if index == moved {
                    let direction = direction(values.len());
                    for (value, direction) in values.iter_mut().zip(direction) {
                        *value += (step * direction) as f32;
                    }
                }
                let tensor = Tensor::f32(tensor.shape(), values).unwrap();
                (*name, tensor.cast(self.dtype).unwrap())
            })
            .collect()
    }
}

/// Checks each case in both engines and reports all that fail.
pub(super) fn check(cases: &[Case]) {
    let mut failures = Vec::new();
    for case in cases {
        for engine in engines() {
            let name = engine.info().name;
            match case.not_in_tract {
                Some(reason) if name == "tract" => {
                    println!("{} {}: not in {name}: {reason}", case.op(), case.caption)
                }
                _ => failures.extend(check_case(case, engine.as_ref())),
            }
        }
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

/// One line for each thing that is wrong.
fn check_case(case: &Case, engine: &dyn Engine) -> Vec<String> {
    let model = case.model();
    let cotangents = match cotangents(case, &model, engine) {
        Ok(cotangents) => cotangents,
        Err(error) => return vec![format!("{}: {error}", case.title(engine, "*"))],
    };
    let mut failures = Vec::new();
    for (moved, (name, input)) in case.inputs.iter().enumerate() {
        let title = case.title(engine, name);
        let mut shape = vec![ROWS];
        shape.extend(input.shape());
        let Some((found, values)) = cotangents.get(*name) else {
            failures.push(format!("{title}: no cotangent"));
            continue;
        };
        if *found != shape {
            failures.push(format!("{title}: shape {found:?}, expected {shape:?}"));
            continue;
        }
        let expected = match numeric(case, &model, engine, moved) {
            Ok(expected) => expected,
            Err(error) => return vec![format!("{title}: forward: {error}")],
        };
        for (row, (expected, size)) in expected.into_iter().enumerate() {
            let part = &values[row * input.data().len()..][..input.data().len()];
            let products = part.iter().zip(direction(part.len()));
            let found: f64 = products.map(|(&value, v)| f64::from(value) * v).sum();
            let difference = (found - expected).abs();
            let is_close = difference <= case.tolerance() * size.max(1.0);
            if !is_close {
                failures.push(format!(
                    "{title}, row {row}: {found} by the rule, {expected} by differences"
                ));
            }
        }
    }
    failures
}

/// Shape and values of a cotangent, by the name of the input.
type Cotangents = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// Jᵀu for each input: the sum over its uses.
fn cotangents(
    case: &Case,
    model: &ModelProto,
    engine: &dyn Engine,
) -> Result<Cotangents, Box<dyn std::error::Error>> {
    let graph = Graph::new(model)?;
    let inputs = case.inputs(0, 0.0);
    let shapes = probe(&graph, engine, &inputs)?;
    let ids = graph.inputs();
    let wrt: Vec<Use> = ids.iter().flat_map(|&id| graph.uses(id)).copied().collect();
    let scores = graph.value("scores").ok_or("no scores")?;
    let request = Request {
        of: scores,
        wrt: &wrt,
        stop: &[],
    };
    let gradient = gradient_model(&graph, &shapes, request, &ids, &[])?;
    let classes = shapes.size(scores, 1).ok_or("no class axis")?;
    let outputs = run(&gradient, engine, &inputs, &seed(classes))?;
    let mut sums = Cotangents::new();
    for (at, output) in wrt.iter().zip(outputs) {
        let name = graph.input(at.node, at.input).map(|id| graph.name(id));
        let values = output.to_f32().into_owned();
        let sum = sums
            .entry(name.unwrap_or_default().to_owned())
            .or_insert_with(|| (output.shape().to_vec(), vec![0.0; values.len()]));
        for (sum, value) in sum.1.iter_mut().zip(values) {
            *sum += value;
        }
    }
    Ok(sums)
}

/// Runs a gradient model on those of `inputs` that it still needs.
pub(super) fn run(
    gradient: &GradientModel,
    engine: &dyn Engine,
    inputs: &[(&str, Tensor)],
    seed: &Tensor,
) -> crate::Result<Vec<Tensor>> {
    let mut session = engine.load(&gradient.model)?;
    let needed: Vec<String> = session
        .inputs()
        .iter()
        .map(|port| port.name.clone())
        .collect();
    let mut given: Vec<(&str, &Tensor)> = inputs
        .iter()
        .filter(|(name, _)| needed.iter().any(|needed| needed == name))
        .map(|(name, tensor)| (*name, tensor))
        .collect();
    given.push((&gradient.seed, seed));
    session.run(&given)
}

/// ⟨u, Jv⟩ by differences for each row u, with the sum of the sizes of its terms.
fn numeric(
    case: &Case,
    model: &ModelProto,
    engine: &dyn Engine,
    moved: usize,
) -> crate::Result<Vec<(f64, f64)>> {
    let mut session = engine.load(model)?;
    let mut scores = |step: f64| -> crate::Result<Tensor> {
        let inputs = case.inputs(moved, step);
        let inputs: Vec<(&str, &Tensor)> = inputs.iter().map(|(name, x)| (*name, x)).collect();
        Ok(session.run(&inputs)?.swap_remove(0))
    };
    let step = case.step();
    let weights = [(1.0, 8.0), (-1.0, -8.0), (2.0, -1.0), (-2.0, 1.0)];
    let mut slopes: Vec<f64> = Vec::new();
    let mut classes = 0;
    for (steps, weight) in weights {
        let scores = scores(steps * step)?;
        classes = scores.shape()[1];
        slopes.resize(scores.data().len(), 0.0);
        for (slope, &score) in slopes.iter_mut().zip(scores.to_f32().iter()) {
            *slope += weight * f64::from(score) / (12.0 * step);
        }
    }
    let seed = seed(classes);
    let rows = seed.to_f32();
    let product = |row: &[f32]| {
        let terms = slopes.iter().enumerate();
        let terms = terms.map(|(at, slope)| slope * f64::from(row[at % classes]));
        terms.fold((0.0, 0.0), |(sum, size), term| {
            (sum + term, size + term.abs())
        })
    };
    Ok(rows.chunks(classes).map(product).collect())
}

/// What all float values of a graph are, from a run.
///
/// Values whose name starts with `half` are f16; those of `whole` numbers are left out.
pub(super) fn probe(
    graph: &Graph<'_>,
    engine: &dyn Engine,
    inputs: &[(&str, Tensor)],
) -> crate::Result<Shapes> {
    let mut shapes = Shapes::declared(graph);
    let made = graph
        .values()
        .filter(|&id| graph.producer(id).is_some() && !graph.name(id).starts_with("whole"));
    let made: Vec<ValueId> = made.collect();
    let mut model = graph::with_outputs(graph, &shapes, &made);
    for output in model.graph.iter_mut().flat_map(|graph| &mut graph.output) {
        let dtype = match inputs.first() {
            _ if output.name().starts_with("half") => DataType::Float16,
            Some((_, input)) => input.dtype(),
            None => DataType::Float,
        };
        *output = untyped(output.name(), dtype);
    }
    let mut session = engine.load(&model)?;
    let inputs: Vec<(&str, &Tensor)> = inputs.iter().map(|(name, x)| (*name, x)).collect();
    for (&id, value) in made.iter().zip(session.run(&inputs)?) {
        let dims = value.shape().iter().map(|&size| size.into()).collect();
        let dtype = value.dtype();
        shapes.learn(id, TensorType { dtype, dims });
    }
    Ok(shapes)
}

/// An output whose number of axes is not declared.
fn untyped(name: &str, dtype: DataType) -> ValueInfoProto {
    let mut info = ValueInfoProto::tensor(name, dtype, &[]);
    if let Some(Value::TensorType(tensor)) = info.r#type.as_mut().and_then(|t| t.value.as_mut()) {
        tensor.shape = None;
    }
    info
}

/// The rows u.
fn seed(classes: usize) -> Tensor {
    spread(&[ROWS, 1, classes], -1.0, 1.2, 3)
}

/// The direction v: no two neighbours alike, sizes up to 1.
fn direction(len: usize) -> impl Iterator<Item = f64> {
    const STEPS: [f64; 7] = [1.0, -0.5, 0.75, -1.0, 0.25, 0.5, -0.75];
    (0..len).map(|index| STEPS[index % STEPS.len()])
}

/// Evenly spaced values in mixed order, none near zero: no two of a window are equal or become so
/// by a step of the differences.
pub(super) fn spread(shape: &[usize], low: f32, high: f32, salt: usize) -> Tensor {
    let len: usize = shape.iter().product();
    let jump = (len / 2 + 1 + 2 * salt..).find(|&jump| gcd(jump, len) == 1);
    let jump = jump.unwrap_or(1);
    let value = |index: usize| {
        let place = (index * jump + salt) % len;
        let value = low + (high - low) * (place as f32 + 0.5) / len as f32;
        if value.abs() < CLEARANCE {
            CLEARANCE.copysign(value)
        } else {
            value
        }
    };
    Tensor::f32(shape, (0..len).map(value).collect()).unwrap()
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}
