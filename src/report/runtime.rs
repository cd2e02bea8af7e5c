//! `onnx-prune runtime`.

use super::table;
use crate::engine::{EngineInfo, runtime::Candidate};

/// Every ONNX Runtime that was found, best first, and the engine that is always there.
pub fn runtimes(candidates: &[Candidate], tract: &EngineInfo) -> String {
    let mut rows: Vec<Vec<String>> = candidates.iter().map(row).collect();
    rows.push(vec![
        if candidates.iter().any(|candidate| candidate.chosen) {
            "".to_owned()
        } else {
            "*".to_owned()
        },
        "tract".to_owned(),
        tract.version.clone(),
        "cpu".to_owned(),
        "compiled in".to_owned(),
        String::new(),
    ]);
    let header = ["", "engine", "version", "providers", "found by", "library"];
    let mut text = table::words(&header, rows);
    for candidate in candidates {
        if let Some(problem) = &candidate.problem {
            text.push_str(&format!(
                "\n{}: cannot be used: {problem}",
                candidate.path.display()
            ));
        }
    }
    if candidates.is_empty() {
        text.push_str("\nno ONNX Runtime found; `onnx-prune runtime install` fetches one");
    }
    text
}

fn row(candidate: &Candidate) -> Vec<String> {
    let unknown = || "-".to_owned();
    vec![
        if candidate.chosen { "*" } else { "" }.to_owned(),
        "onnxruntime".to_owned(),
        candidate.version.clone().unwrap_or_else(unknown),
        match candidate.providers.is_empty() {
            true => unknown(),
            false => candidate.providers.join(", "),
        },
        candidate.origin.to_string(),
        candidate.path.display().to_string(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::runtime::Origin;

    fn tract() -> EngineInfo {
        EngineInfo {
            name: "tract",
            version: "0.23.9".to_owned(),
            provider: "cpu".to_owned(),
            library: None,
            threads: 2,
        }
    }

    #[test]
    fn the_chosen_library_is_marked_and_bad_ones_say_why() {
        let candidates = [
            Candidate {
                path: "/opt/a/libonnxruntime.so.1.9.0".into(),
                origin: Origin::Executable,
                version: None,
                problem: Some("is too old".to_owned()),
                providers: vec![],
                chosen: false,
            },
            Candidate {
                path: "/opt/b/libonnxruntime.so.1.32.0".into(),
                origin: Origin::DataFolder,
                version: Some("1.32.0".to_owned()),
                problem: None,
                providers: vec!["cpu".to_owned(), "cuda".to_owned()],
                chosen: true,
            },
        ];
        insta::assert_snapshot!(runtimes(&candidates, &tract()), @r"
           engine       version  providers  found by               library
           onnxruntime  -        -          beside the executable  /opt/a/libonnxruntime.so.1.9.0
        *  onnxruntime  1.32.0   cpu, cuda  the data folder        /opt/b/libonnxruntime.so.1.32.0
           tract        0.23.9   cpu        compiled in
        /opt/a/libonnxruntime.so.1.9.0: cannot be used: is too old
        ");
    }

    #[test]
    fn without_a_library_tract_is_chosen() {
        insta::assert_snapshot!(runtimes(&[], &tract()), @r"
           engine  version  providers  found by     library
        *  tract   0.23.9   cpu        compiled in
        no ONNX Runtime found; `onnx-prune runtime install` fetches one
        ");
    }
}
