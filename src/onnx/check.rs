//! What must hold in a model file before anything else looks at it.
//!
//! Only what concerns the file itself: a graph, an operator set, tensors that hold what their
//! shapes say. Whether the graph makes sense is for [`crate::graph`] to find out.

use std::path::Path;

use super::{
    layout::{check_values, layout},
    proto::{ModelProto, tensor_proto::DataType},
    walk::{Held, HeldSparse, stored},
};
use crate::error::{Error, Result, Site};

/// Checks a decoded model whose external data has been read.
pub(super) fn check(path: &Path, model: &mut ModelProto) -> Result<()> {
    check_header(model).map_err(|what| Error::Format {
        path: path.to_owned(),
        what,
    })?;
    let stored = stored(model);
    for held in &stored.sparse {
        check_sparse(held)?;
    }
    for held in stored.into_tensors() {
        check_tensor(&held)?;
    }
    Ok(())
}

fn check_header(model: &ModelProto) -> Result<(), String> {
    if model.graph.is_none() {
        return Err("the model has no graph".to_owned());
    }
    if model.opset_import.is_empty() {
        return Err("the model names no operator set version (opset_import)".to_owned());
    }
    for import in &model.opset_import {
        if import.version() < 1 {
            return Err(format!(
                "the model imports version {} of the operator set {:?}",
                import.version(),
                import.domain()
            ));
        }
    }
    Ok(())
}

fn check_tensor(held: &Held<'_>) -> Result<()> {
    let checked = layout(held.tensor).and_then(|layout| check_values(held.tensor, &layout));
    checked.map_err(|error| at(error, &held.site))
}

fn check_sparse(held: &HeldSparse<'_>) -> Result<()> {
    let fail = |what: String| {
        Err(Error::Invalid {
            site: held.site.clone(),
            what,
        })
    };
    let dims = &held.sparse.dims;
    let size = dims.iter().try_fold(1_i64, |size, &dim| {
        (dim >= 0).then(|| size.checked_mul(dim)).flatten()
    });
    if size.is_none() {
        return fail(format!("sparse dims {dims:?} are negative or overflow"));
    }
    let (Some(values), Some(indices)) = (&held.sparse.values, &held.sparse.indices) else {
        return fail("a sparse tensor needs values and indices".to_owned());
    };
    let rank = i64::try_from(dims.len()).unwrap_or(i64::MAX);
    let fits = match (&values.dims[..], &indices.dims[..]) {
        ([entries], [indexed]) => entries == indexed,
        ([entries], [indexed, axes]) => entries == indexed && *axes == rank,
        _ => false,
    };
    if !fits || indices.data_type != Some(DataType::Int64.into()) {
        return fail(format!(
            "sparse values {:?} and indices {:?} do not belong together",
            values.dims, indices.dims
        ));
    }
    Ok(())
}

/// Sites an error about a tensor at what holds the tensor: tensors in attributes rarely have names.
pub(super) fn at(error: Error, holder: &Site) -> Error {
    match error {
        Error::Invalid { what, .. } => Error::Invalid {
            site: holder.clone(),
            what,
        },
        Error::Unsupported { what, .. } => Error::Unsupported {
            site: holder.clone(),
            what,
        },
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::{
        GraphProto, Tensor,
        proto::{OperatorSetIdProto, SparseTensorProto},
        walk::tests::model_with_tensors_everywhere,
    };

    #[test]
    fn a_broken_tensor_is_found_wherever_it_is() {
        let mut sound = model_with_tensors_everywhere();
        check(Path::new("m"), &mut sound).unwrap();
        let count = stored(&mut sound).into_tensors().len();
        for index in 0..count {
            let mut model = model_with_tensors_everywhere();
            stored(&mut model).into_tensors()[index].tensor.raw_data = Some(vec![0; 3].into());
            let error = check(Path::new("m"), &mut model).unwrap_err();
            assert!(matches!(error, Error::Invalid { .. }), "{index}: {error}");
        }
    }

    #[test]
    fn the_header_must_name_graph_and_operator_set() {
        type Break = fn(&mut ModelProto);
        let cases: [(Break, &str); 4] = [
            (|model| model.graph = None, "m: the model has no graph"),
            (
                |model| model.opset_import.clear(),
                "m: the model names no operator set version (opset_import)",
            ),
            (
                |model| model.opset_import[0].version = Some(-1),
                "m: the model imports version -1 of the operator set \"\"",
            ),
            (
                |model| model.opset_import.push(OperatorSetIdProto::default()),
                "m: the model imports version 0 of the operator set \"\"",
            ),
        ];
        for (break_it, expected) in cases {
            let mut model = ModelProto::new(GraphProto::new("g"), 17);
            break_it(&mut model);
            let error = check(Path::new("m"), &mut model).unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
    }

    #[test]
    fn sparse_tensors_must_hold_together() {
        let values = Tensor::f32([2], vec![1.0, 2.0]).unwrap().to_proto("s");
        let indices = |shape: &[usize]| {
            let count = shape.iter().product();
            Some(Tensor::i64(shape, vec![0; count]).unwrap().to_proto(""))
        };
        let cases = [
            (vec![4, 4], indices(&[2]), true),
            (vec![4, 4], indices(&[2, 2]), true),
            // As many indices as values.
            (vec![4, 4], indices(&[3]), false),
            // One coordinate per axis.
            (vec![4, 4], indices(&[2, 3]), false),
            (vec![4, 4], indices(&[]), false),
            (vec![4, 4], None, false),
            // Indices are i64.
            (vec![4, 4], Some(values.clone()), false),
            (vec![-4, 4], indices(&[2]), false),
            (vec![i64::MAX, 4], indices(&[2]), false),
        ];
        for (number, (dims, indices, expected)) in cases.into_iter().enumerate() {
            let mut graph = GraphProto::new("g");
            graph.sparse_initializer.push(SparseTensorProto {
                values: Some(values.clone()),
                indices,
                dims,
            });
            let checked = check(Path::new("m"), &mut ModelProto::new(graph, 17));
            assert_eq!(checked.is_ok(), expected, "case {number}: {checked:?}");
        }
    }
}
