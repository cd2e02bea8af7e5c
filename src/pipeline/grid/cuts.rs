//! The heads of many cells before their repair, measured together.

use rayon::prelude::*;

use super::{Grid, Samples, Watch, setup};
use crate::{
    error::Result,
    eval::{self, CutHead, Cuts},
    features::FeatureSet,
    graph::{Graph, NodeId},
    onnx::ModelProto,
    prune::{Plan, dense::Dense},
    repair::Repair,
};

impl Grid<'_> {
    /// The layer that alone reads the only feature, and its node in the whole model, which groups are of.
    fn first_layer(&self, features: &FeatureSet) -> Result<Option<(Dense, NodeId)>> {
        let Some(first) = eval::first_layer(&self.original, features)? else {
            return Ok(None);
        };
        let graph = Graph::new(&self.original)?;
        let read = graph.value(&first.input).map(|feature| graph.uses(feature));
        let node = read
            .and_then(|uses| uses.first())
            .map(|reading| reading.node);
        let made = node.and_then(|node| graph.output(node, 0));
        let whole = &self.setup.graph;
        let made = made.and_then(|value| whole.value(graph.name(value)));
        let node = made.and_then(|value| whole.producer(value));
        Ok(node.map(|node| (first, node)))
    }

    /// Makes what the repairs of these plans have in common; nothing where their heads have no first
    /// layer to share.
    ///
    /// # Errors
    /// Those of reading features.
    pub(crate) fn prepare_repairs(&self, plans: &[Plan]) -> Result<()> {
        let features = &self.material.features;
        let Some((first, node)) = self.first_layer(features)? else {
            return Ok(());
        };
        let groups = self.groups();
        let read = plans.iter().filter_map(|plan| {
            let kept = plan.entries_of(&groups, node, first.input_axis)?;
            Some(kept.1)
        });
        let samples = (&self.material.fit[..], &self.material.check[..]);
        let read: Vec<Vec<usize>> = read.collect();
        self.known.prepare(features, samples, &read)
    }

    /// The heads cut to these plans, ready to be measured side by side; nothing where they have no
    /// first layer whose products could be shared, nor on a device: these products are the CPU's.
    ///
    /// # Errors
    /// Those of cutting.
    pub(crate) fn cuts(&self, plans: &[Plan], samples: &Samples) -> Result<Option<Cuts>> {
        if self.narrow.engine.info().precision.is_some() {
            return Ok(None);
        }
        let Some((first, node)) = self.first_layer(&samples.features)? else {
            return Ok(None);
        };
        let groups = self.groups();
        let workshop = self.workshop(Repair::None, None, &*self.narrow.engine);
        let heads = plans.par_iter().map(|plan| {
            let kept = |axis: usize| {
                let entries = plan.entries_of(&groups, node, axis);
                entries.map_or_else(|| (0..first.shape[axis]).collect(), |(_, kept)| kept)
            };
            Ok(CutHead {
                inputs: kept(first.input_axis),
                outputs: kept(first.output_axis),
                model: workshop.cut_head(plan)?,
            })
        });
        let heads = heads.collect::<Result<Vec<_>>>()?;
        let held = self.held.as_ref();
        Cuts::new(self.original.clone(), heads, &samples.features, held)
    }

    /// Top classes of the samples at `positions`: of the original head, then of each cut.
    ///
    /// # Errors
    /// Those of running heads.
    pub(crate) fn tops(
        &self,
        cuts: &Cuts,
        samples: &Samples,
        positions: &[usize],
        watch: &dyn Watch,
    ) -> Result<Vec<Vec<usize>>> {
        let mut step = |count: usize| {
            watch.step(count as u64);
            setup::still_wanted(watch)
        };
        let (engine, classes) = (&*self.narrow.engine, self.head.scores.classes);
        cuts.top(engine, classes, &samples.features, positions, &mut step)
    }

    /// Top classes of heads that read mostly zeros, each by itself; nothing where one does not.
    ///
    /// # Errors
    /// Those of running heads.
    pub(super) fn sparse_tops(
        &self,
        heads: &[&ModelProto],
        samples: &Samples,
        watch: &dyn Watch,
    ) -> Result<Option<Vec<Vec<usize>>>> {
        let Some(held) = &self.held else {
            return Ok(None);
        };
        let (engine, classes) = (&*self.narrow.engine, self.head.scores.classes);
        let (features, positions) = (&samples.features, &samples.positions);
        let mut tops = Vec::with_capacity(heads.len());
        for head in heads {
            let Some(head) = Cuts::alone(head, features, held)? else {
                return Ok(None);
            };
            let mut step = |_| setup::still_wanted(watch);
            tops.extend(head.top(engine, classes, features, positions, &mut step)?);
        }
        Ok(Some(tops))
    }
}
