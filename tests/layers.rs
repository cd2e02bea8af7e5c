//! The shape of `src/`: modules look only down, and no file grows without end.
//!
//! Checked by text, not by the compiler: comments are blanked out, then every path that starts at
//! the root of the crate (`crate::x`, `crate::{x, y}`, a chain of `super::` that leads there,
//! `onnx_prune::x`) is looked up in the table of layers.

#![expect(
    clippy::unwrap_used,
    reason = "a panic is the failure report of a test"
)]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// A module may name modules of rows above its own line in this table, and itself.
const LAYERS: &[&[&str]] = &[
    &["error", "disk", "algebra"],
    &["remote"],
    &["onnx", "data", "shards"],
    &["graph", "engine"],
    &["grad", "prune"],
    &["head"],
    &["features"],
    &["sensitivity", "eval", "repair", "finetune", "transfer"],
    &["pipeline"],
    &["study"],
    &["report"],
    &["cli"],
];

/// Files that belong to no module: they name all of them.
const ROOTS: [&str; 2] = ["lib", "main"];

/// Lines of a file that nobody can keep in mind any more.
const MAX_LINES: usize = 600;

#[test]
fn modules_name_only_lower_layers() {
    let mut problems = Vec::new();
    for (path, text) in sources() {
        problems.extend(violations(&path, &text));
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn every_module_has_a_layer() {
    let known = rows();
    for (path, _) in sources() {
        let module = top_module(&path);
        assert!(
            ROOTS.contains(&module.as_str()) || known.contains_key(module.as_str()),
            "{} belongs to no layer; add {module:?} to the table",
            path.display()
        );
    }
}

#[test]
fn files_stay_under_six_hundred_lines() {
    let long: Vec<String> = sources()
        .into_iter()
        .map(|(path, text)| (path, text.lines().count()))
        .filter(|(_, lines)| *lines > MAX_LINES)
        .map(|(path, lines)| format!("{}: {lines} lines", path.display()))
        .collect();
    assert!(long.is_empty(), "{}", long.join("\n"));
}

#[test]
fn a_violation_is_caught_however_it_is_written() {
    struct Case {
        file: &'static str,
        text: &'static str,
        expected: &'static [&'static str],
    }
    let cases = [
        // the plain form
        Case {
            file: "graph/mod.rs",
            text: "use crate::prune::Plan;",
            expected: &["prune"],
        },
        // grouped, over several lines, nested
        Case {
            file: "graph/order.rs",
            text: "use crate::{\n    onnx::{Model, head},\n    error::Result,\n    head::find,\n};",
            expected: &["head"],
        },
        // without `use`
        Case {
            file: "onnx/save.rs",
            text: "fn f() { crate::graph::Graph::new() }",
            expected: &["graph"],
        },
        // by climbing to the root
        Case {
            file: "data/mod.rs",
            text: "use super::engine::open;",
            expected: &["engine"],
        },
        Case {
            file: "prune/rules/conv.rs",
            text: "use super::super::super::features::Trunk;",
            expected: &["features"],
        },
        Case {
            file: "prune/plan.rs",
            text: "use super::super::{head, graph};",
            expected: &["head"],
        },
        // by the crate's own name
        Case {
            file: "eval/mod.rs",
            text: "use onnx_prune::report;",
            expected: &["report"],
        },
        // neighbours in a row
        Case {
            file: "data/mod.rs",
            text: "use crate::onnx::Tensor;",
            expected: &["onnx"],
        },
        // allowed: lower rows, itself, comments and documentation, other crates' paths
        Case {
            file: "prune/plan.rs",
            text: "//! [`crate::head`]\nuse crate::{error::Error, graph::Graph, prune::Plan};\n// crate::cli\n\
                   /* crate::report */ use super::scores; use foo_crate::head;",
            expected: &[],
        },
        Case {
            file: "cli/prune.rs",
            text: "use onnx_prune::{pipeline, report};",
            expected: &[],
        },
    ];
    for case in cases {
        let found = violations(Path::new(case.file), case.text);
        let fits = found.len() == case.expected.len()
            && found
                .iter()
                .zip(case.expected)
                .all(|(found, name)| found.ends_with(&format!("names {name}")));
        assert!(fits, "{}: {:?} gave {found:?}", case.file, case.text);
    }
}

/// Paths below `src/`, with their text.
fn sources() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                files.push((path.strip_prefix(&root).unwrap().to_owned(), text));
            }
        }
    }
    files.sort();
    assert!(files.len() > 10, "the search found hardly anything");
    files
}

fn rows() -> BTreeMap<&'static str, usize> {
    let rows = LAYERS.iter().enumerate();
    rows.flat_map(|(row, names)| names.iter().map(move |name| (*name, row)))
        .collect()
}

/// `graph` for `graph/mod.rs`, `graph/order.rs` and `graph.rs`.
fn top_module(path: &Path) -> String {
    let first = path.iter().next().unwrap().to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

/// How many modules deep the file's own module lies: 1 for `graph/mod.rs`, 2 for `graph/order.rs`.
fn depth(path: &Path) -> usize {
    let parts = path.iter().count();
    if path.ends_with("mod.rs") {
        parts - 1
    } else {
        parts
    }
}

fn violations(path: &Path, text: &str) -> Vec<String> {
    let module = top_module(path);
    if ROOTS.contains(&module.as_str()) {
        return Vec::new();
    }
    let rows = rows();
    let own = rows.get(module.as_str()).copied().unwrap_or(0);
    let allowed = |name: &str| name == module || rows.get(name).is_none_or(|row| *row < own);
    let code = without_comments(text);
    let climb = "super::".repeat(depth(path));
    let mut found = Vec::new();
    for prefix in ["crate::", "onnx_prune::", &climb] {
        for name in names_after(&code, prefix) {
            if !allowed(&name) {
                found.push(format!("{}: {module} names {name}", path.display()));
            }
        }
    }
    found
}

/// Line and block comments blanked out. A `//` inside a string goes too, which hides no path.
fn without_comments(text: &str) -> String {
    let mut rest = text;
    let mut code = String::new();
    while let Some(at) = rest.find("//").into_iter().chain(rest.find("/*")).min() {
        code.push_str(&rest[..at]);
        let end = if rest[at..].starts_with("//") {
            rest[at..].find('\n')
        } else {
            rest[at..].find("*/").map(|end| end + 2)
        };
        rest = end.map_or("", |end| &rest[at + end..]);
    }
    code + rest
}

/// The identifiers that follow each occurrence of `prefix`: one, or those of a `{...}` list.
fn names_after(code: &str, prefix: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (at, _) in code.match_indices(prefix) {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
            continue;
        }
        let rest = &code[at + prefix.len()..];
        match rest.strip_prefix('{') {
            None => names.push(identifier(rest)),
            Some(list) => names.extend(first_parts(list)),
        }
    }
    names
}

/// `a` and `b` of `a::{c, d}, b::e}`.
fn first_parts(list: &str) -> Vec<String> {
    let mut nesting = 0;
    let mut starts = vec![0];
    for (at, character) in list.char_indices() {
        match character {
            '{' => nesting += 1,
            '}' if nesting == 0 => break,
            '}' => nesting -= 1,
            ',' if nesting == 0 => starts.push(at + 1),
            _ => {}
        }
    }
    let parts = starts.into_iter().map(|at| identifier(&list[at..]));
    parts.filter(|name| !name.is_empty()).collect()
}

fn identifier(text: &str) -> String {
    let text = text.trim_start();
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_'));
    text[..end.unwrap_or(text.len())].to_owned()
}
