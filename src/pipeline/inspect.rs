//! What a model is made of, what can be cut where, and what that can gain at best.

mod costs;
mod cuts;
mod diff;
mod parts;
mod times;
mod verdict;

use std::{collections::BTreeMap, path::PathBuf};

use prost::Message;
use serde::Serialize;

use self::{costs::Costs, cuts::Cut, parts::Nodes};
pub use self::{
    cuts::Reach,
    diff::{DiffOptions, DiffReport, LayerDiff, PortDiff, WeightDiff, diff},
    parts::{Part, PartName},
};
use super::{
    parts::{FileReport, HeadReport, LayerReport},
    setup::{self, BatchSize, Setup, SourceOptions},
    watch::Watch,
};
use crate::{
    engine::EngineInfo,
    error::{Error, Result},
    eval::Ratio,
    head::{Head, Layer},
    onnx::Model,
    prune::{Budget, Keep, Source, trunk},
};

/// Schema of [`InspectReport`].
const SCHEMA: &str = "onnx-prune/inspect/v1";

/// What an inspection can be told.
#[derive(Clone, Debug)]
pub struct InspectOptions {
    /// The model.
    pub input: PathBuf,
    /// How many neurons the tried cut keeps; half of them by default.
    pub keep: Budget,
    /// Whether times are measured.
    pub timing: bool,
    /// Engine, and samples per timed run (1 by default, or what the model insists on); data is not
    /// looked at.
    pub source: SourceOptions,
}

impl InspectOptions {
    /// Half of the neurons, with times.
    pub fn new(input: impl Into<PathBuf>) -> Self {
        Self {
            input: input.into(),
            keep: Budget::uniform(Keep::Share(0.5)),
            timing: true,
            source: SourceOptions::default(),
        }
    }
}

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct InspectReport {
    /// Name and version of this layout.
    pub schema: &'static str,
    /// The model.
    pub input: FileReport,
    /// What measured, and what showed sizes that the file does not declare.
    pub engine: EngineInfo,
    /// Samples per timed run.
    pub batch: usize,
    /// The head.
    pub head: HeadReport,
    /// Its layers, from the features to the scores.
    pub layers: Vec<InspectedLayer>,
    /// What the parts of the model hold, the whole last.
    pub parts: Vec<Part>,
    /// Contractions that are not counted among the multiply-accumulates, by operator.
    pub not_counted: BTreeMap<String, usize>,
    /// How many neurons the tried cuts keep.
    pub keep: Budget,
    /// The tried cuts: the head alone, and, where that removes more, the trunk as well.
    pub gains: Vec<Gain>,
    /// Where the removal of channels in the trunk stops, and why.
    pub stops: Vec<trunk::Stop>,
    /// Whether the last of the gains is worth having.
    pub worth: bool,
    /// The same in words.
    pub verdict: String,
    /// What keeps its width, what was not measured, and why.
    pub notes: Vec<String>,
}

/// One layer of the head.
#[derive(Clone, Debug, Serialize)]
pub struct InspectedLayer {
    /// Its name and width, how many neurons the last cut keeps, and how it was recognised.
    #[serde(flatten)]
    pub layer: LayerReport,
    /// The operators whose weights make the neurons, and shrink.
    pub made_by: Vec<String>,
    /// The operators whose weights read the neurons, and shrink.
    pub read_by: Vec<String>,
    /// Values that keep their width, and why; what reads them gets a selection.
    pub boundaries: Vec<trunk::Stop>,
    /// Whole channels of the trunk, where the neurons are positions of channels.
    pub channels: Option<usize>,
}

/// What remains after a cut.
#[derive(Clone, Debug, Serialize)]
pub struct Gain {
    /// How far the cut goes.
    pub reach: Reach,
    /// Neurons that are left in each layer.
    pub kept: Vec<usize>,
    /// Values of the floating-point weights.
    pub parameters: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// Multiply-accumulates per sample.
    pub macs: u64,
    /// Its time divided by that of the model as it is; nothing without timing.
    pub ratio: Option<Ratio>,
    /// Weights of the trunk that shrink.
    pub removed: Vec<trunk::Removal>,
}

/// Looks at a model, cuts it on trial, and measures both.
///
/// Which neurons stay in a trial makes no difference to size and time, so nothing is scored.
///
/// # Errors
/// [`Error::NoHead`] where there is none; [`Error::Argument`] for a budget that does not fit;
/// those of reading a model and opening an engine.
pub fn inspect(options: &InspectOptions, watch: &dyn Watch) -> Result<InspectReport> {
    let model = setup::load(&options.input)?;
    let mut setup = match options.timing {
        true => Setup::new(&model, &options.source, watch)?,
        false => Setup::thrifty(&model, &options.source, watch)?,
    };
    let own = setup.input.fixed_batch();
    let batch = match options.source.batch {
        BatchSize::Of(batch) => batch,
        BatchSize::Usual | BatchSize::Fitting => own.unwrap_or(1),
    };
    if own.is_some_and(|own| own != batch) {
        // Says so.
        setup.batch_size()?;
    }
    let head = setup.find_head(false, watch)?;
    let cuts = cuts::make(&setup, &head, &options.keep)?;
    let nodes = Nodes::of(&setup, &head, cuts.last());
    let (begin, _) = nodes.border(&setup.graph, &head);
    let costs = Costs::of(&setup, &begin, watch)?;
    let file = FileReport::from(&model);
    let mut parts = nodes.parts(&setup, &costs, &file);
    let mut gains = Vec::new();
    for cut in &cuts {
        gains.push(gain(cut, &model, &costs)?);
    }
    let mut notes = head.notes.clone();
    notes.extend(costs.note.clone());
    if options.timing {
        match times::measure(&setup, &head, &costs, (&cuts, &nodes), batch, watch) {
            Ok(times) => {
                fill(&mut parts, &times);
                for (gain, ratio) in gains.iter_mut().zip(times.cuts) {
                    gain.ratio = ratio;
                }
            }
            Err(Error::Engine { engine, what }) => {
                notes.push(format!("no times: {engine} cannot run the model: {what}"));
            }
            Err(error) => return Err(error),
        }
    }
    let deepest = gains.last().expect("the head alone is always cut");
    let (worth, verdict) = verdict::verdict(&parts, deepest, &spelled(&options.keep));
    Ok(InspectReport {
        schema: SCHEMA,
        engine: setup.engine_used(watch),
        batch,
        layers: layers(&setup, &head, deepest),
        head: HeadReport::new(&setup, &head),
        parts,
        not_counted: not_counted(&setup, &costs),
        keep: options.keep.clone(),
        stops: cuts
            .into_iter()
            .next_back()
            .map(|cut| cut.stops)
            .unwrap_or_default(),
        gains,
        worth,
        verdict,
        notes,
        input: file,
    })
}

fn gain(cut: &Cut, model: &Model, costs: &Costs) -> Result<Gain> {
    let lost = model
        .proto
        .encoded_len()
        .saturating_sub(cut.model.encoded_len());
    Ok(Gain {
        reach: cut.reach,
        kept: cut.kept.clone(),
        parameters: super::parts::parameters(&cut.model),
        bytes: model.file_bytes().saturating_sub(lost as u64),
        macs: costs.of_cut(&cut.model)?,
        ratio: None,
        removed: cut.removed.clone(),
    })
}

/// The rest takes what the whole takes beyond the other parts.
fn fill(parts: &mut [Part], times: &times::Times) {
    let rest = times.whole - times.head - times.removable.unwrap_or_default();
    for part in parts {
        part.seconds = match part.part {
            PartName::Head => Some(times.head),
            PartName::Removable => times.removable,
            PartName::Rest => Some(rest.max(0.0)),
            PartName::Whole => Some(times.whole),
        };
    }
}

fn layers(setup: &Setup<'_>, head: &Head, gain: &Gain) -> Vec<InspectedLayer> {
    let site = |node| setup.graph.site(node).to_string();
    let layer = |(layer, &kept): (&Layer, &usize)| {
        let channels = trunk::channels(&setup.graph, &setup.shapes, &layer.group);
        let boundaries = layer
            .group
            .sources
            .iter()
            .filter_map(|source| match source {
                Source::Boundary { value, why, .. } => Some(trunk::Stop {
                    value: setup.graph.name(*value).to_owned(),
                    why: why.clone(),
                }),
                Source::Layer(_) => None,
            });
        InspectedLayer {
            layer: LayerReport {
                name: layer.name.clone(),
                width: layer.width(),
                requested: kept,
                kept,
                recognised: layer.recognised.clone(),
            },
            made_by: layer.group.layers().map(site).collect(),
            read_by: layer
                .group
                .sinks
                .iter()
                .map(|sink| site(sink.at.node))
                .collect(),
            boundaries: boundaries.collect(),
            channels: channels
                .and_then(|units| units.into_iter().max())
                .map(|last| last + 1),
        }
    };
    head.layers.iter().zip(&gain.kept).map(layer).collect()
}

/// Contractions without a rule, and those with one whose sizes are not known.
fn not_counted(setup: &Setup<'_>, costs: &Costs) -> BTreeMap<String, usize> {
    let mut found = costs.macs.not_counted.clone();
    for &node in &costs.macs.unknown {
        *found.entry(setup.graph.site(node).op_type).or_default() += 1;
    }
    found
}

/// `0.5`, `512`, or `0.5, fc1=512`.
fn spelled(budget: &Budget) -> String {
    let keep = |keep: &Keep| match keep {
        Keep::Share(share) => share.to_string(),
        Keep::Count(count) => count.to_string(),
    };
    let mut parts = vec![keep(&budget.default)];
    parts.extend(
        budget
            .layers
            .iter()
            .map(|(name, value)| format!("{name}={}", keep(value))),
    );
    parts.join(", ")
}
