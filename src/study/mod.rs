//! A grid of cuts: criteria x norms x levels x repairs, for several models, from one pass over each
//! trunk.
//!
//! ```text
//! model, data -> pipeline::opened -> keys of all parts -> what is missing?
//!                                                            | nothing: no trunk runs
//!                                                            v
//!                    trunk, once -> choices (one pass per criterion) -> cells, side by side
//!                                        |                                |
//!                                        +------- parts on disk ----------+---> StudyReport
//! ```
//!
//! Whatever is finished is a file of its own (`store`), named by the hash of all that decides it.
//! So a study that was ended goes on where it was, one that is repeated reads what it wrote, and one
//! with more levels only runs these. The report is always read back from the parts: an interrupted
//! study and one that ran through end in the same bytes. Times are kept apart, since no two
//! measurements are alike.
//!
//! A cell is what `prune` with the same flags would do, on one thread and without proof; the models
//! of `--export-best` come from `prune` itself.

mod best;
mod choice;
mod cuts;
mod export;
mod key;
mod model;
mod options;
mod overlap;
mod report;
mod run;
mod side_by_side;
mod store;

pub use best::{Best, Winner};
pub use choice::{Choice, ChosenLayer};
pub use export::Exported;
pub use options::StudyOptions;
pub use overlap::Overlap;
pub use report::{
    Cell, CellPart, CellStage, ChoiceReport, Engine, Layer, LevelTime, ModelStudy, StageCounts,
    StudyReport,
};
pub use run::study;
