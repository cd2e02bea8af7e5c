//! The form of a smaller model: where a selection costs more than the smaller layer behind it
//! saves, another form of the same cut is faster, and only a measurement tells.

mod choice;

use std::{str::FromStr, time::Duration};

use prost::Message;
use serde::Serialize;

use self::choice::Times;
use super::{
    draft::{Draft, Finished, Workshop, file_bytes},
    proof::Verify,
    rounds,
    speed::SpeedReport,
    watch::Watch,
};
use crate::{
    engine::{Engine, EngineInfo},
    error::{Error, Result},
    eval::{Effort, Ratio},
    onnx::ModelProto,
    prune::width,
};

/// Time for all forms together, in each engine.
const MEASURED: Duration = Duration::from_secs(12);

/// The same where one run of the original takes no longer than [`SHORT`]: tens of sittings fit.
const MEASURED_SHORT: Duration = Duration::from_secs(4);
const SHORT: Duration = Duration::from_millis(1);

/// Which form of the cut is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// Every layer as the budget has it, every channel out of the trunk: the smallest file.
    #[default]
    Smallest,
    /// The one that is measured to be fastest; the smallest unless another is clearly faster, or it may
    /// be slower than the original.
    Fastest,
}

/// What was chosen among forms, and why. All of them compute the same.
#[derive(Clone, Debug, Serialize)]
pub struct FormReport {
    /// The form of the output.
    pub used: FormName,
    /// Layers that are as wide as before, with zeros where their dropped neurons are read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub same_width: Vec<String>,
    /// With `fastest`, what was compared: in the engine of the run, and, where the result has to be
    /// proved in both, in the other. Empty where there is one form only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub timed: Vec<TimedForms>,
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
    /// Layers that could only be cut behind a selection are as wide as before: the weights that read
    /// their dropped neurons are zero. The others are cut.
    SameWidth,
}

/// The original and all forms, measured in the same rounds.
#[derive(Clone, Debug, Serialize)]
pub struct TimedForms {
    /// What ran them.
    pub engine: EngineInfo,
    /// Samples per run.
    pub batch: usize,
    /// Rounds that were run.
    pub rounds: usize,
    /// Sessions of each model that they were run in.
    pub sessions: usize,
    /// Median time of one run of the original, in seconds.
    pub original: f64,
    /// One entry for each form; the first is the smallest.
    pub forms: Vec<TimedForm>,
}

/// One form that was measured.
#[derive(Clone, Debug, Serialize)]
pub struct TimedForm {
    /// Which.
    pub form: FormName,
    /// Bytes of the model.
    pub bytes: u64,
    /// Median time of one run, in seconds.
    pub seconds: f64,
    /// That time divided by the original's.
    pub ratio: Option<Ratio>,
}

impl FormReport {
    /// The output's time beside the original's, in the engine of the run; nothing where no other form
    /// was there to be compared with.
    pub(super) fn speed(&self) -> Option<SpeedReport> {
        let timed = self.timed.first()?;
        let used = timed.forms.iter().find(|one| one.form == self.used)?;
        Some(SpeedReport {
            engine: timed.engine.clone(),
            batch: timed.batch,
            rounds: timed.rounds,
            sessions: timed.sessions,
            before: timed.original,
            after: used.seconds,
            ratio: used.ratio?,
            faster: used.ratio?.is_faster(),
            slower: used.ratio?.is_slower(),
            required: false,
        })
    }
}

/// A form that could be written.
struct Candidate {
    name: FormName,
    /// Nothing: as the draft is.
    finished: Option<Finished>,
}

impl Candidate {
    fn model<'c>(&'c self, draft: &'c Draft) -> &'c ModelProto {
        let finished = self.finished.as_ref();
        finished.map_or(draft.output(), |finished| &finished.model)
    }
}

/// The draft in the form that is wanted, of at most `max_bytes`; in both engines where it has to be
/// proved in both.
///
/// # Errors
/// Those of rewriting, and of running the models.
pub(super) fn choose(
    workshop: &Workshop<'_>,
    draft: Draft,
    wanted: Form,
    (max_bytes, verify): (Option<u64>, Verify),
    watch: &dyn Watch,
) -> Result<(Draft, FormReport)> {
    let mut report = FormReport {
        used: FormName::Smallest,
        same_width: Vec::new(),
        timed: Vec::new(),
    };
    if wanted == Form::Smallest {
        return Ok((draft, report));
    }
    let mut forms = forms(workshop, &draft, watch)?;
    forms.retain(|form| {
        let bytes = || file_bytes(form.model(&draft), &draft.plan);
        form.name == FormName::Smallest || max_bytes.is_none_or(|most| bytes() <= most)
    });
    if forms.len() < 2 {
        return Ok((draft, report));
    }
    let names: Vec<FormName> = forms.iter().map(|form| form.name).collect();
    let models: Vec<&ModelProto> = forms.iter().map(|form| form.model(&draft)).collect();
    let mut times = Vec::new();
    let mut time = |engine: &dyn Engine| {
        let (found, timed) = timed(workshop, engine, &names, &models, watch)?;
        times.push(found);
        report.timed.push(timed);
        Ok::<_, Error>(())
    };
    match verify {
        Verify::RequireBoth => {
            for selected in workshop.setup.all_engines(watch)? {
                time(&*selected.engine)?;
            }
        }
        Verify::Always | Verify::Skip => time(workshop.setup.engine())?,
    }
    let used = choice::choose(&names, &times);
    report.used = names[used];
    if report.used == FormName::SameWidth {
        let selected = width::selected(&workshop.groups(), &draft.plan);
        report.same_width = selected.into_iter().map(str::to_owned).collect();
    }
    let draft = match forms.swap_remove(used).finished {
        None => draft,
        Some(finished) => draft.with_form(finished),
    };
    Ok((draft, report))
}

/// The smallest form and those that differ from it.
fn forms(workshop: &Workshop<'_>, draft: &Draft, watch: &dyn Watch) -> Result<Vec<Candidate>> {
    let mut names = Vec::new();
    if draft.has_smaller_trunk() || draft.has_selections() {
        names.push(FormName::Neighbours);
    }
    if draft.has_smaller_trunk() {
        names.push(FormName::WholeTrunk);
    }
    if !width::selected(&workshop.groups(), &draft.plan).is_empty() {
        names.push(FormName::SameWidth);
    }
    let mut found = vec![Candidate {
        name: FormName::Smallest,
        finished: None,
    }];
    for name in names {
        let form = Candidate {
            name,
            finished: Some(workshop.in_form(name).finished(draft, watch)?),
        };
        let graph = &form.model(draft).graph;
        let is_new = |known: &Candidate| known.model(draft).graph != *graph;
        if found.iter().all(is_new) {
            found.push(form);
        }
    }
    Ok(found)
}

/// Times the original and all forms in one engine.
fn timed(
    workshop: &Workshop<'_>,
    engine: &dyn Engine,
    names: &[FormName],
    models: &[&ModelProto],
    watch: &dyn Watch,
) -> Result<(Times, TimedForms)> {
    let setup = workshop.setup;
    watch.stage("loading forms", None);
    let input = rounds::input(setup)?;
    let mut all = vec![setup.graph.model()];
    all.extend(models);
    let mut loaded = rounds::load_in(engine, setup, &all, &input)?;
    let effort = match loaded[0].run_seconds()? < SHORT.as_secs_f64() {
        true => MEASURED_SHORT,
        false => MEASURED,
    };
    let how = (Effort::Time(effort), setup.options.seed);
    let found = rounds::rounds(&mut loaded, how, "timing forms", watch)?;
    let times = Times::of(&found);
    let forms = names.iter().zip(models).zip(found.models.iter().skip(1));
    let forms = forms.map(|((&form, model), latency)| TimedForm {
        form,
        bytes: u64::try_from(model.encoded_len()).unwrap_or(u64::MAX),
        seconds: latency.seconds.median,
        ratio: latency.ratio,
    });
    let timed = TimedForms {
        engine: engine.info().clone(),
        batch: setup.input.fixed_batch().unwrap_or(1),
        rounds: found.rounds,
        sessions: found.sessions,
        original: found.models[0].seconds.median,
        forms: forms.collect(),
    };
    Ok((times, timed))
}

impl std::fmt::Display for FormName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Smallest => "smallest",
            Self::Neighbours => "neighbours",
            Self::WholeTrunk => "whole-trunk",
            Self::SameWidth => "same-width",
        })
    }
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
