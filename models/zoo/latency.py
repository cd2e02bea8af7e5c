"""Prunes models of the zoo, measures them against their originals, and prints a Markdown table.

    python models/zoo/latency.py ZOO target/release/onnx-prune [--seconds S] [PATTERN ...]

ZOO is the folder that make.py filled; PATTERN (default `*-torchscript`) chooses models by name. Each is pruned with

    onnx-prune IN OUT --criterion weight --keep 0.3 [FLAGS ...]

for which neurons stay makes no difference to time (`--flags` takes others), and measured by

    onnx-prune bench IN OUT --head --runtime ort,tract --threads 2 --batch 1 --seconds S --json

A ratio whose interval lies above 1.02 is marked with `SLOWER`, and the exit code is then 1. Only the standard library
is needed.
"""

import argparse
import fnmatch
import json
import pathlib
import subprocess
import sys
import tempfile

SLOWER = 1.02


def run(command):
    """The JSON a command prints, or the first line of its error."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode in (0, 1) and done.stdout.strip():
        return json.loads(done.stdout), None
    lines = [line for line in done.stderr.splitlines() if line.startswith("error")]
    return None, (lines or [f"exit {done.returncode}"])[0][:160].replace("|", "/")


def milliseconds(seconds):
    return f"{1e3 * seconds:.3g}"


def cell(measurement):
    """Times before and after, and the ratio with its interval."""
    before, after = measurement["models"]
    ratio = after["ratio"]
    interval = ratio["interval"]
    text = f"{milliseconds(before['seconds']['median'])} → {milliseconds(after['seconds']['median'])} ms, "
    text += f"**{ratio['median']:.3f}**"
    if interval is None:
        return text, False
    slower = interval["low"] > SLOWER
    return text + f" ({interval['low']:.3f} to {interval['high']:.3f})" + (" SLOWER" if slower else ""), slower


def rows(name, report):
    """One row for each runtime and batch: whole model and head."""
    found = {}
    for measurement in report["measurements"]:
        key = (measurement["engine"]["name"], measurement["engine"]["threads"], measurement["batch"])
        found.setdefault(key, {})[measurement["scope"]] = cell(measurement)
    before, after = (model["bytes"] / 1e6 for model in report["models"])
    for (engine, threads, batch), cells in found.items():
        whole, head = cells["whole"], cells.get("head", ("-", False))
        print(
            f"| {name} | {before:.1f} → {after:.1f} | {engine}, {threads} threads, batch {batch} "
            f"| {whole[0]} | {head[0]} |",
            flush=True,
        )
        yield whole[1]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("zoo", type=pathlib.Path)
    parser.add_argument("program")
    parser.add_argument("patterns", nargs="*", default=["*-torchscript"])
    parser.add_argument("--keep", default="0.3")
    parser.add_argument("--flags", default="", help="more flags of the main job, in one string")
    parser.add_argument("--runtime", default="ort,tract")
    parser.add_argument("--threads", default="2")
    parser.add_argument("--batch", default="1")
    parser.add_argument("--seconds", default="20")
    arguments = parser.parse_intermixed_args()
    models = sorted(arguments.zoo.glob("*.onnx"))
    models = [model for model in models if any(fnmatch.fnmatch(model.stem, p) for p in arguments.patterns)]
    print("| model | MB | measured in | whole model | head alone |")
    print("|---|---|---|---|---|")
    slower = False
    for model in models:
        with tempfile.TemporaryDirectory() as folder:
            output = pathlib.Path(folder) / "out.onnx"
            prune = [arguments.program, model, output, "--criterion", "weight", "--keep", arguments.keep]
            prune += ["--json", *arguments.flags.split()]
            report, error = run([str(word) for word in prune])
            if error is None:
                bench = [arguments.program, "bench", model, output, "--head", "--json"]
                for name in ("runtime", "threads", "batch", "seconds"):
                    bench += [f"--{name}", getattr(arguments, name)]
                report, error = run([str(word) for word in bench])
            if error is not None:
                print(f"| {model.stem} | | {error} | | |", flush=True)
                continue
            slower |= any(list(rows(model.stem, report)))
    sys.exit(1 if slower else 0)


if __name__ == "__main__":
    main()
