//! How long the parts take, and the model after a cut: all in the same rounds.

use std::time::Duration;

use super::{costs::Costs, cuts::Cut, parts::Nodes};
use crate::{
    error::Result,
    eval::{Effort, Ratio},
    head::Head,
    onnx::Tensor,
    pipeline::{loaded::Loaded, rounds, section::Section, setup::Setup, watch::Watch},
};

/// Time for all parts together: with vgg16 on two cores six rounds take longer, with small models
/// there are the most rounds there can be.
const BUDGET: Duration = Duration::from_secs(4);

/// What was measured.
pub(super) struct Times {
    /// Seconds of the whole model.
    pub(super) whole: f64,
    /// Seconds of the head alone.
    pub(super) head: f64,
    /// Seconds of the part of the trunk that loses channels, where there is one.
    pub(super) removable: Option<f64>,
    /// Of each cut model, its time divided by that of the whole one.
    pub(super) cuts: Vec<Option<Ratio>>,
}

/// Measures the model, its parts and its cut versions on a batch of synthetic samples.
pub(super) fn measure(
    setup: &Setup<'_>,
    head: &Head,
    costs: &Costs,
    (cuts, nodes): (&[Cut], &Nodes),
    batch: usize,
    watch: &dyn Watch,
) -> Result<Times> {
    watch.stage("loading", None);
    let input = rounds::batch(setup, batch)?;
    let mut models = vec![setup.graph.model()];
    models.extend(cuts.iter().map(|cut| &cut.model));
    let mut loaded = rounds::load(setup, &models, &input)?;
    let section = |begin: &[_], end: &[_]| Section::new(setup, &costs.shapes, begin, end);
    let mut sections = vec![section(&head.features, &[head.scores.value])?];
    let (begin, end) = nodes.border(&setup.graph, head);
    if !end.is_empty() {
        sections.push(section(&begin, &end)?);
    }
    for section in &sections {
        let values: Vec<(String, Tensor)> = section.feed(setup, &costs.shapes, input.clone())?;
        loaded.push(Loaded::new(setup.engine(), &section.model, values)?);
    }
    let how = (Effort::Time(BUDGET), setup.options.seed);
    let found = rounds::rounds(&mut loaded, how, "measuring", watch)?.models;
    let seconds = |index: usize| found.get(index).map(|model| model.seconds.median);
    let ratios = found.iter().skip(1).take(cuts.len());
    Ok(Times {
        whole: seconds(0).unwrap_or_default(),
        head: seconds(1 + cuts.len()).unwrap_or_default(),
        removable: seconds(2 + cuts.len()),
        cuts: ratios.map(|model| model.ratio).collect(),
    })
}
