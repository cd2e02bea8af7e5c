//! Element types and sizes of values: as the file declares them, or as a run showed them.

use std::collections::BTreeMap;

use super::{Graph, ValueId};
use crate::onnx::{DataType, Dim, TensorProto, ValueInfoProto};

/// Element type and axes of a value.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorType {
    /// Element type.
    pub dtype: DataType,
    /// One entry per axis.
    pub dims: Vec<Dim>,
}

/// What is known about the values of one graph.
#[derive(Clone, Debug, Default)]
pub struct Shapes {
    types: BTreeMap<ValueId, TensorType>,
}

impl Shapes {
    /// What the file itself declares: inputs, outputs, `value_info`, constants.
    pub fn declared(graph: &Graph<'_>) -> Self {
        let mut shapes = Self::default();
        let proto = graph.proto();
        let infos = proto.value_info.iter().chain(&proto.input);
        for info in infos.chain(&proto.output) {
            if let (Some(id), Some(found)) = (graph.value(info.name()), declared_type(info)) {
                shapes.learn(id, found);
            }
        }
        for id in graph.values() {
            if let Some(found) = graph.constant(id).and_then(constant_type) {
                shapes.learn(id, found);
            }
        }
        shapes
    }

    /// What is known, carried over by name to `to`, an edited form of `from`, but for the values
    /// `changed` by the edit.
    pub fn carried(&self, from: &Graph<'_>, to: &Graph<'_>, changed: &[ValueId]) -> Self {
        let mut shapes = Self::declared(to);
        for (&id, known) in &self.types {
            if let Some(new) = to.value(from.name(id))
                && !changed.contains(&id)
                && to.constant(new).is_none()
            {
                shapes.learn(new, known.clone());
            }
        }
        shapes
    }

    /// Notes what a value is, in place of what was known before.
    pub fn learn(&mut self, id: ValueId, found: TensorType) {
        self.types.insert(id, found);
    }

    /// Element type and axes, where known.
    pub fn tensor(&self, id: ValueId) -> Option<&TensorType> {
        self.types.get(&id)
    }

    /// Axes, where known.
    pub fn dims(&self, id: ValueId) -> Option<&[Dim]> {
        self.types.get(&id).map(|found| found.dims.as_slice())
    }

    /// Number of axes, where known.
    pub fn rank(&self, id: ValueId) -> Option<usize> {
        self.dims(id).map(<[Dim]>::len)
    }

    /// Size of one axis, where it is known and always the same.
    pub fn size(&self, id: ValueId, axis: usize) -> Option<usize> {
        match self.dims(id)?.get(axis)? {
            Dim::Fixed(size) => Some(*size),
            Dim::Symbol(_) | Dim::Unknown => None,
        }
    }

    /// Element type, where known.
    pub fn dtype(&self, id: ValueId) -> Option<DataType> {
        self.types.get(&id).map(|found| found.dtype)
    }
}

fn declared_type(info: &ValueInfoProto) -> Option<TensorType> {
    Some(TensorType {
        dtype: info.elem_type()?,
        dims: info.dims()?,
    })
}

fn constant_type(tensor: &TensorProto) -> Option<TensorType> {
    let sizes = tensor.dims.iter().map(|&size| usize::try_from(size).ok());
    Some(TensorType {
        dtype: DataType::try_from(tensor.data_type()).ok()?,
        dims: sizes
            .map(|size| size.map(Dim::Fixed))
            .collect::<Option<_>>()?,
    })
}
