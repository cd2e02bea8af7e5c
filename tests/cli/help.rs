//! Help, versions, and which form of a call is meant.

use crate::support::{Bench, Engines, run};

#[test]
fn help_documents_the_exit_codes_and_goes_to_stdout() {
    for flag in ["--help", "-h"] {
        let help = run(Engines::Tract, &[flag]);
        help.assert_done(flag);
        assert!(help.stderr.is_empty());
        for part in ["Usage: onnx-prune", "Exit codes:", "score", "--keep <R>"] {
            assert!(help.stdout.contains(part), "{flag} lacks {part:?}");
        }
    }
}

#[test]
fn version_is_the_crate_s() {
    let version = run(Engines::Tract, &["--version"]);
    version.assert_done("--version");
    assert_eq!(
        version.stdout.trim(),
        concat!("onnx-prune ", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn a_mistyped_command_is_not_taken_for_a_model() {
    let bench = Bench::new();
    let cases = [
        ("scroe @in.onnx", "onnx-prune score"),
        ("gradeint @in.onnx", "onnx-prune gradient"),
        ("verfy @in.onnx --seed 3", "onnx-prune verify"),
        ("scroe @in.onnx -o @scores.json", "onnx-prune score"),
        ("runtme", "onnx-prune runtime"),
    ];
    for (line, meant) in cases {
        let before = bench.names();
        let found = run(Engines::Tract, &bench.arguments(line));
        found.assert_error(line, &format!("did you mean the command `{meant}`?"));
        assert_eq!(bench.names(), before, "{line}");
    }
}

#[test]
fn flags_that_would_have_no_effect_are_refused() {
    let bench = Bench::new();
    let cases = [
        (
            "@in.onnx @out.onnx --criterion random --norm 2",
            "--norm: has no effect",
        ),
        (
            "@in.onnx @out.onnx --criterion weight --of logits",
            "--of: has no effect",
        ),
        (
            "@in.onnx @out.onnx --criterion taylor --scale std",
            "--scale: has no effect",
        ),
        (
            "@in.onnx @out.onnx --criterion apoz --over-classes 1",
            "--over-classes: has no effect",
        ),
        (
            "@in.onnx @out.onnx --criterion weight --norm 2 --over-classes 1",
            "--norm: has no effect",
        ),
        (
            "@in.onnx @out.onnx --mean 0.5",
            "--mean: has no effect without --data",
        ),
        (
            "@in.onnx @out.onnx --std 0.5",
            "--std: has no effect without --data",
        ),
        (
            "@in.onnx @out.onnx --resize 8",
            "--resize: has no effect without --data",
        ),
        (
            "@in.onnx @out.onnx --crop 8",
            "--crop: has no effect without --data",
        ),
        (
            "@in.onnx @out.onnx --interpolation box",
            "--interpolation: has no effect without --data",
        ),
        (
            "@in.onnx @out.onnx --rescale 1",
            "--rescale: has no effect without --data",
        ),
        (
            "@in.onnx @out.onnx --layout nchw",
            "--layout: has no effect without --data",
        ),
        (
            "@in.onnx @out.onnx --channels grey",
            "--channels: has no effect without --data",
        ),
        (
            "@in.onnx @out.onnx --preprocess none",
            "--preprocess: has no effect without --data",
        ),
        (
            "@in.onnx @out.onnx --no-verify --require-both",
            "cannot be used with",
        ),
        (
            "@in.onnx @out.onnx --quiet --verbose",
            "cannot be used with",
        ),
        (
            "@in.onnx @out.onnx --engine tract --provider cuda",
            "--provider: ",
        ),
        (
            "@in.onnx @out.onnx --engine tract --ort-lib x.so",
            "--ort-lib: ",
        ),
        ("score @in.onnx --force", "without --output or --html"),
        ("--keep 0.3 score @in.onnx", "--keep stands before `score`"),
        ("@in.onnx score @in.onnx", "write ./score"),
        (
            "score @in.onnx --data @data.npy --criterion weight --cache @kept",
            "--cache: has no effect with --criterion weight",
        ),
        (
            "@in.onnx @out.onnx --data @data.npy --cache @kept --no-cache",
            "cannot be used with",
        ),
        ("runtime --quiet", "--quiet: has no effect"),
        ("cache --verbose", "--verbose: has no effect"),
        ("runtime check --verbose", "--verbose: has no effect"),
        ("runtime install --ort-lib x.so", "--ort-lib: has no effect"),
    ];
    for (line, part) in cases {
        let before = bench.names();
        run(Engines::Tract, &bench.arguments(line)).assert_error(line, part);
        assert_eq!(bench.names(), before, "{line}");
    }
}
