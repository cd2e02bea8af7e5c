//! Small networks built step by step, and the comparison of two of them in one engine.

use onnx_prune::{
    engine::Engine,
    onnx::{DataType, Dim, GraphProto, ModelProto, NodeProto, Tensor, ValueInfoProto},
};

const BATCH: usize = 3;

/// A model under construction: every step makes one value.
pub(crate) struct Builder {
    pub(crate) graph: GraphProto,
    values: usize,
}

impl Builder {
    pub(crate) fn new(input: &[usize]) -> Self {
        let mut graph = GraphProto::new("built");
        let mut dims = vec![Dim::Symbol("n".to_owned())];
        dims.extend(input.iter().map(|&size| Dim::Fixed(size)));
        graph.input = vec![ValueInfoProto::tensor("x", DataType::Float, &dims)];
        Self { graph, values: 0 }
    }

    pub(crate) fn fresh(&mut self, what: &str) -> String {
        self.values += 1;
        format!("{what}_{}", self.values)
    }

    /// A weight with values that differ everywhere and stay below 1.
    pub(crate) fn weight(&mut self, shape: &[usize]) -> String {
        let name = self.fresh("w");
        let count: usize = shape.iter().product();
        let offset = self.values as f32;
        let values = (0..count).map(|index| (index as f32 * 1.37 + offset).sin() * 0.8);
        let tensor = Tensor::f32(shape, values.collect()).unwrap();
        self.graph.initializer.push(tensor.to_proto(name.as_str()));
        name
    }

    pub(crate) fn ints(&mut self, values: &[i64]) -> String {
        let name = self.fresh("i");
        let tensor = Tensor::i64([values.len()], values.to_vec()).unwrap();
        self.graph.initializer.push(tensor.to_proto(name.as_str()));
        name
    }

    pub(crate) fn node(&mut self, op: &str, inputs: &[&str]) -> String {
        self.node_with(op, inputs, |node| node)
    }

    pub(crate) fn node_with(
        &mut self,
        op: &str,
        inputs: &[&str],
        with: impl FnOnce(NodeProto) -> NodeProto,
    ) -> String {
        let name = self.fresh(op);
        let node = NodeProto::new(op, inputs, &[&name]).with_name(&name);
        self.graph.node.push(with(node));
        name
    }

    pub(crate) fn dense(&mut self, x: &str, from: usize, to: usize) -> String {
        let (w, b) = (self.weight(&[to, from]), self.weight(&[to]));
        self.node_with("Gemm", &[x, &w, &b], |node| node.with_int("transB", 1))
    }

    pub(crate) fn conv(&mut self, x: &str, from: usize, to: usize, kernel: usize) -> String {
        let (w, b) = (self.weight(&[to, from, kernel, kernel]), self.weight(&[to]));
        self.node("Conv", &[x, &w, &b])
    }

    pub(crate) fn finish(mut self, output: &str, classes: usize) -> ModelProto {
        let last = self.graph.node.iter_mut().flat_map(|node| &mut node.output);
        last.filter(|name| *name == output)
            .for_each(|name| *name = "y".to_owned());
        let dims = [Dim::Symbol("n".to_owned()), Dim::Fixed(classes)];
        self.graph.output = vec![ValueInfoProto::tensor("y", DataType::Float, &dims)];
        ModelProto::new(self.graph, 18)
    }
}

pub(crate) fn input(shape: &[usize]) -> Tensor {
    let mut full = vec![BATCH];
    full.extend(shape);
    let count: usize = full.iter().product();
    let values = (0..count).map(|index| (index as f32 * 0.77).cos());
    Tensor::f32(full, values.collect()).unwrap()
}

pub(crate) fn compare(
    engine: &dyn Engine,
    masked: &ModelProto,
    pruned: &ModelProto,
    x: &Tensor,
    tolerance: f32,
) -> Result<(), String> {
    let name = engine.info().name;
    let run = |model: &ModelProto| {
        let outputs = engine
            .load(model)
            .and_then(|mut session| session.run(&[("x", x)]));
        outputs.map_err(|error| {
            format!(
                "{error}\n{}",
                onnx_prune::onnx::text::print(model.graph.as_ref().unwrap())
            )
        })
    };
    let (a, b) = (run(masked)?, run(pruned)?);
    let (a, b) = (a[0].to_f32(), b[0].to_f32());
    let largest = a.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
    let apart = a.iter().zip(b.iter()).map(|(a, b)| (a - b).abs());
    let worst = apart.fold(0.0_f32, |most, value| {
        if value.is_nan() {
            f32::NAN
        } else {
            most.max(value)
        }
    });
    if worst.is_nan() || worst > tolerance * largest.max(1.0) {
        return Err(format!("{name}: {worst} apart, largest value {largest}"));
    }
    Ok(())
}
