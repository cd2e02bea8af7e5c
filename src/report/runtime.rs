//! `onnx-prune runtime`.

use super::table;
use crate::{
    data::readable_bytes,
    engine::{EngineInfo, cuda::Cuda, runtime::Candidate},
};

/// Every ONNX Runtime that was found, best first, the engine that is always there, and what CUDA
/// has and lacks.
pub fn runtimes(candidates: &[Candidate], tract: &EngineInfo, cuda: Option<&Cuda>) -> String {
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
    if let Some(cuda) = cuda {
        text.push_str(&format!("\n\n{}", needs(cuda)));
    }
    text
}

/// Driver, devices and libraries, one a line.
fn needs(cuda: &Cuda) -> String {
    let driver = &cuda.driver;
    let mut rows = vec![vec![
        "driver".to_owned(),
        driver.version.clone().unwrap_or_else(|| "-".to_owned()),
        driver.problem.clone().unwrap_or_else(|| "loads".to_owned()),
    ]];
    rows.extend(driver.devices.iter().enumerate().map(|(number, device)| {
        let (free, total) = (device.free_bytes, device.total_bytes);
        let memory = [free, total].map(readable_bytes);
        vec![
            format!("cuda:{number}"),
            device.name.clone(),
            format!("{} of {} free", memory[0], memory[1]),
        ]
    }));
    rows.extend(cuda.libraries.iter().map(|library| {
        let found = match (&library.problem, &library.path) {
            (Some(_), _) => "missing".to_owned(),
            (None, Some(path)) => path.display().to_string(),
            (None, None) => "where the system looks".to_owned(),
        };
        let package = library.package.clone().unwrap_or_default();
        vec![library.name.clone(), package, found]
    }));
    let text = table::words(&["CUDA", "", "found"], rows);
    match (&cuda.problem, cuda.libraries.is_empty()) {
        (Some(problem), _) => format!("{text}\ncuda cannot work: {problem}"),
        (None, true) => format!(
            "{text}\nno ONNX Runtime for CUDA is there; `onnx-prune runtime install --cuda` fetches it"
        ),
        (None, false) => {
            format!(
                "{text}\nnothing is missing; `onnx-prune runtime check --provider cuda` tries it"
            )
        }
    }
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
    use crate::engine::{
        cuda::{Device, Driver, Library},
        runtime::Origin,
    };

    fn tract() -> EngineInfo {
        EngineInfo::example()
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
        insta::assert_snapshot!(runtimes(&candidates, &tract(), None), @r"
           engine       version  providers  found by               library
           onnxruntime  -        -          beside the executable  /opt/a/libonnxruntime.so.1.9.0
        *  onnxruntime  1.32.0   cpu, cuda  the data folder        /opt/b/libonnxruntime.so.1.32.0
           tract        0.23.9   cpu        compiled in
        /opt/a/libonnxruntime.so.1.9.0: cannot be used: is too old
        ");
    }

    #[test]
    fn without_a_library_tract_is_chosen() {
        insta::assert_snapshot!(runtimes(&[], &tract(), None), @r"
           engine  version  providers  found by     library
        *  tract   0.23.9   cpu        compiled in
        no ONNX Runtime found; `onnx-prune runtime install` fetches one
        ");
    }

    #[test]
    fn what_cuda_lacks_is_in_the_table() {
        let library = |name: &str, path: Option<&str>| Library {
            name: name.to_owned(),
            path: path.map(Into::into),
            package: Some("nvidia-cublas".to_owned()),
            problem: path
                .is_none()
                .then(|| "cannot open shared object file".to_owned()),
        };
        let mut cuda = Cuda {
            driver: Driver {
                version: Some("580.65.06".to_owned()),
                problem: None,
                devices: vec![Device {
                    name: "NVIDIA L4".to_owned(),
                    free_bytes: 22 << 30,
                    total_bytes: 24 << 30,
                }],
            },
            libraries: vec![
                library(
                    "libcublas.so.13",
                    Some("/opt/nvidia/cu13/lib/libcublas.so.13"),
                ),
                library("libcublasLt.so.13", None),
            ],
            problem: Some("CUDA libraries are missing: libcublasLt.so.13".to_owned()),
        };
        insta::assert_snapshot!(needs(&cuda), @r"
        CUDA                              found
        driver             580.65.06      loads
        cuda:0             NVIDIA L4      22.0 GiB of 24.0 GiB free
        libcublas.so.13    nvidia-cublas  /opt/nvidia/cu13/lib/libcublas.so.13
        libcublasLt.so.13  nvidia-cublas  missing
        cuda cannot work: CUDA libraries are missing: libcublasLt.so.13
        ");
        cuda.libraries.clear();
        cuda.problem = None;
        let text = needs(&cuda);
        assert!(
            text.ends_with("`onnx-prune runtime install --cuda` fetches it"),
            "{text}"
        );
    }
}
