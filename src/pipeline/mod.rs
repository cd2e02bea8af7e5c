//! Whole runs: what the command line offers, as functions that give a report.
//!
//! Each run reads as its stages: open the model, find the head, score, choose, rewrite, prove,
//! write. Nothing here prints; what a person should see goes to a [`Watch`], what a program should
//! see is in the report, which serialises to the JSON of `--json`.
//!
//! A proof that fails is a result (`passed` is false, and there is no output file), not an error.

mod align;
mod attempt;
mod bench;
mod draft;
mod enough;
mod features;
mod figures;
mod finetune;
mod form;
mod gradient;
mod grid;
mod inspect;
mod level;
mod loaded;
mod material;
mod merge;
mod metadata;
mod part;
mod parts;
mod peak;
mod proof;
mod prune;
mod repeat;
mod rounds;
mod score;
mod search;
mod section;
mod setup;
mod shares;
mod speed;
mod stream;
mod timings;
mod training;
mod transfer;
mod verify;
mod watch;
mod weights;

pub use align::{Align, AlignReport, TriedAlign};
pub use attempt::Granularity;
pub use bench::{
    BenchOptions, BenchReport, Measured, Measurement, PeakMemoryOptions, PeakMemoryReport, bench,
    peak_memory,
};
pub use draft::{Stage, Trunk, TrunkReport};
pub use enough::{EnoughReport, TriedSamples};
pub use features::{
    FeaturesPartOptions, MergedReport, PartKind, features_part, merge_features, part_kind,
};
pub(crate) use figures::{Counts, Reference};
pub use figures::{Figures, Worth};
pub use finetune::{FinetuneOptions, FinetuneReport, finetune};
pub use form::{Form, FormName, FormReport, TimedForm, TimedForms};
pub use gradient::{GradientOptions, GradientReport, gradient};
pub(crate) use grid::{Grid, Identity, Made, Opened, Recipe, default_repair, opened};
pub use inspect::{
    DiffOptions, DiffReport, Gain, InspectOptions, InspectReport, InspectedLayer, LayerDiff, Part,
    PartName, PortDiff, Reach, WeightDiff, diff, inspect,
};
pub(crate) use material::Samples;
pub use merge::{MergeOptions, merge_scores};
pub use part::{PartOptions, PartReport, score_part};
pub use parts::{DataReport, FileReport, HeadReport, LayerReport};
pub use proof::Verify;
pub use prune::{Baseline, PruneOptions, PruneReport, RepairReport, prune};
pub use score::{Origin, ScoreReport, ScoreRunOptions, score};
pub use search::{Limit, Metric, SearchReport, Tried};
pub use setup::{BatchSize, SourceOptions};
pub use speed::{Speed, SpeedReport};
pub use timings::{Clock, StageTime, Timings};
pub use training::{Training, TrainingReport};
pub use transfer::{ScoreWith, TransferOptions, TransferReport};
pub use verify::{Compared, VerifyOptions, VerifyReport, verify};
pub use watch::{Silent, Watch};
