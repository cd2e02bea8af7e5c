//! `onnx-prune cache`: what is kept of earlier runs, and removing it.

use std::{
    path::PathBuf,
    time::{SystemTime, UNIX_EPOCH},
};

use onnx_prune::{
    Error, Result,
    features::{Cache, CacheChoice, CacheEntry, Cleared},
    report,
};
use serde::Serialize;

use super::{
    Outcome,
    args::{CacheAction, CacheArgs, ClearArgs, Global},
    output,
};

pub(super) fn run(args: &CacheArgs, global: &Global) -> Result<Outcome> {
    global.refuse_progress("with cache")?;
    let choice = match &args.folder {
        // What was named and is not there is a slip of the pen.
        Some(folder) => {
            folder.metadata().map_err(Error::io(folder))?;
            CacheChoice::At(folder.clone())
        }
        None => CacheChoice::Default,
    };
    let cache = Cache::open(&choice)?;
    let folder = cache.folder().ok_or_else(|| Error::Argument {
        name: "--cache",
        what: "there is no home folder to keep anything in; name a folder".to_owned(),
    })?;
    let folder = folder.to_owned();
    match args.action {
        None => list(&cache, folder, global),
        Some(CacheAction::Clear(ClearArgs { older_than })) => {
            clear(&cache, folder, older_than, global)
        }
    }
}

#[derive(Serialize)]
struct Listed {
    schema: &'static str,
    folder: PathBuf,
    entries: Vec<CacheEntry>,
}

fn list(cache: &Cache, folder: PathBuf, global: &Global) -> Result<Outcome> {
    let listed = Listed {
        schema: "onnx-prune/cache/v1",
        folder,
        entries: cache.entries()?,
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.unwrap_or_default().as_secs();
    output::print(global, &listed, || {
        report::cached(&listed.folder, &listed.entries, now)
    })?;
    Ok(Outcome::Done)
}

#[derive(Serialize)]
struct Removed {
    schema: &'static str,
    folder: PathBuf,
    #[serde(flatten)]
    cleared: Cleared,
}

fn clear(
    cache: &Cache,
    folder: PathBuf,
    older_than: Option<u64>,
    global: &Global,
) -> Result<Outcome> {
    let removed = Removed {
        schema: "onnx-prune/cache-clear/v1",
        folder,
        cleared: cache.clear(older_than)?,
    };
    output::print(global, &removed, || {
        report::cleared(&removed.folder, &removed.cleared)
    })?;
    Ok(Outcome::Done)
}
