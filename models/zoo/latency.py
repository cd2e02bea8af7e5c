"""Prunes models of the zoo for speed, measures them against their originals, and prints a Markdown table.

    python models/zoo/latency.py ZOO target/release/onnx-prune [--seconds S] [PATTERN ...]

ZOO is the folder that make.py filled; PATTERN (default `*-torchscript`) chooses models by name; with `--families`, the
heads and one network of each family. For each runtime each model is pruned with

    onnx-prune IN OUT --criterion weight --keep 0.3 --form fastest --engine RUNTIME

for which neurons stay makes no difference to time (`--flags` takes others in place of `--form fastest`), and measured by

    onnx-prune bench IN OUT --runtime RUNTIME --threads 2 --batch 1 --seconds S --json

and with `--head` the heads alone, too. S is 20, and 2 for the heads of the zoo, which run in some microseconds.
A ratio whose interval lies above 1.02 is marked with `SLOWER`; a table of counts ends the output, and the exit code is 1 if
there is one. Only the standard library is needed.
"""

import argparse
import collections
import fnmatch
import json
import pathlib
import subprocess
import sys
import tempfile

SLOWER = 1.02
SMALL = "head-*"
FAMILIES = (
    "head-*-torchscript",
    "convnext_tiny-torchscript",
    "densenet121-torchscript",
    "efficientnet_b0-torchscript",
    "mobilenet_v2-torchscript",
    "mobilenet_v3_small-torchscript",
    "resnet50-torchscript",
    "squeezenet1_1-torchscript",
    "swin_t-torchscript",
    "vgg16-torchscript",
    "vit_b_16-torchscript",
    "timm-deit_tiny_distilled_patch16_224-torchscript",
    "timm-levit_128s-torchscript",
    "timm-regnetx_002-torchscript",
)


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
    """Times before and after, and the ratio with its interval; which way the interval lies."""
    before, after = measurement["models"]
    ratio = after["ratio"]
    interval = ratio["interval"]
    text = f"{milliseconds(before['seconds']['median'])} → {milliseconds(after['seconds']['median'])} ms, "
    text += f"**{ratio['median']:.3f}**"
    if interval is None:
        return text, "no interval"
    way = "slower" if interval["low"] > SLOWER else "faster" if interval["high"] < 1 else "neither"
    text += f" ({interval['low']:.3f} to {interval['high']:.3f})"
    return text + (" SLOWER" if way == "slower" else ""), way


def pruned(arguments, model, output, runtime):
    """The report of the run, or the first line of its error."""
    command = [arguments.program, model, output, "--criterion", "weight", "--keep", arguments.keep, "--engine", runtime]
    command += ["--threads", arguments.threads, "--json", "--force", *arguments.flags.split()]
    return run([str(word) for word in command])


def benched(arguments, model, output, runtime):
    is_small = fnmatch.fnmatch(model.stem, SMALL)
    seconds = "2" if is_small else arguments.seconds
    command = [arguments.program, "bench", model, output, "--runtime", runtime, "--json", "--seconds", seconds]
    command += ["--threads", arguments.threads, "--batch", arguments.batch]
    return run([str(word) for word in command + (["--head"] if arguments.head else [])])


def row(arguments, model, output, runtime):
    """One row, and which way the interval lies."""
    report, error = pruned(arguments, model, output, runtime)
    if error is None:
        form = report["form"]["used"]
        report, error = benched(arguments, model, output, runtime)
    if error is not None:
        return f"| {model.stem} | {runtime} | | | {error} | |", "no result"
    cells = {found["scope"]: cell(found) for found in report["measurements"]}
    before, after = (found["bytes"] for found in report["models"])
    whole, way = cells["whole"]
    head = cells.get("head", ("-", ""))[0]
    size = f"{before / 1e6:.3g} → {after / 1e6:.3g} ({100 * after / before:.0f} %)"
    return f"| {model.stem} | {runtime} | {form} | {size} | {whole} | {head} |", way


def summary(counts):
    print()
    print("| runtime | models | faster | no difference that can be told | interval above 1.02 | no result |")
    print("|---|---|---|---|---|---|")
    for runtime, ways in counts.items():
        numbers = [sum(ways.values()), ways["faster"], ways["neither"], ways["slower"]]
        numbers.append(ways["no result"] + ways["no interval"])
        print(f"| {runtime} | " + " | ".join(str(number) for number in numbers) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("zoo", type=pathlib.Path)
    parser.add_argument("program")
    parser.add_argument("patterns", nargs="*", default=["*-torchscript"])
    parser.add_argument("--families", action="store_true", help="the heads and one network of each family")
    parser.add_argument("--keep", default="0.3")
    parser.add_argument("--flags", default="--form fastest", help="flags of the main job, in one string")
    parser.add_argument("--runtime", default="ort,tract")
    parser.add_argument("--threads", default="2")
    parser.add_argument("--batch", default="1")
    parser.add_argument("--seconds", default="20", help="not of heads of the zoo")
    parser.add_argument("--head", action="store_true", help="measure heads alone, too")
    arguments = parser.parse_intermixed_args()
    patterns = FAMILIES if arguments.families else arguments.patterns
    models = sorted(arguments.zoo.glob("*.onnx"))
    models = [model for model in models if any(fnmatch.fnmatch(model.stem, p) for p in patterns)]
    counts = {runtime: collections.Counter() for runtime in arguments.runtime.split(",")}
    print("| model | pruned for and measured in | form | MB | whole model | head alone |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        output = pathlib.Path(folder) / "out.onnx"
        for model in models:
            for runtime, ways in counts.items():
                text, way = row(arguments, model, output, runtime)
                print(text, flush=True)
                ways[way] += 1
    summary(counts)
    sys.exit(1 if any(ways["slower"] for ways in counts.values()) else 0)


if __name__ == "__main__":
    main()
