//! The proof of a smaller model: against the masked original, in every engine there is.

use super::{
    draft::{Draft, Workshop},
    watch::Watch,
    weights,
};
use crate::{
    error::{Error, Result},
    eval::{self, Case, Scope, Skipped, Verification},
};

/// How the result of a run is proved before it is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verify {
    /// In every engine that is there; in the head alone where one cannot run the trunk.
    #[default]
    Always,
    /// In both engines, whole, or the run fails.
    RequireBoth,
    /// Not at all; the output says so.
    Skip,
}

/// Runs the proof on samples that were not scored.
pub(super) fn prove(
    workshop: &Workshop<'_>,
    draft: &Draft,
    how: Verify,
    watch: &dyn Watch,
) -> Result<Option<Verification>> {
    if how == Verify::Skip {
        watch.note("the result is not verified (--no-verify)");
        return Ok(None);
    }
    watch.stage("verifying", None);
    let setup = workshop.setup;
    let engines = setup.all_engines(watch)?;
    let names = engines.iter().map(|selected| selected.engine.info().name);
    require_both(how, &names.collect::<Vec<_>>())?;
    let case = Case {
        graph: &setup.graph,
        shapes: &setup.shapes,
        head: workshop.head,
        masked: &weights::oracle(
            &setup.graph,
            &workshop.groups(),
            &draft.plan,
            &draft.weights,
        )?,
        pruned: draft.output(),
        cut: &draft.model,
    };
    let engines: Vec<_> = engines.iter().map(|selected| &*selected.engine).collect();
    let found = eval::verify(case, &engines, &setup.proof_samples()?)?;
    if how == Verify::RequireBoth {
        whole(&found)?;
    }
    for skipped in &found.skipped {
        let Skipped { engine, stopped_by } = skipped;
        watch.note(&format!("{engine} cannot run the head: {stopped_by}"));
    }
    Ok(Some(found))
}

/// Refuses a proof that some engine had no, or only a part in.
pub(super) fn whole(found: &Verification) -> Result<()> {
    let refuse = |what: String| {
        Err(Error::Argument {
            name: "--require-both",
            what,
        })
    };
    if let Some(Skipped { engine, stopped_by }) = found.skipped.first() {
        return refuse(format!("{engine} cannot run the head: {stopped_by}"));
    }
    let part = found.checks.iter().find(|check| check.scope == Scope::Head);
    match part.and_then(|check| Some((&check.engine, check.stopped_by.as_ref()?))) {
        Some((engine, why)) => refuse(format!("{engine} cannot run the whole model: {why}")),
        None => Ok(()),
    }
}

fn require_both(how: Verify, engines: &[&str]) -> Result<()> {
    if how == Verify::RequireBoth && engines.len() < 2 {
        return Err(Error::Argument {
            name: "--require-both",
            what: format!(
                "only {} is there; get ONNX Runtime with `onnx-prune runtime install`",
                engines.join(", ")
            ),
        });
    }
    Ok(())
}
