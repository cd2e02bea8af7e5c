//! Declared types of values, and models and graphs made in memory.

use std::fmt;

use super::{
    decode::to_dim,
    node::default_domain,
    proto::{
        GraphProto, ModelProto, OperatorSetIdProto, StringStringEntryProto, TensorShapeProto,
        TypeProto, ValueInfoProto,
        tensor_proto::DataType,
        tensor_shape_proto::{Dimension, dimension},
        type_proto,
    },
};

/// IR version of models made here: the oldest that both runtimes read with today's operators.
const IR_VERSION: i64 = 8;

/// One axis of a declared shape.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Dim {
    /// A size.
    Fixed(usize),
    /// A named size, the same wherever the name is.
    Symbol(String),
    /// Nothing is declared. Negative sizes, which some exporters write, are this too.
    Unknown,
}

impl Dim {
    /// The size, where it is fixed.
    pub fn fixed(&self) -> Option<usize> {
        match self {
            Self::Fixed(size) => Some(*size),
            Self::Symbol(_) | Self::Unknown => None,
        }
    }

    fn from_proto(proto: &Dimension) -> Self {
        match &proto.value {
            Some(dimension::Value::DimValue(size)) => {
                usize::try_from(*size).map_or(Self::Unknown, Self::Fixed)
            }
            Some(dimension::Value::DimParam(name)) if !name.is_empty() => {
                Self::Symbol(name.clone())
            }
            _ => Self::Unknown,
        }
    }

    fn to_proto(&self) -> Dimension {
        let value = match self {
            Self::Fixed(size) => Some(dimension::Value::DimValue(to_dim(*size))),
            Self::Symbol(name) => Some(dimension::Value::DimParam(name.clone())),
            Self::Unknown => None,
        };
        Dimension {
            value,
            ..Dimension::default()
        }
    }
}

/// `3`, `batch`, `?`.
impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(size) => size.fmt(f),
            Self::Symbol(name) => name.fmt(f),
            Self::Unknown => f.write_str("?"),
        }
    }
}

impl From<usize> for Dim {
    fn from(size: usize) -> Self {
        Self::Fixed(size)
    }
}

impl ValueInfoProto {
    /// Declares a tensor of this type and shape.
    pub fn tensor(name: &str, dtype: DataType, dims: &[Dim]) -> Self {
        let tensor = type_proto::Tensor {
            elem_type: Some(dtype.into()),
            shape: Some(TensorShapeProto {
                dim: dims.iter().map(Dim::to_proto).collect(),
            }),
        };
        Self {
            name: Some(name.to_owned()),
            r#type: Some(TypeProto {
                value: Some(type_proto::Value::TensorType(tensor)),
                ..TypeProto::default()
            }),
            ..Self::default()
        }
    }

    /// The declared element type; nothing when undeclared or no tensor.
    pub fn elem_type(&self) -> Option<DataType> {
        let dtype = DataType::try_from(self.tensor_type()?.elem_type?).ok()?;
        (dtype != DataType::Undefined).then_some(dtype)
    }

    /// The declared shape; nothing when the rank is undeclared or the value no tensor.
    pub fn dims(&self) -> Option<Vec<Dim>> {
        let shape = self.tensor_type()?.shape.as_ref()?;
        Some(shape.dim.iter().map(Dim::from_proto).collect())
    }

    fn tensor_type(&self) -> Option<&type_proto::Tensor> {
        match self.r#type.as_ref()?.value.as_ref()? {
            type_proto::Value::TensorType(tensor) => Some(tensor),
            _ => None,
        }
    }
}

impl GraphProto {
    /// An empty graph.
    pub fn new(name: &str) -> Self {
        Self {
            name: Some(name.to_owned()),
            ..Self::default()
        }
    }
}

impl ModelProto {
    /// A model of IR version 8 that imports one version of the `ai.onnx` operators.
    pub fn new(graph: GraphProto, opset: i64) -> Self {
        Self {
            ir_version: Some(IR_VERSION),
            opset_import: vec![OperatorSetIdProto {
                domain: Some(String::new()),
                version: Some(opset),
            }],
            graph: Some(graph),
            ..Self::default()
        }
    }

    /// The imported version of a domain; `""` and `"ai.onnx"` are the same.
    pub fn opset(&self, domain: &str) -> Option<i64> {
        imported(&self.opset_import, domain)
    }

    /// The metadata entry of this key.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        let entry = self
            .metadata_props
            .iter()
            .find(|entry| entry.key() == key)?;
        Some(entry.value())
    }

    /// Sets a metadata entry, replacing the one of this key.
    pub fn set_metadata(&mut self, key: &str, value: impl Into<String>) {
        let value = Some(value.into());
        match self.metadata_props.iter_mut().find(|e| e.key() == key) {
            Some(entry) => entry.value = value,
            None => self.metadata_props.push(StringStringEntryProto {
                key: Some(key.to_owned()),
                value,
            }),
        }
    }
}

/// The version a list of imports gives to a domain.
pub(super) fn imported(imports: &[OperatorSetIdProto], domain: &str) -> Option<i64> {
    let wanted = default_domain(domain);
    let import = imports
        .iter()
        .find(|import| default_domain(import.domain()) == wanted)?;
    import.version
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declared_types_read_back_as_they_were_made() {
        let dims = [Dim::Symbol("batch".into()), Dim::Fixed(3), Dim::Unknown];
        let value = ValueInfoProto::tensor("x", DataType::Float16, &dims);
        assert_eq!(value.elem_type(), Some(DataType::Float16));
        assert_eq!(value.dims().as_deref(), Some(&dims[..]));
        let shown: Vec<String> = dims.iter().map(Dim::to_string).collect();
        assert_eq!(shown, ["batch", "3", "?"]);
        // A value without a type, as in the first IR versions.
        assert_eq!(ValueInfoProto::default().dims(), None);
        assert_eq!(ValueInfoProto::default().elem_type(), None);
    }

    #[test]
    fn negative_and_unnamed_dims_are_unknown() {
        let dimension = |value| {
            Dim::from_proto(&Dimension {
                value,
                ..Dimension::default()
            })
        };
        assert_eq!(
            dimension(Some(dimension::Value::DimValue(-1))),
            Dim::Unknown
        );
        assert_eq!(
            dimension(Some(dimension::Value::DimParam(String::new()))),
            Dim::Unknown
        );
        assert_eq!(
            dimension(Some(dimension::Value::DimValue(0))),
            Dim::Fixed(0)
        );
    }

    #[test]
    fn opset_and_metadata_are_found_by_domain_and_key() {
        let mut model = ModelProto::new(GraphProto::new("g"), 17);
        model.opset_import.push(OperatorSetIdProto {
            domain: Some("com.microsoft".into()),
            version: Some(1),
        });
        assert_eq!(model.opset("ai.onnx"), Some(17));
        assert_eq!(model.opset("com.microsoft"), Some(1));
        assert_eq!(model.opset("ai.onnx.ml"), None);
        model.set_metadata("a", "1");
        model.set_metadata("a", "2");
        assert_eq!(model.metadata("a"), Some("2"));
        assert_eq!(model.metadata_props.len(), 1);
    }
}
