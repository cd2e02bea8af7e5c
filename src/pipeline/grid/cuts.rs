//! The heads of many cells before their repair, measured together.

use super::{Grid, Samples, Watch, setup};
use crate::{
    error::Result,
    eval::{self, CutHead, Cuts},
    graph::Graph,
    prune::Plan,
    repair::Repair,
};

impl Grid<'_> {
    /// The heads cut to these plans, ready to be measured side by side; nothing where they have no
    /// first layer whose products could be shared, nor on a device: these products are the CPU's.
    ///
    /// # Errors
    /// Those of cutting.
    pub(crate) fn cuts(&self, plans: &[Plan], samples: &Samples) -> Result<Option<Cuts>> {
        if self.narrow.engine.info().precision.is_some() {
            return Ok(None);
        }
        let Some(first) = eval::first_layer(&self.original, &samples.features)? else {
            return Ok(None);
        };
        let graph = Graph::new(&self.original)?;
        let read = graph.value(&first.input).map(|feature| graph.uses(feature));
        let node = read
            .and_then(|uses| uses.first())
            .map(|reading| reading.node);
        let made = node.and_then(|node| graph.output(node, 0));
        // The same node of the whole model, which the groups are of.
        let whole = &self.setup.graph;
        let made = made.and_then(|value| whole.value(graph.name(value)));
        let Some(node) = made.and_then(|value| whole.producer(value)) else {
            return Ok(None);
        };
        let groups = self.groups();
        let workshop = self.workshop(Repair::None, None, &*self.narrow.engine);
        let mut heads = Vec::with_capacity(plans.len());
        for plan in plans {
            let kept = |axis: usize| {
                let entries = plan.entries_of(&groups, node, axis);
                entries.map_or_else(|| (0..first.shape[axis]).collect(), |(_, kept)| kept)
            };
            heads.push(CutHead {
                inputs: kept(first.input_axis),
                outputs: kept(first.output_axis),
                model: workshop.cut_head(plan)?,
            });
        }
        Cuts::new(self.original.clone(), heads, &samples.features)
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
}
