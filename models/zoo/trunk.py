"""How much smaller each model of the zoo gets, with and without channels taken out of its trunk.

    python models/zoo/trunk.py ZOO target/release/onnx-prune KEEP [PATTERN ...]

ZOO is the folder that make.py and its likes filled; a folder with `vgg.onnx` does as well. Every model
is run, by single neurons and by whole channels where it has any, as

    onnx-prune IN OUT --keep KEEP --norm inf --samples 4 --seed 0 --json --force --granularity G --trunk T

without data, so on synthetic noise: the table is about bytes and about the proof, which compares the
model without the trunk's channels with the masked original in both engines. Only the standard library
is needed.
"""

import fnmatch
import json
import pathlib
import subprocess
import sys
import tempfile

FLAGS = ["--norm", "inf", "--samples", "4", "--seed", "0", "--json", "--force"]
LIMIT_SECONDS = 1200
NO_CHANNELS = "no channels to choose among"


def run(program, model, output, flags):
    """The report of one run, or the last lines of what went wrong."""
    command = [program, str(model), str(output), *FLAGS, *flags]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_SECONDS)
    except subprocess.TimeoutExpired:
        return None, f"longer than {LIMIT_SECONDS} s"
    if done.returncode in (0, 1) and done.stdout.strip():
        return json.loads(done.stdout), None
    return None, " ".join(done.stderr.split("error")[-1].split())


def mebibytes(count):
    return f"{count / 2**20:.2f}"


def proof(report):
    """The largest relative difference in each engine."""
    texts = []
    for check in report["verification"]["checks"]:
        if " and " in check["engine"]:
            continue
        text = f"{check['engine']} {check['max_rel']:.0e}"
        texts.append(text if check["passed"] else text + " FAILED")
    return ", ".join(texts)


def rows(program, model, output, keep):
    """One row per granularity."""
    for granularity in ("neuron", "channel"):
        flags = ["--keep", keep, "--granularity", granularity]
        whole, error = run(program, model, output, [*flags, "--trunk", "none"])
        if error is not None and NO_CHANNELS in error:
            continue
        cut, second = run(program, model, output, [*flags, "--trunk", "exact"])
        error = error or second
        if error is not None:
            yield f"| {model.stem} | {granularity} | {error[:160].replace('|', '/')} | | | | |"
            continue
        before = whole["input"]["bytes"]
        after, head = cut["output"]["bytes"], whole["output"]["bytes"]
        stops = "; ".join(stop["why"] for stop in cut["trunk"]["stops"]) or "-"
        yield (
            f"| {model.stem} | {granularity} | {mebibytes(before)} | {mebibytes(head)} "
            f"| {mebibytes(after)} | {100 - 100 * after / before:.1f} % | {proof(cut)} | {stops} |"
        )


def main():
    zoo, program, keep, *patterns = sys.argv[1:]
    models = sorted(pathlib.Path(zoo).glob("*.onnx"))
    if patterns:
        models = [m for m in models if any(fnmatch.fnmatch(m.stem, p) for p in patterns)]
    print("| model | by | MiB | head cut | and trunk | smaller | masked = pruned | what is left, and why |")
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for model in models:
            for row in rows(program, model, pathlib.Path(folder) / "out.onnx", keep):
                print(row, flush=True)
            for left in pathlib.Path(folder).iterdir():
                left.unlink()


if __name__ == "__main__":
    main()
