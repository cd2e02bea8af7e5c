//! `onnx-prune runtime`: which ONNX Runtime is used, whether it works, and fetching one.

use std::sync::Arc;

use onnx_prune::{
    Result,
    engine::{
        self, Engine, EngineChoice, EngineInfo, EngineOptions, Selected,
        cuda::Cuda,
        runtime::{self, Build},
    },
    onnx::{DataType, Dim, GraphProto, ModelProto, NodeProto, Tensor, ValueInfoProto},
    pipeline::Watch,
    report,
};
use serde::Serialize;

use super::{
    Outcome,
    args::{CheckArgs, Global, InstallArgs, RuntimeAction, RuntimeArgs},
    checks::no_effect,
    output,
    progress::Terminal,
};

/// Old enough for every ONNX Runtime that can be loaded.
const OPSET: i64 = 13;

/// How far the engines may lie apart on `check`'s five sums of three products.
const TOLERANCE: f32 = 1e-6;

pub(super) fn run(args: &RuntimeArgs, global: &Global) -> Result<Outcome> {
    global.refuse_progress("with runtime")?;
    match args.action {
        None => list(args, global),
        Some(RuntimeAction::Check(check_args)) => check(args, check_args, global),
        Some(RuntimeAction::Install(_)) if args.ort_lib.is_some() => {
            Err(no_effect("--ort-lib", "with runtime install"))
        }
        Some(RuntimeAction::Install(install_args)) => install(install_args, global),
    }
}

#[derive(Serialize)]
struct Listed {
    schema: &'static str,
    candidates: Vec<runtime::Candidate>,
    tract: EngineInfo,
    #[serde(skip_serializing_if = "Option::is_none")]
    cuda: Option<Cuda>,
}

fn list(args: &RuntimeArgs, global: &Global) -> Result<Outcome> {
    let candidates = runtime::candidates(args.ort_lib.as_deref());
    let listed = Listed {
        schema: "onnx-prune/runtime/v1",
        cuda: runtime::cuda(&candidates),
        candidates,
        tract: engine::tract(None).info().clone(),
    };
    output::print(global, &listed, || {
        report::runtimes(&listed.candidates, &listed.tract, listed.cuda.as_ref())
    })?;
    Ok(Outcome::Done)
}

#[derive(Serialize)]
struct Installed {
    schema: &'static str,
    #[serde(flatten)]
    installed: runtime::Installed,
}

fn install(args: InstallArgs, global: &Global) -> Result<Outcome> {
    let build = if args.cuda { Build::Cuda } else { Build::Cpu };
    // It takes minutes, and nobody should be surprised by what it leaves on the disk.
    let terminal = Terminal::new(global);
    let say = |text: &str| terminal.note(text);
    let done = Installed {
        schema: "onnx-prune/runtime-install/v1",
        installed: runtime::install(build, &say)?,
    };
    drop(terminal);
    output::print(global, &done, || {
        let runtime::Installed {
            library,
            version,
            fetched,
        } = &done.installed;
        let verb = if *fetched {
            "fetched"
        } else {
            "was there already:"
        };
        format!("{verb} onnxruntime {version}, {}", library.display())
    })?;
    Ok(Outcome::Done)
}

#[derive(Serialize)]
struct Checked {
    schema: &'static str,
    engines: Vec<EngineInfo>,
    max_difference: f32,
    tolerance: f32,
    passed: bool,
}

/// Runs one small dense layer in both engines.
fn check(args: &RuntimeArgs, check: CheckArgs, global: &Global) -> Result<Outcome> {
    let options = EngineOptions {
        engine: EngineChoice::Ort,
        provider: check.provider.unwrap_or_default(),
        ort_library: args.ort_lib.clone(),
        ..EngineOptions::default()
    };
    let Selected { engine: ort, note } = engine::open(&options)?;
    let engines: [Arc<dyn Engine>; 2] = [ort, engine::tract(None)];
    let [ort, tract] = [dense(engines[0].as_ref())?, dense(engines[1].as_ref())?];
    let differences = ort
        .iter()
        .zip(&tract)
        .map(|(ort, tract)| (ort - tract).abs());
    let max_difference = differences.fold(0.0, f32::max);
    let checked = Checked {
        schema: "onnx-prune/runtime-check/v1",
        engines: engines.iter().map(|engine| engine.info().clone()).collect(),
        max_difference,
        tolerance: TOLERANCE,
        passed: max_difference <= TOLERANCE,
    };
    output::print(global, &checked, || {
        let mut lines: Vec<String> = checked
            .engines
            .iter()
            .map(|info| format!("{info}: runs"))
            .collect();
        lines.extend(note);
        lines.push(format!(
            "largest difference {max_difference:.1e}, at most {TOLERANCE:.0e} allowed"
        ));
        lines.join("\n")
    })?;
    Ok(Outcome::of(checked.passed))
}

/// `y = x @ w` for two rows, by hand small enough to be right in any runtime that works at all.
fn dense(engine: &dyn Engine) -> Result<Vec<f32>> {
    let shape = |columns| [Dim::Fixed(2), Dim::Fixed(columns)];
    let weights = Tensor::f32([3, 2], vec![0.5, -1.0, 2.0, 0.25, -0.125, 3.0])?;
    let mut graph = GraphProto::new("check");
    graph.input = vec![ValueInfoProto::tensor("x", DataType::Float, &shape(3))];
    graph.output = vec![ValueInfoProto::tensor("y", DataType::Float, &shape(2))];
    graph.initializer = vec![weights.to_proto("w")];
    graph.node = vec![NodeProto::new("MatMul", &["x", "w"], &["y"])];
    let x = Tensor::f32([2, 3], vec![1.0, 2.0, 3.0, -4.0, 5.0, -6.0])?;
    let outputs = engine
        .load(&ModelProto::new(graph, OPSET))?
        .run(&[("x", &x)])?;
    Ok(outputs
        .iter()
        .flat_map(|y| y.to_f32().into_owned())
        .collect())
}
