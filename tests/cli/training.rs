//! Flags about training.

use serde_json::json;

use crate::{
    flags::{
        Case,
        Expected::{Error, Json, Seen, Words},
        leak,
    },
    support::repository,
};

/// A run without labels, on 22 of 30 samples: 6 are held out and 2 choose the epoch.
const RUN: &str = "@in.onnx @out.onnx --data @data.npy --teacher @in.onnx --json";

#[rustfmt::skip]
pub(crate) fn cases() -> Vec<Case> {
    let case = |flag, line: &str, expected| Case {
        command: "finetune",
        flag,
        line: leak(if line.starts_with('@') { line.to_owned() } else { format!("{RUN} {line}") }),
        expected,
    };
    let labelled = format!(
        "@in.onnx @out.onnx --data {} --resize 4x4",
        repository("models/fashion-mnist-train.npz")
    );
    let mut cases = vec![
        case("--teacher", "--epochs 1", Words("/training/teacher", "in.onnx")),
        case("--teacher", "@in.onnx @out.onnx --data @data.npy", Error("--teacher: ")),
        case("--teacher", "@in.onnx @out.onnx --teacher @in.onnx", Error("--data: training needs samples")),
        case("--data", &labelled, Error("is not below the model's 3 classes")),
        case("--epochs", "--epochs 2", Json("/training/history/2/epoch", json!(2))),
        case("--epochs", "--epochs 0", Error("must be at least 1")),
        case("--optimizer", "--optimizer sgd", Json("/training/optimizer/name", json!("sgd"))),
        case("--optimizer", "--optimizer adamw", Json("/training/optimizer/name", json!("adamw"))),
        case("--optimizer", "--optimizer lion", Error("expected adamw or sgd")),
        case("--learning-rate", "--learning-rate 0.5", Json("/training/learning_rate", json!(0.5))),
        case("--learning-rate", "--learning-rate -1", Error("--learning-rate: is not a positive number")),
        case("--warmup", "--warmup 0.5", Json("/training/warmup", json!(0.5))),
        case("--warmup", "--warmup 1", Error("--warmup: is not from 0 to below 1")),
        case("--train-batch", "--epochs 1 --train-batch 7", Json("/training/steps", json!(4))),
        case("--weight-decay", "--weight-decay 0.5", Json("/training/weight_decay", json!(0.5))),
        case("--weight-decay", "--weight-decay -1", Error("--weight-decay: is not a number from 0 on")),
        case("--momentum", "--optimizer sgd --momentum 0.5", Json("/training/optimizer/momentum", json!(0.5))),
        case("--momentum", "--momentum 0.5", Error("--momentum: has no effect with --optimizer adamw")),
        case("--label-smoothing", "--label-smoothing 0.1", Error("has no effect where a model is imitated")),
        case("--label-smoothing", "@in.onnx @out.onnx --data @data.npy --label-smoothing 1.5", Error("--teacher: ")),
        case("--temperature", "--temperature 3", Json("/training/temperature", json!(3.0))),
        case("--temperature", "@in.onnx @out.onnx --data @data.npy --temperature 3", Error("has no effect where labels are learned")),
        case("--patience", "--patience 7", Json("/training/patience", json!(7))),
        case("--log", "--epochs 1 --log @log", Seen(|bench, _| {
            let log = std::fs::read_to_string(bench.path("log")).unwrap();
            log.lines().count() == 3 && log.contains("\"event\":\"epoch\"")
        })),
        case("--checkpoint", "--checkpoint @in.onnx", Error("is no checkpoint of a training run")),
        case("--checkpoint", "--checkpoint @state", Seen(|bench, _| !bench.path("state").exists())),
        case("--samples", "--samples 10", Json("/training/samples", json!(9))),
        case("--batch", "--batch 7", Json("/training/samples", json!(22))),
        case("--cache", "--cache @cache", Seen(|bench, _| bench.path("cache").exists())),
        case("--no-cache", "--no-cache", Json("/passed", json!(true))),
        case("--test", "--test @data.npy", Words("/data/test/path", "data.npy")),
        case("--force", "@in.onnx @data.npy --data @data.npy --teacher @in.onnx", Error("exists; --force replaces it")),
        case("--force", "--force", Seen(|bench, _| bench.path("out.onnx").exists())),
    ];
    cases.extend(of_the_main_job());
    cases
}

/// The same flags where a model is cut first; these samples have no labels.
#[rustfmt::skip]
fn of_the_main_job() -> Vec<Case> {
    let files = "@in.onnx @out.onnx --data @data.npy --json";
    let case = |flag, line: &str, expected| Case {
        command: "",
        flag,
        line: leak(if line.starts_with('@') { line.to_owned() } else { format!("{files} {line}") }),
        expected,
    };
    vec![
        case("--epochs", "--epochs 2", Json("/training/history/2/epoch", json!(2))),
        case("--epochs", "--epochs 1", Seen(|_, run| run.json().pointer("/agreement/tuned").is_some())),
        case("--distill", "--epochs 1 --distill", Json("/training/distill", json!(true))),
        case("--distill", "--distill", Error("--distill: has no effect without --epochs")),
        case("--label-share", "--label-share 0.5", Error("--label-share: has no effect without --epochs")),
        case("--label-share", "--epochs 1 --label-share 0.5", Error("--label-share: the samples have no labels")),
        case("--label-share", "--epochs 1 --label-share 1.5", Error("must be from 0 to 1")),
        case("--label-share", "--epochs 1 --label-share 0.5 --distill", Error("cannot be used with")),
        case("--label-share", "@in.onnx @out.onnx --data @images.idx --classes 4 --epochs 1 --label-share 0.5 --json", Json("/training/label_share", json!(0.5))),
        case("--optimizer", "--epochs 1 --optimizer sgd", Json("/training/optimizer/name", json!("sgd"))),
        case("--learning-rate", "--epochs 1 --learning-rate 0.5", Json("/training/learning_rate", json!(0.5))),
        case("--learning-rate", "--learning-rate 0.5", Error("--learning-rate: has no effect without --epochs")),
        case("--warmup", "--epochs 1 --warmup 0.5", Json("/training/warmup", json!(0.5))),
        case("--train-batch", "--epochs 1 --train-batch 7", Json("/training/batch", json!(7))),
        case("--weight-decay", "--epochs 1 --weight-decay 0.5", Json("/training/weight_decay", json!(0.5))),
        case("--momentum", "--epochs 1 --optimizer sgd --momentum 0.5", Json("/training/optimizer/momentum", json!(0.5))),
        case("--label-smoothing", "--epochs 1 --label-smoothing 0.1", Json("/training/label_smoothing", json!(0.1))),
        case("--label-smoothing", "--epochs 1 --distill --label-smoothing 0.1", Error("has no effect where a model is imitated")),
        case("--temperature", "--epochs 1 --distill --temperature 3", Json("/training/temperature", json!(3.0))),
        case("--patience", "--epochs 1 --patience 7", Json("/training/patience", json!(7))),
        case("--log", "--epochs 1 --log @log", Seen(|bench, _| {
            let log = std::fs::read_to_string(bench.path("log")).unwrap();
            log.contains("\"event\":\"epoch\"")
        })),
        case("--checkpoint", "--epochs 1 --checkpoint @in.onnx", Error("is no checkpoint of a training run")),
        case("--checkpoint", "--epochs 1 --checkpoint @state --max-bytes 1GB", Error("--checkpoint: keeps the state of one training")),
        case("--checkpoint", "--epochs 1 --checkpoint @state --baselines", Error("and --baselines trains several heads")),
        case("--checkpoint", "--epochs 1 --checkpoint @state --granularity auto", Error("and --granularity auto trains several heads")),
    ]
}
