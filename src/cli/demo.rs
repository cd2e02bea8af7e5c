//! `onnx-prune demo`: the main job on a model and samples that the program carries.

use std::{fs, path::Path};

use onnx_prune::{
    Error, Result,
    pipeline::{self, PruneOptions, Watch},
    prune::{Budget, Keep},
    report,
};

use super::{
    Outcome,
    args::{DemoArgs, Global},
    options, output,
    progress::Terminal,
};

/// A classifier of Fashion-MNIST at half its size, and samples it has not seen; `models/demo.py`
/// makes them.
const FILES: [(&str, &[u8]); 2] = [
    (MODEL, include_bytes!("../../models/demo.onnx")),
    (DATA, include_bytes!("../../models/demo.npz")),
];
const MODEL: &str = "demo.onnx";
const DATA: &str = "demo.npz";
const OUTPUT: &str = "small.onnx";

/// What stays: little enough to see what a repair does.
const KEEP: f64 = 0.4;

pub(super) fn run(args: &DemoArgs, global: &Global) -> Result<Outcome> {
    let folder = args.folder.as_path();
    fs::create_dir_all(folder).map_err(Error::io(folder))?;
    for (name, bytes) in FILES {
        put(&folder.join(name), bytes, args.force)?;
    }
    let paths = [MODEL, OUTPUT, DATA].map(|name| folder.join(name));
    let mut options = PruneOptions::new(&paths[0], &paths[1]);
    options.source.data = Some(paths[2].clone());
    options.budget = Budget::uniform(Keep::Share(KEEP));
    options.overwrite = options::overwrite(args.force);
    let terminal = Terminal::new(global);
    let [input, output, data] = paths.each_ref().map(|path| path.display());
    terminal.note(&format!(
        "this is `onnx-prune {input} {output} --keep {KEEP} --data {data}`"
    ));
    let found = pipeline::prune(&options, &terminal)?;
    drop(terminal);
    output::print(global, &found, || report::pruned(&found))?;
    Ok(Outcome::of(found.passed))
}

/// Writes a file; one that holds the same is left alone.
fn put(path: &Path, bytes: &[u8], overwrite: bool) -> Result<()> {
    let is_there = path.exists();
    if is_there && fs::read(path).is_ok_and(|found| found == bytes) {
        return Ok(());
    }
    if is_there && !overwrite {
        return Err(Error::Argument {
            name: "DIR",
            what: format!("{} exists; --force replaces it", path.display()),
        });
    }
    fs::write(path, bytes).map_err(Error::io(path))
}
