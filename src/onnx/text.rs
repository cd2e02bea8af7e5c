//! A compact text form of graphs, for snapshots and for reading.
//!
//! ```text
//! graph "g" (x: f32[batch,3]) -> (y: f32[batch,4])
//!   w: f32[4,3]
//!   y = Gemm(x, w) {transB=1}
//! ```

use std::fmt::Write;

use super::{
    Dim,
    proto::{
        AttributeProto, GraphProto, NodeProto, TensorProto, ValueInfoProto,
        attribute_proto::AttributeType, tensor_proto::DataType,
    },
};

/// Longest list or text shown of an attribute.
const SHOWN: usize = 16;

/// One line for the graph's inputs and outputs, one per initializer, one per node, in file order.
pub fn print(graph: &GraphProto) -> String {
    let mut text = String::new();
    print_graph(&mut text, graph, 0);
    text
}

fn print_graph(text: &mut String, graph: &GraphProto, depth: usize) {
    let indent = "  ".repeat(depth);
    let values = |list: &[ValueInfoProto]| join(list.iter().map(value), ", ");
    let inputs = values(&graph.input);
    let outputs = values(&graph.output);
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "{indent}graph {:?} ({inputs}) -> ({outputs})",
        graph.name()
    );
    for initializer in &graph.initializer {
        let _ = writeln!(text, "{indent}  {}", named_tensor(initializer));
    }
    for sparse in &graph.sparse_initializer {
        let values = sparse
            .values
            .as_ref()
            .map_or_else(String::new, named_tensor);
        let _ = writeln!(text, "{indent}  {values} sparse in {:?}", sparse.dims);
    }
    for node in &graph.node {
        let _ = writeln!(text, "{indent}  {}", node_line(node));
        for inner in node.graphs() {
            print_graph(text, inner, depth + 2);
        }
    }
}

fn node_line(node: &NodeProto) -> String {
    let outputs = join(node.output.iter().map(|name| shown_name(name)), ", ");
    let inputs = join(node.input.iter().map(|name| shown_name(name)), ", ");
    let domain = match node.domain_or_default() {
        "" => String::new(),
        domain => format!("{domain}."),
    };
    let mut line = format!("{outputs} = {domain}{}({inputs})", node.op());
    if !node.attribute.is_empty() {
        let _ = write!(
            line,
            " {{{}}}",
            join(node.attribute.iter().map(attribute), ", ")
        );
    }
    line
}

fn shown_name(name: &str) -> String {
    if name.is_empty() {
        "_".to_owned()
    } else {
        name.to_owned()
    }
}

fn value(info: &ValueInfoProto) -> String {
    let Some(dtype) = info.elem_type() else {
        return info.name().to_owned();
    };
    let dims = info.dims().map_or_else(
        || "[...]".to_owned(),
        |dims| format!("[{}]", join(dims.iter().map(Dim::to_string), ",")),
    );
    format!("{}: {dtype}{dims}", info.name())
}

fn named_tensor(tensor: &TensorProto) -> String {
    format!("{}: {}", tensor.name(), tensor_type(tensor))
}

fn tensor_type(tensor: &TensorProto) -> String {
    let dtype = tensor.data_type.map(DataType::try_from);
    let dtype = match dtype {
        Some(Ok(dtype)) => dtype.to_string(),
        _ => format!("type {}", tensor.data_type.unwrap_or(0)),
    };
    format!(
        "{dtype}[{}]",
        join(tensor.dims.iter().map(i64::to_string), ",")
    )
}

fn attribute(attribute: &AttributeProto) -> String {
    let name = attribute.name();
    if !attribute.ref_attr_name().is_empty() {
        return format!("{name}=@{}", attribute.ref_attr_name());
    }
    let value = match attribute.r#type() {
        AttributeType::Float => attribute.f().to_string(),
        AttributeType::Int => attribute.i().to_string(),
        AttributeType::String => quoted(attribute.s()),
        AttributeType::Floats => list(attribute.floats.iter().map(f32::to_string)),
        AttributeType::Ints => list(attribute.ints.iter().map(i64::to_string)),
        AttributeType::Strings => list(attribute.strings.iter().map(|text| quoted(text))),
        AttributeType::Tensor => attribute.t.as_ref().map_or_else(String::new, tensor_type),
        AttributeType::Tensors => list(attribute.tensors.iter().map(tensor_type)),
        AttributeType::Graph => "graph".to_owned(),
        AttributeType::Graphs => format!("{} graphs", attribute.graphs.len()),
        AttributeType::SparseTensor
        | AttributeType::SparseTensors
        | AttributeType::TypeProto
        | AttributeType::TypeProtos => attribute.r#type().as_str_name().to_lowercase(),
        // The first IR versions did not write the type.
        AttributeType::Undefined => match (attribute.i, attribute.f) {
            (Some(value), _) => value.to_string(),
            (None, Some(value)) => value.to_string(),
            (None, None) if !attribute.ints.is_empty() => {
                list(attribute.ints.iter().map(i64::to_string))
            }
            (None, None) => "...".to_owned(),
        },
    };
    format!("{name}={value}")
}

fn quoted(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    if text.chars().count() > 4 * SHOWN {
        let start: String = text.chars().take(4 * SHOWN).collect();
        return format!("{start:?}... {} bytes", bytes.len());
    }
    format!("{text:?}")
}

fn list(items: impl ExactSizeIterator<Item = String>) -> String {
    let length = items.len();
    if length > SHOWN {
        return format!("[{}, ... {length} values]", join(items.take(SHOWN), ","));
    }
    format!("[{}]", join(items, ","))
}

fn join(items: impl Iterator<Item = String>, separator: &str) -> String {
    items.collect::<Vec<_>>().join(separator)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::Tensor;

    #[test]
    fn graphs_print_one_line_per_initializer_and_node() {
        let mut inner = GraphProto::new("inner");
        inner.node = vec![NodeProto::new("Identity", &["y"], &["z"])];
        let batch = Dim::Symbol("batch".into());
        let mut graph = GraphProto::new("main");
        graph.input = vec![
            ValueInfoProto::tensor("x", DataType::Float, &[batch, Dim::Fixed(3), Dim::Unknown]),
            ValueInfoProto {
                name: Some("untyped".into()),
                ..ValueInfoProto::default()
            },
        ];
        graph.initializer = vec![
            Tensor::f32([4, 3], vec![0.0; 12]).unwrap().to_proto("w"),
            Tensor::i64([], vec![1]).unwrap().to_proto("axis"),
        ];
        graph.node = vec![
            NodeProto::new("Gemm", &["x", "w", ""], &["y"])
                .with_int("transB", 1)
                .with_float("alpha", 0.5),
            NodeProto::new("Op", &[], &["a", ""])
                .with_domain("com.microsoft")
                .with_ints("axes", &(0..20).collect::<Vec<_>>())
                .with_floats("scales", &[1.0, 2.5])
                .with_string("mode", "linear")
                .with_tensor("value", Tensor::f32([1], vec![0.0]).unwrap().to_proto("")),
            NodeProto::new("If", &["c"], &["z"]).with_graph("then_branch", inner),
        ];
        insta::assert_snapshot!(print(&graph), @r#"
        graph "main" (x: f32[batch,3,?], untyped) -> ()
          w: f32[4,3]
          axis: i64[]
          y = Gemm(x, w, _) {transB=1, alpha=0.5}
          a, _ = com.microsoft.Op() {axes=[0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15, ... 20 values], scales=[1,2.5], mode="linear", value=f32[1]}
          z = If(c) {then_branch=graph}
            graph "inner" () -> ()
              z = Identity(y)
        "#);
    }
}
