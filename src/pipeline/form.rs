//! The form of a smaller model: where a selection costs more than the smaller layer behind it
//! saves, another form of the same cut is faster, and only a measurement tells.

use std::{str::FromStr, time::Duration};

use prost::Message;
use serde::Serialize;

use super::{
    draft::{Draft, Workshop, file_bytes},
    rounds,
    watch::Watch,
};
use crate::{
    error::{Error, Result},
    eval,
    onnx::ModelProto,
    prune::{Plan, Source},
};

/// Time for all forms together.
const MEASURED: Duration = Duration::from_secs(12);

/// Which form of the cut is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// Every layer as the budget has it, every channel out of the trunk: the smallest file.
    #[default]
    Smallest,
    /// The one that is measured to be fastest; the smallest unless another is clearly faster.
    Fastest,
}

/// What was chosen among forms, and why.
#[derive(Clone, Debug, Serialize)]
pub struct FormReport {
    /// The form of the output.
    pub used: FormName,
    /// With `fastest`, what was compared; empty where there is one form only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tried: Vec<TriedForm>,
}

/// A form by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FormName {
    /// Everything the budget and exactness let go is gone.
    Smallest,
    /// The same, with channels of the trunk in another order, so that the kept ones lie together and
    /// are selected as a range.
    Neighbours,
    /// The trunk is whole, and the kept features are selected where they enter the head.
    WholeTrunk,
    /// Layers that could only be cut behind a selection are whole; the others are cut.
    WholeLayers,
}

/// One form that was measured.
#[derive(Clone, Debug, Serialize)]
pub struct TriedForm {
    /// Which.
    pub form: FormName,
    /// Bytes of the output.
    pub bytes: u64,
    /// Median time of one run, in seconds.
    pub seconds: f64,
    /// That time divided by the smallest form's; nothing for that one.
    pub ratio: Option<eval::Ratio>,
}

/// A form that could be written.
struct Candidate {
    name: FormName,
    plan: Plan,
    model: ModelProto,
}

/// The draft in the form that is wanted, of at most `max_bytes`.
///
/// # Errors
/// Those of drafts, and of running them.
pub(super) fn choose(
    workshop: &Workshop<'_>,
    draft: Draft,
    wanted: Form,
    max_bytes: Option<u64>,
    watch: &dyn Watch,
) -> Result<(Draft, FormReport)> {
    let alone = |draft| {
        let used = FormName::Smallest;
        let tried = Vec::new();
        Ok((draft, FormReport { used, tried }))
    };
    if wanted == Form::Smallest {
        return alone(draft);
    }
    let mut forms = forms(workshop, &draft, watch)?;
    forms.retain(|form| {
        let bytes = || file_bytes(&form.model, &form.plan);
        form.name == FormName::Smallest || max_bytes.is_none_or(|most| bytes() <= most)
    });
    if forms.len() < 2 {
        return alone(draft);
    }
    let tried = time(workshop, &forms, watch)?;
    let used = fastest(&tried);
    let form = forms.iter().find(|form| form.name == used);
    let draft = match form.filter(|_| used != FormName::Smallest) {
        None => draft,
        Some(form) => workshop.in_form(used).draft(&form.plan, watch)?,
    };
    Ok((draft, FormReport { used, tried }))
}

/// The smallest form and those that differ from it, as large and as fast as their drafts.
fn forms(workshop: &Workshop<'_>, draft: &Draft, watch: &dyn Watch) -> Result<Vec<Candidate>> {
    let mut plans = vec![(FormName::Smallest, draft.plan.clone())];
    if draft.has_smaller_trunk() {
        plans.push((FormName::Neighbours, draft.plan.clone()));
        plans.push((FormName::WholeTrunk, draft.plan.clone()));
    }
    let plan = whole_behind_selections(workshop, &draft.plan);
    if plan != draft.plan && !plan.keeps_all() {
        plans.push((FormName::WholeLayers, plan));
    }
    let mut found: Vec<Candidate> = Vec::new();
    for (name, plan) in plans {
        let model = workshop.in_form(name).outline(&plan, watch)?;
        let is_new = |known: &Candidate| known.model.graph != model.graph;
        if found.iter().all(is_new) {
            found.push(Candidate { name, plan, model });
        }
    }
    Ok(found)
}

/// The plan with every neuron of those layers whose cut begins with a selection.
fn whole_behind_selections(workshop: &Workshop<'_>, plan: &Plan) -> Plan {
    let mut plan = plan.clone();
    for (layer, group) in plan.layers.iter_mut().zip(workshop.groups()) {
        let is_boundary = |source: &Source| matches!(source, Source::Boundary { .. });
        if group.sources.iter().any(is_boundary) {
            layer.keep = (0..layer.width).collect();
        }
    }
    plan
}

fn time(workshop: &Workshop<'_>, forms: &[Candidate], watch: &dyn Watch) -> Result<Vec<TriedForm>> {
    let models: Vec<&ModelProto> = forms.iter().map(|form| &form.model).collect();
    let latencies = rounds::compare(workshop.setup, &models, MEASURED, "timing forms", watch)?;
    let timed = forms.iter().zip(&latencies);
    Ok(timed
        .map(|(form, latency)| TriedForm {
            form: form.name,
            bytes: u64::try_from(form.model.encoded_len()).unwrap_or(u64::MAX),
            seconds: latency.seconds.median,
            ratio: latency.ratio,
        })
        .collect())
}

/// The form with the smallest ratio among those clearly faster than the smallest form, else that.
fn fastest(tried: &[TriedForm]) -> FormName {
    let best = eval::clearly_fastest(tried.iter().map(|one| one.ratio));
    let best = best.and_then(|best| tried.get(best));
    best.map_or(FormName::Smallest, |one| one.form)
}

impl FromStr for Form {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "smallest" => Ok(Self::Smallest),
            "fastest" => Ok(Self::Fastest),
            _ => Err(Error::Argument {
                name: "--form",
                what: format!("{text:?} is neither smallest nor fastest"),
            }),
        }
    }
}
