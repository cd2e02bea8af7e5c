//! From a head to a draft: scores, a plan or a search for one, with neurons or whole channels as
//! what stays or goes.

use std::str::FromStr;

use prost::Message;
use serde::Serialize;

use super::{
    align::{self, Align, AlignReport},
    draft::{Draft, Workshop},
    figures::{self, Reference},
    form::{self, FormReport},
    level::{self, Found},
    material::{Material, Samples},
    prune::{self, PruneOptions},
    score::{self, View},
    search::{Limit, Metric, SearchReport},
    setup::Setup,
    transfer::Source,
    watch::Watch,
};
use crate::{
    error::{Error, Result},
    head::Head,
    prune::{Budget, Keep, Plan, trunk},
    sensitivity::Scored,
};

/// What stays or goes as one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Granularity {
    /// Each neuron for itself.
    #[default]
    Neuron,
    /// All positions of a channel of a flatten layer, so that its filter can go too.
    Channel,
    /// Both are tried; of two that agree equally well with the original, the smaller file.
    Auto,
}

/// A draft, and what led to it.
pub(super) struct Attempt {
    /// The head, with the units that were chosen among.
    pub(super) head: Head,
    pub(super) scored: Scored,
    pub(super) draft: Draft,
    pub(super) search: Option<SearchReport>,
    /// What stayed or went as one: never [`Granularity::Auto`].
    pub(super) granularity: Granularity,
    pub(super) align: AlignReport,
    pub(super) form: FormReport,
    /// The plan without rounding.
    pub(super) requested: Plan,
}

/// Makes the draft that the options ask for, by scores that are `known` or are found here.
///
/// # Errors
/// [`Error::Argument`] where whole channels are asked for and no layer holds several positions of
/// one; those of scoring and of a draft.
pub(super) fn attempt(
    setup: &Setup<'_>,
    head: Head,
    options: &PruneOptions,
    material: Option<&Material>,
    source: Option<&Source<'_>>,
    known: Option<Scored>,
    watch: &dyn Watch,
) -> Result<Attempt> {
    let one = |head: Head, granularity| {
        let scored = match &known {
            Some(known) => known.clone(),
            None => scores(setup, &head, options, material, source, watch)?,
        };
        one(setup, (head, scored), granularity, options, material, watch)
    };
    let of_neurons = |head| one(head, Granularity::Neuron);
    let of_channels = |head| one(head, Granularity::Channel);
    let channels = match options.granularity {
        Granularity::Neuron => None,
        Granularity::Channel | Granularity::Auto => with_channels(setup, &head),
    };
    match (options.granularity, channels) {
        (Granularity::Channel, Some(channels)) => of_channels(channels),
        (Granularity::Channel, None) => Err(Error::Argument {
            name: "--granularity",
            what: "no layer of this head holds several positions of a channel, so there are no channels to choose among; leave the flag out"
                .to_owned(),
        }),
        (Granularity::Auto, Some(channels)) => {
            let (neurons, channels) = (of_neurons(head)?, of_channels(channels)?);
            better(setup, [neurons, channels], options, material, watch)
        }
        (Granularity::Neuron, _) | (Granularity::Auto, None) => of_neurons(head),
    }
}

/// The head with the channels of its flatten layers as units; nothing where it has none.
pub(super) fn with_channels(setup: &Setup<'_>, head: &Head) -> Option<Head> {
    let mut head = head.clone();
    for layer in &mut head.layers {
        let units = trunk::channels(&setup.graph, &setup.shapes, &layer.group);
        // A single channel leaves nothing to choose.
        let units = units.filter(|units| units.iter().any(|&unit| unit != units[0]));
        layer.units = units.map(Into::into);
    }
    head.layers
        .iter()
        .any(|layer| layer.units.is_some())
        .then_some(head)
}

/// What the neurons are worth, by the classes that choose.
fn scores(
    setup: &Setup<'_>,
    head: &Head,
    options: &PruneOptions,
    material: Option<&Material>,
    source: Option<&Source<'_>>,
    watch: &dyn Watch,
) -> Result<Scored> {
    let samples = material.map(Material::calibration);
    let (score, of) = (&options.score, options.of);
    match source {
        None => score::scores(setup, View::of(setup, head), score, of, samples, watch),
        Some(source) => {
            let head = source.head(head);
            // The labels are of other classes.
            let samples = samples.map(Samples::without_labels);
            score::scores(setup, source.view(&head), score, of, samples, watch)
        }
    }
}

fn one(
    setup: &Setup<'_>,
    (head, scored): (Head, Scored),
    granularity: Granularity,
    options: &PruneOptions,
    material: Option<&Material>,
    watch: &dyn Watch,
) -> Result<Attempt> {
    let workshop = Workshop::new(setup, &head, material, options)?;
    let mut budget = options.budget.clone();
    let (align, draft, search) = match &options.limit {
        None => {
            let align = align::settle(&workshop, options.align, &budget, &scored.scores, watch)?;
            budget.align = align.used;
            watch.stage("planning", None);
            let plan = prune::plan(&budget, &workshop.groups(), &scored.scores)?;
            (align, workshop.draft(&plan, watch)?, None)
        }
        Some(limit) => {
            let (align, found) =
                searched(&workshop, limit, &mut budget, options.align, &scored, watch)?;
            (align, found.draft, Some(found.report))
        }
    };
    let max_bytes = options.limit.as_ref().and_then(|limit| limit.max_bytes);
    let (draft, form) = form::choose(
        &workshop,
        draft,
        options.form,
        (max_bytes, options.verify),
        watch,
    )?;
    budget.align = 1;
    let requested = budget.select(&scored.scores)?;
    Ok(Attempt {
        align,
        form,
        requested,
        head,
        scored,
        draft,
        search,
        granularity,
    })
}

/// Searches for a level; widths are timed at the level found, and where others are faster, the level
/// is searched for again with those, since they change what fits. `budget` becomes that of the result.
fn searched(
    workshop: &Workshop<'_>,
    limit: &Limit,
    budget: &mut Budget,
    align: Align,
    scored: &Scored,
    watch: &dyn Watch,
) -> Result<(AlignReport, Found)> {
    let mut search = |align| {
        budget.align = align;
        let found = level::find(workshop, limit, budget, scored, workshop.material, watch)?;
        budget.default = Keep::Share(found.report.keep);
        let timed = budget.clone();
        Ok::<_, Error>((found, timed))
    };
    let (found, timed) = search(align.first())?;
    let align = align::settle(workshop, align, &timed, &scored.scores, watch)?;
    let found = match align.used == timed.align {
        true => found,
        false => search(align.used)?.0,
    };
    Ok((align, found))
}

/// The smaller file, unless it agrees less with the original by more than one standard error on
/// samples that nothing was fitted to. Without samples, the smaller file.
fn better(
    setup: &Setup<'_>,
    attempts: [Attempt; 2],
    options: &PruneOptions,
    material: Option<&Material>,
    watch: &dyn Watch,
) -> Result<Attempt> {
    let [one, other] = attempts;
    let bytes = |attempt: &Attempt| attempt.draft.output().encoded_len();
    let (smaller, larger) = if bytes(&one) < bytes(&other) {
        (one, other)
    } else {
        (other, one)
    };
    let Some(material) = material.filter(|material| !material.check.is_empty()) else {
        return Ok(smaller);
    };
    let samples = material.check();
    let workshop = Workshop::new(setup, &larger.head, Some(material), options)?;
    let top = |attempt: &Attempt| figures::top_of(&workshop, attempt.draft.head(), &samples, watch);
    let reference = Reference::new(&workshop, &samples, watch)?;
    let (tops, of_smaller) = (top(&larger)?, top(&smaller)?);
    let (lost, _) = reference.drop_of(&of_smaller, Metric::Agreement);
    let (allowed, error) = reference.drop_of(&tops, Metric::Agreement);
    watch.note(&format!(
        "choosing among {}s gives the smaller file; it changes {lost:.2} % of the classes, the other {allowed:.2} % (± {error:.2})",
        smaller.granularity
    ));
    Ok(if lost <= allowed + error {
        smaller
    } else {
        larger
    })
}

impl std::fmt::Display for Granularity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Neuron => "neuron",
            Self::Channel => "channel",
            Self::Auto => "auto",
        })
    }
}

impl FromStr for Granularity {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let all = [Self::Neuron, Self::Channel, Self::Auto];
        let found = all
            .into_iter()
            .find(|granularity| granularity.to_string() == text);
        found.ok_or_else(|| Error::Argument {
            name: "--granularity",
            what: format!("{text:?} is none of neuron, channel, auto"),
        })
    }
}
