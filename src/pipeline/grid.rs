//! Many cuts of one model from one pass over its trunk: what a study is made of.
//!
//! [`opened`] reads model and data and runs nothing, so that a study can look up what is done
//! already; [`Opened::prepare`] runs the trunk; [`Grid::scores`] and [`Grid::cell`] work on the
//! features alone. A cell is a `prune` run of the same flags without proof and output: its figures
//! are those that the run would report.

mod cuts;

use std::{cell::OnceCell, path::Path, sync::Arc, time::Duration};

use prost::Message;

use super::{
    draft::{Draft, Stage, Trunk, Workshop},
    figures::{Counts, Reference},
    form::FormName,
    material::{Material, Purpose, Samples},
    parts::{self, DataReport, FileReport},
    prune::{self, PruneOptions},
    rounds,
    score::{self, View},
    setup::{self, Setup, SourceOptions},
    training::Training,
    watch::{Quiet, Silent, Watch},
    weights,
};
use crate::{
    engine::{self, EngineInfo, EngineOptions, Selected},
    error::{Error, Result},
    eval::{self, Effort, HeadModel, Latencies},
    graph,
    head::Head,
    onnx::{self, Model, ModelProto},
    prune::{Budget, Group, Keep, Plan, Scores},
    repair::{self, Repair},
    sensitivity::{Norm, Of, ScoreOptions, Scored},
};

/// A model and its data; nothing has run yet.
pub(crate) struct Opened<'m> {
    model: &'m Model,
    place: &'m OnceCell<ModelProto>,
    setup: Setup<'m>,
}

/// What decides every number of a model's study besides the choices.
pub(crate) struct Identity {
    pub(crate) file: FileReport,
    /// SHA-256 of the model.
    pub(crate) sha256: String,
    pub(crate) data: DataReport,
    pub(crate) engine: EngineInfo,
    pub(crate) class_names: Option<Vec<String>>,
}

/// A model whose trunk has run.
pub(crate) struct Grid<'m> {
    setup: Setup<'m>,
    head: Head,
    material: Material,
    /// The original head, features to logits.
    original: ModelProto,
    /// The same runtime on one thread: cells run side by side.
    narrow: Selected,
    /// What the original made of the samples that repairs are solved on.
    known: Arc<repair::Known>,
    /// The features of the shown samples, where most are 0 and the CPU computes.
    held: Option<Arc<eval::HeldFeatures>>,
}

/// What one cell is made of.
#[derive(Clone, Copy)]
pub(crate) struct Recipe<'r> {
    pub(crate) scores: &'r Scores,
    pub(crate) keep: f64,
    pub(crate) repair: Repair,
    pub(crate) training: Option<&'r Training>,
    /// What it decides before its repair, where that is known.
    pub(crate) cut: Option<&'r Counts>,
}

/// What one cell is worth.
pub(crate) struct Made {
    /// Neurons that stay, layer by layer.
    pub(crate) kept: Vec<usize>,
    pub(crate) parameters: u64,
    /// Bytes of the model, without what the program writes into its metadata.
    pub(crate) bytes: u64,
    /// After each stage.
    pub(crate) stages: Vec<(Stage, Counts)>,
}

/// Loads a model, opens engine and data, and hands them to `work`.
///
/// # Errors
/// Those of loading, and of `work`.
pub(crate) fn opened<T>(
    input: &Path,
    source: &SourceOptions,
    watch: &dyn Watch,
    work: impl FnOnce(Opened<'_>) -> Result<T>,
) -> Result<T> {
    let model = setup::load(input)?;
    let place = OnceCell::new();
    let setup = Setup::new(&model, source, watch)?;
    work(Opened {
        model: &model,
        place: &place,
        setup,
    })
}

/// How a run with these samples repairs when it is told nothing.
pub(crate) fn default_repair(source: &SourceOptions) -> Repair {
    let options = PruneOptions {
        source: source.clone(),
        ..PruneOptions::new("", "")
    };
    options.repair()
}

impl<'m> Opened<'m> {
    pub(crate) fn identity(&self) -> Result<Identity> {
        Ok(Identity {
            file: FileReport::from(self.model),
            sha256: onnx::digest(&self.model.proto)?,
            data: DataReport::new(&self.setup, &self.setup.dataset)?,
            engine: self.setup.engine().info().clone(),
            class_names: self.setup.reported().class_names().map(<[String]>::to_vec),
        })
    }

    /// Finds the head and runs the trunk over every sample that a cell looks at.
    pub(crate) fn prepare(self, training: bool, watch: &dyn Watch) -> Result<Grid<'m>> {
        let Self {
            place, mut setup, ..
        } = self;
        let head = setup.find_head(false, watch)?;
        let proto = weights::own(&setup, &head)?;
        let head = setup.replace_model(place.get_or_init(|| proto))?;
        head.notes.iter().for_each(|note| watch.note(note));
        let purpose = Purpose {
            search: false,
            training,
            shown: true,
        };
        let material = Material::new(&setup, &head, purpose, watch)?;
        let logits = [head.scores.logits];
        let original = graph::extract(&setup.graph, &setup.shapes, &head.features, &logits)?;
        let narrow = engine::open(&EngineOptions {
            threads: Some(1),
            ..setup.options.engine.clone()
        })?;
        let held = match narrow.engine.info().precision {
            None => eval::HeldFeatures::of(&material.shown().features)?,
            Some(_) => None,
        };
        Ok(Grid {
            setup,
            head,
            material,
            original,
            narrow,
            known: Arc::default(),
            held: held.map(Arc::new),
        })
    }
}

impl Grid<'_> {
    /// Names and widths of the layers, from the features to the scores.
    pub(crate) fn layers(&self) -> Vec<(String, usize)> {
        let layers = self.head.layers.iter();
        layers
            .map(|layer| (layer.name.clone(), layer.width()))
            .collect()
    }

    /// What the user should know about layers that stay whole or in part.
    pub(crate) fn notes(&self) -> &[String] {
        &self.head.notes
    }

    /// Number of classes.
    pub(crate) fn classes(&self) -> usize {
        self.head.scores.classes
    }

    /// Samples that are scored.
    pub(crate) fn calibrated(&self) -> usize {
        self.setup.shares.calibration.len()
    }

    /// Bytes of the original head: what a cell holds is a small multiple of it.
    pub(crate) fn head_bytes(&self) -> u64 {
        u64::try_from(self.original.encoded_len()).unwrap_or(u64::MAX)
    }

    /// Scores by one criterion for several norms, over samples and classes alike, in one pass.
    pub(crate) fn scores(
        &self,
        options: &ScoreOptions,
        of: Option<Of>,
        norms: &[Norm],
        watch: &dyn Watch,
    ) -> Result<Vec<Scored>> {
        let samples = Some(self.material.calibration());
        let view = View::of(&self.setup, &self.head);
        let norms: Vec<(Norm, Norm)> = norms.iter().map(|&norm| (norm, norm)).collect();
        score::scores_of_norms(&self.setup, view, options, of, &norms, samples, watch)
    }

    /// The neurons that `keep` leaves.
    ///
    /// # Errors
    /// [`Error::Argument`] where it leaves all.
    pub(crate) fn plan(&self, scores: &Scores, keep: f64) -> Result<Plan> {
        let budget = Budget::uniform(Keep::Share(keep));
        prune::plan(&budget, &self.groups(), scores).map_err(|error| match error {
            Error::Argument { name: "--keep", .. } => Error::Argument {
                name: "--keeps",
                what: format!(
                    "{keep} keeps every neuron of {}, so there is nothing to prune",
                    self.name()
                ),
            },
            other => other,
        })
    }

    fn name(&self) -> String {
        let widths = self.head.layers.iter().map(|layer| layer.width());
        let widths: Vec<String> = widths.map(|width| width.to_string()).collect();
        format!("a head of {} neurons", widths.join(" and "))
    }

    fn groups(&self) -> Vec<&Group> {
        self.head.layers.iter().map(|layer| &layer.group).collect()
    }

    /// The samples that figures are of.
    pub(crate) fn shown(&self) -> Samples {
        self.material.shown()
    }

    /// The original's decisions on these samples: its top classes, or what the engine finds.
    pub(crate) fn reference(
        &self,
        samples: &Samples,
        top: Option<Vec<usize>>,
        watch: &dyn Watch,
    ) -> Result<Reference> {
        let workshop = self.workshop(Repair::None, None, &*self.setup.selected.engine);
        match top {
            Some(top) => Reference::of(&workshop, samples, || Ok(top)),
            None => Reference::new(&workshop, samples, watch),
        }
    }

    fn workshop<'w>(
        &'w self,
        repair: Repair,
        training: Option<&'w Training>,
        engine: &'w dyn engine::Engine,
    ) -> Workshop<'w> {
        Workshop {
            setup: &self.setup,
            engine,
            head: &self.head,
            material: Some(&self.material),
            repair,
            training,
            trunk: Trunk::Exact,
            form: FormName::Smallest,
            original: self.original.clone(),
            known: Arc::clone(&self.known),
        }
    }

    /// Cuts, repairs and trains the head, on one thread, and counts what that is worth.
    pub(crate) fn cell(
        &self,
        recipe: Recipe<'_>,
        (samples, reference): &(Samples, Reference),
        watch: &dyn Watch,
    ) -> Result<Made> {
        let plan = self.plan(recipe.scores, recipe.keep)?;
        let quiet = Quiet(watch);
        let engine = &*self.narrow.engine;
        let workshop = self.workshop(recipe.repair, recipe.training, engine);
        let draft = workshop.draft(&plan, &quiet)?;
        Ok(Made {
            kept: plan.layers.iter().map(|layer| layer.keep.len()).collect(),
            parameters: parts::parameters(draft.output()),
            bytes: u64::try_from(draft.output().encoded_len()).unwrap_or(u64::MAX),
            stages: self.counts(&draft, recipe.cut, (samples, reference), watch)?,
        })
    }

    fn counts(
        &self,
        draft: &Draft,
        cut: Option<&Counts>,
        (samples, reference): (&Samples, &Reference),
        watch: &dyn Watch,
    ) -> Result<Vec<(Stage, Counts)>> {
        let classes = self.head.scores.classes;
        let heads = draft.heads();
        let heads = heads.filter(|(stage, _)| cut.is_none() || *stage != Stage::Cut);
        let (stages, models): (Vec<Stage>, Vec<_>) = heads.unzip();
        let tops = match self.sparse_tops(&models, samples, watch)? {
            Some(tops) => tops,
            None => {
                let heads = models.into_iter().map(|model| HeadModel { model, classes });
                let found = eval::scores_of_all(
                    &*self.narrow.engine,
                    &heads.collect::<Vec<_>>(),
                    &samples.features,
                    &samples.positions,
                    &mut |_| setup::still_wanted(watch),
                )?;
                found.iter().map(eval::ClassScores::top).collect()
            }
        };
        let counts = tops.iter().map(|top| reference.counts(top));
        let known = cut.map(|counts| (Stage::Cut, counts.clone()));
        Ok(known
            .into_iter()
            .chain(stages.into_iter().zip(counts))
            .collect())
    }

    /// Times whole models of these levels against the original, which comes first.
    pub(crate) fn latencies(
        &self,
        scores: &Scores,
        keeps: &[f64],
        (effort, seed): (Duration, u64),
        watch: &dyn Watch,
    ) -> Result<Latencies> {
        let workshop = self.workshop(Repair::None, None, &*self.narrow.engine);
        let mut smaller = Vec::new();
        for &keep in keeps {
            let draft = workshop.draft(&self.plan(scores, keep)?, &Silent)?;
            smaller.push(draft.into_output().0);
        }
        let models: Vec<&ModelProto> = [self.setup.graph.model()]
            .into_iter()
            .chain(&smaller)
            .collect();
        let mut loaded = rounds::load(&self.setup, &models, &rounds::input(&self.setup)?)?;
        let how = (Effort::Time(effort), seed);
        rounds::rounds(&mut loaded, how, "timing the levels", watch)
    }
}
