//! Shapes and element types that the file does not declare, seen in a run.

use std::collections::BTreeSet;

use super::ModelInput;
use crate::{
    engine::Engine,
    error::{Error, Result},
    graph::{self, Graph, Shapes, TensorType, ValueId},
    onnx::{Dim, ModelProto, Tensor, TensorData},
};

/// How many of the last nodes have their values looked at. The longest head of the files this was
/// tried on, an attention pool with everything decomposed, has about 50.
///
/// Nodes are counted in the order of the graph: by distance from the outputs, the residual
/// connections of a Swin transformer bring its whole trunk near, which took 3.7 GB.
const NODES: usize = 128;

/// The two batch sizes of a probe: what differs between the runs is the batch. Not 1, which a
/// Squeeze without axes would take away.
const BATCHES: [usize; 2] = [2, 3];

/// Completes `shapes` with what a run shows of the values near the outputs.
///
/// `input` is any batch of samples; its rows are repeated as needed. Sizes that change with the
/// batch become [`Dim::Unknown`], all others are fixed. A model of fixed batch size is run once.
///
/// # Errors
/// [`Error::Engine`] when the engine cannot run the model; [`Error::Argument`] when `input` is
/// empty.
pub fn probe(
    engine: &dyn Engine,
    graph: &Graph<'_>,
    shapes: &Shapes,
    input: &Tensor,
) -> Result<Shapes> {
    let model_input = ModelInput::of(graph)?;
    let batches = match model_input.fixed_batch() {
        Some(size) => vec![size],
        None => BATCHES.to_vec(),
    };
    let inputs = batches.iter().map(|&rows| resized(input, rows));
    let inputs: Vec<Tensor> = inputs.collect::<Result<_>>()?;
    let mut nodes = NODES;
    loop {
        let values = near_outputs(graph, nodes).into_iter();
        let values: Vec<ValueId> = values.filter(|&id| graph.is_tensor(id)).collect();
        let model = graph::with_outputs(graph, shapes, &values);
        match run(engine, &model, &model_input.name, &inputs) {
            Ok(runs) => return Ok(learn(shapes, &values, &runs)),
            // A value that is no tensor cannot be an output here; the outputs themselves are.
            Err(error) if nodes == 0 => return Err(error),
            Err(_) => nodes /= 4,
        }
    }
}

/// The outputs, and the values of the last `count` nodes that they depend on, constants left out.
fn near_outputs(graph: &Graph<'_>, count: usize) -> Vec<ValueId> {
    let mut needed: BTreeSet<ValueId> = graph.outputs().into_iter().collect();
    let mut near = needed.clone();
    let mut left = count;
    for &node in graph.order().iter().rev() {
        let outputs = (0..graph.node(node).output.len()).filter_map(|at| graph.output(node, at));
        let outputs: Vec<ValueId> = outputs
            .filter(|id| needed.contains(id) && graph.constant(*id).is_none())
            .collect();
        if left == 0 || outputs.is_empty() {
            continue;
        }
        near.extend(outputs);
        left -= 1;
        let inputs = (0..graph.node(node).input.len()).filter_map(|at| graph.input(node, at));
        let inputs: Vec<ValueId> = inputs.collect();
        // What the last of them read is known too: it is where a head may begin.
        let made = |id: &&ValueId| graph.producer(**id).is_some() && graph.constant(**id).is_none();
        near.extend(inputs.iter().filter(made));
        needed.extend(inputs);
    }
    near.into_iter().collect()
}

fn run(
    engine: &dyn Engine,
    model: &ModelProto,
    name: &str,
    inputs: &[Tensor],
) -> Result<Vec<Vec<Tensor>>> {
    let mut session = engine.load(model)?;
    inputs
        .iter()
        .map(|input| session.run(&[(name, input)]))
        .collect()
}

fn learn(shapes: &Shapes, values: &[ValueId], runs: &[Vec<Tensor>]) -> Shapes {
    let mut shapes = shapes.clone();
    let Some((first, others)) = runs.split_first() else {
        return shapes;
    };
    for (index, (&id, tensor)) in values.iter().zip(first).enumerate() {
        let same_rank = |run: &Vec<Tensor>| run[index].shape().len() == tensor.shape().len();
        if !others.iter().all(same_rank) {
            continue;
        }
        let sizes = tensor.shape().iter().enumerate();
        let dims = sizes.map(|(axis, &size)| {
            let fixed = others.iter().all(|run| run[index].shape()[axis] == size);
            if fixed {
                Dim::Fixed(size)
            } else {
                Dim::Unknown
            }
        });
        let found = TensorType {
            dtype: tensor.dtype(),
            dims: dims.collect(),
        };
        shapes.learn(id, found);
    }
    shapes
}

/// The first `rows` samples, repeated from the start where there are fewer.
fn resized(input: &Tensor, rows: usize) -> Result<Tensor> {
    let invalid = || Error::Argument {
        name: "--data",
        what: "a probe needs at least one sample".to_owned(),
    };
    let (&count, sample) = input.shape().split_first().ok_or_else(invalid)?;
    if count == 0 {
        return Err(invalid());
    }
    let size: usize = sample.iter().product();
    let values = input.to_f32();
    let values = (0..rows).flat_map(|row| {
        let start = row % count * size;
        values[start..start + size].iter().copied()
    });
    let mut shape = vec![rows];
    shape.extend(sample);
    Tensor::new(shape, TensorData::F32(values.collect()))?.cast(input.dtype())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{
        engine::testing::engines,
        features::testing::{Dense, Numbers},
        head,
        onnx::{DataType, Model, NodeProto, ValueInfoProto},
    };

    fn dims(shapes: &Shapes, graph: &Graph<'_>, name: &str) -> Vec<Dim> {
        let id = graph.value(name).unwrap();
        shapes.dims(id).unwrap().to_vec()
    }

    #[test]
    fn a_probe_tells_the_batch_from_fixed_sizes_and_integers_from_floats() {
        let mut model = Dense::random(&[4, 3, 2], "", 1).model();
        let proto = model.graph.as_mut().unwrap();
        let shape = NodeProto::new("Shape", &["y0"], &["shape"]);
        let reshape = NodeProto::new("Reshape", &["y0_Relu", "shape"], &["again"]);
        proto.node[2].input[0] = "again".to_owned();
        proto.node.extend([shape, reshape]);
        // An output whose note is wrong, as after a careless edit.
        let wrong = [Dim::Fixed(9), Dim::Fixed(9)];
        let note = ValueInfoProto::tensor("y0", DataType::Float, &wrong);
        proto.value_info.push(note);
        let graph = Graph::new(&model).unwrap();
        let declared = Shapes::declared(&graph);
        let input = Tensor::f32([1, 4], vec![0.5; 4]).unwrap();
        for engine in engines() {
            let shapes = probe(&*engine, &graph, &declared, &input).unwrap();
            let free = [Dim::Unknown, Dim::Fixed(3)];
            assert_eq!(dims(&shapes, &graph, "y0"), free, "{}", engine.info());
            assert_eq!(dims(&shapes, &graph, "again"), free);
            assert_eq!(dims(&shapes, &graph, "shape"), [Dim::Fixed(2)]);
            let dtype = shapes.dtype(graph.value("shape").unwrap());
            assert_eq!(dtype, Some(DataType::Int64));
        }
    }

    #[test]
    fn a_fixed_batch_stays_fixed() {
        let mut net = Dense::random(&[4, 3, 2], "", 1);
        net.batch = Some(5);
        let model = net.model();
        let graph = Graph::new(&model).unwrap();
        let declared = Shapes::declared(&graph);
        let input = Tensor::f32([2, 4], vec![0.5; 8]).unwrap();
        for engine in engines() {
            let shapes = probe(&*engine, &graph, &declared, &input).unwrap();
            let fixed = [Dim::Fixed(5), Dim::Fixed(3)];
            assert_eq!(dims(&shapes, &graph, "y0"), fixed);
        }
    }

    #[test]
    fn heads_of_trained_models_have_no_unknown_values() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
        let input = Tensor::f32([2, 1, 28, 28], Numbers(1).take(2 * 784)).unwrap();
        for name in ["vgg", "resnet", "densenet"] {
            let path = folder.join(name).with_extension("onnx");
            let model = Model::load(&path, &crate::onnx::Limits::default()).unwrap();
            let graph = Graph::new(&model.proto).unwrap();
            for engine in engines() {
                let declared = Shapes::declared(&graph);
                let shapes = probe(&*engine, &graph, &declared, &input).unwrap();
                let head = head::find(&graph, &shapes).unwrap();
                for &node in &head.nodes {
                    let output = graph.output(node, 0).unwrap();
                    let known = shapes.dims(output).unwrap();
                    let fixed = known.iter().skip(1).all(|dim| dim.fixed().is_some());
                    assert!(fixed, "{name}: {} {known:?}", graph.name(output));
                }
            }
        }
    }
}
