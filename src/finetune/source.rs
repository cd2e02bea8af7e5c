//! Where the features of a step come from: read for each step, or rows of what the engine holds.
//!
//! A device has memory for the features of many samples, and copying a batch there takes about as
//! long as a step on it. So where there is room they go there once, and a step gets the numbers of
//! its rows: a `Gather` in front of the head finds them.

use std::collections::BTreeMap;

use crate::{
    engine::{Engine, Snapshot},
    error::Result,
    features::FeatureSet,
    grad::training::TrainingGraph,
    graph::Graph,
    onnx::{DataType, Dim, ModelProto, NodeProto, Tensor, ValueInfoProto},
};

/// Types whose values are trained on in f32.
pub(super) const WIDENED: [DataType; 3] = [DataType::Float16, DataType::Bfloat16, DataType::Double];

/// Part of a device's free memory that features may take: they are there twice on their way in, and
/// the weights, their moments and the values of a step need room as well.
const PART: u64 = 4;

/// How the features of a step reach the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// With the step.
    Given,
    /// As the numbers of rows that the engine holds.
    Held,
}

impl Way {
    /// The way for the features of so many samples.
    pub(super) fn of(engine: &dyn Engine, features: &FeatureSet, samples: usize) -> Self {
        let is_device = engine.info().precision.is_some();
        if !is_device || !features.has_plain_rows() || features.is_empty() {
            return Self::Given;
        }
        let row = features.bytes() / features.len() as u64;
        match engine.free_memory() {
            Some(free) if row.saturating_mul(samples as u64) <= free / PART => Self::Held,
            _ => Self::Given,
        }
    }
}

/// Gives the inputs of a step that depend on its samples' features.
pub(super) struct Source {
    features: FeatureSet,
    names: Vec<String>,
    /// Where the engine holds each sample, by its position; nothing where features are read.
    rows: Option<BTreeMap<usize, i64>>,
}

impl Source {
    /// Features that are read for each step.
    pub(super) fn given(features: FeatureSet) -> Self {
        Self {
            names: features.names().to_vec(),
            features,
            rows: None,
        }
    }

    /// Features of the samples at `positions` that the engine is to hold, as the values that go with
    /// the source: both models of `graph` then read them there.
    pub(super) fn held(
        features: FeatureSet,
        positions: &[usize],
        batch: usize,
        graph: &mut TrainingGraph,
    ) -> Result<(Self, Snapshot)> {
        let whole = features.clone().with_fixed_batch(positions.len());
        let values = whole.read(positions)?.values;
        let names = features.names().iter();
        let (tables, rows) = {
            let graph = Graph::new(&graph.model)?;
            let tables = names.map(|name| Table {
                name: graph.fresh_name(&format!("{name}_of_all")),
                feature: name.clone(),
            });
            (tables.collect::<Vec<_>>(), graph.fresh_name("rows"))
        };
        let places = (0_i64..).zip(positions);
        let source = Self {
            features,
            names: vec![rows],
            rows: Some(places.map(|(row, &position)| (position, row)).collect()),
        };
        for model in [&mut graph.model, &mut graph.forward] {
            gather(model, &source.names[0], batch, tables.iter().zip(&values));
        }
        let names = tables.into_iter().map(|table| table.name);
        let held: Vec<(String, Tensor)> = names.zip(values).collect();
        Ok((source, held.into()))
    }

    /// Names of the inputs.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// The inputs for these samples, in the order of the names.
    pub(super) fn values(&self, positions: &[usize]) -> Result<Vec<Tensor>> {
        match &self.rows {
            Some(rows) => {
                let rows = positions.iter().filter_map(|at| rows.get(at).copied());
                Ok(vec![Tensor::i64([positions.len()], rows.collect())?])
            }
            None => read(&self.features, positions),
        }
    }
}

/// The features of these samples, in f32 where they are narrower or wider floats.
pub(super) fn read(features: &FeatureSet, positions: &[usize]) -> Result<Vec<Tensor>> {
    let values = features.read(positions)?.values.into_iter();
    values
        .map(|value| match WIDENED.contains(&value.dtype()) {
            true => value.cast(DataType::Float),
            false => Ok(value),
        })
        .collect()
}

/// The features of all samples, as an input that the engine holds.
struct Table {
    name: String,
    feature: String,
}

/// Puts in front of a model what takes its features from rows of tables.
fn gather<'t>(
    model: &mut ModelProto,
    rows: &str,
    batch: usize,
    tables: impl Iterator<Item = (&'t Table, &'t Tensor)>,
) {
    let Some(graph) = model.graph.as_mut() else {
        return;
    };
    let mut nodes = Vec::new();
    for (Table { name, feature }, values) in tables {
        graph.input.retain(|input| input.name() != feature);
        let dims: Vec<Dim> = values.shape().iter().copied().map(Dim::Fixed).collect();
        let port = ValueInfoProto::tensor(name, values.dtype(), &dims);
        graph.input.push(port);
        let node = NodeProto::new("Gather", &[name, rows], &[feature]);
        // tract takes no node that is called as an input is.
        nodes.push(node.with_name(&format!("{name}/rows")));
    }
    let port = ValueInfoProto::tensor(rows, DataType::Int64, &[Dim::Fixed(batch)]);
    graph.input.push(port);
    nodes.append(&mut graph.node);
    graph.node = nodes;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        engine::{EngineInfo, Precision, Session, Steps, testing::engines},
        features::testing::Numbers,
    };

    /// An engine that says of itself that it computes on a device.
    struct Device(EngineInfo, Option<u64>);

    impl Engine for Device {
        fn info(&self) -> &EngineInfo {
            &self.0
        }

        fn free_memory(&self) -> Option<u64> {
            self.1
        }

        fn load(&self, model: &ModelProto) -> Result<Box<dyn Session>> {
            engines()[1].load(model)
        }

        fn load_steps(
            &self,
            model: &ModelProto,
            feedback: &[(String, String)],
            initial: Snapshot,
        ) -> Result<Box<dyn Steps>> {
            engines()[1].load_steps(model, feedback, initial)
        }
    }

    #[test]
    fn features_are_held_where_a_device_has_room_for_their_rows() {
        let features = |dtype| {
            let values = Tensor::f32([10, 3, 2], Numbers(1).take(60)).unwrap();
            let values = vec![values.cast(dtype).unwrap()];
            FeatureSet::from_memory(vec!["x".to_owned()], values, None).unwrap()
        };
        // 5 samples of 24 bytes, in a quarter of what is free.
        let cases = [
            (None, Some(1 << 20), DataType::Float, Way::Given),
            (Some(Precision::Fp32), Some(480), DataType::Float, Way::Held),
            (
                Some(Precision::Fp32),
                Some(479),
                DataType::Float,
                Way::Given,
            ),
            (Some(Precision::Fp32), None, DataType::Float, Way::Given),
            (
                Some(Precision::Tf32),
                Some(1 << 20),
                DataType::Float16,
                Way::Given,
            ),
        ];
        for (precision, free, dtype, expected) in cases {
            let info = EngineInfo {
                precision,
                ..EngineInfo::default()
            };
            let device = Device(info, free);
            let found = Way::of(&device, &features(dtype).with_fixed_batch(4), 5);
            assert_eq!(found, expected, "{precision:?} {free:?} {dtype}");
        }
    }
}
