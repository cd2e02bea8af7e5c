//! A model in ONNX Runtime.

use std::env;

use ::ort::logging::LogLevel;
use ::ort::session::builder::SessionBuilder;
use ::ort::session::{RunOptions, Session as OrtSession, SessionInputValue};
use ::ort::value::{Outlet, ValueType};
use prost::Message;
use tempfile::TempDir;

use super::{NAME, failed, values};
use crate::engine::inputs::{arrange, input_ports, output_ports};
use crate::engine::{Port, Session};
use crate::error::{Error, Result};
use crate::onnx::{
    DataType, Dim, GraphProto, ModelProto, NodeProto, Output, Overwrite, Storage, Tensor,
    ValueInfoProto,
};

/// Operator set of the graph that tries a provider out: one that every library we accept knows.
const OPSET: i64 = 13;

/// Largest message ONNX Runtime's protobuf reader takes.
const MESSAGE_LIMIT: usize = i32::MAX as usize;

pub(super) fn load(builder: SessionBuilder, model: &ModelProto) -> Result<Box<dyn Session>> {
    load_within(MESSAGE_LIMIT, builder, model)
}

/// A session, and the files it maps.
pub(super) struct Loaded {
    pub(super) session: OrtSession,
    /// How it is run.
    pub(super) quiet: RunOptions,
    /// ONNX Runtime maps the weights of a large model from here, so it outlives the session.
    _files: Option<Files>,
}

/// Loads a model as it is.
pub(super) fn open(builder: SessionBuilder, model: &ModelProto) -> Result<Loaded> {
    open_within(MESSAGE_LIMIT, builder, model)
}

/// A session may be told to talk while it is made (see `placement`); a run has nothing to say, and
/// a line for every node would cost time.
fn quiet() -> ::ort::Result<RunOptions> {
    let mut options = RunOptions::new()?;
    options.set_log_level(LogLevel::Fatal)?;
    Ok(options)
}

fn open_within(limit: usize, mut builder: SessionBuilder, model: &ModelProto) -> Result<Loaded> {
    let (session, files) = if model.encoded_len() > limit {
        let files = Files::write(model)?;
        (
            builder.commit_from_file(files.output.path_for_reading()),
            Some(files),
        )
    } else {
        (builder.commit_from_memory(&model.encode_to_vec()), None)
    };
    let said = |error: ::ort::Error| failed(error.to_string());
    Ok(Loaded {
        session: session.map_err(said)?,
        quiet: quiet().map_err(said)?,
        _files: files,
    })
}

fn load_within(
    limit: usize,
    builder: SessionBuilder,
    model: &ModelProto,
) -> Result<Box<dyn Session>> {
    let loaded = open_within(limit, builder, model)?;
    let outputs = output_ports(model).into_iter();
    let outputs = outputs.zip(loaded.session.outputs());
    let outputs = outputs.filter(|(_, outlet)| is_tensor(outlet.dtype()));
    let outputs = outputs.map(|(mut port, outlet)| {
        complete(&mut port, outlet);
        port
    });
    Ok(Box::new(OrtModel {
        outputs: outputs.collect(),
        inputs: input_ports(model),
        loaded,
    }))
}

/// A model with its weights beside it, in a folder that goes when this does.
struct Files {
    output: Output,
    _folder: TempDir,
}

impl Files {
    fn write(model: &ModelProto) -> Result<Self> {
        let folder = tempfile::tempdir().map_err(Error::io(env::temp_dir()))?;
        let path = folder.path().join("model.onnx");
        let mut output = Output::create(&path, None, Overwrite::Refuse)?;
        output.write(model, Storage::External)?;
        Ok(Self {
            output,
            _folder: folder,
        })
    }
}

/// ONNX Runtime infers the types of outputs for which the model gives none.
fn complete(port: &mut Port, outlet: &Outlet) {
    if let (DataType::Undefined, ValueType::Tensor { ty, .. }) = (port.dtype, outlet.dtype()) {
        port.dtype = values::data_type(*ty);
    }
}

/// scikit-learn's converter ends in a sequence of maps, for one.
fn is_tensor(kind: &ValueType) -> bool {
    matches!(kind, ValueType::Tensor { .. })
}

struct OrtModel {
    loaded: Loaded,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
}

impl Session for OrtModel {
    fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    fn run(&mut self, inputs: &[(&str, &Tensor)]) -> Result<Vec<Tensor>> {
        let tensors = arrange(NAME, &self.inputs, inputs)?;
        self.run_arranged(&tensors)
            .map_err(|error| failed(error.to_string()))
    }
}

impl OrtModel {
    fn run_arranged(&mut self, tensors: &[&Tensor]) -> ::ort::Result<Vec<Tensor>> {
        let named = self.inputs.iter().zip(tensors);
        let named: Vec<(&str, SessionInputValue<'_>)> = named
            .map(|(port, tensor)| Ok((port.name.as_str(), values::to_ort(tensor)?)))
            .collect::<::ort::Result<_>>()?;
        let Loaded { session, quiet, .. } = &mut self.loaded;
        let outputs = session.run_with_options(named, &*quiet)?;
        let outputs = outputs.values().filter(|value| is_tensor(value.dtype()));
        outputs.map(|value| values::from_ort(&value)).collect()
    }
}

/// `y = x * x` on one number, to see whether a provider runs at all.
pub(super) fn tiny_model() -> ModelProto {
    let mut graph = GraphProto::new("square");
    graph.input = vec![ValueInfoProto::tensor(
        "x",
        DataType::Float,
        &[Dim::Fixed(1)],
    )];
    graph.output = vec![ValueInfoProto::tensor(
        "y",
        DataType::Float,
        &[Dim::Fixed(1)],
    )];
    graph.node = vec![NodeProto::new("Mul", &["x", "x"], &["y"])];
    ModelProto::new(graph, OPSET)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::ort::environment;
    use crate::engine::testing::ort_library;
    use crate::onnx::TensorData;

    #[test]
    fn too_little_memory_is_an_error_of_its_own() {
        let mut model = tiny_model();
        let graph = model.graph.as_mut().unwrap();
        // More than an address can say.
        let shape = Tensor::new([1], TensorData::I64(vec![1 << 50])).unwrap();
        graph.initializer = vec![shape.to_proto("shape")];
        graph.node = vec![NodeProto::new("Expand", &["x", "shape"], &["y"])];
        let dims = [Dim::Symbol("many".to_owned())];
        graph.output = vec![ValueInfoProto::tensor("y", DataType::Float, &dims)];
        let loaded = environment::load(&ort_library()).unwrap();
        let builder = OrtSession::builder(&loaded.environment).unwrap();
        let mut session = load(builder, &model).unwrap();
        let x = Tensor::f32([1], vec![1.0]).unwrap();
        let error = session.run(&[("x", &x)]).unwrap_err();
        assert!(matches!(error, Error::OutOfMemory { .. }), "{error:?}");
        assert!(error.hint().unwrap().contains("a smaller --batch"));
    }

    #[test]
    fn model_over_the_message_limit_goes_through_files() {
        let mut model = tiny_model();
        let graph = model.graph.as_mut().unwrap();
        // Large enough not to be kept inside by a writer that spares small weights.
        let weights = Tensor::f32([1 << 16], vec![3.0; 1 << 16]).unwrap();
        graph.initializer = vec![weights.to_proto("w")];
        graph.node = vec![NodeProto::new("Mul", &["x", "w"], &["y"])];
        graph.output = vec![ValueInfoProto::tensor(
            "y",
            DataType::Float,
            &[Dim::Fixed(1 << 16)],
        )];
        let loaded = environment::load(&ort_library()).unwrap();
        let builder = OrtSession::builder(&loaded.environment).unwrap();
        let mut session = load_within(0, builder, &model).unwrap();
        let x = Tensor::f32([1], vec![2.0]).unwrap();
        let y = session.run(&[("x", &x)]).unwrap();
        assert_eq!(*y[0].to_f32(), vec![6.0; 1 << 16]);
    }
}
