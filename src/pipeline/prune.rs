//! The main job: a smaller model whose head has lost its least sensitive neurons, and whose other
//! neurons have taken over what they can.

mod baselines;

use std::{cell::OnceCell, path::PathBuf};

use serde::Serialize;

use super::{
    align::{Align, AlignReport},
    attempt::{self, Attempt, Granularity},
    draft::{Trunk, TrunkReport, Workshop},
    enough::{self, EnoughReport},
    figures::{self, Worth},
    form::{Form, FormReport},
    material::{Material, Purpose},
    metadata::{self, Facts},
    parts::{DataReport, FileReport, HeadReport, LayerReport},
    proof::{self, Verify},
    score::{self, ScoreReport},
    search::{Limit, SearchReport},
    setup::{self, Setup, SourceOptions},
    speed::{self, Speed, SpeedReport},
    training::{Training, TrainingReport},
    transfer::{self, Learning, ScoreWith, Source, TransferOptions, TransferReport},
    watch::Watch,
    weights,
};
use crate::{
    engine::EngineInfo,
    error::{Error, Result},
    eval::Verification,
    head::Head,
    onnx::{Model, ModelProto, Output, Overwrite},
    prune::{Budget, Group, Keep, Plan, Scores},
    repair::{Certificate, LayerRepair, Repair},
    sensitivity::{self, Of, ScoreOptions},
};

pub use baselines::Baseline;

/// Schema of [`PruneReport`].
const SCHEMA: &str = "onnx-prune/prune/v1";

/// Everything a pruning run can be told.
#[derive(Clone, Debug)]
pub struct PruneOptions {
    /// The model to prune.
    pub input: PathBuf,
    /// Where the smaller one goes.
    pub output: PathBuf,
    /// Whether an existing output may be replaced.
    pub overwrite: Overwrite,
    /// Data and engine.
    pub source: SourceOptions,
    /// How neurons are scored.
    pub score: ScoreOptions,
    /// A file with scores ([`super::score()`], [`super::merge_scores`]), in place of computing some.
    pub scores: Option<PathBuf>,
    /// Which class scores are differentiated; probabilities with data, logits without, by default.
    pub of: Option<Of>,
    /// How many neurons stay. With a limit, only its scope counts.
    pub budget: Budget,
    /// What the result may cost, in place of how many neurons stay.
    pub limit: Option<Limit>,
    /// How the kept neurons take over for the dropped ones; by default reweighted with data, not at
    /// all without.
    pub repair: Option<Repair>,
    /// How the smaller head is trained, if it is.
    pub training: Option<Training>,
    /// What stays or goes as one.
    pub granularity: Granularity,
    /// How the numbers of kept neurons or channels are rounded.
    pub align: Align,
    /// What becomes of channels of the trunk that only dropped neurons read.
    pub trunk: Trunk,
    /// Which form of the cut is written.
    pub form: Form,
    /// Whether the output has to be faster than the original.
    pub speed: Speed,
    /// Whether the model gets a last layer for other classes first.
    pub transfer: Option<TransferOptions>,
    /// Whether random and weight-norm choices are measured beside the result.
    pub baselines: bool,
    /// How the result is proved.
    pub verify: Verify,
}

impl PruneOptions {
    /// Keeps half of every layer, with all else at its default.
    pub fn new(input: impl Into<PathBuf>, output: impl Into<PathBuf>) -> Self {
        Self {
            input: input.into(),
            output: output.into(),
            overwrite: Overwrite::Refuse,
            source: SourceOptions::default(),
            score: ScoreOptions::default(),
            scores: None,
            of: None,
            budget: Budget::uniform(Keep::Share(0.5)),
            limit: None,
            repair: None,
            training: None,
            granularity: Granularity::default(),
            align: Align::To(1),
            trunk: Trunk::Exact,
            form: Form::default(),
            speed: Speed::default(),
            transfer: None,
            baselines: false,
            verify: Verify::Always,
        }
    }

    fn has_data(&self) -> bool {
        self.source.data.is_some()
    }

    /// The repair that applies.
    pub(super) fn repair(&self) -> Repair {
        self.repair.unwrap_or(match self.has_data() {
            true => Repair::Reweighted,
            false => Repair::None,
        })
    }

    /// Whether any weight may become another than what the cut left.
    fn changes_weights(&self) -> bool {
        self.repair() != Repair::None || self.training.is_some()
    }

    /// Whether figures on samples are wanted.
    fn measures(&self) -> bool {
        self.has_data() && (self.verify != Verify::Skip || self.limit.is_some() || self.baselines)
    }

    /// Whether samples are scored.
    fn scores_samples(&self) -> bool {
        self.scores.is_none()
            && self.score.criterion.needs_samples()
            && !score::takes_bounds(&self.source, &self.score, self.of)
    }

    /// Whether features are needed whatever the criterion asks for.
    fn needs_features(&self) -> bool {
        self.changes_weights() || self.measures() || self.transfer.is_some()
    }

    fn check(&self) -> Result<()> {
        let needs_data = |name, what: &str| Error::Argument {
            name,
            what: format!("{what}; give some with --data"),
        };
        if self.scores.is_some() {
            let refuse = |name, what: &str| Error::Argument {
                name,
                what: format!("{what}; leave out --scores"),
            };
            if self.granularity != Granularity::Neuron {
                return Err(refuse("--granularity", "the scores are those of neurons"));
            }
            if self.transfer.is_some() {
                return Err(refuse("--classes", "the scores are those of other classes"));
            }
            if self.source.until_stable {
                return Err(refuse(
                    "--samples",
                    "auto has no effect on scores that are there",
                ));
            }
        }
        if self.source.until_stable && self.transfer.is_some() {
            return Err(Error::Argument {
                name: "--samples",
                what: "auto looks at scores before there are new --classes; give a number"
                    .to_owned(),
            });
        }
        self.check_checkpoint()?;
        if self.has_data() {
            return Ok(());
        }
        if self.repair.is_some_and(|repair| repair != Repair::None) {
            return Err(needs_data("--repair", "is solved on real samples"));
        }
        if self.training.is_some() {
            return Err(needs_data("--epochs", "training needs real samples"));
        }
        if self
            .limit
            .as_ref()
            .is_some_and(|limit| limit.max_drop.is_some())
        {
            return Err(needs_data("--max-drop", "is measured on real samples"));
        }
        if self.baselines {
            return Err(needs_data("--baselines", "is measured on real samples"));
        }
        if self.transfer.is_some() {
            return Err(needs_data("--classes", "is fitted to real samples"));
        }
        Ok(())
    }
}

impl PruneOptions {
    /// A checkpoint is of one training run: that of a draft would be taken for that of another.
    fn check_checkpoint(&self) -> Result<()> {
        let training = self.training.as_ref();
        if training.is_none_or(|training| training.options.checkpoint.is_none()) {
            return Ok(());
        }
        let several = [
            ("--max-drop or --max-bytes", self.limit.is_some()),
            ("--baselines", self.baselines),
            ("--granularity auto", self.granularity == Granularity::Auto),
        ];
        match several.into_iter().find(|(_, given)| *given) {
            Some((name, _)) => Err(Error::Argument {
                name: "--checkpoint",
                what: format!(
                    "keeps the state of one training, and {name} trains several heads; leave one of them out"
                ),
            }),
            None => Ok(()),
        }
    }
}

/// What a pruning run did.
#[derive(Clone, Debug, Serialize)]
pub struct PruneReport {
    /// Name and version of this layout.
    pub schema: &'static str,
    /// The original.
    pub input: FileReport,
    /// The smaller model; `bytes` is 0 when nothing was written.
    pub output: FileReport,
    /// What computed the scores.
    pub engine: EngineInfo,
    /// The samples.
    pub data: DataReport,
    /// How the neurons were scored.
    pub score: sensitivity::ScoreReport,
    /// How the number of samples was found, where these were to tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enough: Option<EnoughReport>,
    /// Seed of every random choice.
    pub seed: u64,
    /// The head.
    pub head: HeadReport,
    /// Its layers, from the features to the scores.
    pub layers: Vec<LayerReport>,
    /// What stayed or went as one.
    pub granularity: Granularity,
    /// How the numbers of those were rounded.
    pub align: AlignReport,
    /// Which form of the cut it is.
    pub form: FormReport,
    /// The output's time beside the original's; nothing where it was not measured.
    pub speed: Option<SpeedReport>,
    /// The kept neurons.
    pub keep: Plan,
    /// Layers that stay whole or keep their producers, and why.
    pub notes: Vec<String>,
    /// The last layer for other classes; the original is then the model with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transfer: Option<TransferReport>,
    /// How the kept neurons took over.
    pub repair: RepairReport,
    /// How the head was trained, if it was.
    pub training: Option<TrainingReport>,
    /// What left the trunk; nothing with `--trunk none`.
    pub trunk: Option<TrunkReport>,
    /// The proof; nothing with `--no-verify`.
    pub verification: Option<Verification>,
    /// Top-1 accuracy and agreement with the original, stage by stage, on held-out samples.
    #[serde(flatten)]
    pub worth: Worth,
    /// For how many of the calibration samples the top class provably cannot have changed: a bound on
    /// all that was dropped and repaired is smaller than the margin. It says nothing of others.
    pub certificate: Option<Certificate>,
    /// The same for other choices of as many neurons.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub baselines: Vec<Baseline>,
    /// How the level was found, where a limit was given.
    pub search: Option<SearchReport>,
    /// Whether the output was written: the proof holds, so does the limit, and it is faster if it has
    /// to be.
    pub passed: bool,
}

/// How the kept neurons took over for the dropped ones.
#[derive(Clone, Debug, Serialize)]
pub struct RepairReport {
    /// The way.
    pub how: Repair,
    /// One entry per operator whose weights were looked at.
    pub layers: Vec<LayerRepair>,
}

/// Prunes a model.
///
/// The output appears whole and proved, or not at all.
///
/// # Errors
/// Every [`Error`]; none of them leaves an output file. A proof that fails is no error, nor is a
/// limit that cannot be met, nor an output that is not faster though it has to be: see [`PruneReport::passed`].
pub fn prune(options: &PruneOptions, watch: &dyn Watch) -> Result<PruneReport> {
    options.check()?;
    watch.stage("loading the model", None);
    let model = setup::load(&options.input)?;
    let mut output = Output::create(&options.output, Some(&options.input), options.overwrite)?
        .protect(model.external_files())?;
    let (transferred, base) = (OnceCell::new(), OnceCell::new());
    let skips_engine = options.verify == Verify::Skip
        && !options.needs_features()
        && !options.scores_samples()
        && options.granularity == Granularity::Neuron;
    let mut setup = match skips_engine {
        true => Setup::thrifty(&model, &options.source, watch)?,
        false => Setup::new(&model, &options.source, watch)?,
    };
    let mut head = match skips_engine {
        true if options.scores.is_some() => setup.find_head(true, watch)?,
        true => score::find_head(&mut setup, &options.score, options.of, watch)?,
        false => setup.find_head(false, watch)?,
    };
    if skips_engine && options.trunk == Trunk::Exact {
        head = setup.look_at_trunk(head, watch)?;
    }
    let known = options.scores.as_deref();
    let known = known
        .map(|path| ScoreReport::read_for(path, &model, &head))
        .transpose()?;
    let enough = enough_samples(&mut setup, &head, options, watch)?;
    let other_classes = match &options.transfer {
        Some(wanted) => Some(to_other_classes(
            &mut setup,
            &mut head,
            wanted,
            options,
            &transferred,
            watch,
        )?),
        None => None,
    };
    if options.changes_weights() {
        let proto = weights::own(&setup, &head)?;
        head = setup.replace_model(base.get_or_init(|| proto))?;
    }
    head.notes.iter().for_each(|note| watch.note(note));

    let (material, transfer, source) = match other_classes {
        Some(found) => (Some(found.material), Some(found.report), found.source),
        None => (material(&setup, &head, options, watch)?, None, None),
    };
    let Attempt {
        head,
        scored,
        draft,
        mut search,
        granularity,
        align,
        form,
        requested,
    } = attempt::attempt(
        &setup,
        head,
        options,
        material.as_ref(),
        source.as_ref(),
        known,
        watch,
    )?;
    let workshop = Workshop::new(&setup, &head, material.as_ref(), options)?;
    let (worth, certificate) = match &material {
        Some(material) if options.measures() => {
            watch.stage("measuring", None);
            let certificate = figures::certificate(&workshop, &draft, material, watch)?;
            let worth = figures::worth(&workshop, &draft, material, watch)?;
            (worth, Some(certificate))
        }
        _ => (Worth::default(), None),
    };
    let baselines = baselines::measured(&workshop, options, &draft, watch)?;
    let verification = proof::prove(&workshop, &draft, options.verify, watch)?;
    // What was told apart to choose a form is told; what decides is measured once more, since the best
    // of several looks better than it is.
    let known = form.speed().filter(|_| options.speed == Speed::Told);
    let speed = match options.speed.is_wanted(options.verify) {
        true if known.is_some() => known,
        true => {
            let wanted = (options.speed, options.form);
            speed::measure(&workshop, draft.output(), wanted, watch)?
        }
        false => None,
    };

    let data = DataReport::new(&setup, &setup.dataset)?;
    let (plan, weights) = (draft.plan.clone(), draft.weights.clone());
    let (repair, training) = (draft.repair.clone(), draft.training.clone());
    let (mut smaller, trunk) = draft.into_output();
    metadata::write(
        &mut smaller,
        &Facts {
            setup: &setup,
            score: &scored.report,
            options,
            plan: &plan,
            weights: &weights,
            data: &data,
            verification: verification.as_ref(),
            transfer: transfer.as_ref(),
            align: align.used,
            form: form.used,
        },
    );
    let mut passed = verification.as_ref().is_none_or(|found| found.passed);
    passed = passed && speed.as_ref().is_none_or(SpeedReport::allows_output);
    if let Some(search) = &mut search {
        passed = passed && search.met;
    }
    let mut bytes = 0;
    if passed {
        watch.stage("writing", None);
        output.write(&smaller, model.storage())?;
        if let Some(search) = &mut search {
            // The promise is about the file, so the file is what is measured, trunk and all.
            let written = setup::load(output.path_for_reading())?;
            search.confirm(&workshop, &written, material.as_ref(), watch)?;
            passed = search.met;
        }
    }
    if passed {
        let written = output.commit()?;
        bytes = written.bytes + written.external_bytes;
    }
    Ok(PruneReport {
        schema: SCHEMA,
        input: FileReport::new(&options.input, model.file_bytes(), &model.proto),
        output: FileReport::new(&options.output, bytes, &smaller),
        engine: setup.engine_used(watch),
        data,
        score: scored.report,
        enough,
        seed: options.source.seed,
        head: HeadReport::new(&setup, &head),
        layers: layers(&head, &plan, &requested),
        granularity,
        align,
        form,
        speed,
        keep: plan,
        notes: head.notes,
        transfer,
        repair: RepairReport {
            how: options.repair(),
            layers: repair,
        },
        training,
        trunk,
        verification,
        worth,
        certificate,
        baselines,
        search,
        passed,
    })
}

/// Finds the number of samples, where these are to tell it.
fn enough_samples(
    setup: &mut Setup<'_>,
    head: &Head,
    options: &PruneOptions,
    watch: &dyn Watch,
) -> Result<Option<EnoughReport>> {
    let channels = match options.granularity {
        Granularity::Channel => attempt::with_channels(setup, head),
        Granularity::Neuron | Granularity::Auto => None,
    };
    let head = channels.as_ref().unwrap_or(head);
    let choice = (&options.score, options.of);
    enough::settle(setup, head, choice, &options.budget, watch)
}

/// What a last layer for other classes was made from.
struct OtherClasses<'m> {
    /// Features are in front of the layer: they stay what they are.
    material: Material,
    /// The model it came from, where its classes choose.
    source: Option<Source<'m>>,
    report: TransferReport,
}

/// Goes on with the model with a last layer for other classes.
fn to_other_classes<'m>(
    setup: &mut Setup<'m>,
    head: &mut Head,
    wanted: &TransferOptions,
    options: &PruneOptions,
    place: &'m OnceCell<ModelProto>,
    watch: &dyn Watch,
) -> Result<OtherClasses<'m>> {
    transfer::check(setup, head, wanted)?;
    let material = match material(setup, head, options, watch)? {
        Some(material) => material,
        None => Material::new(setup, head, Purpose::default(), watch)?,
    };
    let learning = Learning {
        features: &material.features,
        fit: &material.fit,
        check: &material.check,
    };
    let found = transfer::transferred(setup, head, learning, wanted, watch)?;
    let source = match wanted.score_with {
        ScoreWith::Source => Some(Source::of(setup, head)?),
        ScoreWith::Target => None,
    };
    setup.shapes = found.shapes;
    *head = setup.replace_model(place.get_or_init(|| found.model))?;
    Ok(OtherClasses {
        material,
        source,
        report: found.report,
    })
}

/// The features of all samples that the run looks at.
fn material(
    setup: &Setup<'_>,
    head: &Head,
    options: &PruneOptions,
    watch: &dyn Watch,
) -> Result<Option<Material>> {
    if !options.needs_features() {
        return Ok(None);
    }
    let purpose = Purpose {
        search: options
            .limit
            .as_ref()
            .is_some_and(|limit| limit.max_drop.is_some()),
        training: options.training.is_some(),
        shown: options.measures(),
    };
    Material::new(setup, head, purpose, watch).map(Some)
}

/// The neurons that `budget` leaves.
pub(super) fn plan(budget: &Budget, groups: &[&Group], scores: &Scores) -> Result<Plan> {
    let mut plan = budget.select(scores)?;
    plan.fill_parts(groups, scores);
    if plan.keeps_all() {
        return Err(Error::Argument {
            name: "--keep",
            what: "keeps every neuron, so there is nothing to prune".to_owned(),
        });
    }
    Ok(plan)
}

fn layers(head: &Head, plan: &Plan, requested: &Plan) -> Vec<LayerReport> {
    let plans = plan.layers.iter().zip(&requested.layers);
    let layers = head.layers.iter().zip(plans);
    layers
        .map(|(layer, (kept, requested))| LayerReport {
            name: layer.name.clone(),
            width: layer.width(),
            requested: requested.keep.len(),
            kept: kept.keep.len(),
            recognised: layer.recognised.clone(),
        })
        .collect()
}

impl From<&Model> for FileReport {
    fn from(model: &Model) -> Self {
        let path = model.path().map(PathBuf::from).unwrap_or_default();
        Self::new(&path, model.file_bytes(), &model.proto)
    }
}
