//! `onnx-prune completions` and `man`: the flags, told to shells and to `man`.

use std::path::Path;

use clap::{Command, CommandFactory};
use onnx_prune::{Error, Result};

use super::{
    Outcome,
    args::{Cli, CompletionsArgs, Global, ManArgs},
    output,
};

pub(super) fn completions(args: &CompletionsArgs, global: &Global) -> Result<Outcome> {
    global.refuse_report("with completions")?;
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), NAME, &mut script);
    output::bytes(&script)?;
    Ok(Outcome::Done)
}

pub(super) fn man(args: &ManArgs, global: &Global) -> Result<Outcome> {
    global.refuse_report("with man")?;
    match &args.folder {
        Some(folder) => pages(folder)?,
        None => output::bytes(&page(Cli::command())?)?,
    }
    Ok(Outcome::Done)
}

const NAME: &str = "onnx-prune";

/// Writes the page of every command into a folder that is there.
fn pages(folder: &Path) -> Result<()> {
    let mut command = Cli::command();
    // Only then do the parts know their full names.
    command.build();
    let mut pages = vec![(NAME.to_owned(), command.clone())];
    while let Some((name, command)) = pages.pop() {
        let path = folder.join(format!("{name}.1"));
        for part in command.get_subcommands().filter(|part| !part.is_hide_set()) {
            let name = format!("{name}-{}", part.get_name());
            let part = part.clone().display_name(&name);
            pages.push((name, part));
        }
        std::fs::write(&path, page(command)?).map_err(Error::io(&path))?;
    }
    Ok(())
}

fn page(command: Command) -> Result<Vec<u8>> {
    let mut page = Vec::new();
    let written = clap_mangen::Man::new(command).render(&mut page);
    written.map_err(Error::io("stdout"))?;
    Ok(page)
}
