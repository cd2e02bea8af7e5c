//! Weights arranged for matrix products when a plan is made, not at every run.
//!
//! tract 0.23.9 does this itself for a weight with one reader, or of up to 4 MiB; equal weights are
//! one to it, whatever their names. A gradient reads each weight forwards and backwards: without
//! this, VGG16's head and its gradient for two samples took 1.4 s a run, of which 1.2 s went there.

use tract_onnx::{
    prelude::{TVec, TractResult, TypedModel},
    tract_core::{
        internal::{IntoArcTensor, IntoTValue, OutletId, TypedModelPatch},
        ops::{konst::Const, matmul::pack::OptMatMulPack},
    },
};

/// Replaces what rearranges a constant by the rearranged constant.
pub(super) fn pack_weights(model: &mut TypedModel) -> TractResult<()> {
    let mut is_changed = false;
    for id in 0..model.nodes.len() {
        if let Some(packed) = packed(model, id)? {
            let name = model.node(id).name.clone();
            let mut patch = TypedModelPatch::default();
            let wire = patch.wire_node(name, packed, &[])?[0];
            patch.shunt_outside(model, OutletId::from(id), wire)?;
            patch.apply(model)?;
            is_changed = true;
        }
    }
    if is_changed { model.compact() } else { Ok(()) }
}

fn packed(model: &TypedModel, id: usize) -> TractResult<Option<Const>> {
    let node = model.node(id);
    if !node.op_is::<OptMatMulPack>() {
        return Ok(None);
    }
    let inputs = model.node_input_facts(id)?.into_iter();
    let constants = inputs.map(|fact| fact.konst.clone().map(IntoTValue::into_tvalue));
    let Some(inputs) = constants.collect::<Option<TVec<_>>>() else {
        return Ok(None);
    };
    let Some(mut outputs) = node.op.eval_out_of_plan(inputs)? else {
        return Ok(None);
    };
    let Some(packed) = outputs.pop().filter(|_| outputs.is_empty()) else {
        return Ok(None);
    };
    let fact = model.outlet_fact(OutletId::from(id))?.exotic_fact.clone();
    Const::new_with_opt_exotic_fact(packed.into_arc_tensor(), fact).map(Some)
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use tract_onnx::pb;
    use tract_onnx::prelude::{Framework, InferenceModelExt};

    use super::*;
    use crate::engine::testing::engines;
    use crate::onnx::{DataType, Dim, GraphProto, ModelProto, NodeProto, Tensor, ValueInfoProto};

    /// `y = (x·w)·wᵀ` with 6 MiB of weights.
    fn there_and_back() -> ModelProto {
        let (rows, columns) = (3, 1 << 19);
        let dims = [Dim::Fixed(2), Dim::Fixed(rows)];
        let w = Tensor::f32([rows, columns], vec![0.5; rows * columns]);
        let mut graph = GraphProto::new("pack");
        graph.input = vec![ValueInfoProto::tensor("x", DataType::Float, &dims)];
        graph.output = vec![ValueInfoProto::tensor("y", DataType::Float, &dims)];
        graph.initializer = vec![w.unwrap().to_proto("w")];
        graph.node = vec![
            NodeProto::new("Gemm", &["x", "w"], &["wide"]),
            NodeProto::new("Gemm", &["wide", "w"], &["y"]).with_int("transB", 1),
        ];
        ModelProto::new(graph, 17)
    }

    #[test]
    fn no_constant_is_arranged_in_a_run() {
        let bytes = there_and_back().encode_to_vec();
        let proto = pb::ModelProto::decode(bytes.as_slice()).unwrap();
        let parsed = tract_onnx::onnx().model_for_proto_model(&proto).unwrap();
        let mut model = parsed.into_optimized().unwrap();
        let arranged = |model: &TypedModel| {
            let nodes = 0..model.nodes.len();
            nodes
                .filter(|&id| packed(model, id).unwrap().is_some())
                .count()
        };
        assert_eq!(
            arranged(&model),
            2,
            "tract does it by itself now: this module can go"
        );
        pack_weights(&mut model).unwrap();
        assert_eq!(arranged(&model), 0);
    }

    #[test]
    fn a_weight_read_twice_gives_the_same_in_both_engines() {
        let x = Tensor::f32([2, 3], vec![1., 2., 3., 0., -1., 0.]).unwrap();
        // Each sum is over 2^19 terms that are exact in f32.
        let row = |value: f32| vec![value * 0.25 * (1 << 19) as f32; 3];
        let expected = Tensor::f32([2, 3], [row(6.), row(-1.)].concat()).unwrap();
        for engine in engines() {
            let mut session = engine.load(&there_and_back()).unwrap();
            let found = session.run(&[("x", &x)]).unwrap();
            assert_eq!(
                found.as_slice(),
                std::slice::from_ref(&expected),
                "{}",
                engine.info()
            );
        }
    }
}
