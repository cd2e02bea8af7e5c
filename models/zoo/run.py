"""Prunes every model of the zoo and prints what happened, as a Markdown table.

    python models/zoo/run.py ZOO target/release/onnx-prune [PATTERN ...]

ZOO is the folder that make.py, make_keras.py and make_paddle.py filled. Every model is run as

    onnx-prune IN OUT --norm inf --keep 0.3 --samples 4 --seed 0 --json --force

without data, so on synthetic noise: the table is about what is found, cut and proved, not about
accuracy. Only the standard library is needed.
"""

import fnmatch
import json
import pathlib
import subprocess
import sys
import tempfile

FLAGS = ["--norm", "inf", "--keep", "0.3", "--samples", "4", "--seed", "0", "--json", "--force"]
LIMIT_SECONDS = 1200


def run(program, model, output):
    """The report of one run, or the error's first line."""
    command = [program, str(model), str(output), *FLAGS]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_SECONDS)
    except subprocess.TimeoutExpired:
        return None, f"longer than {LIMIT_SECONDS} s", -1
    if done.returncode in (0, 1) and done.stdout.strip():
        return json.loads(done.stdout), None, done.returncode
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("error")]
    after = lines[lines.index(errors[0]) :][:2] if errors else lines[-2:]
    return None, " ".join(line.strip() for line in after), done.returncode


def megabytes(count):
    return f"{count / 1e6:.2f}"


def proof(report, engine):
    """The largest relative difference in one engine, and what was run there."""
    checks = report["verification"]["checks"]
    found = [check for check in checks if check["engine"] == engine]
    if not found:
        return "-"
    check = found[0]
    text = f"{check['max_rel']:.0e}" if check["max_rel"] else "0"
    if check["scope"] == "head":
        text += " (head)"
    if check.get("note"):
        text += " (as f32)"
    return text if check["passed"] else text + " FAILED"


def row(name, report, error, code):
    if error is not None:
        return f"| {name} | exit {code}: {error[:160].replace('|', '/')} | | | | |"
    layers = ", ".join(f"{l['name']} {l['width']}→{l['kept']}" for l in report["layers"])
    before, after = report["input"]["bytes"], report["output"]["bytes"]
    both = [c for c in report["verification"]["checks"] if " and " in c["engine"]]
    across = f"{both[0]['max_rel']:.0e}" if both else "-"
    return (
        f"| {name} | {layers} | {megabytes(before)} → {megabytes(after)} "
        f"| {proof(report, 'onnxruntime')} | {proof(report, 'tract')} | {across} |"
    )


def main():
    zoo, program, *patterns = sys.argv[1:]
    models = sorted(pathlib.Path(zoo).glob("*.onnx"))
    if patterns:
        models = [m for m in models if any(fnmatch.fnmatch(m.stem, p) for p in patterns)]
    print("| model | layers before→after | MB | masked = pruned, ONNX Runtime | the same, tract | engine = engine |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for model in models:
            output = pathlib.Path(folder) / "out.onnx"
            report, error, code = run(program, model, output)
            print(row(model.stem, report, error, code), flush=True)
            for left in pathlib.Path(folder).iterdir():
                left.unlink()


if __name__ == "__main__":
    main()
