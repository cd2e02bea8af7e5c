//! Runs a model of 16-bit floats in f32, for an engine that cannot run it as it is.
//!
//! Every weight, constant, cast and declared type of the narrow types becomes f32; tensors are
//! converted at the border. The weights are exactly those of the model; what differs is that
//! intermediate values are not rounded to 16 bits. The session says so in its note.

use super::inputs::{arrange, input_ports, output_ports};
use super::{Port, Session};
use crate::error::Result;
use crate::onnx::proto::{TypeProto, type_proto};
use crate::onnx::{
    AttributeProto, DataType, GraphProto, ModelProto, NodeProto, Tensor, TensorProto,
    ValueInfoProto,
};

/// Integer attributes that name an element type, over all operators.
const TYPE_ATTRIBUTES: [&str; 5] = [
    "to",
    "dtype",
    "output_dtype",
    "stash_type",
    "softmax_precision",
];

/// Loads the model in f32, or gives nothing when it holds none of the `narrow` types.
///
/// # Errors
/// Those of `load`, and of weights that cannot be decoded.
pub(super) fn load(
    engine: &'static str,
    model: &ModelProto,
    narrow: &[DataType],
    load: impl FnOnce(&ModelProto) -> Result<Box<dyn Session>>,
) -> Result<Option<Box<dyn Session>>> {
    let Some((wide, dtype)) = rewritten(model, narrow)? else {
        return Ok(None);
    };
    let inner = load(&wide)?;
    Ok(Some(Box::new(Widened {
        engine,
        note: format!("{engine} runs this {dtype} model in f32"),
        narrow: narrow.to_vec(),
        inputs: input_ports(model),
        outputs: output_ports(model),
        inner,
    })))
}

/// The model with everything of the `narrow` types in f32, its inputs and outputs too; nothing where
/// it holds none of them.
///
/// # Errors
/// Those of weights that cannot be decoded.
pub fn widened(model: &ModelProto, narrow: &[DataType]) -> Result<Option<ModelProto>> {
    Ok(rewritten(model, narrow)?.map(|(wide, _)| wide))
}

/// The model in f32, and the first narrow type that was met.
fn rewritten(model: &ModelProto, narrow: &[DataType]) -> Result<Option<(ModelProto, DataType)>> {
    let mut widening = Widening {
        narrow,
        seen: Vec::new(),
    };
    let mut wide = model.clone();
    widening.model(&mut wide)?;
    let first = widening.seen.first();
    Ok(first.map(|&dtype| (wide, dtype)))
}

struct Widening<'n> {
    narrow: &'n [DataType],
    /// Narrow types that occurred, in order.
    seen: Vec<DataType>,
}

impl Widening<'_> {
    fn model(&mut self, model: &mut ModelProto) -> Result<()> {
        for function in &mut model.functions {
            self.infos(&mut function.value_info);
            self.nodes(&mut function.node)?;
        }
        model
            .graph
            .as_mut()
            .map_or(Ok(()), |graph| self.graph(graph))
    }

    fn graph(&mut self, graph: &mut GraphProto) -> Result<()> {
        for infos in [&mut graph.input, &mut graph.output, &mut graph.value_info] {
            self.infos(infos);
        }
        let sparse = graph.sparse_initializer.iter_mut();
        let sparse = sparse.filter_map(|tensor| tensor.values.as_mut());
        for tensor in graph.initializer.iter_mut().chain(sparse) {
            self.tensor(tensor)?;
        }
        self.nodes(&mut graph.node)
    }

    fn nodes(&mut self, nodes: &mut [NodeProto]) -> Result<()> {
        let mut attributes = nodes.iter_mut().flat_map(|node| &mut node.attribute);
        attributes.try_for_each(|attribute| self.attribute(attribute))
    }

    fn attribute(&mut self, attribute: &mut AttributeProto) -> Result<()> {
        if TYPE_ATTRIBUTES.contains(&attribute.name())
            && let Some(number) = &mut attribute.i
            && let Some(dtype) = i32::try_from(*number)
                .ok()
                .and_then(|number| self.find(number))
        {
            self.seen.push(dtype);
            *number = i64::from(i32::from(DataType::Float));
        }
        for tensor in attribute.t.iter_mut().chain(&mut attribute.tensors) {
            self.tensor(tensor)?;
        }
        for graph in attribute.g.iter_mut().chain(&mut attribute.graphs) {
            self.graph(graph)?;
        }
        Ok(())
    }

    fn tensor(&mut self, tensor: &mut TensorProto) -> Result<()> {
        let Some(dtype) = self.find(tensor.data_type()) else {
            return Ok(());
        };
        self.seen.push(dtype);
        let wide = Tensor::from_proto(tensor)?.cast(DataType::Float)?;
        *tensor = wide.to_proto(tensor.name());
        Ok(())
    }

    fn infos(&mut self, infos: &mut [ValueInfoProto]) {
        let types = infos.iter_mut().filter_map(|info| info.r#type.as_mut());
        types.for_each(|declared| self.declared(declared));
    }

    fn declared(&mut self, declared: &mut TypeProto) {
        let element = match &mut declared.value {
            Some(type_proto::Value::TensorType(tensor)) => &mut tensor.elem_type,
            Some(type_proto::Value::SparseTensorType(tensor)) => &mut tensor.elem_type,
            // Sequences, maps and optionals do not cross a classifier's border.
            _ => return,
        };
        if let Some(dtype) = element.and_then(|number| self.find(number)) {
            self.seen.push(dtype);
            *element = Some(DataType::Float.into());
        }
    }

    fn find(&self, number: i32) -> Option<DataType> {
        let dtype = DataType::try_from(number).ok()?;
        self.narrow.contains(&dtype).then_some(dtype)
    }
}

struct Widened {
    engine: &'static str,
    note: String,
    narrow: Vec<DataType>,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    inner: Box<dyn Session>,
}

impl Session for Widened {
    fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    fn note(&self) -> Option<&str> {
        Some(&self.note)
    }

    fn run(&mut self, inputs: &[(&str, &Tensor)]) -> Result<Vec<Tensor>> {
        let given = arrange(self.engine, &self.inputs, inputs)?;
        let is_narrow = |dtype| self.narrow.contains(&dtype);
        let mut wide = Vec::with_capacity(given.len());
        for tensor in given {
            wide.push(match tensor.dtype() {
                dtype if is_narrow(dtype) => tensor.cast(DataType::Float)?,
                _ => tensor.clone(),
            });
        }
        let names = self.inputs.iter().map(|port| port.name.as_str());
        let named: Vec<(&str, &Tensor)> = names.zip(&wide).collect();
        let results = self.inner.run(&named)?;
        let pairs = self.outputs.iter().zip(results);
        pairs
            .map(|(port, tensor)| match port.dtype {
                dtype if is_narrow(dtype) => tensor.cast(dtype),
                _ => Ok(tensor),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::testing::engines;
    use crate::onnx::Dim;

    /// `y = cast(relu(x @ w + b))` of a narrow type, with a constant in an attribute.
    fn narrow_model(dtype: DataType) -> ModelProto {
        let cast = |shape: &[usize], values: Vec<f32>| {
            Tensor::f32(shape, values).unwrap().cast(dtype).unwrap()
        };
        let dims = [Dim::Symbol("batch".to_owned()), Dim::Fixed(2)];
        let mut graph = GraphProto::new("narrow");
        graph.input = vec![ValueInfoProto::tensor("x", dtype, &dims)];
        graph.output = vec![ValueInfoProto::tensor("y", dtype, &dims)];
        graph.initializer = vec![cast(&[2, 2], vec![1., -2., 3., 4.]).to_proto("w")];
        graph.node = vec![
            NodeProto::new("Constant", &[], &["b"])
                .with_tensor("value", cast(&[2], vec![0.5, 0.25]).to_proto("")),
            NodeProto::new("Gemm", &["x", "w", "b"], &["g"]).with_name("fc"),
            NodeProto::new("Cast", &["g"], &["f"]).with_int("to", 1),
            NodeProto::new("Relu", &["f"], &["r"]),
            NodeProto::new("Cast", &["r"], &["y"]).with_int("to", i64::from(i32::from(dtype))),
        ];
        ModelProto::new(graph, 17)
    }

    #[test]
    fn narrow_models_run_in_both_engines() {
        for dtype in [DataType::Float16, DataType::Bfloat16] {
            let model = narrow_model(dtype);
            let cast = |values| Tensor::f32([1, 2], values).unwrap().cast(dtype).unwrap();
            let x = cast(vec![1., -0.5]);
            for engine in engines() {
                let mut session = engine.load(&model).unwrap();
                assert_eq!(
                    session.inputs()[0].dtype,
                    dtype,
                    "the border stays as declared"
                );
                let y = session.run(&[("x", &x)]).unwrap();
                // 1 - 1.5 + 0.5 = 0; -2 - 2 + 0.25 < 0
                assert_eq!(y, [cast(vec![0., 0.])], "{dtype} {}", engine.info());
                let y = session.run(&[("x", &cast(vec![1., 1.]))]).unwrap();
                assert_eq!(y, [cast(vec![4.5, 2.25])], "{dtype} {}", engine.info());
            }
        }
    }

    #[test]
    fn note_says_what_was_widened() {
        let notes = |dtype| -> Vec<Option<String>> {
            let model = narrow_model(dtype);
            let sessions = engines()
                .into_iter()
                .map(|engine| engine.load(&model).unwrap());
            sessions
                .map(|session| session.note().map(str::to_owned))
                .collect()
        };
        let tract = |dtype| Some(format!("tract runs this {dtype} model in f32"));
        assert_eq!(notes(DataType::Float16), [tract("f16"), None]);
        let ort = Some("onnxruntime runs this bf16 model in f32".to_owned());
        assert_eq!(notes(DataType::Bfloat16), [tract("bf16"), ort]);
        assert_eq!(notes(DataType::Float), [None, None]);
    }
}
