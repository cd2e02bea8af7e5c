//! A model on its way to being smaller: cut, repaired, trained, one stage after the other.

use std::{collections::BTreeMap, str::FromStr, sync::Arc};

use prost::Message;
use serde::{Deserialize, Serialize};

use super::{
    form::FormName,
    material::{Material, Samples},
    metadata,
    prune::PruneOptions,
    setup::{self, Setup},
    training::{self, Training, TrainingReport},
    watch::Watch,
};
use crate::{
    engine::Engine,
    error::{Error, Result},
    eval::{self, ClassScores, HeadModel},
    finetune::{self, Target},
    graph::{self, Graph},
    head::Head,
    onnx::{ModelProto, TensorProto},
    prune::{
        Group, Plan, rewrite,
        trunk::{self, Removal, Shrunk, Stop},
        width,
    },
    repair::{self, LayerRepair, Repair},
};

/// What every draft of a run is made from.
#[derive(Clone)]
pub(super) struct Workshop<'w> {
    pub(super) setup: &'w Setup<'w>,
    /// Runs the heads.
    pub(super) engine: &'w dyn Engine,
    pub(super) head: &'w Head,
    /// Features of the samples, where any are needed.
    pub(super) material: Option<&'w Material>,
    pub(super) repair: Repair,
    pub(super) training: Option<&'w Training>,
    pub(super) trunk: Trunk,
    pub(super) form: FormName,
    /// The original head, features to logits; empty without material.
    pub(super) original: ModelProto,
    /// What the original made of the samples that repairs are solved on.
    pub(super) known: Arc<repair::Known>,
}

/// One smaller model.
pub(super) struct Draft {
    pub(super) plan: Plan,
    /// The whole model, with the trunk as it was.
    pub(super) model: ModelProto,
    /// The same in the form it is written in, where that is another.
    finished: Option<Finished>,
    /// Weights that are not what the cut left: initializers by name.
    pub(super) weights: BTreeMap<String, TensorProto>,
    /// The head alone after each stage, empty without material; the last one as in `model`.
    heads: Vec<(Stage, ModelProto)>,
    pub(super) repair: Vec<LayerRepair>,
    pub(super) training: Option<TrainingReport>,
}

/// A cut model in the form it is written in.
pub(super) struct Finished {
    pub(super) model: ModelProto,
    /// What left the trunk, where the run was told to cut there.
    trunk: Option<TrunkReport>,
}

/// What is done about channels of the trunk that only dropped neurons read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Trunk {
    /// They go, as far back as the result stays the same.
    #[default]
    Exact,
    /// They stay, behind a selection.
    None,
}

impl FromStr for Trunk {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "exact" => Ok(Self::Exact),
            "none" => Ok(Self::None),
            _ => Err(Error::Argument {
                name: "--trunk",
                what: format!("{text:?} is neither exact nor none"),
            }),
        }
    }
}

/// What left the trunk.
#[derive(Clone, Debug, Serialize)]
pub struct TrunkReport {
    /// The weights that lost channels.
    pub removed: Vec<Removal>,
    /// Where selections are left, and why.
    pub stops: Vec<Stop>,
}

/// How far a model has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Neurons are gone, all else is as it was.
    Cut,
    /// The kept neurons have taken over what they can.
    Repaired,
    /// The head has been trained.
    Tuned,
}

impl<'w> Workshop<'w> {
    pub(super) fn new(
        setup: &'w Setup<'w>,
        head: &'w Head,
        material: Option<&'w Material>,
        options: &'w PruneOptions,
    ) -> Result<Self> {
        // Without samples nothing runs a head alone, and the types at its border may be unknown.
        let original = match material {
            None => ModelProto::default(),
            Some(_) => {
                let logits = [head.scores.logits];
                graph::extract(&setup.graph, &setup.shapes, &head.features, &logits)?
            }
        };
        Ok(Self {
            setup,
            engine: setup.engine(),
            head,
            material,
            repair: options.repair(),
            training: options.training.as_ref(),
            trunk: options.trunk,
            form: FormName::Smallest,
            original,
            known: Arc::default(),
        })
    }

    pub(super) fn groups(&self) -> Vec<&'w Group> {
        self.head.layers.iter().map(|layer| &layer.group).collect()
    }

    /// The head cut to `plan`, features to logits.
    pub(super) fn cut_head(&self, plan: &Plan) -> Result<ModelProto> {
        let (graph, shapes) = (&self.setup.graph, &self.setup.shapes);
        self.head_of(&rewrite::pruned(graph, shapes, &self.groups(), plan)?)
    }

    /// Cuts to `plan`, then repairs and trains as the run was told.
    pub(super) fn draft(&self, plan: &Plan, watch: &dyn Watch) -> Result<Draft> {
        let setup = self.setup;
        watch.stage("rewriting", None);
        let model = rewrite::pruned(&setup.graph, &setup.shapes, &self.groups(), plan)?;
        let head = match self.material {
            None => ModelProto::default(),
            Some(_) => self.head_of(&model)?,
        };
        let mut draft = Draft {
            plan: plan.clone(),
            model,
            finished: None,
            weights: BTreeMap::new(),
            heads: vec![(Stage::Cut, head)],
            repair: Vec::new(),
            training: None,
        };
        if let (Some(material), true) = (self.material, self.repair != Repair::None) {
            self.mend(&mut draft, material, watch)?;
        }
        if let (Some(material), Some(training)) = (self.material, self.training) {
            self.train(&mut draft, material, training, watch)?;
        }
        draft.finished = Some(self.finished(&draft, watch)?);
        Ok(draft)
    }

    /// A draft in this workshop's form. What it computes is the same in every form.
    pub(super) fn finished(&self, draft: &Draft, watch: &dyn Watch) -> Result<Finished> {
        let (graph, shapes, groups) = (&self.setup.graph, &self.setup.shapes, self.groups());
        let reformed = match self.form {
            FormName::Neighbours => trunk::neighbours(graph, shapes, &groups, &draft.model)?,
            FormName::SameWidth => {
                let Draft { plan, weights, .. } = draft;
                Some(width::kept(graph, shapes, &groups, plan, weights)?)
            }
            FormName::Smallest | FormName::WholeTrunk => None,
        };
        if self.trunk == Trunk::None || self.form == FormName::WholeTrunk {
            let model = reformed.unwrap_or_else(|| draft.model.clone());
            return Ok(Finished { model, trunk: None });
        }
        watch.stage("shrinking the trunk", None);
        let cut = reformed.as_ref().unwrap_or(&draft.model);
        let found = trunk::shrink_cut(graph, shapes, &groups, cut)?;
        let Shrunk {
            model,
            removed,
            stops,
        } = found;
        let trunk = Some(TrunkReport { removed, stops });
        Ok(Finished { model, trunk })
    }

    /// The same workshop, for drafts of another form.
    pub(super) fn in_form(&self, form: FormName) -> Self {
        Self {
            form,
            ..self.clone()
        }
    }

    /// The whole model cut to `plan`, neither repaired nor trained: as large and as fast as its draft.
    pub(super) fn outline(&self, plan: &Plan, watch: &dyn Watch) -> Result<ModelProto> {
        let plain = Workshop {
            material: None,
            training: None,
            ..self.clone()
        };
        Ok(plain.draft(plan, watch)?.into_output().0)
    }

    /// The head of a smaller model, features to logits.
    fn head_of(&self, model: &ModelProto) -> Result<ModelProto> {
        let graph = Graph::new(model)?;
        let shapes = self.setup.shapes.carried(&self.setup.graph, &graph, &[]);
        let same = |id| graph.value(self.setup.graph.name(id));
        let features: Vec<_> = self
            .head
            .features
            .iter()
            .filter_map(|&id| same(id))
            .collect();
        let logits: Vec<_> = same(self.head.scores.logits).into_iter().collect();
        graph::extract(&graph, &shapes, &features, &logits)
    }

    fn mend(&self, draft: &mut Draft, material: &Material, watch: &dyn Watch) -> Result<()> {
        watch.stage("repairing", None);
        let request = repair::Request {
            engine: self.engine,
            graph: &self.setup.graph,
            shapes: &self.setup.shapes,
            head: self.head,
            plan: &draft.plan,
            head_model: draft.head(),
            features: &material.features,
            fit: &material.fit,
            check: &material.check,
            known: &self.known,
        };
        let found = repair::repair(request, self.repair, &mut |_| setup::still_wanted(watch))?;
        draft.repair = found.layers;
        draft.advance(Stage::Repaired, found.weights)
    }

    fn train(
        &self,
        draft: &mut Draft,
        material: &Material,
        training: &Training,
        watch: &dyn Watch,
    ) -> Result<()> {
        let labels = material.features.labels().filter(|_| !training.distill);
        let share = training.label_share;
        if let (Some(_), None) = (share, labels) {
            return Err(Error::Argument {
                name: "--label-share",
                what: "the samples have no labels; leave it out, and the original's scores are learned"
                    .to_owned(),
            });
        }
        let teacher = match (labels, share) {
            (Some(_), None) => Vec::new(),
            _ => {
                self.scores_of(&self.original, &material.all(), watch)?
                    .values
            }
        };
        let target = match (labels, share) {
            (None, _) => Target::Scores(&teacher),
            (Some(labels), None) => Target::Labels(labels),
            (Some(labels), Some(share)) => Target::Mixed {
                labels,
                scores: &teacher,
                share,
            },
        };
        let request = finetune::Request {
            engine: self.engine,
            head_model: draft.head(),
            classes: self.head.scores.classes,
            ending: self.head.scores.ending,
            features: &material.features,
            train: &material.train,
            validation: &material.check,
            target,
        };
        let mut training = training.clone();
        training.distill = labels.is_none();
        let counts = (material.train.len(), material.check.len());
        let trained = training::trained(request, &training, watch)?;
        let weights = trained.weights.clone();
        draft.training = Some(TrainingReport::new(&training, trained, counts));
        draft.advance(Stage::Tuned, weights)
    }

    /// Class scores of a head.
    pub(super) fn scores_of(
        &self,
        head: &ModelProto,
        samples: &Samples,
        watch: &dyn Watch,
    ) -> Result<ClassScores> {
        let head = HeadModel {
            model: head,
            classes: self.head.scores.classes,
        };
        let mut step = |_| setup::still_wanted(watch);
        eval::scores(
            self.engine,
            head,
            &samples.features,
            &samples.positions,
            &mut step,
        )
    }
}

/// Bytes that the file of a model cut to `plan` takes at most.
pub(super) fn file_bytes(model: &ModelProto, plan: &Plan) -> u64 {
    let bytes = model.encoded_len() + metadata::room_for(plan);
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

impl Draft {
    /// The head as it is now.
    pub(super) fn head(&self) -> &ModelProto {
        let last = self.heads.last();
        &last.expect("a draft begins with the head as it was cut").1
    }

    /// The whole model, as it would be written.
    pub(super) fn output(&self) -> &ModelProto {
        let finished = self.finished.as_ref();
        finished.map_or(&self.model, |finished| &finished.model)
    }

    /// Bytes that its file takes at most, with all that is written about the run.
    pub(super) fn bytes(&self) -> u64 {
        file_bytes(self.output(), &self.plan)
    }

    /// [`Draft::output`], and what left the trunk.
    pub(super) fn into_output(self) -> (ModelProto, Option<TrunkReport>) {
        match self.finished {
            None => (self.model, None),
            Some(Finished { model, trunk }) => (model, trunk),
        }
    }

    /// The same draft, to be written in another form.
    pub(super) fn with_form(self, finished: Finished) -> Self {
        let finished = Some(finished);
        Self { finished, ..self }
    }

    /// Whether channels left the trunk.
    pub(super) fn has_smaller_trunk(&self) -> bool {
        let removed = |trunk: &TrunkReport| !trunk.removed.is_empty();
        self.trunk().is_some_and(removed)
    }

    /// Whether a selection is left in the trunk or behind it.
    pub(super) fn has_selections(&self) -> bool {
        let stops = |trunk: &TrunkReport| !trunk.stops.is_empty();
        self.trunk().is_none_or(stops)
    }

    fn trunk(&self) -> Option<&TrunkReport> {
        self.finished.as_ref()?.trunk.as_ref()
    }

    /// The head after each stage.
    pub(super) fn heads(&self) -> impl Iterator<Item = (Stage, &ModelProto)> {
        self.heads.iter().map(|(stage, head)| (*stage, head))
    }

    fn advance(&mut self, stage: Stage, weights: BTreeMap<String, TensorProto>) -> Result<()> {
        let mut head = self.head().clone();
        finetune::apply(&mut head, &weights)?;
        finetune::apply(&mut self.model, &weights)?;
        self.weights.extend(weights);
        self.heads.push((stage, head));
        Ok(())
    }
}
