//! Building nodes and reading their attributes.

use bytes::Bytes;

use super::proto::{
    AttributeProto, GraphProto, NodeProto, TensorProto, attribute_proto::AttributeType,
};

impl NodeProto {
    /// A node without name and attributes; `""` in `inputs` is an omitted optional input.
    pub fn new(op_type: &str, inputs: &[&str], outputs: &[&str]) -> Self {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        Self {
            op_type: Some(op_type.to_owned()),
            input: owned(inputs),
            output: owned(outputs),
            ..Self::default()
        }
    }

    /// Sets the node's name.
    pub fn with_name(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// Sets the operator's domain.
    pub fn with_domain(mut self, domain: &str) -> Self {
        self.domain = Some(domain.to_owned());
        self
    }

    /// Sets an integer attribute.
    pub fn with_int(self, name: &str, value: i64) -> Self {
        self.with_attribute(name, AttributeType::Int, |to| to.i = Some(value))
    }

    /// Sets an attribute that is a list of integers.
    pub fn with_ints(self, name: &str, values: &[i64]) -> Self {
        self.with_attribute(name, AttributeType::Ints, |to| to.ints = values.to_vec())
    }

    /// Sets a float attribute.
    pub fn with_float(self, name: &str, value: f32) -> Self {
        self.with_attribute(name, AttributeType::Float, |to| to.f = Some(value))
    }

    /// Sets an attribute that is a list of floats.
    pub fn with_floats(self, name: &str, values: &[f32]) -> Self {
        self.with_attribute(name, AttributeType::Floats, |to| {
            to.floats = values.to_vec();
        })
    }

    /// Sets a string attribute.
    pub fn with_string(self, name: &str, value: &str) -> Self {
        self.with_attribute(name, AttributeType::String, |to| {
            to.s = Some(Bytes::copy_from_slice(value.as_bytes()));
        })
    }

    /// Sets a tensor attribute.
    pub fn with_tensor(self, name: &str, value: TensorProto) -> Self {
        self.with_attribute(name, AttributeType::Tensor, |to| to.t = Some(value))
    }

    /// Sets a graph attribute.
    pub fn with_graph(self, name: &str, value: GraphProto) -> Self {
        self.with_attribute(name, AttributeType::Graph, |to| to.g = Some(value))
    }

    /// Replaces the attribute where it exists, so that its place in the file stays.
    fn with_attribute(
        mut self,
        name: &str,
        kind: AttributeType,
        fill: impl FnOnce(&mut AttributeProto),
    ) -> Self {
        let mut attribute = AttributeProto {
            name: Some(name.to_owned()),
            r#type: Some(kind.into()),
            ..AttributeProto::default()
        };
        fill(&mut attribute);
        match self.attribute.iter_mut().find(|old| old.name() == name) {
            Some(old) => *old = attribute,
            None => self.attribute.push(attribute),
        }
        self
    }

    /// The operator's name without its domain.
    pub fn op(&self) -> &str {
        self.op_type()
    }

    /// The operator's domain, where `""` and `"ai.onnx"` are the same and give `""`.
    pub fn domain_or_default(&self) -> &str {
        default_domain(self.domain())
    }

    /// The attribute of this name. Inside a function body it may be a reference to an attribute
    /// of the call; the typed readers below give nothing for those.
    pub fn attribute(&self, name: &str) -> Option<&AttributeProto> {
        self.attribute.iter().find(|known| known.name() == name)
    }

    /// Value of an integer attribute.
    pub fn int(&self, name: &str) -> Option<i64> {
        let attribute = self.typed(name, AttributeType::Int, |a| a.i.is_some())?;
        Some(attribute.i())
    }

    /// Values of an attribute that is a list of integers.
    pub fn ints(&self, name: &str) -> Option<&[i64]> {
        let attribute = self.typed(name, AttributeType::Ints, |a| !a.ints.is_empty())?;
        Some(&attribute.ints)
    }

    /// Value of a float attribute.
    pub fn float(&self, name: &str) -> Option<f32> {
        let attribute = self.typed(name, AttributeType::Float, |a| a.f.is_some())?;
        Some(attribute.f())
    }

    /// Values of an attribute that is a list of floats.
    pub fn floats(&self, name: &str) -> Option<&[f32]> {
        let attribute = self.typed(name, AttributeType::Floats, |a| !a.floats.is_empty())?;
        Some(&attribute.floats)
    }

    /// Value of a string attribute; bytes that are not UTF-8 are replaced.
    pub fn string(&self, name: &str) -> Option<String> {
        let attribute = self.typed(name, AttributeType::String, |a| a.s.is_some())?;
        Some(String::from_utf8_lossy(attribute.s()).into_owned())
    }

    /// Value of a tensor attribute.
    pub fn tensor(&self, name: &str) -> Option<&TensorProto> {
        let attribute = self.typed(name, AttributeType::Tensor, |a| a.t.is_some())?;
        attribute.t.as_ref()
    }

    /// The bodies of control flow operators (If, Loop, Scan), one level deep.
    pub fn graphs(&self) -> impl Iterator<Item = &GraphProto> {
        self.attribute
            .iter()
            .flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs))
    }

    /// Writers of the first IR versions left `type` out, proto3 writers leave zero values out:
    /// either of the two is enough.
    fn typed(
        &self,
        name: &str,
        kind: AttributeType,
        is_set: fn(&AttributeProto) -> bool,
    ) -> Option<&AttributeProto> {
        let attribute = self.attribute(name)?;
        let matches = match attribute.r#type() {
            AttributeType::Undefined => is_set(attribute),
            declared => declared == kind,
        };
        (matches && attribute.ref_attr_name().is_empty()).then_some(attribute)
    }
}

/// `""` and `"ai.onnx"` name the same domain.
pub(super) fn default_domain(domain: &str) -> &str {
    if domain == "ai.onnx" { "" } else { domain }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_read_back_as_they_were_set() {
        let node = NodeProto::new("Op", &["x", ""], &["y"])
            .with_name("n")
            .with_domain("ai.onnx")
            .with_int("i", 3)
            .with_int("i", 4)
            .with_ints("is", &[])
            .with_float("f", 0.5)
            .with_floats("fs", &[1.0, 2.0])
            .with_string("s", "SAME_UPPER")
            .with_tensor("t", TensorProto::default())
            .with_graph("g", GraphProto::default());
        assert_eq!((node.op(), node.domain_or_default()), ("Op", ""));
        assert_eq!(node.int("i"), Some(4));
        assert_eq!(node.ints("is"), Some(&[][..]));
        assert_eq!(node.float("f"), Some(0.5));
        assert_eq!(node.floats("fs"), Some(&[1.0, 2.0][..]));
        assert_eq!(node.string("s").as_deref(), Some("SAME_UPPER"));
        assert!(node.tensor("t").is_some());
        assert_eq!(node.graphs().count(), 1);
        // Another type, or absent.
        assert_eq!(
            (node.int("f"), node.float("i"), node.int("no")),
            (None, None, None)
        );
    }

    #[test]
    fn attributes_without_type_or_without_value_are_understood() {
        let attribute = |fill: fn(&mut AttributeProto)| {
            let mut attribute = AttributeProto {
                name: Some("a".into()),
                ..AttributeProto::default()
            };
            fill(&mut attribute);
            let mut node = NodeProto::new("Op", &[], &[]);
            node.attribute.push(attribute);
            node.int("a")
        };
        // First IR versions.
        assert_eq!(attribute(|a| a.i = Some(2)), Some(2));
        // proto3 writers.
        assert_eq!(attribute(|a| a.r#type = Some(2)), Some(0));
        // A reference in a function body has no value of its own.
        let reference = |a: &mut AttributeProto| {
            a.r#type = Some(2);
            a.ref_attr_name = Some("outer".into());
        };
        assert_eq!(attribute(reference), None);
    }
}
