//! Every flag that a command's help shows has a case in [`crate::flags`].

use std::collections::BTreeSet;

use crate::{
    flags,
    support::{Engines, run},
};

/// Every command, as it is typed.
const COMMANDS: [&str; 19] = [
    "",
    "score",
    "features",
    "merge",
    "gradient",
    "finetune",
    "verify",
    "inspect",
    "study",
    "bench",
    "runtime",
    "runtime check",
    "runtime install",
    "cache",
    "cache clear",
    "demo",
    "completions",
    "man",
    "peak-memory",
];

#[test]
fn every_flag_of_every_command_has_a_case() {
    let tested: BTreeSet<(String, String)> = flags::tested().collect();
    let mut missing = Vec::new();
    let mut shown = BTreeSet::new();
    for command in COMMANDS {
        for flag in flags_of(command) {
            let pair = (command.to_owned(), flag);
            if !tested.contains(&pair) {
                missing.push(format!("{} {}", pair.0, pair.1));
            }
            shown.insert(pair);
        }
    }
    assert!(missing.is_empty(), "flags without a case: {missing:?}");
    let gone: Vec<_> = tested.difference(&shown).collect();
    assert!(
        gone.is_empty(),
        "cases of flags that are not there: {gone:?}"
    );
}

#[test]
fn no_command_is_missing_from_the_list() {
    let help = run(Engines::Tract, &["--help"]).stdout;
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let names: Vec<&str> = listed
        .take_while(|line| !line.is_empty())
        .map(|line| line.split_whitespace().next().unwrap())
        .collect();
    let top = COMMANDS
        .iter()
        .filter(|name| !name.is_empty() && !name.contains(' ') && **name != "peak-memory");
    assert_eq!(names, top.copied().collect::<Vec<_>>());
}

/// The long flags at the beginnings of the help's lines.
fn flags_of(command: &str) -> Vec<String> {
    let words = command.split_whitespace().chain(["--help"]);
    let help = run(Engines::Tract, &words.collect::<Vec<_>>());
    help.assert_done(command);
    let lines = help.stdout.lines().map(str::trim_start);
    let options = lines.filter(|line| line.starts_with('-'));
    let long = options.filter_map(|line| {
        let at = line.find("--")?;
        let flag = line[at..].split([' ', ',', '=']).next()?;
        Some(flag.to_owned())
    });
    // Both are clap's own and tested in `help.rs`.
    long.filter(|flag| !["--help", "--version"].contains(&flag.as_str()))
        .collect()
}
